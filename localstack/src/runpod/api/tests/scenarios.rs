use super::*;
use crate::runpod::stock::PHRASES;

#[tokio::test(start_paused = true)]
async fn a_pod_may_be_billed_for_nothing_in_four_ways() {
    let account = TestAccount::start();
    let fate = async |pods: &str, scenario: Value| {
        account.scenario(json!({"pods": pods, "scenario": scenario})).await;
    };
    fate("stuck", json!({"kind": "stuckProvisioning"})).await;
    fate("exits", json!({"kind": "exitAtTick"})).await;
    fate("vanishes", json!({"kind": "vanish", "afterMs": 20_000})).await;
    fate("never", json!({"kind": "neverStarts"})).await;
    let mut ids = Vec::new();
    for name in ["stuck", "exits", "vanishes", "never", "good"] {
        ids.push(account.create(json!({ "name": name })).await);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let shown = account.get("/v2/pods").await.ok();
    let told: Vec<_> = shown["pods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| {
            format!("{} {} {}", pod["status"].as_str().unwrap(), pod["cost"], pod["runtime"].is_null())
        })
        .collect();
    assert_eq!(
        told,
        [
            "PROVISIONING 0.69 false",
            "PROVISIONING 0.69 false",
            "RUNNING 0.69 false",
            "RUNNING 0.69 false",
            "RUNNING 0.69 false"
        ]
    );
    assert_eq!(shown["pods"][3]["runtime"], json!({}));
    tokio::time::sleep(Duration::from_secs(295)).await;
    let status = async |id: &str| {
        let answer = account.get(&format!("/v2/pods/{id}")).await;
        answer.body["status"].clone()
    };
    assert_eq!(status(&ids[0]).await, "PROVISIONING");
    assert_eq!(status(&ids[1]).await, "EXITED");
    assert_eq!(status(&ids[2]).await, 404);
    assert_eq!(status(&ids[3]).await, "RUNNING");
    for (id, (seconds, live)) in ids.iter().zip([(305.0, true), (300.0, false), (20.0, false), (305.0, true)])
    {
        let entry = account.entry(id).await;
        let billed = entry["computeSeconds"].as_f64().unwrap();
        assert!((billed - seconds).abs() < 1.5 && entry["live"] == live, "{entry}");
    }
    assert!(
        account.get("/v2/pods").await.ok()["pods"].as_array().unwrap().iter().all(|pod| pod["id"] != *ids[2])
    );
}

