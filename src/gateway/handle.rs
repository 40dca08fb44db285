//! Answers one request of a guest.
//!
//! Authenticate, parse, then hand over to whoever knows the thing asked for. What is not parsed is not
//! answered, and nothing of the request itself goes further than its parsed form.

mod node;
mod pod;
mod source;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answer::{self, Body, Refusal};
use super::denied::{Denied, Rule};
use super::query::{ListAsk, Read};
use super::route::{self, Request};
use super::serve::Tasks;
use super::session::Session;
use super::snapshot::{self, Kind, Snapshot, Start};
use super::watch::{Gate, Open, Plan, QUEUE, pump};
use crate::clock;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// How long a list waits for a version that the guest has seen and we have not, as in the API server.
const CATCH_UP: Duration = Duration::from_secs(3);
/// For everything but the pod's status.
const SMALL: usize = 64 << 10;

const JSON: &str = "application/json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// What a handler has at hand.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub shared: &'a Arc<Shared>,
    pub session: &'a Arc<Session>,
    pub tasks: &'a Tasks,
}

type Answer = Result<Response<Body>, Refusal>;

/// Answers `request`, whatever it is.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    tasks: &Tasks,
    request: http::Request<Incoming>,
) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match handle(Context { shared, session, tasks }, request).await {
        Ok(response) => response,
        Err(refusal) => {
            if let Refusal::Denied(denied) = &refusal {
                shared.metrics.denials.count(denied);
            }
            tracing::debug!(instance.id = session.guest.instance_id, %method, path, ?refusal, "refused a guest");
            refusal.response()
        }
    };
    shared.metrics.answered(&method, response.status());
    tracing::trace!(instance.id = session.guest.instance_id, %method, path, status = %response.status(), "guest");
    response
}

async fn handle(cx: Context<'_>, request: http::Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    authenticate(&parts.headers, cx.session)?;
    cx.session.touch(clock::now());
    if cx.session.is_revoked() {
        return Err(Denied::new(Rule::Revoked, "this machine was given up").into());
    }
    check_headers(&parts.headers)?;
    let asked = route::parse(&parts.method, parts.uri.path(), parts.uri.query(), &cx.shared.settings.node)?;
    if asked.may_reach_the_api_server() {
        cx.session.take_turn(clock::now())?;
    }
    let headers = &parts.headers;
    match asked {
        Request::Pods(read) => pod::list(cx, read).await,
        Request::Pod(pod) => pod::get(cx, &pod).await,
        Request::PatchPodStatus(pod) => {
            let patch = cx.body(headers, body, STRATEGIC, super::status::LARGEST).await?;
            pod::patch_status(cx, &pod, &patch).await
        }
        Request::DeletePod(pod) => {
            let options = parsed(&cx.body(headers, body, JSON, SMALL).await?)?;
            pod::delete(cx, &pod, &options).await
        }
        Request::Nodes(read) => cx.collection(cx.session.node_view(), snapshot::NODE, read, Open).await,
        Request::Node => node::get(cx),
        Request::PatchNodeStatus => {
            node::patch_status(cx, &parsed(&cx.body(headers, body, STRATEGIC, node::LARGEST).await?)?)
        }
        Request::Private(slot, verb) => {
            let object = match verb {
                route::Verb::Create | route::Verb::Update => {
                    Some(parsed(&cx.body(headers, body, JSON, SMALL).await?)?)
                }
                route::Verb::Get | route::Verb::Delete => None,
            };
            node::private(cx, slot, verb, object)
        }
        Request::CreateEvent { namespace } => {
            let event = parsed(&cx.body(headers, body, JSON, SMALL).await?)?;
            node::create_event(cx, &namespace, &event).await
        }
        Request::PatchEvent(event) => {
            let patch = parsed(&cx.body(headers, body, STRATEGIC, SMALL).await?)?;
            node::patch_event(cx, &event, &patch).await
        }
        Request::ResourceSlices(read) => cx.nothing(snapshot::RESOURCE_SLICE, read).await,
        Request::DeleteResourceSlices => Ok(answer::deleted()),
        Request::CsiDrivers(read) => cx.nothing(snapshot::CSI_DRIVER, read).await,
        Request::Services(read) => {
            let view = cx.shared.services.view(&cx.session.guest.pod_namespace);
            cx.collection(view, snapshot::SERVICE, read, Open).await
        }
        Request::RuntimeClasses(read) => source::runtime_classes(cx, read).await,
        Request::RuntimeClass(name) => source::runtime_class(cx, &name).await,
        Request::Source(kind, object, read) => source::read(cx, kind, &object, read).await,
        Request::CreateToken { namespace, account } => {
            let request = parsed(&cx.body(headers, body, JSON, SMALL).await?)?;
            source::create_token(cx, &namespace, &account, &request).await
        }
    }
}

