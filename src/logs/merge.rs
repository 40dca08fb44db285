//! One sequence of records out of several sources: pages of the archive (at least once, in any order) and the live
//! file.
//!
//! Pure. Numbers decide: each record comes out once, in order. A number that does not come is waited for, since
//! CloudWatch shows events late; in the end it is reported as a gap, never passed over in silence.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

use super::record::{Body, Record};
use crate::clock;

/// How long a missing number is waited for. CloudWatch shows events after one to three seconds, as a rule.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of records held while one before them is missing, at most; then it is waited for no longer.
pub const MAX_HELD: usize = 4 << 20;
/// What a record costs besides its text, roughly.
const OVERHEAD: usize = 128;

/// Puts records in order.
#[derive(Debug)]
pub struct Merge {
    next: u64,
    held: BTreeMap<u64, Record>,
    bytes: usize,
    /// Since when the next number has been missing.
    since: Option<Timestamp>,
    state: State,
    /// Records that came again.
    pub repeats: u64,
    /// Records that came again with another content; the first one counts.
    pub conflicts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more comes in.
    Closed,
    /// The container's end went out.
    Ended,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// The next one. An [`Body::Eof`] is the last.
    Record(Record),
    /// These numbers are missing. What follows them comes next.
    Gap(Range<u64>),
    /// Nothing now: put in more, or look again at this time.
    Wait(Option<Timestamp>),
    /// Nothing ever.
    End,
}

impl Merge {
    /// The first record to come out has this number.
    #[must_use]
    pub fn from(next: u64) -> Self {
        let (held, bytes, since, state) = (BTreeMap::new(), 0, None, State::Open);
        Self { next, held, bytes, since, state, repeats: 0, conflicts: 0 }
    }

    /// The number of the next record: what a source has before it is not needed.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes a record from any source.
    pub fn push(&mut self, record: Record) {
        if record.seq < self.next || self.state == State::Ended {
            self.repeats += 1;
            return;
        }
        match self.held.entry(record.seq) {
            Entry::Vacant(place) => {
                self.bytes += size(&record);
                place.insert(record);
            }
            Entry::Occupied(first) if is_same(first.get(), &record) => self.repeats += 1,
            Entry::Occupied(_) => self.conflicts += 1,
        }
    }

    /// Nothing more comes: what is missing now stays so.
    pub fn close(&mut self) {
        if self.state == State::Open {
            self.state = State::Closed;
        }
    }

    /// What comes next; to be called until it says [`Pulled::Wait`] or [`Pulled::End`].
    pub fn pull(&mut self, now: Timestamp) -> Pulled {
        if self.state == State::Ended {
            return Pulled::End;
        }
        if let Some(record) = self.held.remove(&self.next) {
            self.bytes -= size(&record);
            self.next += 1;
            self.since = None;
            if matches!(record.body, Body::Eof(_)) {
                self.state = State::Ended;
            }
            return Pulled::Record(record);
        }
        let Some(first) = self.held.keys().next().copied() else {
            return if self.state == State::Closed { Pulled::End } else { Pulled::Wait(None) };
        };
        let until = clock::after(*self.since.get_or_insert(now), PATIENCE);
        if now >= until || self.bytes > MAX_HELD || self.state == State::Closed {
            let gap = self.next..first;
            self.next = first;
            self.since = None;
            return Pulled::Gap(gap);
        }
        Pulled::Wait(Some(until))
    }
}

/// All of these records, once and in order, and the gaps between them. What is missing before the first is none.
#[must_use]
pub fn in_order(records: impl IntoIterator<Item = Record>) -> (Vec<Record>, Vec<Range<u64>>) {
    let records: Vec<_> = records.into_iter().collect();
    let mut merge = Merge::from(records.iter().map(|record| record.seq).min().unwrap_or(0));
    let (mut ordered, mut gaps) = (Vec::with_capacity(records.len()), Vec::new());
    records.into_iter().for_each(|record| merge.push(record));
    merge.close();
    loop {
        match merge.pull(Timestamp::MIN) {
            Pulled::Record(record) => ordered.push(record),
            Pulled::Gap(gap) => gaps.push(gap),
            Pulled::Wait(_) | Pulled::End => return (ordered, gaps),
        }
    }
}

/// Where a line was read is told by some events and not by others.
fn is_same(one: &Record, other: &Record) -> bool {
    (one.stamp, one.stream, &one.body) == (other.stamp, other.stream, &other.body)
}

