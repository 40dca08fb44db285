//! How long a plan takes over a whole region: 900 types in 6 zones and 3 markets, with 200 reservations.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use orca::capacity::avoid::{self, Attempt};
use orca::capacity::blocked::Blocked;
use orca::capacity::planner::{Selection, Verdict, plan};
use orca::capacity::shipped::shipped;
use orca::capacity::world::{Catalog, Offer, Prices, Source, World};
use orca::cloud::{
    CloudError, Purchase, Reservation, ReservationKind, ReservationMatch, ReservationState, Subnet, Tenancy,
};
use orca::config::Instances;
use orca::pod::ask::{Ask, ask};
use serde_json::{Value, json};

use crate::table::{Table, at};

const TYPES: usize = 900;
const ZONES: [&str; 6] = ["us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d", "us-east-1e", "us-east-1f"];
const RESERVATIONS: usize = 200;
const DRY: usize = 40;
const ROUNDS: usize = 50;
/// In milliseconds.
const BAR: f64 = 5.0;

/// What a [`World`] borrows.
struct Region {
    now: Timestamp,
    rules: Instances,
    catalog: Catalog,
    prices: Prices,
    subnets: Vec<Subnet>,
    reservations: Vec<Reservation>,
    blocked: Blocked,
}

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let region = Region::new()?;
    let in_flight = HashMap::new();
    let world = World {
        now: region.now,
        rules: &region.rules,
        catalog: &region.catalog,
        prices: &region.prices,
        subnets: &region.subnets,
        reservations: &region.reservations,
        blocks: &[],
        in_flight: &in_flight,
        blocked: &region.blocked,
        budget: None,
    };
    let markets = json!({
        "orca.research/capacity-type": "reserved,spot,on-demand", "orca.research/capacity-reservation-preference": "prefer",
    });
    for (what, annotations, resources, at_least) in [
        ("any machine", markets.clone(), json!({}), 8000),
        ("one GPU", markets, json!({"nvidia.com/gpu": "1"}), 500),
        ("4 CPUs and 16 GiB on demand", json!({}), json!({"cpu": "4", "memory": "16Gi"}), 2000),
    ] {
        let ask = wish(&annotations, &resources, &region.rules)?;
        let mut times = Vec::new();
        let mut choices = 0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let planned = plan(&ask, &world);
            times.push(start.elapsed().as_secs_f64() * 1000.0);
            ensure!(planned.verdict == Verdict::Launch, "{what}: {:?}", planned.verdict);
            choices = planned.choices.len();
        }
        ensure!(choices >= at_least, "{what}: {choices} candidates, expected at least {at_least}");
        let name =
            format!("plan for {what} over {TYPES} types × {} zones: {choices} candidates", ZONES.len());
        if is_optimised() {
            table.bar(&name, "ms", at(&times, 0.5), BAR);
        } else {
            table.one(
                &format!("{name} (unoptimised; a bar of 5 ms is for OPTIMISED=1)"),
                "ms",
                at(&times, 0.5),
            );
        }
    }
    Ok(())
}

/// Arithmetic alone is twenty times slower in a dev build, so its bar only means something in another.
fn is_optimised() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("ORCA_OPTIMISED").is_some()
}

fn wish(annotations: &Value, resources: &Value, rules: &Instances) -> Result<Ask> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "pod", "uid": "uid", "annotations": annotations},
        "spec": {"containers": [{"name": "main", "resources": {"limits": resources}}]},
    }))?;
    ask(&pod, &[], "nvidia.com/gpu", rules).map_err(|rejection| anyhow!("{rejection}"))
}

impl Region {
    /// A region of the size of the largest, made of the shipped catalog's types again and again.
    fn new() -> Result<Self> {
        let (mut catalog, mut prices) = shipped();
        (catalog.source, prices.on_demand_source) = (Source::Api, Source::Api);
        let now = Timestamp::UNIX_EPOCH;
        let shipped = std::mem::take(&mut catalog.types);
        // Most types of a region have no accelerator.
        let is_plain = |offer: &&Offer| {
            let shape = &offer.shape;
            shape.arch == "amd64" && shape.gpus.is_none() && !shape.bare_metal && !shape.other_accelerator
        };
        let (plain, other): (Vec<&Offer>, Vec<&Offer>) = shipped.values().partition(is_plain);
        for number in 0..TYPES {
            let among = if number % 4 == 0 { &other } else { &plain };
            let mut offer = among[number % among.len()].clone();
            let price = prices.on_demand.get(&offer.shape.name).copied();
            offer.shape.name = format!("{}-{number}", offer.shape.name);
            offer.zones = ZONES.map(str::to_owned).into();
            let name = offer.shape.name.clone();
            if let Some(price) = price {
                prices.on_demand.insert(name.clone(), price);
                prices.spot.insert(name.clone(), ZONES.map(|zone| (zone.to_owned(), price)).into());
            }
            catalog.types.insert(name, offer);
        }
        prices.spot_as_of = Some(now);
        let subnet = |zone: &str| Subnet {
            zone: zone.to_owned(),
            zone_id: zone.to_owned(),
            id: format!("subnet-{zone}"),
            cidr: String::new(),
            free_addresses: 250,
        };
        let names: Vec<String> = catalog.types.keys().cloned().collect();
        let reservations =
            (0..RESERVATIONS).map(|number| reservation(number, &names[number * 4 % names.len()])).collect();
        let mut blocked = Blocked::default();
        for name in names.iter().step_by(names.len() / DRY) {
            blocked.note(&dry(name)?, now);
        }
        Ok(Self {
            now,
            rules: Instances::default(),
            catalog,
            prices,
            subnets: ZONES.map(subnet).into(),
            reservations,
            blocked,
        })
    }
}

fn reservation(number: usize, instance_type: &str) -> Reservation {
    let zone = ZONES[number % ZONES.len()].to_owned();
    Reservation {
        id: format!("cr-{number:017x}"),
        owner_id: "000000000000".to_owned(),
        ours: true,
        kind: ReservationKind::OnDemand,
        instance_type: instance_type.to_owned(),
        platform: "Linux/UNIX".to_owned(),
        tenancy: Tenancy::Shared,
        zone: zone.clone(),
        zone_id: zone,
        total: 4,
        available: 2,
        state: ReservationState::Active,
        matches: ReservationMatch::Open,
        starts_at: None,
        ends_at: None,
        placement_group_arn: None,
        block_id: None,
        tags: std::collections::BTreeMap::new(),
    }
}

fn dry(instance_type: &str) -> Result<avoid::Avoid> {
    let code = "InsufficientInstanceCapacity".to_owned();
    let error = CloudError::NoCapacity { code, message: String::new() };
    let attempt = Attempt {
        purchase: &Purchase::OnDemand,
        selection: Selection::Cheapest,
        instance_type,
        zone: ZONES[0],
        subnet_id: "",
        volume_kind: "gp3",
        placement_group: None,
    };
    avoid::of_error(&error, &attempt).avoid.context("a dry pool is avoided")
}
