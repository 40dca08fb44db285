//! A line of a container's log file, as container runtimes write it and kubelets read it:
//! `2026-11-21T03:29:11.489039417Z stdout F text`.
//!
//! Pure, and without copies. Everything is read as `k8s.io/cri-client/pkg/logs` reads it, so that what a kubelet
//! skips is skipped here.

use std::io::Write;

use super::stamp::Stamp;

/// Where the container wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// The name in a log line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn parse(name: &[u8]) -> Option<Self> {
        [Self::Stdout, Self::Stderr].into_iter().find(|stream| stream.as_str().as_bytes() == name)
    }
}

/// Whether the container ended the line there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Tag `F`: a newline of the container's own follows.
    Full,
    /// Tag `P`: the line was too long for the runtime (16 KiB in containerd), or the stream ended within it.
    Partial,
}

/// One line of the file, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub stamp: Stamp,
    pub stream: Stream,
    /// Tags as they stand, separated by colons; `F` or `P` is the first.
    pub tags: &'a [u8],
    /// What the container wrote, without a newline.
    pub text: &'a [u8],
}

/// Why a line is not one of the runtime's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("expected a time as in RFC 3339, and a space")]
    Time,
    #[error("expected `stdout` or `stderr` and a space after the time")]
    Stream,
    #[error("expected tags such as `F` or `P` and a space after the stream")]
    Tags,
}

impl<'a> Line<'a> {
    /// Parses a line, with or without the newline at its end.
    ///
    /// # Errors
    /// [`Malformed`] where a kubelet would skip the line.
    pub fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (time, rest) = word(line).ok_or(Malformed::Time)?;
        let stamp = Stamp::parse(time).ok_or(Malformed::Time)?;
        let (stream, rest) = word(rest).ok_or(Malformed::Stream)?;
        let stream = Stream::parse(stream).ok_or(Malformed::Stream)?;
        let (tags, text) = word(rest).ok_or(Malformed::Tags)?;
        Ok(Self { stamp, stream, tags, text })
    }

    /// The first tag. As for a kubelet, only `P` is a partial line.
    #[must_use]
    pub fn ending(&self) -> Ending {
        match self.tags.split(|byte| *byte == b':').next() {
            Some(b"P") => Ending::Partial,
            _ => Ending::Full,
        }
    }

    /// Appends the line, with a newline at its end.
    pub fn write(&self, out: &mut Vec<u8>) {
        write!(out, "{} {} ", self.stamp, self.stream.as_str()).expect("a vector takes everything");
        out.extend_from_slice(self.tags);
        out.push(b' ');
        out.extend_from_slice(self.text);
        out.push(b'\n');
    }
}

/// What stands before the first space, and after it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = text.iter().position(|byte| *byte == b' ')?;
    Some((&text[..space], &text[space + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line<'_> {
        Line::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_is_parsed_and_written_as_it_was() {
        for text in [
            "2026-11-21T03:29:11.489039417Z stdout F hello  world \n",
            "2026-11-21T03:29:11.48Z stderr P part\n",
            "2026-11-21T03:29:11+02:00 stdout F \n",
            "2026-11-21T03:29:11Z stdout F:42:eof {}\n",
        ] {
            let mut out = Vec::new();
            line(text).write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn parts_are_what_they_say() {
        let parsed = line("2026-11-21T03:29:11.5Z stderr P:7:part  text\r\n");
        assert_eq!(
            (parsed.stream, parsed.tags, parsed.text),
            (Stream::Stderr, &b"P:7:part"[..], &b" text\r"[..])
        );
        assert_eq!(parsed.ending(), Ending::Partial);
        for full in ["F", "F:x", "", "X", "PP", "F:P"] {
            assert_eq!(
                line(&format!("2026-11-21T03:29:11Z stdout {full} x")).ending(),
                Ending::Full,
                "{full}"
            );
        }
    }

    #[test]
    fn what_a_kubelet_skips_is_malformed() {
        for (text, why) in [
            ("", Malformed::Time),
            ("2026-11-21T03:29:11Z", Malformed::Time),
            ("yesterday stdout F x", Malformed::Time),
            (" 2026-11-21T03:29:11Z stdout F x", Malformed::Time),
            ("2026-11-21T03:29:11Z stdout", Malformed::Stream),
            ("2026-11-21T03:29:11Z stdin F x", Malformed::Stream),
            ("2026-11-21T03:29:11Z  stdout F x", Malformed::Stream),
            ("2026-11-21T03:29:11Z stdout F", Malformed::Tags),
            ("2026-11-21T03:29:11Z stdout F\n", Malformed::Tags),
        ] {
            assert_eq!(Line::parse(text.as_bytes()), Err(why), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_comes_back_and_any_bytes_are_read_or_refused(bytes: Vec<u8>, text: Vec<u8>) {
            if let Ok(line) = Line::parse(&bytes) {
                proptest::prop_assert!(line.text.len() < bytes.len());
            }
            let text: Vec<u8> = text.into_iter().filter(|byte| *byte != b'\n').collect();
            let stamp = Stamp::parse(b"2026-11-21T03:29:11.000000001Z").unwrap();
            let line = Line { stamp, stream: Stream::Stderr, tags: b"P", text: &text };
            let mut out = Vec::new();
            line.write(&mut out);
            proptest::prop_assert_eq!(Line::parse(&out), Ok(line));
        }
    }
}
