//! Each way to buy a machine, as RunInstances is asked for it: one row of the table each.

use orca::capacity::money::MicroUsd;
use orca::cloud::{Cloud, LaunchSpec, Lifecycle, Placement, Purchase, Tenancy};

use super::fake::{Fake, error, xml};
use super::{instance, launched, spec};

/// What a launch says about market, reservation and placement, and which resources it tags.
async fn said(spec: LaunchSpec) -> Vec<String> {
    let fake = Fake::start(|_, _, _| launched()).await;
    fake.ec2().await.launch(&spec).await.unwrap();
    let form = &fake.asked("RunInstances")[0];
    let about = ["CapacityReservationSpecification.", "InstanceMarketOptions.", "Placement."];
    let lines = form.iter().filter(|(key, _)| about.iter().any(|start| key.starts_with(start)));
    let mut lines: Vec<String> = lines.map(|(key, value)| format!("{key} = {value}")).collect();
    let tagged = form.iter().filter(|(key, _)| key.ends_with(".ResourceType"));
    let tagged: Vec<&str> = tagged.map(|(_, value)| value.as_str()).collect();
    lines.push(format!("tags on {}", tagged.join(", ")));
    lines
}

async fn bought(purchase: Purchase) -> Vec<String> {
    said(LaunchSpec { purchase, ..spec() }).await
}

const TAGS: &str = "tags on instance, volume, network-interface";

#[tokio::test]
async fn on_demand_is_in_no_reservation() {
    let preference = "CapacityReservationSpecification.CapacityReservationPreference = none";
    assert_eq!(bought(Purchase::OnDemand).await, [preference, TAGS]);
}

#[tokio::test]
async fn a_required_reservation_is_that_one_or_none_at_all() {
    assert_eq!(
        bought(Purchase::Reservation { id: "cr-1".into() }).await,
        [
            "CapacityReservationSpecification.CapacityReservationPreference = capacity-reservations-only",
            "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId = cr-1",
            TAGS
        ]
    );
}

#[tokio::test]
async fn a_group_of_reservations_never_falls_back_to_on_demand() {
    let arn = "arn:aws:resource-groups:us-east-1:1:group/ml";
    assert_eq!(
        bought(Purchase::ReservationGroup { arn: arn.into() }).await,
        [
            "CapacityReservationSpecification.CapacityReservationPreference = capacity-reservations-only"
                .to_owned(),
            format!(
                "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationResourceGroupArn \
                 = {arn}"
            ),
            TAGS.to_owned()
        ]
    );
}

#[tokio::test]
async fn any_open_reservation_is_asked_for_without_a_target() {
    assert_eq!(
        bought(Purchase::OpenReservation).await,
        ["CapacityReservationSpecification.CapacityReservationPreference = capacity-reservations-only", TAGS]
    );
}

#[tokio::test]
async fn spot_is_one_time_ends_when_interrupted_and_is_in_no_reservation() {
    let lines = [
        "CapacityReservationSpecification.CapacityReservationPreference = none",
        "InstanceMarketOptions.MarketType = spot",
        "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior = terminate",
        "InstanceMarketOptions.SpotOptions.SpotInstanceType = one-time",
        "tags on instance, volume, network-interface, spot-instances-request",
    ];
    assert_eq!(bought(Purchase::Spot { max_price: None }).await, lines);
    let mut limited = lines.to_vec();
    limited.insert(3, "InstanceMarketOptions.SpotOptions.MaxPrice = 1.25");
    assert_eq!(bought(Purchase::Spot { max_price: Some(MicroUsd(1_250_000)) }).await, limited);
}

#[tokio::test]
async fn a_spot_limit_that_ec2_would_refuse_is_not_sent() {
    let fake = Fake::start(|_, _, _| launched()).await;
    let spec = LaunchSpec { purchase: Purchase::Spot { max_price: Some(MicroUsd(1000)) }, ..spec() };
    let refused = fake.ec2().await.launch(&spec).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "refused (InvalidParameterValue): the maximum spot price is `0.001`, expected more than 0.001"
    );
    assert_eq!(fake.asked("RunInstances").len(), 0);
}

#[tokio::test]
async fn a_capacity_block_is_a_market_and_a_reservation() {
    assert_eq!(
        bought(Purchase::CapacityBlock { id: "cr-2".into() }).await,
        [
            "CapacityReservationSpecification.CapacityReservationPreference = capacity-reservations-only",
            "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId = cr-2",
            "InstanceMarketOptions.MarketType = capacity-block",
            TAGS
        ]
    );
}

#[tokio::test]
async fn an_interruptible_reservation_is_a_market_and_a_reservation() {
    assert_eq!(
        bought(Purchase::Interruptible { id: "cr-3".into() }).await,
        [
            "CapacityReservationSpecification.CapacityReservationPreference = capacity-reservations-only",
            "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId = cr-3",
            "InstanceMarketOptions.MarketType = interruptible-capacity-reservation",
            TAGS
        ]
    );
}

