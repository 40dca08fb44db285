//! Answers to guests: JSON, and refusals as Kubernetes Status objects.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::denied::Denied;

/// A body, whole or streamed.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Anything that is not the answer that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 403, counted.
    Denied(Denied),
    /// 401.
    Unauthorized,
    /// 404.
    NotFound(String),
    /// 410: the version can't be resumed, list anew.
    Gone(u64),
    /// 413.
    TooLarge(usize),
    /// 415.
    MediaType(String),
    /// 429.
    TooMany(&'static str),
    /// 503: not now; try again.
    NotNow(&'static str),
    /// 504: newer than anything we have.
    Early(u64),
    /// 400 or 408: the body did not arrive.
    Unread(String),
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl Refusal {
    /// As a response with a Status body.
    pub(crate) fn response(&self) -> Response<Body> {
        let (code, reason, message) = match self {
            Self::Denied(denied) => (StatusCode::FORBIDDEN, "Forbidden", denied.to_string()),
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "Unauthorized", "the token is not this machine's".to_owned())
            }
            Self::NotFound(what) => (StatusCode::NOT_FOUND, "NotFound", format!("{what} not found")),
            Self::Gone(version) => {
                (StatusCode::GONE, "Expired", format!("too old resource version: {version}"))
            }
            Self::TooLarge(most) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                format!("the body is larger than {most} bytes"),
            ),
            Self::MediaType(expected) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UnsupportedMediaType",
                format!("the body must be plain {expected}"),
            ),
            Self::TooMany(what) => {
                (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", format!("too many {what}"))
            }
            Self::NotNow(why) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", (*why).to_owned()),
            Self::Early(version) => {
                (StatusCode::GATEWAY_TIMEOUT, "Timeout", format!("Too large resource version: {version}"))
            }
            Self::Unread(why) => (StatusCode::BAD_REQUEST, "BadRequest", why.clone()),
        };
        let mut body = json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {},
            "status": "Failure", "message": message, "reason": reason, "code": code.as_u16(),
        });
        let later = matches!(self, Self::TooMany(_) | Self::NotNow(_) | Self::Early(_));
        if later {
            body["details"] = json!({ "retryAfterSeconds": 1 });
        }
        if matches!(self, Self::Early(_)) {
            // client-go then asks again for whatever there is.
            body["details"]["causes"] =
                json!([{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }]);
        }
        let mut response = with_json(code, &body);
        if matches!(self, Self::TooMany(_) | Self::NotNow(_)) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A whole JSON answer.
pub(crate) fn with_json(code: StatusCode, body: &Value) -> Response<Body> {
    with_bytes(code, Bytes::from(body.to_string()))
}

/// A whole answer that is JSON already.
pub(crate) fn with_bytes(code: StatusCode, body: Bytes) -> Response<Body> {
    respond(code, Full::new(body).boxed_unsync())
}

/// The answer to a deletion.
pub(crate) fn deleted() -> Response<Body> {
    let body = json!({ "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success" });
    with_json(StatusCode::OK, &body)
}

/// A stream of whatever is sent into `chunks`; it ends when the sender is dropped.
pub(crate) fn with_stream(chunks: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = futures::stream::unfold(chunks, async |mut chunks| {
        let chunk = chunks.recv().await?;
        Some((Ok(http_body::Frame::data(chunk)), chunks))
    });
    respond(StatusCode::OK, http_body_util::StreamBody::new(frames).boxed_unsync())
}

fn respond(code: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
