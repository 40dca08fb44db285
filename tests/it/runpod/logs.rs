//! Logs: streams that break, come again, never end, or belong to a pod that is gone.

use std::time::{Duration, Instant};

use orca::cloud::Cloud as _;
use orca::cloud::runpod::{Client, LogQuery, PodLog, Source, Until};

use super::fake::{Fake, Fault, Piece, spec};

const CONTAINER: LogQuery = LogQuery {
    source: Some(Source::Container),
    tail: Some(10),
    since: None,
    until: Until::Silent(Duration::from_millis(300)),
};

async fn pod(fake: &Fake) -> Client {
    fake.cloud().launch(&spec("token-1")).await.unwrap();
    fake.asked();
    fake.client()
}

async fn lines(log: &mut PodLog, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < most
        && let Some(line) = log.next().await.unwrap()
    {
        lines.push(line.text);
    }
    lines
}

const FIRST: Piece = Piece::Text(
    "id: 2026-06-01T12:02:03Z/01\ndata: {\"ts\":\"2026-06-01T12:02:03Z\",\"source\":\"container\",\"line\":\"one\"}\n\n",
);
const SECOND: Piece =
    Piece::Text("id: 2026-06-01T12:02:03Z/02\ndata: {\"source\":\"container\",\"line\":\"two\"}\n\n");
const THIRD: Piece =
    Piece::Text("id: 2026-06-01T12:02:04Z/03\ndata: {\"source\":\"container\",\"line\":\"three\"}\n\n");

#[tokio::test]
async fn a_log_that_never_ends_is_read_until_nothing_more_comes() {
    let fake = Fake::start().await;
    let client = pod(&fake).await;
    fake.world().logs.push_back(vec![FIRST, SECOND, Piece::Hang]);
    let began = Instant::now();
    assert_eq!(lines(&mut client.logs("pod0001", CONTAINER), 99).await, ["one", "two"]);
    assert!(began.elapsed() < Duration::from_secs(5));
    let asked = fake.world().asked.clone();
    assert_eq!(asked[0].what, "GET /v2/pods/pod0001/logs?source=container&tail=10");
    assert_eq!(asked[0].headers["accept"], "text/event-stream");
    assert!(!asked[0].headers.contains_key("last-event-id"));
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_broke_and_no_line_comes_twice() {
    let fake = Fake::start().await;
    let client = pod(&fake).await;
    let half = Piece::Text("id: 2026-06-01T12:02:04Z/03\ndata: {\"source\":\"container\",\"li");
    fake.world().logs.extend([
        vec![FIRST, SECOND, half, Piece::Break],
        // The boundary again, and then what was cut.
        vec![SECOND, THIRD, Piece::Break],
        vec![THIRD, Piece::Hang],
    ]);
    let query = LogQuery { until: Until::Gone, ..CONTAINER };
    let mut log = client.logs("pod0001", query);
    assert_eq!(lines(&mut log, 3).await, ["one", "two", "three"]);
    let more = tokio::time::timeout(Duration::from_secs(1), log.next()).await;
    assert!(more.is_err(), "{more:?}");
    let asked = fake.world().asked.clone();
    let resumed = |at: usize| asked[at].headers["last-event-id"].to_str().unwrap();
    assert_eq!((resumed(1), resumed(2)), ("2026-06-01T12:02:03Z/02", "2026-06-01T12:02:04Z/03"));
}

#[tokio::test]
async fn refusals_on_the_way_are_waited_out() {
    let fake = Fake::start().await;
    let client = pod(&fake).await;
    fake.fail("GET /v2/pods/pod0001/logs", &[Fault::Slow(1), Fault::Problem(502, "bad gateway")]);
    fake.world().logs.push_back(vec![FIRST, Piece::Hang]);
    assert_eq!(lines(&mut client.logs("pod0001", CONTAINER), 1).await, ["one"]);
    assert_eq!(fake.asked().len(), 3);
}

#[tokio::test]
async fn the_log_of_a_pod_that_is_gone_has_ended() {
    let fake = Fake::start().await;
    let client = pod(&fake).await;
    let query = LogQuery { until: Until::Gone, ..CONTAINER };
    fake.world().logs.push_back(vec![FIRST, Piece::Break]);
    let mut log = client.logs("pod0001", query);
    assert_eq!(lines(&mut log, 1).await, ["one"]);
    fake.world().pods.clear();
    assert_eq!(log.next().await.unwrap(), None);
    assert_eq!(client.logs("nobody", query).next().await.unwrap(), None);
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_an_error_and_not_the_end() {
    let fake = Fake::start().await;
    let client = pod(&fake).await;
    fake.fail("GET /v2/pods/pod0001/logs", &[Fault::Problem(401, "expired")]);
    let mut log = client.logs("pod0001", CONTAINER);
    assert_eq!(log.next().await.unwrap_err().kind(), "denied");
    fake.world().logs.push_back(vec![FIRST, Piece::Hang]);
    assert_eq!(lines(&mut log, 9).await, ["one"]);
}

#[tokio::test]
async fn the_console_is_the_end_of_the_systems_log() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    cloud.launch(&spec("token-1")).await.unwrap();
    fake.asked();
    fake.world().logs.push_back(vec![FIRST, SECOND, Piece::Hang]);
    assert_eq!(cloud.console("pod0001").await.unwrap(), "2026-06-01T12:02:03Z one\ntwo\n");
    assert_eq!(fake.world().asked[0].what, "GET /v2/pods/pod0001/logs?source=system&tail=200");
    // RunPod keeps nothing of a pod that is deleted.
    cloud.terminate("pod0001").await.unwrap();
    assert_eq!(cloud.console("pod0001").await.unwrap(), "");
}
