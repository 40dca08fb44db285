use proptest::prelude::*;

use super::*;
use crate::logs::cri::Stream;
use crate::logs::query::{Options, Wanted};
use crate::logs::record::tests::stamp;
use crate::logs::record::{Body, Cut, End, Eof, Record};
use crate::logs::render::{Render, answer, tail};
use crate::logs::stamped::Stamped;

/// One record a word: a second, `o` or `e`, `F` or `P`, then text; `C` says that lines are missing, `.` the end.
fn log(text: &str) -> Vec<Record> {
    let record = |(seq, word): (usize, &str)| {
        let mut parts = word.splitn(4, ':');
        let mut part = || parts.next().unwrap_or_default();
        let (second, stream, end, text) = (part(), part(), part(), part());
        let text = text.to_owned().into();
        let body = match end {
            "F" => Body::Line { text, end: End::Full },
            "P" => Body::Line { text, end: End::Partial },
            "C" => Body::Cut(Cut { reason: "why".into(), ..Cut::default() }),
            "." => Body::Eof(Eof::default()),
            other => panic!("{other}"),
        };
        let stream = if stream == "o" { Stream::Stdout } else { Stream::Stderr };
        Record { seq: seq as u64, stamp: at(second), stream, body, origin: None }
    };
    text.split_whitespace().enumerate().map(record).collect()
}

fn at(second: &str) -> Stamp {
    stamp(&format!("2026-11-21T03:29:{second:0>2}Z"))
}

/// What stands before a line.
fn before(second: &str) -> Vec<u8> {
    format!("{} ", at(second).fixed()).into_bytes()
}

fn now() -> Timestamp {
    stamp("2026-11-21T03:30:00Z").at
}

/// The source: as the kubelet is asked, or as the archive is read.
fn source(options: &Options) -> Options {
    Options { timestamps: true, limit_bytes: None, ..options.clone() }
}

fn splice(options: &Options) -> Splice {
    let times = if options.timestamps { Times::Shown } else { Times::Hidden };
    Splice::new(times, options.limit_bytes, None)
}

/// Gives the first `bytes` of the live answer to these records.
fn live(splice: &mut Splice, options: &Options, records: &[Record], bytes: usize, chunk: usize) {
    let bytes_sent = answer(records, &source(options), now());
    let mut stamped = Stamped::new(options.wanted);
    bytes_sent[..bytes.min(bytes_sent.len())].chunks(chunk).for_each(|chunk| stamped.feed(chunk, splice));
}

/// The archive from its `first` record on.
fn archive(splice: &mut Splice, options: &Options, records: &[Record]) {
    splice.change();
    let mut render = Render::new(&Options { tail_lines: None, follow: true, ..source(options) }, now());
    for record in records {
        render.write(record, splice);
    }
}

fn options(query: &str) -> Options {
    Options::parse(query).unwrap()
}

fn text(splice: &mut Splice) -> String {
    String::from_utf8(splice.take()).unwrap()
}

const LOG: &str = "1:o:F:one 2:e:F:two 2:o:P:thr 2:o:F:ee 2:o:F:same 2:o:F:same 2:o:F:same 3:e:F:five 4:o:.:";

#[test]
fn wherever_the_machine_goes_every_byte_comes_once() {
    let records = log(LOG);
    for query in [
        "follow=true",
        "follow=true&timestamps=true",
        "follow=true&stream=Stdout",
        "follow=true&limitBytes=17",
    ] {
        let options = options(query);
        let whole = answer(&records, &options, now());
        let bytes = answer(&records, &source(&options), now()).len();
        for cut in 0..=bytes {
            let mut splice = splice(&options);
            live(&mut splice, &options, &records, cut, 5);
            archive(&mut splice, &options, &records);
            splice.settle();
            assert_eq!(text(&mut splice), String::from_utf8_lossy(&whole), "{query} cut at {cut}");
        }
    }
}

