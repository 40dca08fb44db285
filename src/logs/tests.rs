//! The whole way: bytes of a log file through reader, numbers, events and back, beside what a kubelet makes of the
//! same file.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::batch::{Event, Packer};
use super::cri::{Ending, Line, Stream};
use super::merge::in_order;
use super::query::{Options, Since, Wanted};
use super::reader::Reader;
use super::record::tests::{stamp, text};
use super::record::{Cut, Eof, Record};
use super::recover::{Recovered, recover};
use super::render::answer;
use super::sequence::Numbering;
use super::stamp::Stamp;

/// When the tests are run.
fn now() -> Timestamp {
    stamp("2026-11-21T03:30:00Z").at
}

/// Long enough for every header, short enough for pieces.
const LONGEST: usize = 64;

/// What a kubelet makes of a file, told after its source and with none of our code but the line's parser.
fn kubelet(file: &[u8], options: &Options) -> Vec<u8> {
    let newlines: Vec<_> = (0..file.len()).filter(|at| file[*at] == b'\n').collect();
    let begin = match options.tail_lines {
        Some(lines) if newlines.len() as u64 > lines => {
            let skipped = newlines.len() - usize::try_from(lines).unwrap();
            if skipped == 0 { 0 } else { newlines[skipped - 1] + 1 }
        }
        Some(_) | None => 0,
    };
    let mut counted = options.tail_lines.filter(|_| !options.follow);
    let mut remain = options.limit_bytes.unwrap_or(u64::MAX);
    let mut is_new_line = true;
    let mut out = Vec::new();
    for line in file[begin..].split_inclusive(|byte| *byte == b'\n') {
        if counted == Some(0) {
            break;
        }
        let Ok(parsed) = Line::parse(line) else { continue };
        let mut log = parsed.text.to_vec();
        if line.ends_with(b"\n") && parsed.ending() == Ending::Full {
            log.push(b'\n');
        }
        let is_wanted = match options.wanted {
            Wanted::All => true,
            Wanted::Only(stream) => stream == parsed.stream,
        };
        if options.since(now()).is_none_or(|since| parsed.stamp.at >= since) && is_wanted {
            let mut sent = Vec::new();
            if options.timestamps && is_new_line {
                sent = format!("{} ", parsed.stamp.fixed()).into_bytes();
            }
            sent.extend_from_slice(&log);
            sent.truncate(usize::try_from(remain).unwrap());
            out.extend_from_slice(&sent);
            remain -= sent.len() as u64;
            if remain == 0 {
                break;
            }
        }
        counted = counted.map(|lines| lines - 1);
        is_new_line = log.last().is_none_or(|last| *last == b'\n');
    }
    out
}

/// A file, queries, and what the kubelet's own reader (k8s.io/cri-client 0.36.3) answered. A character is a byte.
#[derive(serde::Deserialize)]
struct Recorded {
    file: String,
    answers: BTreeMap<String, String>,
}

#[test]
fn answers_are_those_of_the_kubelets_own_reader() {
    let bytes =
        |text: &str| -> Vec<u8> { text.chars().map(|char| u8::try_from(u32::from(char)).unwrap()).collect() };
    let recorded: Vec<Recorded> = serde_json::from_str(include_str!("kubelet.json")).unwrap();
    assert!(recorded.iter().map(|it| it.answers.len()).sum::<usize>() > 100);
    for Recorded { file, answers } in recorded {
        let file = bytes(&file);
        let records = decode(&pack(&number(&file, 50)));
        for (query, expected) in answers {
            let options = Options::parse(&query).unwrap();
            let seen = String::from_utf8_lossy(&answer(&records, &options, now())).into_owned();
            let modelled = String::from_utf8_lossy(&kubelet(&file, &options)).into_owned();
            let expected = String::from_utf8_lossy(&bytes(&expected)).into_owned();
            assert_eq!(
                (&seen, &modelled),
                (&expected, &expected),
                "{query} of {}",
                String::from_utf8_lossy(&file)
            );
        }
    }
}

/// One line of a log file, with its newline.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let time = (0_i64..60_000_000_000, prop_oneof![8 => Just(0), 1 => -23 * 60..23 * 60]);
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    let tags = prop_oneof![4 => Just("F"), 2 => Just("P"), 1 => Just("F:later")];
    let long =
        prop_oneof![8 => text(), 1 => (text(), 1_usize..12).prop_map(|(text, times)| text.repeat(times))];
    let good = (time, stream, tags, long).prop_map(|((nanoseconds, minutes), stream, tags, text)| {
        let at = stamp("2026-11-21T03:29:00Z")
            .at
            .checked_add(jiff::SignedDuration::from_nanos(nanoseconds))
            .unwrap();
        let zone = format!(
            "{}{:02}:{:02}",
            if minutes < 0 { '-' } else { '+' },
            i32::abs(minutes) / 60,
            i32::abs(minutes) % 60
        );
        let local = jiff::tz::Offset::from_seconds(minutes * 60).unwrap().to_datetime(at);
        let stamp = Stamp::parse(format!("{local}{zone}").as_bytes()).unwrap();
        let text: Vec<u8> = text.into_iter().filter(|byte| *byte != b'\n').collect();
        let mut line = Vec::new();
        Line { stamp, stream, tags: tags.as_bytes(), text: &text }.write(&mut line);
        line
    });
    let bad = text().prop_map(|mut text| {
        text.retain(|byte| *byte != b'\n');
        text.push(b'\n');
        text
    });
    prop_oneof![12 => good, 1 => bad]
}

