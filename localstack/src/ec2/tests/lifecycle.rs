//! States: what moves them, and what they look like from outside.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::machine::MachineEvent;
use crate::testing::TestCloud;

async fn describe(cloud: &TestCloud, id: &str) -> crate::testing::Answer {
    cloud.ec2(&[("Action", "DescribeInstances"), ("InstanceId.1", id)]).await.ok()
}

#[tokio::test(start_paused = true)]
async fn an_instance_lives_and_ends_and_is_forgotten() {
    let cloud = TestCloud::start();
    let id = cloud.launch(&[("NetworkInterface.1.SecondaryPrivateIpAddressCount", "1")]).await;
    assert_eq!(cloud.state(&id).await, "pending");
    cloud.until(&id, "running").await;
    let running = describe(&cloud, &id).await;
    assert_eq!(running.one("privateIpAddress"), "10.88.1.4");
    assert_eq!(running.all("primary"), ["true", "false"]);
    assert!(running.all("stateReason").is_empty());

    let ended = cloud.ec2(&[("Action", "TerminateInstances"), ("InstanceId.1", &id)]).await.ok();
    assert_eq!(ended.one("previousState"), "<code>16</code><name>running</name>");
    assert_eq!(ended.one("currentState"), "<code>32</code><name>shutting-down</name>");
    cloud.until(&id, "terminated").await;
    let over = describe(&cloud, &id).await;
    assert!(over.one("stateReason").starts_with("<code>Client.UserInitiatedShutdown</code>"));
    assert!(over.one("reason").starts_with("User initiated ("));
    assert!(over.all("privateIpAddress").is_empty() && over.all("subnetId").is_empty());
    let again = cloud.ec2(&[("Action", "TerminateInstances"), ("InstanceId.1", &id)]).await.ok();
    assert_eq!(again.one("previousState"), "<code>48</code><name>terminated</name>");

    tokio::time::sleep(std::time::Duration::from_secs(3601)).await;
    let gone = cloud.ec2(&[("Action", "DescribeInstances"), ("InstanceId.1", &id)]).await;
    assert_eq!(gone.refusal(), "400 InvalidInstanceID.NotFound");
    let (_, history) = cloud.control("GET", "history", Value::Null).await;
    let life = &history[0];
    let states: Vec<_> = life["history"].as_array().unwrap().iter().map(|step| &step["state"]).collect();
    assert_eq!(states, ["running", "shutting-down", "terminated"]);
    assert_eq!((&life["id"], &life["reason"]["code"]), (&json!(id), &json!("Client.UserInitiatedShutdown")));
}