#[tokio::test(start_paused = true)]
async fn a_create_is_refused_with_every_phrase_while_the_catalog_says_high() {
    let account = TestAccount::start();
    for (phrase, words) in PHRASES.iter().enumerate() {
        account.scenario(json!({"scenario": {"kind": "noCapacity", "phrase": phrase}, "times": 1})).await;
        let refused = account.call("POST", "/v2/pods", mk_pod()).await.refusal();
        assert_eq!(refused, format!("400 {words}"));
    }
    let path = "/v2/catalog/gpus/NVIDIA%20GeForce%20RTX%204090?include=AVAILABILITY&product=POD";
    assert_eq!(account.get(path).await.ok()["availability"], "HIGH");
    for (status, detail) in
        [(402, "insufficient balance"), (403, "access denied"), (400, "templateId is not allowed here")]
    {
        let scenario = json!({"kind": "refuse", "status": status, "detail": detail});
        account.scenario(json!({ "scenario": scenario, "pods": "a-*", "times": 1 })).await;
        assert_eq!(account.call("POST", "/v2/pods", mk_pod()).await.refusal(), format!("{status} {detail}"));
    }
    account.control("PUT", "denied", json!(["NVIDIA GeForce RTX 4090"])).await;
    assert_eq!(account.call("POST", "/v2/pods", mk_pod()).await.status, 403);
    account.control("PUT", "denied", json!([])).await;
    account.create(json!({})).await;
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_is_lost_has_happened_and_shows_up_later() {
    let account = TestAccount::start();
    for how in ["drop", "badGateway", "hang"] {
        let scenario = json!({"kind": "loseAnswer", "how": how, "listedAfterMs": 5000});
        account.scenario(json!({ "scenario": scenario, "times": 1 })).await;
        let made = async || account.control("GET", "pods", Value::Null).await.as_array().unwrap().len();
        let before = made().await;
        let asked = account.call("POST", "/v2/pods", with(mk_pod(), json!({"name": how})));
        let listed = async || {
            let pods = account.get("/v2/pods").await.ok();
            pods["pods"].as_array().unwrap().iter().any(|pod| pod["name"] == how)
        };
        if how == "hang" {
            assert!(tokio::time::timeout(Duration::from_secs(3), asked).await.is_err(), "it waits");
        } else {
            let answer = asked.await;
            assert!(answer.dropped || answer.status == 502, "{answer:?}");
        }
        assert_eq!(made().await, before + 1);
        assert!(!listed().await);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(listed().await);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_throttled_fail_are_slow_and_lost() {
    let account = TestAccount::start();
    let once = async |scenario: Value| {
        account.scenario(json!({"scenario": scenario, "calls": "GET /v2/*", "times": 1})).await;
    };
    once(json!({"kind": "throttle", "retryAfterS": 7})).await;
    let throttled = account.get("/v2/pods").await;
    assert_eq!((throttled.status, throttled.header("retry-after")), (429, "7"));
    account.scenario(json!({"scenario": {"kind": "serverError", "status": 503}, "times": 3})).await;
    for _ in 0..3 {
        assert_eq!(account.call("POST", "/v2/pods", mk_pod()).await.status, 503);
    }
    assert_eq!(account.control("GET", "pods", Value::Null).await, json!([]), "nothing was made");
    once(json!({"kind": "slow", "delayMs": 4000})).await;
    let begin = tokio::time::Instant::now();
    account.get("/v2/pods").await.ok();
    assert_eq!(begin.elapsed().as_secs(), 4);
    once(json!({"kind": "drop"})).await;
    assert!(account.get("/v2/pods").await.dropped);
    account.get("/v2/pods").await.ok();
    assert_eq!(account.control("GET", "scenarios", Value::Null).await, json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_delete_may_linger_fail_or_be_refused() {
    let account = TestAccount::start();
    let id = account.create(json!({})).await;
    let path = format!("/v2/pods/{id}");
    for status in [500, 409] {
        let scenario = json!({"kind": "refuseDelete", "status": status});
        account.scenario(json!({ "scenario": scenario, "times": 1 })).await;
        assert_eq!(account.call("DELETE", &path, Value::Null).await.status, status);
    }
    account.scenario(json!({"scenario": {"kind": "linger", "polls": 3}, "times": 1})).await;
    assert_eq!(account.call("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(account.entry(&id).await["live"], json!(false), "it is not billed any more");
    for _ in 0..2 {
        assert_eq!(account.get("/v2/pods").await.ok()["pods"].as_array().unwrap().len(), 1);
    }
    assert_eq!(account.call("DELETE", &path, Value::Null).await.status, 204, "again");
    account.get(&path).await.ok();
    assert_eq!(account.get(&path).await.status, 404);
    assert_eq!(account.get("/v2/pods").await.ok()["pods"], json!([]));
    assert_eq!(account.call("DELETE", &path, Value::Null).await.status, 404);
    assert_eq!(account.statuses(&id).await.last().unwrap(), "TERMINATED");
}

#[tokio::test(start_paused = true)]
async fn containers_crash_hosts_are_maintained_and_ports_change() {
    let account = TestAccount::start();
    let fate = async |pods: &str, scenario: Value| {
        account.scenario(json!({"pods": pods, "scenario": scenario})).await;
    };
    fate("crashes", json!({"kind": "crash", "afterMs": 2000, "code": 7})).await;
    fate("errs", json!({"kind": "error", "afterMs": 1000})).await;
    fate("moves", json!({"kind": "maintenance", "afterMs": 1000})).await;
    fate("maps", json!({"kind": "remapPorts"})).await;
    let crashes = account.create(json!({"name": "crashes"})).await;
    let errs = account.create(json!({"name": "errs"})).await;
    let moves = account.create(json!({"name": "moves"})).await;
    let maps = account.create(json!({"name": "maps"})).await;
    let first = account.until_up(&maps).await["runtime"]["ports"].clone();
    account.until(&crashes, "started four times", |pod| pod["starts"] == 4).await;
    let history = account.control("GET", "history", Value::Null).await;
    let life = history.as_array().unwrap().iter().find(|life| life["id"] == *crashes).unwrap();
    assert!(
        life["endings"].as_array().unwrap().iter().all(|ending| ending["exit"] == json!({"code": 7})),
        "{life}"
    );
    assert_eq!(account.until_status(&errs, "ERROR").await["actions"], json!(["start", "terminate"]));
    assert_eq!(account.until_status(&moves, "EXITED").await["reason"], "host maintenance");
    account.control("POST", &format!("pods/{maps}/exit"), json!({"signal": 9})).await;
    account.until(&maps, "restarted", |pod| pod["starts"] == 2).await;
    assert_ne!(account.until_up(&maps).await["runtime"]["ports"], first);
    for act in ["maintenance", "vanish"] {
        account.control("POST", &format!("pods/{maps}/{act}"), Value::Null).await;
        let refused =
            account.send(TestAccount::request("POST", "/_local/pods/none/error", &Value::Null)).await;
        assert_eq!(refused.status, 404);
    }
    assert_eq!(account.get(&format!("/v2/pods/{maps}")).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_cut_or_begins_with_what_was_read() {
    let account = TestAccount::start();
    let id = account.create(json!({})).await;
    account.until_up(&id).await;
    for n in 0..5 {
        account.control("POST", &format!("pods/{id}/line"), json!({"line": n.to_string()})).await;
    }
    let read = async |last: Option<&str>| {
        let mut request =
            TestAccount::request("GET", &format!("/v2/pods/{id}/logs?source=container"), &Value::Null);
        if let Some(last) = last {
            request.headers_mut().insert("last-event-id", HeaderValue::from_str(last).unwrap());
        }
        let response = tower::ServiceExt::oneshot(account.router.clone(), request).await.unwrap();
        let mut body = response.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let second = tokio::time::timeout(Duration::from_secs(5), body.frame()).await;
        (String::from_utf8(first.to_vec()).unwrap(), second.is_ok_and(|frame| frame.unwrap().is_err()))
    };
    account.scenario(json!({"scenario": {"kind": "cutLogs", "afterEvents": 2}, "times": 1})).await;
    let (text, is_cut) = read(None).await;
    assert!(is_cut && text.matches("\n\n").count() == 2 && !text.ends_with("\n\n"), "{text}");
    let (text, is_cut) = read(None).await;
    assert!(!is_cut && text.matches("\n\n").count() == 5);
    let third = text.split("\n\n").nth(2).unwrap().strip_prefix("id: ").unwrap().split_once('\n').unwrap().0;
    assert_eq!(read(Some(third)).await.0.matches("\n\n").count(), 2);
    account.scenario(json!({"scenario": {"kind": "repeatBoundary"}, "times": 1})).await;
    let repeated = read(Some(third)).await.0;
    assert!(
        repeated.starts_with(&format!("id: {third}\n")) && repeated.matches("\n\n").count() == 3,
        "{repeated}"
    );
}

#[tokio::test(start_paused = true)]
async fn in_a_storm_nothing_is_billed_that_the_history_does_not_tell() {
    let account = TestAccount::start();
    account.control("PUT", "limits", json!([])).await;
    account.control("PUT", "storm", json!({"seed": 11, "chance": 0.3})).await;
    let mut outcomes = std::collections::BTreeMap::<String, u32>::new();
    for n in 0..150 {
        let body = with(mk_pod(), json!({"name": format!("a-{n}")}));
        let asked = account.raw("POST", "/v2/pods", &body);
        let told = tokio::time::timeout(Duration::from_secs(5), asked).await;
        *outcomes.entry(told.unwrap_or_else(|_| "hung".to_owned())).or_default() += 1;
    }
    for word in ["201", "400", "403", "429", "500", "502", "503", "dropped", "hung", "cut"] {
        assert!(outcomes.contains_key(word), "{word} in {outcomes:?}");
    }
    account.control("DELETE", "storm", Value::Null).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let shown = account.control("GET", "pods", Value::Null).await;
    for pod in shown.as_array().unwrap() {
        let path = format!("/v2/pods/{}", pod["id"].as_str().unwrap());
        account.raw("DELETE", &path, &Value::Null).await;
    }
    let ledger = account.control("GET", "ledger", Value::Null).await;
    assert_eq!(ledger["live"], 0, "{ledger}");
    let history = account.control("GET", "history", Value::Null).await;
    for life in history.as_array().unwrap() {
        let last = &life["history"].as_array().unwrap().last().unwrap()["status"];
        assert!(last == "TERMINATED" && !life["endedAt"].is_null(), "{life}");
    }
    assert!(history.as_array().unwrap().len() > 60, "{outcomes:?}");
}
