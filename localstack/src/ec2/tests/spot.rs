//! Spot Instances and those in interruptible reservations: their price, their launch, and how EC2 takes them back.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::testing::{Answer, TestCloud, mk_launch, with};
use crate::world::defaults::SUBNET_B;

const SPOT: (&str, &str) = ("InstanceMarketOptions.MarketType", "spot");
const MAX: &str = "InstanceMarketOptions.SpotOptions.MaxPrice";
const KIND: &str = "InstanceMarketOptions.SpotOptions.SpotInstanceType";
const BEHAVIOR: &str = "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior";
const PREFERENCE: &str = "CapacityReservationSpecification.CapacityReservationPreference";
const TARGET: &str = "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId";
const CR: &str = "cr-00000000000000009";

type Pairs<'a> = &'a [(&'static str, &'a str)];

async fn try_launch(cloud: &TestCloud, changes: Pairs<'_>) -> Answer {
    cloud.ec2(&with(&mk_launch(), changes)).await
}

async fn describe(cloud: &TestCloud, id: &str) -> Answer {
    cloud.ec2(&[("Action", "DescribeInstances"), ("InstanceId.1", id)]).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_spot_instance_says_so_and_has_a_request_with_tags() {
    let cloud = TestCloud::start();
    let answer = try_launch(
        &cloud,
        &[
            SPOT,
            (KIND, "one-time"),
            (BEHAVIOR, "terminate"),
            (MAX, "0.0416"),
            (PREFERENCE, "none"),
            ("TagSpecification.1.ResourceType", "spot-instances-request"),
            ("TagSpecification.1.Tag.1.Key", "k"),
            ("TagSpecification.1.Tag.1.Value", "v"),
        ],
    )
    .await
    .ok();
    assert_eq!(answer.one("instanceLifecycle"), "spot");
    let request = answer.one("spotInstanceRequestId").to_owned();
    assert!(request.starts_with("sir-") && request.len() == 12, "{request}");
    let tags = cloud.ec2(&[("Action", "DescribeTags")]).await.ok();
    assert_eq!(
        (tags.one("resourceId"), tags.one("resourceType")),
        (request.as_str(), "spot-instances-request")
    );
    for (name, value, count) in [
        ("instance-lifecycle", "spot", 1),
        ("instance-lifecycle", "capacity-block", 0),
        ("spot-instance-request-id", request.as_str(), 1),
    ] {
        let pairs = [("Action", "DescribeInstances"), ("Filter.1.Name", name), ("Filter.1.Value.1", value)];
        assert_eq!(cloud.ec2(&pairs).await.ok().all("instanceId").len(), count, "{name}={value}");
    }
    let on_demand = try_launch(&cloud, &[]).await.ok();
    assert!(
        on_demand.all("instanceLifecycle").is_empty() && on_demand.all("spotInstanceRequestId").is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn the_spot_market_has_capacity_and_prices_of_its_own() {
    let cloud = TestCloud::start();
    cloud.control("PUT", "pools/us-east-1a/t3.medium", json!({"capacity": 1, "market": "spot"})).await;
    cloud.control("PUT", "spot-prices/us-east-1a/t3.medium", json!({"price": "0.02"})).await;
    let low = try_launch(&cloud, &[SPOT, (MAX, "0.0199")]).await;
    assert_eq!(low.refusal(), "400 SpotMaxPriceTooLow");
    assert_eq!(
        low.one("Message"),
        "Your Spot request price of 0.0199 is lower than the minimum required Spot request fulfillment price of 0.02."
    );
    let id = try_launch(&cloud, &[SPOT, (MAX, "0.02")]).await.ok().one("instanceId").to_owned();
    let dry = try_launch(&cloud, &[SPOT]).await;
    assert_eq!(dry.refusal(), "500 InsufficientInstanceCapacity");
    assert_eq!(dry.one("Message"), "There is no Spot capacity available that matches your request.");
    try_launch(&cloud, &[]).await.ok();
    cloud.ec2(&[("Action", "TerminateInstances"), ("InstanceId.1", &id)]).await.ok();
    cloud.until(&id, "terminated").await;
    try_launch(&cloud, &[SPOT]).await.ok();
    cloud.control("PUT", "spot-prices/us-east-1b/t3.medium", json!({"price": null})).await;
    let unsold = try_launch(&cloud, &[SPOT, ("NetworkInterface.1.SubnetId", SUBNET_B)]).await;
    assert_eq!(unsold.refusal(), "500 InsufficientInstanceCapacity");
}

#[tokio::test(start_paused = true)]
async fn what_spot_does_not_go_with_is_refused() {
    let cloud = TestCloud::start();
    let group = "arn:aws:resource-groups:us-east-1:000000000000:group/g";
    let arn =
        "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationResourceGroupArn";
    let cases: [(Pairs<'_>, &str); 14] = [
        (&[SPOT, (TARGET, "cr-00000000")], "400 InvalidParameterCombination"),
        (&[SPOT, (arn, group)], "400 InvalidParameterCombination"),
        (&[SPOT, (PREFERENCE, "capacity-reservations-only")], "400 InvalidParameterCombination"),
        (&[SPOT, (MAX, "0.001")], "400 InvalidParameterValue"),
        (&[SPOT, (MAX, "cheap")], "400 InvalidParameterValue"),
        (&[SPOT, (KIND, "twice")], "400 InvalidParameterValue"),
        (&[SPOT, (KIND, "persistent")], "400 UnsupportedOperation"),
        (&[SPOT, (BEHAVIOR, "stop")], "400 InvalidParameterCombination"),
        (&[SPOT, (BEHAVIOR, "explode")], "400 InvalidParameterValue"),
        (
            &[SPOT, ("InstanceMarketOptions.SpotOptions.ValidUntil", "2126-01-01T00:00:00Z")],
            "400 InvalidParameterCombination",
        ),
        (
            &[SPOT, ("InstanceMarketOptions.SpotOptions.BlockDurationMinutes", "60")],
            "400 UnsupportedOperation",
        ),
        (&[SPOT, ("InstanceMarketOptions.SpotOptions.Colour", "red")], "400 UnknownParameter"),
        (&[(MAX, "1")], "400 MissingParameter"),
        (
            &[
                ("TagSpecification.1.ResourceType", "spot-instances-request"),
                ("TagSpecification.1.Tag.1.Key", "k"),
            ],
            "400 InvalidParameterValue",
        ),
    ];
    for (changes, expected) in cases {
        let answer = try_launch(&cloud, changes).await;
        assert_eq!(answer.refusal(), expected, "{changes:?}: {}", answer.text);
    }
    assert_eq!(cloud.world.instances(), []);
}

#[tokio::test(start_paused = true)]
async fn an_interruption_is_announced_two_minutes_before() {
    let cloud = TestCloud::start();
    let id = cloud.launch(&[SPOT]).await;
    cloud.until(&id, "running").await;
    assert_eq!(cloud.control("POST", &format!("instances/{id}/interrupt"), Value::Null).await.0, 200);
    sleep(Duration::from_secs(119)).await;
    assert_eq!(cloud.state(&id).await, "running");
    sleep(Duration::from_secs(2)).await;
    cloud.until(&id, "terminated").await;
    let ended = describe(&cloud, &id).await;
    assert_eq!(
        ended.one("stateReason"),
        "<code>Server.SpotInstanceTermination</code><message>Server.SpotInstanceTermination: Spot instance termination</message>"
    );
    let on_demand = cloud.launch(&[]).await;
    cloud.until(&on_demand, "running").await;
    cloud.control("POST", &format!("instances/{on_demand}/interrupt"), Value::Null).await;
    assert_eq!(cloud.state(&on_demand).await, "shutting-down", "no notice for what EC2 does not take back");
}

#[tokio::test(start_paused = true)]
async fn the_notice_can_be_shorter_and_a_price_above_the_limit_is_one_too() {
    let cloud = TestCloud::start();
    let (willing, unwilling) = (cloud.launch(&[SPOT]).await, cloud.launch(&[SPOT, (MAX, "0.03")]).await);
    cloud.until(&unwilling, "running").await;
    cloud.control("PATCH", "settings", json!({"spot_notice_ms": 5000})).await;
    cloud.control("PUT", "spot-prices/us-east-1a/t3.medium", json!({"price": "0.031"})).await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(cloud.state(&unwilling).await, "running");
    sleep(Duration::from_secs(2)).await;
    cloud.until(&unwilling, "terminated").await;
    assert_eq!(cloud.state(&willing).await, "running");
    let soon =
        cloud.control("POST", &format!("instances/{willing}/interrupt"), json!({"notice_ms": 0})).await;
    assert_eq!(soon.0, 200);
    assert_eq!(cloud.state(&willing).await, "shutting-down");
}

#[tokio::test(start_paused = true)]
async fn an_interruptible_reservation_is_launched_into_by_name_and_taken_back_with_notice() {
    let cloud = TestCloud::start();
    let (source, shape) =
        ("cr-00000000000000008", json!({"instanceType": "t3.medium", "zone": "us-east-1a", "total": 3}));
    let mut lent = shape.clone();
    (lent["interruptible"], lent["sourceReservationId"]) = (json!(true), json!(source));
    for (id, change) in [(source, shape), (CR, lent)] {
        assert_eq!(cloud.control("PUT", &format!("reservations/{id}"), change).await.0, 200);
    }
    let market = ("InstanceMarketOptions.MarketType", "interruptible-capacity-reservation");
    let cases: [(Pairs<'_>, &str); 4] = [
        (&[market], "400 InvalidParameterCombination"),
        (&[market, (TARGET, source)], "400 InvalidParameterValue"),
        (&[(TARGET, CR)], "400 InvalidParameterValue"),
        (
            &[("InstanceMarketOptions.MarketType", "capacity-block"), (TARGET, CR)],
            "400 InvalidParameterValue",
        ),
    ];
    for (changes, expected) in cases {
        assert_eq!(try_launch(&cloud, changes).await.refusal(), expected, "{changes:?}");
    }
    let launched = try_launch(&cloud, &[market, (TARGET, CR)]).await.ok();
    assert_eq!(launched.one("instanceLifecycle"), "interruptible-capacity-reservation");
    assert_eq!(launched.one("capacityReservationId"), CR);
    let id = launched.one("instanceId").to_owned();
    cloud.until(&id, "running").await;
    let all = cloud.ec2(&[("Action", "DescribeCapacityReservations")]).await.ok();
    assert_eq!(all.all("interruptible"), ["false", "true"]);
    assert_eq!(
        all.one("interruptionInfo"),
        format!(
            "<sourceCapacityReservationId>{source}</sourceCapacityReservationId><interruptionType>adhoc</interruptionType>"
        )
    );
    assert_eq!(all.one("interruptibleCapacityReservationId"), CR);

    cloud.control("PUT", &format!("reservations/{CR}"), json!({"state": "unavailable"})).await;
    let reclaimed = try_launch(&cloud, &[market, (TARGET, CR)]).await;
    assert_eq!(reclaimed.refusal(), "400 InvalidCapacityReservationState.Unavailable");
    sleep(Duration::from_secs(118)).await;
    assert_eq!(describe(&cloud, &id).await.one("capacityReservationId"), CR);
    assert_eq!(cloud.state(&id).await, "running");
    sleep(Duration::from_secs(3)).await;
    cloud.until(&id, "terminated").await;
}

#[tokio::test(start_paused = true)]
async fn prices_are_told_newest_first_from_the_one_in_force() {
    let cloud = TestCloud::start();
    let history = async |more: &[(&str, &str)]| {
        cloud.ec2(&[&[("Action", "DescribeSpotPriceHistory")], more].concat()).await
    };
    let (kind, linux) = (("InstanceType.1", "g5.xlarge"), ("ProductDescription.1", "Linux/UNIX"));
    cloud.control("PUT", "spot-prices/us-east-1b/g5.xlarge", json!({"price": "0.5"})).await;
    sleep(Duration::from_secs(1)).await;
    let now = crate::clock::iso(crate::clock::now());
    let current = history(&[kind, linux, ("StartTime", &now)]).await.ok();
    assert_eq!(current.all("spotPrice"), ["0.500000", "0.402400"]);
    assert_eq!(current.all("availabilityZone"), ["us-east-1b", "us-east-1a"]);
    assert_eq!(current.all("availabilityZoneId"), ["use1-az2", "use1-az1"]);
    assert_eq!(current.one("nextToken"), "");
    let all = history(&[kind, linux]).await.ok();
    assert_eq!(all.all("spotPrice"), ["0.500000", "0.402400", "0.382280", "0.422520", "0.401394"]);
    for (more, count) in [
        (&[("AvailabilityZone", "us-east-1a")] as &[(&str, &str)], 2),
        (&[("AvailabilityZoneId", "use1-az2")], 3),
        (&[("ProductDescription.2", "Windows")], 10),
        (&[("Filter.1.Name", "availability-zone"), ("Filter.1.Value.1", "us-east-1b")], 3),
        (&[("Filter.1.Name", "spot-price"), ("Filter.1.Value.1", "0.5*")], 1),
        (&[("Filter.1.Name", "timestamp"), ("Filter.1.Value.1", "1970*")], 0),
        (&[("InstanceType.2", "m7g.large")], 11),
        (&[("StartTime", "2001-01-01T00:00:00Z"), ("EndTime", "2001-01-02T00:00:00Z")], 0),
    ] {
        let found = history(&[&[kind, linux], more].concat()).await.ok();
        assert_eq!(found.all("spotPrice").len(), count, "{more:?}");
    }
    let first = history(&[kind, linux, ("MaxResults", "3")]).await.ok();
    let token = first.one("nextToken");
    let rest = history(&[kind, linux, ("MaxResults", "3"), ("NextToken", token)]).await.ok();
    assert_eq!(
        (first.all("spotPrice").len(), rest.all("spotPrice").len(), rest.one("nextToken")),
        (3, 2, "")
    );
    for (more, expected) in [
        (("InstanceType.1", "x9.huge"), "400 InvalidParameterValue"),
        (("ProductDescription.1", "BeOS"), "400 InvalidParameterValue"),
        (("AvailabilityZone", "us-east-1z"), "400 InvalidParameterValue"),
        (("AvailabilityZoneId", "use1-az9"), "400 InvalidParameterValue"),
        (("StartTime", "yesterday"), "400 InvalidParameterValue"),
        (("EndTime", "1970-01-01T00:00:00Z"), "400 InvalidParameterValue"),
    ] {
        assert_eq!(history(&[more]).await.refusal(), expected, "{more:?}");
    }
    let both = history(&[("AvailabilityZone", "us-east-1a"), ("AvailabilityZoneId", "use1-az1")]).await;
    assert_eq!(both.refusal(), "400 InvalidParameterCombination");
    let m7g = history(&[("InstanceType.1", "m7g.large"), ("ProductDescription.1", "Windows")]).await.ok();
    assert!(m7g.all("spotPrice").is_empty(), "no Windows for arm64");
}
