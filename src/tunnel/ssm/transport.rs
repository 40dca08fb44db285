//! Sessions as streams.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::super::{ByteStream, Target, Transport, TunnelError};
use super::channel::Limits;
use super::session::Service;
use super::task::{Order, run};
use crate::leader::Fence;

/// What the contract of [`Transport::open`] allows.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// Between the stream and its session's task.
const PIPE: usize = 64 * 1024;

/// How sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SsmOptions {
    /// How long a session may be without a good connection before its stream is lost.
    pub resume_deadline: Duration,
}

impl Default for SsmOptions {
    fn default() -> Self {
        Self { resume_deadline: Duration::from_secs(300) }
    }
}

/// Streams through SSM port sessions, one session each.
#[derive(Debug)]
pub struct SsmTransport {
    service: Arc<Service>,
    options: SsmOptions,
    tasks: Arc<Tasks>,
}

/// The tasks of all sessions; they end with the transport and the last of its streams.
#[derive(Debug, Default)]
struct Tasks(Mutex<JoinSet<()>>);

impl SsmTransport {
    /// The same, which begins and ends no session while the fence is closed.
    #[must_use]
    pub fn behind(self, fence: &Fence) -> Self {
        Self { service: Arc::new(self.service.behind(fence)), ..self }
    }

    /// A transport with the credentials, region and endpoint of `sdk`. The stream URL that the service names is used
    /// as it is; it must be `wss://` unless `sdk` has an endpoint of its own.
    #[must_use]
    pub fn new(sdk: &SdkConfig, options: SsmOptions) -> Self {
        Self { service: Arc::new(Service::new(sdk)), options, tasks: Arc::default() }
    }

    /// Waits until the sessions of all dropped streams are ended with the service, and cuts the others at `deadline`.
    pub async fn shutdown(&self, deadline: Duration) {
        let mut tasks = std::mem::take(&mut *self.tasks.0.lock().unwrap_or_else(PoisonError::into_inner));
        let until = Instant::now() + deadline;
        while let Ok(Some(_)) = timeout_at(until, tasks.join_next()).await {}
    }
}

#[async_trait]
impl Transport for SsmTransport {
    async fn open(&self, target: &Target) -> Result<ByteStream, TunnelError> {
        let until = Instant::now() + OPEN_DEADLINE;
        let (pipe, local) = tokio::io::duplex(PIPE);
        let (ready, readied) = oneshot::channel();
        let (held, gone) = oneshot::channel();
        let fate = Arc::default();
        self.tasks.spawn(run(Order {
            service: Arc::clone(&self.service),
            target: target.clone(),
            until,
            resume_deadline: self.options.resume_deadline,
            limits: Limits::default(),
            local,
            ready,
            gone,
            fate: Arc::clone(&fate),
        }));
        let stream = SsmStream { pipe, fate, _held: held, _tasks: Arc::clone(&self.tasks) };
        match timeout_at(until, readied).await {
            Ok(Ok(Ok(()))) => Ok(Box::new(stream)),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(TunnelError::Lost("the transport was shut down".to_owned())),
            Err(_) => Err(TunnelError::Timeout(OPEN_DEADLINE, "opening an SSM session")),
        }
    }
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// The end of a session that is handed out.
struct SsmStream {
    pipe: DuplexStream,
    fate: Arc<OnceLock<String>>,
    /// Its drop tells the session's task.
    _held: oneshot::Sender<()>,
    _tasks: Arc<Tasks>,
}

impl SsmStream {
    fn broken(&self, kind: io::ErrorKind) -> Option<io::Error> {
        self.fate.get().map(|why| io::Error::new(kind, why.clone()))
    }
}

impl AsyncRead for SsmStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        match self.broken(io::ErrorKind::ConnectionReset) {
            Some(error) if buf.filled().len() == before && buf.remaining() > 0 => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for SsmStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write(cx, buf));
        Poll::Ready(written.map_err(|error| self.broken(io::ErrorKind::BrokenPipe).unwrap_or(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    /// Ends the session once everything written has arrived: a port session cannot be half-closed.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
