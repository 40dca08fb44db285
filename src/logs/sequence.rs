//! Gives the pieces of a log file their sequence numbers: from here on they are records.
//!
//! Pure. The same pieces from the same number on give the same records, which is what makes "skip what is there
//! already" exact after a restart. Rotation does not show in the numbers: they go on in the next file.

use std::collections::VecDeque;

use bytes::Bytes;

use super::cri::{Ending, Line, Stream};
use super::position::Serial;
use super::reader::{Ends, Piece};
use super::record::{Body, Cut, End, Eof, Origin, Record};
use super::stamp::Stamp;

/// Numbers one container's log.
#[derive(Debug)]
pub struct Numbering {
    next: u64,
    /// Numbers that are no lines of the file, rising: events in the archive that say what is missing.
    taken: VecDeque<u64>,
    /// Of the line under way.
    header: Header,
    /// Lines that are none of the runtime's, so far.
    pub malformed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    stamp: Stamp,
    stream: Stream,
    /// `None` for a malformed line.
    ending: Option<Ending>,
}

impl Numbering {
    /// The next record gets the number `next`. A malformed line has no time; one that comes first gets `stamp`.
    #[must_use]
    pub fn from(next: u64, stamp: Stamp) -> Self {
        let header = Header { stamp, stream: Stream::Stdout, ending: None };
        Self { next, taken: VecDeque::new(), header, malformed: 0 }
    }

    /// Passes over these numbers, which must rise.
    #[must_use]
    pub(super) fn without(self, taken: impl IntoIterator<Item = u64>) -> Self {
        Self { taken: taken.into_iter().collect(), ..self }
    }

    /// The number of the next record.
    #[must_use]
    pub fn next(&self) -> u64 {
        let taken = self.taken.iter().skip_while(|taken| **taken < self.next);
        taken
            .zip(self.next..)
            .take_while(|(taken, next)| **taken == *next)
            .last()
            .map_or(self.next, |(_, next)| next + 1)
    }

