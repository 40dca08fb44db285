//! Plans as people and scripts see them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::report::{Report, Subject};
use super::{Format, show};
use crate::capacity::blocked::Blocked;
use crate::capacity::money::MicroUsd;
use crate::capacity::planner::plan;
use crate::capacity::world::Source;
use crate::cloud::{Reservation, ReservationKind, ReservationMatch, ReservationState, Subnet, Tenancy};
use crate::config::Instances;
use crate::market::Snapshot;
use crate::pod::ask::ask;

fn subject() -> Subject {
    Subject { kind: "Pod".to_owned(), namespace: "ml".to_owned(), name: "train".to_owned() }
}

fn subnet(id: &str, zone: &str) -> Subnet {
    Subnet {
        id: id.to_owned(),
        zone: zone.to_owned(),
        zone_id: zone.to_owned(),
        cidr: String::new(),
        free_addresses: 100,
    }
}

fn reservation(id: &str, zone: &str, available: u32) -> Reservation {
    Reservation {
        id: id.to_owned(),
        owner_id: "111122223333".to_owned(),
        ours: true,
        kind: ReservationKind::OnDemand,
        instance_type: "g5.xlarge".to_owned(),
        platform: "Linux/UNIX".to_owned(),
        tenancy: Tenancy::Shared,
        zone: zone.to_owned(),
        zone_id: zone.to_owned(),
        total: 1,
        available,
        state: ReservationState::Active,
        matches: ReservationMatch::Open,
        starts_at: None,
        ends_at: None,
        placement_group_arn: None,
        block_id: None,
        tags: BTreeMap::new(),
    }
}

/// A market that was read, with two subnets and two reservations, one of them full.
fn market() -> Snapshot {
    let mut snapshot = super::offline::market("us-east-1", &crate::pod::wishes::Wishes::default());
    snapshot.catalog.source = Source::Api;
    snapshot.prices.on_demand_source = Source::Api;
    for offer in snapshot.catalog.types.values_mut() {
        offer.zones = ["us-east-1a", "us-east-1b"].map(str::to_owned).into();
    }
    let spot = [("us-east-1a", 400_000), ("us-east-1b", 350_000)];
    let spot = spot.map(|(zone, price)| (zone.to_owned(), MicroUsd(price)));
    snapshot.prices.spot.insert("g5.xlarge".to_owned(), spot.into());
    snapshot.subnets = vec![subnet("subnet-a", "us-east-1a"), subnet("subnet-b", "us-east-1b")];
    snapshot.reservations = vec![reservation("cr-1", "us-east-1a", 0), reservation("cr-2", "us-east-1b", 1)];
    snapshot
}

fn report(region: &str, market: &Snapshot, annotations: &[(&str, &str)]) -> Report {
    let annotations: BTreeMap<_, _> =
        annotations.iter().map(|(key, value)| (format!("orca.research/{key}"), *value)).collect();
    let pod = json!({
        "metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}
    });
    let rules = Instances { region: region.to_owned(), ..Instances::default() };
    let pod = serde_json::from_value(pod).unwrap();
    match ask(&pod, &[], "nvidia.com/gpu", &rules) {
        Err(rejection) => Report::refused(subject(), region, &rejection),
        Ok(ask) => {
            let blocked = Blocked::default();
            let world = market.world(Timestamp::from_second(0).unwrap(), &rules, &blocked, None);
            Report::planned(subject(), &ask, &plan(&ask, &world), &world)
        }
    }
}

