//! Bounds: of memory, of windows, and of how long one stream waits for another.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::spdy::{Spdy, WINDOW_MAX};
use super::super::testing::{Client, Ear, GOAWAY, Heard, PING, control, spdy_data, spdy_reset};
use super::*;

fn mux() -> Mux {
    Mux::new(Wire::Spdy(Spdy::default()), 8)
}

/// A connection with streams 1, 3, ... accepted.
fn with_streams(count: u32) -> (Mux, Ear) {
    let (mut mux, mut client, mut ear) = (mux(), Client::default(), Ear::default());
    for id in (1..).step_by(2).take(usize::try_from(count).unwrap()) {
        mux.receive(&mut client.stream(id, "data")).unwrap();
        let opened = mux.opened().unwrap();
        assert_eq!(opened.id, id);
        mux.accept(id);
        assert_eq!(said(&mut mux, &mut ear), [Heard::Reply(id)]);
    }
    (mux, ear)
}

/// What goes next.
fn said(mux: &mut Mux, ear: &mut Ear) -> Vec<Heard> {
    let mut out = Vec::new();
    mux.fill(&mut out);
    assert!(out.len() <= BURST + FRAME_MAX + ANSWERS_MAX + 100, "{} bytes at a time", out.len());
    ear.hear(&out)
}

/// All that can go now: bytes of each stream.
fn all_said(mux: &mut Mux, ear: &mut Ear) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    loop {
        let heard = said(mux, ear);
        if heard.is_empty() {
            return counts;
        }
        for heard in heard {
            if let Heard::Data(id, bytes) | Heard::Last(id, bytes) = heard {
                *counts.entry(id).or_default() += bytes.len();
            }
        }
    }
}

fn hear(mux: &mut Mux, bytes: &[u8]) {
    mux.receive(&mut bytes.to_vec()).unwrap();
}

fn window(id: u32, delta: u32) -> Vec<u8> {
    control(9, &[&id.to_be_bytes(), &delta.to_be_bytes()])
}

fn initial_window(size: u32) -> Vec<u8> {
    control(4, &[&[0, 0, 0, 1, 0, 0, 0, 7], &size.to_be_bytes()])
}

#[test]
fn what_is_written_waits_in_its_stream_and_has_a_bound() {
    let (mut mux, mut ear) = with_streams(1);
    let bytes = vec![7; WRITTEN_MAX];
    assert_eq!(mux.write(1, &bytes[..10]), Written::Bytes(10));
    assert_eq!(mux.write(1, &bytes), Written::Bytes(WRITTEN_MAX - 10));
    assert_eq!(mux.write(1, &bytes), Written::Full);
    assert_eq!(mux.write(1, &[]), Written::Bytes(0));
    assert_eq!(all_said(&mut mux, &mut ear), [(1, WRITTEN_MAX)].into());
    assert!(mux.stirred().contains(&1), "its writer is told of the room");
    assert_eq!(mux.write(1, b"x"), Written::Bytes(1));
    mux.end(1);
    assert_eq!(mux.write(1, b"x"), Written::Closed);
    assert_eq!(said(&mut mux, &mut ear), [Heard::Last(1, b"x".to_vec())]);
    assert_eq!((mux.write(3, b"x"), mux.read(3, &mut [0])), (Written::Closed, Read::Reset));
}

