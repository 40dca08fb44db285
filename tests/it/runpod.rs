//! The RunPod adapter over HTTP: what it sends, and what it makes of answers, of bad ones above all.

mod fake;
mod launches;
mod logs;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use orca::cloud::runpod::{
    ApiKey, BalanceSource as _, BillingQuery, CloudTier, GpuQuery, GraphQl, KeySource, Level, codes,
};
use orca::cloud::{Cloud as _, CloudError, InstanceState};
use orca::leader::Fence;
use orca::telemetry::CloudCalls;
use serde_json::json;

use fake::{Fake, Fault, KEY, cloud_of, spec};

fn told(error: &CloudError) -> (&str, &str) {
    (error.kind(), error.code())
}

#[tokio::test]
async fn every_page_of_a_list_is_read_and_a_part_of_one_is_an_error() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    for number in 0..5 {
        cloud.launch(&spec(&format!("token-{number}"))).await.unwrap();
    }
    fake.asked();
    fake.world().page = 2;
    assert_eq!(cloud.instances().await.unwrap().len(), 5);
    assert_eq!(fake.asked().len(), 3);
    for answer in [
        r#"{}"#,
        r#"{"pods": null}"#,
        r#"{"pods": [{"name": "no id"}]}"#,
        r#"{"pods": [], "pagination": {"hasNextPage": true}}"#,
        r#"{"pods": [], "pagination": {"hasNextPage": true, "nextCursor": "0"}}"#,
        r#"{"pods": ["#,
    ] {
        // Whatever is repeated is answered so, too.
        fake.fail("GET /v2/pods", &vec![Fault::Answer(answer); 6]);
        let error = cloud.instances().await.unwrap_err();
        assert_eq!(told(&error), ("transient", codes::UNREADABLE), "{answer}");
        fake.world().faults.clear();
    }
    assert_eq!(cloud.instances().await.unwrap().len(), 5);
}

#[tokio::test]
async fn calls_that_only_look_are_repeated_when_they_break() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    fake.fail("GET /v2/pods", &[Fault::Problem(502, "bad gateway"), Fault::Cut]);
    assert_eq!(cloud.instances().await.unwrap(), []);
    fake.fail("GET /v2/pods", &[Fault::Lost, Fault::Lost, Fault::Lost]);
    assert_eq!(told(&cloud.instances().await.unwrap_err()).0, "transient");
    let nobody = cloud_of(orca::cloud::runpod::Client::new(
        "http://127.0.0.1:1/v2",
        KeySource::Given(ApiKey::new(KEY).unwrap()),
        CloudCalls::default(),
    ));
    assert_eq!(told(&nobody.instances().await.unwrap_err()), ("transient", codes::UNREACHABLE));
}

#[tokio::test]
async fn a_storm_of_refusals_for_rate_is_waited_out_and_nothing_is_lost_or_done_twice() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    fake.fail("POST /v2/pods", &[Fault::Slow(1), Fault::Slow(1)]);
    let began = Instant::now();
    let launched = cloud.launch(&spec("token-1")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(fake.asked(), vec!["POST /v2/pods"; 3]);
    fake.fail("DELETE /v2/pods/pod0001", &[Fault::Slow(1)]);
    cloud.terminate(&launched.id).await.unwrap();
    assert!(fake.world().pods.is_empty());
    fake.asked();
    // Longer than anybody has time: told at once, and nobody asks before.
    fake.fail("GET /v2/pods", &[Fault::Slow(600)]);
    assert_eq!(told(&cloud.instances().await.unwrap_err()), ("throttled", codes::RATE));
    assert_eq!(told(&cloud.instances().await.unwrap_err()), ("throttled", codes::RATE));
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn what_the_headers_leave_is_kept_to() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    fake.world().headers = vec![("RateLimit", r#""minute";r=0;t=1"#.to_owned())];
    cloud.instances().await.unwrap();
    fake.world().headers.clear();
    let began = Instant::now();
    cloud.instances().await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn only_pods_of_this_cluster_and_node_are_shown_or_touched() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    let ours = cloud.launch(&spec("token-1")).await.unwrap();
    let like = |id: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let mut pod = fake.world().pods[&ours.id].clone();
        pod["id"] = json!(id);
        change(&mut pod);
        fake.world().pods.insert(id.to_owned(), pod);
    };
    like("a", &|pod| pod["name"] = json!("training"));
    like("b", &|pod| pod["env"]["ORCA_CLUSTER"] = json!("another"));
    like("c", &|pod| pod["env"]["ORCA_NODE"] = json!("another"));
    like("d", &|pod| pod["env"] = json!({}));
    let listed = cloud.instances().await.unwrap();
    assert_eq!(listed.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), [ours.id.as_str()]);
    fake.asked();
    for foreign in ["a", "b", "c", "d"] {
        assert_eq!(cloud.instance(foreign).await, Ok(None));
        assert_eq!(told(&cloud.terminate(foreign).await.unwrap_err()), ("not_found", codes::NOT_OURS));
        assert_eq!(told(&cloud.console(foreign).await.unwrap_err()), ("not_found", codes::NOT_OURS));
    }
    assert!(fake.asked().iter().all(|what| what.starts_with("GET /v2/pods/")));
    assert_eq!(fake.world().pods.len(), 5);
    // A process that was just started knows nobody, and ends its own all the same.
    let next = fake.cloud();
    next.terminate(&ours.id).await.unwrap();
    assert_eq!(fake.world().pods.len(), 4);
}

