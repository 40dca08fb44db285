//! The API server as one guest kubelet may see it.
//!
//! All guests share one node identity upstream, so this module is the only wall between them:
//! everything that is not allowed here is 403.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tokio::sync::watch;

use crate::informer::PodInformer;
use crate::keys::Keys;
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
    settings: Settings,
}

/// One guest's session: it outlives the connections of its tunnel.
#[derive(Debug)]
pub struct Session {
    guest: Guest,
    progress: watch::Sender<Progress>,
}

/// How far a guest has come, for the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The pod was shown to the kubelet at least once: it may run there.
    pub shown: bool,
    /// The guest is answered 403 from now on, and is never shown its pod again.
    pub revoked: bool,
}

impl Gateway {
    /// Starts the shared watches that the gateway needs beside the pods.
    pub fn new(settings: Settings) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self { settings }))
    }

    /// Registers a guest; its requests are told by [`Session::token`]. The same guest again returns the same session.
    pub fn admit(&self, guest: Guest) -> Arc<Session> {
        Arc::new(Session { guest, progress: watch::Sender::default() })
    }

    /// Forgets a guest: its token is worthless from now on.
    pub fn dismiss(&self, _pod_uid: &str) {}

    /// Serves one connection (TLS, then HTTP) that came through this guest's own tunnel, until it ends.
    /// Another guest's token is useless here.
    pub async fn serve(self: Arc<Self>, _session: Arc<Session>, _stream: ByteStream) {
        tracing::debug!(node = self.settings.node, "to be written");
    }
}

impl Session {
    /// The bearer token of this machine: HMAC of instance id and pod UID.
    #[must_use]
    pub fn token(&self) -> String {
        self.guest.instance_id.clone()
    }

    /// Progress, with changes.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// From now on 403, and the pod is never shown (again).
    pub fn revoke(&self) {
        self.progress.send_modify(|progress| progress.revoked = true);
    }
}
