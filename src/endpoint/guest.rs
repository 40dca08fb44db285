//! Handing a request over to the kubelet of the pod's machine.
//!
//! Every request gets a connection of its own: one unread stream must not stall another's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Endpoint;
use super::error::{ApiError, Body, text};
use super::frames::{Ending, Protocol};
use super::splice;
use crate::link::Links;

/// How long reaching the guest kubelet may take: SSM session, SSH, TLS and the first answer.
const DEADLINE: Duration = Duration::from_secs(30);

type Sender = http1::SendRequest<Empty<Bytes>>;

/// A kubelet's answer, and the connection that it comes by.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Parts,
    pub(super) body: Guarded,
}

impl Answer {
    /// Passes it on as it is.
    pub(super) fn pass(self) -> Response<Body> {
        let mut response = Response::new(self.body.map_err(Into::into).boxed_unsync());
        *response.status_mut() = self.head.status;
        copy_end_to_end(&self.head.headers, response.headers_mut());
        response
    }
}

/// Asks the kubelet of a pod's machine; `None` when the pod has no machine with one.
pub(super) async fn ask(
    links: &dyn Links,
    uid: &str,
    request: Request<Empty<Bytes>>,
) -> Result<Option<Answer>, ApiError> {
    let Some((mut sender, connection)) = connect(links, uid).await? else { return Ok(None) };
    let answer = send(&mut sender, request).await?;
    let (head, body) = answer.into_parts();
    Ok(Some(Answer { head, body: Guarded { body, _connection: connection } }))
}

async fn send(sender: &mut Sender, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, ApiError> {
    tokio::time::timeout(DEADLINE, sender.send_request(request))
        .await
        .map_err(|_| ApiError::unavailable("the machine's kubelet did not answer in time"))?
        .map_err(|error| {
            ApiError::unavailable(format!("the machine's kubelet cannot be reached now: {error}"))
        })
}

/// `/exec`, `/attach`, `/portForward`: the upgrade is the guest kubelet's; the bytes are passed by [`splice`].
pub async fn stream(
    endpoint: &Endpoint,
    mut request: Request<Incoming>,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Response<Body>, ApiError> {
    let pod = find(endpoint, namespace, name)?;
    if uid.is_some_and(|uid| pod.metadata.uid.as_deref() != Some(uid)) {
        return Err(ApiError::not_found("pod not found"));
    }
    if endpoint.links.is_ending(pod.metadata.uid.as_deref().unwrap_or_default()) {
        return Err(ApiError::bad_request(format!(
            "the machine of pod \"{name}\" is being ended: nothing new begins there"
        )));
    }
    let client = hyper::upgrade::on(&mut request);
    let (mut sender, connection) =
        connect(endpoint.links.as_ref(), pod.metadata.uid.as_deref().unwrap_or_default()).await?.ok_or_else(
            || ApiError::bad_request(format!("pod \"{name}\" has no machine that runs it now")),
        )?;
    let mut answer = send(&mut sender, forwarded(&request)?).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (head, body) = answer.into_parts();
        let mut response = Answer { head, body: Guarded { body, _connection: connection } }.pass();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return Ok(response);
    }
    let guest = hyper::upgrade::on(&mut answer);
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    response.headers_mut().clear();
    // `Connection` and `Upgrade` belong to this answer: they name the protocol that was agreed.
    for (name, value) in answer.headers() {
        response.headers_mut().append(name, value.clone());
    }
    let agreed = |name: &str| answer.headers().get(name).and_then(|agreed| agreed.to_str().ok());
    let protocol = agreed(header::UPGRADE.as_str()).and_then(Protocol::named);
    let ending = agreed("x-stream-protocol-version").map_or(Ending::Other, Ending::named);
    let spoken = (protocol, ending);
    let closing = endpoint.streams.closing();
    endpoint.streams.spawn(async move {
        let connection = connection;
        if let Err(error) = joined(spoken, client, guest, &closing).await {
            tracing::debug!(error = %error, "a spliced stream ended");
        }
        drop(connection);
    });
    Ok(response)
}

async fn joined(
    spoken: (Option<Protocol>, Ending),
    client: hyper::upgrade::OnUpgrade,
    guest: hyper::upgrade::OnUpgrade,
    closing: &CancellationToken,
) -> anyhow::Result<()> {
    let (client, guest) = tokio::time::timeout(DEADLINE, async { tokio::try_join!(client, guest) }).await??;
    splice::exchange(spoken, TokioIo::new(client), TokioIo::new(guest), closing).await
}

/// The pod of this name.
pub(super) fn find(endpoint: &Endpoint, namespace: &str, name: &str) -> Result<Arc<Pod>, ApiError> {
    if !endpoint.pods.is_synced() {
        return Err(ApiError::unavailable("this node has only just started, and does not know its pods yet"));
    }
    endpoint
        .pods
        .get(namespace, name)
        .ok_or_else(|| ApiError::not_found(format!("pod \"{name}\" does not exist")))
}

/// An HTTP connection to the kubelet of the pod's machine; `None` when the pod has no machine with one.
async fn connect(links: &dyn Links, uid: &str) -> Result<Option<(Sender, AbortOnDropHandle<()>)>, ApiError> {
    let Some(tls) = links.kubelet_tls(uid) else { return Ok(None) };
    let stream = links.kubelet_stream(uid, DEADLINE).await.map_err(|error| {
        ApiError::unavailable(format!("the pod's machine cannot be reached now: {error}"))
    })?;
    let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
    let stream = tokio::time::timeout(DEADLINE, TlsConnector::from(tls).connect(name, stream))
        .await
        .map_err(|_| ApiError::unavailable("the machine's kubelet did not finish the TLS handshake in time"))?
        .map_err(|error| {
            ApiError::unavailable(format!("the machine's kubelet cannot be reached now: {error}"))
        })?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| {
        ApiError::unavailable(format!("the machine's kubelet cannot be reached now: {error}"))
    })?;
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = %error, "a connection to a machine's kubelet ended");
        }
    }));
    Ok(Some((sender, driver)))
}

