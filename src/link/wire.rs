//! What a link needs of a connection to a machine, and how it gets one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::{Machine, Metrics};
use crate::guest::SSH_PORT;
use crate::tunnel::ssh::{Compression, ExecOutput, SshConnection, SshOptions};
use crate::tunnel::{ByteStream, Target, Transport, TunnelError};

/// For handshake and login; the transport has a deadline of its own before.
const LOGIN_DEADLINE: Duration = Duration::from_secs(15);

/// What a command reads from its standard input, in pieces.
pub(super) type Input = BoxStream<'static, Bytes>;

/// All of it in one piece.
pub(super) fn input(text: &'static str) -> Input {
    stream::iter((!text.is_empty()).then(|| Bytes::from_static(text.as_bytes()))).boxed()
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The kubelet's way to the gateway, and the machine's preparation.
    Control,
    /// One stream of a user.
    User,
    /// What ORCA itself reads in bulk: compressed.
    Side,
}

impl Purpose {
    /// The label's value.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::User => "user",
            Self::Side => "side",
        }
    }
}

/// Makes connections to machines.
#[async_trait]
pub(super) trait Dial: Send + Sync {
    /// A new connection to a machine that proves the key of `pin`, or any key where there is none.
    async fn dial(
        &self,
        machine: &Machine,
        pin: Option<String>,
        purpose: Purpose,
    ) -> Result<Arc<dyn Wire>, TunnelError>;
}

/// One connection to a machine; as [`SshConnection`].
#[async_trait]
pub(super) trait Wire: Send + Sync {
    fn host_key(&self) -> String;
    async fn exec(&self, command: &str, input: Input, deadline: Duration) -> Result<ExecOutput, TunnelError>;
    async fn begin(&self, command: &str, deadline: Duration) -> Result<ByteStream, TunnelError>;
    async fn open(&self, host: &str, port: u16, deadline: Duration) -> Result<ByteStream, TunnelError>;
    async fn listen(&self, address: &str, port: u16) -> Result<mpsc::Receiver<ByteStream>, TunnelError>;
    async fn closed(&self) -> String;
    fn is_open(&self) -> bool;
    async fn close(&self);
}

#[async_trait]
impl Wire for SshConnection {
    fn host_key(&self) -> String {
        Self::host_key(self)
    }

    async fn exec(&self, command: &str, input: Input, deadline: Duration) -> Result<ExecOutput, TunnelError> {
        self.exec_fed(command, input, deadline).await
    }

    async fn begin(&self, command: &str, deadline: Duration) -> Result<ByteStream, TunnelError> {
        Self::begin(self, command, deadline).await
    }

    async fn open(&self, host: &str, port: u16, deadline: Duration) -> Result<ByteStream, TunnelError> {
        Self::open(self, host, port, deadline).await
    }

    async fn listen(&self, address: &str, port: u16) -> Result<mpsc::Receiver<ByteStream>, TunnelError> {
        Self::listen(self, address, port).await
    }

    async fn closed(&self) -> String {
        Self::closed(self).await
    }

    fn is_open(&self) -> bool {
        Self::is_open(self)
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}

/// SSH over a transport.
pub(super) struct SshDial {
    pub(super) transport: Arc<dyn Transport>,
    /// OpenSSH private key, PEM.
    pub(super) private_key: String,
    pub(super) metrics: Metrics,
}

#[async_trait]
impl Dial for SshDial {
    async fn dial(
        &self,
        machine: &Machine,
        pin: Option<String>,
        purpose: Purpose,
    ) -> Result<Arc<dyn Wire>, TunnelError> {
        let dialed = self.connect(machine, pin, purpose).await;
        self.metrics.dialed(purpose, &dialed);
        Ok(Arc::new(dialed?))
    }
}

impl SshDial {
    async fn connect(
        &self,
        machine: &Machine,
        pin: Option<String>,
        purpose: Purpose,
    ) -> Result<SshConnection, TunnelError> {
        let target = Target {
            instance_id: machine.instance_id.clone(),
            private_ip: Some(machine.private_ip),
            port: SSH_PORT,
        };
        let stream = self.metrics.count(purpose, self.transport.open(&target).await?);
        let options = SshOptions {
            private_key: self.private_key.clone(),
            host_key: pin,
            compression: match purpose {
                Purpose::Control | Purpose::User => Compression::Off,
                Purpose::Side => Compression::Zlib,
            },
        };
        SshConnection::connect(stream, &options, LOGIN_DEADLINE).await
    }
}
