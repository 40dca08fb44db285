//! Refusals as RunPod's REST API gives them: `application/problem+json` (RFC 9457) with a title, the status, a
//! sentence, and one line for each violation of the schema.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

/// A refusal. Capacity has no code of its own: only `detail` tells it from a broken rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {detail}")]
pub struct Problem {
    pub status: u16,
    pub detail: String,
    /// Such as `$: additional properties 'bogus' not allowed`.
    pub errors: Vec<String>,
    /// For a method that the path does not have: those that it has.
    pub allow: Option<&'static str>,
    /// Seconds, with 429.
    pub retry_after: Option<u64>,
}

impl Problem {
    #[must_use]
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new(), allow: None, retry_after: None }
    }

    /// The body fits the schema but breaks a rule, or there is no capacity: 400 either way.
    #[must_use]
    pub fn rule(detail: impl Into<String>) -> Self {
        Self::new(400, detail)
    }

    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(404, format!("{what} not found"))
    }

    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, detail)
    }

    /// The body or a parameter violates the schema.
    #[must_use]
    pub fn invalid(errors: Vec<String>) -> Self {
        Self { errors, ..Self::new(422, "Request validation failed.") }
    }

    #[must_use]
    pub fn forbidden() -> Self {
        Self::new(403, "access denied")
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self) -> serde_json::Value {
        let title = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let mut body =
            json!({ "title": title.unwrap_or("Error"), "status": self.status, "detail": self.detail });
        if !self.errors.is_empty() {
            body["errors"] = json!(self.errors);
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body().to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
