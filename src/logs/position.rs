//! Where in which file a container's log is read on, as the kubelet rotates it.
//!
//! The runtime writes `0.log`; the kubelet renames it, tells the runtime to begin a new one, and later compresses and
//! removes what it renamed; of a deleted pod it removes everything at once. So the machine keeps a second name for each
//! file (`guest/scripts/keep-logs.sh`), with a number that rises from file to file of a run and is never used again.
//! These are the files here.
//!
//! Pure. It decides from listings of the kept files; reading is the caller's.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;

/// Number of a kept file of a run: 0 for its first.
pub type Serial = u64;

/// A kept file, as listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub serial: Serial,
    /// In bytes. It only grows.
    pub size: u64,
}

/// A place in a log, to which one can come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub file: Serial,
    /// Bytes of the file before it.
    pub offset: u64,
    /// Number of the next record.
    pub next: u64,
}

impl Position {
    /// The beginning of a log of which nothing is archived.
    pub const START: Self = Self { file: 0, offset: 0, next: 0 };
}

/// How long a file may still get lines when there is a younger one: the runtime is about to change over. Costs a delay at
/// each rotation.
pub const SETTLE: Duration = Duration::from_secs(1);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to read: look again after a while.
    Wait,
    /// Read `bytes` of this file from `offset` on; then say so with [`Tracker::read`].
    Read { file: Serial, offset: u64, bytes: u64 },
    /// The file so far is done: finish its reader, and go on with this one from its beginning.
    Next { file: Serial },
    /// Files are gone before they were read to their end, the last one maybe in part: say that lines are missing, and go
    /// on with this one from its beginning.
    Lost { file: Serial },
}

/// Follows one log through its files.
#[derive(Debug)]
pub struct Tracker {
    file: Serial,
    offset: u64,
    /// Since when the file has been read to its end and a younger one is there.
    done: Option<Timestamp>,
}

impl Tracker {
    /// Follows a log from a place on.
    #[must_use]
    pub fn at(position: Position) -> Self {
        let Position { file, offset, next: _ } = position;
        Self { file, offset, done: None }
    }

    /// The file that is being read.
    #[must_use]
    pub fn file(&self) -> Serial {
        self.file
    }

    /// So many more bytes of the file were read.
    pub fn read(&mut self, bytes: u64) {
        self.offset += bytes;
        self.done = None;
    }

    /// What a listing means; `files` are those of this log, oldest first.
    pub fn look(&mut self, files: &[LogFile], now: Timestamp) -> Step {
        let younger = &files[files.partition_point(|file| file.serial <= self.file)..];
        let Some(current) = files.iter().find(|file| file.serial == self.file) else {
            let Some(next) = younger.first() else { return Step::Wait };
            self.enter(next.serial);
            return Step::Lost { file: next.serial };
        };
        if current.size > self.offset {
            self.done = None;
            return Step::Read { file: self.file, offset: self.offset, bytes: current.size - self.offset };
        }
        let Some(next) = younger.first() else { return Step::Wait };
        let since = *self.done.get_or_insert(now);
        // Once the next but one is there, the runtime has long changed over.
        if younger.len() == 1 && now < clock::after(since, SETTLE) {
            return Step::Wait;
        }
        let is_next = next.serial == self.file + 1;
        self.enter(next.serial);
        if is_next { Step::Next { file: next.serial } } else { Step::Lost { file: next.serial } }
    }

    /// Whether a listing has nothing that was not read.
    #[must_use]
    pub fn is_at_end(&self, files: &[LogFile]) -> bool {
        files.last().is_none_or(|last| last.serial == self.file && last.size <= self.offset)
    }

