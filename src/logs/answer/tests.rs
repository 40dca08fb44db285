use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::logs::batch::Packer;
use crate::logs::cri::Stream;
use crate::logs::query::{Since, Wanted};
use crate::logs::record::tests::stamp;
use crate::logs::record::{Body, End, Eof, Record};
use crate::logs::render::answer;
use crate::logs::stamp::Stamp;
use crate::logs::store::memory::MemoryStore;

fn name(restart: u32) -> StreamName {
    StreamName::new("ns", "p", "uid", "main", restart).unwrap()
}

fn now() -> Timestamp {
    stamp("2026-11-21T03:30:00Z").at
}

/// A line each millisecond, from 03:29 on.
fn lines(count: u64) -> Vec<Record> {
    let line = |seq: u64| {
        let at = stamp("2026-11-21T03:29:00Z").at
            + jiff::SignedDuration::from_micros(i64::try_from(seq).unwrap() * 500);
        let end = if seq % 5 == 3 { End::Partial } else { End::Full };
        let body = Body::Line { text: format!("line {seq}").into(), end };
        let stream = if seq.is_multiple_of(3) { Stream::Stderr } else { Stream::Stdout };
        Record { seq, stamp: Stamp::utc(at), stream, body, origin: None }
    };
    (0..count).map(line).collect()
}

fn with_end(mut records: Vec<Record>) -> Vec<Record> {
    let last = records.last().unwrap().clone();
    records.push(Record { seq: last.seq + 1, body: Body::Eof(Eof::default()), ..last });
    records
}

async fn file(store: &MemoryStore, restart: u32, records: &[Record]) {
    let stream = name(restart).to_string();
    store.create_stream(&stream).await.unwrap();
    let mut packer = Packer::new(0, None);
    for record in records {
        packer.push(record, now()).unwrap();
    }
    if let Some(batch) = packer.take() {
        store.put(&stream, batch.events()).await.unwrap();
    }
}

async fn whole(archive: &Arc<Archive>, options: &Options, written: Written) -> Result<String, StoreError> {
    let mut whole = Whole::open(archive, &name(0), options, written, now()).await?;
    let mut all = Vec::new();
    loop {
        let chunk = whole.next().await?;
        if chunk.is_empty() {
            return Ok(String::from_utf8(all).unwrap());
        }
        all.extend(chunk);
    }
}