#[test]
fn the_table_has_candidates_in_order_what_was_not_chosen_and_the_verdict() {
    let wishes = [
        ("instance-type", "g5.xlarge"),
        ("capacity-type", "reserved,spot,on-demand"),
        ("max-spot-price", "0.375"),
    ];
    let report = report("us-east-1", &market(), &wishes).noting(["prices change".to_owned()]);
    insta::assert_snapshot!(show(&report, Format::Table, 0), @"
    Pod ml/train
    asks for: 1 nvidia.com/gpu; of the types g5.xlarge; as reserved, spot, on-demand; reservations preferred; spot at most $0.375 per hour
    candidates, in the order in which they are tried:
      #  TYPE       MARKET     RESERVATION  ZONE        SUBNET    USD/H  PRICE  WHY
      1  g5.xlarge  reserved   cr-2         us-east-1b  subnet-b  1.006  api    listed, first
      2  g5.xlarge  spot       -            us-east-1b  subnet-b  0.35   api    listed, market order
      3  g5.xlarge  on-demand  -            us-east-1a  subnet-a  1.006  api    listed, market order
      4  g5.xlarge  on-demand  -            us-east-1b  subnet-b  1.006  api    listed, subnet order
    not chosen:
      RULE              COUNT  BECAUSE                SUCH AS
      price_limit       1      above the price limit  spot g5.xlarge in us-east-1a ($0.40, limit $0.375 per hour)
      reservation_full  1      full                   `cr-1` (1 of 1 in use)
    verdict: launch g5.xlarge (reserved)
    note: prices change
    ");
}

#[test]
fn a_plan_without_candidates_says_what_follows() {
    let waits = report("us-east-1", &market(), &[("capacity-reservation-id", "cr-0a1b2c3d4e5f60718")]);
    insta::assert_snapshot!(show(&waits, Format::Table, 1), @"

    Pod ml/train
    asks for: 1 nvidia.com/gpu; reservations required cr-0a1b2c3d4e5f60718
    not chosen:
      RULE                 COUNT  BECAUSE                                SUCH AS
      reservation_unknown  1      no reservation that this account sees  `cr-0a1b2c3d4e5f60718`
    verdict: the pod waits (ReservationUnavailable)
      no machine to be had now: no reservation that this account sees: `cr-0a1b2c3d4e5f60718`
      looked at again when the market changes
    ");
    let refused = report("us-east-1", &market(), &[("gpu-model", "h9000")]);
    insta::assert_snapshot!(show(&refused, Format::Table, 0), @"
    Pod ml/train
    asks for: 1 nvidia.com/gpu; GPU model h9000
    not chosen:
      RULE       COUNT  BECAUSE                            SUCH AS
      gpu_maker  142    no accelerator of the wanted kind  c5.12xlarge, c5.18xlarge, c5.24xlarge
      gpu_share  5      only a share of a GPU              g6f.2xlarge, g6f.4xlarge, g6f.large
      gpu_model  63     another GPU model                  g4dn.12xlarge, g4dn.16xlarge, g4dn.2xlarge
    verdict: the pod is refused (NoInstanceType)
      metadata.annotations[orca.research/gpu-models]: no instance type that may be used has GPUs of the model `h9000`
    ");
}

#[test]
fn prices_of_another_region_are_marked_in_every_line() {
    let wishes = crate::pod::wishes::Wishes::default();
    let report =
        report("eu-west-1", &super::offline::market("eu-west-1", &wishes), &[("instance-type", "g5.xlarge")]);
    let table = show(&report, Format::Table, 0);
    assert!(table.contains("1.006  us-east-1 static  listed, first"), "{table}");
    let prices = serde_json::to_value(&report).unwrap()["market"]["prices"].clone();
    assert_eq!(prices, json!({"source": "static", "region": "us-east-1", "asOf": "2026-07-20T00:00:00Z"}));
}

#[test]
fn scripts_get_every_field_under_its_name() {
    let report = report("us-east-1", &market(), &[("capacity-reservation-preference", "required")]);
    let json = show(&report, Format::Json, 0);
    assert!(
        json.starts_with("{\n  \"candidates\": [\n    {\n      \"instanceType\": \"g5.xlarge\""),
        "{json}"
    );
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        value["candidates"][0],
        json!({
            "instanceType": "g5.xlarge", "rank": 1, "market": "reserved", "zone": "us-east-1b",
            "subnetId": "subnet-b", "reservationId": "cr-2", "reservationGroup": null, "pricePerHour": "1.006",
            "addedPerHour": "0.00", "source": "api", "why": "cheapest that fits, first", "vcpus": 4,
            "memoryMib": 16384, "gpus": 1, "gpuModel": "A10G"
        })
    );
    assert_eq!(value["verdict"], json!({"outcome": "launch"}));
    assert_eq!(value["pod"], json!({"kind": "Pod", "namespace": "ml", "name": "train"}));
    let full =
        value["rejected"].as_array().unwrap().iter().find(|one| one["rule"] == "reservation_full").unwrap();
    assert_eq!(
        *full,
        json!({"rule": "reservation_full", "what": "full", "count": 1, "example": "`cr-1` (1 of 1 in use)"})
    );
}
