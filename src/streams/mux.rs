//! Many streams on one connection: what has come and was not read, what was written and has not gone.
//!
//! Everything has a bound. What a stream is sent waits in that stream alone. What clients send is another matter: those
//! in Go count no windows, so beyond [`HELD_MAX`] the whole connection is not read, and TCP holds the client back.
//! Pure; [`super::connection`] moves the bytes.

mod stream;

use std::collections::{BTreeMap, VecDeque};

use self::stream::{Said, Stream};
use super::spdy::frame::Reset;
use super::spdy::headers::Headers;
use super::spdy::{WINDOW, WINDOW_MAX};
use super::wire::{Event, Wire, WireError};
use super::ws::Close;

/// Bytes of all streams together that have come and were not read, at most, but for what comes in one read more.
/// A window of SPDY is 64 KiB, so clients that count are never stopped by it.
pub const HELD_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one stream that were written and have not gone, at most.
pub const WRITTEN_MAX: usize = 64 * 1024;
/// Bytes of answers (to pings, to new streams) that have not gone; with more, the client is not read.
const ANSWERS_MAX: usize = 64 * 1024;
/// Bytes of one frame of data, at most: so long does a stream keep the others waiting.
const FRAME_MAX: usize = 32 * 1024;
/// Bytes that [`Mux::fill`] gives at a time, about.
const BURST: usize = 64 * 1024;

/// A stream that the client has begun.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    pub id: u32,
    pub headers: Headers,
}

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The client has said everything.
    Ended,
    /// The client has reset the stream, or there is none.
    Reset,
}

/// What became of bytes that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Bytes(usize),
    /// Nothing until some have gone.
    Full,
    /// The stream takes nothing any more.
    Closed,
}

/// All streams of one connection.
#[derive(Debug)]
pub struct Mux {
    wire: Wire,
    table: Table,
    /// What answers the client, and has not gone.
    answers: Vec<u8>,
    /// Whose turn it is.
    turn: u32,
    farewell: Farewell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    NotYet,
    /// When everything else has gone.
    Due(Close),
    Said,
}

#[derive(Debug)]
struct Table {
    streams: BTreeMap<u32, Stream>,
    /// Streams at once, at most.
    room: usize,
    opened: VecDeque<Opened>,
    /// Resets that are due.
    resets: Vec<(u32, Reset)>,
    /// Bytes in all inboxes.
    held: usize,
    windows: Windows,
    /// Bytes taken from inboxes that the client was not told of.
    untold: u32,
    /// Streams with something new to read, or room to write.
    stirred: Vec<u32>,
    leaving: bool,
    broken: bool,
}

/// What the client is ready to take.
#[derive(Clone, Copy, Debug)]
struct Windows {
    /// Go clients send as if there were no windows and never open one: they count from the first word that the client
    /// says about them.
    are_kept: bool,
    /// Of a new stream.
    initial: u32,
    /// Of the connection.
    connection: i64,
}

impl Mux {
    /// Streams that the client begins, at most `room` at once.
    #[must_use]
    pub fn new(wire: Wire, room: usize) -> Self {
        let windows = Windows { are_kept: false, initial: WINDOW, connection: WINDOW.into() };
        let table = Table {
            streams: BTreeMap::new(),
            room,
            opened: VecDeque::new(),
            resets: Vec::new(),
            held: 0,
            windows,
            untold: 0,
            stirred: Vec::new(),
            leaving: false,
            broken: false,
        };
        Self { wire, table, answers: Vec::new(), turn: 0, farewell: Farewell::NotYet }
    }

    /// Streams that are there from the beginning: 0 to `count - 1`.
    #[must_use]
    pub fn with_channels(wire: Wire, count: u8) -> Self {
        let mut mux = Self::new(wire, count.into());
        mux.table.streams = (0..u32::from(count)).map(|id| (id, Stream::new(WINDOW))).collect();
        mux
    }

    /// Takes what the client says.
    ///
    /// # Errors
    /// When it is not understood; nothing it says later can be either.
    pub fn receive(&mut self, input: &mut [u8]) -> Result<(), WireError> {
        let table = &mut self.table;
        self.wire.receive(input, &mut self.answers, &mut |event| table.take(event))?;
        for (id, why) in std::mem::take(&mut table.resets) {
            self.wire.reset(id, why, &mut self.answers);
        }
        self.tell_of_connection();
        if self.table.broken { Err(WireError::Window) } else { Ok(()) }
    }

