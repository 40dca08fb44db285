//! Pages of many streams in the order of time, as FilterLogEvents has them. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cursor::{Cursor, Pause};
use super::read::{Bounds, Left};
use super::store::{EVERYWHERE, Event, Key, Stream, Window};

/// An event and the stream that it is of.
#[derive(Debug)]
pub(super) struct Found {
    pub stream: String,
    pub key: Key,
    pub event: Event,
}

impl Found {
    /// Unlike that of any other event.
    pub(super) fn id(&self) -> String {
        format!("{:020}{:036}", self.key.timestamp.max(0), self.key.sequence)
    }
}

/// The events of a page, and where the next begins, if there are more.
pub(super) fn page<'a>(
    streams: impl Iterator<Item = (&'a String, &'a Stream)>,
    window: &Window,
    from: Option<Cursor>,
    bounds: &Bounds,
) -> (Vec<Found>, Option<Cursor>) {
    if let Some(Cursor { at, pause: Pause::Yes }) = from {
        return (Vec::new(), Some(Cursor::new(at)));
    }
    let places = from.map_or(EVERYWHERE, |cursor| cursor.at..EVERYWHERE.end);
    let mut streams: Vec<_> =
        streams.map(|(name, stream)| (name, stream.visible(window, places.clone()).peekable())).collect();
    // The next event of each stream, the earliest on top; keys are unlike each other in all streams.
    let mut next: BinaryHeap<Reverse<(Key, usize)>> = streams
        .iter_mut()
        .enumerate()
        .filter_map(|(index, (_, events))| events.peek().map(|(key, _)| Reverse((*key, index))))
        .collect();
    let (mut found, mut left) = (Vec::new(), Left::new(bounds));
    while let Some(Reverse((_, index))) = next.pop() {
        let (name, events) = &mut streams[index];
        let Some((key, event)) = events.next() else { continue };
        if !left.take(event) {
            let pause = if bounds.empty_pages { Pause::Yes } else { Pause::No };
            return (found, Some(Cursor { at: key, pause }));
        }
        found.push(Found { stream: (*name).clone(), key, event: event.clone() });
        next.extend(events.peek().map(|(key, _)| Reverse((*key, index))));
    }
    (found, None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::logs::batch::{InputEvent, Judged};
    use crate::logs::read::PAGE_BYTES;
    use crate::logs::store::{Group, Millis, Room, Store};

    const ROOM: Room = Room { groups: 9, streams: 9, stream_bytes: 1 << 30, bytes: 1 << 30 };
    const ALL: Window = Window { times: Millis::MIN..Millis::MAX, arrived_by: Millis::MAX };

    fn mk_store(puts: &[(usize, Vec<Millis>)]) -> (Store, Vec<(Millis, String)>) {
        let mut store = Store::default();
        store.add_group("g".to_owned(), Group::new(0, None, BTreeMap::new()), &ROOM).unwrap();
        for name in 0..3 {
            store.add_stream("g", name.to_string(), &ROOM, 0).unwrap();
        }
        let mut all = Vec::new();
        for (stream, times) in puts {
            let mut times = times.clone();
            times.sort_unstable();
            let mut events = Vec::new();
            for timestamp in times {
                let message = format!("{stream}:{}", all.len());
                all.push((timestamp, message.clone()));
                events.push(InputEvent { timestamp, message });
            }
            let judged = Judged { accepted: 0..events.len(), ..Judged::default() };
            store.put("g", &stream.to_string(), events, &judged, &ROOM, 0).unwrap();
        }
        all.sort_by_key(|(at, _)| *at);
        (store, all)
    }

    /// All events by pages, and how many pages those were.
    fn walk(store: &Store, bounds: &Bounds) -> (Vec<Found>, usize) {
        let (mut all, mut from, mut pages) = (Vec::new(), None, 0);
        loop {
            let group = store.group("g").unwrap();
            let (mut found, next) = page(group.streams.iter(), &ALL, from, bounds);
            pages += 1;
            assert!(found.len() <= bounds.events);
            all.append(&mut found);
            match next {
                Some(next) => from = Some(Cursor::unseal(&next.sealed()).unwrap()),
                None => return (all, pages),
            }
        }
    }

    #[test]
    fn events_of_many_streams_are_interleaved_by_time_and_have_ids_of_their_own() {
        let (store, _) = mk_store(&[(0, vec![1, 4]), (1, vec![2, 2]), (2, vec![2, 3])]);
        let bounds = Bounds { events: 100, bytes: PAGE_BYTES, empty_pages: false };
        let (found, pages) = walk(&store, &bounds);
        let texts: Vec<&str> = found.iter().map(|found| &*found.event.message).collect();
        assert_eq!(texts, ["0:0", "1:2", "1:3", "2:4", "2:5", "0:1"]);
        assert_eq!(found.iter().map(|found| found.stream.as_str()).collect::<String>(), "011220");
        assert_eq!(found.iter().map(Found::id).collect::<std::collections::BTreeSet<_>>().len(), 6);
        assert_eq!((found[0].id().len(), pages), (56, 1));
    }

    #[test]
    fn empty_pages_come_between_others_and_the_last_has_no_token() {
        let (store, _) = mk_store(&[(0, vec![1, 2, 3]), (1, vec![1])]);
        let bounds = Bounds { events: 2, bytes: PAGE_BYTES, empty_pages: true };
        let (found, pages) = walk(&store, &bounds);
        assert_eq!((found.len(), pages), (4, 3));
    }

    proptest! {
        /// Whatever the streams, batches and pages: each event once, in order.
        #[test]
        fn what_was_put_into_streams_comes_back_once_and_in_order(
            puts in prop::collection::vec((0_usize..3, prop::collection::vec(0_i64..20, 1..20)), 1..12),
            events in 1_usize..30,
            bytes in 1_u64..1000,
            empty_pages: bool,
        ) {
            let (store, expected) = mk_store(&puts);
            let (found, _) = walk(&store, &Bounds { events, bytes, empty_pages });
            let found: Vec<(Millis, String)> =
                found.iter().map(|found| (found.key.timestamp, found.event.message.to_string())).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