#[test]
fn what_was_sent_and_never_archived_is_not_missed_and_what_is_later_follows() {
    let records = log(LOG);
    let all = options("follow=true");
    let mut splice = splice(&all);
    // In the middle of `five`.
    live(&mut splice, &all, &records, 10_000, 10_000);
    assert!(text(&mut splice).ends_with("same\nfive\n"));
    archive(&mut splice, &all, &log("1:o:F:one 2:e:F:two 5:e:C: 5:o:.:"));
    assert!(splice.is_in_doubt());
    assert_eq!(text(&mut splice), "");
    splice.settle();
    assert_eq!(text(&mut splice), "[orca: part of this log is missing here: why]\n");
    // And what comes in addition, from then on.
    splice.stamp(&before("6"));
    splice.text(b"six\n");
    assert_eq!(text(&mut splice), "six\n");
}

#[test]
fn half_a_line_that_was_never_archived_ends_where_it_was_cut() {
    let all = options("follow=true");
    let mut splice = splice(&all);
    live(&mut splice, &all, &log("1:o:F:one 2:o:F:twotwo"), 31 + 4 + 31 + 3, 1);
    assert_eq!(text(&mut splice), "one\ntwo");
    archive(&mut splice, &all, &log("1:o:F:one"));
    splice.settle();
    assert_eq!(text(&mut splice), "");
    splice.stamp(&before("5"));
    splice.text(b"five\n");
    assert_eq!(text(&mut splice), "\nfive\n");
}

#[test]
fn an_answer_without_a_line_so_far_begins_with_the_first_or_with_what_is_later_than_the_request() {
    let all = options("follow=true");
    let mut from_start = splice(&all);
    archive(&mut from_start, &all, &log("1:o:F:one 2:o:F:two"));
    assert_eq!((text(&mut from_start), from_start.begin()), ("one\ntwo\n".into(), Some(at("1").at)));

    let mut later = Splice::new(Times::Hidden, None, Some(at("1").at));
    assert_eq!(later.begin(), Some(at("1").at));
    archive(&mut later, &all, &log("1:o:F:one 2:o:F:two 1:e:F:late"));
    assert_eq!(text(&mut later), "two\nlate\n");
}

#[test]
fn much_that_is_later_ends_the_search() {
    let all = options("follow=true");
    let mut splice = splice(&all);
    live(&mut splice, &all, &log("1:o:F:one"), 1_000, 1_000);
    archive(&mut splice, &all, &[]);
    let line = vec![b'x'; MAX_LATER / 4];
    for second in 2..8 {
        splice.stamp(&before(&second.to_string()));
        splice.text(&line);
        splice.text(b"\n");
    }
    assert!(!splice.is_in_doubt());
    assert_eq!(splice.take().len(), "one\n".len() + 6 * (line.len() + 1));
}

#[test]
fn lines_of_one_time_are_counted_however_many_and_however_alike() {
    let words: Vec<_> = std::iter::once("1:o:F:first").chain(std::iter::repeat_n("2:o:F:same", 60)).collect();
    let (records, all) = (log(&words.join(" ")), options("follow=true"));
    let line = 31 + "same\n".len();
    for (sent, from) in [(1, 0), (1, 1), (20, 0), (20, 1), (59, 1), (60, 1)] {
        let mut splice = splice(&all);
        live(&mut splice, &all, &records, 31 + "first\n".len() + sent * line - 3, 1_000);
        archive(&mut splice, &all, &records[from..]);
        assert_eq!(text(&mut splice), format!("first\n{}", "same\n".repeat(60)), "{sent} {from}");
    }
}

/// Lines of few times and few texts.
fn lines() -> impl Strategy<Value = Vec<Record>> {
    let line = (0_u32..6, any::<bool>(), prop_oneof![4 => Just("F"), 1 => Just("P")], 0_usize..3);
    // Also many of one time.
    let times = prop_oneof![3 => Just(6), 1 => Just(2)];
    (prop::collection::vec(line, 1..60), times).prop_map(|(mut lines, times)| {
        lines.iter_mut().for_each(|line| line.0 %= times);
        lines.sort_by_key(|line| line.0);
        let words = lines.into_iter().map(|(second, is_out, end, text)| {
            let (stream, text) = (if is_out { "o" } else { "e" }, ["a", "bb", "a-much-longer-text"][text]);
            format!("{second}:{stream}:{end}:{text}")
        });
        log(&words.collect::<Vec<_>>().join(" "))
    })
}

