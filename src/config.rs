//! The configuration, validated.
//!
//! [`Config`] has only values that make sense together; [`Config::resolve`] makes it from a file, or says
//! everything that is wrong with that file at once. `config/keys.rs` is the table of all keys, with their
//! defaults; `config/raw.rs` reads the file as it is typed. Nothing here reads the machine: see [`Facts`].

#[cfg(test)]
mod docs;
pub mod documents;
mod instances;
mod keys;
mod leader;
mod logs;
pub(crate) mod quantity;
mod raw;
mod resolve;
mod runpod;
pub(crate) mod spelling;
mod templates;
pub(crate) mod values;
pub(crate) mod volume;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use instances::{Instances, SelectionMode};
pub use runpod::RunPod;
pub(crate) use values::is_region;

use crate::capacity::money::MicroUsd;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub aws: Aws,
    /// `None`: RunPod is not used.
    pub runpod: Option<RunPod>,
    pub node: Node,
    pub instances: Instances,
    pub network: Network,
    pub guest: Guest,
    pub limits: Limits,
    pub kubelet: Kubelet,
    /// `None`: this process leads, and nobody else is asked.
    pub leader_election: Option<LeaderElection>,
    pub shutdown: Shutdown,
    /// `None`: logs are not archived.
    pub logs: Option<Logs>,
    pub logging: Logging,
    pub metrics: Metrics,
    pub tracing: Tracing,
}

/// What the configuration has to know of the machine that ORCA runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Address of the pod that ORCA runs in (`POD_IP` by the downward API).
    pub pod_ip: Option<IpAddr>,
    /// Address that this machine uses towards its default route.
    pub outward_ip: Option<IpAddr>,
}

/// Something that is accepted, and should be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// YAML path, such as `aws.subnetID`.
    pub path: String,
    /// A sentence that names the path.
    pub text: String,
}

/// One thing that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// YAML path of the key, such as `node.pods`; empty for the file as a whole.
    pub path: String,
    /// A sentence that names the path, what was found there and what was expected.
    pub text: String,
}

/// Everything that is wrong with the file; at least one problem. Displayed as one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", problem.text)?;
        }
        Ok(())
    }
}

/// `aws`: where machines are launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    pub region: String,
    pub vpc_id: String,
    /// In order of preference; at least one.
    pub subnet_ids: Vec<String>,
    /// At least one.
    pub security_group_ids: Vec<String>,
    pub image: ImageSource,
    pub instance_profile: Option<String>,
    /// Another endpoint for all AWS services (a local cloud).
    pub endpoint: Option<String>,
    pub tunnel: TunnelKind,
    /// Put on everything that is launched, beside our own.
    pub tags: BTreeMap<String, String>,
}

/// `aws.amiID` or `aws.amiSSMParameter`, or neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    Id(String),
    Parameter(String),
    /// The EKS-optimized AL2023 image of the cluster's minor version, by architecture and accelerator.
    EksOptimized,
}

/// `aws.tunnel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    Ssm,
    Direct,
}

/// `node`: the virtual node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Kubernetes quantities.
    pub cpu: String,
    pub memory: String,
    pub ephemeral_storage: String,
    pub pods: u32,
    pub gpu: NodeGpu,
    /// What happens to DaemonSet pods that land here in spite of taint and labels.
    pub daemon_sets: DaemonSetPolicy,
}

/// `node.taints[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: String,
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// `node.gpu`: the extended resource that stands for GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeGpu {
    /// `nvidia.com/gpu` by default.
    pub resource: String,
    pub count: u32,
}

/// `node.daemonSets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonSetPolicy {
    Pending,
    Reject,
}

/// `network`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Leave traffic that goes out of the VPC with the pod's own address.
    pub external_snat: bool,
}

/// `guest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Folder with the CNI plugins that a machine may lack: ptp, static, portmap, loopback.
    pub cni_plugins_dir: PathBuf,
}

/// `limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_concurrent_instances: u32,
    /// What all machines together may add to the bill per hour; `None` sets no bound.
    pub max_hourly_cost: Option<MicroUsd>,
    pub launch_rate: LaunchRate,
    /// A machine ends itself at this age.
    pub max_instance_lifetime: Duration,
    /// A machine ends itself when it was not contacted for so long.
    pub max_lost_contact: Duration,
    /// How long the machine of a finished pod is kept for those who want to look.
    pub keep_finished: Duration,
    /// A machine that is not reachable after so long is replaced.
    pub boot_deadline: Duration,
    /// A pod that waited so long for a machine fails; `None` lets it wait for ever.
    pub capacity_wait: Option<Duration>,
}

/// `limits.launchRate`: the bucket that EC2 has for an account's RunInstances calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchRate {
    pub burst: u32,
    pub per_second: u32,
}

impl Default for LaunchRate {
    /// EC2's own: <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>.
    fn default() -> Self {
        Self { burst: 5, per_second: 2 }
    }
}

/// `kubelet`: the node's own HTTPS endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    pub listen: SocketAddr,
    /// The address published on the Node.
    pub address: IpAddr,
    pub tls: Tls,
}

/// `kubelet.tls`: where the endpoint's serving certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Two files that somebody else keeps fresh.
    Files(TlsFiles),
    /// The cluster, by a `CertificateSigningRequest` to this signer.
    Csr { signer: String },
    /// ORCA itself, at each start.
    SelfSigned,
}

/// `kubelet.tls.certFile` and `kubelet.tls.keyFile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// `leaderElection`: which of several processes acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Whole seconds: the Lease has no others.
    pub lease_duration: Duration,
    /// Shorter than `lease_duration`.
    pub renew_deadline: Duration,
    /// At most half of `renew_deadline`.
    pub retry_period: Duration,
}

/// `shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// From the first signal to the end of the process.
    pub deadline: Duration,
}

/// `logs`: the archive of container logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// The log group; `None`: the cluster's own.
    pub group: Option<String>,
    /// `None`: events are kept for ever.
    pub retention_days: Option<u32>,
    pub kms_key_id: Option<String>,
    /// How long a machine whose pod has ended is kept for its logs.
    pub drain_deadline: Duration,
}

/// `logging`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// A `tracing` filter, such as `info` or `orca=debug,info`.
    pub level: String,
    pub format: LogFormat,
}

/// `logging.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// `tracing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracing {
    /// The collector that takes traces by OTLP over HTTP; `None` makes none.
    pub otlp_endpoint: Option<String>,
}

/// `metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where `/metrics`, `/livez` and `/readyz` are served; `None` serves them nowhere.
    pub listen: Option<SocketAddr>,
}