    /// Goes on at `next`, unless it is further already: when the lines up to there are gone.
    pub fn at_least(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// The next piece of this file.
    #[must_use]
    pub fn piece(&mut self, piece: &Piece<'_>, file: Serial) -> Record {
        let mut text = piece.bytes;
        if piece.is_first() {
            if let Ok(line) = Line::parse(text) {
                text = line.text;
                self.header = Header { stamp: line.stamp, stream: line.stream, ending: Some(line.ending()) };
            } else {
                self.header = Header { stream: Stream::Stdout, ending: None, ..self.header };
                self.malformed += 1;
            }
        }
        let end = match (piece.ends, self.header.ending) {
            (Ends::Length, _) => End::Part,
            (Ends::File, _) => End::Torn,
            (Ends::Newline, Some(Ending::Full) | None) => End::Full,
            (Ends::Newline, Some(Ending::Partial)) => End::Partial,
        };
        let text = Bytes::copy_from_slice(text);
        let body = match self.header.ending {
            Some(_) => Body::Line { text, end },
            None => Body::Malformed { text, end },
        };
        let origin = piece.is_first().then_some(Origin { file, offset: piece.begin });
        self.record(self.header.stamp, self.header.stream, body, origin)
    }

    /// Lines are missing here.
    #[must_use]
    pub fn cut(&mut self, cut: Cut, stamp: Stamp) -> Record {
        self.record(stamp, Stream::Stderr, Body::Cut(cut), None)
    }

    /// Nothing follows.
    #[must_use]
    pub fn eof(&mut self, eof: Eof, stamp: Stamp) -> Record {
        self.record(stamp, Stream::Stdout, Body::Eof(eof), None)
    }

    fn record(&mut self, stamp: Stamp, stream: Stream, body: Body, origin: Option<Origin>) -> Record {
        let seq = self.next();
        self.next = seq + 1;
        self.taken.retain(|taken| *taken > seq);
        Record { seq, stamp, stream, body, origin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::reader::Reader;
    use crate::logs::record::tests::stamp;

    fn records(file: &[u8], longest: usize) -> (Vec<Record>, Numbering) {
        let mut numbering = Numbering::from(7, stamp("2026-01-01T00:00:00Z"));
        let mut reader = Reader::with_longest(0, longest);
        let mut records = Vec::new();
        reader.feed(file, |piece| records.push(numbering.piece(&piece, 0)));
        reader.finish(|piece| records.push(numbering.piece(&piece, 0)));
        (records, numbering)
    }

    /// Number, second of the time, stream, text, end and origin of a record, in short.
    fn short(record: &Record) -> String {
        let second = record.stamp.to_string()[17..19].to_owned();
        let (kind, text, end) = match &record.body {
            Body::Line { text, end } => ("line", text.clone(), *end),
            Body::Malformed { text, end } => ("raw", text.clone(), *end),
            Body::Cut(cut) => ("cut", cut.reason.clone().into(), End::Full),
            Body::Eof(_) => ("eof", Bytes::new(), End::Full),
        };
        let origin = record.origin.map_or(String::new(), |origin| format!("@{}", origin.offset));
        let text = String::from_utf8(text.to_vec()).unwrap();
        format!("{} {second} {} {kind} {text} {end:?} {origin}", record.seq, record.stream.as_str())
    }

    #[test]
    fn lines_get_numbers_one_by_one_and_malformed_ones_too() {
        let file = b"torn\n2026-11-21T03:29:11Z stdout F a\n2026-11-21T03:29:12Z stderr P b\nx\n2026-11-21T03:29:13Z stderr F c";
        let (records, numbering) = records(file, 1_000);
        let seen: Vec<_> = records.iter().map(short).collect();
        assert_eq!(
            seen,
            [
                "7 00 stdout raw torn Full @0",
                "8 11 stdout line a Full @5",
                "9 12 stderr line b Partial @37",
                "10 12 stdout raw x Full @69",
                "11 13 stderr line c Torn @71",
            ]
        );
        assert_eq!((numbering.next(), numbering.malformed), (12, 2));
    }

    #[test]
    fn pieces_of_a_line_share_its_time_and_stream() {
        let file =
            b"2026-11-21T03:29:11Z stderr F 0123456789abcdef\n2026-11-21T03:29:12Z stdout P 0123456789\n";
        let (records, _) = records(file, 34);
        let seen: Vec<_> = records.iter().map(short).collect();
        assert_eq!(
            seen,
            [
                "7 11 stderr line 0123 Part @0",
                "8 11 stderr line 456789abcdef Full ",
                "9 12 stdout line 0123 Part @47",
                "10 12 stdout line 456789 Partial ",
            ]
        );
    }

    #[test]
    fn numbers_that_are_taken_are_passed_over() {
        let at = stamp("2026-11-21T03:29:59Z");
        let mut numbering = Numbering::from(3, at).without([1, 4, 5, 8]);
        let seqs: Vec<_> =
            (0..5).map(|_| (numbering.next(), numbering.eof(Eof::default(), at).seq)).collect();
        assert_eq!(seqs, [(3, 3), (6, 6), (7, 7), (9, 9), (10, 10)]);
        numbering.at_least(20);
        numbering.at_least(15);
        assert_eq!(numbering.next(), 20);
    }

    #[test]
    fn what_is_missing_and_the_end_take_a_number_as_well() {
        let mut numbering = Numbering::from(0, stamp("2026-01-01T00:00:00Z"));
        let at = stamp("2026-11-21T03:29:59Z");
        let cut = numbering.cut(Cut { reason: "why".into(), ..Cut::default() }, at);
        let eof = numbering.eof(Eof::default(), at);
        assert_eq!(
            (short(&cut), short(&eof)),
            ("0 59 stderr cut why Full ".into(), "1 59 stdout eof  Full ".into())
        );
    }
}
