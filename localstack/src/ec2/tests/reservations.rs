//! Capacity Reservations: who may launch into them, what they are described as, and what their end does.

use serde_json::{Value, json};

use crate::testing::{Answer, TestCloud, mk_launch, with};
use crate::world::defaults::SUBNET_B;

const OPEN: &str = "cr-00000000000000001";
const TARGETED: &str = "cr-00000000000000002";
const GROUP: &str = "arn:aws:resource-groups:us-east-1:000000000000:group/mine";
const PREFERENCE: &str = "CapacityReservationSpecification.CapacityReservationPreference";
const ID: &str = "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId";
const ARN: &str =
    "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationResourceGroupArn";
const ONLY: (&str, &str) = (PREFERENCE, "capacity-reservations-only");

type Pairs<'a> = &'a [(&'static str, &'a str)];

async fn put(cloud: &TestCloud, id: &str, change: Value) -> Value {
    let (status, answer) = cloud.control("PUT", &format!("reservations/{id}"), change).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// A reservation of t3.medium in us-east-1a.
async fn mk(cloud: &TestCloud, id: &str, criteria: &str, total: u32) {
    let change =
        json!({"instanceType": "t3.medium", "zone": "us-east-1a", "total": total, "matchCriteria": criteria});
    put(cloud, id, change).await;
}

async fn try_launch(cloud: &TestCloud, changes: Pairs<'_>) -> Answer {
    cloud.ec2(&with(&mk_launch(), changes)).await
}

/// The reservation that a launch ended up in, or nothing.
async fn launched_in(cloud: &TestCloud, changes: Pairs<'_>) -> String {
    let answer = try_launch(cloud, changes).await.ok();
    answer.all("capacityReservationId").first().map_or_else(String::new, |id| (*id).to_owned())
}

async fn available(cloud: &TestCloud, id: &str) -> String {
    let pairs = [("Action", "DescribeCapacityReservations"), ("CapacityReservationId.1", id)];
    cloud.ec2(&pairs).await.ok().one("availableInstanceCount").to_owned()
}

#[tokio::test(start_paused = true)]
async fn launches_without_a_wish_use_matching_open_reservations_first() {
    let cloud = TestCloud::start();
    mk(&cloud, OPEN, "open", 2).await;
    mk(&cloud, TARGETED, "targeted", 9).await;
    let several = with(&mk_launch(), &[("MinCount", "3"), ("MaxCount", "3")]);
    let answer = cloud.ec2(&several).await.ok();
    assert_eq!(answer.all("capacityReservationId"), [OPEN, OPEN]);
    assert_eq!(answer.all("capacityReservationPreference"), ["open"; 3]);
    assert_eq!(available(&cloud, OPEN).await, "0");
    assert_eq!(launched_in(&cloud, &[]).await, "", "it is full, and the rest is on demand");
    let first = answer.all("instanceId")[0].to_owned();
    cloud.ec2(&[("Action", "TerminateInstances"), ("InstanceId.1", &first)]).await.ok();
    cloud.until(&first, "terminated").await;
    assert_eq!(available(&cloud, OPEN).await, "1");
    assert_eq!(launched_in(&cloud, &[("InstanceType", "t3.micro")]).await, "", "another type");
    assert_eq!(launched_in(&cloud, &[("NetworkInterface.1.SubnetId", SUBNET_B)]).await, "", "another zone");
    assert_eq!(launched_in(&cloud, &[("Placement.Tenancy", "dedicated")]).await, "", "another tenancy");
    assert_eq!(launched_in(&cloud, &[(PREFERENCE, "none")]).await, "", "never");
    assert_eq!(launched_in(&cloud, &[(PREFERENCE, "open")]).await, OPEN);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_has_capacity_when_the_pool_has_none() {
    let cloud = TestCloud::start();
    mk(&cloud, OPEN, "open", 1).await;
    cloud.control("PUT", "pools/us-east-1a/t3.medium", json!({"capacity": 0})).await;
    assert_eq!(launched_in(&cloud, &[]).await, OPEN);
    assert_eq!(try_launch(&cloud, &[]).await.refusal(), "500 InsufficientInstanceCapacity");
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_a_reservation_only_is_never_on_demand() {
    let cloud = TestCloud::start();
    mk(&cloud, OPEN, "open", 1).await;
    mk(&cloud, TARGETED, "targeted", 1).await;
    assert_eq!(launched_in(&cloud, &[ONLY]).await, OPEN);
    let full = "400 ReservationCapacityExceeded";
    assert_eq!(try_launch(&cloud, &[ONLY]).await.refusal(), full, "the targeted one is not open");
    assert_eq!(launched_in(&cloud, &[ONLY, (ID, TARGETED)]).await, TARGETED);
    for pairs in [&[(ID, TARGETED)] as Pairs<'_>, &[ONLY, (ID, TARGETED)]] {
        assert_eq!(try_launch(&cloud, pairs).await.refusal(), full);
    }
    assert_eq!(cloud.world.instances().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_target_takes_only_what_is_its_own() {
    let cloud = TestCloud::start();
    mk(&cloud, TARGETED, "targeted", 9).await;
    let full = "400 ReservationCapacityExceeded";
    let target = (ID, TARGETED);
    for change in [
        ("InstanceType", "t3.micro"),
        ("NetworkInterface.1.SubnetId", SUBNET_B),
        ("Placement.Tenancy", "dedicated"),
    ] {
        assert_eq!(try_launch(&cloud, &[target, change]).await.refusal(), full, "{change:?}");
    }
    for (change, back) in [
        (json!({"platform": "Red Hat Enterprise Linux"}), json!({"platform": "Linux/UNIX"})),
        (json!({"state": "pending"}), json!({"state": null})),
        (json!({"usedByOthers": 9}), json!({"usedByOthers": 0})),
        (json!({"endsInMs": 0}), json!({"endDate": null})),
        (json!({"placementGroupArn": "arn:aws:ec2:::placement-group/p"}), json!({"placementGroupArn": null})),
    ] {
        put(&cloud, TARGETED, change.clone()).await;
        assert_eq!(try_launch(&cloud, &[target]).await.refusal(), full, "{change}");
        put(&cloud, TARGETED, back).await;
    }
    put(&cloud, TARGETED, json!({"tenancy": "dedicated"})).await;
    let answer = try_launch(&cloud, &[target, ("Placement.Tenancy", "dedicated")]).await.ok();
    assert_eq!((answer.one("tenancy"), answer.one("capacityReservationId")), ("dedicated", TARGETED));
    assert_eq!(
        answer.one("capacityReservationSpecification"),
        format!(
            "<capacityReservationTarget><capacityReservationId>{TARGETED}</capacityReservationId></capacityReservationTarget>"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_full_falls_back_silently_unless_asked_not_to() {
    let cloud = TestCloud::start();
    mk(&cloud, TARGETED, "targeted", 1).await;
    put(&cloud, TARGETED, json!({"resourceGroupArns": [GROUP]})).await;
    assert_eq!(launched_in(&cloud, &[(ARN, GROUP)]).await, TARGETED);
    assert_eq!(launched_in(&cloud, &[(ARN, GROUP)]).await, "");
    assert_eq!(try_launch(&cloud, &[ONLY, (ARN, GROUP)]).await.refusal(), "400 ReservationCapacityExceeded");
}

#[tokio::test(start_paused = true)]
async fn mixes_that_make_no_sense_are_refused() {
    let cloud = TestCloud::start();
    mk(&cloud, TARGETED, "targeted", 1).await;
    let cases: [(Pairs<'_>, &str); 7] = [
        (&[(PREFERENCE, "open"), (ID, TARGETED)], "400 InvalidParameterCombination"),
        (&[(PREFERENCE, "none"), (ID, TARGETED)], "400 InvalidParameterCombination"),
        (&[(ID, TARGETED), (ARN, GROUP)], "400 InvalidParameterCombination"),
        (&[(ID, "cr-mine")], "400 InvalidCapacityReservationId.Malformed"),
        (&[(ID, "cr-00000000")], "400 InvalidCapacityReservationId.NotFound"),
        (&[(ARN, "mine")], "400 InvalidParameterValue"),
        (&[("CapacityReservationSpecification.Colour", "red")], "400 UnknownParameter"),
    ];
    for (pairs, expected) in cases {
        assert_eq!(try_launch(&cloud, pairs).await.refusal(), expected, "{pairs:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_reservation_binds_a_token_and_a_missing_one_does_not() {
    let cloud = TestCloud::start();
    mk(&cloud, TARGETED, "targeted", 0).await;
    for (id, token, expected) in
        [(TARGETED, "a", "400 IdempotentParameterMismatch"), ("cr-00000000", "b", "")]
    {
        let token = ("ClientToken", token);
        assert_ne!(try_launch(&cloud, &[(ID, id), token]).await.status, 200);
        let other = try_launch(&cloud, &[token]).await;
        if expected.is_empty() { drop(other.ok()) } else { assert_eq!(other.refusal(), expected) }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_reservation_leaves_its_instances_running_on_demand() {
    let cloud = TestCloud::start();
    mk(&cloud, OPEN, "open", 1).await;
    put(&cloud, OPEN, json!({"endsInMs": 60_000})).await;
    mk(&cloud, TARGETED, "targeted", 1).await;
    let limited = cloud.launch(&[]).await;
    let cancelled = cloud.launch(&[(ID, TARGETED)]).await;
    cloud.until(&cancelled, "running").await;
    let inside = async |id: &str| {
        let found = [
            ("Action", "DescribeInstances"),
            ("Filter.1.Name", "capacity-reservation-id"),
            ("Filter.1.Value.1", id),
        ];
        cloud.ec2(&found).await.ok().all("instanceId").len()
    };
    assert_eq!((inside(OPEN).await, inside(TARGETED).await), (1, 1));
    let (_, answer) = cloud.control("DELETE", &format!("reservations/{TARGETED}"), Value::Null).await;
    assert_eq!((&answer["state"], &answer["used"]), (&json!("cancelled"), &json!(0)));
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    assert_eq!((inside(OPEN).await, inside(TARGETED).await), (0, 0));
    assert_eq!(
        (cloud.state(&limited).await.as_str(), cloud.state(&cancelled).await.as_str()),
        ("running", "running")
    );
    let all = cloud.ec2(&[("Action", "DescribeCapacityReservations")]).await.ok();
    assert_eq!(
        (all.all("state"), all.all("endDateType")),
        (vec!["expired", "cancelled"], vec!["limited", "unlimited"])
    );
}

#[tokio::test(start_paused = true)]
async fn another_accounts_reservation_is_described_and_used_as_our_own() {
    let cloud = TestCloud::start();
    mk(&cloud, TARGETED, "targeted", 4).await;
    let shared = json!({"ownerId": "111111111111", "usedByOthers": 3, "unusedReservationBillingOwnerId": "000000000000"});
    put(&cloud, TARGETED, shared).await;
    assert_eq!(launched_in(&cloud, &[(ID, TARGETED)]).await, TARGETED);
    let answer = cloud.ec2(&[("Action", "DescribeCapacityReservations")]).await.ok();
    for (name, value) in [
        ("ownerId", "111111111111"),
        (
            "capacityReservationArn",
            "arn:aws:ec2:us-east-1:111111111111:capacity-reservation/cr-00000000000000002",
        ),
        ("availabilityZoneId", "use1-az1"),
        ("totalInstanceCount", "4"),
        ("availableInstanceCount", "0"),
        ("unusedReservationBillingOwnerId", "000000000000"),
        ("capacityAllocationSet", "<item><allocationType>used</allocationType><count>4</count></item>"),
    ] {
        assert_eq!(answer.one(name), value, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn reservations_are_found_by_each_filter_and_paged() {
    let cloud = TestCloud::start();
    mk(&cloud, OPEN, "open", 1).await;
    mk(&cloud, TARGETED, "targeted", 1).await;
    let change = json!({
        "tags": {"team": "a"}, "tenancy": "dedicated", "ownerId": "111111111111", "platform": "SUSE Linux",
        "startDate": "2026-01-01T00:00:00Z", "endDate": "2126-01-01T00:00:00Z", "placementGroupArn": "arn:p",
        "state": "delayed",
    });
    put(&cloud, TARGETED, change).await;
    for (name, value, expected) in [
        ("instance-type", "t3.*", vec![OPEN, TARGETED]),
        ("availability-zone", "us-east-1a", vec![OPEN, TARGETED]),
        ("availability-zone-id", "use1-az2", vec![]),
        ("owner-id", "111111111111", vec![TARGETED]),
        ("instance-platform", "Linux/UNIX", vec![OPEN]),
        ("tenancy", "dedicated", vec![TARGETED]),
        ("outpost-arn", "*", vec![]),
        ("state", "active", vec![OPEN]),
        ("start-date", "2026-01-01T*", vec![TARGETED]),
        ("end-date", "2126-01-01T00:00:00.000Z", vec![TARGETED]),
        ("end-date-type", "unlimited", vec![OPEN]),
        ("instance-match-criteria", "targeted", vec![TARGETED]),
        ("placement-group-arn", "arn:p", vec![TARGETED]),
        ("tag:team", "a", vec![TARGETED]),
        ("tag-key", "team", vec![TARGETED]),
    ] {
        let pairs = [
            ("Action", "DescribeCapacityReservations"),
            ("Filter.1.Name", name),
            ("Filter.1.Value.1", value),
        ];
        let found = cloud.ec2(&pairs).await.ok();
        assert_eq!(found.all("capacityReservationId"), expected, "{name}={value}");
    }
    let page = [("Action", "DescribeCapacityReservations"), ("MaxResults", "1")];
    let first = cloud.ec2(&page).await.ok();
    let token = first.one("nextToken");
    let next = [("Action", "DescribeCapacityReservations"), ("MaxResults", "1"), ("NextToken", token)];
    let second = cloud.ec2(&next).await.ok();
    assert_eq!((first.one("capacityReservationId"), second.one("capacityReservationId")), (OPEN, TARGETED));
    assert!(second.all("nextToken").is_empty());
    let tag = [("Action", "CreateTags"), ("ResourceId.1", OPEN), ("Tag.1.Key", "k"), ("Tag.1.Value", "v")];
    cloud.ec2(&tag).await.ok();
    let tags = cloud.ec2(&[("Action", "DescribeTags")]).await.ok();
    assert_eq!(tags.all("resourceType"), ["capacity-reservation", "capacity-reservation"]);
}

#[tokio::test(start_paused = true)]
async fn the_control_endpoint_refuses_reservations_that_cannot_be() {
    let cloud = TestCloud::start();
    let new = || json!({"instanceType": "t3.medium", "zone": "us-east-1a", "total": 1});
    for (id, change, status) in [
        ("mine", new(), 400),
        (OPEN, json!({"zone": "us-east-1a", "total": 1}), 400),
        (OPEN, json!({"instanceType": "x9.huge", "zone": "us-east-1a", "total": 1}), 404),
        (OPEN, json!({"instanceType": "t3.medium", "zone": "us-east-1z", "total": 1}), 404),
        (OPEN, json!({"instance_type": "t3.medium"}), 400),
        (OPEN, new(), 200),
        (OPEN, json!({"zone": "use1-az1"}), 200),
        (OPEN, json!({"zone": "us-east-1b"}), 409),
        (OPEN, json!({"instanceType": "t3.micro"}), 409),
    ] {
        let (seen, answer) = cloud.control("PUT", &format!("reservations/{id}"), change.clone()).await;
        assert_eq!(seen, status, "{change}: {answer}");
    }
    assert_eq!(cloud.control("DELETE", "reservations/cr-00000000", Value::Null).await.0, 404);
}
