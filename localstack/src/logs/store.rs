//! Log groups, their streams and the events in them. Pure: data in, data out, the time is an argument.
//!
//! Events are in the order of their time, and where that is equal, of their arrival. What was put is there at once;
//! a [`Window`] says how much of it a reader may see.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::batch::{InputEvent, Judged, size};

/// Milliseconds since 1970, as the service has its times.
pub(super) type Millis = i64;

pub(super) const DAY: Millis = 24 * 3600 * 1000;

/// Where an event stands among all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub timestamp: Millis,
    /// Of all events of the account in the order of their arrival.
    pub sequence: u64,
}

impl Key {
    /// Before all events of this time.
    pub(super) fn at(timestamp: Millis) -> Self {
        Self { timestamp, sequence: 0 }
    }

    /// Right behind this event.
    pub(super) fn behind(self) -> Self {
        Self { sequence: self.sequence.saturating_add(1), ..self }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub ingested: Millis,
    pub message: Arc<str>,
}

/// What a reader may see of a stream.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Times of events.
    pub times: Range<Millis>,
    /// Events that arrived later are not seen yet.
    pub arrived_by: Millis,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub created: Millis,
    /// Calls that put something; the sequence token says it, and nobody asks any more.
    pub puts: u64,
    events: BTreeMap<Key, Event>,
    /// Of all events, as the service counts them.
    bytes: u64,
    /// When something was put last.
    arrived: Option<Millis>,
}

impl Stream {
    fn new(created: Millis) -> Self {
        Self { created, puts: 0, events: BTreeMap::new(), bytes: 0, arrived: None }
    }

    /// When something was put last, if that is seen already.
    pub(super) fn last_arrival(&self, arrived_by: Millis) -> Option<Millis> {
        self.arrived.filter(|arrived| *arrived <= arrived_by)
    }

    /// The events of a window that are also within a range of places.
    pub(super) fn visible(
        &self,
        window: &Window,
        places: Range<Key>,
    ) -> impl DoubleEndedIterator<Item = (Key, &Event)> + use<'_> {
        let first = Key::at(window.times.start).max(places.start);
        let end = Key::at(window.times.end).min(places.end).max(first);
        let arrived_by = window.arrived_by;
        self.events
            .range(first..end)
            .filter(move |(_, event)| event.ingested <= arrived_by)
            .map(|(key, event)| (*key, event))
    }

    /// All events of a window.
    pub(super) fn all(&self, window: &Window) -> impl DoubleEndedIterator<Item = (Key, &Event)> + use<'_> {
        self.visible(window, EVERYWHERE)
    }
}

/// Every place of an event.
pub(super) const EVERYWHERE: Range<Key> =
    Key { timestamp: Millis::MIN, sequence: 0 }..Key { timestamp: Millis::MAX, sequence: u64::MAX };

#[derive(Debug)]
pub(super) struct Group {
    pub created: Millis,
    pub kms_key: Option<String>,
    pub retention_days: Option<u16>,
    pub tags: BTreeMap<String, String>,
    pub streams: BTreeMap<String, Stream>,
}

impl Group {
    pub(super) fn new(created: Millis, kms_key: Option<String>, tags: BTreeMap<String, String>) -> Self {
        Self { created, kms_key, retention_days: None, tags, streams: BTreeMap::new() }
    }

    /// The time before which events have expired.
    pub(super) fn horizon(&self, now: Millis) -> Millis {
        self.retention_days.map_or(Millis::MIN, |days| now.saturating_sub(i64::from(days) * DAY))
    }

    pub(super) fn stream(&self, name: &str) -> Result<&Stream, StoreError> {
        self.streams.get(name).ok_or(StoreError::NoStream)
    }

    /// As the service counts them.
    pub(super) fn bytes(&self) -> u64 {
        self.streams.values().map(|stream| stream.bytes).sum()
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub groups: usize,
    /// In all groups.
    pub streams: usize,
    pub stream_bytes: u64,
    /// In all streams.
    pub bytes: u64,
}

/// Why the store does not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoreError {
    #[error("The specified log group already exists")]
    GroupExists,
    #[error("The specified log stream already exists")]
    StreamExists,
    #[error("The specified log group does not exist.")]
    NoGroup,
    #[error("The specified log stream does not exist.")]
    NoStream,
    #[error(
        "Resource limit exceeded. The local cloud keeps at most {0} log groups (`maxGroups` of /_local/logs)."
    )]
    Groups(usize),
    #[error(
        "Resource limit exceeded. The local cloud keeps at most {0} log streams (`maxStreams` of /_local/logs)."
    )]
    Streams(usize),
    #[error("The local cloud keeps at most {0} bytes of a log stream (`maxStreamBytes` of /_local/logs).")]
    StreamBytes(u64),
    #[error("The local cloud keeps at most {0} bytes of logs (`maxStoredBytes` of /_local/logs).")]
    Bytes(u64),
}

