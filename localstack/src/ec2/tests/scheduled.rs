//! Scheduled events: announced, described, and what then happens.

use std::time::Duration;

use serde_json::{Value, json};

use crate::testing::{Answer, TestCloud};

async fn running(cloud: &TestCloud) -> String {
    let id = cloud.launch(&[]).await;
    cloud.until(&id, "running").await;
    id
}

async fn schedule(cloud: &TestCloud, id: &str, body: Value) -> String {
    let (status, answer) = cloud.control("POST", &format!("instances/{id}/events"), body).await;
    assert_eq!(status, 200, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

async fn described(cloud: &TestCloud, more: &[(&str, &str)]) -> Answer {
    cloud.ec2(&[&[("Action", "DescribeInstanceStatus")], more].concat()).await.ok()
}

#[tokio::test(start_paused = true)]
async fn an_event_is_described_and_found_by_each_thing_that_is_known_of_it() {
    let cloud = TestCloud::start();
    let (id, other) = (running(&cloud).await, running(&cloud).await);
    assert!(described(&cloud, &[]).await.all("eventsSet").is_empty());
    let event = schedule(
        &cloud,
        &id,
        json!({"code": "system-reboot", "not_before_ms": 60_000, "not_after_ms": 120_000, "description": "for tests"}),
    )
    .await;
    let seen = described(&cloud, &[("InstanceId.1", &id)]).await;
    for (name, value) in
        [("instanceEventId", event.as_str()), ("code", "system-reboot"), ("description", "for tests")]
    {
        assert!(seen.all(name).contains(&value), "{}", seen.text);
    }
    assert!(event.starts_with("instance-event-0") && event.len() == "instance-event-".len() + 17, "{event}");
    for (name, value) in [
        ("event.code", "system-reboot"),
        ("event.description", "for*"),
        ("event.instance-event-id", event.as_str()),
        ("event.not-before", seen.one("notBefore")),
        ("event.not-after", seen.one("notAfter")),
    ] {
        let found = described(&cloud, &[("Filter.1.Name", name), ("Filter.1.Value.1", value)]).await;
        assert_eq!(found.all("instanceId"), [&id], "{name}={value}");
        let none = described(&cloud, &[("Filter.1.Name", name), ("Filter.1.Value.1", "x")]).await;
        assert!(none.all("instanceId").is_empty(), "{name}");
    }
    assert_eq!(described(&cloud, &[]).await.all("instanceId"), [&id, &other]);
    let tags = cloud
        .ec2(&[("Action", "DescribeInstanceStatus"), ("Filter.1.Name", "tag:a"), ("Filter.1.Value.1", "b")])
        .await;
    assert_eq!(tags.refusal(), "400 InvalidParameterValue", "EC2 knows no tags here");
}

#[tokio::test(start_paused = true)]
async fn what_is_retired_or_stopped_is_stopped_when_its_time_has_come() {
    for code in ["instance-retirement", "instance-stop"] {
        let cloud = TestCloud::start();
        let id = running(&cloud).await;
        schedule(&cloud, &id, json!({"code": code, "not_before_ms": 5000})).await;
        tokio::time::sleep(Duration::from_millis(4900)).await;
        assert_eq!(cloud.state(&id).await, "running");
        cloud.until(&id, "stopped").await;
        let seen = cloud.ec2(&[("Action", "DescribeInstances"), ("InstanceId.1", &id)]).await.ok();
        assert!(seen.one("stateReason").starts_with("<code>Server.ScheduledStop</code>"), "{}", seen.text);
        assert!(described(&cloud, &[]).await.all("instanceId").is_empty(), "it runs no more");
        let all = described(&cloud, &[("IncludeAllInstances", "true")]).await;
        assert_eq!(all.one("description"), "[Completed] The instance is running on degraded hardware");
        cloud.ec2(&[("Action", "TerminateInstances"), ("InstanceId.1", &id)]).await.ok();
        cloud.until(&id, "terminated").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reboot_leaves_the_instance_running_and_is_completed() {
    let cloud = TestCloud::start();
    let id = running(&cloud).await;
    schedule(&cloud, &id, json!({"code": "instance-reboot", "not_before_ms": 1000})).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(described(&cloud, &[]).await.one("description"), "[Completed] scheduled reboot");
    assert_eq!(cloud.state(&id).await, "running");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_put_off_or_canceled_as_long_as_it_is_to_come() {
    let cloud = TestCloud::start();
    let id = running(&cloud).await;
    let event = schedule(&cloud, &id, json!({"code": "instance-stop", "not_before_ms": 1000})).await;
    let path = format!("instances/{id}/events/{event}");
    assert_eq!(cloud.control("PUT", &path, json!({"not_before_ms": 60_000})).await.0, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cloud.state(&id).await, "running");
    assert_eq!(cloud.control("DELETE", &path, Value::Null).await.0, 200);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(cloud.state(&id).await, "running");
    assert!(described(&cloud, &[]).await.one("description").starts_with("[Canceled] "));
    for (method, path, body, expected) in [
        ("DELETE", path.as_str(), Value::Null, 409),
        ("PUT", &path, json!({"not_before_ms": 1}), 409),
        ("PUT", &path, json!({}), 400),
        ("DELETE", &format!("instances/{id}/events/instance-event-1"), Value::Null, 404),
        ("POST", "instances/i-00000000/events", json!({"code": "instance-stop", "not_before_ms": 1}), 404),
        (
            "POST",
            &format!("instances/{id}/events"),
            json!({"code": "instance-upgrade", "not_before_ms": 1}),
            400,
        ),
    ] {
        assert_eq!(cloud.control(method, path, body).await.0, expected, "{method} {path}");
    }
    let young = cloud.launch(&[]).await;
    let body = json!({"code": "instance-stop", "not_before_ms": 1});
    assert_eq!(cloud.control("POST", &format!("instances/{young}/events"), body).await.0, 409);
}