fn with(store: MemoryStore) -> (Arc<MemoryStore>, Arc<Archive>) {
    let store = Arc::new(store);
    (Arc::clone(&store), Archive::new(store))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_option_gives_what_the_records_say(
        count in 1_u64..120, page in 1_usize..50, tail in prop::option::of(0_u64..130), since in prop::option::of(0_i64..70), limit in prop::option::of(1_u64..2_000), timestamps: bool, wanted in 0..3, ended: bool,
    ) {
        let records = if ended { with_end(lines(count)) } else { lines(count) };
        let since = since.map(|by| Since::Time(stamp("2026-11-21T03:29:00Z").at + jiff::SignedDuration::from_micros(by * 1_000 - 300)));
        let wanted = [Wanted::All, Wanted::Only(Stream::Stdout), Wanted::Only(Stream::Stderr)][usize::try_from(wanted).unwrap()];
        let tail_lines = tail.filter(|_| wanted == Wanted::All);
        let options = Options { timestamps, since, tail_lines, limit_bytes: limit, wanted, ..Options::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let seen = runtime.block_on(async {
            let (store, archive) = with(MemoryStore::new());
            store.set_page(page);
            file(&store, 0, &records).await;
            whole(&archive, &options, Written::SoFar).await.unwrap()
        });
        prop_assert_eq!(seen, String::from_utf8(answer(&records, &options, now())).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_store_is_waited_for_and_a_denied_one_is_not() {
    let (store, archive) = with(MemoryStore::new());
    file(&store, 0, &with_end(lines(3))).await;
    store.fail([StoreError::Throttled("slow".into()), StoreError::Unreachable("gone".into())]);
    let start = Instant::now();
    let text = whole(&archive, &Options::default(), Written::Whole).await.unwrap();
    assert_eq!(text, "line 0\nline 1\nline 2\n");
    assert!(start.elapsed() >= Duration::from_millis(1_500), "{:?}", start.elapsed());

    let denied = StoreError::Denied("logs:GetLogEvents".into());
    store.fail([denied.clone()]);
    assert_eq!(whole(&archive, &Options::default(), Written::Whole).await, Err(denied));
    store.fail(vec![StoreError::Throttled("slow".into()); 100]);
    let start = Instant::now();
    assert!(whole(&archive, &Options::default(), Written::Whole).await.is_err());
    assert!(start.elapsed() < PATIENCE * 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_container_is_waited_for_and_no_longer_than_it_takes() {
    let (store, archive) = with(MemoryStore::new());
    let records = with_end(lines(4));
    file(&store, 0, &records[..2]).await;
    store.set_delay(Duration::from_secs(2));
    file(&store, 0, &records[2..]).await;
    let options = Options::default();
    assert_eq!(whole(&archive, &options, Written::SoFar).await.unwrap(), "line 0\nline 1\n");
    assert_eq!(whole(&archive, &options, Written::Whole).await.unwrap(), "line 0\nline 1\nline 2\nline 3");

    let (store, archive) = with(MemoryStore::new());
    file(&store, 0, &records[..2]).await;
    let start = Instant::now();
    assert_eq!(whole(&archive, &options, Written::Whole).await.unwrap(), "line 0\nline 1\n");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn what_comes_late_in_the_middle_is_looked_for_again_and_what_never_comes_is_named() {
    let (store, archive) = with(MemoryStore::new());
    let records = with_end(lines(6));
    file(&store, 0, &records[..2]).await;
    store.set_delay(Duration::from_secs(3));
    file(&store, 0, &records[2..3]).await;
    store.set_delay(Duration::ZERO);
    file(&store, 0, &records[4..]).await;
    let text = whole(&archive, &Options::default(), Written::Whole).await.unwrap();
    let missing = "[orca: part of this log is missing here: CloudWatch Logs does not have 1 event of it]";
    assert_eq!(text, format!("line 0\nline 1\nline 2\n{missing}\nline 4\nline 5\n"));
    // As when its first events are too old to be kept.
    let (store, archive) = with(MemoryStore::new());
    file(&store, 0, &records[2..]).await;
    let text = whole(&archive, &Options::default(), Written::Whole).await.unwrap();
    assert!(
        text.starts_with(
            "[orca: part of this log is missing here: CloudWatch Logs does not have 2 events of it]\nline 2\n"
        ),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn every_archived_run_is_known() {
    let (store, archive) = with(MemoryStore::new());
    for restart in [10, 9, 0] {
        file(&store, restart, &lines(1)).await;
    }
    assert_eq!(archive.restarts(&name(0)).await, Ok(vec![0, 9, 10]));
    assert_eq!(archive.restarts(&StreamName::new("ns", "p", "uid", "mai", 0).unwrap()).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_last_lines_of_a_long_log_cost_few_pages() {
    let (store, archive) = with(MemoryStore::new());
    store.set_page(100);
    file(&store, 0, &with_end(lines(5_000))).await;
    let options = Options { tail_lines: Some(10), ..Options::default() };
    let text = whole(&archive, &options, Written::Whole).await.unwrap();
    assert!(text.ends_with("line 4999\n"), "{text}");
    assert!(store.calls("page") <= 4, "{}", store.calls("page"));
}

#[tokio::test(start_paused = true)]
async fn the_next_page_is_asked_for_while_one_is_sent_and_no_further() {
    let (store, archive) = with(MemoryStore::new());
    store.set_page(100);
    file(&store, 0, &with_end(lines(1_000))).await;
    let mut reading = archive.read(&name(0), Start::Head).await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..301 {
        reading.next().await.unwrap();
        tokio::task::yield_now().await;
        calls.push(store.calls("page"));
    }
    // Who takes no more than the first page costs no more than that.
    assert_eq!([calls[0], calls[99], calls[100], calls[199], calls[200], calls[300]], [1, 1, 3, 3, 4, 5]);
    drop(reading);
    tokio::time::sleep(PATIENCE).await;
    assert_eq!(store.calls("page"), 5);
}
