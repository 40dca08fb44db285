//! Where to go on after a restart: read from what the archive holds, since nothing else is kept anywhere.
//!
//! Pure. The last events of a stream have checkpoints among them (`batch`). From one of these the file is read again;
//! its lines get the numbers they had, and those that the archive has are skipped.
//! Events become readable seconds after they are written: who looks too early writes some again, with the same
//! numbers, and `merge` passes over them.

use super::position::Position;
use super::record::{Body, Record};
use super::sequence::Numbering;
use super::stamp::Stamp;

/// What the end of a stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// There is nothing: start at [`Position::START`].
    Empty,
    /// These events have no checkpoint before the first one that is missing: read further back in the stream.
    NeedEarlier,
    /// The log is whole, up to its end.
    Ended,
    /// Read on.
    Resume(Resume),
}

/// How to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Where to read, and the number of what is read there.
    pub position: Position,
    /// The time of the last event.
    pub last: Stamp,
    /// The time of the event at `position`: of a malformed line, that before it.
    stamp: Stamp,
    /// Events that are no lines of a file: what is read again must not get their numbers.
    cuts: Vec<u64>,
    known: Known,
}

impl Resume {
    /// Whether the archive lacks this number: only then the record is written.
    #[must_use]
    pub fn is_new(&self, seq: u64) -> bool {
        !self.known.contains(seq)
    }

    /// Numbers what is read from `position` on as it was numbered before.
    #[must_use]
    pub fn numbering(&self) -> Numbering {
        Numbering::from(self.position.next, self.stamp).without(self.cuts.iter().copied())
    }

    /// The number after the highest one in the archive. When reading comes here, nothing has to be skipped any more;
    /// if the file is gone by then, [`Numbering::at_least`] this one is the next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.known.ranges.last().map_or(0, |(_, last)| last + 1)
    }
}

/// Looks at the last events of a stream, in any order, also twice.
#[must_use]
pub fn recover<'a>(records: impl IntoIterator<Item = &'a Record>) -> Recovered {
    let mut records: Vec<_> = records.into_iter().collect();
    records.sort_by_key(|record| record.seq);
    records.dedup_by_key(|record| record.seq);
    let Some(last) = records.last() else { return Recovered::Empty };
    let known = Known::of(records.iter().map(|record| record.seq));
    let missing = known.ranges.first().map_or(0, |(_, last)| last + 1);
    if matches!(last.body, Body::Eof(_)) && last.seq < missing {
        return Recovered::Ended;
    }
    let mut before = records.iter().rev().filter(|record| record.seq < missing);
    let Some((from, origin)) = before.find_map(|record| Some((record, record.origin?))) else {
        return Recovered::NeedEarlier;
    };
    let position = Position { file: origin.file, offset: origin.offset, next: from.seq };
    let cuts = records.iter().filter(|record| record.seq > from.seq && matches!(record.body, Body::Cut(_)));
    let cuts = cuts.map(|record| record.seq).collect();
    Recovered::Resume(Resume { position, last: last.stamp, stamp: from.stamp, cuts, known })
}

/// Numbers, as ranges with both ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    ranges: Vec<(u64, u64)>,
}

impl Known {
    /// Of rising numbers.
    fn of(numbers: impl Iterator<Item = u64>) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                Some(_) | None => ranges.push((number, number)),
            }
        }
        Self { ranges }
    }

    fn contains(&self, number: u64) -> bool {
        let at = self.ranges.partition_point(|(_, last)| *last < number);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::cri::Stream;
    use crate::logs::record::tests::stamp;
    use crate::logs::record::{Cut, End, Eof, Origin};

    /// `7` is the event of that number, `7@30` one with a checkpoint, `7.` the end, `7!` says that lines are missing.
    fn records(text: &str) -> Vec<Record> {
        let record = |word: &str| {
            let number = |text: &str| text.parse::<u64>().unwrap();
            let (seq, offset) =
                word.split_once('@').map_or((word, None), |(seq, offset)| (seq, Some(offset)));
            let body = match seq.chars().last() {
                Some('.') => Body::Eof(Eof::default()),
                Some('!') => Body::Cut(Cut::default()),
                _ => Body::Line { text: "x".into(), end: End::Full },
            };
            let seq = number(seq.trim_end_matches(['.', '!']));
            let origin = offset.map(|offset| Origin { file: 1, offset: number(offset) });
            Record {
                seq,
                stamp: stamp(&format!("2026-11-21T03:29:{seq:02}Z")),
                stream: Stream::Stdout,
                body,
                origin,
            }
        };
        text.split_whitespace().map(record).collect()
    }

    /// Number and offset to read on at, and what of 0 to 9 is new.
    fn resume(text: &str) -> (u64, u64, Vec<u64>) {
        let Recovered::Resume(resume) = recover(&records(text)) else {
            panic!("{text}: {:?}", recover(&records(text)))
        };
        let Position { file, offset, next } = resume.position;
        assert_eq!(file, 1);
        (next, offset, (0..10).filter(|seq| resume.is_new(*seq)).collect())
    }

    #[test]
    fn reading_goes_on_at_the_last_checkpoint_and_skips_what_is_there() {
        assert_eq!(resume("0@0 1 2 3@300 4 5"), (3, 300, vec![6, 7, 8, 9]));
        assert_eq!(resume("5 3@300 4 4 1 3@300 2 0@0"), (3, 300, vec![6, 7, 8, 9]));
        assert_eq!(resume("7@700"), (7, 700, vec![0, 1, 2, 3, 4, 5, 6, 8, 9]));
        let Recovered::Resume(resume) = recover(&records("3@300 4 6")) else { panic!() };
        assert_eq!((resume.next(), resume.last), (7, stamp("2026-11-21T03:29:06Z")));
    }

    #[test]
    fn what_is_missing_in_the_middle_is_read_again() {
        assert_eq!(resume("0@0 1 2@200 3 5@500 6"), (2, 200, vec![4, 7, 8, 9]));
        assert_eq!(resume("0@0 1 3@300 4 6@600 9."), (0, 0, vec![2, 5, 7, 8]));
    }

    #[test]
    fn lines_that_are_read_again_do_not_get_the_number_of_a_cut() {
        let Recovered::Resume(resume) = recover(&records("0! 1@100 2 3! 4 5!")) else { panic!() };
        let mut numbering = resume.numbering();
        let seqs: Vec<_> = (0..4).map(|_| numbering.eof(Eof::default(), resume.last).seq).collect();
        assert_eq!(seqs, [1, 2, 4, 6]);
        assert_eq!(resume.next(), 6);
    }

    #[test]
    fn a_whole_log_is_left_alone() {
        assert_eq!(recover(&records("0@0 1 2 3.")), Recovered::Ended);
        assert_eq!(recover(&records("3.")), Recovered::Ended);
        assert_eq!(recover(&records("")), Recovered::Empty);
    }

    #[test]
    fn without_a_checkpoint_more_of_the_stream_is_needed() {
        assert_eq!(recover(&records("4 5 6")), Recovered::NeedEarlier);
        assert_eq!(recover(&records("4 6@600")), Recovered::NeedEarlier);
    }

    proptest::proptest! {
        #[test]
        fn known_numbers_are_those_that_were_given(numbers in proptest::collection::btree_set(0_u64..60, 0..40)) {
            let known = Known::of(numbers.iter().copied());
            for number in 0..62 {
                proptest::prop_assert_eq!(known.contains(number), numbers.contains(&number));
            }
        }
    }
}
