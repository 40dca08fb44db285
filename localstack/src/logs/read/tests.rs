use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::logs::batch::{InputEvent, Judged};
use crate::logs::store::{Group, Millis, Room, Store};

const ROOM: Room = Room { groups: 9, streams: 9, stream_bytes: 1 << 30, bytes: 1 << 30 };
const ALL: Window = Window { times: Millis::MIN..Millis::MAX, arrived_by: Millis::MAX };
const LARGE: Bounds = Bounds { events: 10_000, bytes: PAGE_BYTES, empty_pages: false };

fn mk_store() -> Store {
    let mut store = Store::default();
    store.add_group("g".to_owned(), Group::new(0, None, BTreeMap::new()), &ROOM).unwrap();
    store.add_stream("g", "s".to_owned(), &ROOM, 0).unwrap();
    store
}

fn put(store: &mut Store, events: &[(Millis, String)], now: Millis) {
    let events: Vec<InputEvent> =
        events.iter().map(|(at, text)| InputEvent { timestamp: *at, message: text.clone() }).collect();
    let judged = Judged { accepted: 0..events.len(), ..Judged::default() };
    store.put("g", "s", events, &judged, &ROOM, now).unwrap();
}

fn stream(store: &Store) -> &Stream {
    store.group("g").unwrap().stream("s").unwrap()
}

fn texts(page: &Page) -> Vec<String> {
    page.events.iter().map(|(_, event)| event.message.to_string()).collect()
}

fn bounds(events: usize) -> Bounds {
    Bounds { events, ..LARGE }
}

/// Follows a direction until it ends: all texts in order, and how many pages it took.
fn walk(stream: &Stream, window: &Window, first: Start, bounds: &Bounds) -> (Vec<String>, usize) {
    let (mut from, mut seen, mut pages) = (first, Vec::new(), 0);
    loop {
        let page = page(stream, window, from, bounds);
        pages += 1;
        assert!(pages < 10_000, "it does not end");
        let next = match from {
            Start::Head | Start::Forward(_) => {
                seen.extend(texts(&page));
                Start::token(&page.forward_token()).unwrap()
            }
            Start::Tail | Start::Backward(_) => {
                seen.splice(..0, texts(&page));
                Start::token(&page.backward_token()).unwrap()
            }
        };
        if next == from {
            return (seen, pages);
        }
        from = next;
    }
}

fn mk_numbered(count: i64) -> Store {
    let mut store = mk_store();
    let events: Vec<_> = (0..count).map(|n| (n, n.to_string())).collect();
    put(&mut store, &events, 0);
    store
}

#[test]
fn without_a_token_the_latest_page_or_the_earliest_is_read() {
    let store = mk_numbered(10);
    assert_eq!(texts(&page(stream(&store), &ALL, Start::Tail, &bounds(3))), ["7", "8", "9"]);
    assert_eq!(texts(&page(stream(&store), &ALL, Start::Head, &bounds(3))), ["0", "1", "2"]);
}

#[test]
fn at_the_end_the_same_token_comes_back_until_more_arrives() {
    let mut store = mk_numbered(2);
    let first = page(stream(&store), &ALL, Start::Head, &LARGE);
    let token = first.forward_token();
    let end = page(stream(&store), &ALL, Start::token(&token).unwrap(), &LARGE);
    assert_eq!((texts(&end).len(), end.forward_token()), (0, token.clone()));
    put(&mut store, &[(1, "late".to_owned()), (5, "new".to_owned())], 0);
    let more = page(stream(&store), &ALL, Start::token(&token).unwrap(), &LARGE);
    assert_eq!(texts(&more), ["late", "new"], "of the same time, but later");
    let back = page(stream(&store), &ALL, Start::token(&first.backward_token()).unwrap(), &LARGE);
    assert_eq!((texts(&back).len(), back.backward_token()), (0, first.backward_token()));
}

#[test]
fn a_page_can_be_turned_back() {
    let store = mk_numbered(6);
    let first = page(stream(&store), &ALL, Start::Head, &bounds(2));
    let second = page(stream(&store), &ALL, Start::token(&first.forward_token()).unwrap(), &bounds(2));
    let again = page(stream(&store), &ALL, Start::token(&second.backward_token()).unwrap(), &bounds(2));
    assert_eq!((texts(&second), texts(&again)), (vec!["2".to_owned(), "3".to_owned()], texts(&first)));
    let end = page(stream(&store), &ALL, Start::Tail, &bounds(2));
    let past = page(stream(&store), &ALL, Start::token(&end.forward_token()).unwrap(), &bounds(2));
    let last = page(stream(&store), &ALL, Start::token(&past.backward_token()).unwrap(), &bounds(2));
    assert_eq!(texts(&last), ["4", "5"]);
}

