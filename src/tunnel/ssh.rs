//! SSH over any byte stream: exec, forwarded streams, a pinned host key.
//!
//! russh gives its window back on receipt, not on consumption, and stops reading the connection when a channel holds
//! 100 unread messages: every stream of a connection must be read, or have a connection of its own.

mod client;
mod cut;
mod exec;
mod process;
mod stream;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use russh::client::{AuthResult, Handle, connect_stream};
use russh::keys::{PrivateKeyWithHashAlg, decode_secret_key};
use russh::{ChannelOpenFailure, Disconnect};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::client::{Client, Shared, config};
use self::cut::{Cut, cuttable};
pub use self::process::{Process, ProcessInput, ProcessOutput, Said};
use self::stream::SshStream;
use super::{ByteStream, TunnelError};

/// The machine's account; its sshd takes our key for no other.
const USER: &str = "root";
/// For sshd to begin to listen.
const LISTEN_DEADLINE: Duration = Duration::from_secs(10);
/// For a farewell to be sent, and again for the connection to end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// Forwarded streams that may wait to be taken; more are refused.
const LISTEN_BACKLOG: usize = 16;

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

impl fmt::Debug for SshOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshOptions")
            .field("host_key", &self.host_key)
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}

/// Whether the connection is compressed: worth it for logs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Off,
    Zlib,
}

/// One SSH connection to a machine. Dropping the last clone ends it, and the streams opened through it.
#[derive(Clone)]
pub struct SshConnection {
    inner: Arc<Inner>,
}

struct Inner {
    handle: Arc<Handle<Client>>,
    shared: Arc<Shared>,
    /// Openings and commands under way; a caller that stops waiting must not leave a channel behind.
    tasks: Mutex<JoinSet<()>>,
    /// Ends russh's own task when dropped.
    cut: Cut,
}

