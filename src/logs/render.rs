//! Turns records into the bytes that a kubelet would send for the same log file.
//!
//! Pure. It does what `ReadLogs` of `k8s.io/cri-client/pkg/logs` (0.36) does, its oddities included:
//! `tail` counts lines of the file, partial, malformed and unwanted ones too, over both streams; a prefix stands only
//! before what follows a newline, whichever stream that newline was on; `since` leaves out whole lines of the file;
//! the bytes of `limitBytes` are those that are sent.
//! Two things differ: a kubelet refuses to answer where the first line that it reads is malformed, which is passed
//! over here like any other; and a kubelet knows the live file only, not the rotated ones.

use jiff::Timestamp;

use super::query::{Options, Wanted};
use super::record::{Body, End, Record};

/// Whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    More,
    /// The answer is complete.
    Done,
}

/// Takes the answer. A vector has all of it as it is sent.
pub trait Sink {
    /// The time before a line, with the space behind it.
    fn stamp(&mut self, stamp: &[u8]);
    /// What the container wrote.
    fn text(&mut self, text: &[u8]);
}

impl Sink for Vec<u8> {
    fn stamp(&mut self, stamp: &[u8]) {
        self.extend_from_slice(stamp);
    }

    fn text(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }
}

/// One answer, record by record.
#[derive(Debug)]
pub struct Render {
    timestamps: bool,
    since: Timestamp,
    wanted: Wanted,
    /// Lines of the file still to come, where they are counted.
    lines: Option<u64>,
    /// Bytes still to send.
    room: Option<u64>,
    /// Whether a newline was the last that was read.
    is_fresh: bool,
    /// Within a line that is in pieces: what was read of it so far.
    pieces: Option<Pieces>,
    /// Number of the record before.
    last: Option<u64>,
    flow: Flow,
}

/// Text of the pieces of a line so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    Empty,
    Some,
}

impl Render {
    /// The answer to a request that came at `now`.
    #[must_use]
    pub fn new(options: &Options, now: Timestamp) -> Self {
        let lines = options.tail_lines.filter(|_| !options.follow);
        Self {
            timestamps: options.timestamps,
            since: options.since(now).unwrap_or(Timestamp::MIN),
            wanted: options.wanted,
            lines,
            room: options.limit_bytes,
            is_fresh: true,
            pieces: None,
            last: None,
            flow: if lines == Some(0) { Flow::Done } else { Flow::More },
        }
    }

    /// Whether the answer is complete, before any record or after.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// Appends what the next record adds to the answer.
    pub fn write(&mut self, record: &Record, out: &mut impl Sink) -> Flow {
        if self.flow == Flow::Done {
            return Flow::Done;
        }
        if self.last.is_some_and(|last| last + 1 != record.seq) {
            self.pieces = None;
        }
        self.last = Some(record.seq);
        match &record.body {
            Body::Line { text, end } => self.line(record, text, *end, out),
            Body::Malformed { .. } => {}
            Body::Cut(cut) => {
                let is_within = self.pieces.take().is_some();
                if is_within || !self.is_fresh {
                    out.text(self.allowed(record, b"\n"));
                    self.is_fresh = true;
                }
                self.line(record, cut.sentence().as_bytes(), End::Full, out);
            }
            Body::Eof(_) => self.flow = Flow::Done,
        }
        self.flow
    }

    fn line(&mut self, record: &Record, text: &[u8], end: End, out: &mut impl Sink) {
        if self.timestamps && self.is_fresh && self.pieces.is_none() {
            let stamp = format!("{} ", record.stamp.fixed());
            out.stamp(self.allowed(record, stamp.as_bytes()));
        }
        out.text(self.allowed(record, text));
        let is_empty = text.is_empty() && self.pieces != Some(Pieces::Some);
        match end {
            End::Full => {
                out.text(self.allowed(record, b"\n"));
                self.is_fresh = true;
            }
            // An empty line without a newline counts as one with it.
            End::Partial | End::Torn => self.is_fresh = is_empty,
            End::Part => {
                self.pieces = Some(if is_empty { Pieces::Empty } else { Pieces::Some });
                return;
            }
        }
        self.pieces = None;
        if let Some(lines) = &mut self.lines {
            *lines -= 1;
            if *lines == 0 {
                self.flow = Flow::Done;
            }
        }
    }

