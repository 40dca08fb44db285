//! One event of the archive: a CRI log line with its sequence number among the tags,
//! `2026-11-21T03:29:11.489039417Z stdout F:42 text`.
//!
//! It stays a legal CRI line and readable text. Tags after the number:
//!
//! | tag | the text is |
//! |---|---|
//! | `part` | a piece of a line that was too long; the next number goes on with it |
//! | `torn` | the last line of a file that ended without a newline |
//! | `raw` | a line of the file that is no CRI line, as it is |
//! | `cut` | JSON: lines are missing here, and why |
//! | `eof` | JSON: the container ended, nothing follows |
//! | `b64` | in base64: it is not UTF-8, or has characters that a service might refuse |
//! | `@<file>.<offset>` | where in which file its line begins, see [`Origin`] |
//!
//! Pure. Reading is lenient: unknown tags are passed over, and broken JSON or base64 is text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cri::{Line, Malformed, Stream};
use super::position::Serial;
use super::stamp::Stamp;

/// What one event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts the events of a stream, from 0.
    pub seq: u64,
    /// A line's own time; of a malformed line, that of the line before it.
    pub stamp: Stamp,
    pub stream: Stream,
    pub body: Body,
    /// Known for the first piece of a line.
    pub origin: Option<Origin>,
}

/// What stands in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// What the container wrote.
    Line { text: Bytes, end: End },
    /// A line of the file that is none of the runtime's, as it is.
    Malformed { text: Bytes, end: End },
    /// Lines are missing here.
    Cut(Cut),
    /// The container ended; its number is that of all events before it.
    Eof(Eof),
}

/// What ends the text of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The container's own newline (of a malformed line: the file's).
    Full,
    /// The line of the file: the container's line goes on in another one.
    Partial,
    /// The size of an event: the line of the file goes on in the next one.
    Part,
    /// The file, without a newline.
    Torn,
}

/// Where a line begins: in this one of the run's files, at this byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub file: Serial,
    pub offset: u64,
}

/// Why lines are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cut {
    /// For programs, such as [`Cut::DRAIN_DEADLINE`].
    pub reason: String,
    /// For people: the end of a sentence, without a full stop.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Bytes of the log file that are missing, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Cut {
    /// The machine had to end before its logs were read.
    pub const DRAIN_DEADLINE: &str = "DrainDeadline";
    /// The kubelet removed a rotated file before it was read.
    pub const ROTATED_AWAY: &str = "RotatedAway";
    /// The machine ended by itself.
    pub const MACHINE_LOST: &str = "MachineLost";
    /// CloudWatch refused the events for good.
    pub const REFUSED: &str = "Refused";

    /// The line that takes the place of the missing ones.
    #[must_use]
    pub fn sentence(&self) -> String {
        let what = match self.bytes {
            Some(bytes) => format!("{bytes} bytes of this log are"),
            None => "part of this log is".to_owned(),
        };
        let why = if self.message.is_empty() { &self.reason } else { &self.message };
        format!("[orca: {what} missing here: {why}]")
    }
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Eof {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// As in the container's status: `Completed`, `Error`, `OOMKilled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a message says where its line was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    With,
    Without,
}

/// An event that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    #[error("the event is no line of a container log")]
    NoLine(#[from] Malformed),
    #[error("the tags of the event have no sequence number")]
    NoSequence,
}

impl Record {
    /// The event's message.
    #[must_use]
    pub fn encode(&self, checkpoint: Checkpoint) -> String {
        let (text, end, kind) = match &self.body {
            Body::Line { text, end } => (text.clone(), *end, ""),
            Body::Malformed { text, end } => (text.clone(), *end, ":raw"),
            Body::Cut(cut) => (json(cut), End::Full, ":cut"),
            Body::Eof(eof) => (json(eof), End::Full, ":eof"),
        };
        let (letter, end) = match end {
            End::Full => ('F', ""),
            End::Partial => ('P', ""),
            End::Part => ('P', ":part"),
            End::Torn => ('P', ":torn"),
        };
        let (text, form) = match plain(&text) {
            Some(text) => (text.to_owned(), ""),
            None => (BASE64.encode(&text), ":b64"),
        };
        let origin = match (self.origin, checkpoint) {
            (Some(Origin { file, offset }), Checkpoint::With) => format!(":@{file}.{offset}"),
            (None, _) | (_, Checkpoint::Without) => String::new(),
        };
        let (stamp, stream, seq) = (&self.stamp, self.stream.as_str(), self.seq);
        format!("{stamp} {stream} {letter}:{seq}{kind}{end}{form}{origin} {text}")
    }

