//! vCPU quotas: what counts against them, and how EC2 refuses.

use serde_json::{Value, json};

use crate::testing::{Answer, TestCloud, mk_launch, with};

const SPOT: (&str, &str) = ("InstanceMarketOptions.MarketType", "spot");
const MICRO: (&str, &str) = ("InstanceType", "t3.micro");
const GPU: (&str, &str) = ("InstanceType", "g4dn.xlarge");

async fn limit(cloud: &TestCloud, family: &str, change: Value) {
    let (status, answer) = cloud.control("PUT", &format!("quotas/{family}"), change).await;
    assert_eq!(status, 200, "{answer}");
}

async fn used(cloud: &TestCloud, family: &str, market: &str) -> Value {
    let (_, quotas) = cloud.control("GET", "quotas", Value::Null).await;
    let found = quotas.as_array().unwrap().iter().find(|it| it["family"] == family && it["market"] == market);
    found.unwrap()["used"].clone()
}

async fn try_launch(cloud: &TestCloud, changes: &[(&'static str, &str)]) -> Answer {
    cloud.ec2(&with(&mk_launch(), changes)).await
}

#[tokio::test(start_paused = true)]
async fn vcpus_are_counted_by_family_and_market_until_the_instance_is_terminated() {
    let cloud = TestCloud::start();
    limit(&cloud, "standard", json!({"vcpus": 4})).await;
    let (first, _) = (cloud.launch(&[]).await, cloud.launch(&[MICRO]).await);
    let refused = try_launch(&cloud, &[MICRO]).await;
    assert_eq!(refused.refusal(), "400 VcpuLimitExceeded");
    assert_eq!(
        refused.one("Message"),
        "You have requested more vCPU capacity than your current vCPU limit of 4 allows for the instance bucket that \
         the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request \
         an adjustment to this limit."
    );
    cloud.launch(&[GPU]).await;
    cloud.launch(&[SPOT]).await;
    assert_eq!(used(&cloud, "standard", "on-demand").await, 4);
    assert_eq!(used(&cloud, "standard", "spot").await, 2);
    assert_eq!(used(&cloud, "g-vt", "on-demand").await, 4);
    cloud.until(&first, "running").await;
    cloud.ec2(&[("Action", "TerminateInstances"), ("InstanceId.1", &first)]).await.ok();
    assert_eq!(try_launch(&cloud, &[MICRO]).await.refusal(), "400 VcpuLimitExceeded");
    cloud.until(&first, "terminated").await;
    cloud.launch(&[MICRO]).await;
}

#[tokio::test(start_paused = true)]
async fn spot_has_quotas_and_a_refusal_of_its_own() {
    let cloud = TestCloud::start();
    limit(&cloud, "g-vt", json!({"vcpus": 7, "market": "spot"})).await;
    cloud.launch(&[GPU, SPOT]).await;
    let refused = try_launch(&cloud, &[GPU, SPOT]).await;
    assert_eq!(refused.refusal(), "400 MaxSpotInstanceCountExceeded");
    assert_eq!(refused.one("Message"), "Max spot instance count exceeded");
    cloud.launch(&[GPU]).await;
    limit(&cloud, "g-vt", json!({"vcpus": null, "market": "spot"})).await;
    cloud.launch(&[GPU, SPOT]).await;
}

#[tokio::test(start_paused = true)]
async fn unused_reservations_count_and_launches_into_them_do_not_count_twice() {
    let cloud = TestCloud::start();
    limit(&cloud, "standard", json!({"vcpus": 6})).await;
    let reservation =
        json!({"instanceType": "t3.medium", "zone": "us-east-1a", "total": 2, "matchCriteria": "targeted"});
    cloud.control("PUT", "reservations/cr-00000001", reservation.clone()).await;
    assert_eq!(used(&cloud, "standard", "on-demand").await, 4);
    cloud.launch(&[]).await;
    assert_eq!(try_launch(&cloud, &[]).await.refusal(), "400 VcpuLimitExceeded");
    let target = "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId";
    for _ in 0..2 {
        cloud.launch(&[(target, "cr-00000001")]).await;
    }
    assert_eq!(used(&cloud, "standard", "on-demand").await, 6);
    let mut shared = reservation;
    shared["ownerId"] = json!("111111111111");
    cloud.control("PUT", "reservations/cr-00000002", shared).await;
    assert_eq!(used(&cloud, "standard", "on-demand").await, 6, "its owner's quota, until we use it");
    assert_eq!(try_launch(&cloud, &[(target, "cr-00000002")]).await.refusal(), "400 VcpuLimitExceeded");
    cloud.control("DELETE", "reservations/cr-00000001", Value::Null).await;
    assert_eq!(used(&cloud, "standard", "on-demand").await, 6, "its instances run on");
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_leaves_room_for_some_launches_some() {
    let cloud = TestCloud::start();
    limit(&cloud, "standard", json!({"vcpus": 5})).await;
    let answer = try_launch(&cloud, &[("MinCount", "1"), ("MaxCount", "9")]).await.ok();
    assert_eq!(answer.all("instanceId").len(), 2);
    for (family, change, status) in [
        ("x9", json!({"vcpus": 1}), 404),
        ("p", json!({}), 400),
        ("p", json!({"vcpus": 1, "market": "black"}), 400),
    ] {
        assert_eq!(cloud.control("PUT", &format!("quotas/{family}"), change).await.0, status, "{family}");
    }
}
