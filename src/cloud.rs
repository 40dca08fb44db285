//! The port to a cloud: what ORCA needs of one, in its own words.
//!
//! Adapters translate and nothing more; this file must not know any of them.

pub mod audit;
pub mod both;
pub mod ec2;
pub mod fenced;
pub mod memory;
pub mod runpod;

mod capacity;
mod leftovers;
mod scheduled;

use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use capacity::{
    Block, BlockState, Placement, Purchase, Reservation, ReservationKind, ReservationMatch, ReservationState,
    SpotPrice, Tenancy,
};
#[cfg(test)]
pub(crate) use leftovers::testing::mk_leftover;
pub use leftovers::{Disk, Leftover, LeftoverKind};
pub use scheduled::{EventKind, EventProgress, ScheduledEvent};

use crate::capacity::money::MicroUsd;

/// Tag that carries the cluster's identity (the UID of the `kube-system` namespace).
pub const TAG_CLUSTER: &str = "orca.research/cluster";
/// Tag that carries the name of the virtual node.
pub const TAG_NODE: &str = "orca.research/node";
/// Tag that carries the UID of the pod that the machine was launched for.
pub const TAG_POD_UID: &str = "orca.research/pod-uid";
/// Tag that carries the pod's namespace.
pub const TAG_POD_NAMESPACE: &str = "orca.research/pod-namespace";
/// Tag that carries the pod's name.
pub const TAG_POD_NAME: &str = "orca.research/pod-name";
/// Tag that carries the launch epoch of the intent.
pub const TAG_EPOCH: &str = "orca.research/epoch";
/// Tag that pins the machine's SSH host key (OpenSSH public key, without comment).
pub const TAG_HOST_KEY: &str = "orca.research/host-key";

/// Machines: launching, seeing and ending them. Every instance that is returned carries our cluster tag.
#[async_trait]
pub trait Cloud: Send + Sync + std::fmt::Debug {
    /// Waits until the cloud's rate admits one more [`Cloud::launch`], which is then made at once with this spec. Giving
    /// up while waiting takes nothing. A burst of pods may wait here for minutes.
    ///
    /// # Errors
    /// [`CloudError::Throttled`] when too many wait already, or for far too long.
    async fn admit(&self, _spec: &LaunchSpec) -> Result<(), CloudError> {
        Ok(())
    }

    /// Launches one machine, or returns the one that this token already launched.
    ///
    /// Repeating a call with an equal `spec` never makes a second machine; equal token with another
    /// spec is [`CloudError::TokenMismatch`]. An ambiguous failure is [`CloudError::Transient`]:
    /// repeat the same call.
    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance, CloudError>;

    /// All instances of this cluster that the cloud still shows, terminated ones included.
    /// A complete list or an error, never a part of one; of two clouds together see [`both`].
    async fn instances(&self) -> Result<Vec<Instance>, CloudError>;

    /// Why a part of the last list is older than the rest, if it is.
    fn trouble(&self) -> Option<CloudError> {
        None
    }

    /// One instance, read now. `None` when the cloud does not know it (which, shortly after a
    /// launch, may only mean "not yet").
    async fn instance(&self, id: &str) -> Result<Option<Instance>, CloudError>;

    /// What is announced for machines that run, in one list: events that are over, too, for as long as the cloud shows
    /// them, and events of machines of this account that are not ours.
    async fn scheduled_events(&self) -> Result<Vec<ScheduledEvent>, CloudError>;

    /// Ends a machine for good. Idempotent: one that is gone already is a success.
    async fn terminate(&self, id: &str) -> Result<(), CloudError>;

    /// Adds or replaces tags of an instance; [`CloudError::Invalid`] where the cloud has no tags. Only the link calls it,
    /// to pin the host key of a machine's sshd.
    async fn tag(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<(), CloudError>;

    /// The latest console output; empty while there is none.
    async fn console(&self, id: &str) -> Result<String, CloudError>;

    /// What machines of this node left behind: everything of a kind that carries our tags and that nothing has now.
    /// A complete list or an error, never a part of one.
    async fn leftovers(&self, kind: LeftoverKind) -> Result<Vec<Leftover>, CloudError>;

    /// Deletes what a machine left behind, for good. Idempotent: what is gone already is a success. What something has
    /// again is not deleted: [`CloudError::Invalid`].
    async fn discard(&self, kind: LeftoverKind, id: &str) -> Result<(), CloudError>;
}

/// What can be bought: types, subnets, images.
#[async_trait]
pub trait Market: Send + Sync + std::fmt::Debug {
    /// The named instance types; an unknown name is absent from the answer.
    async fn instance_types(&self, names: &[String]) -> Result<Vec<InstanceType>, CloudError>;

    /// Zones (names) that offer a type.
    async fn zones_of(&self, instance_type: &str) -> Result<Vec<String>, CloudError>;

    /// The configured subnets, in their configured order, with the addresses that are free now.
    async fn subnets(&self) -> Result<Vec<Subnet>, CloudError>;

