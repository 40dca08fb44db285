//! `/containerLogs`: from the live machine while it is there, else from the archive.
//!
//! What does not follow is passed on as the guest kubelet says it, byte by byte. What follows goes on in the archive
//! when the machine goes (`follow`). The archive answers in the kubelet's words (`archived`).

mod archived;
mod follow;

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Endpoint;
use super::error::{ApiError, Body, BodyError};
use super::guest::{self, Answer};
use crate::clock;
use crate::link::LinkState;
use crate::logs::query::Options;
use crate::logs::run::{self, NoLog, Run, Which};
use follow::Follow;

/// Bytes of a refusal, at most.
const REFUSAL: usize = 4 * 1024;

/// A request for a container's log.
#[derive(Clone, Debug)]
struct Asked {
    pod: Arc<Pod>,
    container: String,
    options: Options,
    /// When it came.
    at: Timestamp,
    /// As far as the Pod tells.
    run: Result<Run, NoLog>,
}

/// What became of asking the machine.
#[derive(Debug)]
enum Live {
    Answered(Response<Body>),
    /// The kubelet does not have this run's log any more, and says this.
    Dropped(Response<Body>),
    /// There is no machine to ask.
    NoMachine,
    Unreachable(ApiError),
}

/// Answers a request for a container's log.
///
/// # Errors
/// [`ApiError`] with the kubelet's code and text, or in a sentence why there is no answer.
pub async fn answer(
    endpoint: &Endpoint,
    request: Request<Incoming>,
    namespace: &str,
    name: &str,
    container: &str,
) -> Result<Response<Body>, ApiError> {
    let options = Options::parse(request.uri().query().unwrap_or_default())
        .map_err(|bad| ApiError::refused(bad.status(), bad.to_string()))?;
    let pod = guest::find(endpoint, namespace, name)?;
    let asked = Asked::new(pod, container, options);
    match live(endpoint, &request, &asked).await? {
        Live::Answered(response) => Ok(response),
        Live::Dropped(said) => Ok(archived::answer(endpoint, &asked).await.unwrap_or(said)),
        Live::NoMachine => archived::answer(endpoint, &asked).await,
        Live::Unreachable(error) if endpoint.archive.is_none() => Err(asked.refusal().unwrap_or(error)),
        Live::Unreachable(_) => archived::answer(endpoint, &asked).await,
    }
}

impl Asked {
    fn new(pod: Arc<Pod>, container: &str, options: Options) -> Self {
        let which = if options.previous { Which::Previous } else { Which::Latest };
        let run = run::choose(&pod, container, which);
        Self { pod, container: container.to_owned(), options, at: clock::now(), run }
    }

    fn which(&self) -> Which {
        if self.options.previous { Which::Previous } else { Which::Latest }
    }

    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// Why there is no log, if the Pod says so.
    fn refusal(&self) -> Option<ApiError> {
        self.run.as_ref().err().map(|no| ApiError::refused(no.status, no.to_string()))
    }

    /// Whether the kubelet says with this that it does not have the log (any more).
    fn is_dropped(&self, said: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(said) else { return false };
        let id = self.run.as_ref().map_or("", |run| &run.container_id);
        let has_no_file = ["failed to try resolving symlinks in path ", "failed to open log file "]
            .iter()
            .any(|start| text.starts_with(start));
        let has_no_run = self.options.previous && text.starts_with("previous terminated container ");
        let has_no_container =
            !id.is_empty() && text == format!("unable to retrieve container logs for {id}");
        // Lines of a log end with a newline.
        !text.ends_with('\n') && (has_no_run || has_no_file || has_no_container)
    }
}

/// Asks the pod's machine.
async fn live(endpoint: &Endpoint, request: &Request<Incoming>, asked: &Asked) -> Result<Live, ApiError> {
    let links = endpoint.links.as_ref();
    let status = links.status(asked.uid());
    let is_away = status.is_some_and(|status| {
        matches!(status.state, LinkState::Dialing { error: Some(_), .. } | LinkState::Broken { .. })
    });
    if is_away && endpoint.archive.is_some() {
        return Ok(Live::Unreachable(ApiError::unavailable("the pod's machine cannot be reached now")));
    }
    if asked.options.follow {
        return Follow::live(endpoint, request, asked).await;
    }
    match guest::ask(links, asked.uid(), guest::forwarded(request)?).await {
        Ok(Some(answer)) => peek(answer, asked).await,
        Ok(None) => Ok(Live::NoMachine),
        Err(error) => Ok(Live::Unreachable(error)),
    }
}

/// Passes the kubelet's answer on, unless all that it says is that it does not have the log.
///
/// It says so with status 200 as well, since it begins to answer before it looks for the file.
async fn peek(mut answer: Answer, asked: &Asked) -> Result<Live, ApiError> {
    let first = match answer.body.frame().await {
        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        Some(Err(error)) => {
            return Ok(Live::Unreachable(ApiError::unavailable(format!(
                "the machine's kubelet cannot be reached now: {error}"
            ))));
        }
        None => Bytes::new(),
    };
    let is_dropped = first.len() <= REFUSAL && asked.is_dropped(&first);
    let Answer { head, body } = answer;
    let rest = body.map_err(BodyError::from).into_data_stream().map_ok(Frame::data);
    let first = futures::stream::iter([Ok(Frame::data(first))]);
    let mut response = Response::new(StreamBody::new(futures::StreamExt::chain(first, rest)).boxed_unsync());
    *response.status_mut() = head.status;
    guest::copy_end_to_end(&head.headers, response.headers_mut());
    Ok(if is_dropped { Live::Dropped(response) } else { Live::Answered(response) })
}

/// An answer whose bytes come from `next`, as fast as they are taken; none at the end.
fn stream<S, F>(state: S, next: impl Fn(S) -> F + Send + 'static) -> Response<Body>
where
    S: Send + 'static,
    F: Future<Output = Result<(Bytes, S), BodyError>> + Send + 'static,
{
    let bytes = futures::stream::try_unfold(state, move |state| {
        let next = next(state);
        async move {
            let (bytes, state) = next.await?;
            Ok::<_, BodyError>((!bytes.is_empty()).then(|| (Frame::data(bytes), state)))
        }
    });
    let mut response = Response::new(StreamBody::new(bytes).boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
