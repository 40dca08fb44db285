//! Requests to the API server, made from nothing: no header, path or query of a guest is passed on.
//!
//! Two identities: the node's, by impersonation, for what a guest asks, so that the API server's Node
//! authorizer bounds it once more; and ORCA's own, for one question only, whether a pod still exists.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use tokio::time::timeout;

use super::answer::Refusal;
use super::pods::{self, Live};
use super::route::Object;
use crate::leader::{Fence, guarded};

/// The API server, as this node and as ORCA.
#[derive(Clone)]
pub(crate) struct Upstream {
    node: kube::Client,
    own: kube::Client,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// How a body is to be read by the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Json,
    StrategicMerge,
}

/// From sending a request to the end of its answer (for a watch, to its beginning).
const DEADLINE: Duration = Duration::from_secs(30);
/// A proof is waited for by a kubelet's list, which must not hang.
const PROOF_DEADLINE: Duration = Duration::from_secs(10);
/// A Secret or ConfigMap has at most 1 MiB, which base64 and JSON can triple; a pod at most 1.5 MiB.
const LARGEST_ANSWER: usize = 8 << 20;

impl Upstream {
    /// Clients for `node`, both from `base`.
    pub(crate) fn new(base: &kube::Config, node: &str, fence: &Fence) -> Result<Self, kube::Error> {
        let mut own = base.clone();
        // A kubelet tries again by itself, and knows better when.
        own.default_retry = false;
        Ok(Self { node: guarded(as_node(&own, node), fence)?, own: guarded(own, fence)? })
    }

    /// The client that speaks as the node.
    pub(crate) fn as_node(&self) -> kube::Client {
        self.node.clone()
    }

    /// One request as the node; the answer whole. `path` is made of checked names.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(Content, &serde_json::Value)>,
    ) -> Result<Answer, Refusal> {
        let request = request(method, path, body)?;
        let whole = async { collect(send(&self.node, request).await?).await };
        timeout(DEADLINE, whole).await.map_err(|_elapsed| Refusal::NotNow("the API server did not answer"))?
    }

    /// A watch as the node: its status, and its body as it comes.
    pub(crate) async fn watch(&self, path: &str) -> Result<(StatusCode, Body), Refusal> {
        let request = request(Method::GET, path, None)?;
        let response = timeout(DEADLINE, send(&self.node, request))
            .await
            .map_err(|_elapsed| Refusal::NotNow("the API server did not answer"))??;
        Ok((sane(response.status())?, response.into_body()))
    }

    /// Asks the API server, not a cache, whether the pod with that UID exists.
    pub(crate) async fn prove(&self, pod: &Object, uid: &str) -> Result<Live, Refusal> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
        let ask = async {
            let response = send(&self.own, request(Method::GET, &path, None)?).await?;
            let answer = collect(response).await?;
            pods::read_live(answer.status.as_u16(), &answer.body, uid)
                .ok_or(Refusal::NotNow("the API server did not say whether the pod exists"))
        };
        timeout(PROOF_DEADLINE, ask)
            .await
            .map_err(|_elapsed| Refusal::NotNow("the API server did not answer"))?
    }
}

/// The same API server, asked as `node`: what that identity may do, the API server's Node authorizer decides.
#[must_use]
pub fn as_node(base: &kube::Config, node: &str) -> kube::Config {
    let mut impersonating = base.clone();
    impersonating.auth_info.impersonate = Some(format!("system:node:{node}"));
    impersonating.auth_info.impersonate_groups = Some(vec!["system:nodes".to_owned()]);
    impersonating
}

/// Reads a whole answer, up to a limit.
pub(crate) async fn collect(response: http::Response<Body>) -> Result<Answer, Refusal> {
    let status = sane(response.status())?;
    let body = Limited::new(response.into_body(), LARGEST_ANSWER)
        .collect()
        .await
        .map_err(|_broken_or_too_large| Refusal::NotNow("the API server's answer broke off"))?;
    Ok(Answer { status, body: body.to_bytes() })
}

async fn send(client: &kube::Client, request: http::Request<Body>) -> Result<http::Response<Body>, Refusal> {
    client.send(request).await.map_err(|error| {
        tracing::warn!(%error, "the API server cannot be reached for a guest");
        Refusal::NotNow("the API server cannot be reached")
    })
}

/// Our own credentials' trouble is none of the guest's, and a guest is never sent elsewhere.
fn sane(status: StatusCode) -> Result<StatusCode, Refusal> {
    if status == StatusCode::UNAUTHORIZED || status.is_informational() || status.is_redirection() {
        tracing::warn!(%status, "the API server does not accept the gateway's requests");
        return Err(Refusal::NotNow("the API server does not accept the gateway's requests"));
    }
    Ok(status)
}

fn request(
    method: Method,
    path: &str,
    body: Option<(Content, &serde_json::Value)>,
) -> Result<http::Request<Body>, Refusal> {
    let mut builder = http::Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header(header::USER_AGENT, HeaderValue::from_static("orca-gateway"));
    let bytes = match body {
        None => Vec::new(),
        Some((content, value)) => {
            let content = match content {
                Content::Json => "application/json",
                Content::StrategicMerge => "application/strategic-merge-patch+json",
            };
            builder = builder.header(header::CONTENT_TYPE, HeaderValue::from_static(content));
            value.to_string().into_bytes()
        }
    };
    builder.body(Body::from(bytes)).map_err(|error| {
        tracing::error!(%error, path, "a request to the API server cannot be written");
        Refusal::NotNow("the request cannot be written")
    })
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}