    /// The machine image for a type: what `wish` names, else by id, or resolved from a parameter, as configured.
    async fn image_for(
        &self,
        instance_type: &InstanceType,
        wish: Option<&ImageWish>,
    ) -> Result<Image, CloudError>;

    /// Every instance type of the region that we could run.
    async fn all_instance_types(&self) -> Result<Vec<InstanceType>, CloudError>;

    /// Zones (names) by instance type, for every type of the region.
    async fn all_offerings(&self) -> Result<BTreeMap<String, Vec<String>>, CloudError>;

    /// On-demand prices per hour (Linux, shared tenancy) by instance type, as the region's price list has them now.
    async fn on_demand_prices(&self) -> Result<BTreeMap<String, MicroUsd>, CloudError>;

    /// The latest spot price of every type and zone.
    async fn spot_prices(&self) -> Result<Vec<SpotPrice>, CloudError>;

    /// Every capacity reservation that this account may use, Capacity Blocks and those shared with it included.
    async fn reservations(&self) -> Result<Vec<Reservation>, CloudError>;

    /// Every Capacity Block of this account.
    async fn blocks(&self) -> Result<Vec<Block>, CloudError>;
}

/// A machine image that a pod or a template asks for instead of the configured one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageWish {
    /// `ami-…`.
    Id(String),
    /// Name or ARN of an SSM parameter that holds the id.
    Parameter(String),
}

/// Everything that decides a launch. Equal specs make byte-identical requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchSpec {
    /// Idempotency token, at most 64 ASCII characters.
    pub token: String,
    pub instance_type: String,
    /// How it is paid for: never left to EC2's own fallbacks.
    pub purchase: Purchase,
    pub placement: Placement,
    pub image: Image,
    pub subnet_id: String,
    pub security_group_ids: Vec<String>,
    /// Name or ARN of the instance profile.
    pub instance_profile: Option<String>,
    /// Plain text, at most 16 KiB, without secrets.
    pub user_data: String,
    pub root_volume: RootVolume,
    /// Elastic Fabric Adapter interfaces: the first is the machine's own, the others have a network card each.
    pub efa: u32,
    /// Put on the instance, its volumes and its network interface.
    pub tags: BTreeMap<String, String>,
    /// What is ordered of RunPod; then nothing above but `token` and `tags` counts. `None` is EC2.
    pub runpod: Option<Box<runpod::Order>>,
    /// List price per hour, where it is known. It decides nothing about the request.
    pub price: Option<MicroUsd>,
    /// An earlier call with this token may have been made. It decides nothing about the request: a cloud without tokens
    /// looks first whether that call made something.
    pub is_repeated: bool,
}

/// The root volume of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootVolume {
    pub size_gib: u32,
    /// EBS volume type, `gp3` by default.
    pub kind: String,
    pub iops: Option<u32>,
    /// MiB/s.
    pub throughput: Option<u32>,
    pub encrypted: bool,
    pub kms_key_id: Option<String>,
}

/// A machine image, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    /// For example `/dev/xvda`: where the root volume is mapped.
    pub root_device_name: String,
}

/// One subnet of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub id: String,
    /// Zone name, such as `us-east-1a`.
    pub zone: String,
    pub zone_id: String,
    pub cidr: String,
    pub free_addresses: u32,
}

/// An instance type, as the cloud describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceType {
    pub name: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    /// `amd64` or `arm64`.
    pub arch: String,
    /// GPUs, and accelerators that are counted like them (Neuron devices, Gaudi).
    pub gpus: Option<Gpus>,
    /// Nitro types show their console and can be trusted with `direct` tunnels.
    pub nitro: bool,
    pub bare_metal: bool,
    /// Has an accelerator that Kubernetes has no resource for (FPGA, media, inference cards).
    pub other_accelerator: bool,
    /// `SupportedUsageClasses`.
    pub usage: Usage,
    /// EFA interfaces.
    pub efa: u32,
    /// Local NVMe disks together, in GB as EC2 counts them.
    pub local_disk_gb: u64,
}

/// How a type can be bought at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub on_demand: bool,
    pub spot: bool,
    pub capacity_block: bool,
}

impl Default for Usage {
    /// What nearly every type has.
    fn default() -> Self {
        Self { on_demand: true, spot: true, capacity_block: false }
    }
}

/// The accelerators of an instance type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    /// Whole ones; 0 where the machine has a share of one (g6f), see `share_of`.
    pub count: u32,
    /// Into how many shares one device is divided, of which this machine has one: 1 is a whole device, 8 is g6f.large.
    pub share_of: u32,
    /// Such as `A10G`.
    pub model: String,
    pub manufacturer: String,
    /// Per GPU, or of the share.
    pub memory_mib: u64,
}