    /// Reads an event's message.
    ///
    /// # Errors
    /// [`Foreign`] where somebody else wrote it.
    pub fn decode(message: &str) -> Result<Self, Foreign> {
        let padded;
        let mut line = Line::parse(message.as_bytes());
        if line == Err(Malformed::Tags) {
            // Whoever trims messages takes the space before an empty text.
            padded = format!("{} ", message.trim_end_matches('\n'));
            line = Line::parse(padded.as_bytes());
        }
        let Line { stamp, stream, tags, text } = line?;
        let tags = Tags::parse(tags).ok_or(Foreign::NoSequence)?;
        let text = match tags.form {
            Form::Plain => Bytes::copy_from_slice(text),
            Form::Base64 => BASE64.decode(text).map_or_else(|_| Bytes::copy_from_slice(text), Bytes::from),
        };
        let body = match tags.kind {
            Kind::Line => Body::Line { text, end: tags.end },
            Kind::Malformed => Body::Malformed { text, end: tags.end },
            Kind::Cut => Body::Cut(serde_json::from_slice(&text).unwrap_or_else(|_| Cut {
                reason: String::from_utf8_lossy(&text).into_owned(),
                ..Cut::default()
            })),
            Kind::Eof => Body::Eof(serde_json::from_slice(&text).unwrap_or_default()),
        };
        Ok(Self { seq: tags.seq, stamp, stream, body, origin: tags.origin })
    }

    /// Whether a line of the file ends with it: `tail` counts these.
    #[must_use]
    pub fn ends_line(&self) -> bool {
        match &self.body {
            Body::Line { end, .. } | Body::Malformed { end, .. } => matches!(end, End::Full | End::Partial),
            Body::Cut(_) => true,
            Body::Eof(_) => false,
        }
    }
}

/// What the tags of an event say.
#[derive(Clone, Copy, Debug)]
struct Tags {
    seq: u64,
    end: End,
    kind: Kind,
    form: Form,
    origin: Option<Origin>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Line,
    Malformed,
    Cut,
    Eof,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Plain,
    Base64,
}

impl Tags {
    /// `None` without a sequence number.
    fn parse(tags: &[u8]) -> Option<Self> {
        let mut tags = std::str::from_utf8(tags).ok()?.split(':');
        let end = if tags.next() == Some("P") { End::Partial } else { End::Full };
        let seq = tags.next().and_then(sequence)?;
        let mut read = Self { seq, end, kind: Kind::Line, form: Form::Plain, origin: None };
        for tag in tags {
            match tag {
                "part" => read.end = End::Part,
                "torn" => read.end = End::Torn,
                "raw" => read.kind = Kind::Malformed,
                "cut" => read.kind = Kind::Cut,
                "eof" => read.kind = Kind::Eof,
                "b64" => read.form = Form::Base64,
                other => read.origin = origin(other).or(read.origin),
            }
        }
        Some(read)
    }
}

/// Digits alone; no more than an i64 holds, so that one more is always a number.
fn sequence(text: &str) -> Option<u64> {
    let seq = text.parse::<i64>().ok().filter(|_| !text.starts_with('+'))?;
    u64::try_from(seq).ok()
}

fn origin(tag: &str) -> Option<Origin> {
    let (file, offset) = tag.strip_prefix('@')?.split_once('.')?;
    Some(Origin { file: sequence(file)?, offset: sequence(offset)? })
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("strings and numbers are JSON").into()
}

