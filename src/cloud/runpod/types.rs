//! What is asked of RunPod and what it shows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::capacity::money::MicroUsd;

/// A pod to be created. Equal orders make byte-identical requests. Its `Debug` hides what the environment holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Order {
    /// Carries cluster, pod UID and attempt, since RunPod has neither tags nor idempotency tokens; at most 60 characters.
    /// The adapter writes it anew at each launch, like the markers in `env`: whatever stands here is not sent.
    pub name: String,
    pub image: String,
    /// Replaces the image's entrypoint; empty keeps it.
    pub entrypoint: Vec<String>,
    /// Replaces the image's command; empty keeps it, unless there is an entrypoint.
    pub command: Vec<String>,
    /// RunPod shows it in clear to everybody who may read the pod.
    pub env: BTreeMap<String, String>,
    pub hardware: Hardware,
    pub cloud: CloudTier,
    /// Any of them; empty is anywhere.
    pub data_center_ids: Vec<String>,
    /// The container's disk in GB, which its writable layer and its volumes live on.
    pub disk_gb: u32,
    pub ports: Vec<Port>,
    /// Id of a registry credential in the account.
    pub registry_id: Option<String>,
    pub network_volume: Option<Volume>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            image,
            entrypoint: _,
            command: _,
            env,
            hardware,
            cloud,
            data_center_ids,
            disk_gb,
            ports,
            registry_id,
            network_volume,
        } = self;
        f.debug_struct("Order")
            .field("name", name)
            .field("image", image)
            .field("env", &env.keys())
            .field("hardware", hardware)
            .field("cloud", cloud)
            .field("data_center_ids", data_center_ids)
            .field("disk_gb", disk_gb)
            .field("ports", ports)
            .field("registry_id", registry_id)
            .field("network_volume", network_volume)
            .finish_non_exhaustive()
    }
}

impl Order {
    /// The markers in its environment.
    pub(super) fn markers(&self) -> BTreeMap<String, String> {
        let ours = self.env.iter().filter(|(key, _)| key.starts_with(MARKER_PREFIX));
        ours.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// What the container gets to work with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hardware {
    Gpu {
        /// RunPod's id, such as `NVIDIA A100 80GB PCIe`.
        id: String,
        count: u32,
        /// System memory in GB for each GPU, at least. Not every server takes such a wish: what was given is looked at
        /// instead, and given back when it is less.
        min_memory_per_gpu_gb: Option<u32>,
        /// vCPUs for each GPU, at least; as above.
        min_vcpus_per_gpu: Option<u32>,
        min_cuda: Option<CudaVersion>,
    },
    Cpu {
        /// A flavour, such as `cpu3c`.
        id: String,
        /// A power of two.
        vcpus: u32,
    },
}

/// Such as 12.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CudaVersion {
    pub major: u32,
    pub minor: u32,
}

impl std::fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl std::str::FromStr for CudaVersion {
    type Err = std::num::ParseIntError;

    /// `12.8`; a bare major is its first release.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self { major: major.parse()?, minor: minor.parse()? })
    }
}

/// Whose machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloudTier {
    /// Data centers of RunPod's partners.
    Secure,
    /// Machines of others, which may lack a public address.
    Community,
}

/// A port that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    pub number: u16,
    pub kind: PortKind,
}

/// How a port is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortKind {
    /// Behind RunPod's proxy, public, 100 seconds for an answer at most.
    Http,
    /// At a public address, under another number.
    Tcp,
}

/// A network volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub id: String,
    /// Where it is mounted: an absolute path.
    pub path: String,
}

/// A pod, as RunPod shows it. Of its environment only what carries our marker is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub id: String,
    pub name: String,
    pub status: Status,
    /// Our markers in its environment ([`MARKER_PREFIX`]), and nothing else of it.
    pub markers: BTreeMap<String, String>,
    /// RunPod's id of its GPU or CPU flavour.
    pub hardware_id: String,
    pub gpu_count: u32,
    /// Those of the pod, all of its GPUs together.
    pub vcpus: Option<u32>,
    /// System memory of the pod in GB.
    pub memory_gb: Option<u32>,
    pub image: String,
    pub cloud: Option<CloudTier>,
    pub data_center_id: Option<String>,
    /// What is billed per hour now; zero once it has stopped.
    pub cost: MicroUsd,
    /// Since its container started; absent or zero while it has not.
    pub uptime: Option<Duration>,
    pub ports: Vec<Mapping>,
    pub created_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
}

/// Begins the name of every variable that marks a pod as ours.
pub const MARKER_PREFIX: &str = "ORCA_";

/// Where a port is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub private: u16,
    pub public: u16,
    pub kind: PortKind,
    pub ip: Option<IpAddr>,
}

/// RunPod's word for what a pod does. Only together with its uptime it is evidence of anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Provisioning,
    Starting,
    Running,
    Exited,
    Error,
    Terminated,
    /// A word that RunPod added since.
    Other(String),
}
