//! What is reserved and avoided, as people and scripts see it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::overview::{self, Overview};
use super::{Format, show};
use crate::capacity::live::{Avoided, Learned, Live, Quota};
use crate::capacity::money::MicroUsd;
use crate::cloud::{
    Block, BlockState, Reservation, ReservationKind, ReservationMatch, ReservationState, SpotPrice, Subnet,
    Tenancy,
};
use crate::config::Instances;
use crate::pod::layers::Layer;

const HOUR: i64 = 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn reservation(id: &str, kind: ReservationKind) -> Reservation {
    Reservation {
        id: id.to_owned(),
        owner_id: "111122223333".to_owned(),
        ours: true,
        kind,
        instance_type: "p5.48xlarge".to_owned(),
        platform: "Linux/UNIX".to_owned(),
        tenancy: Tenancy::Shared,
        zone: "us-east-1a".to_owned(),
        zone_id: "use1-az1".to_owned(),
        total: 4,
        available: 3,
        state: ReservationState::Active,
        matches: ReservationMatch::Targeted,
        starts_at: Some(at(-HOUR)),
        ends_at: (kind == ReservationKind::CapacityBlock).then(|| at(24 * HOUR)),
        placement_group_arn: None,
        block_id: None,
        tags: BTreeMap::new(),
    }
}

fn block(id: &str, reservation: &[&str], state: BlockState) -> Block {
    Block {
        id: id.to_owned(),
        reservation_ids: reservation.iter().map(|id| (*id).to_owned()).collect(),
        state,
        starts_at: Some(at(2 * HOUR)),
        ends_at: Some(at(26 * HOUR)),
    }
}

fn price(instance_type: &str, zone: &str, micro: u64) -> SpotPrice {
    SpotPrice {
        instance_type: instance_type.to_owned(),
        zone: zone.to_owned(),
        price: MicroUsd(micro),
        since: at(0),
    }
}

fn overview() -> Overview {
    let reservations =
        [reservation("cr-2", ReservationKind::CapacityBlock), reservation("cr-1", ReservationKind::OnDemand)];
    let blocks = [block("cb-2", &["cr-2"], BlockState::Active), block("cb-3", &[], BlockState::Scheduled)];
    let subnet = Subnet {
        id: "subnet-a".to_owned(),
        zone: "us-east-1a".to_owned(),
        zone_id: "use1-az1".to_owned(),
        cidr: String::new(),
        free_addresses: 1,
    };
    let prices = [
        price("g6.xlarge", "us-east-1a", 301_500),
        price("g6.xlarge", "us-east-1b", 100_000),
        price("g5.xlarge", "us-east-1a", 100_000),
    ];
    Overview {
        region: "us-east-1".to_owned(),
        as_of: at(0),
        reservations: Some(overview::reservations(&reservations)),
        blocks: Some(overview::blocks(&reservations, &blocks)),
        spot_prices: Some(overview::spot(&prices, &[subnet], &["g6.*".to_owned()])),
        running: Some(Live {
            node: "burst".to_owned(),
            as_of: at(0),
            avoided: vec![Avoided {
                what: "g5.xlarge in us-east-1a, on-demand".to_owned(),
                scope: None,
                class: "capacity".to_owned(),
                code: "InsufficientInstanceCapacity".to_owned(),
                failures: 2,
                until: at(300),
            }],
            quotas: vec![Quota {
                family: "G and VT".to_owned(),
                market: "spot".to_owned(),
                vcpus_in_use: 12,
                refused_until: Some(at(900)),
            }],
            ceilings: [("nvidia.com/gpu".to_owned(), 3)].into(),
            learned: vec![Learned {
                instance_type: "g5.xlarge".to_owned(),
                cpu_milli: 3920,
                memory_bytes: 15 << 30,
            }],
            in_flight: BTreeMap::new(),
            hourly_micro_usd: MicroUsd(3_018_000),
            max_hourly_micro_usd: Some(MicroUsd(25_000_000)),
        }),
        notes: vec!["something".to_owned()],
    }
}

#[test]
fn the_tables_have_what_is_reserved_what_it_costs_and_what_is_avoided() {
    insta::assert_snapshot!(show(&overview(), Format::Table), @"
    us-east-1, 1970-01-01T00:00:00Z
    reservations:
      ID    TYPE         ZONE        USED  STATE   MATCH     KIND       ENDS
      cr-1  p5.48xlarge  us-east-1a  1/4   active  targeted  on-demand  never
    Capacity Blocks:
      ID    RESERVATION  TYPE         ZONE        USED  STATE      STARTS  DRAINS     ENDS
      cb-2  cr-2         p5.48xlarge  us-east-1a  1/4   active     1h ago  in 23h20m  in 1d
      cb-3  -            -            -           -     scheduled  in 2h   -          in 1d2h
    spot prices:
      TYPE       ZONE        USD/H
      g6.xlarge  us-east-1a  0.3015
    avoided:
      WHAT                                CLASS     CODE                          FAILURES  FREE
      g5.xlarge in us-east-1a, on-demand  capacity  InsufficientInstanceCapacity  2         in 5m
    quotas in use by node burst:
      QUOTA     MARKET  VCPU  REFUSED
      G and VT  spot    12    asked again in 15m
    lowered for a quota or the budget:
      RESOURCE        OFFERED
      nvidia.com/gpu  3
    being launched into reservations: none
    cost per hour: $3.018, of $25.00 at most
    learned sizes:
      TYPE       CPU    MEMORY
      g5.xlarge  3920m  15360Mi
    note: something
    ");
}

#[test]
fn what_could_not_be_read_is_not_called_none() {
    let nothing =
        Overview { region: "us-east-1".to_owned(), reservations: Some(Vec::new()), ..Overview::default() };
    let text = show(&nothing, Format::Table);
    assert!(
        text.contains("reservations: none\nCapacity Blocks: not known\nspot prices: not known\n"),
        "{text}"
    );
    assert!(!text.contains("avoided"), "{text}");
}

#[test]
fn scripts_get_times_as_times_and_prices_as_texts() {
    let value: serde_json::Value = serde_json::from_str(&show(&overview(), Format::Json)).unwrap();
    assert_eq!(
        value["reservations"][0],
        json!({
            "id": "cr-1", "kind": "on-demand", "instanceType": "p5.48xlarge", "zone": "us-east-1a", "used": 1,
            "total": 4, "state": "active", "matchCriteria": "targeted", "ownerId": "111122223333",
            "startsAt": "1969-12-31T23:00:00Z", "endsAt": null
        })
    );
    assert_eq!(value["blocks"][0]["drainsAt"], "1970-01-01T23:20:00Z", "forty minutes before its end");
    assert_eq!(
        value["spotPrices"],
        json!([
            {"instanceType": "g6.xlarge", "zone": "us-east-1a", "pricePerHour": "0.3015", "since": "1970-01-01T00:00:00Z"}
        ])
    );
    assert_eq!(value["running"]["avoided"][0]["failures"], 2);
    assert_eq!(value["running"]["quotas"][0]["vcpusInUse"], 12);
}

#[test]
fn wanted_types_are_those_that_the_configuration_names() {
    let mut rules =
        Instances { allowed_instance_types: Some(vec!["g5.*".to_owned()]), ..Instances::default() };
    assert_eq!(overview::wanted_types(&rules), ["g5.*"]);
    rules.defaults = Layer::of_settings("instances.defaults", &[("instance-types", "g6.xlarge,p5.48xlarge")]);
    assert_eq!(overview::wanted_types(&rules), ["g6.xlarge", "p5.48xlarge"]);
}