/// The text as it can stand in a message.
///
/// CloudWatch Logs takes UTF-8 and is known to take tabs, carriage returns and the escapes of coloured output. What
/// else XML and terminals stumble over is not risked, nor is a newline, which would end the CRI line.
fn plain(text: &[u8]) -> Option<&str> {
    let is_risky = |char: char| match char {
        '\t' | '\r' | '\u{1b}' => false,
        '\u{fffe}' | '\u{ffff}' => true,
        char => char.is_ascii_control(),
    };
    std::str::from_utf8(text).ok().filter(|text| !text.contains(is_risky))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn stamp(text: &str) -> Stamp {
        Stamp::parse(text.as_bytes()).unwrap()
    }

    fn record(body: Body) -> Record {
        let stamp = stamp("2026-11-21T03:29:11.489039417Z");
        Record { seq: 42, stamp, stream: Stream::Stdout, body, origin: None }
    }

    fn line(text: &'static [u8], end: End) -> Body {
        Body::Line { text: Bytes::from_static(text), end }
    }

    #[test]
    fn every_kind_of_event_has_its_message_and_is_read_back() {
        let eof = Eof {
            exit_code: Some(137),
            finished_at: Some("2026-11-21T03:30:00Z".parse().unwrap()),
            reason: Some("OOMKilled".into()),
        };
        let cut = Cut { reason: Cut::DRAIN_DEADLINE.into(), message: "no time".into(), bytes: Some(7) };
        let raw = Bytes::from_static(b"no line");
        for (body, message) in [
            (line(b"text", End::Full), "F:42 text"),
            (line(b"", End::Full), "F:42 "),
            (line(b"text", End::Partial), "P:42 text"),
            (line(b"text", End::Part), "P:42:part text"),
            (line(b"text", End::Torn), "P:42:torn text"),
            (line(b"\x1b[31mr\xc3\xb6t\x1b[0m\t\r", End::Full), "F:42 \u{1b}[31mröt\u{1b}[0m\t\r"),
            (line(b"\xff\0", End::Full), "F:42:b64 /wA="),
            (line(b"a\0", End::Partial), "P:42:b64 YQA="),
            (Body::Malformed { text: raw.clone(), end: End::Full }, "F:42:raw no line"),
            (Body::Malformed { text: raw, end: End::Part }, "P:42:raw:part no line"),
            (Body::Cut(cut), r#"F:42:cut {"reason":"DrainDeadline","message":"no time","bytes":7}"#),
            (
                Body::Eof(eof),
                r#"F:42:eof {"exitCode":137,"finishedAt":"2026-11-21T03:30:00Z","reason":"OOMKilled"}"#,
            ),
            (Body::Eof(Eof::default()), "F:42:eof {}"),
        ] {
            let record = record(body);
            let encoded = record.encode(Checkpoint::Without);
            assert_eq!(encoded, format!("2026-11-21T03:29:11.489039417Z stdout {message}"));
            assert_eq!(Record::decode(&encoded), Ok(record));
        }
    }

    #[test]
    fn a_checkpoint_says_where_the_line_was_read() {
        let record =
            Record { origin: Some(Origin { file: 3, offset: 8_192 }), ..record(line(b"text", End::Full)) };
        let encoded = record.encode(Checkpoint::With);
        assert_eq!(encoded, "2026-11-21T03:29:11.489039417Z stdout F:42:@3.8192 text");
        assert_eq!(Record::decode(&encoded), Ok(record.clone()));
        assert_eq!(Record::decode(&record.encode(Checkpoint::Without)).unwrap().origin, None);
    }

    #[test]
    fn reading_is_lenient() {
        let head = "2026-11-21T03:29:11.489039417Z stdout";
        let text = |text: &'static str| line(text.as_bytes(), End::Full);
        for (message, body) in [
            ("F:42", text("")),
            ("F:42\n", text("")),
            ("F:42 text\n", text("text")),
            ("X:42 text", text("text")),
            ("F:42:later:@x:@1: text", text("text")),
            ("F:42:b64 %%", text("%%")),
            ("F:42:eof nothing", Body::Eof(Eof::default())),
            (r#"F:42:eof {"exitCode":"zero"}"#, Body::Eof(Eof::default())),
            ("F:42:cut why", Body::Cut(Cut { reason: "why".into(), ..Cut::default() })),
        ] {
            assert_eq!(Record::decode(&format!("{head} {message}")), Ok(record(body)), "{message}");
        }
    }

    #[test]
    fn what_somebody_else_wrote_is_foreign() {
        let head = "2026-11-21T03:29:11.489039417Z stdout";
        for message in
            ["F text", "F: text", "F:x text", "F:-1 text", "F:+1 text", "F:9223372036854775808 text"]
        {
            assert_eq!(Record::decode(&format!("{head} {message}")), Err(Foreign::NoSequence), "{message}");
        }
        for message in ["", "hello", "2026-11-21T03:29:11Z", r#"{"log":"x"}"#] {
            assert!(matches!(Record::decode(message), Err(Foreign::NoLine(_))), "{message}");
        }
    }

    #[test]
    fn what_is_missing_is_told_in_a_sentence() {
        let cut = Cut { reason: "RotatedAway".into(), message: String::new(), bytes: None };
        assert_eq!(cut.sentence(), "[orca: part of this log is missing here: RotatedAway]");
        let cut = Cut { message: "the machine ended".into(), bytes: Some(10), ..cut };
        assert_eq!(cut.sentence(), "[orca: 10 bytes of this log are missing here: the machine ended]");
    }

    /// Text as programs write it, and bytes that are none.
    pub(crate) fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => "[ -~]{0,20}".prop_map(String::into_bytes),
            1 => any::<String>().prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..20),
        ]
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let end = prop_oneof![Just(End::Full), Just(End::Partial), Just(End::Part), Just(End::Torn)];
        let body = prop_oneof![
            4 => (text(), end.clone()).prop_map(|(text, end)| Body::Line { text: text.into(), end }),
            2 => (text(), end).prop_map(|(text, end)| Body::Malformed { text: text.into(), end }),
            1 => (any::<String>(), any::<String>(), any::<Option<u64>>())
                .prop_map(|(reason, message, bytes)| Body::Cut(Cut { reason, message, bytes })),
            1 => (any::<Option<i32>>(), any::<Option<String>>())
                .prop_map(|(exit_code, reason)| Body::Eof(Eof { exit_code, reason, finished_at: None })),
        ];
        let origin = prop::option::of((0..u64::MAX / 2, 0..u64::MAX / 2));
        let seq = 0..u64::MAX / 2;
        (seq, 0..4_000_000_000_000_000_000_i128, any::<bool>(), body, origin).prop_map(
            |(seq, at, is_out, body, origin)| {
                let stamp = Stamp::utc(Timestamp::from_nanosecond(at).unwrap());
                let stream = if is_out { Stream::Stdout } else { Stream::Stderr };
                let origin = origin.map(|(file, offset)| Origin { file, offset });
                Record { seq, stamp, stream, body, origin }
            },
        )
    }

    proptest! {
        #[test]
        fn any_record_comes_back(record in any_record()) {
            let encoded = record.encode(Checkpoint::With);
            let is_refused = |char: char| char.is_ascii_control() && !['\t', '\r', '\x1b'].contains(&char);
            prop_assert!(!encoded.contains(is_refused));
            prop_assert_eq!(Record::decode(&encoded), Ok(record));
        }

        #[test]
        fn any_message_is_read_or_refused_and_what_is_read_comes_back(any: String, tags in "[FP:0-9a-z@.+-]{0,30}", text: String) {
            for message in [any, format!("2026-11-21T03:29:11.489039417Z stdout {tags} {text}")] {
                if let Ok(record) = Record::decode(&message) {
                    prop_assert_eq!(Record::decode(&record.encode(Checkpoint::With)), Ok(record));
                }
            }
        }
    }
}
