//! What all of AWS's services share: signatures, the Query protocol, XML, and the shapes of refusals.

pub mod encoding;
pub mod json;
pub mod page;
pub mod query;
#[cfg(test)]
pub mod signer;
pub mod sigv4;
pub mod xml;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use self::json::JsonError;
use self::sigv4::AuthError;

/// A refusal of a service that speaks the Query protocol (EC2, STS).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// HTTP status: 4xx for faults of the caller, 5xx for ours.
    pub status: u16,
    /// Such as `InvalidInstanceID.NotFound`.
    pub code: String,
    pub message: String,
}

impl Refusal {
    /// A fault of the caller, with status 400.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { status: 400, code: code.to_owned(), message: message.into() }
    }

    /// `MissingParameter` for a parameter by its full name.
    #[must_use]
    pub fn missing(parameter: &str) -> Self {
        Self::new("MissingParameter", format!("The request must contain the parameter {parameter}"))
    }

    /// `InvalidParameterValue` in EC2's usual words.
    #[must_use]
    pub fn value(parameter: &str, value: &str, why: &str) -> Self {
        let message = format!("Value ({value}) for parameter {parameter} is invalid. {why}");
        Self::new("InvalidParameterValue", message)
    }

    /// The same refusal with another HTTP status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

/// An answer in JSON 1.1; `body` may also be empty.
#[must_use]
pub fn json(status: u16, body: String) -> Response {
    answer(status, "application/x-amz-json-1.1", body)
}

/// An answer with a body of text.
#[must_use]
pub fn answer(status: u16, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The dialects in which services refuse bad signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Ec2,
    Sts,
    Json,
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. \
                        Check your AWS Secret Access Key and signing method.";

/// Status, code and message of a refused signature. EC2 has codes of its own.
#[must_use]
pub fn auth_refusal(error: &AuthError, dialect: Dialect) -> Refusal {
    let (status, code, message): (u16, &str, String) = match (error, dialect) {
        (AuthError::Missing, Dialect::Json) => {
            (400, "MissingAuthenticationTokenException", "Missing Authentication Token".to_owned())
        }
        (AuthError::Missing, Dialect::Ec2 | Dialect::Sts) => (
            403,
            "MissingAuthenticationToken",
            "Request must contain either a valid (registered) AWS access key ID or X.509 certificate."
                .to_owned(),
        ),
        (AuthError::Incomplete(why), Dialect::Json) => (400, "IncompleteSignatureException", why.clone()),
        (AuthError::Incomplete(why), Dialect::Ec2 | Dialect::Sts) => {
            (400, "IncompleteSignature", why.clone())
        }
        (AuthError::UnknownKey, Dialect::Ec2) => {
            (401, "AuthFailure", "AWS was not able to validate the provided access credentials".to_owned())
        }
        (AuthError::UnknownKey, Dialect::Sts) => {
            (403, "InvalidClientTokenId", "The security token included in the request is invalid.".to_owned())
        }
        (AuthError::UnknownKey, Dialect::Json) => (
            400,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.".to_owned(),
        ),
        (AuthError::Mismatch, Dialect::Json) => (400, "InvalidSignatureException", MISMATCH.to_owned()),
        (AuthError::Mismatch, Dialect::Ec2 | Dialect::Sts) => {
            (403, "SignatureDoesNotMatch", MISMATCH.to_owned())
        }
        (AuthError::WrongScope(why), Dialect::Ec2) => (401, "AuthFailure", why.clone()),
        (AuthError::WrongScope(why), Dialect::Sts) => (403, "SignatureDoesNotMatch", why.clone()),
        (AuthError::WrongScope(why), Dialect::Json) => (400, "InvalidSignatureException", why.clone()),
        (AuthError::Expired(why), Dialect::Ec2) => (400, "RequestExpired", why.clone()),
        (AuthError::Expired(why), Dialect::Sts) => (403, "SignatureDoesNotMatch", why.clone()),
        (AuthError::Expired(why), Dialect::Json) => (400, "InvalidSignatureException", why.clone()),
    };
    Refusal { status, code: code.to_owned(), message }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Self {
        Self { status: error.status, code: error.code, message: error.message }
    }
}

impl From<Refusal> for JsonError {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status, code: refusal.code, message: refusal.message }
    }
}
