//! Byte streams to a machine: SSM or TCP below, SSH on top.
//!
//! A [`Transport`] gives one ordered byte stream to the sshd on a machine; everything else is SSH on it.

pub mod direct;
pub mod ssh;
pub mod ssm;

use std::net::IpAddr;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// An ordered, reliable stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
/// A boxed [`Stream`].
pub type ByteStream = Box<dyn Stream>;

/// Where to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub instance_id: String,
    pub private_ip: Option<IpAddr>,
    /// The port of our own sshd on the machine.
    pub port: u16,
}

/// Opens byte streams to machines.
#[async_trait]
pub trait Transport: Send + Sync + std::fmt::Debug {
    /// One new stream to `target`, or why not, within a deadline of its own (at most 30 s).
    async fn open(&self, target: &Target) -> Result<ByteStream, TunnelError>;
}

/// Why there is no stream; variants say what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The machine is not reachable yet: the agent has not connected, or nothing listens.
    #[error("not reachable yet: {0}")]
    NotYet(String),
    /// More at once than is opened from here, or than the machine takes.
    #[error("throttled: {0}")]
    Throttled(String),
    /// The machine does not permit it.
    #[error("access denied: {0}")]
    Denied(String),
    /// The service that carries streams gives none: that says nothing of the machine.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The other side is not the machine it claims to be.
    #[error("host key is `{found}`, expected `{pinned}`")]
    HostKey { found: String, pinned: String },
    /// A deadline passed.
    #[error("no answer within {0:?} while {1}")]
    Timeout(std::time::Duration, &'static str),
    /// The stream broke; dial again.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// Why the service that carries streams gives none; variants say who ends that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A person: it does not know who asks.
    #[error("credentials are not taken: {0}")]
    Credentials(String),
    /// A person: who asks is not permitted to.
    #[error("access denied: {0}")]
    Denied(String),
    /// Time: slow down.
    #[error("throttled: {0}")]
    Throttled(String),
    /// Its own people: it fails, or does not answer.
    #[error("service unavailable: {0}")]
    Unavailable(String),
}