#[test]
fn a_client_that_sends_more_than_is_read_is_not_listened_to() {
    let (mut mux, mut ear) = with_streams(2);
    let part = spdy_data(1, &vec![7; BURST], false);
    let mut parts = 0;
    while mux.is_ready() {
        hear(&mut mux, &part);
        parts += 1;
    }
    assert_eq!((parts, mux.held()), (HELD_MAX / BURST, HELD_MAX));
    let mut buffer = vec![0; 10_000];
    assert_eq!(mux.read(1, &mut buffer), Read::Bytes(10_000));
    assert!(mux.is_ready());
    hear(&mut mux, &spdy_data(1, b"end", true));
    mux.abandon(1);
    assert_eq!(mux.held(), 0);
    hear(&mut mux, &part);
    assert_eq!((mux.held(), mux.read(1, &mut buffer)), (0, Read::Reset));
    // And is told that all of it was taken, whether or not anybody read it.
    let told = |heard: &Heard| if let Heard::Window(0, delta) = heard { *delta } else { 0 };
    let taken: u32 = said(&mut mux, &mut ear).iter().map(told).sum();
    let sent = u32::try_from(HELD_MAX + BURST + 3).unwrap();
    assert!(sent - taken < WINDOW / 2, "{taken} of {sent}");
}

#[test]
fn answers_that_are_not_taken_have_a_bound() {
    let mut mux = mux();
    let mut pings = 0;
    while mux.is_ready() {
        hear(&mut mux, &PING);
        pings += 1;
    }
    assert_eq!(pings, ANSWERS_MAX.div_ceil(PING.len()));
}

#[test]
fn streams_have_a_bound_and_none_begins_after_leave() {
    let (mut client, mut mux, mut ear) = (Client::default(), mux(), Ear::default());
    for id in (1..).step_by(2).take(9) {
        hear(&mut mux, &client.stream(id, "data"));
    }
    assert_eq!(said(&mut mux, &mut ear), [Heard::Reset(17, 3)]);
    assert_eq!(std::iter::from_fn(|| mux.opened()).count(), 8);
    // Forgotten and said, one makes room.
    mux.forget(1);
    assert_eq!(said(&mut mux, &mut ear), [Heard::Last(1, vec![])]);
    hear(&mut mux, &client.stream(19, "data"));
    assert_eq!(mux.opened().map(|opened| opened.id), Some(19));
    hear(&mut mux, &GOAWAY);
    assert!(mux.is_leaving());
    mux.forget(3);
    said(&mut mux, &mut ear);
    hear(&mut mux, &client.stream(21, "data"));
    assert_eq!(said(&mut mux, &mut ear), [Heard::Reset(21, 3)]);
}

#[test]
fn the_window_of_a_client_that_counts_is_kept_and_stalls_its_stream_alone() {
    let (mut mux, mut ear) = with_streams(2);
    hear(&mut mux, &initial_window(1000));
    hear(&mut mux, &window(0, 100_000));
    let bytes = vec![7; WRITTEN_MAX];
    mux.write(1, &bytes);
    mux.write(3, &bytes);
    assert_eq!(all_said(&mut mux, &mut ear), [(1, 1000), (3, 1000)].into());
    hear(&mut mux, &window(3, 5000));
    assert_eq!(all_said(&mut mux, &mut ear), [(3, 5000)].into());
    // A smaller one may leave less than nothing.
    hear(&mut mux, &initial_window(500));
    hear(&mut mux, &window(3, 600));
    assert_eq!(all_said(&mut mux, &mut ear), [(3, 100)].into());
    // The end takes no room.
    let (mut mux, mut ear) = with_streams(1);
    hear(&mut mux, &initial_window(0));
    mux.end(1);
    assert_eq!(said(&mut mux, &mut ear), [Heard::Last(1, vec![])]);
}

#[test]
fn the_window_of_the_connection_is_kept_for_all_streams_together() {
    let (mut mux, mut ear) = with_streams(2);
    hear(&mut mux, &window(1, 1 << 20));
    hear(&mut mux, &window(3, 1 << 20));
    let bytes = vec![7; WRITTEN_MAX];
    mux.write(1, &bytes);
    mux.write(3, &bytes);
    let sent: usize = all_said(&mut mux, &mut ear).values().sum();
    assert_eq!(sent, usize::try_from(WINDOW).unwrap());
    hear(&mut mux, &window(0, 10));
    assert_eq!(all_said(&mut mux, &mut ear).values().sum::<usize>(), 10);
}

