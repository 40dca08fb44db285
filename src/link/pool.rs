//! Connections for user streams: one stream a connection, because a stream that nobody reads stalls all others
//! of its connection. While streams are asked for, one connection is kept ready.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::task::Link;
use super::wire::{Purpose, Wire};
use crate::guest::KUBELET_PORT;
use crate::tunnel::{ByteStream, TunnelError};

/// How long the ready connection waits for its next use.
const IDLE: Duration = Duration::from_secs(60);
/// User streams of one machine; each costs a connection, and with SSM a session.
const MAX_STREAMS: usize = 64;

/// The user connections of one machine.
pub(super) struct Pool {
    link: Arc<Link>,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: Option<Arc<dyn Wire>>,
    /// The keeper is on its way to one.
    dialing: bool,
    last_use: Option<Instant>,
    /// Makes the ready connection, and drops it when it was idle.
    keeper: Option<AbortOnDropHandle<()>>,
    /// Connections with a stream.
    live: HashMap<u64, Arc<dyn Wire>>,
    next_id: u64,
    closed: bool,
}

impl Pool {
    pub(super) fn new(link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self { link, permits: Arc::new(Semaphore::new(MAX_STREAMS)), state: Mutex::default() })
    }

    /// A new stream to the machine's kubelet, on a connection of its own, which ends with it.
    pub(super) async fn stream(self: &Arc<Self>, deadline: Duration) -> Result<ByteStream, TunnelError> {
        let end = Instant::now() + deadline;
        let late = |_| TunnelError::Timeout(deadline, "opening a stream to the kubelet");
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            TunnelError::Throttled(format!("{MAX_STREAMS} streams to this machine are open already"))
        })?;
        let ready = self.lock().ready.take();
        self.keep_one_ready();
        if let Some(wire) = ready.filter(|wire| wire.is_open()) {
            // It may have died without a word; then a new one is made in the time that is left.
            if let Ok(Ok(stream)) = timeout_at(end, open(&*wire, deadline / 2)).await {
                return self.lend(wire, stream, permit);
            }
        }
        let wire = timeout_at(end, self.link.dial(Purpose::User)).await.map_err(late)??;
        let opened = timeout_at(end, open(&*wire, deadline)).await.map_err(late)??;
        self.lend(wire, opened, permit)
    }

    /// Ends every connection; the caller closes what is returned.
    pub(super) fn close(&self) -> Vec<Arc<dyn Wire>> {
        let mut state = self.lock();
        state.closed = true;
        state.keeper = None;
        let ready = state.ready.take();
        state.live.drain().map(|(_, wire)| wire).chain(ready).collect()
    }

    fn lend(
        self: &Arc<Self>,
        wire: Arc<dyn Wire>,
        inner: ByteStream,
        permit: OwnedSemaphorePermit,
    ) -> Result<ByteStream, TunnelError> {
        let mut state = self.lock();
        if state.closed {
            return Err(TunnelError::Lost("the machine was given up".to_owned()));
        }
        let id = state.next_id;
        state.next_id += 1;
        state.live.insert(id, wire);
        Ok(Box::new(Lent { inner, _slot: Slot { pool: Arc::downgrade(self), id, _permit: permit } }))
    }

    /// Sees to it that the next stream finds a connection. Called when there is none.
    fn keep_one_ready(self: &Arc<Self>) {
        let mut state = self.lock();
        state.last_use = Some(Instant::now());
        if !state.closed && !state.dialing {
            state.dialing = true;
            // An older keeper, if any, waits beside an empty place.
            state.keeper = Some(AbortOnDropHandle::new(tokio::spawn(Self::keeper(Arc::downgrade(self)))));
        }
    }

    async fn keeper(pool: Weak<Self>) {
        let Some(this) = pool.upgrade() else { return };
        let dialed = this.link.dial(Purpose::User).await;
        {
            let mut state = this.lock();
            state.dialing = false;
            // Whoever asks for a stream next learns of the error.
            let Ok(wire) = dialed else { return };
            state.ready = Some(wire);
        }
        drop(this);
        loop {
            let Some(this) = pool.upgrade() else { return };
            let Some(idle) = this.lock().last_use.map(|at| at + IDLE) else { return };
            if idle <= Instant::now() {
                this.lock().ready = None;
                return;
            }
            drop(this);
            sleep_until(idle).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream to the kubelet.
///
/// An sshd sends small packets at once (`TCP_NODELAY`) only on connections that have run a command
/// (`ssh_packet_set_interactive` of OpenSSH): on others a key waits up to 40 ms for an acknowledgement.
async fn open(wire: &dyn Wire, deadline: Duration) -> Result<ByteStream, TunnelError> {
    let command = wire.begin(":", deadline);
    let (hurried, opened) = tokio::join!(command, wire.open("127.0.0.1", KUBELET_PORT, deadline));
    if let Err(error) = hurried {
        tracing::debug!(%error, "a user's connection stays slow");
    }
    opened
}

/// A stream that ends its connection when it is dropped.
struct Lent {
    inner: ByteStream,
    _slot: Slot,
}

struct Slot {
    pool: Weak<Pool>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            let wire = pool.lock().live.remove(&self.id);
            drop(wire);
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
