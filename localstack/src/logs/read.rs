//! Pages of one stream, forwards and backwards, as GetLogEvents has them. Pure.

use super::batch::size;
use super::cursor::{Cursor, Pause};
use super::store::{Event, Key, Stream, Window};
use crate::aws::page::BadToken;

/// How much a page holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub events: usize,
    /// An event counts as much as when it was put. The first fits always.
    pub bytes: u64,
    /// Whether each page with events is followed by an empty one.
    pub empty_pages: bool,
}

/// The most bytes of a page.
pub(super) const PAGE_BYTES: u64 = 1 << 20;

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With the earliest event.
    Head,
    /// With as many of the latest events as fit.
    Tail,
    Forward(Cursor),
    Backward(Cursor),
}

const FORWARD: &str = "f/";
const BACKWARD: &str = "b/";

impl Start {
    pub(super) fn token(token: &str) -> Result<Self, BadToken> {
        if let Some(digits) = token.strip_prefix(FORWARD) {
            return Cursor::read(digits).map(Self::Forward);
        }
        Cursor::read(token.strip_prefix(BACKWARD).ok_or(BadToken)?).map(Self::Backward)
    }
}

/// Events in their order, and where to go on.
#[derive(Debug)]
pub(super) struct Page {
    pub events: Vec<(Key, Event)>,
    forward: Cursor,
    backward: Cursor,
}

impl Page {
    pub(super) fn forward_token(&self) -> String {
        self.forward.token(FORWARD)
    }

    pub(super) fn backward_token(&self) -> String {
        self.backward.token(BACKWARD)
    }
}

/// A page. Where nothing more is in its direction, its token is the one that it was asked with.
pub(super) fn page(stream: &Stream, window: &Window, from: Start, bounds: &Bounds) -> Page {
    let start = Key::at(window.times.start);
    let (here, end) = (Key::at(window.times.start.max(0)), Key::at(window.times.end));
    let events = match from {
        Start::Forward(Cursor { pause: Pause::Yes, .. })
        | Start::Backward(Cursor { pause: Pause::Yes, .. }) => Vec::new(),
        Start::Head => fill(stream.all(window), bounds),
        Start::Forward(cursor) => fill(stream.visible(window, cursor.at..end), bounds),
        Start::Tail => reversed(fill(stream.all(window).rev(), bounds)),
        Start::Backward(cursor) => reversed(fill(stream.visible(window, start..cursor.at).rev(), bounds)),
    };
    let place = match from {
        Start::Head | Start::Tail => here,
        Start::Forward(cursor) | Start::Backward(cursor) => cursor.at,
    };
    let mut forward = Cursor::new(events.last().map_or(place, |(key, _)| key.behind()));
    let mut backward = Cursor::new(events.first().map_or(place, |(key, _)| *key));
    if bounds.empty_pages && !events.is_empty() {
        match from {
            Start::Head | Start::Forward(_) => forward.pause = Pause::Yes,
            Start::Tail | Start::Backward(_) => backward.pause = Pause::Yes,
        }
    }
    Page { events, forward, backward }
}

fn fill<'a>(events: impl Iterator<Item = (Key, &'a Event)>, bounds: &Bounds) -> Vec<(Key, Event)> {
    let mut left = Left::new(bounds);
    events.take_while(|(_, event)| left.take(event)).map(|(key, event)| (key, event.clone())).collect()
}

fn reversed<T>(mut events: Vec<T>) -> Vec<T> {
    events.reverse();
    events
}

/// What still fits into a page.
#[derive(Debug)]
pub(super) struct Left {
    events: usize,
    bytes: u64,
    empty: bool,
}

impl Left {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self { events: bounds.events, bytes: bounds.bytes, empty: true }
    }

    /// Whether an event fits, too; then it is in.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        let size = size(&event.message);
        let fits = self.events > 0 && (size <= self.bytes || self.empty);
        if fits {
            self.events -= 1;
            self.bytes = self.bytes.saturating_sub(size);
            self.empty = false;
        }
        fits
    }
}

#[cfg(test)]
mod tests;