#[test]
fn a_client_that_never_speaks_of_windows_is_sent_everything() {
    let (mut mux, mut ear) = with_streams(1);
    for _ in 0..10 {
        mux.write(1, &vec![7; WRITTEN_MAX]);
        assert_eq!(all_said(&mut mux, &mut ear), [(1, WRITTEN_MAX)].into());
    }
    // When it does, what was sent before counts.
    hear(&mut mux, &window(1, 100));
    mux.write(1, b"x");
    assert_eq!(all_said(&mut mux, &mut ear), BTreeMap::new());
}

#[test]
fn a_window_that_is_too_large_ends_its_stream_or_the_connection() {
    let (mut mux, mut ear) = with_streams(1);
    hear(&mut mux, &window(1, WINDOW_MAX));
    assert_eq!(said(&mut mux, &mut ear), [Heard::Reset(1, 7)]);
    assert_eq!(mux.receive(&mut window(0, WINDOW_MAX)), Err(WireError::Window));
}

#[test]
fn a_client_that_counts_can_send_as_fast_as_is_read() {
    let (mut mux, mut ear) = with_streams(1);
    let (mut of_stream, mut of_connection, mut sent) = (i64::from(WINDOW), i64::from(WINDOW), 0_i64);
    let mut buffer = vec![0; 10_000];
    while sent < 4 << 20 {
        let count = of_stream.min(of_connection).min(4096);
        assert!(count > 0, "stuck after {sent} bytes");
        hear(&mut mux, &spdy_data(1, &vec![7; usize::try_from(count).unwrap()], false));
        (of_stream, of_connection, sent) = (of_stream - count, of_connection - count, sent + count);
        while let Read::Bytes(_) = mux.read(1, &mut buffer) {}
        for heard in said(&mut mux, &mut ear) {
            match heard {
                Heard::Window(0, delta) => of_connection += i64::from(delta),
                Heard::Window(1, delta) => of_stream += i64::from(delta),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn streams_take_turns() {
    let (mut mux, mut ear) = with_streams(3);
    for id in [1, 3, 5] {
        mux.write(id, &vec![7; WRITTEN_MAX]);
    }
    let order: Vec<u32> = (0..3)
        .flat_map(|_| said(&mut mux, &mut ear))
        .map(|heard| if let Heard::Data(id, _) = heard { id } else { panic!("{heard:?}") })
        .collect();
    let mut first: Vec<_> = order[..3].to_vec();
    first.sort_unstable();
    assert_eq!(first, [1, 3, 5], "{order:?}");
}

#[test]
fn what_is_deferred_goes_last_and_leave_is_taken_behind_everything() {
    let (mut mux, mut ear) = with_streams(3);
    mux.defer(1);
    mux.write(1, b"status");
    mux.write(3, &vec![7; WRITTEN_MAX]);
    mux.write(5, &vec![7; WRITTEN_MAX]);
    mux.finish(Close::Done);
    assert!(mux.is_ending() && !mux.is_finished());
    let mut heard = Vec::new();
    while !mux.is_finished() {
        heard.extend(said(&mut mux, &mut ear));
    }
    let (leave, rest) = heard.split_last().unwrap();
    assert_eq!((leave, rest.last()), (&Heard::Leaving(5, 0), Some(&Heard::Last(1, b"status".to_vec()))));
    assert_eq!(rest.iter().filter(|heard| matches!(heard, Heard::Last(..))).count(), 3);
    // What the client still says means nothing, but for pings.
    hear(&mut mux, &[spdy_data(3, b"late", true), spdy_reset(5), PING.to_vec()].concat());
    assert_eq!((said(&mut mux, &mut ear), mux.held()), (vec![Heard::Ping(1)], 0));
}

#[test]
fn what_the_client_resets_is_dropped_but_what_it_said_is_not() {
    let (mut mux, mut ear) = with_streams(1);
    mux.write(1, b"nobody hears this");
    hear(&mut mux, &[spdy_data(1, b"bye", false), spdy_reset(1)].concat());
    assert_eq!(mux.write(1, b"nor this"), Written::Closed);
    let mut buffer = [0; 8];
    assert_eq!((mux.read(1, &mut buffer), &buffer[..3]), (Read::Bytes(3), &b"bye"[..]));
    assert_eq!(mux.read(1, &mut buffer), Read::Reset);
    assert_eq!(said(&mut mux, &mut ear), []);
}

/// What happens to a connection with three streams.
#[derive(Clone, Debug)]
enum Happens {
    Comes(u32, usize, bool),
    Reads(u32, usize),
    Writes(u32, usize),
    Ends(u32),
    Goes,
    Opens(u32, u32),
    Resets(u32),
    Forgets(u32),
}

fn happens() -> impl Strategy<Value = Happens> {
    let id = || prop_oneof![Just(1_u32), Just(3), Just(5)];
    prop_oneof![
        4 => (id(), 0..60_000_usize, proptest::bool::weighted(0.02)).prop_map(|(id, n, end)| Happens::Comes(id, n, end)),
        2 => (id(), 0..100_000_usize).prop_map(|(id, n)| Happens::Reads(id, n)),
        4 => (id(), 0..100_000_usize).prop_map(|(id, n)| Happens::Writes(id, n)),
        1 => id().prop_map(Happens::Ends),
        6 => Just(Happens::Goes),
        1 => (prop_oneof![Just(0), id()], 0..100_000_u32).prop_map(|(id, n)| Happens::Opens(id, n)),
        1 => id().prop_map(Happens::Resets),
        1 => id().prop_map(Happens::Forgets),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_memory_and_windows_have_their_bounds(happens in proptest::collection::vec(happens(), 0..300)) {
        let (mut mux, mut ear) = with_streams(3);
        let (mut counts, mut room) = (false, BTreeMap::from([(0, i64::from(WINDOW)), (1, i64::from(WINDOW)), (3, i64::from(WINDOW)), (5, i64::from(WINDOW))]));
        let mut buffer = vec![0; 100_000];
        for happened in happens {
            match happened {
                Happens::Comes(id, count, ends) if mux.is_ready() => hear(&mut mux, &spdy_data(id, &vec![7; count], ends)),
                Happens::Comes(..) => {}
                Happens::Reads(id, count) => drop(mux.read(id, &mut buffer[..count])),
                Happens::Writes(id, count) => drop(mux.write(id, &buffer[..count])),
                Happens::Ends(id) => mux.end(id),
                Happens::Opens(id, delta) => {
                    counts = true;
                    *room.get_mut(&id).unwrap() += i64::from(delta);
                    hear(&mut mux, &window(id, delta));
                }
                Happens::Resets(id) => hear(&mut mux, &spdy_reset(id)),
                Happens::Forgets(id) => mux.forget(id),
                Happens::Goes => for heard in said(&mut mux, &mut ear) {
                    if let Heard::Data(id, bytes) | Heard::Last(id, bytes) = heard {
                        for id in [0, id] {
                            *room.get_mut(&id).unwrap() -= i64::try_from(bytes.len()).unwrap();
                            prop_assert!(!counts || bytes.is_empty() || room[&id] >= 0, "stream {} has {}", id, room[&id]);
                        }
                    }
                },
            }
            prop_assert!(mux.held() < HELD_MAX + 60_000);
            prop_assert_eq!(mux.held(), mux.table.streams.values().map(Stream::held).sum::<usize>());
            prop_assert!(mux.table.streams.values().all(|stream| stream.waits() <= WRITTEN_MAX));
        }
        mux.finish(Close::Done);
        hear(&mut mux, &[window(0, 1 << 29), window(1, 1 << 29), window(3, 1 << 29), window(5, 1 << 29)].concat());
        for _ in 0..20 {
            said(&mut mux, &mut ear);
        }
        prop_assert!(mux.is_finished() && ear.is_between() && mux.held() == 0);
    }
}