/// All log groups of the account.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub groups: BTreeMap<String, Group>,
    sequence: u64,
    streams: usize,
    bytes: u64,
}

impl Store {
    pub(super) fn group(&self, name: &str) -> Result<&Group, StoreError> {
        self.groups.get(name).ok_or(StoreError::NoGroup)
    }

    pub(super) fn group_mut(&mut self, name: &str) -> Result<&mut Group, StoreError> {
        self.groups.get_mut(name).ok_or(StoreError::NoGroup)
    }

    pub(super) fn add_group(&mut self, name: String, group: Group, room: &Room) -> Result<(), StoreError> {
        if self.groups.contains_key(&name) {
            return Err(StoreError::GroupExists);
        }
        if self.groups.len() >= room.groups {
            return Err(StoreError::Groups(room.groups));
        }
        self.groups.insert(name, group);
        Ok(())
    }

    pub(super) fn remove_group(&mut self, name: &str) -> Result<(), StoreError> {
        let group = self.groups.remove(name).ok_or(StoreError::NoGroup)?;
        self.streams -= group.streams.len();
        self.bytes -= group.bytes();
        Ok(())
    }

    pub(super) fn add_stream(
        &mut self,
        group: &str,
        name: String,
        room: &Room,
        now: Millis,
    ) -> Result<(), StoreError> {
        let streams = self.streams;
        let group = self.group_mut(group)?;
        if group.streams.contains_key(&name) {
            return Err(StoreError::StreamExists);
        }
        if streams >= room.streams {
            return Err(StoreError::Streams(room.streams));
        }
        group.streams.insert(name, Stream::new(now));
        self.streams += 1;
        Ok(())
    }

    pub(super) fn remove_stream(&mut self, group: &str, name: &str) -> Result<(), StoreError> {
        let stream = self.group_mut(group)?.streams.remove(name).ok_or(StoreError::NoStream)?;
        self.streams -= 1;
        self.bytes -= stream.bytes;
        Ok(())
    }

