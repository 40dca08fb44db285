//! The virtual node: its Node object, its conditions and its Lease.
//!
//! What the Node should look like is rendered from the configuration, and compared with what is there; only a
//! difference is written, and what others wrote (labels, taints, conditions) stays. The Lease says that this process
//! lives and depends on nothing else, because a Node that looks lost has its pods evicted. Trouble with the cloud is
//! therefore never `Ready=False`: it has a condition of its own.

mod conditions;
pub(crate) mod events;
mod keeper;
mod lease;
mod reconcile;
mod render;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cloud::CloudHealth;
use crate::config::{Config, Taint};
use crate::link::Reach;
use crate::logs::archiver::Health as LogHealth;
use crate::telemetry::Registry;

/// What the Node looks like, as far as it does not change while this process lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub name: String,
    /// See [`crate::cloud::TAG_CLUSTER`].
    pub cluster_id: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Quantities by resource; allocatable is the same, unless a ceiling lowers it.
    pub capacity: BTreeMap<String, String>,
    /// Where the API server reaches our endpoint.
    pub address: IpAddr,
    pub port: u16,
    /// The API server's version with ours, such as `v1.36.3-orca.0.1.0`.
    pub kubelet_version: String,
}

/// What is measured. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    renewed: Gauge,
}

impl Metrics {
    /// When the Lease was last renewed, in seconds since 1970; 0 is never.
    #[must_use]
    pub fn renewed(&self) -> Gauge {
        self.renewed.clone()
    }

    /// Adds them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "node_lease_renewed_timestamp_seconds",
            "When the Node's Lease was last renewed, in seconds since 1970; 0 is never",
            self.renewed.clone(),
        );
    }
}

/// What [`run`] stands on.
#[derive(Clone)]
pub struct Deps {
    pub client: Client,
    pub settings: Settings,
    pub cloud: watch::Receiver<CloudHealth>,
    /// How the archive of logs is.
    pub logs: watch::Receiver<LogHealth>,
    /// Whether machines can be reached at all.
    pub machines: watch::Receiver<Reach>,
    /// The features that guest kubelets declare now; asked for at each pass.
    pub features: Arc<dyn Fn() -> BTreeSet<String> + Send + Sync>,
    /// What may be allocatable at most, by resource; asked for at each pass.
    pub ceilings: Arc<dyn Fn() -> BTreeMap<String, u64> + Send + Sync>,
    pub metrics: Metrics,
}

/// How that which has conditions of its own is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Health {
    cloud: CloudHealth,
    logs: LogHealth,
    machines: Reach,
}

impl Default for Health {
    /// Nothing was told yet.
    fn default() -> Self {
        Self { cloud: CloudHealth::Unknown, logs: LogHealth::Off, machines: Reach::Off }
    }
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deps").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Keeps the Node and its Lease. Returns only with an error; dropping it ends both.
///
/// # Errors
/// When a Node of that name exists that is not ours.
pub async fn run(deps: Deps) -> anyhow::Result<()> {
    let (uid, known_uid) = watch::channel(None);
    let mut tasks = JoinSet::new();
    // Tasks of their own: nothing that the Node waits for may hold the Lease up.
    tasks.spawn(lease::keep(
        deps.client.clone(),
        deps.settings.name.clone(),
        known_uid,
        deps.metrics.renewed.clone(),
    ));
    tasks.spawn(keeper::keep(deps, uid));
    tasks.join_next().await.context("nothing keeps the node")?.context("keeping the node")?
}

impl Settings {
    /// `server_version` is the API server's `gitVersion`, such as `v1.36.3-eks-a1b2c3d`.
    #[must_use]
    pub fn new(config: &Config, cluster_id: &str, server_version: &str) -> Self {
        let node = &config.node;
        let capacity = [
            ("cpu", node.cpu.clone()),
            ("memory", node.memory.clone()),
            ("ephemeral-storage", node.ephemeral_storage.clone()),
            ("pods", node.pods.to_string()),
            (node.gpu.resource.as_str(), node.gpu.count.to_string()),
        ];
        Self {
            name: node.name.clone(),
            cluster_id: cluster_id.to_owned(),
            labels: render::labels(&node.name, &config.aws.region, &node.labels),
            taints: node.taints.clone(),
            capacity: capacity.into_iter().map(|(resource, amount)| (resource.to_owned(), amount)).collect(),
            address: config.kubelet.address,
            port: config.kubelet.listen.port(),
            kubelet_version: render::kubelet_version(server_version),
        }
    }
}
