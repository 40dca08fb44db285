//! Refusals in the shape of AWS's JSON 1.1 protocol.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// An error of a JSON 1.1 service: `{"__type": code, "message": message}`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct JsonError {
    /// 400 for the caller's faults, 500 for ours.
    pub status: u16,
    /// Such as `TargetNotConnected`.
    pub code: String,
    pub message: String,
}

impl JsonError {
    /// A fault of the caller.
    #[must_use]
    pub fn caller(code: &str, message: impl Into<String>) -> Self {
        Self { status: 400, code: code.to_owned(), message: message.into() }
    }

    /// A member that breaks a rule of the service's model, in the words that AWS uses for all of them.
    #[must_use]
    pub fn constraint(member: &str, value: &str, rule: &str) -> Self {
        Self::caller(
            "ValidationException",
            format!(
                "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must {rule}"
            ),
        )
    }

    /// A fault of the service.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self { status: 500, code: "InternalServerError".to_owned(), message: message.into() }
    }
}

impl IntoResponse for JsonError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "__type": self.code, "message": self.message }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = header::HeaderValue::from_static("application/x-amz-json-1.1");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
