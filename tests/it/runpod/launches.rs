//! Launches: one pod for one token, whatever becomes of the answer.

use std::time::{Duration, Instant};

use orca::cloud::runpod::{Client, Metrics, RunPodCloud, Thrift, codes};
use orca::cloud::{Cloud as _, InstanceState, LaunchSpec, TAG_CLUSTER, TAG_NODE, TAG_POD_UID};
use serde_json::json;

use super::fake::{CLUSTER, Fake, Fault, NODE, order, spec};
use super::told;

fn repeated(token: &str) -> LaunchSpec {
    LaunchSpec { is_repeated: true, ..spec(token) }
}

#[tokio::test]
async fn a_launch_creates_one_pod_that_carries_whose_it_is() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    cloud.admit(&spec("token-1")).await.unwrap();
    let launched = cloud.launch(&spec("token-1")).await.unwrap();
    let asked = fake.world().asked.clone();
    assert_eq!(asked.len(), 1, "it was never made before, so nobody looks");
    assert_eq!(
        asked[0].body,
        json!({
            "name": "orca-0a1b2c3d-7f00aa11bb22cc33dd44ee55ff667788-3", "image": "busybox:1.37", "cloud": "SECURE",
            "args": r#"{"cmd":["sleep","60"]}"#, "gpu": {"id": "NVIDIA L4", "count": 1}, "disk": 20,
            "env": {
                "PASSWORD": "correct-horse", "ORCA_CLUSTER": CLUSTER, "ORCA_NODE": NODE, "ORCA_TOKEN": "token-1",
                "ORCA_POD_UID": "7f00aa11-bb22-cc33-dd44-ee55ff667788", "ORCA_POD_NAMESPACE": "ml",
                "ORCA_POD_NAME": "train", "ORCA_EPOCH": "3",
            },
        })
    );
    assert_eq!((launched.state, launched.client_token.as_deref()), (InstanceState::Pending, Some("token-1")));
    assert_eq!((launched.tags[TAG_CLUSTER].as_str(), launched.tags[TAG_NODE].as_str()), (CLUSTER, NODE));
    assert_eq!(launched.tags[TAG_POD_UID], "7f00aa11-bb22-cc33-dd44-ee55ff667788");
    assert_eq!((launched.instance_type.as_str(), launched.zone.as_str()), ("NVIDIA L4", "EU-RO-1"));
    assert!(
        !format!("{launched:?} {:?}", spec("token-1")).contains("correct-horse"),
        "of the environment only the markers are kept"
    );
    // The same call again is the same pod.
    assert_eq!(cloud.launch(&spec("token-1")).await.unwrap().id, launched.id);
    assert_eq!(fake.world().pods.len(), 1);
    assert_eq!(cloud.instances().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_found_and_not_made_again() {
    for fault in [Fault::Lost, Fault::Cut, Fault::Answer("{}"), Fault::Answer("[]")] {
        let fake = Fake::start().await;
        fake.fail("POST /v2/pods", std::slice::from_ref(&fault));
        let launched = fake.cloud().launch(&spec("token-1")).await.unwrap();
        assert_eq!(launched.client_token.as_deref(), Some("token-1"), "{fault:?}");
        assert_eq!(fake.asked(), ["POST /v2/pods", "GET /v2/pods"]);
    }
}

#[tokio::test]
async fn a_lost_creation_that_is_listed_late_is_found_by_the_second_look() {
    let fake = Fake::start().await;
    fake.fail("POST /v2/pods", &[Fault::Lost]);
    fake.world().unlisted.insert("pod0001".to_owned(), 1);
    let began = Instant::now();
    assert_eq!(fake.cloud().launch(&spec("token-1")).await.unwrap().id, "pod0001");
    assert!(began.elapsed() >= Duration::from_secs(5));
    assert_eq!(fake.asked(), ["POST /v2/pods", "GET /v2/pods", "GET /v2/pods"]);
}

#[tokio::test]
async fn what_may_have_been_made_is_looked_for_twice_before_it_is_made() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    // Not made, and nobody knows.
    fake.fail("POST /v2/pods", &[Fault::Problem(502, "bad gateway")]);
    assert_eq!(told(&cloud.launch(&spec("token-1")).await.unwrap_err()), ("transient", codes::UNKNOWN));
    assert_eq!(fake.asked(), ["POST /v2/pods", "GET /v2/pods", "GET /v2/pods"]);
    // Also where whoever calls says nothing of it, and by a process that knows nothing of it.
    cloud.launch(&spec("token-1")).await.unwrap();
    assert_eq!(fake.asked(), ["GET /v2/pods", "GET /v2/pods", "POST /v2/pods"]);
    let next = fake.cloud();
    assert_eq!(next.launch(&repeated("token-1")).await.unwrap().id, "pod0001");
    assert_eq!(fake.asked(), ["GET /v2/pods"]);
    // As long as nobody can look, nothing is made.
    fake.fail("GET /v2/pods", &vec![Fault::Problem(503, "away"); 3]);
    assert_eq!(next.launch(&repeated("token-2")).await.unwrap_err().kind(), "transient");
    assert!(!fake.asked().contains(&"POST /v2/pods".to_owned()));
}