    /// What of these bytes is sent: all of them, if the record is wanted, as far as there is room.
    fn allowed<'a>(&mut self, record: &Record, bytes: &'a [u8]) -> &'a [u8] {
        let is_wanted = match self.wanted {
            Wanted::All => true,
            Wanted::Only(stream) => record.stream == stream,
        };
        if !is_wanted || record.stamp.at < self.since {
            return &[];
        }
        let room = self.room.map_or(usize::MAX, |room| usize::try_from(room).unwrap_or(usize::MAX));
        let bytes = &bytes[..bytes.len().min(room)];
        if let Some(room) = &mut self.room {
            *room -= bytes.len() as u64;
            if *room == 0 {
                self.flow = Flow::Done;
            }
        }
        bytes
    }
}

/// Where in `records` (in order, up to the present end of the log) its last `lines` lines begin. `None` if it does not
/// have more than these: at the beginning of the log, or further back in the archive.
#[must_use]
pub fn tail(records: &[Record], lines: u64) -> Option<usize> {
    let mut left = lines;
    for (at, record) in records.iter().enumerate().rev() {
        if record.ends_line() {
            if left == 0 {
                return Some(at + 1);
            }
            left -= 1;
        }
    }
    None
}

/// The whole answer, from all records of a log, in order. With `follow` it is the answer so far.
#[must_use]
pub fn answer(records: &[Record], options: &Options, now: Timestamp) -> Vec<u8> {
    let first = options.tail_lines.and_then(|lines| tail(records, lines)).unwrap_or(0);
    let mut render = Render::new(options, now);
    let mut out = Vec::new();
    for record in &records[first..] {
        if render.write(record, &mut out) == Flow::Done {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::cri::Stream;
    use crate::logs::record::tests::stamp;
    use crate::logs::record::{Cut, Eof};

    /// One record a line: a second, `o` or `e` for the stream, `F`, `P`, `+` (a piece) or `T` (torn), text.
    fn log(text: &str) -> Vec<Record> {
        let record = |(seq, line): (usize, &str)| {
            let mut words = line.trim_start().splitn(4, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (second, stream, end, text) = (word(), word(), word(), word());
            let text = text.to_owned().into();
            let body = match end {
                "F" => Body::Line { text, end: End::Full },
                "P" => Body::Line { text, end: End::Partial },
                "+" => Body::Line { text, end: End::Part },
                "T" => Body::Line { text, end: End::Torn },
                "M" => Body::Malformed { text, end: End::Full },
                "C" => Body::Cut(Cut { reason: "why".into(), ..Cut::default() }),
                "." => Body::Eof(Eof::default()),
                other => panic!("{other}"),
            };
            let stream = if stream == "o" { Stream::Stdout } else { Stream::Stderr };
            let stamp = stamp(&format!("2026-11-21T03:29:{second:0>2}Z"));
            Record { seq: seq as u64, stamp, stream, body, origin: None }
        };
        text.split('|').enumerate().map(record).collect()
    }

    fn check(text: &str, query: &str, expected: &str) {
        let now = stamp("2026-11-21T03:30:00Z").at;
        let answer = answer(&log(text), &Options::parse(query).unwrap(), now);
        let expected = expected.replace("~", "2026-11-21T03:29:").replace('^', ".000000000Z ");
        assert_eq!(String::from_utf8(answer).unwrap(), expected, "{text} with {query}");
    }

    const LOG: &str = "1 o F one|2 e F two|3 o P thr|3 o F ee|4 o M no line|5 e F five|5 o .";

    #[test]
    fn a_log_comes_without_what_the_runtime_added() {
        check(LOG, "", "one\ntwo\nthree\nfive\n");
        check(LOG, "stream=Stdout", "one\nthree\n");
        check(LOG, "stream=Stderr", "two\nfive\n");
        check("1 o F a|1 o .|2 o F after the end", "", "a\n");
    }

    #[test]
    fn times_stand_after_newlines_of_either_stream() {
        check(LOG, "timestamps=true", "~01^one\n~02^two\n~03^three\n~05^five\n");
        check("1 o P a|2 e F b|3 o F c", "timestamps=true", "~01^ab\n~03^c\n");
        check("1 o P a|2 e F b|3 o F c", "timestamps=true&stream=Stdout", "~01^a~03^c\n");
        check("1 e P a|2 o F b", "timestamps=true&stream=Stdout", "b\n");
        check("1 o P |2 o F b", "timestamps=true", "~01^~02^b\n");
        check("1 o + a|1 o + b|1 o F c|2 o F d", "timestamps=true", "~01^abc\n~02^d\n");
        check("1 o + |1 o P |2 o F d", "timestamps=true", "~01^~02^d\n");
        check("1 o + a|1 o P |2 o F d", "timestamps=true", "~01^ad\n");
    }

    #[test]
    fn the_last_lines_are_those_of_the_file() {
        check(LOG, "tailLines=0", "");
        check(LOG, "tailLines=1", "five\n");
        check(LOG, "tailLines=2", "five\n");
        check(LOG, "tailLines=3", "ee\nfive\n");
        check(LOG, "tailLines=4", "three\nfive\n");
        check(LOG, "tailLines=99", "one\ntwo\nthree\nfive\n");
        check(LOG, "tailLines=3&timestamps=true", "~03^ee\n~05^five\n");
        check(LOG, "tailLines=0&follow=true", "");
        check("1 o + a|1 o + b|1 o F c|2 o F d", "tailLines=2", "abc\nd\n");
        check("1 o F a|2 o F b|3 o T c", "tailLines=1", "b\n");
        check("1 o F a|2 o F b|3 o T c", "tailLines=1&follow=true", "b\nc");
        check("1 o F a|2 o F b|3 o T c", "tailLines=5", "a\nb\nc");
    }

    #[test]
    fn since_is_inclusive_and_applies_within_the_last_lines() {
        check(LOG, "sinceSeconds=57", "three\nfive\n");
        check(LOG, "sinceTime=2026-11-21T03:29:03.000000001Z", "five\n");
        check(LOG, "sinceTime=2026-11-21T03:29:02Z&tailLines=3", "ee\nfive\n");
        check(LOG, "sinceTime=2026-11-21T03:29:05Z&tailLines=99", "five\n");
        check("1 o P a|2 o F b", "sinceTime=2026-11-21T03:29:02Z&timestamps=true", "b\n");
    }

    #[test]
    fn bytes_are_counted_as_they_are_sent() {
        check(LOG, "limitBytes=1", "o");
        check(LOG, "limitBytes=4", "one\n");
        check(LOG, "limitBytes=6", "one\ntw");
        check(LOG, "limitBytes=6&stream=Stderr", "two\nfi");
        check(LOG, "limitBytes=25&timestamps=true", "~01.00000");
        check(LOG, "limitBytes=52&timestamps=true", "~01^one\n~");
        check(LOG, "limitBytes=6&tailLines=3", "ee\nfiv");
        check(LOG, "limitBytes=999", "one\ntwo\nthree\nfive\n");
    }

    #[test]
    fn what_is_missing_is_said_in_a_line_of_its_own() {
        let said = "[orca: part of this log is missing here: why]\n";
        check("1 o F a|2 e C|3 o F b", "", &format!("a\n{said}b\n"));
        check("1 o P a|2 e C|3 o F b", "timestamps=true", &format!("~01^a\n~02^{said}~03^b\n"));
        check("1 o + a|2 e C|3 o F b", "", &format!("a\n{said}b\n"));
        check("1 o F a|2 e C|2 o .", "tailLines=1", said);
    }
}