/// A machine, as the cloud describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    pub state: InstanceState,
    /// Why it is in that state, such as `Server.SpotInstanceTermination`.
    pub state_reason: Option<StateReason>,
    pub instance_type: String,
    pub image_id: String,
    pub zone: String,
    pub subnet_id: String,
    /// Primary private address; kept for an hour after the end by us, not by EC2.
    pub private_ip: Option<IpAddr>,
    /// First secondary private address: the pod's.
    pub pod_ip: Option<IpAddr>,
    pub launched_at: Option<Timestamp>,
    pub client_token: Option<String>,
    /// How EC2 says that it was bought (`InstanceLifecycle`, `CapacityReservationId`, `CapacityBlockId`).
    pub bought: Bought,
    pub tags: BTreeMap<String, String>,
    /// What RunPod shows of it: uptime, ports and cost have no place above. `None` is EC2.
    pub runpod: Option<Box<runpod::Sighting>>,
}

/// What EC2 says of an instance's market.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bought {
    pub lifecycle: Lifecycle,
    /// The reservation that it runs in now.
    pub reservation_id: Option<String>,
    pub block_id: Option<String>,
}

/// EC2's `InstanceLifecycle`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifecycle {
    /// The field is absent: on demand, in an On-Demand Capacity Reservation or not.
    #[default]
    OnDemand,
    Spot,
    CapacityBlock,
    InterruptibleReservation,
    /// A word that EC2 added since.
    Other,
}

impl Instance {
    /// UID of the pod it was launched for.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&str> {
        self.tags.get(TAG_POD_UID).map(String::as_str)
    }
}

/// EC2's instance states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
}

impl InstanceState {
    /// Whether containers may still run there, now or later (a stopped machine can be started again).
    #[must_use]
    pub fn may_run(self) -> bool {
        !matches!(self, Self::ShuttingDown | Self::Terminated)
    }
}

/// EC2's `StateReason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateReason {
    pub code: String,
    pub message: String,
}

/// Whether the cloud answers, as whoever talks to it last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CloudHealth {
    /// It was not asked yet.
    #[default]
    Unknown,
    Reachable,
    Unreachable {
        /// One word in UpperCamelCase, such as `AccessDenied`.
        reason: &'static str,
        message: String,
    },
}

/// What a cloud answered instead of doing it; variants say what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// Nothing of that kind to be had there now: next candidate.
    #[error("no capacity ({code}): {message}")]
    NoCapacity { code: String, message: String },
    /// A quota of the account: wait, tell the operator.
    #[error("quota reached ({code}): {message}")]
    Quota { code: String, message: String },
    /// Slow down; the same call again.
    #[error("throttled ({code}): {message}")]
    Throttled { code: String, message: String },
    /// Credentials or permissions: no launch will work until a person acts.
    #[error("access denied ({code}): {message}")]
    Denied { code: String, message: String },
    /// The named thing does not exist.
    #[error("not found ({code}): {message}")]
    NotFound { code: String, message: String },
    /// The request can never work as it is: configuration or pod.
    #[error("refused ({code}): {message}")]
    Invalid { code: String, message: String },
    /// This token was used with another request: look the instance up, else next epoch.
    #[error("launch token already used with other parameters: {message}")]
    TokenMismatch { message: String },
    /// The instance this token launched is terminated: next epoch.
    #[error("launch token belongs to a terminated instance: {message}")]
    TokenSpent { message: String },
    /// Nobody knows whether it happened: the same call again.
    #[error("no definite answer ({code}): {message}")]
    Transient { code: String, message: String },
}

impl CloudError {
    /// The cloud's own code, or one of ours in the same style where nothing was answered.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::NoCapacity { code, .. }
            | Self::Quota { code, .. }
            | Self::Throttled { code, .. }
            | Self::Denied { code, .. }
            | Self::NotFound { code, .. }
            | Self::Invalid { code, .. }
            | Self::Transient { code, .. } => code,
            Self::TokenMismatch { .. } => "IdempotentParameterMismatch",
            Self::TokenSpent { .. } => "IdempotentInstanceTerminated",
        }
    }

    /// The cloud's own words.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::NoCapacity { message, .. }
            | Self::Quota { message, .. }
            | Self::Throttled { message, .. }
            | Self::Denied { message, .. }
            | Self::NotFound { message, .. }
            | Self::Invalid { message, .. }
            | Self::TokenMismatch { message }
            | Self::TokenSpent { message }
            | Self::Transient { message, .. } => message,
        }
    }

    /// A bounded name for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoCapacity { .. } => "no_capacity",
            Self::Quota { .. } => "quota",
            Self::Throttled { .. } => "throttled",
            Self::Denied { .. } => "denied",
            Self::NotFound { .. } => "not_found",
            Self::Invalid { .. } => "invalid",
            Self::TokenMismatch { .. } => "token_mismatch",
            Self::TokenSpent { .. } => "token_spent",
            Self::Transient { .. } => "transient",
        }
    }
}

/// Instances for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::{Bought, Instance, InstanceState};

    /// One of which nothing else is known.
    pub(crate) fn mk_instance(id: &str, state: InstanceState) -> Instance {
        Instance {
            id: id.to_owned(),
            state,
            state_reason: None,
            instance_type: String::new(),
            image_id: String::new(),
            zone: String::new(),
            subnet_id: String::new(),
            private_ip: None,
            pod_ip: None,
            launched_at: None,
            client_token: None,
            bought: Bought::default(),
            tags: std::collections::BTreeMap::new(),
            runpod: None,
        }
    }
}
