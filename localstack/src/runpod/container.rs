//! The port to containers: what a pod is made of. Pods of a local cloud without containers are states only.

pub mod linux;
pub mod none;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::mpsc;

use super::command::Command;
use super::log::Source;
use super::order::Port;

/// Lines and exits that wait to be taken in. A container that writes faster than that waits.
pub const EVENTS: usize = 1024;

/// Runs containers, one for a pod, under the pod's id.
#[async_trait]
pub trait Containers: Send + Sync + std::fmt::Debug {
    /// Fetches an image, so that a container of it can be started. Progress is told as lines of the system's.
    async fn pull(&self, id: &str, image: &str) -> anyhow::Result<()>;

    /// Starts the container, on the disk that it had or on a new one. Returns how its ports are reached.
    async fn start(&self, spec: ContainerSpec) -> anyhow::Result<Vec<Mapping>>;

    /// Ends the main process at once and by force, as a crash would; without containers it exits with `code`.
    async fn kill(&self, id: &str, run: u32, code: i32);

    /// Asks the main process to end, and ends everything by force when the time is over. It is down when this returns.
    async fn stop(&self, id: &str, grace: Duration);

    /// The same, and removes its disk and all else that it had. Idempotent.
    async fn remove(&self, id: &str, grace: Duration);

    /// A network volume, made or removed with all that is in it.
    async fn volume(&self, id: &str, state: VolumeState) -> anyhow::Result<()>;

    /// What happens to containers. There is one receiver: the first caller has it.
    fn events(&self) -> Option<mpsc::Receiver<ContainerEvent>>;

    /// Plays what a real container would have caused. False where containers are real.
    fn play(&self, event: ContainerEvent) -> bool;
}

/// Whether a volume is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeState {
    Present,
    Absent,
}

/// What happens to containers without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerEvent {
    /// It, or its host, wrote a line.
    Line { id: String, source: Source, text: String },
    /// Its main process is gone, and all others with it.
    Exited { id: String, run: u32, exit: Exit },
}

/// How a main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// Everything that a container is started from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Of the pod; also its host name.
    pub id: String,
    /// Counts the starts of the pod's container.
    pub run: u32,
    pub image: String,
    pub command: Command,
    /// What the pod adds to the image's; secrets are in it in clear.
    pub env: BTreeMap<String, String>,
    pub disk: Disk,
    pub mounts: Vec<(Mount, String)>,
    /// TCP ports to be reached from outside.
    pub ports: Vec<Port>,
    pub mapping: Remap,
}

/// Whether a container keeps the files that it wrote before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    Kept,
    Fresh,
}

/// Whether its ports stay reachable as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remap {
    Keep,
    Anew,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// The pod's own, which outlives its containers.
    Persistent,
    /// A network volume by its id.
    Volume(String),
}

/// A TCP port of a container, and where it is reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// As it was asked for.
    #[serde(skip)]
    pub port: Port,
    pub private: u16,
    pub public: u16,
    pub ip: Ipv4Addr,
}
