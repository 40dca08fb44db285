//! A kubelet that rotates, compresses and removes, and a reader that looks in now and then.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn file(name: &str, inode: u64, content: &[u8]) -> LogFile {
    LogFile { name: name.to_owned(), inode, size: content.len() as u64, head: Head::of(content) }
}

fn line(n: u64) -> Vec<u8> {
    let at = Timestamp::from_nanosecond(1_795_231_751_000_000_000 + i128::from(n)).unwrap();
    format!("{} stdout F {n}\n", Stamp::utc(at)).into_bytes()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// The name of the file that a step is about, and where to read it.
fn short(step: Step<'_>) -> String {
    match step {
        Step::Wait => "wait".into(),
        Step::Read { file, offset } => format!("read {} from {offset}", file.name),
        Step::Next { file } => format!("next {}", file.name),
        Step::Lost { file } => format!("lost {}", file.map_or("all", |file| &file.name)),
    }
}

#[test]
fn a_head_is_the_time_of_the_first_line() {
    let head = Head::of(b"2026-11-21T03:29:11.489039417Z stdout F text").unwrap();
    assert_eq!(head.to_string(), "1795231751489039417");
    assert_eq!("1795231751489039417".parse(), Ok(head));
    assert_eq!(Head::of(b"2026-11-21T04:29:11.489039417+01:00 "), Some(head));
    for too_short in [&b""[..], b"2026-11-21T03:29:11.489039417Z", &[0; 63]] {
        assert_eq!(Head::of(too_short), None);
    }
    let odd = [Head::of(&[0; 64]), Head::of(&[0; 99]), Head::of(b"x y"), Head::of(b"1900-01-01T00:00:00Z x")];
    assert!(odd.iter().all(|head| head.unwrap().0 < 0));
    assert_eq!(odd[0], odd[1]);
    assert_ne!(odd[0], odd[2]);
}

#[test]
fn files_of_a_log_are_told_by_their_names() {
    let time = "20261121-032911";
    for (name, form) in [
        ("3.log", Some(Form::Live)),
        ("3.log.20261121-032911", Some(Form::Rotated { time, packing: Packing::None })),
        ("3.log.20261121-032911.gz", Some(Form::Rotated { time, packing: Packing::Gzip })),
        ("3.log.20261121-032911.tmp", None),
        ("3.log.20261121-032911.gz.tmp", None),
        ("3.log.2026112-1032911", None),
        ("3.log.", None),
        ("3.logs", None),
        ("13.log", None),
        ("2.log", None),
        ("3", None),
    ] {
        assert_eq!(file(name, 1, b"").form(3), form, "{name}");
    }
}

#[test]
fn a_log_is_followed_over_a_rotation_once_it_is_settled() {
    let mut tracker = Tracker::at(Position::START, 0);
    assert_eq!(tracker.look(&[file("0.log", 1, b"")], at(0)), Step::Wait);
    let old = [file("0.log", 1, &line(1))];
    assert_eq!(short(tracker.look(&old, at(0))), "read 0.log from 0");
    tracker.read(old[0].size);
    tracker.end();
    assert_eq!(tracker.look(&old, at(1)), Step::Wait);

    // Renamed; the runtime has begun the new file, and writes one more line to the old one.
    let grown = [line(1), line(2)].concat();
    let rotated = |content: &[u8]| [file("0.log.20261121-032911", 1, content), file("0.log", 2, &line(3))];
    assert_eq!(tracker.look(&rotated(&line(1)), at(2)), Step::Wait);
    assert_eq!(
        short(tracker.look(&rotated(&grown), at(3))),
        format!("read 0.log.20261121-032911 from {}", old[0].size)
    );
    tracker.read(line(2).len() as u64);
    assert_eq!(tracker.look(&rotated(&grown), at(4)), Step::Wait);
    assert_eq!(short(tracker.look(&rotated(&grown), at(5))), "next 0.log");
    assert_eq!(short(tracker.look(&rotated(&grown), at(5))), "read 0.log from 0");
}

#[test]
fn an_empty_new_file_is_not_gone_on_to() {
    let mut tracker =
        Tracker::at(Position { head: Head::of(&line(1)), offset: line(1).len() as u64, next: 1 }, 0);
    let files = [file("0.log.20261121-032911", 1, &line(1)), file("0.log", 2, b"")];
    for second in 0..9 {
        assert_eq!(tracker.look(&files, at(second)), Step::Wait);
    }
}

#[test]
fn with_a_second_rotation_nothing_is_left_to_settle() {
    let mut tracker =
        Tracker::at(Position { head: Head::of(&line(1)), offset: line(1).len() as u64, next: 1 }, 0);
    let files = [
        file("0.log", 3, &line(3)),
        file("0.log.20261121-032911", 1, &line(1)),
        file("0.log.20261121-042911", 2, &line(2)),
    ];
    assert_eq!(short(tracker.look(&files, at(0))), "next 0.log.20261121-042911");
}

#[test]
fn a_file_is_known_again_when_it_is_compressed_and_read_to_its_end() {
    let mut tracker = Tracker::at(Position { head: Head::of(&line(1)), offset: 10, next: 0 }, 0);
    let plain = [file("0.log", 1, &line(1)[..])];
    assert_eq!(short(tracker.look(&plain, at(0))), "read 0.log from 10");
    tracker.read(plain[0].size - 10);
    tracker.end();
    // Meanwhile it got another line, was renamed and compressed, and its inode went to the new file.
    let mut packed = file("0.log.20261121-032911.gz", 7, &[line(1), line(2)].concat());
    packed.size = 20;
    let files = [packed, file("0.log", 1, &line(3))];
    assert_eq!(
        short(tracker.look(&files, at(1))),
        format!("read 0.log.20261121-032911.gz from {}", plain[0].size)
    );
    tracker.read(line(2).len() as u64);
    assert_eq!(
        short(tracker.look(&files, at(2))),
        format!("read 0.log.20261121-032911.gz from {}", tracker.offset())
    );
    tracker.end();
    assert_eq!(tracker.look(&files, at(3)), Step::Wait);
    assert_eq!(short(tracker.look(&files, at(4))), "next 0.log");
}

#[test]
fn a_file_that_is_missing_for_a_moment_is_not_lost() {
    let mut tracker = Tracker::at(Position { head: Head::of(&line(1)), offset: 5, next: 0 }, 0);
    let (gone, here) = ([file("0.log", 2, &line(2))], [file("0.log", 1, &line(1))]);
    assert_eq!(tracker.look(&gone, at(0)), Step::Wait);
    assert_eq!(short(tracker.look(&here, at(5))), "read 0.log from 5");
    assert_eq!(tracker.look(&gone, at(6)), Step::Wait);
    assert_eq!(short(tracker.look(&gone, at(7))), "lost 0.log");
    assert_eq!(short(tracker.look(&gone, at(7))), "read 0.log from 0");
}

#[test]
fn after_a_lost_file_the_oldest_younger_one_is_read() {
    for (files, expected) in [
        (
            vec![(1, "0.log.20261121-012911.gz"), (5, "0.log.20261121-052911"), (6, "0.log")],
            "0.log.20261121-052911",
        ),
        // A clock was set back: the live file is younger all the same.
        (vec![(1, "0.log.20261121-012911.gz"), (2, "0.log")], "0.log"),
        (vec![(1, "0.log.20261121-012911.gz")], "all"),
        (vec![], "all"),
    ] {
        let files: Vec<_> = files.into_iter().map(|(n, name)| file(name, n, &line(n))).collect();
        let mut tracker = Tracker::at(Position { head: Head::of(&line(4)), offset: 5, next: 0 }, 0);
        assert_eq!(tracker.look(&files, at(0)), Step::Wait);
        assert_eq!(short(tracker.look(&files, at(1))), format!("lost {expected}"));
    }
}

/// A log directory, its runtime and its kubelet.
#[derive(Debug, Default)]
struct Disk {
    /// By name: inode and content.
    files: BTreeMap<String, (u64, Vec<u8>)>,
    /// Inodes free to be used again, the smallest first.
    free: Vec<u64>,
    /// Where the runtime still writes, while it has not reopened its file.
    writing: Option<String>,
    lines: u64,
    rotations: u64,
}

const LIVE: &str = "0.log";
/// Rotated files that the kubelet keeps.
const KEPT: usize = 3;

impl Disk {
    fn inode(&mut self) -> u64 {
        self.free.pop().unwrap_or(self.files.len() as u64 + 100)
    }

    fn write(&mut self) {
        let name = self.writing.clone().unwrap_or_else(|| LIVE.to_owned());
        if !self.files.contains_key(&name) {
            let inode = self.inode();
            self.files.insert(name.clone(), (inode, Vec::new()));
        }
        self.files.get_mut(&name).unwrap().1.extend(line(self.lines));
        self.lines += 1;
    }

    /// First half of a rotation: clean up, compress, rename. The runtime still writes to the renamed file.
    fn rename(&mut self) {
        if self.writing.is_some() || !self.files.contains_key(LIVE) {
            return;
        }
        let rotated: Vec<_> = self.files.keys().filter(|name| *name != LIVE).cloned().collect();
        for name in &rotated[..rotated.len().saturating_sub(KEPT - 1)] {
            let (inode, _) = self.files.remove(name).unwrap();
            self.free.push(inode);
        }
        let plain: Vec<_> =
            self.files.keys().filter(|name| *name != LIVE && !name.ends_with(".gz")).cloned().collect();
        for name in plain {
            let inode = self.inode();
            let (old, content) = self.files.remove(&name).unwrap();
            self.free.push(old);
            self.files.insert(format!("{name}.gz"), (inode, content));
        }
        let content = self.files.remove(LIVE).unwrap();
        let name = format!("{LIVE}.20261121-{:06}", self.rotations);
        self.rotations += 1;
        self.files.insert(name.clone(), content);
        self.writing = Some(name);
    }

    /// Second half: the runtime begins a new file.
    fn reopen(&mut self) {
        if self.writing.take().is_some() {
            let inode = self.inode();
            self.files.insert(LIVE.to_owned(), (inode, Vec::new()));
        }
    }

    fn list(&self) -> Vec<LogFile> {
        let listed = self.files.iter().map(|(name, (inode, content))| {
            // What the compressed size is nobody should care about.
            let size = if name.ends_with(".gz") { 20 } else { content.len() as u64 };
            LogFile { size, ..file(name, *inode, content) }
        });
        listed.collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Write,
    Rename,
    Reopen,
    /// The reader looks, and reads at most so many bytes.
    Look(usize),
    /// The reader starts anew, from where it was.
    Restart,
}

/// Reads the disk until nothing is left to do; returns whether lines were lost.
fn look(disk: &Disk, tracker: &mut Tracker, now: Timestamp, most: usize, read: &mut Vec<u8>) -> bool {
    let files = disk.list();
    match tracker.look(&files, now) {
        Step::Wait | Step::Next { .. } | Step::Lost { file: None } => false,
        Step::Lost { file: Some(_) } => {
            // What was read of the line under way is not a line.
            let whole = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            read.truncate(whole);
            true
        }
        Step::Read { file, offset } => {
            let content = &disk.files[&file.name].1;
            let rest = &content[usize::try_from(offset).unwrap()..];
            let chunk = &rest[..rest.len().min(most)];
            read.extend(chunk);
            tracker.read(chunk.len() as u64);
            if chunk.len() == rest.len() {
                tracker.end();
            }
            false
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_kubelet_does_every_line_is_read_once_in_order_or_said_to_be_lost(
        events in prop::collection::vec(prop_oneof![
            6 => Just(Event::Write),
            1 => Just(Event::Rename),
            2 => Just(Event::Reopen),
            5 => (1_usize..200).prop_map(Event::Look),
            1 => Just(Event::Restart),
        ], 0..200),
    ) {
        let (mut disk, mut read, mut lost) = (Disk::default(), Vec::new(), false);
        let mut tracker = Tracker::at(Position::START, 0);
        // What is removed before the first look is nobody's.
        disk.write();
        look(&disk, &mut tracker, at(0), 0, &mut read);
        for (second, event) in events.iter().enumerate() {
            match event {
                Event::Write => disk.write(),
                Event::Rename => disk.rename(),
                // In time, as seen by who looks: a runtime that reopens is done within `SETTLE`.
                Event::Reopen => disk.reopen(),
                Event::Look(most) => {
                    lost |= look(&disk, &mut tracker, at(second.try_into().unwrap()), *most, &mut read);
                }
                Event::Restart => {
                    tracker = Tracker::at(Position { head: tracker.head(), offset: tracker.offset(), next: 0 }, 0);
                }
            }
        }
        disk.reopen();
        for second in 0..1_000 {
            lost |= look(&disk, &mut tracker, at(1_000 + second), 1_000, &mut read);
        }
        let lines: Vec<_> = read.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let all: Vec<_> = (0..disk.lines).map(line).collect();
        if lost {
            prop_assert!(disk.rotations > KEPT as u64);
            let mut rest = all.iter();
            prop_assert!(lines.iter().all(|line| rest.any(|it| it == line)), "out of order or twice");
            prop_assert_eq!(lines.last(), all.last());
        } else {
            prop_assert_eq!(lines, all);
        }
    }
}
