use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;

#[tokio::test(start_paused = true)]
async fn settings_are_shown_changed_by_member_and_bad_ones_refused() {
    let cloud = TestCloud::start();
    let (status, shown) = cloud.control("GET", "logs", Value::Null).await;
    assert_eq!((status, &shown["ingestionDelayMs"], &shown["throttle"]), (200, &json!(1000), &json!("off")));
    let (_, changed) = cloud.control("PATCH", "logs", json!({"ingestionDelayMs": 5})).await;
    assert_eq!((&changed["ingestionDelayMs"], &changed["maxGroups"]), (&json!(5), &shown["maxGroups"]));
    for bad in [
        json!({"ingestionDelay": 5}),
        json!({"ingestionDelayMs": -5}),
        json!({"throttle": "harsh"}),
        json!({"throttle": {"GetLog": {"size": 1, "per_second": 1}}}),
        json!({"maxPageEvents": 0}),
        json!([]),
    ] {
        let (status, answer) = cloud.control("PATCH", "logs", bad.clone()).await;
        assert_eq!(status, 400, "{bad}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    assert_eq!(cloud.control("GET", "logs", Value::Null).await.1, changed);
}

#[tokio::test(start_paused = true)]
async fn an_operation_with_a_bucket_is_throttled_and_others_are_not() {
    let cloud = mk_stream().await;
    let get = about(json!({"logStreamName": "s"}));
    let through = async || {
        let mut through = 0;
        for _ in 0..30 {
            match call(&cloud, "GetLogEvents", get.clone()).await {
                (200, _) => through += 1,
                (status, answer) => {
                    let expected = json!({"__type": "ThrottlingException", "message": "Rate exceeded"});
                    assert_eq!((status, answer), (400, expected));
                }
            }
        }
        through
    };
    assert_eq!(through().await, 30);
    set(&cloud, json!({"throttle": {"GetLogEvents": {"size": 3, "per_second": 2.0}}})).await;
    assert_eq!(through().await, 3);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(through().await, 2);
    ok(&cloud, "FilterLogEvents", about(json!({}))).await;
    set(&cloud, json!({"throttle": "aws"})).await;
    assert_eq!(through().await, 25);
    set(&cloud, json!({"throttle": "off"})).await;
    assert_eq!(through().await, 30);
}

#[tokio::test(start_paused = true)]
async fn faults_refuse_delay_and_drop_and_calls_are_recorded() {
    let cloud = mk_stream().await;
    let fault = async |fault: Value| assert_eq!(cloud.control("POST", "faults", fault).await.0, 200);
    let put = || mk_put("s", &[event(now(), "a")]);
    cloud.control("DELETE", "calls", Value::Null).await;
    let code = json!({"action": "PutLogEvents", "then": "refuse", "code": "ServiceUnavailableException", "status": 503, "message": "busy"});
    fault(code).await;
    let (status, answer) = call(&cloud, "PutLogEvents", put()).await;
    assert_eq!((status, answer), (503, json!({"__type": "ServiceUnavailableException", "message": "busy"})));
    fault(json!({"action": "PutLogEvents", "delay_ms": 3000, "answer_delay_ms": 4000})).await;
    let start = Instant::now();
    ok(&cloud, "PutLogEvents", put()).await;
    assert_eq!(start.elapsed().as_secs(), 7);
    fault(json!({"action": "PutLogEvents", "then": "act_then_drop"})).await;
    let target = [("x-amz-target", "Logs_20140328.PutLogEvents")];
    assert!(cloud.signed(&Signer::test("logs"), &target, put().to_string()).await.dropped);
    fault(json!({"action": "PutLogEvents", "then": "drop"})).await;
    assert!(cloud.signed(&Signer::test("logs"), &target, put().to_string()).await.dropped);
    let got = ok(&cloud, "GetLogEvents", about(json!({"logStreamName": "s"}))).await;
    assert_eq!(texts(&got), ["a", "a"], "what was dropped after it was done is there");
    let (_, calls) = cloud.control("GET", "calls", Value::Null).await;
    assert_eq!(calls["counts"], json!({"PutLogEvents": 4, "GetLogEvents": 1}));
    let log: Vec<String> =
        calls["log"].as_array().unwrap().iter().map(|call| call["outcome"].to_string()).collect();
    assert_eq!(log.join(" "), r#""ServiceUnavailableException" "ok" "dropped" "dropped" "ok""#);
    assert_eq!(calls["log"][0]["service"], "logs");
}

#[tokio::test(start_paused = true)]
async fn the_store_has_an_end_that_is_told() {
    let cloud = mk_stream().await;
    set(&cloud, json!({"maxStreamBytes": 100, "maxStoredBytes": 150, "maxStreams": 2, "maxGroups": 1})).await;
    let put = |stream: &str| mk_put(stream, &[event(now(), &"x".repeat(74))]);
    ok(&cloud, "PutLogEvents", put("s")).await;
    assert_eq!(
        refused(&cloud, "PutLogEvents", put("s")).await,
        "LimitExceededException: The local cloud keeps at most 100 bytes of a log stream (`maxStreamBytes` of /_local/logs)."
    );
    ok(&cloud, "CreateLogStream", about(json!({"logStreamName": "t"}))).await;
    let refusal = refused(&cloud, "PutLogEvents", put("t")).await;
    assert!(
        refusal.starts_with("LimitExceededException: The local cloud keeps at most 150 bytes"),
        "{refusal}"
    );
    let refusal = refused(&cloud, "CreateLogStream", about(json!({"logStreamName": "u"}))).await;
    assert!(refusal.starts_with("LimitExceededException: Resource limit exceeded."), "{refusal}");
    let refusal = refused(&cloud, "CreateLogGroup", json!({"logGroupName": "h"})).await;
    assert!(refusal.starts_with("LimitExceededException: Resource limit exceeded."), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn pages_can_be_made_short_and_empty_as_the_services_may_be() {
    let cloud = mk_stream().await;
    let at = now();
    let events = ["a", "b", "c"].map(|text| event(at, text));
    ok(&cloud, "PutLogEvents", mk_put("s", &events)).await;
    set(&cloud, json!({"maxPageEvents": 2, "emptyPages": true})).await;
    let (mut body, mut pages) = (about(json!({"logStreamName": "s", "startFromHead": true})), Vec::new());
    for _ in 0..5 {
        let page = ok(&cloud, "GetLogEvents", body.clone()).await;
        pages.push(texts(&page).concat());
        body["nextToken"] = page["nextForwardToken"].clone();
    }
    assert_eq!(pages, ["ab", "", "c", "", ""]);
    let (mut body, mut pages) = (about(json!({})), Vec::new());
    loop {
        let page = ok(&cloud, "FilterLogEvents", body.clone()).await;
        pages.push(texts(&page).concat());
        body["nextToken"] = page["nextToken"].clone();
        if body["nextToken"].is_null() {
            break;
        }
    }
    assert_eq!(pages, ["ab", "", "c"]);
}