    /// Whether the client is to be listened to now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.table.held < HELD_MAX && self.answers.len() < ANSWERS_MAX
    }

    /// The next stream that the client has begun; it is to be accepted or refused.
    pub fn opened(&mut self) -> Option<Opened> {
        self.table.opened.pop_front()
    }

    /// Serves a new stream.
    pub fn accept(&mut self, id: u32) {
        self.wire.accept(id, &mut self.answers);
    }

    /// Ends both sides of a stream, and forgets what has not gone.
    pub fn reset(&mut self, id: u32, why: Reset) {
        if self.table.remove(id).is_some() {
            self.wire.reset(id, why, &mut self.answers);
        }
    }

    /// Reads what has come in a stream.
    pub fn read(&mut self, id: u32, buffer: &mut [u8]) -> Read {
        let Some(stream) = self.table.streams.get_mut(&id) else { return Read::Reset };
        let read = stream.read(buffer);
        if let Read::Bytes(count) = read {
            self.table.held -= count;
            self.tell(id, count);
        }
        read
    }

    /// Nobody reads that stream any more: what has come and what comes is thrown away.
    pub fn abandon(&mut self, id: u32) {
        let Some(stream) = self.table.streams.get_mut(&id) else { return };
        let count = stream.abandon();
        self.table.held -= count;
        self.tell(id, count);
    }

    /// Takes bytes to send in a stream.
    pub fn write(&mut self, id: u32, bytes: &[u8]) -> Written {
        self.table.streams.get_mut(&id).map_or(Written::Closed, |stream| stream.write(bytes))
    }

    /// Nothing follows what was written in that stream.
    pub fn end(&mut self, id: u32) {
        if let Some(stream) = self.table.streams.get_mut(&id) {
            stream.end();
        }
    }

    /// What is written in that stream goes behind everything that was written in others.
    pub fn defer(&mut self, id: u32) {
        if let Some(stream) = self.table.streams.get_mut(&id) {
            stream.is_last = true;
        }
    }

    /// Nobody reads or writes that stream any more; it is gone when what was written has gone.
    pub fn forget(&mut self, id: u32) {
        self.abandon(id);
        if let Some(stream) = self.table.streams.get_mut(&id) {
            stream.end();
            stream.is_forgotten = true;
            if stream.is_said() {
                self.table.streams.remove(&id);
            }
        }
    }

    /// Sends a message without bytes now, where that says something.
    pub fn greet(&mut self, id: u32) {
        self.wire.data(id, &[], false, &mut self.answers);
    }

    /// Asks the client for a sign of life.
    pub fn ping(&mut self) {
        self.wire.ping(&mut self.answers);
    }

    /// Ends every stream, and takes leave when everything has gone.
    pub fn finish(&mut self, close: Close) {
        let ids: Vec<u32> = self.table.streams.keys().copied().collect();
        ids.into_iter().for_each(|id| self.forget(id));
        if self.farewell == Farewell::NotYet {
            self.farewell = Farewell::Due(close);
        }
    }

    /// Takes leave of a client that is not understood.
    pub fn give_up(&mut self) {
        self.table.streams.clear();
        self.table.held = 0;
        self.farewell = Farewell::Due(Close::Broken);
    }

    /// Appends what is to be sent next, up to some 64 KiB; nothing when there is nothing to send now.
    pub fn fill(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.answers);
        while out.len() < BURST
            && let Some(id) = self.table.next(self.turn)
        {
            self.turn = id;
            self.send(id, out);
        }
        if let Farewell::Due(close) = self.farewell
            && self.table.streams.values().all(Stream::is_said)
        {
            self.wire.leave(close, out);
            self.farewell = Farewell::Said;
        }
    }

    /// Sends some of what waits in that stream.
    fn send(&mut self, id: u32, out: &mut Vec<u8>) {
        let room = self.table.windows.connection_room();
        let are_kept = self.table.windows.are_kept;
        let Some(stream) = self.table.streams.get_mut(&id) else { return };
        let Said { bytes, ends } = stream.say(FRAME_MAX.min(room), are_kept);
        self.table.windows.connection -= i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        self.wire.data(id, &bytes, ends, out);
        self.table.stirred.push(id);
        if stream.is_forgotten && stream.is_said() {
            self.table.streams.remove(&id);
        }
    }

    /// Tells the client, now and then, that bytes were taken.
    fn tell(&mut self, id: u32, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.table.untold = self.table.untold.saturating_add(count);
        let of_stream = self.table.streams.get_mut(&id).and_then(|stream| stream.taken(count));
        if let Some(delta) = of_stream {
            self.wire.window(id, delta, &mut self.answers);
        }
        self.tell_of_connection();
    }

    fn tell_of_connection(&mut self) {
        if self.table.untold >= WINDOW / 2 {
            self.wire.window(0, std::mem::take(&mut self.table.untold), &mut self.answers);
        }
    }

    /// Streams that have something new to read or room to write since this was last asked.
    pub fn stirred(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.table.stirred)
    }

    /// Bytes that have come and were not read.
    #[must_use]
    pub fn held(&self) -> usize {
        self.table.held
    }

    /// Whether the client begins no stream any more.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.table.leaving
    }

    /// Whether leave is being taken.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.farewell != Farewell::NotYet
    }

    /// Whether the last words were given to [`Mux::fill`].
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.farewell == Farewell::Said
    }

    /// Whether the client, too, has said its last.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.wire.is_closed()
    }
}

