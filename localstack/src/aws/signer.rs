//! Signs requests in tests, from the parts of the verification; AWS's published vectors pin both.

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;

use super::encoding::hex;
use super::sigv4::{Scope, Signed, canonical_request, signing_key, string_to_sign};

/// Who signs.
#[derive(Clone, Debug)]
pub struct Signer {
    pub access_key: String,
    pub secret: String,
    pub session_token: Option<String>,
    pub region: String,
    pub service: String,
}

impl Signer {
    /// The key pair `test`/`test` in us-east-1.
    #[must_use]
    pub fn test(service: &str) -> Self {
        Self {
            access_key: "test".to_owned(),
            secret: "test".to_owned(),
            session_token: None,
            region: "us-east-1".to_owned(),
            service: service.to_owned(),
        }
    }

    /// Adds `x-amz-date`, the session token and `authorization` to the headers of a request. All headers are signed.
    pub fn sign(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &mut HeaderMap,
        body: &[u8],
        at: Timestamp,
    ) {
        let date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        headers.insert("x-amz-date", HeaderValue::from_str(&date).unwrap());
        if let Some(token) = &self.session_token {
            headers.insert("x-amz-security-token", HeaderValue::from_str(token).unwrap());
        }
        let mut names: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        let names = names.join(";");
        let scope = Scope {
            access_key: self.access_key.clone(),
            date: date[..8].to_owned(),
            region: self.region.clone(),
            service: self.service.clone(),
        };
        let request = Signed { method, path, query, headers, body };
        let canonical = canonical_request(&request, &names, false).unwrap();
        let text = string_to_sign(&date, &scope, &canonical);
        let signature =
            hex(aws_lc_rs::hmac::sign(&signing_key(&self.secret, &scope), text.as_bytes()).as_ref());
        let Scope { access_key, date, region, service } = scope;
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/{date}/{region}/{service}/aws4_request, SignedHeaders={names}, Signature={signature}"
        );
        headers.insert("authorization", HeaderValue::from_str(&value).unwrap());
    }
}