impl fmt::Debug for SshConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshConnection").field("open", &self.is_open()).finish_non_exhaustive()
    }
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
    ///
    /// # Errors
    /// [`TunnelError::HostKey`] when another key is proved than the pinned one, [`TunnelError::Denied`] when our key
    /// is not taken, [`TunnelError::Timeout`], and [`TunnelError::Lost`] for the rest.
    pub async fn connect(
        stream: ByteStream,
        options: &SshOptions,
        deadline: Duration,
    ) -> Result<Self, TunnelError> {
        let key = decode_secret_key(&options.private_key, None)
            .map_err(|error| TunnelError::Denied(format!("SSH private key: {error}")))?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let shared = Arc::new(Shared::new(options.host_key.clone()));
        // Dropped on every way out but the last, and russh's task ends with it.
        let (stream, cut) = cuttable(stream);
        let login = async {
            let client = Client::new(Arc::clone(&shared));
            let mut handle = connect_stream(config(options.compression), stream, client).await?;
            let result = handle.authenticate_publickey(USER, key).await?;
            Ok::<_, russh::Error>((handle, result))
        };
        let (handle, result) = timeout(deadline, login)
            .await
            .map_err(|_| TunnelError::Timeout(deadline, "logging in by SSH"))?
            .map_err(|error| shared.explain(error))?;
        match result {
            AuthResult::Success => {}
            // russh reports a connection that broke meanwhile as a failure too.
            AuthResult::Failure { .. } if handle.is_closed() => {
                return Err(TunnelError::Lost("the connection ended during the login".to_owned()));
            }
            AuthResult::Failure { .. } => {
                return Err(TunnelError::Denied(format!("sshd does not accept our key for `{USER}`")));
            }
        }
        let inner = Inner { handle: Arc::new(handle), shared, tasks: Mutex::default(), cut };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The host key that the server proved (`ssh-ed25519 AAAA…`, without comment).
    #[must_use]
    pub fn host_key(&self) -> String {
        self.inner.shared.host_key()
    }

    /// Runs a command with `stdin` to its end, within `deadline`; output beyond 1 MiB is cut.
    ///
    /// # Errors
    /// When it could not be started, or did not end in time; it is then told that nobody listens any more.
    pub async fn exec(
        &self,
        command: &str,
        stdin: &[u8],
        deadline: Duration,
    ) -> Result<ExecOutput, TunnelError> {
        let stdin = Bytes::copy_from_slice(stdin);
        self.exec_fed(command, futures::stream::iter([stdin]).boxed(), deadline).await
    }

    /// [`SshConnection::exec`] with a standard input that comes in pieces, which are not copied.
    ///
    /// # Errors
    /// As there.
    pub async fn exec_fed(
        &self,
        command: &str,
        stdin: BoxStream<'static, Bytes>,
        deadline: Duration,
    ) -> Result<ExecOutput, TunnelError> {
        let handle = Arc::clone(&self.inner.handle);
        let command = command.to_owned();
        let (answer, result) = oneshot::channel();
        self.inner.spawn(async move {
            match handle.channel_open_session().await {
                Ok(channel) => exec::run(channel, command, stdin, answer).await,
                Err(error) => exec::tell(answer, Err(open_error("a session", &error))),
            }
        });
        wait(deadline, "running a command", result).await
    }

    /// Begins a command: what is written is its standard input, what is read its standard output, and its end the end
    /// of that. Standard error is dropped.
    ///
    /// # Errors
    /// When it could not be begun within `deadline`.
    pub async fn begin(&self, command: &str, deadline: Duration) -> Result<ByteStream, TunnelError> {
        let handle = Arc::clone(&self.inner.handle);
        let shared = Arc::clone(&self.inner.shared);
        let command = command.to_owned();
        let (answer, result) = oneshot::channel();
        self.inner.spawn(async move {
            let begun = async {
                let channel =
                    handle.channel_open_session().await.map_err(|error| open_error("a session", &error))?;
                exec::begin(&channel, command).await?;
                Ok::<ByteStream, _>(Box::new(SshStream::new(channel.into_stream(), &shared)))
            };
            drop(answer.send(begun.await));
        });
        wait(deadline, "beginning a command", result).await
    }

    /// Begins a command with all its streams; `terminal` is the size (columns, rows) of one that it gets. It ends with the
    /// connection, which nothing else should use: what a process says holds everything up until it is read.
    ///
    /// # Errors
    /// When it could not be begun within `deadline`; [`TunnelError::Denied`] when sshd refuses.
    pub async fn start(
        &self,
        command: &str,
        terminal: Option<(u16, u16)>,
        deadline: Duration,
    ) -> Result<Process, TunnelError> {
        let handle = Arc::clone(&self.inner.handle);
        let command = command.to_owned();
        let (answer, result) = oneshot::channel();
        self.inner.spawn(async move {
            let started = match handle.channel_open_session().await {
                Ok(channel) => process::start(channel, command, terminal).await,
                Err(error) => Err(open_error("a session", &error)),
            };
            drop(answer.send(started));
        });
        wait(deadline, "beginning a command", result).await
    }

    /// A stream to `host:port` as seen from the machine (`direct-tcpip`).
    ///
    /// # Errors
    /// [`TunnelError::NotYet`] when nothing listens there, [`TunnelError::Denied`] when sshd does not permit it.
    pub async fn open(&self, host: &str, port: u16, deadline: Duration) -> Result<ByteStream, TunnelError> {
        let handle = Arc::clone(&self.inner.handle);
        let shared = Arc::clone(&self.inner.shared);
        let host = host.to_owned();
        let (answer, result) = oneshot::channel();
        self.inner.spawn(async move {
            let opened = handle.channel_open_direct_tcpip(host.as_str(), port.into(), "127.0.0.1", 0).await;
            let stream = opened
                .map(|channel| -> ByteStream { Box::new(SshStream::new(channel.into_stream(), &shared)) })
                .map_err(|error| open_error(&format!("{host}:{port}"), &error));
            // A stream that nobody waits for any more is dropped, and its channel closed.
            drop(answer.send(stream));
        });
        wait(deadline, "opening a stream on the machine", result).await
    }

    /// Asks the machine to listen on `address:port` and hand over what connects there. Listening ends with the
    /// connection; while the receiver is full or dropped, what connects is refused.
    ///
    /// # Errors
    /// [`TunnelError::NotYet`] when sshd refuses: it does not say whether it must not, or whether an earlier
    /// connection still holds the port.
    pub async fn listen(&self, address: &str, port: u16) -> Result<mpsc::Receiver<ByteStream>, TunnelError> {
        let (sender, receiver) = mpsc::channel(LISTEN_BACKLOG);
        let place = (address.to_owned(), port);
        let handle = &self.inner.handle;
        if self.inner.shared.listeners().insert(place.clone(), sender).is_some() {
            // An earlier call's; sshd would refuse the same address twice. It may have ended it already.
            let ended = timeout(LISTEN_DEADLINE, handle.cancel_tcpip_forward(address, port.into())).await;
            tracing::debug!(?ended, address, port, "listening again");
        }
        let refused = match timeout(LISTEN_DEADLINE, handle.tcpip_forward(address, port.into())).await {
            Ok(Ok(_)) => return Ok(receiver),
            Ok(Err(russh::Error::RequestDenied)) => TunnelError::NotYet(format!(
                "sshd does not listen on `{address}:{port}`: not permitted, or in use"
            )),
            Ok(Err(error)) => TunnelError::Lost(error.to_string()),
            Err(_) => TunnelError::Timeout(LISTEN_DEADLINE, "asking sshd to listen"),
        };
        self.inner.shared.listeners().remove(&place);
        Err(refused)
    }

    /// Resolves when the connection has ended, with the reason.
    pub async fn closed(&self) -> String {
        self.inner.shared.closed().await
    }

    /// Whether it still stands.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner.shared.is_open()
    }

    /// Says goodbye and ends it.
    pub async fn close(&self) {
        self.inner.shared.close("closed by us");
        let goodbye = self.inner.handle.disconnect(Disconnect::ByApplication, "", "en");
        if !matches!(timeout(CLOSE_DEADLINE, goodbye).await, Ok(Ok(()))) {
            tracing::debug!("no goodbye was said to sshd");
        }
        self.inner.cut.after(CLOSE_DEADLINE).await;
    }
}

impl Inner {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close("closed by us");
    }
}

async fn wait<T>(
    deadline: Duration,
    what: &'static str,
    result: oneshot::Receiver<Result<T, TunnelError>>,
) -> Result<T, TunnelError> {
    match timeout(deadline, result).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(TunnelError::Lost("the connection was dropped".to_owned())),
        Err(_) => Err(TunnelError::Timeout(deadline, what)),
    }
}

fn open_error(what: &str, error: &russh::Error) -> TunnelError {
    let text = format!("{what}: {error}");
    match error {
        russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => {
            TunnelError::Denied(text)
        }
        russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed) => TunnelError::NotYet(text),
        russh::Error::ChannelOpenFailure(ChannelOpenFailure::ResourceShortage) => {
            TunnelError::Throttled(text)
        }
        _ => TunnelError::Lost(text),
    }
}
