//! Where in which file a container's log is read on, as the kubelet rotates it.
//!
//! The runtime writes `0.log`; the kubelet renames it to `0.log.<time>`, tells the runtime to begin a new `0.log`, and
//! at the next rotation compresses the renamed one to `0.log.<time>.gz` and removes the oldest.
//! A file is told by its head, the time of its first line, not by its inode: compression changes the inode, and a new
//! file often gets that of the one just removed.
//!
//! Pure. It decides from listings of the directory; opening, unpacking and reading is the caller's, who compares the
//! inode of what it opened with that of the listing, since names move.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use super::stamp::Stamp;
use crate::clock;

/// By what a file is known, through renaming and compression.
///
/// The time of its first line, in nanoseconds since 1970; or, negative, a hash, should its first line have no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Head(i64);

/// Bytes of a file's beginning that are enough for its head.
pub const HEAD_BYTES: usize = 64;

impl Head {
    /// Of a file that begins with these bytes, unpacked; `None` while they are too few.
    #[must_use]
    pub fn of(first: &[u8]) -> Option<Self> {
        let first = &first[..first.len().min(HEAD_BYTES)];
        let word = match first.iter().position(|byte| *byte == b' ') {
            Some(space) => &first[..space],
            None if first.len() == HEAD_BYTES => first,
            None => return None,
        };
        let time = Stamp::parse(word).and_then(|stamp| i64::try_from(stamp.at.as_nanosecond()).ok());
        Some(Self(time.filter(|time| *time >= 0).unwrap_or_else(|| hash(word))))
    }

    /// Whether the file is younger; never, where one of them has no time.
    fn is_after(self, other: Self) -> bool {
        other.0 >= 0 && self.0 > other.0
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Head {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// FNV-1a, made negative.
fn hash(bytes: &[u8]) -> i64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash | 1 << 63).cast_signed()
}

/// A file of the log directory, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// In its directory: `0.log`.
    pub name: String,
    pub inode: u64,
    /// As stored.
    pub size: u64,
    /// Of the first [`HEAD_BYTES`], unpacked; `None` while it has fewer, or where it could not be read.
    pub head: Option<Head>,
}

/// How a file of the log is stored. The order is that of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form<'a> {
    /// `0.log.<time>` and, compressed, `0.log.<time>.gz`; the time is the kubelet's, when it renamed the file.
    Rotated { time: &'a str, packing: Packing },
    /// `0.log`: the runtime writes to it.
    Live,
}

/// Whether a rotated file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Packing {
    Gzip,
    None,
}

impl LogFile {
    /// What this is of the log of run `restart`; `None` if nothing (another run's, or half compressed).
    #[must_use]
    pub fn form(&self, restart: u32) -> Option<Form<'_>> {
        let rest = self.name.strip_prefix(&format!("{restart}.log"))?;
        if rest.is_empty() {
            return Some(Form::Live);
        }
        let time = rest.strip_prefix('.')?;
        let (time, packing) = match time.strip_suffix(".gz") {
            Some(time) => (time, Packing::Gzip),
            None => (time, Packing::None),
        };
        // As Go's "20060102-150405" gives it.
        let is_time = time.len() == 15
            && time
                .bytes()
                .enumerate()
                .all(|(at, byte)| if at == 8 { byte == b'-' } else { byte.is_ascii_digit() });
        is_time.then_some(Form::Rotated { time, packing })
    }
}

/// A place in a log, to which one can come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// `None` before the first file.
    pub head: Option<Head>,
    /// Bytes of the file before it, unpacked.
    pub offset: u64,
    /// Number of the next record.
    pub next: u64,
}

impl Position {
    /// The beginning of a log of which nothing is archived.
    pub const START: Self = Self { head: None, offset: 0, next: 0 };
}

/// How long a rotated file may still get lines from a runtime that is about to change over, and how long a file may
/// be missing from listings (which are not atomic) before it is gone. Costs a delay at each rotation.
pub const SETTLE: Duration = Duration::from_secs(1);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing to read: look again after a while.
    Wait,
    /// Read this file from `offset` on, unpacked; then say so with [`Tracker::read`], and [`Tracker::end`] at its end.
    Read { file: &'a LogFile, offset: u64 },
    /// The file so far is done: finish its reader, and read this one from its beginning.
    Next { file: &'a LogFile },
    /// The file so far is gone before it was read to its end: say that lines are missing, and read this one from its
    /// beginning; without one, what is left is in nobody's hands.
    Lost { file: Option<&'a LogFile> },
}

/// Follows one log through its files.
#[derive(Debug)]
pub struct Tracker {
    restart: u32,
    head: Option<Head>,
    /// Bytes read of the file, unpacked.
    offset: u64,
    /// What is known of its end, if it is compressed.
    packed: Packed,
    doubt: Option<(Doubt, Timestamp)>,
}

/// Of a compressed file the size says nothing; its end is known once it was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packed {
    /// It is not compressed, or was not when it was last read.
    No,
    Reading,
    Ended,
}

/// What has to last before it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// The rotated file is read to its end.
    Done,
    /// The file is not listed.
    Missing,
}

