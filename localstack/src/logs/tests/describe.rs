use super::*;

const ARN: &str = "arn:aws:logs:us-east-1:000000000000:log-group:";

fn names<'a>(answer: &'a Value, list: &str, name: &str) -> Vec<&'a str> {
    answer[list].as_array().unwrap().iter().map(|one| one[name].as_str().unwrap()).collect()
}

fn groups(answer: &Value) -> Vec<&str> {
    names(answer, "logGroups", "logGroupName")
}

fn streams(answer: &Value) -> Vec<&str> {
    names(answer, "logStreams", "logStreamName")
}

#[tokio::test(start_paused = true)]
async fn groups_are_described_by_prefix_or_pattern_in_pages() {
    let cloud = mk_cloud().await;
    for name in ["/b", "/a/2", "/a/1", "/a/3", "x/a/1"] {
        ok(&cloud, "CreateLogGroup", json!({"logGroupName": name})).await;
    }
    let describe = async |body: Value| ok(&cloud, "DescribeLogGroups", body).await;
    assert_eq!(groups(&describe(json!({})).await), ["/a/1", "/a/2", "/a/3", "/b", "x/a/1"]);
    assert_eq!(groups(&describe(json!({"logGroupNamePrefix": "/a"})).await), ["/a/1", "/a/2", "/a/3"]);
    assert_eq!(groups(&describe(json!({"logGroupClass": "INFREQUENT_ACCESS"})).await).len(), 0);
    let page = describe(json!({"logGroupNamePrefix": "/a", "limit": 2})).await;
    assert_eq!(groups(&page), ["/a/1", "/a/2"]);
    let page =
        describe(json!({"logGroupNamePrefix": "/a", "limit": 2, "nextToken": page["nextToken"]})).await;
    assert_eq!((groups(&page), &page["nextToken"]), (vec!["/a/3"], &Value::Null));
    let found = describe(json!({"logGroupNamePattern": "a/1"})).await;
    assert_eq!(groups(&found), ["/a/1", "x/a/1"]);
    let mut members: Vec<&String> = found["logGroups"][0].as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(members, ["arn", "creationTime", "logGroupName"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_described_with_what_it_was_made_of_and_what_it_holds() {
    let cloud = mk_cloud().await;
    let key = "arn:aws:kms:us-east-1:000000000000:key/1234";
    let at = now();
    let body =
        json!({"logGroupName": "g", "kmsKeyId": key, "logGroupClass": "STANDARD", "tags": {"team": "a"}});
    ok(&cloud, "CreateLogGroup", body).await;
    ok(&cloud, "CreateLogStream", about(json!({"logStreamName": "s"}))).await;
    ok(&cloud, "PutLogEvents", mk_put("s", &[event(at, "abc")])).await;
    ok(&cloud, "PutRetentionPolicy", about(json!({"retentionInDays": 30}))).await;
    let described = async || ok(&cloud, "DescribeLogGroups", json!({})).await["logGroups"][0].clone();
    let mut expected = json!({
        "logGroupName": "g", "creationTime": at, "arn": format!("{ARN}g:*"), "logGroupArn": format!("{ARN}g"),
        "kmsKeyId": key, "logGroupClass": "STANDARD", "metricFilterCount": 0, "retentionInDays": 30, "storedBytes": 29,
    });
    assert_eq!(described().await, expected);
    ok(&cloud, "DeleteRetentionPolicy", about(json!({}))).await;
    expected.as_object_mut().unwrap().remove("retentionInDays");
    assert_eq!(described().await, expected);
}

#[tokio::test(start_paused = true)]
async fn retention_is_one_of_the_services_days() {
    let cloud = mk_stream().await;
    let days = [
        1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288,
        3653,
    ];
    for days in days {
        ok(&cloud, "PutRetentionPolicy", about(json!({"retentionInDays": days}))).await;
        let groups = ok(&cloud, "DescribeLogGroups", json!({})).await;
        assert_eq!(groups["logGroups"][0]["retentionInDays"], json!(days));
    }
}

#[tokio::test(start_paused = true)]
async fn streams_are_described_by_name_or_by_their_last_event_in_pages() {
    let cloud = mk_stream().await;
    for stream in ["a", "b", "c"] {
        ok(&cloud, "CreateLogStream", about(json!({"logStreamName": stream}))).await;
    }
    let at = now();
    for (stream, at) in [("a", at - 1), ("b", at - 3), ("s", at - 2)] {
        ok(&cloud, "PutLogEvents", mk_put(stream, &[event(at - 10, "x"), event(at, "y")])).await;
    }
    let describe = async |members: Value| ok(&cloud, "DescribeLogStreams", about(members)).await;
    assert_eq!(streams(&describe(json!({})).await), ["a", "b", "c", "s"]);
    assert_eq!(streams(&describe(json!({"descending": true})).await), ["s", "c", "b", "a"]);
    assert_eq!(streams(&describe(json!({"logStreamNamePrefix": "b"})).await), ["b"]);
    assert_eq!(streams(&describe(json!({"orderBy": "LastEventTime"})).await), ["c", "b", "s", "a"]);
    let mut body = json!({"orderBy": "LastEventTime", "descending": true, "limit": 3});
    let page = describe(body.clone()).await;
    assert_eq!(streams(&page), ["a", "s", "b"]);
    body["nextToken"] = page["nextToken"].clone();
    let page = describe(body).await;
    assert_eq!((streams(&page), &page["nextToken"]), (vec!["c"], &Value::Null));
    let stream = &describe(json!({"logStreamNamePrefix": "a"})).await["logStreams"][0];
    assert_eq!(
        (&stream["firstEventTimestamp"], &stream["lastEventTimestamp"], &stream["lastIngestionTime"]),
        (&json!(at - 11), &json!(at - 1), &json!(at))
    );
    assert_eq!((&stream["storedBytes"], &stream["arn"]), (&json!(0), &json!(format!("{ARN}g:log-stream:a"))));
}

#[tokio::test(start_paused = true)]
async fn tags_are_added_replaced_listed_and_removed() {
    let cloud = mk_cloud().await;
    ok(&cloud, "CreateLogGroup", json!({"logGroupName": "g", "tags": {"a": "1", "b": "2"}})).await;
    let arn = format!("{ARN}g");
    let list = async || ok(&cloud, "ListTagsForResource", json!({"resourceArn": arn})).await["tags"].clone();
    ok(&cloud, "TagResource", json!({"resourceArn": arn, "tags": {"b": "3", "kubernetes.io/x": "ü 1"}}))
        .await;
    assert_eq!(list().await, json!({"a": "1", "b": "3", "kubernetes.io/x": "ü 1"}));
    ok(&cloud, "UntagResource", json!({"resourceArn": arn, "tagKeys": ["a", "nobody"]})).await;
    assert_eq!(list().await, json!({"b": "3", "kubernetes.io/x": "ü 1"}));
    let many: std::collections::BTreeMap<String, String> =
        (0..49).map(|n| (format!("key{n}"), String::new())).collect();
    let refusal = refused(&cloud, "TagResource", json!({"resourceArn": arn, "tags": many})).await;
    assert!(refusal.starts_with("TooManyTagsException: "), "{refusal}");
    assert_eq!(list().await.as_object().unwrap().len(), 2);
    let other = json!({"resourceArn": format!("{ARN}h")});
    let refusal = refused(&cloud, "ListTagsForResource", other).await;
    assert_eq!(refusal, "ResourceNotFoundException: The specified log group does not exist.");
}