impl Context<'_> {
    /// Lists or watches a collection of snapshots.
    async fn collection(
        self,
        mut view: watch::Receiver<Option<Arc<Snapshot>>>,
        kind: Kind,
        read: Read,
        gate: impl Gate + 'static,
    ) -> Answer {
        let start = |now: &Snapshot| match &read {
            Read::List(ask) => now.list(ask),
            Read::Watch(ask) => now.watch(ask),
        };
        let asked = match &read {
            Read::List(ListAsk { version, .. }) => *version,
            Read::Watch(ask) => ask.version,
        }
        .unwrap_or_default();
        // Nothing known, or nothing so new: give it a moment.
        let ready = |now: &Option<Arc<Snapshot>>| now.as_ref().is_some_and(|now| start(now) != Start::Early);
        let caught_up = timeout(CATCH_UP, view.wait_for(ready)).await.is_ok_and(|waited| waited.is_ok());
        let Some(now) = view.borrow_and_update().clone() else {
            return Err(Refusal::NotNow("nothing is known of these objects yet"));
        };
        if !caught_up {
            return Err(Refusal::Early(asked));
        }
        let start = start(&now);
        match start {
            Start::Early => return Err(Refusal::Early(asked)),
            Start::Gone => return Err(Refusal::Gone(asked)),
            Start::State | Start::Here => {}
        }
        if !gate.open(&now) {
            return Err(Denied::new(Rule::Revoked, "this machine was given up").into());
        }
        let ask = match read {
            Read::List(_) => return Ok(answer::with_json(StatusCode::OK, &now.to_list(kind))),
            Read::Watch(ask) => ask,
        };
        let plan = Plan {
            kind,
            mark_initial: ask.initial_events && start == Start::State,
            bookmarks: ask.bookmarks,
            lasts: ask.lasts(),
        };
        let before = if start == Start::Here { now } else { Arc::default() };
        let permit = self.watch_permit()?;
        Ok(self.stream(permit, move |out, closed| pump(view, before, plan, gate, out, closed)))
    }

    /// A collection that is empty and stays so.
    async fn nothing(self, kind: Kind, read: Read) -> Answer {
        let (source, view) = watch::channel(Some(Snapshot::empty()));
        self.collection(view, kind, without_version(read), Kept(source)).await
    }

    /// One of the watches that this guest may have at a time.
    fn watch_permit(self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.session.watches.clone().try_acquire_owned().map_err(|_none| Refusal::TooMany("watches"))
    }

    /// Answers with what `pump` puts into its queue.
    fn stream<F>(
        self,
        permit: OwnedSemaphorePermit,
        pump: impl FnOnce(mpsc::Sender<Bytes>, CancellationToken) -> F,
    ) -> Response<Body>
    where
        F: Future<Output = super::watch::End> + Send + 'static,
    {
        let (out, chunks) = mpsc::channel(QUEUE);
        let pumped = pump(out, self.session.closed.clone());
        let instance = self.session.guest.instance_id.clone();
        self.tasks.spawn(async move {
            let end = pumped.await;
            drop(permit);
            tracing::trace!(instance.id = instance, ?end, "a watch ended");
        });
        answer::with_stream(chunks)
    }

    /// Reads a body of the one media type that is accepted.
    async fn body(
        self,
        headers: &HeaderMap,
        body: Incoming,
        media_type: &str,
        most: usize,
    ) -> Result<Bytes, Refusal> {
        let found =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let found = found.split(';').next().unwrap_or_default().trim();
        if found != media_type || headers.contains_key(header::CONTENT_ENCODING) {
            return Err(Refusal::MediaType(media_type.to_owned()));
        }
        let read = async {
            let _share = self.session.bodies.acquire().await;
            Limited::new(body, most).collect().await
        };
        match timeout(BODY_DEADLINE, read).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::TooLarge(most)),
            Ok(Err(error)) => Err(Refusal::Unread(format!("the body broke off: {error}"))),
            Err(_elapsed) => Err(Refusal::Unread("the body took too long".to_owned())),
        }
    }
}

/// Keeps a source open for as long as its watch lasts.
struct Kept(watch::Sender<Option<Arc<Snapshot>>>);

impl Gate for Kept {
    fn open(&self, _now: &Snapshot) -> bool {
        !self.0.is_closed()
    }
}

/// An empty collection is the same at every version, also at one from before a restart of ORCA.
fn without_version(read: Read) -> Read {
    match read {
        Read::List(_) => Read::List(ListAsk::default()),
        Read::Watch(ask) => Read::Watch(super::query::WatchAsk { version: None, ..ask }),
    }
}

fn authenticate(headers: &HeaderMap, session: &Session) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let presented = values.next().and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match (presented, values.next()) {
        (Some(token), None) if session.is_token(token) => Ok(()),
        _ => Err(Refusal::Unauthorized),
    }
}

/// None of these would be passed on; a guest that sends them is up to something, so that it is told and counted.
fn check_headers(headers: &HeaderMap) -> Result<(), Denied> {
    let bad = |name: &header::HeaderName| {
        let name = name.as_str();
        name.starts_with("impersonate-") || name.starts_with("x-remote-") || name == "upgrade"
    };
    match headers.keys().find(|name| bad(name)) {
        Some(name) => Err(Denied::new(Rule::Header, format!("the header `{name}` is not allowed"))),
        None => Ok(()),
    }
}

fn parsed(body: &[u8]) -> Result<Value, Denied> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Denied::new(Rule::Body, "the body is no JSON object")),
        Err(error) => Err(Denied::new(Rule::Body, format!("the body is no JSON: {error}"))),
    }
}
