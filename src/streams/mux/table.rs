//! The streams of a connection, and what the client says about them.

use std::collections::{BTreeMap, VecDeque};

use super::super::spdy::frame::Reset;
use super::super::spdy::{WINDOW, WINDOW_MAX};
use super::super::wire::Event;
use super::Opened;
use super::stream::Stream;

#[derive(Debug)]
pub(super) struct Table {
    pub(super) streams: BTreeMap<u32, Stream>,
    /// Streams at once, at most.
    room: usize,
    pub(super) opened: VecDeque<Opened>,
    /// Resets that are due.
    pub(super) resets: Vec<(u32, Reset)>,
    /// Bytes in all inboxes.
    pub(super) held: usize,
    pub(super) windows: Windows,
    /// Bytes taken from inboxes that the client was not told of.
    pub(super) untold: u32,
    /// Streams with something new to read, or room to write.
    pub(super) stirred: Vec<u32>,
    pub(super) leaving: bool,
    pub(super) broken: bool,
}

/// What the client is ready to take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    /// Go clients send as if there were no windows and never open one: they count from the first word that the client
    /// says about them.
    pub(super) are_kept: bool,
    /// Of a new stream.
    initial: u32,
    /// Of the connection.
    pub(super) connection: i64,
}

impl Windows {
    pub(super) fn connection_room(self) -> usize {
        if self.are_kept { usize::try_from(self.connection).unwrap_or(0) } else { usize::MAX }
    }
}

impl Table {
    pub(super) fn new(room: usize) -> Self {
        Self {
            streams: BTreeMap::new(),
            room,
            opened: VecDeque::new(),
            resets: Vec::new(),
            held: 0,
            windows: Windows { are_kept: false, initial: WINDOW, connection: WINDOW.into() },
            untold: 0,
            stirred: Vec::new(),
            leaving: false,
            broken: false,
        }
    }

    pub(super) fn take(&mut self, event: Event<'_>) {
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

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream> {
        let mut stream = self.streams.remove(&id)?;
        self.held -= stream.abandon();
        self.stirred.push(id);
        Some(stream)
    }

    /// The next stream after `turn` that can send something.
    pub(super) fn next(&self, turn: u32) -> Option<u32> {
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
