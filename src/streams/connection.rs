//! A connection's streams as things that can be read and written, and the loop that moves their bytes.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::mux::{Mux, Opened, Read, Written};
use super::spdy::frame::Reset;
use super::wire::WireError;
use super::ws::Close;

/// Bytes of one read.
const BUFFER: usize = 32 * 1024;
/// For how long nothing may pass; a kubelet's `streamingConnectionIdleTimeout`. Pings count.
const IDLE: Duration = Duration::from_hours(4);
/// How long a client may take to end, and to take any of what is left for it. Go clients throw away what they have not
/// read yet when they see our end of the connection, so it is theirs to end it.
const LINGER: Duration = Duration::from_mins(5);
/// The same, when this process ends.
const HURRY: Duration = Duration::from_secs(1);
/// While a client is not listened to, its end is not noticed: what is sent to one that has gone is answered so.
const ALIVE: Duration = Duration::from_secs(30);

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the client is not understood: {0}")]
    Wire(#[from] WireError),
    #[error("the connection: {0}")]
    Io(#[from] io::Error),
    #[error("the client took nothing for {0:?}")]
    Deaf(Duration),
}

/// Where the client is. In order: it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Presence {
    Here,
    /// It begins nothing new.
    Leaving,
    /// Nothing passed for [`IDLE`].
    Idle,
    Gone,
}

/// One connection. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to do for [`Connection::drive`].
    stirred: Notify,
    /// The client has begun a stream.
    opened: Notify,
    presence: watch::Sender<Presence>,
}

#[derive(Debug)]
struct State {
    mux: Mux,
    readers: HashMap<u32, Waker>,
    writers: HashMap<u32, Waker>,
    /// Nothing moves any more.
    is_over: bool,
    in_a_hurry: bool,
}

