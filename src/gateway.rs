//! The API server as one guest kubelet may see it.
//!
//! All guests share one node identity upstream, so this module is the only wall between them: everything that
//! is not allowed here is 403. What may be asked is `route`; what is answered from here is a `snapshot`; what
//! goes to the API server is made anew by `upstream`.

mod answer;
mod bucket;
mod denied;
mod events;
mod follow;
mod gpu;
mod handle;
mod metrics;
mod node;
mod pods;
mod query;
mod refs;
mod route;
mod serve;
mod services;
mod session;
mod snapshot;
mod status;
mod tls;
mod token;
mod upstream;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tokio::task::JoinSet;

pub(crate) use self::gpu::holders as gpu_holders;
pub use self::node::Reported;
pub use self::session::{Progress, Session};
pub use self::upstream::as_node;

pub use self::metrics::Metrics;
use self::node::Real;
use self::services::Services;
use self::session::lock;
use self::tls::Serving;
use self::upstream::Upstream;
use crate::clock;
use crate::informer::PodInformer;
use crate::keys::Keys;
use crate::leader::Fence;
use crate::tunnel::ByteStream;

/// What the gateway stands on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the virtual node.
    pub node: String,
    /// Base configuration of the upstream client; requests are impersonated as `system:node:<node>`.
    pub kube: kube::Config,
    pub pods: Arc<PodInformer>,
    pub keys: Keys,
    /// The extended resource that stands for GPUs, such as `nvidia.com/gpu`.
    pub gpu_resource: String,
    /// What guests ask to change reaches the API server while it is open.
    pub fence: Fence,
}

/// One guest: a machine and the one pod it may see.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    pub pod_uid: String,
    pub pod_namespace: String,
    pub pod_name: String,
    pub instance_id: String,
    /// The machine's primary address: `InternalIP` of the private Node.
    pub private_ip: IpAddr,
    /// The pod's address.
    pub pod_ip: IpAddr,
    /// Capacity and allocatable of the private Node (cpu, memory, ephemeral-storage, pods), pinned.
    pub capacity: BTreeMap<String, Quantity>,
}

/// The gateway to the API server, shared by all guests.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    /// Ends the shared watches with the gateway.
    _tasks: JoinSet<()>,
}

/// What connections and watches share.
#[derive(Debug)]
pub(crate) struct Shared {
    settings: Settings,
    upstream: Upstream,
    services: Arc<Services>,
    serving: Serving,
    metrics: Metrics,
    sessions: Mutex<Sessions>,
}

/// The guests by pod UID, and what they all take from the real Node. Together under one lock, so that a new
/// guest misses no change.
#[derive(Debug, Default)]
struct Sessions {
    by_uid: HashMap<String, Arc<Session>>,
    real: Option<Real>,
}

/// What a request of a guest of `node` is taken for, in words: all that the path, still encoded, and the query decide.
///
/// # Errors
/// Says which rule refuses it.
pub fn taken_for(
    method: &http::Method,
    path: &str,
    query: Option<&str>,
    node: &str,
) -> Result<String, String> {
    match route::parse(method, path, query, node) {
        Ok(request) => Ok(format!("{request:?}")),
        Err(denied) => Err(denied.to_string()),
    }
}

/// Never published: the API server would then send WebSockets that not every guest's kubelet understands.
const UNPUBLISHED: &str = "ExtendWebSocketsToKubelet";

impl Gateway {
    /// Starts the shared watches that the gateway needs beside the pods. Within a tokio runtime.
    pub fn new(settings: Settings) -> anyhow::Result<Arc<Self>> {
        tokio::runtime::Handle::try_current().context("starting the gateway's watches")?;
        let now = clock::now();
        let upstream = Upstream::new(&settings.kube, &settings.node, &settings.fence)
            .context("making the gateway's clients")?;
        let serving = Serving::new(&settings.keys.serving_ca_cert, &settings.keys.serving_ca_key, now)?;
        let metrics = Metrics::default();
        let services =
            Services::new(u64::try_from(now.as_microsecond()).unwrap_or(1), metrics.watch_errors.clone());
        let shared =
            Arc::new(Shared { upstream, services, serving, metrics, sessions: Mutex::default(), settings });
        let mut tasks = JoinSet::new();
        tasks.spawn(shared.services.clone().run(shared.upstream.as_node()));
        tasks.spawn(follow::node(shared.clone()));
        tasks.spawn(follow::pods(shared.clone()));
        Ok(Arc::new(Self { shared, _tasks: tasks }))
    }

    /// Registers a guest; its requests are told by [`Session::token`]. The same guest again returns the same
    /// session; another machine for the same pod ends the former one's.
    pub fn admit(&self, guest: Guest) -> Arc<Session> {
        let mut sessions = lock(&self.shared.sessions);
        if let Some(known) = sessions.by_uid.get(&guest.pod_uid) {
            if known.guest == guest {
                return known.clone();
            }
            known.dismiss();
        }
        let session =
            Arc::new(Session::new(guest, &self.shared.settings, sessions.real.as_ref(), clock::now()));
        session.look(&self.shared.settings.pods);
        sessions.by_uid.insert(session.guest.pod_uid.clone(), session.clone());
        session
    }

    /// Forgets a guest: its token is worthless from now on.
    pub fn dismiss(&self, pod_uid: &str) {
        let mut sessions = lock(&self.shared.sessions);
        if let Some(session) = sessions.by_uid.remove(pod_uid) {
            session.dismiss();
            let namespace = &session.guest.pod_namespace;
            if !sessions.by_uid.values().any(|other| other.guest.pod_namespace == *namespace) {
                self.shared.services.forget(namespace);
            }
        }
    }

    /// Serves one connection (TLS, then HTTP) that came through this guest's own tunnel, until it ends.
    /// Another guest's token is useless here.
    pub async fn serve(self: Arc<Self>, session: Arc<Session>, stream: ByteStream) {
        let Ok(_one_of_few) = session.connections.try_acquire() else {
            tracing::warn!(instance.id = session.guest.instance_id, "a guest has too many connections");
            return;
        };
        tokio::select! {
            () = session.dismissed.cancelled() => {}
            () = serve::connection(self.shared.clone(), session.clone(), stream) => {}
        }
    }

    /// What the virtual Node may declare: the features that guests declare, but for those that need the
    /// node's own endpoint to do more.
    #[must_use]
    pub fn declared_features(&self) -> BTreeSet<String> {
        let sessions = lock(&self.shared.sessions);
        let all = sessions
            .by_uid
            .values()
            .flat_map(|session| session.reported().borrow().declared_features.clone());
        all.filter(|feature| feature != UNPUBLISHED).collect()
    }

    /// The gateway's metrics.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics.clone()
    }
}

impl Shared {
    fn session(&self, pod_uid: &str) -> Option<Arc<Session>> {
        lock(&self.sessions).by_uid.get(pod_uid).cloned()
    }

    fn all_sessions(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions).by_uid.values().cloned().collect()
    }
}