#[test]
fn an_event_that_arrives_late_for_a_time_that_was_read_is_not_seen_by_who_went_on() {
    let mut store = mk_numbered(3);
    let token = page(stream(&store), &ALL, Start::Head, &LARGE).forward_token();
    put(&mut store, &[(1, "late".to_owned())], 0);
    assert_eq!(texts(&page(stream(&store), &ALL, Start::token(&token).unwrap(), &LARGE)).len(), 0);
    assert_eq!(texts(&page(stream(&store), &ALL, Start::Head, &LARGE)), ["0", "1", "late", "2"]);
}

#[test]
fn an_empty_stream_has_tokens_with_which_its_first_events_are_read() {
    let mut store = mk_store();
    let times = 5..Millis::MAX;
    let window = Window { times, ..ALL };
    for from in [Start::Head, Start::Tail] {
        let token = page(stream(&store), &window, from, &LARGE).forward_token();
        let again = page(stream(&store), &window, Start::token(&token).unwrap(), &LARGE);
        assert_eq!(again.forward_token(), token);
    }
    let token = page(stream(&store), &ALL, Start::Tail, &LARGE).forward_token();
    put(&mut store, &[(0, "first".to_owned())], 0);
    assert_eq!(texts(&page(stream(&store), &ALL, Start::token(&token).unwrap(), &LARGE)), ["first"]);
}

#[test]
fn a_page_holds_a_mebibyte_counted_as_when_it_was_put() {
    let mut store = mk_store();
    let text = "x".repeat(262_118);
    put(
        &mut store,
        &[(0, text.clone()), (1, text.clone()), (2, text.clone()), (3, text), (4, "y".to_owned())],
        0,
    );
    assert_eq!(page(stream(&store), &ALL, Start::Head, &LARGE).events.len(), 4);
    assert_eq!(page(stream(&store), &ALL, Start::Tail, &LARGE).events.len(), 4);
    let small = Bounds { bytes: 10, ..LARGE };
    assert_eq!(walk(stream(&store), &ALL, Start::Head, &small).0.len(), 5, "one fits always");
}

#[test]
fn empty_pages_come_between_others_with_tokens_that_differ() {
    let store = mk_numbered(6);
    let empty = Bounds { empty_pages: true, ..bounds(2) };
    for from in [Start::Head, Start::Tail] {
        let (seen, pages) = walk(stream(&store), &ALL, from, &empty);
        assert_eq!((seen.join(""), pages), ("012345".to_owned(), 7));
        assert_eq!(walk(stream(&store), &ALL, from, &bounds(2)).1, 4);
    }
}

proptest! {
    /// Whatever the batches and the pages: each event once, in order of time, and of arrival where that is equal.
    #[test]
    fn what_was_put_comes_back_once_and_in_order(
        batches in prop::collection::vec((prop::collection::vec(0_i64..50, 1..30), 0_i64..5), 1..12),
        size in 1_usize..40,
        bytes in 1_u64..2000,
        empty_pages: bool,
        (start, end, arrived_by) in (-1_i64..50, 0_i64..60, 0_i64..6),
    ) {
        let mut store = mk_store();
        let (mut expected, mut count) = (Vec::new(), 0);
        for (mut times, arrived) in batches {
            times.sort_unstable();
            let events: Vec<(Millis, String)> = times
                .into_iter()
                .map(|at| { count += 1; (at, count.to_string()) })
                .collect();
            put(&mut store, &events, arrived);
            expected.extend(events.into_iter().map(|(at, text)| (at, text, arrived)));
        }
        // Stable: of the same time, as they came.
        expected.sort_by_key(|(at, ..)| *at);
        let texts = |keep: &dyn Fn(&Millis, &Millis) -> bool| -> Vec<String> {
            expected.iter().filter(|(at, _, arrived)| keep(at, arrived)).map(|(_, text, _)| text.clone()).collect()
        };
        let bounds = Bounds { events: size, bytes, empty_pages };
        for from in [Start::Head, Start::Tail] {
            prop_assert_eq!(walk(stream(&store), &ALL, from, &bounds).0, texts(&|_, _| true));
            let window = Window { times: start..end, arrived_by };
            let part = texts(&|at, arrived| *at >= start && *at < end && *arrived <= arrived_by);
            prop_assert_eq!(walk(stream(&store), &window, from, &bounds).0, part);
        }
    }
}
