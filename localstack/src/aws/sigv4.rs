//! Signature Version 4, verified: who signed a request, for which service, and whether it is this request.
//!
//! Header signatures and presigned URLs. Pure: the time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use http::HeaderMap;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::encoding::{Plus, decode, encode, sha256_hex};

/// How far a signature's date may be from now.
const SKEW: Duration = Duration::from_secs(15 * 60);
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Access keys and what belongs to them.
#[derive(Clone, Default)]
pub struct Keyring(BTreeMap<String, Secret>);

#[derive(Clone)]
struct Secret {
    key: String,
    session_token: Option<String>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

impl Keyring {
    /// Adds a key pair. A pair with a session token is refused without it, and the other way round.
    pub fn add(&mut self, access_key: &str, secret: &str, session_token: Option<&str>) {
        let secret = Secret { key: secret.to_owned(), session_token: session_token.map(str::to_owned) };
        self.0.insert(access_key.to_owned(), secret);
    }
}

/// A request, as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub method: &'a str,
    /// The path as on the wire, still percent-encoded.
    pub path: &'a str,
    /// The query as on the wire, without `?`.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// Who signed, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub access_key: String,
    /// `YYYYMMDD`.
    pub date: String,
    pub region: String,
    pub service: String,
}

/// Why a signature is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("not signed")]
    Missing,
    #[error("{0}")]
    Incomplete(String),
    #[error("unknown access key or session token")]
    UnknownKey,
    #[error("signature does not match")]
    Mismatch,
    #[error("{0}")]
    WrongScope(String),
    #[error("{0}")]
    Expired(String),
}

/// Everything that a signature claims.
struct Claim {
    scope: Scope,
    signed_headers: String,
    signature: String,
    /// `YYYYMMDDThhmmssZ`.
    date: String,
    token: Option<String>,
    /// Seconds that a presigned URL is good for.
    expires: Option<u64>,
}

/// Verifies the signature of a request for one of `services` in one of `regions`.
pub fn verify(
    request: &Signed<'_>,
    keys: &Keyring,
    regions: &[&str],
    services: &[&str],
    now: Timestamp,
) -> Result<Scope, AuthError> {
    let claim = claim(request)?;
    let secret = keys.0.get(&claim.scope.access_key).ok_or(AuthError::UnknownKey)?;
    if secret.session_token != claim.token {
        return Err(AuthError::UnknownKey);
    }
    if !regions.contains(&claim.scope.region.as_str()) {
        let why = format!("Credential should be scoped to a valid region, not '{}'.", claim.scope.region);
        return Err(AuthError::WrongScope(why));
    }
    if !services.contains(&claim.scope.service.as_str()) {
        let why = format!("Credential should be scoped to correct service: '{}'.", services.join("' or '"));
        return Err(AuthError::WrongScope(why));
    }
    in_time(&claim, now)?;
    let canonical = canonical_request(request, &claim.signed_headers, claim.expires.is_some())?;
    let text = string_to_sign(&claim.date, &claim.scope, &canonical);
    let key = signing_key(&secret.key, &claim.scope);
    let signature = from_hex(&claim.signature).ok_or(AuthError::Mismatch)?;
    hmac::verify(&key, text.as_bytes(), &signature).map_err(|_| AuthError::Mismatch)?;
    Ok(claim.scope)
}

/// What a request claims to be signed for, unverified.
#[must_use]
pub fn claimed_scope(headers: &HeaderMap) -> Option<Scope> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let fields = authorization_fields(value)?;
    parse_scope(fields.get("Credential")?)
}

fn claim(request: &Signed<'_>) -> Result<Claim, AuthError> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(value) = header("authorization") {
        let fields = authorization_fields(value)
            .ok_or_else(|| AuthError::Incomplete(format!("Authorization header requires '{ALGORITHM}'.")))?;
        let field = |name: &str| {
            fields.get(name).cloned().ok_or_else(|| {
                AuthError::Incomplete(format!("Authorization header requires '{name}' parameter."))
            })
        };
        let date = header("x-amz-date").ok_or_else(|| {
            AuthError::Incomplete(
                "Authorization header requires existence of a 'X-Amz-Date' header.".to_owned(),
            )
        })?;
        return Ok(Claim {
            scope: scope_of(&field("Credential")?)?,
            signed_headers: field("SignedHeaders")?,
            signature: field("Signature")?,
            date: date.to_owned(),
            token: header("x-amz-security-token").map(str::to_owned),
            expires: None,
        });
    }
    let query = query_pairs(request.query)?;
    let find = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    if find("X-Amz-Algorithm").is_none_or(|algorithm| algorithm != ALGORITHM) {
        return Err(AuthError::Missing);
    }
    let field =
        |name: &str| find(name).ok_or_else(|| AuthError::Incomplete(format!("Query requires '{name}'.")));
    let expires = field("X-Amz-Expires")?;
    Ok(Claim {
        scope: scope_of(&field("X-Amz-Credential")?)?,
        signed_headers: field("X-Amz-SignedHeaders")?,
        signature: field("X-Amz-Signature")?,
        date: field("X-Amz-Date")?,
        token: find("X-Amz-Security-Token"),
        expires: Some(expires.parse().ok().filter(|seconds| *seconds <= 604_800).ok_or_else(|| {
            AuthError::Incomplete("X-Amz-Expires must be a number of at most 604800 seconds.".to_owned())
        })?),
    })
}