fn size(record: &Record) -> usize {
    let text = match &record.body {
        Body::Line { text, .. } | Body::Malformed { text, .. } => text.len(),
        Body::Cut(cut) => cut.reason.len() + cut.message.len(),
        Body::Eof(eof) => eof.reason.as_ref().map_or(0, String::len),
    };
    OVERHEAD + text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logs::cri::Stream;
    use crate::logs::record::tests::stamp;
    use crate::logs::record::{End, Eof, Origin};

    fn record(seq: u64, text: &str) -> Record {
        let body = Body::Line { text: text.to_owned().into(), end: End::Full };
        Record { seq, stamp: stamp("2026-11-21T03:29:11Z"), stream: Stream::Stdout, body, origin: None }
    }

    fn eof(seq: u64) -> Record {
        Record { body: Body::Eof(Eof::default()), ..record(seq, "") }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn archive_and_live_file_become_one_log() {
        let mut merge = Merge::from(0);
        for seq in [1, 0, 1, 2, 3] {
            merge.push(record(seq, "x"));
        }
        for seq in 0..4 {
            assert_eq!(merge.pull(at(0)), Pulled::Record(record(seq, "x")));
        }
        assert_eq!((merge.pull(at(0)), merge.next()), (Pulled::Wait(None), 4));
        // The live file begins before the archive ends.
        for record in [record(2, "x"), record(3, "x"), record(4, "x"), eof(5), record(6, "x")] {
            merge.push(record);
        }
        assert_eq!(merge.pull(at(1)), Pulled::Record(record(4, "x")));
        assert_eq!(merge.pull(at(1)), Pulled::Record(eof(5)));
        assert_eq!(merge.pull(at(1)), Pulled::End);
        assert_eq!((merge.repeats, merge.conflicts), (3, 0));
    }

    #[test]
    fn a_missing_record_is_waited_for_and_then_reported() {
        let mut merge = Merge::from(0);
        merge.push(record(2, "x"));
        assert_eq!(merge.pull(at(0)), Pulled::Wait(Some(at(10))));
        assert_eq!(merge.pull(at(9)), Pulled::Wait(Some(at(10))));
        merge.push(record(0, "x"));
        assert_eq!(merge.pull(at(9)), Pulled::Record(record(0, "x")));
        assert_eq!(merge.pull(at(9)), Pulled::Wait(Some(at(19))));
        assert_eq!(merge.pull(at(19)), Pulled::Gap(1..2));
        assert_eq!(merge.pull(at(19)), Pulled::Record(record(2, "x")));
        merge.push(record(1, "too late"));
        assert_eq!((merge.pull(at(19)), merge.repeats), (Pulled::Wait(None), 1));
    }

    #[test]
    fn when_nothing_more_comes_or_too_much_is_held_nothing_is_waited_for() {
        let mut merge = Merge::from(5);
        merge.push(record(9, "x"));
        merge.close();
        assert_eq!(merge.pull(at(0)), Pulled::Gap(5..9));
        assert_eq!(merge.pull(at(0)), Pulled::Record(record(9, "x")));
        assert_eq!(merge.pull(at(0)), Pulled::End);

        let mut merge = Merge::from(0);
        let text = "x".repeat(MAX_HELD / 4);
        for seq in 1..4 {
            merge.push(record(seq, &text));
            assert_eq!(merge.pull(at(0)), Pulled::Wait(Some(at(10))));
        }
        merge.push(record(4, &text));
        assert_eq!(merge.pull(at(0)), Pulled::Gap(0..1));
    }

    #[test]
    fn the_same_number_with_another_text_is_a_conflict() {
        let mut merge = Merge::from(0);
        merge.push(record(0, "first"));
        merge.push(Record { origin: Some(Origin { file: 1, offset: 7 }), ..record(0, "first") });
        merge.push(record(0, "second"));
        assert_eq!((merge.repeats, merge.conflicts), (1, 1));
        assert_eq!(merge.pull(at(0)), Pulled::Record(record(0, "first")));
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_give_each_record_once_in_order(
            count in 0_u64..40, picks in prop::collection::vec(any::<prop::sample::Index>(), 0..120), pulls in prop::collection::vec(any::<bool>(), 120),
        ) {
            let all: Vec<_> = (0..count).map(|seq| record(seq, &seq.to_string())).collect();
            let mut merge = Merge::from(0);
            let mut out = Vec::new();
            let mut pull = |merge: &mut Merge| loop {
                match merge.pull(at(0)) {
                    Pulled::Record(record) => out.push(record),
                    Pulled::Gap(gap) => panic!("{gap:?}"),
                    Pulled::Wait(_) | Pulled::End => return,
                }
            };
            if count > 0 {
                for (pick, is_pulled) in picks.iter().zip(pulls) {
                    merge.push(all[pick.index(all.len())].clone());
                    if is_pulled {
                        pull(&mut merge);
                    }
                }
            }
            all.iter().rev().for_each(|record| merge.push(record.clone()));
            pull(&mut merge);
            prop_assert_eq!(out, all);
            prop_assert_eq!((merge.bytes, merge.conflicts, merge.repeats), (0, 0, if count > 0 { 120.min(picks.len() as u64) } else { 0 }));
        }

        #[test]
        fn what_is_there_and_what_is_missing_make_the_whole(seqs in prop::collection::vec(0_u64..50, 1..40)) {
            let (records, gaps) = in_order(seqs.iter().map(|seq| record(*seq, "x")));
            let mut numbers: Vec<_> = records.iter().map(|record| record.seq).collect();
            prop_assert!(numbers.is_sorted_by(|a, b| a < b));
            numbers.extend(gaps.into_iter().flatten());
            numbers.sort_unstable();
            let (first, last) = (seqs.iter().min().unwrap(), seqs.iter().max().unwrap());
            prop_assert_eq!(numbers, (*first..=*last).collect::<Vec<_>>());
        }
    }
}