    fn enter(&mut self, file: Serial) {
        *self = Self::at(Position { file, offset: 0, next: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// `3:10` is file 3 with 10 bytes.
    fn files(text: &str) -> Vec<LogFile> {
        let file = |word: &str| {
            let (serial, size) = word.split_once(':').unwrap();
            LogFile { serial: serial.parse().unwrap(), size: size.parse().unwrap() }
        };
        text.split_whitespace().map(file).collect()
    }

    fn read(file: Serial, offset: u64, bytes: u64) -> Step {
        Step::Read { file, offset, bytes }
    }

    #[test]
    fn a_file_is_read_as_it_grows() {
        let mut log = Tracker::at(Position::START);
        assert_eq!(log.look(&files(""), at(0)), Step::Wait);
        assert_eq!(log.look(&files("0:0"), at(0)), Step::Wait);
        assert_eq!(log.look(&files("0:10"), at(1)), read(0, 0, 10));
        log.read(7);
        assert_eq!(log.look(&files("0:10"), at(1)), read(0, 7, 3));
        assert!(!log.is_at_end(&files("0:10")));
        log.read(3);
        assert_eq!(log.look(&files("0:10"), at(100)), Step::Wait);
        assert!(log.is_at_end(&files("0:10")) && !log.is_at_end(&files("0:10 1:0")));
    }

    #[test]
    fn a_rotated_file_may_grow_for_a_moment() {
        let mut log = Tracker::at(Position { file: 0, offset: 10, next: 3 });
        assert_eq!(log.look(&files("0:10 1:5"), at(0)), Step::Wait);
        assert_eq!(log.look(&files("0:12 1:5"), at(0)), read(0, 10, 2));
        log.read(2);
        assert_eq!(log.look(&files("0:12 1:5"), at(1)), Step::Wait);
        assert_eq!(log.look(&files("0:12 1:5"), at(2)), Step::Next { file: 1 });
        assert_eq!(log.look(&files("0:12 1:5"), at(2)), read(1, 0, 5));
    }

    #[test]
    fn two_rotations_behind_there_is_nothing_to_wait_for() {
        let mut log = Tracker::at(Position { file: 0, offset: 10, next: 3 });
        assert_eq!(log.look(&files("0:10 1:5 2:5"), at(0)), Step::Next { file: 1 });
    }

    #[test]
    fn files_that_are_gone_are_told() {
        let mut log = Tracker::at(Position { file: 2, offset: 10, next: 3 });
        assert_eq!(log.look(&files("4:10 5:0"), at(0)), Step::Lost { file: 4 });
        assert_eq!(log.look(&files("4:10 5:0"), at(0)), read(4, 0, 10));
        log.read(10);
        assert_eq!(log.look(&files("4:10 6:0 7:0"), at(0)), Step::Lost { file: 6 });
        let mut fresh = Tracker::at(Position::START);
        assert_eq!(fresh.look(&files("3:1"), at(0)), Step::Lost { file: 3 }, "before the first look, too");
    }

    proptest::proptest! {
        /// Whatever is read when, every byte of every file is read once and in order.
        #[test]
        fn nothing_is_left_out(sizes in proptest::collection::vec(0_u64..30, 1..5), steps in proptest::collection::vec((0_u64..10, 0_usize..2), 0..60)) {
            let mut log = Tracker::at(Position::START);
            let mut shown: Vec<LogFile> = vec![LogFile { serial: 0, size: 0 }];
            let mut seen: Vec<(Serial, u64)> = Vec::new();
            let total: u64 = sizes.iter().sum();
            let mut steps = steps.into_iter().chain(std::iter::repeat((9, 1)));
            for second in 0..2_000 {
                let (grow, rotate) = steps.next().unwrap();
                let last = shown.last_mut().unwrap();
                let limit = sizes[usize::try_from(last.serial).unwrap()];
                last.size = limit.min(last.size + grow);
                let (is_full, serial) = (last.size == limit, last.serial);
                if is_full && rotate == 1 && usize::try_from(serial).unwrap() + 1 < sizes.len() {
                    shown.push(LogFile { serial: serial + 1, size: 0 });
                }
                match log.look(&shown, at(second)) {
                    Step::Wait | Step::Next { .. } => {}
                    Step::Read { file, offset, bytes } => {
                        let bytes = bytes.min(7);
                        seen.extend((offset..offset + bytes).map(|byte| (file, byte)));
                        log.read(bytes);
                    }
                    Step::Lost { file } => proptest::prop_assert!(false, "lost before {file}"),
                }
            }
            let all: Vec<_> = (0..).zip(&sizes).flat_map(|(file, size)| (0..*size).map(move |byte| (file, byte))).collect();
            proptest::prop_assert_eq!(seen.len() as u64, total);
            proptest::prop_assert_eq!(seen, all);
        }
    }
}
