//! EC2's token buckets, as a caller feels them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::testing::{TestCloud, mk_launch, with};

async fn set(cloud: &TestCloud, rates: Value) {
    let (status, answer) = cloud.control("PUT", "throttle", rates).await;
    assert_eq!(status, 200, "{answer}");
}

/// How many of so many calls are let through; the others must be throttled.
async fn through<V: AsRef<str>>(cloud: &TestCloud, pairs: &[(&str, V)], calls: usize) -> usize {
    let mut through = 0;
    for _ in 0..calls {
        let answer = cloud.ec2(pairs).await;
        match answer.status {
            200 => through += 1,
            _ => assert_eq!(answer.refusal(), "503 RequestLimitExceeded"),
        }
    }
    through
}

#[tokio::test(start_paused = true)]
async fn nothing_is_throttled_until_a_test_says_so() {
    let cloud = TestCloud::start();
    assert_eq!(through(&cloud, &mk_launch(), 20).await, 20);
    set(&cloud, json!({"mode": "aws"})).await;
    assert_eq!(through(&cloud, &mk_launch(), 20).await, 5);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(through(&cloud, &mk_launch(), 20).await, 2);
    let everything = [("Action", "DescribeInstances")];
    assert_eq!(through(&cloud, &everything, 120).await, 50);
    let narrowed = [("Action", "DescribeInstances"), ("MaxResults", "5")];
    assert_eq!(through(&cloud, &narrowed, 120).await, 100);
    set(&cloud, json!({"mode": "off"})).await;
    assert_eq!(through(&cloud, &mk_launch(), 20).await, 20);
}

#[tokio::test(start_paused = true)]
async fn instances_have_buckets_of_their_own() {
    let cloud = TestCloud::start();
    let bucket = |size| json!({"size": size, "per_second": 0.0});
    set(&cloud, json!({"mode": "aws", "run_resource": bucket(3), "terminate_resource": bucket(1)})).await;
    let two = with(&mk_launch(), &[("MinCount", "2"), ("MaxCount", "2"), ("ClientToken", "t")]);
    let first = cloud.ec2(&two).await.ok();
    assert_eq!(cloud.ec2(&two).await.ok().all("instanceId"), first.all("instanceId"), "nothing new");
    let others = with(&two, &[("ClientToken", "u")]);
    assert_eq!(cloud.ec2(&others).await.refusal(), "503 RequestLimitExceeded");
    let one = with(&others, &[("MinCount", "1"), ("MaxCount", "1")]);
    cloud.ec2(&one).await.ok();
    let ids = first.all("instanceId");
    let both = [("Action", "TerminateInstances"), ("InstanceId.1", ids[0]), ("InstanceId.2", ids[1])];
    assert_eq!(cloud.ec2(&both).await.refusal(), "503 RequestLimitExceeded");
    cloud.ec2(&both[..2]).await.ok();
}

#[tokio::test(start_paused = true)]
async fn the_buckets_are_shown_and_bad_ones_refused() {
    let cloud = TestCloud::start();
    assert_eq!(cloud.control("GET", "throttle", Value::Null).await.1, json!({"mode": "off"}));
    set(&cloud, json!({"mode": "aws", "mutating": {"size": 7, "per_second": 1.5}})).await;
    let (_, shown) = cloud.control("GET", "throttle", Value::Null).await;
    assert_eq!(shown["mutating"], json!({"size": 7, "per_second": 1.5}));
    assert_eq!(shown["run_request"], json!({"size": 5, "per_second": 2.0}));
    for bad in [
        json!({}),
        json!({"mode": "harsh"}),
        json!({"mode": "off", "describe": {"size": 1, "per_second": 1}}),
        json!({"mode": "aws", "describe": {"size": 1, "per_second": -1}}),
        json!({"mode": "aws", "describes": {"size": 1, "per_second": 1}}),
    ] {
        assert_eq!(cloud.control("PUT", "throttle", bad.clone()).await.0, 400, "{bad}");
    }
}