/// A log file, sometimes torn.
fn file() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(line(), 0..30), any::<prop::sample::Index>(), 0..4).prop_map(
        |(lines, end, torn)| {
            let mut file = lines.concat();
            if torn == 0 && !file.is_empty() {
                file.truncate(end.index(file.len()));
            }
            file
        },
    )
}

fn options() -> impl Strategy<Value = Options> {
    let since = prop_oneof![
        (1_u64..62).prop_map(Since::Seconds),
        (0_i64..60_000_000_000)
            .prop_map(|by| Since::Time(now().checked_sub(jiff::SignedDuration::from_nanos(by)).unwrap())),
    ];
    let which = prop_oneof![
        prop::option::of(0_u64..40).prop_map(|lines| (lines, Wanted::All)),
        Just((None, Wanted::Only(Stream::Stdout))),
        Just((None, Wanted::Only(Stream::Stderr))),
    ];
    let limit = prop::option::of(prop_oneof![1_u64..60, 1_u64..3_000]);
    (any::<bool>(), any::<bool>(), prop::option::of(since), which, limit).prop_map(
        |(follow, timestamps, since, (tail_lines, wanted), limit_bytes)| Options {
            follow,
            previous: false,
            timestamps,
            since,
            tail_lines,
            limit_bytes,
            wanted,
        },
    )
}

/// What a file's bytes are as records, fed in chunks of this size.
fn number(file: &[u8], chunk: usize) -> Vec<Record> {
    let mut reader = Reader::with_longest(0, LONGEST);
    let mut numbering = Numbering::from(0, stamp("2026-11-21T03:29:00Z"));
    let mut records = Vec::new();
    file.chunks(chunk).for_each(|chunk| reader.feed(chunk, |piece| records.push(numbering.piece(&piece, 0))));
    reader.finish(|piece| records.push(numbering.piece(&piece, 0)));
    records
}

/// The events that these records become, each batch as it leaves.
fn pack(records: &[Record]) -> Vec<Event> {
    let mut packer = Packer::new(0, None);
    let mut batches = Vec::new();
    for (at, record) in records.iter().enumerate() {
        batches.extend(packer.push(record, now()).unwrap());
        if at % 7 == 6 {
            batches.extend(packer.take());
        }
    }
    batches.extend(packer.take());
    batches.iter().flat_map(|batch| batch.events().to_vec()).collect()
}

fn decode<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<Record> {
    events.into_iter().map(|event| Record::decode(&event.message).unwrap()).collect()
}

fn without_origin(records: Vec<Record>) -> Vec<Record> {
    records.into_iter().map(|record| Record { origin: None, ..record }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]
    #[test]
    fn a_log_that_went_through_the_archive_reads_as_the_kubelet_has_it(
        file in file(), options in options(), chunk in 1_usize..200, order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let mut events = pack(&number(&file, chunk));
        // At least once, in any order.
        if !events.is_empty() {
            for pick in order {
                let at = pick.index(events.len());
                events.push(events[at].clone());
                events.swap(at, 0);
            }
        }
        let (records, gaps) = in_order(decode(&events));
        prop_assert_eq!(gaps, []);
        let (seen, expected) = (answer(&records, &options, now()), kubelet(&file, &options));
        prop_assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(&expected));
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn no_byte_that_the_container_wrote_is_lost_or_changed(file in file(), chunk in 1_usize..200) {
        let expected: Vec<u8> = file
            .split_inclusive(|byte| *byte == b'\n')
            .filter_map(|line| Line::parse(line).ok())
            .flat_map(|line| line.text.to_vec())
            .collect();
        let records = decode(&pack(&number(&file, chunk)));
        let mut seen = Vec::new();
        for record in &records {
            if let super::record::Body::Line { text, .. } = &record.body {
                seen.extend_from_slice(text);
            }
        }
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(records.iter().map(|record| record.seq).collect::<Vec<_>>(), (0..records.len() as u64).collect::<Vec<_>>());
    }
}

/// What the archiver does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Reads at most so many bytes.
    Read(usize),
    /// Sends the batch.
    Flush,
    /// Is killed, and started again while so many of the last events are not readable yet.
    Kill(usize),
}

/// An archiver of files that no longer change, oldest first.
struct Archiver<'a> {
    files: &'a [Vec<u8>],
    sent: Vec<Event>,
    at: usize,
    reader: Reader,
    numbering: Numbering,
    packer: Packer,
    resume: Option<super::recover::Resume>,
}