#[tokio::test]
async fn tenancy_and_placement_group_are_said_only_where_they_are_not_the_default() {
    let none = "CapacityReservationSpecification.CapacityReservationPreference = none";
    let placed = async |tenancy, group: Option<&str>| {
        let placement = Placement { tenancy, group: group.map(str::to_owned) };
        let mut lines = said(LaunchSpec { placement, ..spec() }).await;
        lines.retain(|line| line != none && line != TAGS);
        lines
    };
    assert_eq!(placed(Tenancy::Shared, None).await, Vec::<String>::new());
    assert_eq!(placed(Tenancy::Dedicated, None).await, ["Placement.Tenancy = dedicated"]);
    assert_eq!(placed(Tenancy::Shared, Some("ml")).await, ["Placement.GroupName = ml"]);
    assert_eq!(
        placed(Tenancy::Dedicated, Some("arn:aws:ec2:us-east-1:1:placement-group/ml")).await,
        ["Placement.GroupName = ml", "Placement.Tenancy = dedicated"]
    );
    assert_eq!(
        placed(Tenancy::Shared, Some("pg-0123456789abcdef0")).await,
        ["Placement.GroupId = pg-0123456789abcdef0"]
    );
}

#[tokio::test]
async fn how_a_machine_was_bought_is_read_from_the_instance() {
    let with = async |fields: &'static str| {
        let fake = Fake::start(move |_, _, _| {
            let plain = instance("i-0001", 0, "pending");
            let bought = plain.replacen("<item>", &format!("<item>{fields}"), 1);
            xml("RunInstancesResponse", &format!("<instancesSet>{bought}</instancesSet>"))
        })
        .await;
        fake.ec2().await.launch(&spec()).await.unwrap().bought
    };
    assert_eq!(with("").await.lifecycle, Lifecycle::OnDemand);
    assert_eq!(with("<instanceLifecycle>spot</instanceLifecycle>").await.lifecycle, Lifecycle::Spot);
    let reserved = with("<capacityReservationId>cr-1</capacityReservationId>").await;
    assert_eq!((reserved.lifecycle, reserved.reservation_id.as_deref()), (Lifecycle::OnDemand, Some("cr-1")));
    let block = with(
        "<instanceLifecycle>capacity-block</instanceLifecycle><capacityBlockId>cb-1</capacityBlockId>
         <capacityReservationId>cr-2</capacityReservationId>",
    )
    .await;
    assert_eq!(block.lifecycle, Lifecycle::CapacityBlock);
    assert_eq!((block.block_id.as_deref(), block.reservation_id.as_deref()), (Some("cb-1"), Some("cr-2")));
    let lent = with("<instanceLifecycle>interruptible-capacity-reservation</instanceLifecycle>").await;
    assert_eq!(lent.lifecycle, Lifecycle::InterruptibleReservation);
    assert_eq!(with("<instanceLifecycle>scheduled</instanceLifecycle>").await.lifecycle, Lifecycle::Other);
}

#[tokio::test]
async fn a_full_reservation_is_no_capacity_with_ec2s_own_code_and_words() {
    let fake =
        Fake::start(|_, _, _| error(400, "ReservationCapacityExceeded", "not enough available instances"))
            .await;
    let spec = LaunchSpec { purchase: Purchase::Reservation { id: "cr-1".into() }, ..spec() };
    let refused = fake.ec2().await.launch(&spec).await.unwrap_err();
    assert_eq!(refused.kind(), "no_capacity");
    assert_eq!(
        (refused.code(), refused.message()),
        ("ReservationCapacityExceeded", "not enough available instances")
    );
}

#[tokio::test]
async fn each_efa_beside_the_machines_own_interface_has_a_network_card_and_no_address() {
    let fake = Fake::start(|_, _, _| launched()).await;
    fake.ec2().await.launch(&LaunchSpec { efa: 3, ..spec() }).await.unwrap();
    let form = &fake.asked("RunInstances")[0];
    let of = |number: usize| {
        let start = format!("NetworkInterface.{number}.");
        let lines = form.iter().filter_map(|(key, value)| Some((key.strip_prefix(&start)?, value)));
        let mut lines: Vec<String> = lines
            .filter(|(key, _)| !key.starts_with("SecurityGroupId") && *key != "SubnetId")
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        lines.sort();
        lines.join(" ")
    };
    let further = |card: usize| {
        format!("DeleteOnTermination=true DeviceIndex=1 InterfaceType=efa-only NetworkCardIndex={card}")
    };
    let own = "DeleteOnTermination=true DeviceIndex=0 InterfaceType=efa SecondaryPrivateIpAddressCount=1";
    assert_eq!([of(1), of(2), of(3), of(4)], [own.to_owned(), further(1), further(2), String::new()]);
    for number in 1..=3 {
        let key = format!("NetworkInterface.{number}.SubnetId");
        assert!(form.iter().any(|(name, value)| *name == key && value == "subnet-aaaa"), "{key}");
    }
}
