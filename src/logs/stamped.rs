//! Takes a kubelet's answer with `timestamps=true` apart again, whatever chunks it comes in: times, and what the
//! container wrote.
//!
//! Pure. A time stands after every newline; what stands there and is none (the kubelet's own last words, the rest of a
//! line whose beginning was not wanted) is text.
//! With one stream alone, lines of the other one that the kubelet leaves out still count for it as ends of lines: then a
//! time may also stand where the runtime cut a long line, that is anywhere. It is not before that of its line; a time
//! that the container itself writes is.

use jiff::Timestamp;

use super::query::Wanted;
use super::render::Sink;
use super::stamp::Stamp;

/// Reads one answer.
#[derive(Debug)]
pub struct Stamped {
    wanted: Wanted,
    /// What may become a time.
    held: Vec<u8>,
    state: State,
    /// Whether a newline was the last that came.
    is_fresh: bool,
    /// The time before.
    last: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A time may stand here, or has begun.
    Open,
    Text,
}

/// What bytes are that stand where a time may stand.
enum Form {
    /// A time and a space, or the beginning of these.
    Time(Stamp),
    Begun,
    Text,
}

impl Stamped {
    /// For an answer to a request for this.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, held: Vec::new(), state: State::Open, is_fresh: true, last: Timestamp::MIN }
    }

    /// The next bytes of the answer.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut impl Sink) {
        while let Some((first, rest)) = bytes.split_first() {
            match self.state {
                State::Open => {
                    self.held.push(*first);
                    bytes = rest;
                    self.decide(out);
                }
                State::Text => {
                    let (text, rest) = bytes.split_at(self.text(bytes));
                    self.pass(text, out);
                    bytes = rest;
                }
            }
        }
    }

    /// The answer is complete: what might have become a time is none.
    pub fn finish(&mut self, out: &mut impl Sink) {
        let held = std::mem::take(&mut self.held);
        out.text(&held);
    }

    fn decide(&mut self, out: &mut impl Sink) {
        match form(&self.held) {
            Form::Begun => {}
            Form::Time(stamp) if self.is_fresh || stamp.at >= self.last => {
                out.stamp(&self.held);
                self.held.clear();
                (self.last, self.state, self.is_fresh) = (stamp.at, State::Text, false);
            }
            Form::Time(_) | Form::Text => {
                let held = std::mem::take(&mut self.held);
                let (first, rest) = held.split_at(1);
                out.text(first);
                self.is_fresh = first == b"\n";
                self.state = if self.is_fresh { State::Open } else { State::Text };
                self.feed(rest, out);
            }
        }
    }

    /// How much of this is text for certain.
    fn text(&self, bytes: &[u8]) -> usize {
        let may_begin = |byte: &u8| match self.wanted {
            Wanted::All => false,
            Wanted::Only(_) => byte.is_ascii_digit(),
        };
        let end = bytes.iter().position(|byte| *byte == b'\n' || may_begin(byte));
        end.map_or(bytes.len(), |end| end + usize::from(bytes[end] == b'\n'))
    }

    fn pass(&mut self, text: &[u8], out: &mut impl Sink) {
        out.text(text);
        match text.last() {
            Some(last) => self.is_fresh = *last == b'\n',
            // A time may begin at once.
            None => return self.state = State::Open,
        }
        self.state = if self.is_fresh { State::Open } else { State::Text };
    }
}

/// The times of a kubelet have this form, with `Z` or `+01:00` behind it.
const CLOCK: &[u8] = b"0000-00-00T00:00:00.000000000";
const ZONE: &[u8] = b"00:00 ";

