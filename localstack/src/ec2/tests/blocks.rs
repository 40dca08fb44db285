//! Capacity Blocks: bought for a time, launched into by name, and ended by EC2.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::testing::{TestCloud, mk_launch, with};
use crate::world::defaults::SUBNET_B;

const CR: &str = "cr-00000000000000005";
const CB: &str = "cb-00000000000000005";
const TYPE: (&str, &str) = ("InstanceType", "p5.48xlarge");
const SUBNET: (&str, &str) = ("NetworkInterface.1.SubnetId", SUBNET_B);
const MARKET: (&str, &str) = ("InstanceMarketOptions.MarketType", "capacity-block");
const TARGET: (&str, &str) =
    ("CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId", CR);

/// A block of two in us-east-1b that begins in 10 s, is drained in 40 s and ends in a minute.
async fn cloud() -> TestCloud {
    let cloud = TestCloud::start();
    let block = json!({
        "reservationType": "capacity-block", "instanceType": "p5.48xlarge", "zone": "us-east-1b", "total": 2,
        "startsInMs": 10_000, "endsInMs": 60_000, "drainLeadMs": 20_000,
    });
    let (status, answer) = cloud.control("PUT", &format!("reservations/{CR}"), block).await;
    assert_eq!((status, &answer["capacityBlockId"]), (200, &json!(CB)), "{answer}");
    cloud
}

