use super::*;

const INVALID: &str = "InvalidParameterException: 1 validation error detected: Value ";
const NO_GROUP: &str = "ResourceNotFoundException: The specified log group does not exist.";
const NO_STREAM: &str = "ResourceNotFoundException: The specified log stream does not exist.";

/// What must not be put, as `f(message)` says it.
fn invalid(what: &str, rule: &str) -> String {
    format!("{INVALID}{what} failed to satisfy constraint: Member must {rule}")
}

#[tokio::test(start_paused = true)]
async fn what_is_no_operation_or_not_signed_for_this_service_is_refused() {
    let cloud = mk_cloud().await;
    let refusal = refused(&cloud, "StartLiveTail", json!({})).await;
    assert!(refusal.starts_with("UnknownOperationException: "), "{refusal}");
    let target = [("x-amz-target", "Logs_20140328.DescribeLogGroups")];
    let crossed = cloud.signed(&Signer::test("ssm"), &target, "{}".to_owned()).await;
    assert_eq!(crossed.status, 400);
    assert!(crossed.text.contains("InvalidSignatureException"), "{}", crossed.text);
    let wrong = Signer { secret: "wrong".to_owned(), ..Signer::test("logs") };
    assert!(cloud.signed(&wrong, &target, "{}".to_owned()).await.text.contains("InvalidSignatureException"));
    let nobody = Signer { access_key: "nobody".to_owned(), ..Signer::test("logs") };
    let answer = cloud.signed(&nobody, &target, "{}".to_owned()).await;
    assert!(answer.text.contains("UnrecognizedClientException"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn unknown_members_and_wrong_types_are_refused() {
    let cloud = mk_stream().await;
    for (operation, body) in [
        ("CreateLogGroup", json!({"logGroupName": "h", "logGroupname": "h"})),
        ("CreateLogGroup", json!({"logGroupName": 5})),
        ("PutLogEvents", mk_put("s", &[json!({"timestamp": now(), "message": "a", "id": "b"})])),
        ("PutLogEvents", mk_put("s", &[json!({"timestamp": "now", "message": "a"})])),
        ("GetLogEvents", about(json!({"logStreamName": "s", "startfromhead": true}))),
        ("FilterLogEvents", about(json!({"logStreamNames": "s"}))),
        ("DescribeLogStreams", about(json!({"limit": 1.5}))),
        ("ListTagsForResource", json!([])),
    ] {
        let refusal = refused(&cloud, operation, body).await;
        assert!(refusal.starts_with("SerializationException: "), "{operation}: {refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_the_service_would_not_take_are_refused() {
    let cloud = mk_cloud().await;
    let group = async |name: Value| refused(&cloud, "CreateLogGroup", json!({"logGroupName": name})).await;
    assert_eq!(group(Value::Null).await, invalid("null at 'logGroupName'", "not be null"));
    let short = "have length greater than or equal to 1";
    let long = "have length less than or equal to 512";
    assert_eq!(group(json!("")).await, invalid("'' at 'logGroupName'", short));
    let name = "x".repeat(513);
    assert_eq!(group(json!(name)).await, invalid(&format!("'{name}' at 'logGroupName'"), long));
    let pattern = r"satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+";
    for name in ["a b", "a:b", "ä", "a*"] {
        assert_eq!(group(json!(name)).await, invalid(&format!("'{name}' at 'logGroupName'"), pattern));
    }
    for name in ["a", "/orca/cluster-1/pods", "A_b.c#9", &"x".repeat(512)] {
        ok(&cloud, "CreateLogGroup", json!({"logGroupName": name})).await;
    }
    let stream = |name: &str| json!({"logGroupName": "a", "logStreamName": name});
    for (name, rule) in [
        ("a:b", "satisfy regular expression pattern: [^:*]*"),
        ("a*", "satisfy regular expression pattern: [^:*]*"),
        ("", short),
    ] {
        let refusal = refused(&cloud, "CreateLogStream", stream(name)).await;
        assert_eq!(refusal, invalid(&format!("'{name}' at 'logStreamName'"), rule));
    }
    let long = stream(&"x".repeat(513));
    assert!(refused(&cloud, "CreateLogStream", long).await.starts_with(INVALID));
    for name in ["default/train-0/4f1c/main/0", "a b [ü]", &"x".repeat(512)] {
        ok(&cloud, "CreateLogStream", stream(name)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_already_or_not_at_all_is_refused() {
    let cloud = mk_stream().await;
    let exists =
        |what: &str| format!("ResourceAlreadyExistsException: The specified log {what} already exists");
    assert_eq!(refused(&cloud, "CreateLogGroup", about(json!({}))).await, exists("group"));
    let stream = json!({"logStreamName": "s"});
    assert_eq!(refused(&cloud, "CreateLogStream", about(stream.clone())).await, exists("stream"));
    let nowhere = json!({"logGroupName": "h", "logStreamName": "s"});
    let missing = about(json!({"logStreamName": "t"}));
    let put = |mut body: Value| {
        body["logEvents"] = json!([event(now(), "a")]);
        body
    };
    for operation in ["CreateLogStream", "DeleteLogStream", "GetLogEvents"] {
        assert_eq!(refused(&cloud, operation, nowhere.clone()).await, NO_GROUP, "{operation}");
    }
    for operation in ["DeleteLogStream", "GetLogEvents"] {
        assert_eq!(refused(&cloud, operation, missing.clone()).await, NO_STREAM, "{operation}");
    }
    assert_eq!(refused(&cloud, "PutLogEvents", put(nowhere)).await, NO_GROUP);
    assert_eq!(refused(&cloud, "PutLogEvents", put(missing)).await, NO_STREAM);
    let group = json!({"logGroupName": "h"});
    for operation in ["DeleteLogGroup", "FilterLogEvents", "DescribeLogStreams", "DeleteRetentionPolicy"] {
        assert_eq!(refused(&cloud, operation, group.clone()).await, NO_GROUP, "{operation}");
    }
    let retention = json!({"logGroupName": "h", "retentionInDays": 1});
    assert_eq!(refused(&cloud, "PutRetentionPolicy", retention).await, NO_GROUP);
    let named = about(json!({"logStreamNames": ["s", "t"]}));
    assert_eq!(refused(&cloud, "FilterLogEvents", named).await, NO_STREAM);
    ok(&cloud, "DeleteLogStream", about(stream.clone())).await;
    assert_eq!(refused(&cloud, "DeleteLogStream", about(stream)).await, NO_STREAM);
    ok(&cloud, "DeleteLogGroup", about(json!({}))).await;
    assert_eq!(refused(&cloud, "DeleteLogGroup", about(json!({}))).await, NO_GROUP);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_breaks_a_limit_is_refused_whole() {
    let cloud = mk_stream().await;
    let put = async |events: &[Value]| refused(&cloud, "PutLogEvents", mk_put("s", events)).await;
    let now = now();
    assert_eq!(
        put(&[]).await,
        invalid("'[0 events]' at 'logEvents'", "have length greater than or equal to 1")
    );
    let many = vec![event(now, "x"); 10_001];
    let most = "have length less than or equal to 10000";
    assert_eq!(put(&many).await, invalid("'[10001 events]' at 'logEvents'", most));
    ok(&cloud, "PutLogEvents", mk_put("s", &many[1..])).await;
    let second = |what: &str| format!("at 'logEvents.2.member.{what}'");
    assert_eq!(
        put(&[event(now, "a"), event(now, "")]).await,
        invalid(&format!("'' {}", second("message")), "have length greater than or equal to 1")
    );
    assert_eq!(
        put(&[event(now, "a"), json!({"timestamp": now})]).await,
        invalid(&format!("null {}", second("message")), "not be null")
    );
    assert_eq!(
        put(&[event(now, "a"), event(-1, "b")]).await,
        invalid(&format!("'-1' {}", second("timestamp")), "have value greater than or equal to 0")
    );
    assert_eq!(
        put(&[event(now, "a"), event(now - 1, "b")]).await,
        "InvalidParameterException: Log events in a single PutLogEvents request must be in chronological order."
    );
    assert_eq!(
        put(&[event(now - DAY - 1, "a"), event(now, "b")]).await,
        "InvalidParameterException: The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
    );
    let half = "ü".repeat(262_144 - 13);
    ok(&cloud, "PutLogEvents", mk_put("s", &[event(now, &half), event(now, &half)])).await;
    assert_eq!(
        put(&[event(now, &half), event(now, &half), event(now, "x")]).await,
        "InvalidParameterException: Upload too large: 1048603 bytes exceeds limit of 1048576"
    );
    assert_eq!(
        put(&[event(now, &"x".repeat(1_048_551))]).await,
        "InvalidParameterException: Log event too large: 1048577 bytes exceeds limit of 1048576"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_which_json_writes_each_byte_as_six_is_still_taken() {
    let cloud = mk_stream().await;
    let text = "\u{1}".repeat(1_048_550);
    ok(&cloud, "PutLogEvents", mk_put("s", &[event(now(), &text)])).await;
    let got = ok(&cloud, "GetLogEvents", about(json!({"logStreamName": "s"}))).await;
    assert_eq!(texts(&got), [text]);
}

#[tokio::test(start_paused = true)]
async fn readers_must_ask_within_the_rules() {
    let cloud = mk_stream().await;
    let get = async |members: Value| {
        let mut body = about(members);
        body["logStreamName"] = json!("s");
        refused(&cloud, "GetLogEvents", body).await
    };
    let least = |least: u32| format!("have value greater than or equal to {least}");
    assert_eq!(get(json!({"limit": 0})).await, invalid("'0' at 'limit'", &least(1)));
    let most = "have value less than or equal to 10000";
    assert_eq!(get(json!({"limit": 10_001})).await, invalid("'10001' at 'limit'", most));
    assert_eq!(get(json!({"startTime": -1})).await, invalid("'-1' at 'startTime'", &least(0)));
    assert_eq!(get(json!({"endTime": -1})).await, invalid("'-1' at 'endTime'", &least(0)));
    let bad_token = "InvalidParameterException: The specified nextToken is invalid.";
    for token in ["x", "f/", "f/1", &format!("g/{:056}", 0)] {
        assert_eq!(get(json!({"nextToken": token})).await, bad_token, "{token}");
    }
    for members in [json!({"unmask": true}), json!({"logGroupIdentifier": "g"})] {
        assert!(get(members).await.starts_with("InvalidParameterException: "));
    }
    let filter = async |members: Value| refused(&cloud, "FilterLogEvents", about(members)).await;
    assert_eq!(filter(json!({"limit": 10_001})).await, invalid("'10001' at 'limit'", most));
    assert_eq!(filter(json!({"nextToken": "x"})).await, bad_token);
    for members in [
        json!({"logStreamNames": ["s"], "logStreamNamePrefix": "s"}),
        json!({"logStreamNames": []}),
        json!({"filterPattern": "ERROR"}),
        json!({"startFromHead": false}),
        json!({"unmask": true}),
    ] {
        assert!(filter(members.clone()).await.starts_with("InvalidParameterException: "), "{members}");
    }
    let neither = refused(&cloud, "FilterLogEvents", json!({})).await;
    assert!(neither.starts_with("InvalidParameterException: "), "{neither}");
}

#[tokio::test(start_paused = true)]
async fn what_the_local_cloud_does_not_play_is_refused_and_not_ignored() {
    let cloud = mk_stream().await;
    for (operation, body) in [
        ("CreateLogGroup", json!({"logGroupName": "h", "logGroupClass": "INFREQUENT_ACCESS"})),
        ("CreateLogGroup", json!({"logGroupName": "h", "logGroupClass": "CHEAP"})),
        ("CreateLogGroup", json!({"logGroupName": "h", "deletionProtectionEnabled": true})),
        ("CreateLogGroup", json!({"logGroupName": "h", "kmsKeyId": "alias/mine"})),
        ("CreateLogGroup", json!({"logGroupName": "h", "tags": {}})),
        ("CreateLogGroup", json!({"logGroupName": "h", "tags": {"aws:x": "y"}})),
        ("CreateLogGroup", json!({"logGroupName": "h", "tags": {"a*": "y"}})),
        ("DescribeLogGroups", json!({"includeLinkedAccounts": true})),
        ("DescribeLogGroups", json!({"logGroupIdentifiers": ["g"]})),
        ("DescribeLogGroups", json!({"logGroupNamePrefix": "g", "logGroupNamePattern": "g"})),
        ("DescribeLogGroups", json!({"limit": 51})),
        ("DescribeLogGroups", json!({"nextToken": "!"})),
        ("PutRetentionPolicy", about(json!({"retentionInDays": 2}))),
        ("PutRetentionPolicy", about(json!({}))),
        ("TagResource", json!({"resourceArn": "g", "tags": {"a": "b"}})),
        (
            "TagResource",
            json!({"resourceArn": "arn:aws:logs:us-east-1:000000000000:log-group:g:*", "tags": {"a": "b"}}),
        ),
    ] {
        let refusal = refused(&cloud, operation, body.clone()).await;
        assert!(refusal.starts_with("InvalidParameterException: "), "{operation} {body}: {refusal}");
    }
    let groups = ok(&cloud, "DescribeLogGroups", json!({})).await;
    assert_eq!(groups["logGroups"].as_array().unwrap().len(), 1, "nothing was made");
}

#[tokio::test(start_paused = true)]
async fn streams_are_not_ordered_by_time_and_found_by_prefix_at_once() {
    let cloud = mk_stream().await;
    let describe = async |members: Value| refused(&cloud, "DescribeLogStreams", about(members)).await;
    assert_eq!(
        describe(json!({"orderBy": "LastEventTime", "logStreamNamePrefix": "s"})).await,
        "InvalidParameterException: Cannot order by LastEventTime with a logStreamNamePrefix."
    );
    assert_eq!(
        describe(json!({"orderBy": "CreationTime"})).await,
        invalid("'CreationTime' at 'orderBy'", "satisfy enum value set: [LogStreamName, LastEventTime]")
    );
    let most = "have value less than or equal to 50";
    assert_eq!(describe(json!({"limit": 51})).await, invalid("'51' at 'limit'", most));
    assert!(describe(json!({"limit": 0})).await.starts_with(INVALID));
}
