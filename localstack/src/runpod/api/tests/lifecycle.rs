use futures::StreamExt;

use super::*;
use crate::runpod::driver;

/// The texts of a stream's events, up to where it waits.
async fn read(account: &TestAccount, path: &str, last: Option<&str>) -> Vec<(String, String)> {
    let mut request = TestAccount::request("GET", path, &Value::Null);
    if let Some(last) = last {
        request.headers_mut().insert("last-event-id", HeaderValue::from_str(last).unwrap());
    }
    let response = tower::ServiceExt::oneshot(account.router.clone(), request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(response.headers().contains_key("ratelimit"));
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    while let Ok(Some(chunk)) = tokio::time::timeout(Duration::from_secs(30), body.next()).await {
        match chunk {
            Ok(chunk) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
            Err(_) => break,
        }
    }
    let event = |text: &str| {
        let (id, data) = text.strip_prefix("id: ")?.split_once("\ndata: ")?;
        let data: Value = serde_json::from_str(data).ok()?;
        assert_eq!(crate::runpod::schema::check("LogEvent", &data), Vec::<String>::new());
        Some((id.to_owned(), data["line"].as_str()?.to_owned()))
    };
    text.split("\n\n").filter_map(event).collect()
}

fn lines(events: &[(String, String)]) -> Vec<&str> {
    events.iter().map(|(_, line)| line.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn running_comes_before_the_container_and_that_before_its_ports() {
    let account = TestAccount::start();
    let made = account.call("POST", "/v2/pods", mk_pod()).await.ok();
    assert_eq!(
        (&made["status"], &made["runtime"], &made["startedAt"]),
        (&json!("PROVISIONING"), &json!({}), &json!(null))
    );
    assert_eq!((&made["cost"], &made["env"]), (&json!(0.69), &json!({"A": "b"})));
    assert_eq!(made["actions"], json!(["stop", "terminate"]));
    let id = made["id"].as_str().unwrap();
    let running = account.until_status(id, "RUNNING").await;
    assert_eq!((&running["runtime"], &running["ssh"]["direct"]), (&Value::Null, &Value::Null));
    let up = account.until(id, "up", |pod| pod["runtime"].is_object()).await;
    assert_eq!(up["runtime"]["uptime"], 0);
    assert_eq!(
        up["runtime"]["ports"],
        json!([{"private": 8888, "public": null, "type": "http", "ip": null}])
    );
    let mapped = account.until_up(id).await;
    let port = &mapped["runtime"]["ports"][0];
    assert_eq!(
        (&port["private"], &port["type"], &port["ip"]),
        (&json!(22), &json!("tcp"), &json!("203.0.113.7"))
    );
    assert_eq!(mapped["ssh"]["direct"]["port"], port["public"]);
    account.until(id, "up for 3 s", |pod| pod["runtime"]["uptime"].as_u64() >= Some(3)).await;
    assert_eq!(account.statuses(id).await, ["PROVISIONING", "STARTING", "RUNNING"]);
    // The same in the API.
    let listed = account.get("/v2/pods").await.ok();
    assert_eq!(listed["pods"][0], account.get(&format!("/v2/pods/{id}")).await.ok());
}

#[tokio::test(start_paused = true)]
async fn a_container_that_exits_is_started_again_and_its_uptime_begins_anew() {
    let account = TestAccount::start();
    let id = account.create(json!({})).await;
    let early =
        account.send(TestAccount::request("POST", &format!("/_local/pods/{id}/exit"), &json!({"code": 1})));
    assert_eq!(early.await.status, 409);
    account.until(&id, "up for 5 s", |pod| pod["runtime"]["uptime"].as_u64() >= Some(5)).await;
    let ports = account.look(&id).await["runtime"]["ports"].clone();
    account.control("POST", &format!("pods/{id}/line"), json!({"line": "before"})).await;
    account.control("POST", &format!("pods/{id}/exit"), json!({"code": 3})).await;
    let again =
        account.until(&id, "restarted", |pod| pod["starts"] == 2 && pod["runtime"]["uptime"] == 1).await;
    assert_eq!((&again["status"], &again["runtime"]["ports"]), (&json!("RUNNING"), &ports));
    let life = account.control("GET", "history", Value::Null).await;
    assert_eq!(life[0]["endings"][0]["exit"], json!({"code": 3}));
    let log = read(&account, &format!("/v2/pods/{id}/logs?source=container"), None).await;
    assert_eq!(lines(&log), ["before"], "no exit code anywhere");
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_stopped_started_restarted_and_ended_as_its_status_allows() {
    let account = TestAccount::start();
    let id = account.create(json!({"mounts": {"persistent": {"size": 20, "path": "/w"}}})).await;
    let act = async |action: &str| {
        account.call("POST", &format!("/v2/pods/{id}/action"), json!({ "action": action })).await
    };
    assert_eq!(act("explode").await.status, 422);
    for wrong in ["start", "restart"] {
        assert_eq!(act(wrong).await.status, 409, "{wrong}");
    }
    let first = account.until_up(&id).await;
    act("restart").await.ok();
    account.until(&id, "restarted", |pod| pod["starts"] == 2 && pod["runtime"].is_object()).await;
    account.call("PATCH", &format!("/v2/pods/{id}"), json!({"locked": true})).await.ok();
    assert_eq!(act("stop").await.refusal(), "409 pod is locked");
    account.call("PATCH", &format!("/v2/pods/{id}"), json!({"locked": false, "name": "b-1"})).await.ok();
    let stopped = act("stop").await.ok();
    assert_eq!(
        (&stopped["status"], &stopped["cost"], &stopped["runtime"]),
        (&json!("EXITED"), &json!(0.0), &Value::Null)
    );
    assert_eq!((&stopped["name"], &stopped["actions"]), (&json!("b-1"), &json!(["start", "terminate"])));
    assert_eq!(act("stop").await.status, 409);
    assert_eq!(act("start").await.ok()["status"], "STARTING");
    let again = account.until_up(&id).await;
    assert_ne!(again["runtime"]["ports"], first["runtime"]["ports"], "mapped anew");
    assert_eq!(act("terminate").await.status, 204);
    assert_eq!(account.get(&format!("/v2/pods/{id}")).await.refusal(), "404 pod not found");
    assert_eq!(account.get("/v2/pods").await.ok()["pods"], json!([]));
    assert_eq!(act("start").await.status, 404);
    let entry = account.entry(&id).await;
    assert_eq!((&entry["live"], &entry["name"]), (&json!(false), &json!("b-1")));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_what_it_is_made_of_restarts_a_pod_and_keeps_the_rest() {
    let account = TestAccount::start();
    let id = account.create(json!({})).await;
    let path = format!("/v2/pods/{id}");
    account.until_up(&id).await;
    for (change, status) in [
        (json!({"gpu": {}}), 422),
        (json!({"mounts": {"persistent": {"size": 10, "path": "/a"}}}), 400),
        (json!({"registry": "none"}), 404),
        (json!({"ports": ["x"]}), 400),
    ] {
        assert_eq!(account.call("PATCH", &path, change.clone()).await.status, status, "{change}");
    }
    let changed =
        account.call("PATCH", &path, json!({"env": {"B": "c"}, "ports": ["80/tcp", "81/tcp"]})).await.ok();
    assert_eq!(
        (&changed["status"], &changed["env"], &changed["image"]),
        (&json!("STARTING"), &json!({"B": "c"}), &json!("busybox:1"))
    );
    let up = account.until_up(&id).await;
    assert_eq!((&up["runtime"]["ports"][1]["private"], &up["starts"]), (&json!(81), &json!(2)));
    account.control("POST", &format!("pods/{id}/join-cluster"), Value::Null).await;
    assert_eq!(account.call("PATCH", &path, json!({"name": "c"})).await.status, 409);
    assert_eq!(account.call("DELETE", &path, Value::Null).await.status, 409);
    assert_eq!(account.get("/v2/pods").await.ok()["pods"], json!([]));
    assert_eq!(account.get("/v2/pods?includeClusterPods=true").await.ok()["pods"][0]["cluster"]["rank"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_log_is_read_from_its_end_from_a_time_or_after_an_event() {
    let account = TestAccount::start();
    let id = account.create(json!({})).await;
    let path = format!("/v2/pods/{id}/logs");
    account.until_up(&id).await;
    for n in 0..5 {
        account.control("POST", &format!("pods/{id}/line"), json!({"line": n.to_string()})).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    account.control("POST", &format!("pods/{id}/line"), json!({"line": "host", "source": "system"})).await;
    let all = read(&account, &path, None).await;
    assert_eq!(all.last().unwrap().1, "host");
    assert_eq!(lines(&read(&account, &format!("{path}?tail=2"), None).await), ["4", "host"]);
    assert_eq!(lines(&read(&account, &format!("{path}?tail=2&source=container"), None).await), ["3", "4"]);
    assert_eq!(lines(&read(&account, &format!("{path}?tail=0"), None).await), Vec::<&str>::new());
    let third = all.iter().find(|(_, line)| line == "3").unwrap();
    assert_eq!(lines(&read(&account, &path, Some(&third.0)).await), ["4", "host"]);
    let since = third.0.split_once('/').unwrap().0;
    let from = format!("{path}?since={since}&source=container&tail=1");
    assert_eq!(lines(&read(&account, &from, None).await), ["3", "4"]);
    // The last event's id counts alone.
    assert_eq!(lines(&read(&account, &from, Some(&third.0)).await), ["4"]);
    for query in ["tail=5001", "tail=-1", "tail=x", "since=monday", "source=kernel", "follow=true"] {
        assert_eq!(account.get(&format!("{path}?{query}")).await.status, 422, "{query}");
    }
    let mut wrong = TestAccount::request("GET", &path, &Value::Null);
    wrong.headers_mut().insert("last-event-id", HeaderValue::from_static("x"));
    assert_eq!(account.send(wrong).await.status, 422);
    account.call("DELETE", &format!("/v2/pods/{id}"), Value::Null).await;
    assert_eq!(account.get(&path).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn what_a_container_is_given_is_its_own_environment_and_what_runpod_adds() {
    let account = TestAccount::start();
    account.call("PUT", "/v2/account/ssh-keys", json!({"keys": ["ssh-ed25519 AAAA me"]})).await.ok();
    account.call("POST", "/v2/account/secrets", json!({"name": "hf", "value": "v-1"})).await.ok();
    let env = json!({"TOKEN": "{{ RUNPOD_SECRET_hf }}", "RUNPOD_DC_ID": "mine"});
    let id = account.create(json!({"env": env, "startSsh": true})).await;
    let shown = account.get(&format!("/v2/pods/{id}")).await.ok();
    assert_eq!(shown["env"], env, "a reference, and nothing that was added");
    let given = account.runpod.view(|account, _| driver::environment(account, &account.pods[&id]));
    let get = |name: &str| given.get(name).map_or("", String::as_str);
    assert_eq!((get("TOKEN"), get("RUNPOD_DC_ID"), get("RUNPOD_POD_ID")), ("v-1", "mine", id.as_str()));
    assert_eq!((get("PUBLIC_KEY"), get("RUNPOD_GPU_COUNT")), ("ssh-ed25519 AAAA me", "1"));
    assert_eq!(get("RUNPOD_API_KEY"), format!("rpa_pod_{id}"));
    assert_eq!(get("JUPYTER_PASSWORD"), "");
}

#[tokio::test(start_paused = true)]
async fn a_bill_is_taken_every_tick_and_told_in_buckets() {
    let account = TestAccount::start();
    account.control("PATCH", "settings", json!({"billingTickMs": 2000, "timeScale": 60.0})).await;
    let id = account.create(json!({"disk": 73})).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    let funds = account.control("GET", "account", Value::Null).await;
    // A minute is an hour: $0.69 and $0.01 for the disk, up to the last tick.
    let spent = 1000.0 - funds["balance"].as_f64().unwrap();
    assert!((0.66..=0.72).contains(&spent), "{spent}");
    let entry = account.entry(&id).await;
    assert!((3600.0..3720.0).contains(&entry["computeSeconds"].as_f64().unwrap()), "{entry}");
    let billed = account.get(&format!("/v2/billing/pods?lastN=2&bucketSize=day&podId={id}")).await.ok();
    let total = billed["metadata"]["totals"]["totalAmount"].as_f64().unwrap();
    assert!((total - entry["amount"].as_f64().unwrap()).abs() < 0.01, "{billed} {entry}");
    assert_eq!(billed["records"][0]["podId"], json!(id));
    assert_eq!(account.get("/v2/billing/pods?podId=none&lastN=1").await.ok()["records"], json!([]));
}
