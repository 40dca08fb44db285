use std::sync::Arc;

use serde_json::{Value, json};

use super::super::snapshot::{Item, POD};
use super::*;

fn snapshot(version: u64, names: &[&str]) -> Arc<Snapshot> {
    let item = |name: &str| Item {
        version,
        object: Arc::new(json!({ "metadata": { "name": name, "resourceVersion": version.to_string() } })),
    };
    Arc::new(Snapshot { version, items: names.iter().map(|name| ((*name).to_owned(), item(name))).collect() })
}

fn plan(lasts: u64) -> Plan {
    Plan { kind: POD, mark_initial: true, bookmarks: true, lasts: Duration::from_secs(lasts) }
}

async fn next(out: &mut mpsc::Receiver<Bytes>) -> Option<(String, String)> {
    let line: Value = serde_json::from_slice(&out.recv().await?).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some((text(&line["type"]), text(&line["object"]["metadata"]["resourceVersion"])))
}

fn line(kind: &str, version: &str) -> Option<(String, String)> {
    Some((kind.to_owned(), version.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn the_state_comes_first_then_a_mark_then_changes_then_a_last_bookmark() {
    let (source, watched) = watch::channel(Some(snapshot(5, &["web"])));
    let (sender, mut out) = mpsc::channel(QUEUE);
    let task = pump(watched, Arc::default(), plan(90), Open, sender, CancellationToken::new());
    let reader = async {
        assert_eq!(next(&mut out).await, line("ADDED", "5"));
        assert_eq!(next(&mut out).await, line("BOOKMARK", "5"));
        source.send_replace(Some(snapshot(6, &["web"])));
        assert_eq!(next(&mut out).await, line("MODIFIED", "6"));
        source.send_replace(Some(snapshot(7, &[])));
        assert_eq!(next(&mut out).await, line("DELETED", "7"));
        assert_eq!(next(&mut out).await, line("BOOKMARK", "7"));
        assert_eq!(next(&mut out).await, line("BOOKMARK", "7"));
        assert_eq!(next(&mut out).await, None);
    };
    let (end, ()) = tokio::join!(task, reader);
    assert_eq!(end, End::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_is_cut() {
    let (source, watched) = watch::channel(Some(snapshot(1, &["web"])));
    let (sender, mut out) = mpsc::channel(1);
    let pumped = pump(watched, Arc::default(), plan(3600), Open, sender, CancellationToken::new());
    let writer = async {
        for version in 2..100 {
            source.send_replace(Some(snapshot(version, &["web"])));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let started = Instant::now();
    let (end, ()) = tokio::join!(pumped, writer);
    assert_eq!(end, End::Slow);
    assert!(started.elapsed() < Duration::from_secs(120));
    assert_eq!(next(&mut out).await, line("ADDED", "1"));
}

#[tokio::test(start_paused = true)]
async fn changes_behind_a_slow_watcher_are_folded() {
    let (source, watched) = watch::channel(Some(snapshot(1, &["web"])));
    let (sender, mut out) = mpsc::channel(1);
    let pumped = pump(watched, Arc::default(), plan(20), Open, sender, CancellationToken::new());
    let reader = async {
        assert_eq!(next(&mut out).await, line("ADDED", "1"));
        assert_eq!(next(&mut out).await, line("BOOKMARK", "1"));
        for version in 2..50 {
            source.send_replace(Some(snapshot(version, &["web"])));
        }
        assert_eq!(next(&mut out).await, line("MODIFIED", "49"));
        out.close();
    };
    let (_, ()) = tokio::join!(pumped, reader);
}

#[tokio::test(start_paused = true)]
async fn a_closed_gate_ends_the_stream_before_anything_is_sent() {
    struct Shut;
    impl Gate for Shut {
        fn open(&self, _now: &Snapshot) -> bool {
            false
        }
    }
    let (_source, watched) = watch::channel(Some(snapshot(1, &["web"])));
    let (sender, mut out) = mpsc::channel(QUEUE);
    let end = pump(watched, Arc::default(), plan(20), Shut, sender, CancellationToken::new()).await;
    assert_eq!(end, End::Closed);
    assert_eq!(next(&mut out).await, None);
}

#[tokio::test(start_paused = true)]
async fn revoking_ends_a_stream_that_waits() {
    let (_source, watched) = watch::channel(Some(snapshot(1, &[])));
    let (sender, _out) = mpsc::channel(QUEUE);
    let closed = CancellationToken::new();
    let pumped = pump(watched, Arc::default(), plan(600), Open, sender, closed.clone());
    let (end, ()) = tokio::join!(pumped, async { closed.cancel() });
    assert_eq!(end, End::Closed);
}
