//! How long a plan takes over a whole region: 900 types in 6 zones and 3 markets, with 200 reservations.

use std::time::{Duration, Instant};

use super::super::shape::is_exotic;
use super::super::{Verdict, plan};
use super::language::{Owned, ask};
use crate::capacity::avoid::{self, Attempt};
use crate::capacity::planner::Selection;
use crate::capacity::world::Offer;
use crate::cloud::{CloudError, Purchase, Subnet};

const TYPES: usize = 900;
const ZONES: usize = 6;
const RESERVATIONS: usize = 200;
const DRY: usize = 40;

/// A region of the size of the largest.
fn region() -> Owned {
    let mut owned = Owned::new();
    let zones: Vec<String> = ('a'..).take(ZONES).map(|letter| format!("us-east-1{letter}")).collect();
    let shipped = std::mem::take(&mut owned.catalog.types);
    let is_plain = |offer: &&Offer| offer.shape.arch == "amd64" && !is_exotic(&offer.shape);
    let (plain, other): (Vec<_>, Vec<_>) = shipped.values().partition(is_plain);
    for n in 0..TYPES {
        // Most types of a region have no accelerator.
        let among = if n % 4 == 0 { &other } else { &plain };
        let mut offer = among[n % among.len()].clone();
        let price = owned.prices.on_demand.get(&offer.shape.name).copied();
        offer.shape.name = format!("{}-{n}", offer.shape.name);
        offer.zones = zones.iter().cloned().collect();
        let name = offer.shape.name.clone();
        if let Some(price) = price {
            let spot = zones.iter().map(|zone| (zone.clone(), price)).collect();
            owned.prices.on_demand.insert(name.clone(), price);
            owned.prices.spot.insert(name.clone(), spot);
        }
        owned.catalog.types.insert(name, offer);
    }
    owned.subnets = zones
        .iter()
        .map(|zone| Subnet {
            zone: zone.clone(),
            zone_id: zone.clone(),
            id: format!("subnet-{zone}"),
            cidr: String::new(),
            free_addresses: 250,
        })
        .collect();
    let names: Vec<_> = owned.catalog.types.keys().cloned().collect();
    for n in 0..RESERVATIONS {
        let text = format!("cr-{n}={}/a/2of4/open", names[n * 4 % names.len()]);
        owned.change(&text);
        let one = owned.reservations.last_mut().unwrap();
        (one.zone, one.zone_id) = (zones[n % ZONES].clone(), zones[n % ZONES].clone());
    }
    for name in names.iter().step_by(names.len() / DRY) {
        let error = CloudError::NoCapacity {
            code: "InsufficientInstanceCapacity".to_owned(),
            message: String::new(),
        };
        let attempt = Attempt {
            purchase: &Purchase::OnDemand,
            selection: Selection::Cheapest,
            instance_type: name,
            zone: &zones[0],
            subnet_id: "",
            volume_kind: "gp3",
            placement_group: None,
        };
        owned.blocked.note(&avoid::of_error(&error, &attempt).avoid.unwrap(), owned.now);
    }
    owned
}

/// 16,000 candidates take 4 ms when optimised; `cargo test --release -- --nocapture` prints what it takes here.
#[test]
fn a_whole_region_is_planned_in_no_time() {
    let owned = region();
    for (asked, at_least) in [
        ("markets=reserved,spot,on-demand prefer", 8_000),
        ("gpus=1 markets=reserved,spot,on-demand prefer", 500),
        ("cpu=4 mem=16Gi", 2_000),
    ] {
        let ask = ask(asked);
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            let planned = plan(&ask, &owned.world());
            best = best.min(start.elapsed());
            assert_eq!(planned.verdict, Verdict::Launch);
            assert!(planned.choices.len() >= at_least, "{asked}: {}", planned.choices.len());
        }
        println!("{asked}: {best:?}");
    }
}