async fn try_launch(cloud: &TestCloud, changes: &[(&'static str, &str)]) -> crate::testing::Answer {
    cloud.ec2(&with(&with(&mk_launch(), &[TYPE, SUBNET]), changes)).await
}

#[tokio::test(start_paused = true)]
async fn a_block_is_launched_into_while_it_lasts_and_its_instances_are_ended_before_it_ends() {
    let cloud = cloud().await;
    let reservations = || cloud.ec2(&[("Action", "DescribeCapacityReservations")]);
    let before = reservations().await.ok();
    for (name, value) in [
        ("state", "scheduled"),
        ("availableInstanceCount", "0"),
        ("reservationType", "capacity-block"),
        ("capacityBlockId", CB),
        ("instanceMatchCriteria", "targeted"),
        ("endDateType", "limited"),
        (
            "tagSet",
            "<item><key>aws:ec2capacityreservation:incrementalRequestedQuantity</key><value>2</value></item>",
        ),
    ] {
        assert_eq!(before.one(name), value, "{name}");
    }
    let early = try_launch(&cloud, &[MARKET, TARGET]).await;
    assert_eq!(early.refusal(), "400 InvalidCapacityReservationState.PendingActivation");
    assert!(early.text.contains(CR), "{}", early.text);

    sleep(Duration::from_secs(10)).await;
    let active = reservations().await.ok();
    assert_eq!(
        (active.one("state"), active.one("availableInstanceCount"), active.one("tagSet")),
        ("active", "2", "")
    );
    // The pool has nothing to do with it.
    cloud.control("PUT", "pools/us-east-1b/p5.48xlarge", json!({"capacity": 0})).await;
    let launched = try_launch(&cloud, &[MARKET, TARGET]).await.ok();
    assert_eq!(launched.one("instanceLifecycle"), "capacity-block");
    assert_eq!((launched.one("capacityReservationId"), launched.one("capacityBlockId")), (CR, CB));
    let id = launched.one("instanceId").to_owned();
    cloud.until(&id, "running").await;
    let several = [MARKET, TARGET, ("MinCount", "2"), ("MaxCount", "2")];
    assert_eq!(try_launch(&cloud, &several).await.refusal(), "400 ReservationCapacityExceeded");

    sleep(Duration::from_secs(28)).await;
    assert_eq!(cloud.state(&id).await, "running");
    sleep(Duration::from_secs(2)).await;
    assert_ne!(cloud.state(&id).await, "running");
    assert_eq!(try_launch(&cloud, &[MARKET, TARGET]).await.refusal(), "400 ReservationCapacityExceeded");
    cloud.until(&id, "terminated").await;
    let ended = cloud.ec2(&[("Action", "DescribeInstances")]).await.ok();
    assert!(ended.one("stateReason").starts_with("<code>Server.ScheduledStop</code>"));
    assert_eq!(ended.one("capacityBlockId"), CB);
    assert_eq!(reservations().await.ok().one("state"), "active");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(reservations().await.ok().one("state"), "expired");
    assert_eq!(try_launch(&cloud, &[MARKET, TARGET]).await.refusal(), "400 ReservationCapacityExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_block_and_its_market_belong_together() {
    let cloud = cloud().await;
    sleep(Duration::from_secs(10)).await;
    let odcr = "cr-00000000000000006";
    let change = json!({"instanceType": "p5.48xlarge", "zone": "us-east-1b", "total": 2});
    cloud.control("PUT", &format!("reservations/{odcr}"), change).await;
    let spot = ("InstanceMarketOptions.SpotOptions.SpotInstanceType", "one-time");
    let cases: [(&[(&'static str, &str)], &str); 7] = [
        (&[TARGET], "400 InvalidParameterValue"),
        (&[MARKET, (TARGET.0, odcr)], "400 InvalidParameterValue"),
        (&[MARKET, (TARGET.0, "cr-00000000")], "400 InvalidCapacityReservationId.NotFound"),
        (&[MARKET, (TARGET.0, CB)], "400 InvalidCapacityReservationId.Malformed"),
        (&[MARKET], "400 InvalidParameterCombination"),
        (&[MARKET, TARGET, spot], "400 InvalidParameterCombination"),
        (&[("InstanceMarketOptions.MarketType", "black"), TARGET], "400 InvalidParameterValue"),
    ];
    for (changes, expected) in cases {
        assert_eq!(try_launch(&cloud, changes).await.refusal(), expected, "{changes:?}");
    }
    let open = try_launch(&cloud, &[]).await.ok();
    assert_eq!(open.one("capacityReservationId"), odcr, "an open launch does not go into the block");
}

#[tokio::test(start_paused = true)]
async fn blocks_are_described_with_their_reservations() {
    let cloud = cloud().await;
    let describe = async |more: &[(&str, &str)]| {
        cloud.ec2(&[&[("Action", "DescribeCapacityBlocks")], more].concat()).await
    };
    let block = describe(&[("CapacityBlockId.1", CB)]).await.ok();
    assert_eq!(block.one("capacityReservationIdSet"), format!("<item>{CR}</item>"));
    assert_eq!((block.one("state"), block.one("availabilityZoneId")), ("scheduled", "use1-az2"));
    for (name, value, count) in [
        ("capacity-block-id", CB, 1),
        ("availability-zone", "us-east-1a", 0),
        ("state", "scheduled", 1),
        ("ultraserver-type", "*", 0),
        ("start-date", "20*", 1),
        ("end-date", "1970*", 0),
        ("create-date", "20*", 1),
        ("tag-key", "*", 0),
    ] {
        let found = describe(&[("Filter.1.Name", name), ("Filter.1.Value.1", value)]).await.ok();
        assert_eq!(found.all("capacityBlockId").len(), count, "{name}={value}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_control_endpoint_refuses_blocks_that_cannot_be() {
    let cloud = cloud().await;
    let new = "cr-00000000000000007";
    for (id, change, status) in [
        (new, json!({"instanceType": "t3.medium", "zone": "us-east-1a", "total": 1, "endsInMs": 1}), 400),
        (new, json!({"instanceType": "p5.48xlarge", "zone": "us-east-1b", "total": 1}), 400),
        (CR, json!({"drainLeadMs": 5}), 200),
        (CR, json!({"capacityBlockId": "cb-00000000"}), 409),
    ] {
        let mut change = change;
        if id == new {
            change["reservationType"] = json!("capacity-block");
        }
        let (seen, answer) = cloud.control("PUT", &format!("reservations/{id}"), change).await;
        assert_eq!(seen, status, "{answer}");
    }
    assert_eq!(cloud.control("DELETE", &format!("reservations/{CR}"), Value::Null).await.0, 409);
}