/// The same request, without what concerns only this hop or proves who asked us.
pub(super) fn forwarded(request: &Request<Incoming>) -> Result<Request<Empty<Bytes>>, ApiError> {
    let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    forwarded_to(request, target)
}

/// As [`forwarded`], with another path or query.
pub(super) fn forwarded_to(
    asked: &Request<Incoming>,
    target: &str,
) -> Result<Request<Empty<Bytes>>, ApiError> {
    let mut copy = request(target)?;
    *copy.method_mut() = asked.method().clone();
    for (name, value) in asked.headers() {
        let ours = *name == header::AUTHORIZATION
            || *name == header::HOST
            || *name == header::CONTENT_LENGTH
            || *name == header::TRANSFER_ENCODING
            || name.as_str().starts_with("impersonate-")
            || name.as_str().starts_with("x-remote-");
        if !ours {
            copy.headers_mut().append(name, value.clone());
        }
    }
    Ok(copy)
}

/// A request of our own to a machine's kubelet.
pub(super) fn request(target: &str) -> Result<Request<Empty<Bytes>>, ApiError> {
    Request::get(target)
        .header(header::HOST, "127.0.0.1")
        .body(Empty::new())
        .map_err(|error| ApiError::internal("forwarding the request", &error))
}

pub(super) fn copy_end_to_end(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        let hop = *name == header::CONNECTION
            || *name == header::TRANSFER_ENCODING
            || *name == header::UPGRADE
            || name.as_str() == "keep-alive";
        if !hop {
            to.append(name, value.clone());
        }
    }
}

/// A body that keeps the connection it comes from, and ends it when it is dropped.
#[derive(Debug)]
pub(super) struct Guarded {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
