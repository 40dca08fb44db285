//! Many streams on one connection: what has come and was not read, what was written and has not gone.
//!
//! Everything has a bound. What a stream is sent waits in that stream alone. What clients send is another matter: those
//! in Go count no windows, so beyond [`HELD_MAX`] the whole connection is not read, and TCP holds the client back.
//! Pure; [`super::connection`] moves the bytes.

mod stream;
mod table;

use self::stream::{Said, Stream};
use self::table::Table;
use super::spdy::WINDOW;
use super::spdy::frame::Reset;
use super::spdy::headers::Headers;
use super::wire::{Wire, WireError};
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

impl Mux {
    /// Streams that the client begins, at most `room` at once.
    #[must_use]
    pub fn new(wire: Wire, room: usize) -> Self {
        let table = Table::new(room);
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

#[cfg(test)]
mod tests;
