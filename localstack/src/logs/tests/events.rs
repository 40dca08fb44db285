use std::time::Duration;

use tokio::time::sleep;

use super::*;

async fn put(cloud: &TestCloud, stream: &str, events: &[Value]) -> Value {
    ok(cloud, "PutLogEvents", mk_put(stream, events)).await
}

async fn get(cloud: &TestCloud, members: Value) -> Value {
    let mut body = about(members);
    body["logStreamName"] = json!("s");
    ok(cloud, "GetLogEvents", body).await
}

#[tokio::test(start_paused = true)]
async fn what_was_put_is_got_with_its_times() {
    let cloud = mk_stream().await;
    let at = now();
    let answer = put(&cloud, "s", &[event(at - 5, "a"), event(at, "b")]).await;
    assert_eq!(answer["nextSequenceToken"].as_str().unwrap().len(), 56);
    assert_eq!(answer["rejectedLogEventsInfo"], Value::Null);
    let got = get(&cloud, json!({})).await;
    assert_eq!(got["events"][0], json!({"timestamp": at - 5, "message": "a", "ingestionTime": at}));
    assert_eq!(texts(&got), ["a", "b"]);
    let identifier = json!({"logGroupIdentifier": "arn:aws:logs:us-east-1:000000000000:log-group:g", "logStreamName": "s"});
    assert_eq!(texts(&ok(&cloud, "GetLogEvents", identifier).await), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn sequence_tokens_are_ignored_and_a_batch_put_twice_is_there_twice() {
    let cloud = mk_stream().await;
    let mut body = mk_put("s", &[event(now(), "a")]);
    body["sequenceToken"] = json!("nonsense");
    let first = ok(&cloud, "PutLogEvents", body.clone()).await;
    let second = ok(&cloud, "PutLogEvents", body).await;
    assert_ne!(first["nextSequenceToken"], second["nextSequenceToken"]);
    assert_eq!(texts(&get(&cloud, json!({})).await), ["a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_is_told_in_a_successful_answer() {
    let cloud = mk_stream().await;
    let (at, hour) = (now(), 3_600_000);
    let answer =
        put(&cloud, "s", &[event(at - 15 * DAY, "old"), event(at, "a"), event(at + 3 * hour, "new")]).await;
    assert_eq!(
        answer["rejectedLogEventsInfo"],
        json!({"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2})
    );
    ok(&cloud, "PutRetentionPolicy", about(json!({"retentionInDays": 1}))).await;
    let answer =
        put(&cloud, "s", &[event(at - DAY - hour, "expired"), event(at - DAY + 2 * hour, "b")]).await;
    assert_eq!(answer["rejectedLogEventsInfo"], json!({"expiredLogEventEndIndex": 1}));
    assert_eq!(texts(&get(&cloud, json!({})).await), ["b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn the_start_of_a_range_is_in_it_and_its_end_is_not() {
    let cloud = mk_stream().await;
    let at = now();
    put(&cloud, "s", &[event(at - 2, "a"), event(at - 1, "b"), event(at, "c")]).await;
    let range = json!({"startTime": at - 1, "endTime": at});
    assert_eq!(texts(&get(&cloud, range.clone()).await), ["b"]);
    assert_eq!(texts(&ok(&cloud, "FilterLogEvents", about(range)).await), ["b"]);
    assert_eq!(texts(&get(&cloud, json!({"startTime": at, "endTime": at - 2})).await).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn pages_are_followed_from_the_tail_backwards_and_from_the_head_forwards() {
    let cloud = mk_stream().await;
    let at = now();
    put(&cloud, "s", &["a", "b", "c", "d", "e"].map(|text| event(at, text))).await;
    let tail = get(&cloud, json!({"limit": 2})).await;
    assert_eq!(texts(&tail), ["d", "e"]);
    let back = get(&cloud, json!({"limit": 2, "nextToken": tail["nextBackwardToken"]})).await;
    assert_eq!(texts(&back), ["b", "c"]);
    let head = get(&cloud, json!({"limit": 4, "startFromHead": true})).await;
    assert_eq!(texts(&head), ["a", "b", "c", "d"]);
    let on = json!({"limit": 4, "startFromHead": true, "nextToken": head["nextForwardToken"]});
    let next = get(&cloud, on).await;
    assert_eq!(texts(&next), ["e"]);
    let end = get(&cloud, json!({"nextToken": next["nextForwardToken"]})).await;
    assert_eq!((texts(&end).len(), &end["nextForwardToken"]), (0, &next["nextForwardToken"]));
    assert!(end["nextForwardToken"].as_str().unwrap().starts_with("f/"));
    assert!(end["nextBackwardToken"].as_str().unwrap().starts_with("b/"));
}

#[tokio::test(start_paused = true)]
async fn many_streams_are_filtered_in_the_order_of_time() {
    let cloud = mk_stream().await;
    for stream in ["s2", "t"] {
        ok(&cloud, "CreateLogStream", about(json!({"logStreamName": stream}))).await;
    }
    let at = now();
    put(&cloud, "s", &[event(at - 3, "a"), event(at, "d")]).await;
    put(&cloud, "s2", &[event(at - 2, "b"), event(at, "e")]).await;
    put(&cloud, "t", &[event(at - 1, "c")]).await;
    let filter = async |members: Value| ok(&cloud, "FilterLogEvents", about(members)).await;
    let all = filter(json!({"filterPattern": "", "interleaved": false})).await;
    assert_eq!(texts(&all), ["a", "b", "c", "d", "e"]);
    assert_eq!((&all["searchedLogStreams"], &all["nextToken"]), (&json!([]), &Value::Null));
    let first = &all["events"][0];
    assert_eq!((&first["logStreamName"], first["eventId"].as_str().unwrap().len()), (&json!("s"), 56));
    assert_eq!(texts(&filter(json!({"logStreamNamePrefix": "s"})).await), ["a", "b", "d", "e"]);
    assert_eq!(texts(&filter(json!({"logStreamNames": ["t", "s", "t"]})).await), ["a", "c", "d"]);
    let mut page = filter(json!({"limit": 3})).await;
    assert_eq!(texts(&page), ["a", "b", "c"]);
    page = filter(json!({"limit": 3, "nextToken": page["nextToken"]})).await;
    assert_eq!((texts(&page), &page["nextToken"]), (vec!["d", "e"], &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn events_can_be_read_a_while_after_they_were_put() {
    let cloud = mk_stream().await;
    set(&cloud, json!({"ingestionDelayMs": 1000})).await;
    put(&cloud, "s", &[event(now(), "a")]).await;
    let streams = async || ok(&cloud, "DescribeLogStreams", about(json!({}))).await["logStreams"][0].clone();
    let read = async || {
        let filtered = ok(&cloud, "FilterLogEvents", about(json!({}))).await;
        (texts(&get(&cloud, json!({})).await).len(), texts(&filtered).len())
    };
    assert_eq!(read().await, (0, 0));
    assert_eq!(streams().await["lastIngestionTime"], Value::Null);
    sleep(Duration::from_millis(990)).await;
    assert_eq!(read().await, (0, 0));
    sleep(Duration::from_millis(20)).await;
    assert_eq!(read().await, (1, 1));
    assert!(streams().await["lastIngestionTime"].is_i64());
}

#[tokio::test(start_paused = true)]
async fn events_expire_with_the_retention_of_their_group() {
    let cloud = mk_stream().await;
    ok(&cloud, "PutRetentionPolicy", about(json!({"retentionInDays": 1}))).await;
    put(&cloud, "s", &[event(now(), "a")]).await;
    sleep(Duration::from_secs(12 * 3600)).await;
    put(&cloud, "s", &[event(now(), "b")]).await;
    assert_eq!(texts(&get(&cloud, json!({})).await), ["a", "b"]);
    sleep(Duration::from_secs(13 * 3600)).await;
    assert_eq!(texts(&get(&cloud, json!({})).await), ["b"]);
    assert_eq!(texts(&ok(&cloud, "FilterLogEvents", about(json!({}))).await), ["b"]);
    sleep(Duration::from_secs(13 * 3600)).await;
    let stream = &ok(&cloud, "DescribeLogStreams", about(json!({}))).await["logStreams"][0];
    assert_eq!(stream["lastEventTimestamp"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_again_is_empty() {
    let cloud = mk_stream().await;
    put(&cloud, "s", &[event(now(), "a")]).await;
    let stream = about(json!({"logStreamName": "s"}));
    ok(&cloud, "DeleteLogStream", stream.clone()).await;
    ok(&cloud, "CreateLogStream", stream).await;
    assert_eq!(texts(&get(&cloud, json!({})).await).len(), 0);
}