    /// Keeps the accepted events of a batch: all of them, or none for want of room. The stream's puts so far.
    pub(super) fn put(
        &mut self,
        group: &str,
        stream: &str,
        mut events: Vec<InputEvent>,
        judged: &Judged,
        room: &Room,
        now: Millis,
    ) -> Result<u64, StoreError> {
        let (held, sequence) = (self.bytes, self.sequence);
        let stream = self.group_mut(group)?.streams.get_mut(stream).ok_or(StoreError::NoStream)?;
        let accepted = judged.accepted.clone();
        let bytes = events[accepted.clone()].iter().map(|event| size(&event.message)).sum::<u64>();
        if stream.bytes + bytes > room.stream_bytes {
            return Err(StoreError::StreamBytes(room.stream_bytes));
        }
        if held + bytes > room.bytes {
            return Err(StoreError::Bytes(room.bytes));
        }
        let count = accepted.len() as u64;
        for (event, sequence) in events.drain(accepted).zip(sequence..) {
            let key = Key { timestamp: event.timestamp, sequence };
            stream.events.insert(key, Event { ingested: now, message: event.message.into() });
        }
        stream.bytes += bytes;
        stream.puts += 1;
        stream.arrived = (count > 0).then_some(now).or(stream.arrived);
        let puts = stream.puts;
        self.bytes += bytes;
        self.sequence += count;
        Ok(puts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { groups: 2, streams: 2, stream_bytes: 200, bytes: 300 };

    fn mk_group() -> Group {
        Group::new(0, None, BTreeMap::new())
    }

    fn mk_store() -> Store {
        let mut store = Store::default();
        store.add_group("g".to_owned(), mk_group(), &ROOM).unwrap();
        store.add_stream("g", "s".to_owned(), &ROOM, 0).unwrap();
        store
    }

    fn put(
        store: &mut Store,
        stream: &str,
        events: &[(Millis, &str)],
        now: Millis,
    ) -> Result<u64, StoreError> {
        let events: Vec<InputEvent> = events
            .iter()
            .map(|(at, text)| InputEvent { timestamp: *at, message: (*text).to_owned() })
            .collect();
        let judged = Judged { accepted: 0..events.len(), ..Judged::default() };
        store.put("g", stream, events, &judged, &ROOM, now)
    }

    fn seen(store: &Store, times: Range<Millis>, arrived_by: Millis) -> String {
        let stream = store.group("g").unwrap().stream("s").unwrap();
        stream.all(&Window { times, arrived_by }).map(|(_, event)| &*event.message).collect()
    }

    #[test]
    fn events_are_in_the_order_of_their_time_and_then_of_their_arrival() {
        let mut store = mk_store();
        put(&mut store, "s", &[(5, "c"), (5, "d")], 10).unwrap();
        put(&mut store, "s", &[(1, "a"), (5, "e"), (9, "f")], 11).unwrap();
        put(&mut store, "s", &[(1, "b")], 11).unwrap();
        assert_eq!(seen(&store, 0..100, 11), "abcdef");
    }

    #[test]
    fn a_window_is_from_its_start_to_before_its_end_and_ends_with_what_has_arrived() {
        let mut store = mk_store();
        put(&mut store, "s", &[(1, "a"), (2, "b"), (3, "c")], 10).unwrap();
        put(&mut store, "s", &[(2, "x")], 20).unwrap();
        assert_eq!(seen(&store, 2..3, 20), "bx");
        assert_eq!(seen(&store, 2..3, 19), "b");
        assert_eq!(seen(&store, 0..100, 9), "");
        let (late, early) = (3, 2);
        assert_eq!(seen(&store, late..early, 20), "");
    }

    #[test]
    fn what_is_rejected_of_a_batch_is_not_kept() {
        let mut store = mk_store();
        let events = ["a", "b", "c"].map(|text| InputEvent { timestamp: 1, message: text.to_owned() });
        let judged = Judged { accepted: 1..2, ..Judged::default() };
        assert_eq!(store.put("g", "s", events.into(), &judged, &ROOM, 1), Ok(1));
        assert_eq!(seen(&store, 0..100, 1), "b");
        assert_eq!(store.group("g").unwrap().bytes(), 27);
    }

    #[test]
    fn what_does_not_fit_is_refused_whole_and_what_is_removed_makes_room() {
        let mut store = mk_store();
        let text = "x".repeat(174);
        assert_eq!(put(&mut store, "s", &[(1, "a"), (1, &text)], 1), Err(StoreError::StreamBytes(200)));
        assert_eq!(put(&mut store, "s", &[(1, &text)], 1), Ok(1));
        store.add_stream("g", "t".to_owned(), &ROOM, 0).unwrap();
        assert_eq!(put(&mut store, "t", &[(1, &text)], 1), Err(StoreError::Bytes(300)));
        assert_eq!(store.add_stream("g", "u".to_owned(), &ROOM, 0), Err(StoreError::Streams(2)));
        store.remove_stream("g", "s").unwrap();
        assert_eq!(put(&mut store, "t", &[(1, &text)], 1), Ok(1));
        assert_eq!(store.add_stream("g", "u".to_owned(), &ROOM, 0), Ok(()));
        store.remove_group("g").unwrap();
        assert_eq!((store.bytes, store.streams), (0, 0));
    }

    #[test]
    fn a_name_is_used_once_and_must_be_there() {
        let mut store = mk_store();
        assert_eq!(store.add_group("g".to_owned(), mk_group(), &ROOM), Err(StoreError::GroupExists));
        assert_eq!(store.add_stream("g", "s".to_owned(), &ROOM, 0), Err(StoreError::StreamExists));
        assert_eq!(store.add_stream("h", "s".to_owned(), &ROOM, 0), Err(StoreError::NoGroup));
        assert_eq!(store.remove_group("h"), Err(StoreError::NoGroup));
        assert_eq!(store.remove_stream("g", "t"), Err(StoreError::NoStream));
        assert_eq!(put(&mut store, "t", &[(1, "a")], 1), Err(StoreError::NoStream));
        store.add_group("h".to_owned(), mk_group(), &ROOM).unwrap();
        assert_eq!(store.add_group("i".to_owned(), mk_group(), &ROOM), Err(StoreError::Groups(2)));
    }

    #[test]
    fn events_expire_when_the_retention_is_over() {
        let mut group = mk_group();
        assert_eq!(group.horizon(10 * DAY), Millis::MIN);
        group.retention_days = Some(3);
        assert_eq!(group.horizon(10 * DAY), 7 * DAY);
    }
}