impl Tracker {
    /// Follows the log of run `restart` from a place on.
    #[must_use]
    pub fn at(position: Position, restart: u32) -> Self {
        let Position { head, offset, next: _ } = position;
        Self { restart, head, offset, packed: Packed::No, doubt: None }
    }

    /// The file that is being read.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Bytes of it that were read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// So many more bytes of the file were read.
    pub fn read(&mut self, bytes: u64) {
        self.offset += bytes;
        self.doubt = None;
    }

    /// The read that [`Step::Read`] asked for met the end of the file.
    pub fn end(&mut self) {
        if self.packed == Packed::Reading {
            self.packed = Packed::Ended;
        }
    }

    /// What a listing of the directory means.
    pub fn look<'a>(&mut self, files: &'a [LogFile], now: Timestamp) -> Step<'a> {
        let files = self.generations(files);
        let Some(head) = self.head else {
            let Some((file, form)) = files.first() else { return Step::Wait };
            self.enter(file);
            self.packed = form.packed();
            return Step::Read { file, offset: 0 };
        };
        let Some(at) = files.iter().position(|(file, _)| file.head == Some(head)) else {
            if !self.lasts(Doubt::Missing, now) {
                return Step::Wait;
            }
            let file = oldest_after(head, &files);
            if let Some(file) = file {
                self.enter(file);
            }
            return Step::Lost { file };
        };
        let (file, form) = files[at];
        let is_read = match form {
            Form::Rotated { packing: Packing::Gzip, .. } => self.packed == Packed::Ended,
            Form::Rotated { packing: Packing::None, .. } | Form::Live => file.size <= self.offset,
        };
        if !is_read {
            self.doubt = None;
            self.packed = form.packed();
            return Step::Read { file, offset: self.offset };
        }
        let mut younger = files[at + 1..].iter();
        let Some((next, _)) = younger.next() else {
            self.doubt = None;
            return Step::Wait;
        };
        // Once the next but one is there, the runtime has long changed over.
        if younger.next().is_some() || self.lasts(Doubt::Done, now) {
            self.enter(next);
            return Step::Next { file: next };
        }
        Step::Wait
    }

    fn enter(&mut self, file: &LogFile) {
        self.head = file.head;
        self.offset = 0;
        self.packed = Packed::No;
        self.doubt = None;
    }

    /// Whether this has been so for long enough.
    fn lasts(&mut self, doubt: Doubt, now: Timestamp) -> bool {
        match self.doubt {
            Some((before, since)) if before == doubt => now >= clock::after(since, SETTLE),
            Some(_) | None => {
                self.doubt = Some((doubt, now));
                false
            }
        }
    }

    /// The files of this log that have a head, oldest first, each once.
    fn generations<'a>(&self, files: &'a [LogFile]) -> Vec<(&'a LogFile, Form<'a>)> {
        let own = files.iter().filter(|file| file.head.is_some());
        let mut own: Vec<_> = own.filter_map(|file| Some((file, file.form(self.restart)?))).collect();
        // Of a file and what it is compressed to, the file: its size is known.
        own.sort_by_key(|(_, form)| *form);
        own.dedup_by(|later, kept| {
            let is_same = later.0.head == kept.0.head;
            if is_same {
                *kept = *later;
            }
            is_same
        });
        own
    }
}

impl Form<'_> {
    /// What is known of the end of such a file when a read of it begins.
    fn packed(self) -> Packed {
        match self {
            Self::Rotated { packing: Packing::Gzip, .. } => Packed::Reading,
            Self::Rotated { packing: Packing::None, .. } | Self::Live => Packed::No,
        }
    }
}

/// Where to go on when the file with this head is gone.
fn oldest_after<'a>(head: Head, files: &[(&'a LogFile, Form<'a>)]) -> Option<&'a LogFile> {
    let younger = files.iter().find(|(file, _)| file.head.is_some_and(|it| it.is_after(head)));
    // Heads without a time have no order, and clocks are set back: rather a line twice than never.
    let any = if head.0 < 0 { files.first() } else { files.last().filter(|(_, form)| *form == Form::Live) };
    younger.or(any).map(|(file, _)| *file)
}

#[cfg(test)]
mod tests;
