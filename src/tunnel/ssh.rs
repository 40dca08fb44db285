//! SSH over any byte stream: exec, forwarded streams, a pinned host key.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{ByteStream, TunnelError};

/// How a connection is made.
#[derive(Clone)]
pub struct SshOptions {
    /// OpenSSH private key (ed25519), PEM.
    pub private_key: String,
    /// The expected host key (`ssh-ed25519 AAAA…`); `None` accepts the first one, to be read from
    /// [`SshConnection::host_key`] and pinned before anything secret is sent.
    pub host_key: Option<String>,
    pub compression: Compression,
}

/// Whether the connection is compressed: worth it for logs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Off,
    Zlib,
}

/// One SSH connection to a machine. Dropping it ends it.
#[derive(Clone)]
pub struct SshConnection {
    _inner: Arc<Mutex<()>>,
}

/// What a command left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// `None`: ended by a signal, or the connection broke first.
    pub code: Option<u32>,
}

impl SshConnection {
    /// Handshake and public-key login as root, within `deadline`.
    pub async fn connect(
        _stream: ByteStream,
        _options: &SshOptions,
        _deadline: Duration,
    ) -> Result<Self, TunnelError> {
        Err(TunnelError::NotYet("to be written".to_owned()))
    }

    /// The host key that the server proved (`ssh-ed25519 AAAA…`, without comment).
    #[must_use]
    pub fn host_key(&self) -> String {
        String::new()
    }

    /// Runs a command with `stdin` to its end, within `deadline`; output beyond 1 MiB is cut.
    pub async fn exec(
        &self,
        _command: &str,
        _stdin: &[u8],
        _deadline: Duration,
    ) -> Result<ExecOutput, TunnelError> {
        Err(TunnelError::NotYet("to be written".to_owned()))
    }

    /// A stream to `host:port` as seen from the machine (`direct-tcpip`).
    pub async fn open(
        &self,
        _host: &str,
        _port: u16,
        _deadline: Duration,
    ) -> Result<ByteStream, TunnelError> {
        Err(TunnelError::NotYet("to be written".to_owned()))
    }

    /// Asks the machine to listen on `address:port` and hand over what connects there.
    pub async fn listen(
        &self,
        _address: &str,
        _port: u16,
    ) -> Result<mpsc::Receiver<ByteStream>, TunnelError> {
        Err(TunnelError::NotYet("to be written".to_owned()))
    }

    /// Resolves when the connection has ended, with the reason.
    pub async fn closed(&self) -> String {
        String::new()
    }

    /// Whether it still stands.
    #[must_use]
    pub fn is_open(&self) -> bool {
        false
    }

    /// Says goodbye and ends it.
    pub async fn close(&self) {}
}