impl Connection {
    pub(super) fn new(mux: Mux) -> Self {
        let state = State {
            mux,
            readers: HashMap::new(),
            writers: HashMap::new(),
            is_over: false,
            in_a_hurry: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            stirred: Notify::new(),
            opened: Notify::new(),
            presence: watch::Sender::new(Presence::Here),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The next stream that the client begins, to be accepted or refused.
    pub(super) async fn opened(&self) -> Opened {
        loop {
            if let Some(opened) = self.lock().mux.opened() {
                return opened;
            }
            self.shared.opened.notified().await;
        }
    }

    /// Resolves when the client is there, or further.
    pub(super) async fn reached(&self, presence: Presence) -> Presence {
        let mut now = self.shared.presence.subscribe();
        // The sender is ours, and lives.
        now.wait_for(|now| *now >= presence).await.map_or(Presence::Gone, |now| *now)
    }

    pub(super) fn accept(&self, id: u32) {
        self.change(|mux| mux.accept(id));
    }

    pub(super) fn refuse(&self, id: u32) {
        self.change(|mux| mux.reset(id, Reset::Refused));
    }

    /// Ends a stream in the middle, for both sides.
    pub(super) fn cancel(&self, id: u32) {
        self.change(|mux| mux.reset(id, Reset::Cancel));
    }

    /// Throws away what comes in that stream.
    pub(super) fn abandon(&self, id: u32) {
        self.change(|mux| mux.abandon(id));
    }

    /// What is written in that stream goes behind everything that was written in others.
    pub(super) fn defer(&self, id: u32) {
        self.change(|mux| mux.defer(id));
    }

    /// Says something without saying anything.
    pub(super) fn greet(&self, id: u32) {
        self.change(|mux| mux.greet(id));
    }

    /// Writes what there is room for at once: all of it in a stream that holds nothing yet (64 KiB).
    pub(super) fn say(&self, id: u32, bytes: &[u8]) {
        self.change(|mux| {
            if mux.write(id, bytes) != Written::Bytes(bytes.len()) {
                tracing::debug!(stream = id, "a client does not hear what it is told");
            }
        });
    }

    /// The stream is nobody's any more; what was written still goes.
    pub(super) fn forget(&self, id: u32) {
        self.change(|mux| mux.forget(id));
    }

    /// All streams end when what was written has gone, and then the connection does.
    pub(super) fn finish(&self, close: Close) {
        self.change(|mux| mux.finish(close));
    }

    /// This process ends: nobody is waited for any more.
    pub(super) fn hurry(&self) {
        self.lock().in_a_hurry = true;
        self.shared.stirred.notify_one();
    }

    pub(super) fn reader(&self, id: u32) -> StreamReader {
        StreamReader { connection: self.clone(), id, at_reset: AtReset::Fails, ends: false }
    }

    pub(super) fn writer(&self, id: u32) -> StreamWriter {
        StreamWriter { connection: self.clone(), id }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Mux)) {
        let mut state = self.lock();
        change(&mut state.mux);
        state.wake();
        drop(state);
        self.shared.stirred.notify_one();
    }

    fn advance(&self, presence: Presence) {
        self.shared.presence.send_if_modified(|now| {
            let is_further = presence > *now;
            *now = presence.max(*now);
            is_further
        });
    }

    /// Moves bytes until the client has gone, or [`Connection::finish`] was called and everything is said.
    pub(super) async fn drive(&self, io: impl AsyncRead + AsyncWrite) -> Result<(), Broken> {
        let (mut from, mut to) = tokio::io::split(io);
        let moved = self.exchange(&mut from, &mut to).await;
        if let Err(Broken::Wire(_)) = moved {
            let mut words = Vec::new();
            self.change(|mux| {
                mux.give_up();
                mux.fill(&mut words);
            });
            if !matches!(timeout(HURRY, to.write_all(&words)).await, Ok(Ok(()))) {
                tracing::debug!("a client that is not understood does not listen either");
            }
        }
        let mut state = self.lock();
        state.is_over = true;
        let State { readers, writers, .. } = &mut *state;
        readers.drain().chain(writers.drain()).for_each(|(_, waker)| waker.wake());
        drop(state);
        self.advance(Presence::Gone);
        if !matches!(timeout(HURRY, to.shutdown()).await, Ok(Ok(()))) {
            tracing::debug!("a client does not hear the end of its connection");
        }
        moved
    }

    async fn exchange(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Broken> {
        let (mut input, mut out, mut sent) = (vec![0; BUFFER], Vec::new(), 0);
        let mut clocks = Clocks::new(Instant::now());
        let mut is_flushed = true;
        loop {
            if sent == out.len() {
                out.clear();
                sent = 0;
                self.fill(&mut out);
            }
            let is_idle = out.is_empty() && is_flushed;
            let now = self.progress(is_idle);
            if now.is_closed && is_idle {
                return Ok(());
            }
            clocks.see(now);
            let (alarm, at) = clocks.next(now);
            let writing = async {
                match out.get(sent..).unwrap_or_default() {
                    [] => to.flush().await.map(|()| None),
                    rest => to.write(rest).await.map(Some),
                }
            };
            tokio::select! {
                read = from.read(&mut input), if now.is_ready => match read {
                    Ok(count @ 1..) => {
                        clocks.passed = Instant::now();
                        self.receive(input.get_mut(..count).unwrap_or_default())?;
                    }
                    // A TLS peer may forget to announce its end.
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(error.into()),
                },
                written = writing, if !is_idle => match written? {
                    Some(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                    Some(count) => {
                        sent += count;
                        is_flushed = false;
                        clocks.passed = Instant::now();
                        clocks.taken = clocks.passed;
                    }
                    None => is_flushed = true,
                },
                () = self.shared.stirred.notified() => {}
                () = sleep_until(at) => match alarm {
                    Alarm::Idle => {
                        self.advance(Presence::Idle);
                        clocks.passed = Instant::now();
                    }
                    Alarm::Alive => {
                        clocks.asked = Instant::now();
                        self.lock().mux.ping();
                    }
                    Alarm::Linger if now.is_said => {
                        tracing::debug!("a client does not end its stream");
                        return Ok(());
                    }
                    Alarm::Linger => return Err(Broken::Deaf(now.patience)),
                },
            }
        }
    }

    fn fill(&self, out: &mut Vec<u8>) {
        let mut state = self.lock();
        state.mux.fill(out);
        state.wake();
    }

    fn receive(&self, input: &mut [u8]) -> Result<(), WireError> {
        let mut state = self.lock();
        state.mux.receive(input)?;
        state.wake();
        let is_leaving = state.mux.is_leaving();
        drop(state);
        self.shared.opened.notify_one();
        if is_leaving {
            self.advance(Presence::Leaving);
        }
        Ok(())
    }

    fn progress(&self, is_idle: bool) -> Progress {
        let state = self.lock();
        Progress {
            is_ready: state.mux.is_ready(),
            is_ending: state.mux.is_ending(),
            is_said: state.mux.is_finished() && is_idle,
            is_closed: state.mux.is_closed(),
            patience: if state.in_a_hurry { HURRY } else { LINGER },
        }
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// The client is listened to.
    is_ready: bool,
    /// Nothing more will be written.
    is_ending: bool,
    /// And everything has gone.
    is_said: bool,
    /// And the client has said its last.
    is_closed: bool,
    patience: Duration,
}

/// When what happened last.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    /// Bytes passed, either way.
    passed: Instant,
    /// The client took some.
    taken: Instant,
    /// We asked whether it is there.
    asked: Instant,
    /// Nothing more is written.
    ending: Option<Instant>,
    /// Everything was said.
    said: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Alarm {
    Idle,
    Alive,
    Linger,
}

impl Clocks {
    fn new(now: Instant) -> Self {
        Self { passed: now, taken: now, asked: now, ending: None, said: None }
    }

    fn see(&mut self, now: Progress) {
        if now.is_ending {
            self.ending.get_or_insert_with(Instant::now);
        }
        if now.is_said {
            self.said.get_or_insert_with(Instant::now);
        }
    }

    fn next(&self, now: Progress) -> (Alarm, Instant) {
        if let Some(ending) = self.ending {
            return (Alarm::Linger, self.said.unwrap_or(self.taken.max(ending)) + now.patience);
        }
        let idle = self.passed + IDLE;
        let alive = self.asked + ALIVE;
        if now.is_ready || idle < alive { (Alarm::Idle, idle) } else { (Alarm::Alive, alive) }
    }
}

impl State {
    /// Wakes whoever waits for streams in which something happened.
    fn wake(&mut self) {
        for id in self.mux.stirred() {
            let waiting = [self.readers.remove(&id), self.writers.remove(&id)];
            waiting.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

/// What a reader makes of a stream that the client resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtReset {
    Ends,
    Fails,
}

/// What a client sends in one stream. Once it is dropped, what comes is thrown away.
#[derive(Debug)]
pub struct StreamReader {
    connection: Connection,
    id: u32,
    at_reset: AtReset,
    /// Our side of the stream ends with it.
    ends: bool,
}

impl StreamReader {
    /// To it a reset is an end like any other. When it is dropped the client is told that nobody reads any more.
    #[must_use]
    pub(super) fn as_input(mut self) -> Self {
        (self.at_reset, self.ends) = (AtReset::Ends, true);
        self
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        let (id, ends) = (self.id, self.ends);
        self.connection.lock().readers.remove(&id);
        self.connection.change(|mux| {
            mux.abandon(id);
            if ends {
                mux.end(id);
            }
        });
    }
}

impl AsyncRead for StreamReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.connection.lock();
        match state.mux.read(self.id, buf.initialize_unfilled()) {
            Read::Bytes(count) => {
                drop(state);
                buf.advance(count);
                // There may be room for more now.
                self.connection.shared.stirred.notify_one();
                Poll::Ready(Ok(()))
            }
            Read::Ended => Poll::Ready(Ok(())),
            Read::Reset if self.at_reset == AtReset::Ends && !state.is_over => Poll::Ready(Ok(())),
            Read::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Read::Nothing if state.is_over => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Read::Nothing => {
                state.readers.insert(self.id, cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What is sent to a client in one stream. Flushing does not wait until it has gone.
#[derive(Debug)]
pub struct StreamWriter {
    connection: Connection,
    id: u32,
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.connection.lock().writers.remove(&self.id);
    }
}

impl AsyncWrite for StreamWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.connection.lock();
        if state.is_over {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match state.mux.write(self.id, buf) {
            Written::Bytes(count) => {
                drop(state);
                self.connection.shared.stirred.notify_one();
                Poll::Ready(Ok(count))
            }
            Written::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Written::Full => {
                state.writers.insert(self.id, cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.change(|mux| mux.end(self.id));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