#[tokio::test]
async fn a_list_that_does_not_tell_environments_loses_nobody() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    let ours = cloud.launch(&spec("token-1")).await.unwrap();
    let hidden = format!(
        r#"{{"pods": [{{"id": "{}", "name": "{}"}}]}}"#,
        ours.id,
        fake.world().pods[&ours.id]["name"].as_str().unwrap()
    );
    let hidden: &'static str = hidden.leak();
    fake.fail("GET /v2/pods", &[Fault::Answer(hidden)]);
    assert_eq!(cloud.instances().await.unwrap()[0].client_token.as_deref(), Some("token-1"));
    // Nor does a process that never saw it.
    fake.fail("GET /v2/pods", &[Fault::Answer(hidden)]);
    let next = fake.cloud();
    assert_eq!(next.instances().await.unwrap()[0].client_token.as_deref(), Some("token-1"));
    fake.world().pods.get_mut(&ours.id).unwrap().as_object_mut().unwrap().remove("env");
    let next = fake.cloud();
    assert_eq!(told(&next.instances().await.unwrap_err()), ("transient", codes::UNREADABLE));
    assert_eq!(told(&next.instance(&ours.id).await.unwrap_err()), ("transient", codes::UNREADABLE));
}

#[tokio::test]
async fn an_end_is_asked_for_until_it_is_certain() {
    let fake = Fake::start().await;
    let cloud = fake.cloud();
    let ids =
        [cloud.launch(&spec("token-1")).await.unwrap().id, cloud.launch(&spec("token-2")).await.unwrap().id];
    fake.asked();
    fake.fail("DELETE /v2/pods/pod0001", &[Fault::Problem(500, "oops"), Fault::Lost]);
    cloud.terminate(&ids[0]).await.unwrap();
    assert_eq!(
        fake.asked(),
        vec!["DELETE /v2/pods/pod0001"; 3],
        "the last one found nothing, which is as good"
    );
    cloud.terminate(&ids[0]).await.unwrap();
    assert_eq!(cloud.instance(&ids[0]).await.unwrap().unwrap().state, InstanceState::ShuttingDown);
    // In another state than one that allows it.
    fake.fail("DELETE /v2/pods/pod0002", &[Fault::Problem(409, "the pod is being moved")]);
    assert_eq!(told(&cloud.terminate(&ids[1]).await.unwrap_err()), ("transient", codes::CONFLICT));
    fake.fail("DELETE /v2/pods/pod0002", &[Fault::Problem(409, "the pod is being deleted")]);
    fake.world().pods.get_mut(&ids[1]).unwrap()["status"] = json!("TERMINATED");
    cloud.terminate(&ids[1]).await.unwrap();
    assert_eq!(cloud.instance(&ids[1]).await.unwrap().unwrap().state, InstanceState::Terminated);
    assert!(!fake.asked().iter().any(|what| what.contains("action")), "nothing is ever stopped");
}

#[tokio::test]
async fn nothing_is_changed_behind_a_closed_fence() {
    let fake = Fake::start().await;
    let open = fake.cloud();
    let launched = open.launch(&spec("token-1")).await.unwrap();
    fake.asked();
    let fence = Fence::closed();
    let cloud = cloud_of(fake.client().behind(&fence));
    assert_eq!(told(&cloud.launch(&spec("token-2")).await.unwrap_err()), ("transient", "NotLeading"));
    assert_eq!(told(&cloud.terminate(&launched.id).await.unwrap_err()), ("transient", "NotLeading"));
    assert_eq!(cloud.instances().await.unwrap().len(), 1);
    assert!(fake.asked().iter().all(|what| what.starts_with("GET ")));
    assert!(fence.refused().get() >= 2);
}

#[tokio::test]
async fn a_pod_has_no_tags() {
    let fake = Fake::start().await;
    let error = fake.cloud().tag("a", &BTreeMap::new()).await.unwrap_err();
    assert_eq!((told(&error), fake.asked().len()), (("invalid", codes::NO_TAGS), 0));
}