impl<'a> Archiver<'a> {
    fn start(files: &'a [Vec<u8>], sent: Vec<Event>, hidden: usize) -> Self {
        let visible = decode(&sent[..sent.len().saturating_sub(hidden)]);
        let (at, offset, numbering, resume) = match recover(&visible) {
            Recovered::Empty => (0, 0, Numbering::from(0, stamp("2026-11-21T03:29:00Z")), None),
            Recovered::Resume(resume) => {
                let at = usize::try_from(resume.position.file).unwrap();
                (at, resume.position.offset, resume.numbering(), Some(resume))
            }
            Recovered::Ended => (files.len(), 0, Numbering::from(0, stamp("2026-11-21T03:29:00Z")), None),
            Recovered::NeedEarlier => panic!("the whole stream was given"),
        };
        let (reader, packer) = (Reader::with_longest(offset, LONGEST), Packer::new(0, None));
        Self { files, sent, at, reader, numbering, packer, resume }
    }

    /// Reads on; false at the end.
    fn read(&mut self, most: usize) -> bool {
        let Some(file) = self.files.get(self.at) else { return false };
        let rest = &file[usize::try_from(self.reader.fed()).unwrap()..];
        let chunk = &rest[..rest.len().min(most)];
        let serial = self.at as u64;
        let (numbering, mut records) = (&mut self.numbering, Vec::new());
        self.reader.feed(chunk, |piece| records.push(numbering.piece(&piece, serial)));
        if chunk.len() == rest.len() {
            self.reader.finish(|piece| records.push(numbering.piece(&piece, serial)));
            self.reader = Reader::with_longest(0, LONGEST);
            self.at += 1;
            if self.at == self.files.len() {
                records.push(self.numbering.eof(Eof::default(), stamp("2026-11-21T03:30:00Z")));
            }
        }
        self.push(records);
        true
    }

    fn push(&mut self, records: Vec<Record>) {
        for record in records {
            if self.resume.as_ref().is_none_or(|resume| resume.is_new(record.seq)) {
                let full = self.packer.push(&record, now()).unwrap();
                self.sent.extend(full.iter().flat_map(|batch| batch.events().to_vec()));
            }
        }
    }

    fn flush(&mut self) {
        let batch = self.packer.take();
        self.sent.extend(batch.iter().flat_map(|batch| batch.events().to_vec()));
    }
}

/// Files of one log.
fn files() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(file(), 1..4).prop_map(|files| {
        let begin = |(at, file): (usize, Vec<u8>)| {
            [format!("2026-11-21T03:28:{at:02}Z stdout F file {at}\n").into_bytes(), file].concat()
        };
        files.into_iter().enumerate().map(begin).collect()
    })
}

proptest! {
    #[test]
    fn however_often_the_archiver_is_killed_every_line_is_archived_under_the_same_number(
        files in files(),
        events in prop::collection::vec(prop_oneof![
            6 => (1_usize..400).prop_map(Act::Read),
            2 => Just(Act::Flush),
            1 => (0_usize..12).prop_map(Act::Kill),
        ], 0..80),
    ) {
        let mut once = Archiver::start(&files, Vec::new(), 0);
        while once.read(usize::MAX) {}
        once.flush();
        let expected = without_origin(decode(&once.sent));

        let mut archiver = Archiver::start(&files, Vec::new(), 0);
        for event in events {
            match event {
                Act::Read(most) => {
                    archiver.read(most);
                }
                Act::Flush => archiver.flush(),
                Act::Kill(hidden) => archiver = Archiver::start(&files, archiver.sent, hidden),
            }
        }
        while archiver.read(1_000) {}
        archiver.flush();
        let (records, gaps) = in_order(decode(&archiver.sent));
        prop_assert_eq!(gaps, []);
        prop_assert_eq!(without_origin(records), expected);
        prop_assert_eq!(recover(&decode(&archiver.sent)), Recovered::Ended);
    }
}

#[test]
fn what_is_missing_keeps_its_number_when_the_file_is_read_again() {
    let files = [b"2026-11-21T03:28:00Z stdout F one, which is long enough for a head of 64 bytes\n2026-11-21T03:28:01Z stdout F two\n2026-11-21T03:28:02Z stdout F three\n".to_vec()];
    let first = files[0].split_inclusive(|byte| *byte == b'\n').take(2).map(<[u8]>::len).sum();
    let mut archiver = Archiver::start(&files, Vec::new(), 0);
    archiver.read(first);
    let cut = archiver
        .numbering
        .cut(Cut { reason: Cut::REFUSED.into(), ..Cut::default() }, stamp("2026-11-21T03:28:01Z"));
    archiver.push(vec![cut]);
    archiver.flush();
    let mut archiver = Archiver::start(&files, archiver.sent, 0);
    while archiver.read(10) {}
    archiver.flush();
    let (records, gaps) = in_order(decode(&archiver.sent));
    assert_eq!(gaps, []);
    let out = String::from_utf8(answer(&records, &Options::default(), now())).unwrap();
    let lines: Vec<_> = out.lines().map(|line| line.split([',', ':']).next().unwrap()).collect();
    assert_eq!(lines, ["one", "two", "[orca", "three"]);
}
