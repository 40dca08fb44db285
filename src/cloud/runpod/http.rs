//! One request over HTTP/1.1 and its answer: deadlines, bounded bodies, and what went wrong. It repeats nothing.

mod connect;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use super::errors::{Kind, Refusal};
use super::key::ApiKey;
use connect::Connector;

/// Of a page of a list, or of a catalog; a pod with a large environment has 100 KiB.
const LARGEST: usize = 32 << 20;
/// An idle connection is kept for less long than proxies keep theirs.
const IDLE: Duration = Duration::from_secs(30);

/// Connections to RunPod.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client<Connector, Full<Bytes>>,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// JSON; empty for none.
    pub(super) body: Bytes,
    /// Beside those that every request has.
    pub(super) headers: Vec<(HeaderName, http::HeaderValue)>,
    /// From the connection to the end of the answer; of a stream, to its beginning.
    pub(super) deadline: Duration,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Http {
    pub(super) fn new() -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(Connector::default());
        Self { client }
    }

    /// Sends a request and reads its answer, whatever its status is.
    pub(super) async fn exchange(&self, key: &ApiKey, message: &Message) -> Result<Answer, Refusal> {
        let exchange = async {
            let answer = self.begin(key, message).await?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, LARGEST).collect().await.map_err(|error| {
                let text = format!("the answer ended early, or is too large: {}", root(&*error));
                Refusal::new(unread(&message.method), text)
            })?;
            Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
        };
        timeout(message.deadline, exchange).await.unwrap_or_else(|_| Err(late(message)))
    }

    /// Sends a request and answers with the beginning of a stream.
    pub(super) async fn open(
        &self,
        key: &ApiKey,
        message: &Message,
    ) -> Result<http::Response<Incoming>, Refusal> {
        timeout(message.deadline, self.begin(key, message)).await.unwrap_or_else(|_| Err(late(message)))
    }

    async fn begin(&self, key: &ApiKey, message: &Message) -> Result<http::Response<Incoming>, Refusal> {
        let malformed = |error: String| Refusal::new(Kind::Schema, error);
        let mut request = Request::builder()
            .method(&message.method)
            .uri(&message.uri)
            .header(AUTHORIZATION, key.bearer().map_err(|error| malformed(error.to_string()))?)
            .header(USER_AGENT, concat!("orca/", env!("CARGO_PKG_VERSION")));
        if !message.headers.iter().any(|(name, _)| name == ACCEPT) {
            request = request.header(ACCEPT, "application/json");
        }
        if !message.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in &message.headers {
            request = request.header(name, value);
        }
        let request =
            request.body(Full::new(message.body.clone())).map_err(|error| malformed(error.to_string()))?;
        self.client.request(request).await.map_err(|error| {
            // What never had a connection was never sent.
            let kind = if error.is_connect() { Kind::Unreachable } else { unread(&message.method) };
            Refusal::new(kind, format!("{}: {}", host_of(&message.uri), root(&error)))
        })
    }
}

/// What it means that there is no whole answer.
fn unread(method: &Method) -> Kind {
    if *method == Method::POST { Kind::Unknown } else { Kind::Unreadable }
}

fn late(message: &Message) -> Refusal {
    let kind = if message.method == Method::POST { Kind::Unknown } else { Kind::Timeout };
    Refusal::new(kind, format!("{} did not answer within {:?}", host_of(&message.uri), message.deadline))
}

fn host_of(uri: &Uri) -> &str {
    uri.host().unwrap_or_default()
}

/// The innermost cause: what hyper says around it helps nobody.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
