//! One answer out of several sources that each have all of it: the live kubelet, and the archive when the machine goes.
//!
//! Pure. A kubelet's answer has no sequence numbers, but it can have times: the sources are read with these, and the
//! last lines that were sent are kept as time, length and hash. In the next source everything is passed over up to the
//! very byte that these lines end with. Lines of the same time are counted, however many there are.
//! Should the next source not have these lines (the machine died before they were archived), it goes on with what is
//! later.

mod trail;

use jiff::Timestamp;

use super::render::{Flow, Sink};
use super::stamp::Stamp;
use trail::Trail;

/// Bytes that may be later than all that was sent, before it is believed that the place will not come.
const MAX_LATER: usize = 256 * 1024;

/// The answer as its reader gets it.
#[derive(Debug)]
pub struct Splice {
    timestamps: bool,
    /// Bytes still to send.
    room: Option<u64>,
    /// Only what is later is wanted, until the first line was sent.
    after: Option<Timestamp>,
    out: Vec<u8>,
    sent: Trail,
    ends_line: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// What comes is sent.
    Passing,
    /// What comes was sent before, as far as is known.
    Seeking(Seek),
    /// The place did not come. Up to the next time, nothing is sent.
    Skipping,
}

#[derive(Debug, Default)]
struct Seek {
    seen: Trail,
    /// What is later than all that was sent.
    later: Vec<Part>,
    bytes: usize,
    /// Whether the line under way is later.
    is_later: bool,
}

#[derive(Debug)]
enum Part {
    Stamp(Vec<u8>),
    Text(Vec<u8>),
}

/// Whether an answer shows times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    Shown,
    Hidden,
}

impl Splice {
    /// An answer of at most `room` bytes. Should nothing be sent by the time its source changes, the next one begins
    /// behind `after`, or with its first line.
    #[must_use]
    pub fn new(times: Times, room: Option<u64>, after: Option<Timestamp>) -> Self {
        let timestamps = times == Times::Shown;
        let (out, sent) = (Vec::new(), Trail::default());
        Self { timestamps, room, after, out, sent, ends_line: true, state: State::Passing }
    }

    /// What comes from now on is another source's, which may begin with lines that were sent.
    pub fn change(&mut self) {
        self.state = if self.sent.is_empty() && self.after.is_none() {
            State::Passing
        } else {
            State::Seeking(Seek::default())
        };
    }

    /// Where the next source has to begin, at the latest. `None`: at its beginning.
    #[must_use]
    pub fn begin(&self) -> Option<Timestamp> {
        self.sent.oldest().or(self.after)
    }

    /// Whether something is later than what was sent, and yet the place did not come.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(&self.state, State::Seeking(seek) if !seek.later.is_empty())
    }

    /// The place does not come any more: goes on with what is later.
    pub fn settle(&mut self) {
        match std::mem::replace(&mut self.state, State::Passing) {
            State::Passing => {}
            State::Skipping => self.state = State::Skipping,
            State::Seeking(seek) => {
                if !seek.later.is_empty() {
                    self.end_line();
                }
                if !seek.is_later {
                    self.state = State::Skipping;
                }
                self.replay(seek.later);
            }
        }
    }

    fn replay(&mut self, parts: Vec<Part>) {
        for part in parts {
            match part {
                Part::Stamp(stamp) => self.send_stamp(&stamp),
                Part::Text(text) => self.send_text(&text),
            }
        }
    }

    /// What follows is no part of the line that was sent last.
    fn end_line(&mut self) {
        if !self.ends_line {
            self.push(b"\n");
            self.ends_line = true;
        }
    }

    /// The bytes that are to be sent now.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Bytes that [`Splice::take`] would give.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.out.len()
    }

    /// Whether the answer is complete for want of room.
    #[must_use]
    pub fn flow(&self) -> Flow {
        if self.room == Some(0) { Flow::Done } else { Flow::More }
    }

    fn send_stamp(&mut self, stamp: &[u8]) {
        self.sent.stamp(time(stamp));
        if self.timestamps {
            self.push(stamp);
        }
    }

    fn send_text(&mut self, text: &[u8]) {
        self.sent.text(text);
        self.push(text);
        self.ends_line = text.last().map_or(self.ends_line, |last| *last == b'\n');
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = self.room.map_or(usize::MAX, |room| usize::try_from(room).unwrap_or(usize::MAX));
        let bytes = &bytes[..bytes.len().min(room)];
        self.out.extend_from_slice(bytes);
        if let Some(room) = &mut self.room {
            *room -= bytes.len() as u64;
        }
    }

    /// Looks whether the last that was seen is the last that was sent.
    fn compare(&mut self) {
        if let State::Seeking(seek) = &self.state
            && seek.seen.is_at_end_of(&self.sent)
        {
            self.state = State::Passing;
        }
    }

    /// How many bytes of a text may still belong to the line that ends at the place.
    fn before_place(&self, seek: &Seek, text: &[u8]) -> usize {
        let left = seek.seen.left_to(&self.sent).and_then(|left| usize::try_from(left).ok());
        left.filter(|left| *left <= text.len()).unwrap_or(text.len())
    }

    fn seek_text(&mut self, text: &[u8]) {
        let State::Seeking(seek) = &self.state else { return self.text(text) };
        let (before, rest) = text.split_at(self.before_place(seek, text));
        if let State::Seeking(seek) = &mut self.state {
            seek.seen.text(before);
            seek.keep(Part::Text(before.to_vec()), before.len());
        }
        self.compare();
        if rest.is_empty() {
            return self.lose_patience();
        }
        match &mut self.state {
            State::Seeking(seek) => {
                seek.seen.text(rest);
                seek.keep(Part::Text(rest.to_vec()), rest.len());
                self.lose_patience();
            }
            State::Passing | State::Skipping => self.text(rest),
        }
    }

    fn lose_patience(&mut self) {
        if matches!(&self.state, State::Seeking(seek) if seek.bytes > MAX_LATER) {
            self.settle();
        }
    }
}

impl Seek {
    fn keep(&mut self, part: Part, bytes: usize) {
        if self.is_later && bytes > 0 {
            self.later.push(part);
            self.bytes += bytes;
        }
    }
}

impl Sink for Splice {
    fn stamp(&mut self, stamp: &[u8]) {
        if stamp.is_empty() {
            return;
        }
        match &mut self.state {
            State::Passing => self.send_stamp(stamp),
            State::Skipping => {
                self.state = State::Passing;
                self.end_line();
                self.send_stamp(stamp);
            }
            State::Seeking(seek) => {
                let at = time(stamp);
                seek.seen.stamp(at);
                seek.is_later = self.sent.newest().or(self.after).is_none_or(|sent| at > sent);
                seek.keep(Part::Stamp(stamp.to_vec()), stamp.len());
                // Nothing was sent, so that there is no place.
                if self.sent.is_empty() && seek.is_later {
                    return self.settle();
                }
                self.compare();
            }
        }
    }

    fn text(&mut self, text: &[u8]) {
        match &self.state {
            State::Passing => self.send_text(text),
            State::Skipping => {}
            State::Seeking(_) if text.is_empty() => {}
            State::Seeking(_) => self.seek_text(text),
        }
    }
}

/// Of a time and the space behind it.
fn time(stamp: &[u8]) -> Timestamp {
    stamp.strip_suffix(b" ").and_then(Stamp::parse).map_or(Timestamp::MIN, |stamp| stamp.at)
}

#[cfg(test)]
mod tests;