/// `Credential=.., SignedHeaders=.., Signature=..` after the algorithm.
fn authorization_fields(value: &str) -> Option<BTreeMap<String, String>> {
    let fields = value.trim().strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
    fields
        .split(',')
        .map(|field| field.trim().split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

fn scope_of(credential: &str) -> Result<Scope, AuthError> {
    parse_scope(credential).ok_or_else(|| {
        AuthError::Incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
        ))
    })
}

fn parse_scope(credential: &str) -> Option<Scope> {
    // An access key may hold slashes, so from the right.
    let mut parts = credential.rsplitn(5, '/');
    if parts.next()? != "aws4_request" {
        return None;
    }
    let (service, region, date) =
        (parts.next()?.to_owned(), parts.next()?.to_owned(), parts.next()?.to_owned());
    Some(Scope { access_key: parts.next()?.to_owned(), date, region, service })
}

fn in_time(claim: &Claim, now: Timestamp) -> Result<(), AuthError> {
    let signed = DateTime::strptime("%Y%m%dT%H%M%SZ", &claim.date)
        .and_then(|date| date.to_zoned(TimeZone::UTC))
        .map_err(|_| {
            AuthError::Incomplete(format!("Date must be in ISO-8601 'basic format', got '{}'.", claim.date))
        })?
        .timestamp();
    if !claim.date.starts_with(&claim.scope.date) {
        return Err(AuthError::WrongScope(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}'.",
            claim.scope.date, claim.date
        )));
    }
    let good_for = claim.expires.map_or(SKEW, Duration::from_secs);
    if crate::clock::after(signed, good_for) < now {
        return Err(AuthError::Expired(format!("Request has expired. It was signed at {}.", claim.date)));
    }
    if signed > crate::clock::after(now, SKEW) {
        return Err(AuthError::Expired(format!(
            "Request is not yet valid. It was signed at {}.",
            claim.date
        )));
    }
    Ok(())
}

/// The canonical form of a request, of which the hash is signed.
pub(super) fn canonical_request(
    request: &Signed<'_>,
    signed_headers: &str,
    presigned: bool,
) -> Result<String, AuthError> {
    let names: Vec<&str> = signed_headers.split(';').collect();
    if !names.contains(&"host") || !names.is_sorted() {
        return Err(AuthError::Incomplete(
            "'Host' must be a sorted 'SignedHeader' in the Authorization.".to_owned(),
        ));
    }
    let mut headers = String::new();
    for name in names {
        let values: Vec<String> =
            request.headers.get_all(name).iter().map(|v| trimmed(v.as_bytes())).collect();
        if values.is_empty() {
            return Err(AuthError::Mismatch);
        }
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    let payload = sha256_hex(request.body);
    if request.headers.get("x-amz-content-sha256").is_some_and(|hash| hash.as_bytes() != payload.as_bytes()) {
        return Err(AuthError::Mismatch);
    }
    let mut query = query_pairs(request.query)?;
    query.retain(|(name, _)| !(presigned && name == "X-Amz-Signature"));
    let mut query: Vec<(String, String)> = query
        .iter()
        .map(|(name, value)| (encode(name.as_bytes(), b""), encode(value.as_bytes(), b"")))
        .collect();
    query.sort();
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    // The path is encoded a second time, as for every service but S3.
    let path = encode(normalized(request.path).as_bytes(), b"/");
    Ok(format!("{}\n{path}\n{}\n{headers}\n{signed_headers}\n{payload}", request.method, query.join("&")))
}

pub(super) fn string_to_sign(date: &str, scope: &Scope, canonical: &str) -> String {
    let Scope { date: day, region, service, .. } = scope;
    format!(
        "{ALGORITHM}\n{date}\n{day}/{region}/{service}/aws4_request\n{}",
        sha256_hex(canonical.as_bytes())
    )
}

pub(super) fn signing_key(secret: &str, scope: &Scope) -> hmac::Key {
    [&scope.date, &scope.region, &scope.service, "aws4_request"]
        .iter()
        .fold(hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes()), |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        })
}

/// Without spaces around, and with single ones inside.
fn trimmed(value: &[u8]) -> String {
    String::from_utf8_lossy(value).split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Dot segments and doubled slashes resolved.
fn normalized(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

fn query_pairs(query: &str) -> Result<Vec<(String, String)>, AuthError> {
    let text = |part: &str| {
        decode(part, Plus::Literal).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(AuthError::Mismatch)
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((text(name)?, text(value)?))
        })
        .collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests;