fn form(bytes: &[u8]) -> Form {
    let fits = |bytes: &[u8], form: &[u8]| {
        bytes.iter().zip(form).all(|(byte, form)| byte == form || *form == b'0' && byte.is_ascii_digit())
    };
    if !fits(bytes, CLOCK) {
        return Form::Text;
    }
    let Some((zone, rest)) = bytes.get(CLOCK.len()..).and_then(<[u8]>::split_first) else {
        return Form::Begun;
    };
    let end = match zone {
        b'Z' => &ZONE[ZONE.len() - 1..],
        b'+' | b'-' => ZONE,
        _ => return Form::Text,
    };
    if !fits(rest, end) {
        return Form::Text;
    }
    if rest.len() < end.len() {
        return Form::Begun;
    }
    Stamp::parse(&bytes[..bytes.len() - 1]).map_or(Form::Text, Form::Time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logs::cri::Stream;

    /// Times in brackets.
    #[derive(Default)]
    struct Seen(String);

    impl Sink for Seen {
        fn stamp(&mut self, stamp: &[u8]) {
            self.0 += &format!("<{}>", String::from_utf8_lossy(&stamp[..stamp.len() - 1]));
        }

        fn text(&mut self, text: &[u8]) {
            self.0 += &String::from_utf8_lossy(text);
        }
    }

    fn read(wanted: Wanted, text: &str, chunk: usize) -> String {
        let (mut stamped, mut seen) = (Stamped::new(wanted), Seen::default());
        text.as_bytes().chunks(chunk).for_each(|chunk| stamped.feed(chunk, &mut seen));
        stamped.finish(&mut seen);
        seen.0
    }

    const ONE: &str = "2026-11-21T03:29:01.000000000Z";
    const TWO: &str = "2026-11-21T03:29:02.123456789+01:00";

    #[test]
    fn a_time_stands_after_every_newline_and_nowhere_else() {
        for (text, expected) in [
            (format!("{ONE} a\n{TWO} b\n"), format!("<{ONE}>a\n<{TWO}>b\n")),
            (format!("{ONE} \n{ONE} \n"), format!("<{ONE}>\n<{ONE}>\n")),
            // Of the text itself.
            (format!("{ONE} {TWO} b {ONE} c"), format!("<{ONE}>{TWO} b {ONE} c")),
            // The kubelet's last words, and a line whose beginning was not wanted.
            (format!("{ONE} a\nrpc error: code"), format!("<{ONE}>a\nrpc error: code")),
            (format!("rest\n{ONE} a"), format!("rest\n<{ONE}>a")),
            ("2026-11-21T03:29:01.000000000Z".into(), "2026-11-21T03:29:01.000000000Z".into()),
            ("2026-11-21T03:29:01Z \n2026-\n\n".into(), "2026-11-21T03:29:01Z \n2026-\n\n".into()),
            ("2026-13-21T03:29:01.000000000Z a".into(), "2026-13-21T03:29:01.000000000Z a".into()),
        ] {
            for chunk in [1, 7, 1_000] {
                assert_eq!(read(Wanted::All, &text, chunk), expected, "{chunk}");
            }
        }
    }

    #[test]
    fn with_one_stream_a_time_may_stand_anywhere_but_not_before_that_of_its_line() {
        let only = Wanted::Only(Stream::Stdout);
        let (two, earlier) = (TWO.replace("+01:00", "Z"), "2026-11-21T03:29:00.999999999Z");
        for chunk in [1, 7, 1_000] {
            let text = format!("{ONE} {earlier} 20{two} b 7\n{two} 1\n");
            assert_eq!(read(only, &text, chunk), format!("<{ONE}>{earlier} 20<{two}>b 7\n<{two}>1\n"));
            assert_eq!(read(Wanted::All, &text, chunk), format!("<{ONE}>{earlier} 20{two} b 7\n<{two}>1\n"));
        }
    }

    proptest! {
        #[test]
        fn any_chunks_of_anything_give_the_same_and_all_its_bytes(
            bits in prop::collection::vec(prop_oneof![Just("2026-11-21T03:29:01.000000000Z "), Just("\n"), Just("2026-"), Just("x"), Just("y")], 0..30),
            chunk in 1_usize..40, is_all: bool,
        ) {
            let text = bits.concat();
            let wanted = if is_all { Wanted::All } else { Wanted::Only(Stream::Stdout) };
            let seen = read(wanted, &text, chunk);
            prop_assert_eq!(&seen, &read(wanted, &text, 10_000));
            prop_assert_eq!(seen.replace('>', " ").replace('<', ""), text);
        }
    }
}