#[tokio::test]
async fn of_two_pods_of_one_token_the_older_stays() {
    let fake = Fake::start().await;
    let first = fake.cloud().launch(&spec("token-1")).await.unwrap();
    let mut twin = fake.world().pods[&first.id].clone();
    twin["id"] = json!("atwin");
    twin["createdAt"] = json!("2026-11-21T11:00:00Z");
    fake.world().pods.insert("atwin".to_owned(), twin);
    fake.asked();
    let kept = fake.cloud().launch(&repeated("token-1")).await.unwrap();
    assert_eq!(kept.id, first.id);
    assert_eq!(fake.asked(), ["GET /v2/pods", "DELETE /v2/pods/atwin"]);
    assert_eq!(fake.world().pods.len(), 1);
}

#[tokio::test]
async fn a_token_whose_pod_has_ended_is_spent() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    let launched = cloud.launch(&spec("token-1")).await.unwrap();
    for status in ["EXITED", "ERROR", "TERMINATED"] {
        fake.world().pods.get_mut(&launched.id).unwrap()["status"] = json!(status);
        assert_eq!(cloud.launch(&repeated("token-1")).await.unwrap_err().kind(), "token_spent", "{status}");
    }
    let launched = cloud.launch(&spec("token-2")).await.unwrap();
    cloud.terminate(&launched.id).await.unwrap();
    assert_eq!(cloud.launch(&spec("token-2")).await.unwrap_err().kind(), "token_spent");
}

#[tokio::test]
async fn a_refusal_says_what_to_do_next_and_is_not_repeated() {
    for (status, detail, kind, code) in [
        (
            400,
            "There are no longer any instances available with the requested specifications.",
            "no_capacity",
            codes::NO_INSTANCES,
        ),
        (400, "gpu.count exceeds the maximum", "invalid", codes::RULE),
        (403, "your account cannot access this pool", "no_capacity", codes::POOL),
        (404, "registry not found", "not_found", codes::NOT_FOUND),
        (413, "too large", "invalid", codes::TOO_LARGE),
        (422, "additional properties not allowed", "invalid", codes::SCHEMA),
    ] {
        let fake = Fake::start().await;
        fake.fail("POST /v2/pods", &[Fault::Problem(status, detail)]);
        let cloud = fake.cloud();
        let error = cloud.launch(&spec("token-1")).await.unwrap_err();
        assert_eq!((told(&error), error.message()), ((kind, code), detail));
        assert_eq!(fake.asked(), ["POST /v2/pods"]);
        // It was refused for certain: the next launch creates at once.
        cloud.launch(&spec("token-1")).await.unwrap();
        assert_eq!(fake.asked(), ["POST /v2/pods"]);
    }
}

#[tokio::test]
async fn what_an_environment_holds_is_in_no_error() {
    let fake = Fake::start().await;
    fake.fail(
        "POST /v2/pods",
        &[Fault::Problem(422, "$.env.PASSWORD: `correct-horse` is too weak, says rpa_0123456789ABCDEF")],
    );
    let error = fake.cloud().launch(&spec("token-1")).await.unwrap_err();
    assert_eq!(error.message(), "$.env.PASSWORD: `…` is too weak, says …");
}

#[tokio::test]
async fn money_that_is_gone_is_asked_for_once_and_not_by_every_pod() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    fake.fail("POST /v2/pods", &[Fault::Problem(402, "Insufficient balance")]);
    for token in ["token-1", "token-2", "token-3"] {
        assert_eq!(told(&cloud.launch(&spec(token)).await.unwrap_err()), ("quota", codes::BALANCE));
    }
    assert_eq!(fake.asked(), ["POST /v2/pods"]);
    assert_eq!(cloud.instances().await.unwrap(), [], "what only looks goes on");
}

