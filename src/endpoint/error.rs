//! Errors of the endpoint: what the client is told, and what only the log is told.
//!
//! kubectl shows the text of a 400 and of a failed upgrade, and loses that of a 404 (kubelet-protocol 1.1):
//! whatever a user should read is a 400.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

/// Body of every answer.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;
/// Why a body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// An answer that is an error.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {message}")]
pub struct ApiError {
    status: StatusCode,
    /// Shown to the client.
    message: String,
    /// For the log alone.
    detail: Option<String>,
}

impl ApiError {
    /// 400: a sentence that the user should read.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into(), detail: None }
    }

    /// 401, as the kubelet words it.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self { status: StatusCode::UNAUTHORIZED, message: "Unauthorized".to_owned(), detail: None }
    }

    /// 403 with the kubelet's wording.
    #[must_use]
    pub fn forbidden(user: &str, verb: &str, subresources: &[&str]) -> Self {
        let list = subresources.join(" ");
        let message =
            format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{list}])\n");
        Self { status: StatusCode::FORBIDDEN, message, detail: None }
    }

    /// 404.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: message.into(), detail: None }
    }

    /// What a kubelet refuses, with its code and in its words.
    #[must_use]
    pub fn refused(status: u16, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        Self { status, message: message.into(), detail: None }
    }

    /// 405.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let message = "405 method not allowed".to_owned();
        Self { status: StatusCode::METHOD_NOT_ALLOWED, message, detail: None }
    }

    /// 503: the machine cannot be reached now.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message: message.into(), detail: None }
    }

    /// 500: what failed is told, why is only logged.
    #[must_use]
    pub fn internal(what: &str, why: &dyn std::fmt::Display) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: format!("internal error while {what}"),
            detail: Some(why.to_string()),
        }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer. The one place where the endpoint logs a failure.
    #[must_use]
    pub fn into_response(self, path: &str) -> Response<Body> {
        let detail = self.detail.as_deref().unwrap_or_default();
        if self.status.is_server_error() {
            tracing::error!(
                http.path = path,
                http.status = self.status.as_u16(),
                detail,
                "{}",
                self.message.trim_end()
            );
        } else {
            tracing::debug!(
                http.path = path,
                http.status = self.status.as_u16(),
                "{}",
                self.message.trim_end()
            );
        }
        let mut response = text(self.status, self.message);
        // The API server dials one connection per upgrade and closes it late: kept alive, it leaks.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

/// A plain text answer.
#[must_use]
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", text.into())
}

/// A JSON answer.
#[must_use]
pub fn json(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    answer(status, "application/json", body.into())
}

/// An answer that is made while it is read.
#[must_use]
pub fn pieces(
    content_type: &'static str,
    pieces: impl Iterator<Item = String> + Send + 'static,
) -> Response<Body> {
    let frames = pieces.map(|piece| Ok(Frame::data(Bytes::from(piece))));
    let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
    with_type(content_type, body)
}

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    let mut response = with_type(content_type, body);
    *response.status_mut() = status;
    response
}

fn with_type(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
