//! A connection's streams as things that can be read and written, and the loop that moves their bytes.

mod clocks;
mod ends;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use self::clocks::{Alarm, Clocks, HURRY, LINGER, Progress};
pub(super) use self::ends::{StreamReader, StreamWriter};
use super::mux::{Mux, Opened, Written};
use super::spdy::frame::Reset;
use super::wire::WireError;
use super::ws::Close;

/// Bytes of one read.
const BUFFER: usize = 32 * 1024;

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
    /// Nothing passed for hours.
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
        StreamReader::new(self.clone(), id)
    }

    pub(super) fn writer(&self, id: u32) -> StreamWriter {
        StreamWriter::new(self.clone(), id)
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
        self.stop();
        self.advance(Presence::Gone);
        if !matches!(timeout(HURRY, to.shutdown()).await, Ok(Ok(()))) {
            tracing::debug!("a client does not hear the end of its connection");
        }
        moved
    }

    /// Nobody waits for anything any more.
    fn stop(&self) {
        let mut state = self.lock();
        state.is_over = true;
        let State { readers, writers, .. } = &mut *state;
        readers.drain().chain(writers.drain()).for_each(|(_, waker)| waker.wake());
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

impl State {
    /// Wakes whoever waits for streams in which something happened.
    fn wake(&mut self) {
        for id in self.mux.stirred() {
            let waiting = [self.readers.remove(&id), self.writers.remove(&id)];
            waiting.into_iter().flatten().for_each(Waker::wake);
        }
    }
}