impl Windows {
    fn connection_room(self) -> usize {
        if self.are_kept { usize::try_from(self.connection).unwrap_or(0) } else { usize::MAX }
    }
}

impl Table {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Opened { id, headers } => {
                if self.streams.len() >= self.room || self.leaving {
                    self.resets.push((id, Reset::Refused));
                } else {
                    self.streams.insert(id, Stream::new(self.windows.initial));
                    self.opened.push_back(Opened { id, headers });
                }
            }
            // Late words in streams that are gone mean nothing.
            Event::Data { id, bytes } => {
                if let Some(stream) = self.streams.get_mut(&id)
                    && stream.keep(bytes)
                {
                    self.held += bytes.len();
                    self.stirred.push(id);
                } else {
                    self.untold = self.untold.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                }
            }
            Event::Ended { id } => self.change(id, Stream::ended),
            Event::Reset { id } => self.change(id, Stream::was_reset),
            Event::InitialWindow(size) => {
                let delta = i64::from(size) - i64::from(self.windows.initial);
                self.windows.are_kept = true;
                self.windows.initial = size;
                self.streams.values_mut().for_each(|stream| stream.window += delta);
            }
            Event::Window { id: 0, delta } => {
                self.windows.are_kept = true;
                self.windows.connection += i64::from(delta);
                self.broken |= self.windows.connection > i64::from(WINDOW_MAX);
            }
            Event::Window { id, delta } => {
                self.windows.are_kept = true;
                let Some(stream) = self.streams.get_mut(&id) else { return };
                stream.window += i64::from(delta);
                if stream.window > i64::from(WINDOW_MAX) {
                    self.remove(id);
                    self.resets.push((id, Reset::FlowControl));
                }
            }
            Event::Leaving => self.leaving = true,
        }
    }

    fn change(&mut self, id: u32, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.get_mut(&id) {
            change(stream);
            self.stirred.push(id);
            if stream.is_forgotten && stream.is_said() {
                self.streams.remove(&id);
            }
        }
    }

    fn remove(&mut self, id: u32) -> Option<Stream> {
        let mut stream = self.streams.remove(&id)?;
        self.held -= stream.abandon();
        self.stirred.push(id);
        Some(stream)
    }

    /// The next stream after `turn` that can send something.
    fn next(&self, turn: u32) -> Option<u32> {
        let room = self.windows.connection_room();
        let can_send = |stream: &Stream| stream.can_send(room, self.windows.are_kept);
        let others_wait = self.streams.values().any(|stream| !stream.is_last && stream.is_waiting());
        let mut ready = self
            .streams
            .range(turn.saturating_add(1)..)
            .chain(self.streams.range(..=turn))
            .filter(|(_, stream)| can_send(stream) && (!stream.is_last || !others_wait));
        ready.next().map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests;