/// Makes the lines' texts differ, and swaps some neighbours, as two streams do that are written at once.
fn unlike(mut records: Vec<Record>, swaps: &[prop::sample::Index]) -> Vec<Record> {
    for swap in swaps {
        let at = swap.index(records.len());
        if at > 0 {
            records.swap(at - 1, at);
        }
    }
    for (seq, record) in records.iter_mut().enumerate() {
        record.seq = seq as u64;
        if let Body::Line { text, .. } = &mut record.body {
            *text = format!("{seq} {}", String::from_utf8_lossy(text)).into();
        }
    }
    records
}

/// Where the archive is read from: it is asked by the time under which events are filed, which never falls, and for
/// some of what is before.
fn from(records: &[Record], begin: Option<Timestamp>, lead: usize) -> usize {
    let mut filed = Timestamp::MIN;
    let mut times = records.iter().map(|record| {
        filed = filed.max(record.stamp.at);
        filed
    });
    let first = begin.and_then(|begin| times.position(|filed| filed >= begin)).unwrap_or(0);
    first.saturating_sub(lead)
}

proptest! {
    #[test]
    fn a_log_of_lines_that_are_alike_is_gone_on_with_at_the_byte(
        records in lines(), cut: prop::sample::Index, chunk in 1_usize..50, lead in 1_usize..5, timestamps: bool, cuts in 1..4,
        wanted in prop_oneof![Just(Wanted::All), Just(Wanted::Only(Stream::Stdout)), Just(Wanted::Only(Stream::Stderr))],
    ) {
        let options = Options { follow: true, timestamps, wanted, ..Options::default() };
        let whole = answer(&records, &options, now());
        let bytes = answer(&records, &source(&options), now()).len();
        let mut splice = splice(&options);
        live(&mut splice, &options, &records, cut.index(bytes + 1), chunk);
        let mut sent = splice.take();
        for _ in 0..cuts {
            let first = from(&records, splice.begin(), lead);
            archive(&mut splice, &options, &records[first..]);
            prop_assert!(!splice.is_in_doubt());
        }
        sent.extend(splice.take());
        prop_assert_eq!(String::from_utf8(sent).unwrap(), String::from_utf8(whole).unwrap());
    }

    #[test]
    fn the_last_lines_are_gone_on_with_at_the_byte(
        records in lines(), swaps in prop::collection::vec(any::<prop::sample::Index>(), 0..9), cut: prop::sample::Index, lines in 1_u64..20, lead in 1_usize..5, timestamps: bool,
    ) {
        let records = unlike(records, &swaps);
        let options = Options { follow: true, timestamps, tail_lines: Some(lines), ..Options::default() };
        let whole = answer(&records, &options, now());
        let bytes = answer(&records, &source(&options), now()).len();
        let cut = cut.index(bytes + 1);
        let mut splice = splice(&options);
        live(&mut splice, &options, &records, cut, 7);
        let mut sent = splice.take();
        // Of lines of the same time, too little of one to tell it from the others.
        if sent.iter().filter(|byte| **byte == b'\n').count() < 2 {
            return Ok(());
        }
        let first = from(&records, splice.begin(), lead);
        archive(&mut splice, &options, &records[first..]);
        // Lines that began in the middle of one, and are all that was sent, are not found again.
        let is_within = tail(&records, lines).is_some_and(|first| first > 0 && matches!(&records[first - 1].body, Body::Line { end: End::Partial, .. }));
        if is_within {
            return Ok(());
        }
        prop_assert!(!splice.is_in_doubt());
        sent.extend(splice.take());
        prop_assert_eq!(String::from_utf8(sent).unwrap(), String::from_utf8(whole).unwrap());
    }

    #[test]
    fn anything_at_all_is_taken(
        steps in prop::collection::vec(prop_oneof![
            3 => (0_u32..60).prop_map(Some).prop_map(Ok),
            3 => prop_oneof![Just("\n"), Just("x"), Just("")].prop_map(Err),
            1 => Just(Ok(None)),
        ], 0..60),
    ) {
        let mut splice = Splice::new(Times::Hidden, Some(1_000), None);
        for (at_step, step) in steps.into_iter().enumerate() {
            match step {
                Ok(Some(second)) => splice.stamp(&before(&second.to_string())),
                Ok(None) if at_step % 3 == 0 => splice.settle(),
                Ok(None) => splice.change(),
                Err(text) => splice.text(text.as_bytes()),
            }
        }
    }
}
