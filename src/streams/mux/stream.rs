//! One stream of a connection.

use std::collections::VecDeque;

use super::super::spdy::WINDOW;
use super::{Read, WRITTEN_MAX, Written};

/// Memory that an empty inbox keeps, at most.
const KEPT_MAX: usize = 128 * 1024;

/// A stream, with what has come in it and what is to go.
#[derive(Debug)]
pub(super) struct Stream {
    inbox: VecDeque<u8>,
    inbound: Inbound,
    outbox: Vec<u8>,
    outbound: Outbound,
    /// What the client is ready to take, where it says so; below zero when it said so late.
    pub(super) window: i64,
    /// Bytes taken from the inbox that the client was not told of.
    untold: u32,
    /// It waits for all others to have said everything.
    pub(super) is_last: bool,
    /// Nobody reads or writes it any more.
    pub(super) is_forgotten: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inbound {
    Open,
    Ended,
    Reset,
    /// Nobody reads it.
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outbound {
    Open,
    /// Ends behind what waits.
    Ending,
    Ended,
}

/// What a stream says next.
pub(super) struct Said {
    pub(super) bytes: Vec<u8>,
    /// And nothing follows.
    pub(super) ends: bool,
}

impl Stream {
    pub(super) fn new(window: u32) -> Self {
        Self {
            inbox: VecDeque::new(),
            inbound: Inbound::Open,
            outbox: Vec::new(),
            outbound: Outbound::Open,
            window: window.into(),
            untold: 0,
            is_last: false,
            is_forgotten: false,
        }
    }

    /// Keeps what has come; whether anybody will read it.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> bool {
        let is_read = self.inbound == Inbound::Open;
        if is_read {
            self.inbox.extend(bytes);
        }
        is_read
    }

    pub(super) fn ended(&mut self) {
        if self.inbound == Inbound::Open {
            self.inbound = Inbound::Ended;
        }
    }

    /// The client wants nothing more of it, and says nothing more; what it said before still stands.
    pub(super) fn was_reset(&mut self) {
        if self.inbound != Inbound::Abandoned {
            self.inbound = Inbound::Reset;
        }
        self.outbox.clear();
        self.outbound = Outbound::Ended;
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Read {
        if self.inbox.is_empty() {
            return match self.inbound {
                Inbound::Open => Read::Nothing,
                Inbound::Ended => Read::Ended,
                Inbound::Reset | Inbound::Abandoned => Read::Reset,
            };
        }
        let (front, back) = self.inbox.as_slices();
        let (of_front, rest) = buffer.split_at_mut(front.len().min(buffer.len()));
        of_front.copy_from_slice(&front[..of_front.len()]);
        let of_back = back.len().min(rest.len());
        rest[..of_back].copy_from_slice(&back[..of_back]);
        let count = of_front.len() + of_back;
        self.inbox.drain(..count);
        // What one stream once held is not kept for it.
        if self.inbox.is_empty() && self.inbox.capacity() > KEPT_MAX {
            self.inbox = VecDeque::new();
        }
        Read::Bytes(count)
    }

    /// Throws away what has come and what comes; how much it was.
    pub(super) fn abandon(&mut self) -> usize {
        self.inbound = Inbound::Abandoned;
        std::mem::take(&mut self.inbox).len()
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Written {
        if self.outbound != Outbound::Open {
            return Written::Closed;
        }
        let count = bytes.len().min(WRITTEN_MAX.saturating_sub(self.outbox.len()));
        if count == 0 && !bytes.is_empty() {
            return Written::Full;
        }
        self.outbox.extend_from_slice(&bytes[..count]);
        Written::Bytes(count)
    }

    pub(super) fn end(&mut self) {
        if self.outbound == Outbound::Open {
            self.outbound = Outbound::Ending;
        }
    }

    /// Whether something waits to be sent, bytes or the end.
    pub(super) fn is_waiting(&self) -> bool {
        !self.outbox.is_empty() || self.outbound == Outbound::Ending
    }

    /// Whether everything has gone that will ever be sent.
    pub(super) fn is_said(&self) -> bool {
        self.outbound == Outbound::Ended
    }

    /// Whether something can be sent now, with `room` in the connection's window.
    pub(super) fn can_send(&self, room: usize, windows_are_kept: bool) -> bool {
        if self.outbox.is_empty() {
            // The end takes no room.
            return self.outbound == Outbound::Ending;
        }
        room > 0 && (!windows_are_kept || self.window > 0)
    }

    /// Takes what goes next, `room` bytes at most.
    pub(super) fn say(&mut self, room: usize, windows_are_kept: bool) -> Said {
        let window = if windows_are_kept { usize::try_from(self.window).unwrap_or(0) } else { usize::MAX };
        let count = self.outbox.len().min(room).min(window);
        let bytes: Vec<u8> = self.outbox.drain(..count).collect();
        self.window -= i64::try_from(count).unwrap_or(i64::MAX);
        let ends = self.outbox.is_empty() && self.outbound == Outbound::Ending;
        if ends {
            self.outbound = Outbound::Ended;
        }
        Said { bytes, ends }
    }

    /// `count` bytes were taken: how many the client is to be told of now, if any. Nobody is told of a stream that ends.
    pub(super) fn taken(&mut self, count: u32) -> Option<u32> {
        self.untold = self.untold.saturating_add(count);
        let is_due = self.untold >= WINDOW / 2 && self.inbound == Inbound::Open;
        is_due.then(|| std::mem::take(&mut self.untold))
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.inbox.len()
    }

    #[cfg(test)]
    pub(super) fn waits(&self) -> usize {
        self.outbox.len()
    }
}
