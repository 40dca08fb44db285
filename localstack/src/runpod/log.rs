//! The log of a pod: lines of its container and of its host, bounded, and a stream of them that never ends.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Lines that are kept of a pod.
const LINES: usize = 20_000;

/// And their bytes, which hold a few of the longest.
const BYTES: usize = 8 << 20;

/// Where a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Its standard output and error, merged.
    Container,
    /// What its host tells of it.
    System,
}

/// A line. No two have the same cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub cursor: Cursor,
    pub source: Source,
    pub text: String,
}

/// A line's place: what a client sends to go on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub at: Timestamp,
    /// Counts the lines of a pod, from 1.
    pub sequence: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:012}", self.at, self.sequence)
    }
}

impl FromStr for Cursor {
    type Err = String;

    /// Also a bare time, which stands before every line of that time.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (at, sequence) = text.split_once('/').unwrap_or((text, "0"));
        let at = at.parse().map_err(|_| format!("'{text}' is no cursor"))?;
        let sequence = sequence.parse().map_err(|_| format!("'{text}' is no cursor"))?;
        Ok(Self { at, sequence })
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the last lines that there are.
    Tail(usize),
    /// With the first line after this place.
    After(Cursor),
    /// With this line itself, which the reader has had: what a server may do, and clients have to notice.
    With(Cursor),
}

/// A pod's log. Written by its container and its host, read by any number of streams.
#[derive(Debug)]
pub struct Log {
    kept: Mutex<Kept>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    bytes: usize,
    last: Option<Cursor>,
}

impl Default for Log {
    fn default() -> Self {
        Self { kept: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Log {
    /// Adds a line at a time that is not before the last one's.
    pub fn add(&self, source: Source, text: String, now: Timestamp) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = kept.last.map_or(0, |last| last.sequence) + 1;
        let at = kept.last.map_or(now, |last| last.at.max(now));
        let cursor = Cursor { at, sequence };
        kept.last = Some(cursor);
        kept.bytes += text.len();
        kept.lines.push_back(Line { cursor, source, text });
        while kept.lines.len() > LINES || kept.bytes > BYTES {
            let gone = kept.lines.pop_front().map_or(0, |line| line.text.len());
            kept.bytes -= gone;
        }
        drop(kept);
        self.changed.send_replace(sequence);
    }

    /// The place before the first line that a reader of one source, or of both, begins with.
    #[must_use]
    pub fn begin(&self, start: Start, source: Option<Source>) -> Cursor {
        let first = Cursor { at: Timestamp::MIN, sequence: 0 };
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match start {
            Start::After(cursor) => cursor,
            Start::With(cursor) => Cursor { sequence: cursor.sequence.saturating_sub(1), ..cursor },
            Start::Tail(0) => kept.last.unwrap_or(first),
            Start::Tail(count) => {
                let own =
                    kept.lines.iter().rev().filter(|line| source.is_none_or(|source| line.source == source));
                // The one before it may be of the other source, or gone.
                let begin = own.take(count).last().map(|line| line.cursor);
                begin.map_or(first, |cursor| Cursor { sequence: cursor.sequence - 1, ..cursor })
            }
        }
    }

    /// Up to `most` lines after a place.
    #[must_use]
    pub fn after(&self, cursor: Cursor, source: Option<Source>, most: usize) -> Vec<Line> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = kept.lines.partition_point(|line| line.cursor <= cursor);
        let own = |line: &&Line| source.is_none_or(|source| line.source == source);
        kept.lines.range(begin..).filter(own).take(most).cloned().collect()
    }

    /// Changes with every line.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    fn at(millis: u64) -> Timestamp {
        clock::after("2026-06-01T12:02:03Z".parse().unwrap(), Duration::from_millis(millis))
    }

    fn texts(log: &Log, start: Start, source: Option<Source>) -> Vec<String> {
        let begin = log.begin(start, source);
        log.after(begin, source, 1000).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_place_is_a_time_and_a_number_and_reads_back() {
        let cursor = Cursor { at: at(0), sequence: 1 };
        assert_eq!(cursor.to_string(), "2026-06-01T12:02:03Z/000000000001");
        let later = Cursor { at: at(1), sequence: 42 };
        assert_eq!(later.to_string().parse(), Ok(later));
        assert_eq!("2026-06-01T12:02:03Z".parse(), Ok(Cursor { sequence: 0, ..cursor }));
        for wrong in ["", "1", "2026-06-01T12:02:03Z/x", "yesterday/1"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reader_begins_with_the_last_lines_or_after_a_place_or_repeats_the_line_there() {
        let log = Log::default();
        assert_eq!(texts(&log, Start::Tail(10), None), Vec::<String>::new());
        for n in 0..6 {
            let source = if n % 2 == 0 { Source::Container } else { Source::System };
            log.add(source, n.to_string(), at(n));
        }
        assert_eq!(texts(&log, Start::Tail(2), None), ["4", "5"]);
        assert_eq!(texts(&log, Start::Tail(2), Some(Source::Container)), ["2", "4"]);
        assert_eq!(texts(&log, Start::Tail(0), None), Vec::<String>::new());
        assert_eq!(texts(&log, Start::Tail(100), Some(Source::System)), ["1", "3", "5"]);
        let third = Cursor { at: at(3), sequence: 4 };
        assert_eq!(texts(&log, Start::After(third), None), ["4", "5"]);
        assert_eq!(texts(&log, Start::With(third), None), ["3", "4", "5"]);
        assert_eq!(texts(&log, Start::After(Cursor { at: at(3), sequence: 0 }), None), ["3", "4", "5"]);
    }

    #[test]
    fn lines_are_in_the_order_of_their_places_and_the_oldest_go_first() {
        let log = Log::default();
        log.add(Source::Container, "late".to_owned(), at(10));
        log.add(Source::Container, "early".to_owned(), at(5));
        assert_eq!(texts(&log, Start::After(Cursor { at: at(10), sequence: 1 }), None), ["early"]);
        for _ in 0..LINES {
            log.add(Source::Container, "x".to_owned(), at(20));
        }
        assert_eq!(log.after(log.begin(Start::Tail(LINES * 2), None), None, LINES * 2).len(), LINES);
        for _ in 0..3 {
            log.add(Source::Container, "y".repeat(BYTES / 2), at(30));
        }
        assert_eq!(texts(&log, Start::Tail(10), None).len(), 2);
    }
}
