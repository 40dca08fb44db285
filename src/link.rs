//! The live link to one machine: dial, pin the host key, bootstrap, forward the gateway, watch its health.
//!
//! One task per machine. The controller says which machines should have a link and reads their state;
//! the endpoint asks for streams to a machine's kubelet. Nothing here decides about pods or instances.

mod backoff;
mod bootstrap;
mod forward;
mod health;
mod live;
mod metrics;
mod notice;
mod pin;
mod pool;
mod sessions;
mod side;
mod task;
#[cfg(test)]
mod tests;
mod wire;

pub use live::{LinkDeps, LinkSettings, LiveLinks};
pub use metrics::Metrics;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::capacity::world::Usable;
use crate::cloud::{Gpus, InstanceType, Lifecycle};
use crate::guest::Notice;
use crate::tunnel::{ByteStream, TunnelError};

/// A machine and the pod it was launched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub pod_uid: String,
    pub pod_namespace: String,
    pub pod_name: String,
    pub instance_id: String,
    pub instance_type: InstanceType,
    pub private_ip: IpAddr,
    /// The secondary private address, the pod's.
    pub pod_ip: IpAddr,
    /// Prefix length of the subnet.
    pub subnet_bits: u8,
    /// The pinned host key (tag `orca.research/host-key`), once there is one.
    pub host_key: Option<String>,
    /// Spot machines are asked whether they are about to be taken away.
    pub lifecycle: Lifecycle,
    /// The pod's `terminationGracePeriodSeconds`: how long a shutdown of the machine waits for its containers.
    pub grace: Duration,
}

impl Machine {
    /// Its GPUs, if they are NVIDIA's.
    #[must_use]
    pub fn nvidia(&self) -> Option<&Gpus> {
        self.instance_type.gpus.as_ref().filter(|gpus| gpus.manufacturer.eq_ignore_ascii_case("nvidia"))
    }
}

/// Where a link stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// No stream to the machine's sshd yet, or none again. Here and in the next, `since` is the end of the last
    /// attachment, or the link's beginning.
    Dialing { since: Timestamp, error: Option<String>, was_attached: bool },
    /// SSH is up, files are going over; `step` names what is being waited for.
    Bootstrapping { since: Timestamp, step: &'static str },
    /// The kubelet runs and talks to the gateway: it was shown its pod, or told that it is gone.
    Attached { since: Timestamp, boot_id: String },
    /// This can never work (wrong host key, an image without a kubelet); the machine must be replaced.
    Broken { since: Timestamp, error: String },
}

/// Whether machines can be reached at all: whether the service that carries the links gives sessions to anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// No service stands between.
    Off,
    /// It was not asked yet.
    #[default]
    Unknown,
    Works,
    /// It refuses everybody, or is away: all links wait.
    Fails {
        /// One word in UpperCamelCase, such as `AccessDenied`.
        reason: &'static str,
        message: String,
        probe: Prober,
    },
}

/// Who finds out that machines can be reached again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prober {
    /// A link that is down: one of them tries now and then.
    Links,
    /// The next machine that is launched: no link is down, or one machine alone was refused, whose own fault it may be.
    NextMachine,
}

/// What the controller sees of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    pub instance_id: String,
    pub state: LinkState,
    /// Whether the gateway ever showed the pod to this machine's kubelet.
    pub shown: bool,
    /// When the machine was first reachable by SSH.
    pub reached: Option<Timestamp>,
    /// When the machine's kubelet first listed its pod.
    pub attached: Option<Timestamp>,
    /// The cloud's notice that it takes the machine away.
    pub notice: Option<Notice>,
    /// What the machine's kubelet would give to pods, once it has said so.
    pub usable: Option<Usable>,
    /// Whether the machine's type has GPUs of NVIDIA's.
    pub has_nvidia: bool,
}

impl LinkStatus {
    /// Whether there is contact with the machine's kubelet.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        match self.state {
            LinkState::Attached { .. } => true,
            LinkState::Dialing { .. } | LinkState::Bootstrapping { .. } | LinkState::Broken { .. } => false,
        }
    }
}

/// The links of all machines.
#[async_trait]
pub trait Links: Send + Sync + std::fmt::Debug {
    /// Makes sure that there is a link to this machine. Idempotent; another instance for the same pod replaces
    /// the link.
    fn ensure(&self, machine: Machine);

    /// Where the link of that pod's machine stands; `None` if there is none.
    fn status(&self, pod_uid: &str) -> Option<LinkStatus>;

    /// From now on the gateway answers this machine with 403 and never shows it its pod (again); what runs there
    /// goes on. For a machine that is given up: it must not start a pod that is about to go. Answers whether it was
    /// shown its pod before.
    fn revoke(&self, pod_uid: &str) -> bool;

    /// Switches the machine off as soon as it can be told: its kubelet ends the pod in good order before.
    fn shut_down(&self, pod_uid: &str);

    /// Whether the machine is given up or being switched off: nothing new begins there.
    fn is_ending(&self, pod_uid: &str) -> bool;

    /// Ends the link and forgets it.
    fn remove(&self, pod_uid: &str);

    /// UIDs of all links.
    fn uids(&self) -> Vec<String>;

    /// Namespace and name of the pod that there is a link for.
    fn pod(&self, pod_uid: &str) -> Option<(String, String)>;

    /// Whether machines can be reached at all, with changes.
    fn reach(&self) -> watch::Receiver<Reach> {
        watch::Sender::new(Reach::Off).subscribe()
    }

    /// Told whenever some link's status changed: the pod's UID.
    fn subscribe(&self) -> tokio::sync::broadcast::Receiver<String>;

    /// A new stream to 127.0.0.1:10250 on the machine (the kubelet, TLS not yet begun), on a connection
    /// for user streams. Fails within `deadline`.
    async fn kubelet_stream(&self, pod_uid: &str, deadline: Duration) -> Result<ByteStream, TunnelError>;

    /// Begins a command on the machine, as root: what is written is its standard input, what is read its standard
    /// output. On the machine's side connection, whose streams must all be read at once: only for callers that do so
    /// whatever happens. Fails within `deadline`; the stream fails when the connection does.
    async fn command(
        &self,
        pod_uid: &str,
        command: &str,
        deadline: Duration,
    ) -> Result<ByteStream, TunnelError>;

    /// As [`Links::kubelet_stream`], but on the side connection, as [`Links::command`].
    async fn scrape_stream(&self, pod_uid: &str, deadline: Duration) -> Result<ByteStream, TunnelError>;

    /// Client TLS configuration that this machine's kubelet accepts and is verified with.
    fn kubelet_tls(&self, pod_uid: &str) -> Option<Arc<rustls::ClientConfig>>;
}
