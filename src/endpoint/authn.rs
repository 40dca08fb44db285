//! Who asks: a client certificate of the cluster's CA, else a bearer token by TokenReview. Nobody is anonymous.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use super::error::ApiError;

/// How long an accepted token is believed without asking again, as in the kubelet.
const TOKEN_TTL: Duration = Duration::from_mins(2);
/// Tokens remembered at most; beyond that, the oldest half is forgotten.
const TOKENS: usize = 512;
/// How long the API server may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// An authenticated caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The verified client certificate of a connection (DER).
#[derive(Clone, Debug)]
pub struct PeerCertificate(pub Vec<u8>);

impl PeerCertificate {
    /// User name (CN) and groups (O), as Kubernetes reads them; `None` when there is no CN.
    #[must_use]
    pub fn user(&self) -> Option<User> {
        let (_, certificate) = x509_parser::parse_x509_certificate(&self.0).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let mut groups: Vec<String> =
            subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned).collect();
        groups.push("system:authenticated".to_owned());
        Some(User { name, uid: None, groups, extra: BTreeMap::new() })
    }
}

/// Authenticates requests.
#[derive(Debug)]
pub struct Authenticator {
    reviews: Api<TokenReview>,
    accepted: Mutex<HashMap<[u8; 32], (User, Instant)>>,
}

impl Authenticator {
    /// With the client whose identity may create TokenReviews.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self { reviews: Api::all(client), accepted: Mutex::default() }
    }

    /// Who asks, or 401.
    pub async fn authenticate(
        &self,
        peer: Option<&PeerCertificate>,
        headers: &HeaderMap,
    ) -> Result<User, ApiError> {
        if let Some(user) = peer.and_then(PeerCertificate::user) {
            return Ok(user);
        }
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")))
            .map(str::trim)
            .filter(|token| !token.is_empty())
            .ok_or_else(ApiError::unauthorized)?;
        let key = fingerprint(token);
        if let Some(user) = self.remembered(&key) {
            return Ok(user);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let answer = tokio::time::timeout(DEADLINE, self.reviews.create(&PostParams::default(), &review))
            .await
            .map_err(|late| ApiError::internal("reviewing a token", &late))?
            .map_err(|error| ApiError::internal("reviewing a token", &error))?;
        let status = answer.status.unwrap_or_default();
        let user =
            status.user.filter(|_| status.authenticated == Some(true)).ok_or_else(ApiError::unauthorized)?;
        let user = User {
            name: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        };
        self.remember(key, user.clone());
        Ok(user)
    }

    fn remembered(&self, key: &[u8; 32]) -> Option<User> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.get(key).filter(|(_, at)| at.elapsed() < TOKEN_TTL).map(|(user, _)| user.clone())
    }

    fn remember(&self, key: [u8; 32], user: User) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if accepted.len() >= TOKENS {
            accepted.retain(|_, (_, at)| at.elapsed() < TOKEN_TTL);
        }
        if accepted.len() >= TOKENS {
            accepted.clear();
        }
        accepted.insert(key, (user, Instant::now()));
    }
}

/// Tokens themselves are not kept in memory.
fn fingerprint(token: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let mut key = [0; 32];
    key.copy_from_slice(digest.as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_certificate_names_user_and_groups() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "kube-apiserver-kubelet-client");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
        let key = rcgen::KeyPair::generate().unwrap();
        let user = PeerCertificate(params.self_signed(&key).unwrap().der().to_vec()).user().unwrap();
        assert_eq!(user.name, "kube-apiserver-kubelet-client");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
    }

    #[test]
    fn a_certificate_without_a_common_name_is_nobody() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        assert_eq!(PeerCertificate(params.self_signed(&key).unwrap().der().to_vec()).user(), None);
        assert_eq!(PeerCertificate(b"not a certificate".to_vec()).user(), None);
    }
}
