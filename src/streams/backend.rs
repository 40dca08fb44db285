//! Port: what runs a client's commands and reaches a pod's ports.

use std::fmt;
use std::num::NonZeroU16;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use super::resize::TerminalSize;
use crate::tunnel::ByteStream;

/// What a client writes to a command.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;
/// What a command writes to a client.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// One container, as one upgraded connection sees it: made for that connection, and dropped with it.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// Runs a command to its end, with these streams: its exit code, 128 and the signal's number when a signal ended it.
    /// All its output is written before this returns. When the session is gone, the process is ended (as by a terminal
    /// that is hung up), and this returns soon, with whatever; when it is dropped, nothing may be left of it here.
    async fn exec(&self, command: &[String], session: Session) -> Result<u8, BackendError>;

    /// Joins what the container runs, as [`Backend::exec`]; when the session is gone, that goes on.
    async fn attach(&self, session: Session) -> Result<u8, BackendError>;

    /// Connects to that port of the pod, on its own loopback. Shutting it down half-closes it.
    async fn forward(&self, port: NonZeroU16) -> Result<ByteStream, BackendError>;
}

/// The client's side of a command.
pub struct Session {
    /// Ends when the client closes its standard input, and fails when the client is gone: half of it is not all of it.
    /// Dropped as soon as nobody reads it any more, it tells the client so. `None`: the command gets none.
    pub stdin: Option<Input>,
    /// `None`: nobody hears it. Writing fails when nobody hears it any more.
    pub stdout: Option<Output>,
    /// As `stdout`; always `None` with a terminal.
    pub stderr: Option<Output>,
    /// The command gets a terminal.
    pub terminal: Option<Terminal>,
    /// The client has gone, or must be let go.
    pub gone: CancellationToken,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .field("terminal", &self.terminal)
            .field("gone", &self.gone.is_cancelled())
            .finish()
    }
}

/// The client's terminal.
#[derive(Clone, Debug)]
pub struct Terminal {
    sizes: watch::Receiver<Option<TerminalSize>>,
}

impl Terminal {
    /// A terminal, and where its sizes are told.
    #[must_use]
    pub fn new() -> (watch::Sender<Option<TerminalSize>>, Self) {
        let (sender, sizes) = watch::channel(None);
        (sender, Self { sizes })
    }

    /// Its size, once the client has told it; what was told is not a change any more.
    pub fn size(&mut self) -> Option<TerminalSize> {
        *self.sizes.borrow_and_update()
    }

    /// Its next size; the last one, when there were several meanwhile. `None` when none will come.
    pub async fn changed(&mut self) -> Option<TerminalSize> {
        loop {
            self.sizes.changed().await.ok()?;
            if let Some(size) = self.size() {
                return Some(size);
            }
        }
    }
}

/// Why a backend cannot do something; clients are told the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// Nothing was begun: the machine cannot be reached now.
    #[error("the machine cannot be reached now: {0}")]
    Unreachable(String),
    /// It was reached, and does not do this.
    #[error("{0}")]
    Refused(String),
    /// It was begun, and how it ends is not known.
    #[error("the connection to the machine is lost: {0}")]
    Lost(String),
}