#[tokio::test]
async fn a_key_that_is_exchanged_is_used_at_once() {
    let fake = Fake::start().await;
    let path = std::env::temp_dir().join(format!("orca-runpod-key-{}", uuid::Uuid::new_v4()));
    std::fs::write(&path, KEY).unwrap();
    let cloud = cloud_of(fake.client_with(KeySource::file(&path)));
    cloud.instances().await.unwrap();
    // Revoked: nobody is asked again and again, and nobody reads the key in the error.
    fake.world().key = "rpa_second".to_owned();
    let error = cloud.launch(&spec("token-1")).await.unwrap_err();
    assert_eq!(told(&error), ("denied", codes::KEY));
    assert!(!error.to_string().contains("rpa_"), "{error}");
    fake.asked();
    assert_eq!(told(&cloud.launch(&spec("token-2")).await.unwrap_err()), ("denied", codes::KEY));
    assert_eq!(told(&cloud.admit(&spec("token-2")).await.unwrap_err()), ("denied", codes::KEY));
    assert_eq!(fake.asked(), [""; 0]);
    std::fs::write(&path, "rpa_second\n").unwrap();
    cloud.launch(&spec("token-2")).await.unwrap();
    cloud.instances().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let none = cloud_of(fake.client_with(KeySource::file("/nowhere/key")));
    assert_eq!(told(&none.instances().await.unwrap_err()), ("denied", codes::NO_KEY));
}

#[tokio::test]
async fn the_balance_is_asked_for_with_the_key_in_a_header() {
    let fake = Fake::start().await;
    let key = || KeySource::Given(ApiKey::new(KEY).unwrap());
    let source =
        |path: &str| GraphQl::new(&format!("http://{}{path}", fake.address), key(), CloudCalls::default());
    let balance = source("/graphql").balance().await.unwrap();
    assert_eq!((balance.credits.dollars(), balance.spend.dollars()), (100.0, 1.0));
    let asked = fake.world().asked.clone();
    assert_eq!(asked[0].what, "POST /graphql");
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {KEY}").as_str());
    fake.fail("POST /graphql", &[Fault::Answer(r#"{"errors":[{"message":"Unauthorized"}],"data":null}"#)]);
    assert_eq!(told(&source("/graphql").balance().await.unwrap_err()), ("denied", codes::KEY));
    fake.fail("POST /graphql", &[Fault::Cut]);
    assert_eq!(source("/graphql").balance().await.unwrap_err().kind(), "transient");
    assert_eq!(source("/elsewhere").balance().await.unwrap_err().kind(), "not_found");
}

#[tokio::test]
async fn ids_with_slashes_and_spaces_reach_the_catalog_whole() {
    let fake = Fake::start().await;
    let client = fake.client();
    let query = GpuQuery { cloud: CloudTier::Secure, count: 1, min_cuda: None };
    let offer = client.gpu("AMD/MI300X OAM", query).await.unwrap().unwrap();
    assert_eq!((offer.memory_gb, offer.level), (192, Level::Low));
    assert_eq!(client.gpu("NVIDIA L4", query).await.unwrap(), None);
    assert_eq!(client.gpus(query).await.unwrap_err().kind(), "not_found");
    let asked = fake.world().asked.clone();
    assert!(asked[0].what.ends_with("?include=AVAILABILITY&product=POD&cloud=SECURE&count=1"), "{asked:?}");
}

#[tokio::test]
async fn what_the_account_has_is_read_in_whole_or_not_at_all() {
    let fake = Fake::start().await;
    let client = fake.client();
    let bills = BillingQuery { pod_id: Some("7h9k/x".to_owned()), is_by_hour: true, buckets: 24 };
    fake.fail("GET /v2/registries", &[Fault::Answer(r#"{"registries":[{"id":"reg_abc","name":"ghcr"}]}"#)]);
    assert_eq!(client.registries().await.unwrap()[0].id, "reg_abc");
    let volume =
        r#"{"networkVolumes":[{"id":"vol","name":"data","size":100,"dataCenter":"EU-RO-1","type":"NEW"}]}"#;
    fake.fail("GET /v2/network-volumes", &[Fault::Answer(volume)]);
    let volumes = client.network_volumes().await.unwrap();
    assert_eq!((volumes[0].size_gb, volumes[0].data_center_id.as_str()), (100, "EU-RO-1"));
    let records = r#"{"records":[{"podId":"7h9k","startTime":"2026-11-21T09:00:00Z","endTime":"2026-11-21T10:00:00Z",
        "totalAmount":0.44,"gpuAmount":0.43,"cpuAmount":0,"diskAmount":0.01}],"metadata":{}}"#;
    fake.fail("GET /v2/billing/pods", &[Fault::Answer(records)]);
    assert_eq!(client.pod_bills(&bills).await.unwrap()[0].total.to_string(), "0.44");
    let asked = fake.world().asked.clone();
    assert_eq!(asked[2].what, "GET /v2/billing/pods?bucketSize=hour&lastN=24&podId=7h9k%2Fx");
    for broken in [r#"{}"#, r#"{"records":null}"#, r#"{"records":[{"podId":"7h9k"}]}"#] {
        fake.fail("GET /v2/billing/pods", &[Fault::Answer(broken)]);
        assert_eq!(told(&client.pod_bills(&bills).await.unwrap_err()), ("transient", codes::UNREADABLE));
    }
    let all = [client.cpus().await.unwrap_err(), client.data_centers().await.unwrap_err()];
    assert!(all.iter().all(|error| error.kind() == "not_found"));
}
