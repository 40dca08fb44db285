//! Scenarios of the market: reservations, Capacity Blocks and spot, from the Pod's annotations to its machine.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use orca::clock;
use orca::cloud::memory::{Book, Call, Timing};
use orca::cloud::{Reservation, ReservationKind, ReservationMatch, ReservationState, Tenancy};
use serde_json::{Value, json};

use super::message_of;
use crate::support::{World, mk_pod, phase, reason};

pub(super) const RESERVATION: &str = "cr-0a1b2c3d4e5f60718";
const BLOCK: &str = "cr-0b1c2d3e4f5061728";

pub(super) fn mk_reservation(id: &str, kind: ReservationKind, total: u32) -> Reservation {
    Reservation {
        id: id.to_owned(),
        owner_id: "1".to_owned(),
        ours: true,
        kind,
        instance_type: "g5.xlarge".to_owned(),
        platform: "Linux/UNIX".to_owned(),
        tenancy: Tenancy::Shared,
        zone: "zone-a".to_owned(),
        zone_id: "z-a".to_owned(),
        total,
        available: total,
        state: ReservationState::Active,
        matches: ReservationMatch::Targeted,
        starts_at: None,
        ends_at: None,
        placement_group_arn: None,
        block_id: None,
        tags: BTreeMap::new(),
    }
}

pub(super) fn annotated(name: &str, annotations: &[(&str, &str)]) -> Value {
    let mut pod = mk_pod(name);
    let all = annotations.iter().map(|(key, value)| (format!("orca.research/{key}"), json!(value)));
    pod["metadata"]["annotations"] = Value::Object(all.collect());
    pod
}