#[tokio::test(start_paused = true)]
async fn poweroff_inside_terminates_or_stops_as_the_launch_said() {
    let cloud = TestCloud::start();
    for (behaviour, state) in [("terminate", "terminated"), ("stop", "stopped")] {
        let id = cloud.launch(&[("InstanceInitiatedShutdownBehavior", behaviour)]).await;
        cloud.until(&id, "running").await;
        cloud.machines.play(MachineEvent::PoweredOff { id: id.clone() });
        cloud.until(&id, state).await;
        let seen = describe(&cloud, &id).await;
        assert!(seen.one("stateReason").starts_with("<code>Client.InstanceInitiatedShutdown</code>"));
        assert_eq!(seen.one("reason"), "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_boot_is_a_terminated_instance() {
    let cloud = TestCloud::start();
    let id = cloud.launch(&[]).await;
    cloud.machines.play(MachineEvent::Failed { id: id.clone(), message: "no disk".to_owned() });
    cloud.until(&id, "terminated").await;
    assert!(describe(&cloud, &id).await.one("stateReason").starts_with("<code>Server.InternalError</code>"));
}

#[tokio::test(start_paused = true)]
async fn the_control_endpoint_acts_on_instances() {
    let cloud = TestCloud::start();
    let id = cloud.launch(&[]).await;
    cloud.until(&id, "running").await;
    assert_eq!(cloud.control("POST", &format!("instances/{id}/kill"), Value::Null).await.0, 200);
    cloud.until(&id, "terminated").await;
    assert!(describe(&cloud, &id).await.one("stateReason").contains("Server.InternalError"));
    let id = cloud.launch(&[]).await;
    assert_eq!(cloud.control("POST", &format!("instances/{id}/freeze"), Value::Null).await.0, 409);
    cloud.until(&id, "running").await;
    for act in ["power-cycle", "freeze", "thaw", "rebalance"] {
        assert_eq!(cloud.control("POST", &format!("instances/{id}/{act}"), Value::Null).await.0, 200);
    }
    assert_eq!(cloud.control("POST", &format!("instances/{id}/tickle"), Value::Null).await.0, 404);
    assert_eq!(cloud.control("POST", "instances/i-00000000/kill", Value::Null).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn while_the_description_lags_a_new_instance_is_neither_found_nor_listed() {
    let cloud = TestCloud::start();
    cloud.control("PATCH", "settings", json!({"describe_lag_ms": 5000})).await;
    let id = cloud.launch(&[("ClientToken", "t")]).await;
    for pairs in [
        vec![("Action", "DescribeInstances"), ("InstanceId.1", id.as_str())],
        vec![("Action", "DescribeInstanceStatus"), ("InstanceId.1", id.as_str())],
        vec![("Action", "TerminateInstances"), ("InstanceId.1", id.as_str())],
        vec![("Action", "CreateTags"), ("ResourceId.1", id.as_str()), ("Tag.1.Key", "a")],
        vec![("Action", "GetConsoleOutput"), ("InstanceId", id.as_str())],
    ] {
        assert_eq!(cloud.ec2(&pairs).await.refusal(), "400 InvalidInstanceID.NotFound", "{pairs:?}");
    }
    let list = cloud.ec2(&[("Action", "DescribeInstances")]).await.ok();
    assert!(list.all("instanceId").is_empty());
    assert_eq!(cloud.launch(&[("ClientToken", "t")]).await, id, "its token knows it");
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(cloud.state(&id).await, "running");
}

#[tokio::test(start_paused = true)]
async fn status_checks_follow_the_state() {
    let cloud = TestCloud::start();
    let id = cloud.launch(&[]).await;
    let status = async |all: &str| {
        cloud.ec2(&[("Action", "DescribeInstanceStatus"), ("IncludeAllInstances", all)]).await.ok()
    };
    assert!(status("false").await.all("instanceId").is_empty(), "only running ones");
    assert!(status("true").await.text.contains("<systemStatus><status>not-applicable</status>"));
    cloud.until(&id, "running").await;
    assert!(status("false").await.text.contains("<instanceStatus><status>initializing</status>"));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(status("false").await.text.contains("<status>passed</status>"));
}

#[tokio::test(start_paused = true)]
async fn the_console_is_base64_and_the_latest_is_for_nitro_alone() {
    let cloud = TestCloud::start();
    let id = cloud.launch(&[]).await;
    let console = async |id: &str, latest: &str| {
        cloud.ec2(&[("Action", "GetConsoleOutput"), ("InstanceId", id), ("Latest", latest)]).await
    };
    assert_eq!(STANDARD.decode(console(&id, "true").await.ok().one("output")).unwrap(), b"");
    let xen = cloud
        .launch(&[
            ("InstanceType", "p3.2xlarge"),
            ("NetworkInterface.1.SubnetId", crate::world::defaults::SUBNET_C),
        ])
        .await;
    console(&xen, "false").await.ok();
    assert_eq!(console(&xen, "true").await.refusal(), "400 UnsupportedOperation");
}

#[tokio::test(start_paused = true)]
async fn control_refuses_what_it_does_not_know() {
    let cloud = TestCloud::start();
    for (method, path, body, expected) in [
        ("POST", "faults", json!({"action": "*", "colour": 1}), 400),
        ("POST", "faults", json!({"action": "*", "status": 200}), 400),
        ("PATCH", "settings", json!({"describe_lag": 1}), 400),
        ("PUT", "subnets/subnet-1", json!({"free_addresses": 1}), 404),
        ("PUT", "pools/us-east-1a/x9.huge", json!({"capacity": 1}), 404),
        ("PUT", "pools/us-east-1z/t3.micro", json!({"capacity": 1}), 404),
        ("POST", "cuts", json!({"instance_id": "i-1", "duration_ms": 1}), 404),
        ("GET", "nothing", Value::Null, 404),
    ] {
        assert_eq!(cloud.control(method, path, body).await.0, expected, "{method} {path}");
    }
    let mut cuts = cloud.world.cuts.subscribe();
    let (_, heard) = cloud.control("POST", "cuts", json!({"duration_ms": 30_000})).await;
    assert!(heard["heard_by"].as_u64().unwrap() >= 1, "{heard}");
    assert_eq!(cuts.recv().await.unwrap().duration_ms, 30_000);
    let (_, world) = cloud.control("GET", "world", Value::Null).await;
    assert_eq!(world["subnets"][1]["zone"], json!("us-east-1b"));
    assert_eq!(cloud.control("PUT", "parameters", json!({"name": "/a", "value": "b"})).await.0, 200);
    assert_eq!(cloud.world.parameters.get("/a").unwrap().value, "b");
}
