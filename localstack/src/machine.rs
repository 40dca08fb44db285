//! The port to machines: what an instance is made of.

pub mod agent;
pub(crate) mod cgroup;
pub(crate) mod command;
pub(crate) mod host;
pub mod imds;
pub(crate) mod namespace;
mod network;
pub mod none;
pub mod nspawn;
mod way_out;

use std::io;
use std::net::Ipv4Addr;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::broadcast;

pub use crate::world::notices::Notices;

/// Boots and ends machines. Instances of a local cloud without machines are states only.
#[async_trait]
pub trait Machines: Send + Sync + std::fmt::Debug {
    /// Boots a machine. Returns when it has been started, not when it is up.
    async fn boot(&self, spec: MachineSpec) -> anyhow::Result<()>;

    /// Asks the machine to shut down (as the hypervisor's ACPI button does). [`MachineEvent::PoweredOff`] follows.
    async fn shut_down(&self, id: &str);

    /// Cuts its power and removes every trace: processes, mounts, network devices, cgroups, files. Idempotent.
    async fn destroy(&self, id: &str);

    /// Cuts its power and boots it again with its disk as it was.
    async fn power_cycle(&self, id: &str) -> anyhow::Result<()>;

    /// Stops or continues all of its processes.
    async fn freeze(&self, id: &str, state: Freeze) -> anyhow::Result<()>;

    /// What it wrote to its console so far.
    fn console(&self, id: &str) -> String;

    /// Whether an SSM agent in it would have connected by now.
    fn agent_online(&self, id: &str) -> bool;

    /// A TCP connection made from inside the machine's network namespace to `127.0.0.1:port` there,
    /// as the SSM agent would make it. Refusals are [`io::ErrorKind::ConnectionRefused`].
    async fn dial(&self, id: &str, port: u16) -> io::Result<UnixStream>;

    /// Tells a machine through its metadata what EC2 has announced to it, all of it.
    fn notify(&self, id: &str, notices: Notices);

    /// What happens to machines without being asked for.
    fn events(&self) -> broadcast::Receiver<MachineEvent>;
}

/// Frozen or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    Frozen,
    Thawed,
}

/// What happens to machines without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// `poweroff` inside, or the end of [`Machines::shut_down`]: its processes are gone, its files are not yet.
    PoweredOff { id: String },
    /// It could not be booted.
    Failed { id: String, message: String },
}

/// Everything that a machine is booted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// `i-` and 17 hexadecimal digits.
    pub id: String,
    pub instance_type: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    /// NVIDIA GPUs that its `nvidia-smi` shows.
    pub gpus: u32,
    pub gpu_model: String,
    pub image_id: String,
    pub region: String,
    pub zone: String,
    pub zone_id: String,
    pub account: String,
    pub private_ip: Ipv4Addr,
    pub secondary_ips: Vec<Ipv4Addr>,
    pub subnet_id: String,
    /// Network address and prefix length, such as `10.88.1.0/24`.
    pub subnet_cidr: (Ipv4Addr, u8),
    pub vpc_cidr: (Ipv4Addr, u8),
    pub mac: String,
    pub security_group_ids: Vec<String>,
    /// As it was decoded from the request.
    pub user_data: Vec<u8>,
    /// Name of the role behind the instance profile.
    pub role: Option<String>,
    pub imds: ImdsOptions,
    /// How it was bought, such as `on-demand` or `spot`.
    pub life_cycle: &'static str,
}

/// `MetadataOptions` of the launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImdsOptions {
    /// `HttpTokens=required`.
    pub tokens_required: bool,
    /// `HttpPutResponseHopLimit`.
    pub hop_limit: u8,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine of the default VPC.
    pub(crate) fn mk_spec() -> MachineSpec {
        MachineSpec {
            id: "i-0123456789abcdef0".into(),
            instance_type: "g5.xlarge".into(),
            vcpus: 4,
            memory_mib: 16384,
            gpus: 1,
            gpu_model: "A10G".into(),
            image_id: "ami-0123456789abcdef0".into(),
            region: "us-east-1".into(),
            zone: "us-east-1a".into(),
            zone_id: "use1-az1".into(),
            account: "123456789012".into(),
            private_ip: Ipv4Addr::new(10, 88, 1, 10),
            secondary_ips: vec![Ipv4Addr::new(10, 88, 1, 11)],
            subnet_id: "subnet-0123456789abcdef0".into(),
            subnet_cidr: (Ipv4Addr::new(10, 88, 1, 0), 24),
            vpc_cidr: (Ipv4Addr::new(10, 88, 0, 0), 16),
            mac: "0a:00:0a:58:01:0a".into(),
            security_group_ids: vec!["sg-0123456789abcdef0".into()],
            user_data: b"#cloud-boothook\n".to_vec(),
            role: Some("node".into()),
            imds: ImdsOptions { tokens_required: true, hop_limit: 1 },
            life_cycle: "on-demand",
        }
    }
}