fn within(seconds: i64) -> Timestamp {
    Timestamp::from_second(clock::now().as_second() + seconds).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_burst_takes_each_place_of_a_reservation_once_and_the_rest_waits_for_one() {
    let world = World::start();
    world.cloud.set_reservation(mk_reservation(RESERVATION, ReservationKind::OnDemand, 2));
    let names: Vec<_> = (0..5).map(|i| format!("p{i}")).collect();
    for name in &names {
        world.api.create(annotated(name, &[("capacity-reservation-id", RESERVATION)]));
    }
    let running =
        |world: &World| names.iter().filter(|name| phase(&world.api.pod(name)) == "Running").count();
    world.until("two run", |world| running(world) == 2).await;
    world.pass_time(120).await;
    assert_eq!(running(&world), 2, "a required reservation is never left");
    assert_eq!(world.cloud.sent().len(), 2, "nobody asked for a place that was taken");
    let waiting = names.iter().find(|name| phase(&world.api.pod(name)) == "Pending").unwrap();
    assert!(message_of(&world, waiting).contains(RESERVATION), "{}", message_of(&world, waiting));
    let first = names.iter().find(|name| phase(&world.api.pod(name)) == "Running").unwrap();
    world.api.delete(first, 1);
    world
        .within(Duration::from_secs(180), "the next has its place", |world| world.cloud.sent().len() == 3)
        .await;
    for machine in world.cloud.alive() {
        assert_eq!(machine.bought.reservation_id.as_deref(), Some(RESERVATION));
    }
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_its_block_and_is_ended_in_good_order_before_it_ends() {
    let world = World::start();
    let starts = within(600);
    let ends = within(600 + 2 * 3600);
    world.cloud.set_reservation(Reservation {
        state: ReservationState::Scheduled,
        starts_at: Some(starts),
        ends_at: Some(ends),
        ..mk_reservation(BLOCK, ReservationKind::CapacityBlock, 1)
    });
    world.api.create(annotated("a", &[("capacity-block-id", BLOCK)]));
    world.within(Duration::from_secs(10), "it waits", |world| message_of(world, "a").contains(BLOCK)).await;
    world.pass_time(500).await;
    assert!(world.cloud.sent().is_empty(), "not before the block's start");
    world.within(Duration::from_secs(160), "it runs", |world| phase(&world.api.pod("a")) == "Running").await;
    world.until("its machine goes", |world| world.cloud.alive().is_empty()).await;
    let left = ends.duration_since(clock::now()).as_secs();
    assert!((1800..=2400).contains(&left), "EC2 ends machines 30 min before: {left} s were left");
    assert_eq!(phase(&world.api.pod("a")), "Failed");
    assert!(
        world.api.reasons("a").contains(&"CapacityBlockEnding".to_owned()),
        "{:?}",
        world.api.reasons("a")
    );
    world.check();
}

#[tokio::test(start_paused = true)]
async fn spot_is_bought_up_to_its_limit_only() {
    let world = World::start();
    for zone in ["zone-a", "zone-b"] {
        world.cloud.set_spot_price("g5.xlarge", zone, "0.60".parse().unwrap());
    }
    let limit = [("launch-type", "spot"), ("max-spot-price", "0.50")];
    world.api.create(annotated("a", &limit));
    world.within(Duration::from_secs(10), "it waits", |world| message_of(world, "a").contains("0.5")).await;
    assert!(world.cloud.sent().is_empty());
    world.cloud.set_spot_price("g5.xlarge", "zone-b", "0.40".parse().unwrap());
    world.until_running("a").await;
    let sent = world.cloud.sent();
    assert_eq!((sent.len(), sent[0].1.subnet_id.as_str()), (1, "subnet-b"));
    world.check();
}

#[tokio::test(start_paused = true)]
async fn whoever_waited_long_for_a_reservation_or_a_price_is_woken_when_the_market_changes() {
    let world = World::start();
    let full = mk_reservation(RESERVATION, ReservationKind::OnDemand, 0);
    world.cloud.set_reservation(full.clone());
    world.cloud.set_spot_price("g5.xlarge", "zone-b", "0.60".parse().unwrap());
    world.api.create(annotated("room", &[("capacity-reservation-id", RESERVATION)]));
    world.api.create(annotated("price", &[("launch-type", "spot"), ("max-spot-price", "0.50")]));
    // So long that both are looked at every five minutes only.
    world.pass_time(3600).await;
    assert!(world.cloud.sent().is_empty());
    world.cloud.set_reservation(Reservation { total: 1, available: 1, ..full });
    let runs = |name: &'static str| move |world: &World| phase(&world.api.pod(name)) == "Running";
    world.within(Duration::from_secs(75), "it is in its reservation", runs("room")).await;
    world.pass_time(240).await;
    world.cloud.set_spot_price("g5.xlarge", "zone-b", "0.40".parse().unwrap());
    world.within(Duration::from_secs(315), "it is bought", runs("price")).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn pods_that_name_a_reservation_which_nobody_sees_do_not_wake_each_other_for_ever() {
    let world = World::start();
    world.cloud.set_timing(Timing { latency: Duration::from_millis(20), ..Timing::default() });
    for name in ["a", "b", "c"] {
        world.api.create(annotated(name, &[("capacity-reservation-id", RESERVATION)]));
    }
    world.pass_time(60).await;
    let reservations = || world.cloud.calls(Call::Read(Book::Reservations));
    let before = reservations();
    world.pass_time(3600).await;
    let read = reservations() - before;
    assert!(read <= 61, "{read} times in an hour, and it is due each minute");
    assert!(world.cloud.sent().is_empty());
    world.check();
}

#[tokio::test(start_paused = true)]
async fn no_more_is_spent_per_hour_than_the_operator_allows() {
    let mut world = World::without_orca();
    world.config.limits.max_hourly_cost = Some("2.50".parse().unwrap());
    world.start_orca();
    world.cloud.set_reservation(mk_reservation(RESERVATION, ReservationKind::OnDemand, 1));
    let names = ["a", "b", "c"];
    for name in names {
        world.api.create(mk_pod(name));
    }
    let running =
        |world: &World| names.iter().filter(|name| phase(&world.api.pod(name)) == "Running").count();
    world.until("two run at $1.006 each", |world| running(world) == 2).await;
    world.pass_time(1800).await;
    assert_eq!((running(&world), world.cloud.sent().len()), (2, 2));
    let waits = names.into_iter().find(|name| phase(&world.api.pod(name)) == "Pending").unwrap();
    let told = message_of(&world, waits);
    assert!(told.contains("limits.maxHourlyCost") && told.contains("$0.488 left"), "{told}");
    assert!(world.api.reasons(waits).contains(&"BudgetExceeded".to_owned()));
    world.api.create(annotated("paid", &[("capacity-reservation-id", RESERVATION)]));
    world.until_running("paid").await;
    let first = names.into_iter().find(|name| phase(&world.api.pod(name)) == "Running").unwrap();
    world.api.delete(first, 1);
    let third = |world: &World| world.cloud.sent().len() == 4;
    world.within(Duration::from_secs(60), "the third is launched", third).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_waited_for_as_long_as_it_would_fails() {
    let world = World::start();
    world.cloud.set_reservation(mk_reservation(RESERVATION, ReservationKind::OnDemand, 0));
    world.api.create(annotated("a", &[("capacity-reservation-id", RESERVATION), ("capacity-wait", "10m")]));
    world.pass_time(590).await;
    assert_eq!(phase(&world.api.pod("a")), "Pending");
    world.within(Duration::from_secs(20), "it fails", |world| phase(&world.api.pod("a")) == "Failed").await;
    assert!(world.cloud.sent().is_empty());
    assert_eq!(reason(&world.api.pod("a")), "CapacityWaitExceeded");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_is_newer_than_the_last_reading_is_found_at_once() {
    let world = World::start();
    world.cloud.set_reservation(mk_reservation(RESERVATION, ReservationKind::OnDemand, 1));
    world.api.create(annotated("a", &[("capacity-reservation-id", RESERVATION)]));
    world.until_running("a").await;
    const NEWER: &str = "cr-0c1d2e3f4a5b60718";
    world.cloud.set_reservation(mk_reservation(NEWER, ReservationKind::OnDemand, 1));
    world.api.create(annotated("b", &[("capacity-reservation-id", NEWER)]));
    world.within(Duration::from_secs(12), "it runs", |world| phase(&world.api.pod("b")) == "Running").await;
    assert!(!world.api.reasons("b").contains(&"ReservationUnavailable".to_owned()));
    world.check();
}