fn with_balance(fake: &Fake, client: Client, thrift: Thrift) -> RunPodCloud {
    use orca::cloud::runpod::{ApiKey, GraphQl, KeySource};
    let key = KeySource::Given(ApiKey::new(super::KEY).unwrap());
    let endpoint = format!("http://{}/graphql", fake.address);
    let balance = GraphQl::new(&endpoint, key, orca::telemetry::CloudCalls::default());
    RunPodCloud::new(client, CLUSTER, NODE, thrift, Some(std::sync::Arc::new(balance)), Metrics::default())
}

#[tokio::test]
async fn what_the_credits_do_not_last_for_is_not_even_tried() {
    let fake = Fake::start().await;
    fake.world().balance = json!({"clientBalance": 10.0, "currentSpendPerHr": 8.0, "spendLimit": 80});
    let priced = |token: &str, micro| LaunchSpec {
        price: Some(orca::capacity::money::MicroUsd(micro)),
        ..spec(token)
    };
    let hour = Thrift { min_runway: Duration::from_secs(3600), spend_limit: None };
    let cloud = with_balance(&fake, fake.client(), hour);
    assert_eq!(told(&cloud.launch(&priced("a", 3_000_000)).await.unwrap_err()), ("quota", codes::BALANCE));
    cloud.launch(&priced("b", 1_500_000)).await.unwrap();
    // What was spent a moment ago counts, although the balance is not read again.
    assert_eq!(told(&cloud.launch(&priced("c", 1_500_000)).await.unwrap_err()), ("quota", codes::BALANCE));
    assert_eq!(fake.asked(), ["POST /graphql", "POST /v2/pods"]);
    let limited = Thrift { spend_limit: Some(orca::capacity::money::MicroUsd(9_000_000)), ..hour };
    let cloud = with_balance(&fake, fake.client(), limited);
    assert_eq!(
        told(&cloud.launch(&priced("d", 1_500_000)).await.unwrap_err()),
        ("quota", codes::SPEND_LIMIT)
    );
    // Who cannot tell the balance stops nobody.
    fake.fail("POST /graphql", &[Fault::Problem(500, "retired")]);
    with_balance(&fake, fake.client(), hour).launch(&priced("e", 99_000_000)).await.unwrap();
}

#[tokio::test]
async fn a_machine_that_is_less_than_ordered_is_given_back() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    let mut asks_more = spec("token-1");
    let mut more = order();
    if let orca::cloud::runpod::Hardware::Gpu { min_memory_per_gpu_gb, .. } = &mut more.hardware {
        *min_memory_per_gpu_gb = Some(100);
    }
    asks_more.runpod = Some(Box::new(more));
    let error = cloud.launch(&asks_more).await.unwrap_err();
    assert_eq!(told(&error), ("no_capacity", codes::TOO_SMALL));
    assert!(error.message().contains("62 GB of memory, expected at least 100"), "{error}");
    assert!(fake.world().pods.is_empty());
}

#[tokio::test]
async fn a_launch_without_an_order_is_no_launch() {
    let fake = Fake::start().await;
    let bare = LaunchSpec { runpod: None, ..spec("token-1") };
    assert_eq!(fake.cloud().launch(&bare).await.unwrap_err().kind(), "invalid");
    assert_eq!(fake.cloud().launch(&spec("")).await.unwrap_err().kind(), "invalid");
    assert_eq!(fake.asked(), [""; 0]);
}

#[tokio::test]
async fn a_pod_that_vanishes_is_gone_after_two_reads_and_not_before() {
    let fake = Fake::start().await;
    let id = fake.cloud().launch(&spec("token-1")).await.unwrap().id;
    // One that this process did not create, so that it may not only be not listed yet.
    let cloud = fake.cloud();
    fake.world().pods.get_mut(&id).unwrap()["status"] = json!("RUNNING");
    assert_eq!(cloud.instances().await.unwrap()[0].state, InstanceState::Running);
    fake.world().pods.clear();
    assert_eq!(cloud.instances().await.unwrap()[0].state, InstanceState::Running, "as it was seen last");
    assert_eq!(
        cloud.instance(&id).await.unwrap().unwrap().state,
        InstanceState::Running,
        "in the same moment"
    );
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let gone = cloud.instance(&id).await.unwrap().unwrap();
    assert_eq!(
        (gone.state, gone.state_reason.unwrap().code.as_str()),
        (InstanceState::Terminated, "RunPod.Vanished")
    );
    assert_eq!(cloud.instances().await.unwrap().len(), 1, "and shown for an hour");
    assert_eq!(cloud.instance("nobody").await, Ok(None));
}
