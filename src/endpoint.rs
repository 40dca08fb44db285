//! The node's own HTTPS endpoint, as the API server and monitoring know it from any kubelet (port 10250).
//!
//! Authenticate, authorize, find the pod's machine, and splice the connection to the kubelet there: of SPDY and WebSocket
//! only the borders of frames are known here. Nothing here knows clouds or SSH; a machine's kubelet is a stream from
//! [`Links`].

mod audit;
pub mod authn;
pub mod authz;
pub mod csr;
pub mod error;
pub mod frames;
pub mod guest;
pub mod logs;
mod metrics;
mod numbers;
pub mod route;
pub mod server;
pub mod splice;
mod streams;
pub mod tls;
mod unproven;

pub use metrics::Metrics;
pub use streams::Streams;

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::informer::PodInformer;
use crate::link::Links;
use crate::logs::answer::Archive;
use crate::stats::Stats;
use crate::telemetry::Telemetry;
use authn::{Authenticator, PeerCertificate, User};
use authz::Authorizer;
use error::{ApiError, Body};
use route::Route;

/// What the endpoint stands on.
#[derive(Debug)]
pub struct Endpoint {
    pub pods: Arc<PodInformer>,
    pub links: Arc<dyn Links>,
    /// Where logs are read whose machine is gone; `None` where they are not archived.
    pub archive: Option<Arc<Archive>>,
    pub authenticator: Authenticator,
    pub authorizer: Authorizer,
    /// The numbers of all machines.
    pub stats: Arc<Stats>,
    /// Of this process.
    pub telemetry: Telemetry,
    pub streams: Streams,
    pub metrics: Metrics,
}

impl Endpoint {
    /// Answers one request. `peer` is the client certificate of its connection, already verified against the
    /// cluster's client CA.
    pub async fn answer(&self, peer: Option<&PeerCertificate>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let mut who = None;
        let answer = self.serve(peer, request, &mut who).await;
        audit::record(self, &path, who.as_ref(), &answer);
        let response = answer.unwrap_or_else(|error| error.into_response(&path));
        self.metrics.answered(&path, response.status());
        response
    }

    async fn serve(
        &self,
        peer: Option<&PeerCertificate>,
        request: Request<Incoming>,
        who: &mut Option<User>,
    ) -> Result<Response<Body>, ApiError> {
        let user = &*who.insert(self.authenticator.authenticate(peer, request.headers()).await?);
        // Parsed once, for both routing and authorization, so that they can never disagree.
        let route = Route::parse(request.uri().path())?;
        self.authorizer.authorize(user, request.method(), &route).await?;
        match &route {
            Route::Healthz => Ok(error::text(StatusCode::OK, "ok")),
            Route::Pods => self.list_pods(),
            Route::ContainerLogs { namespace, pod, container } => {
                let answer = logs::answer(self, request, namespace, pod, container).await?;
                Ok(self.streams.hold(answer))
            }
            Route::Stream { namespace, pod, uid, .. } => {
                guest::stream(self, request, namespace, pod, uid.as_deref()).await
            }
            Route::Metrics { family } => numbers::metrics(self, request.method(), family),
            Route::Stats { page } => numbers::stats(self, &request, page),
            Route::Other => Err(ApiError::not_found("404 page not found")),
        }
    }

    fn list_pods(&self) -> Result<Response<Body>, ApiError> {
        let items: Vec<_> = self.pods.all();
        let list = serde_json::json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": {},
            "items": items.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
        });
        let body =
            serde_json::to_vec(&list).map_err(|error| ApiError::internal("writing the pods", &error))?;
        Ok(error::json(StatusCode::OK, body))
    }
}
