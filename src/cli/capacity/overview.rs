//! What is known of capacity at one moment: the schema of `orca capacity -o json`, and what the tables are made from.
//! Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::capacity::live::Live;
use crate::capacity::planner::drain_time;
use crate::cloud::{
    self, BlockState, ReservationKind, ReservationMatch, ReservationState, SpotPrice, Subnet,
};
use crate::config::Instances;

/// Everything. What could not be read is absent, and in the notes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    pub(super) region: String,
    pub(super) as_of: Timestamp,
    pub(super) reservations: Option<Vec<Reservation>>,
    pub(super) blocks: Option<Vec<Block>>,
    pub(super) spot_prices: Option<Vec<Spot>>,
    /// What the running ORCA says.
    pub(super) running: Option<Live>,
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reservation {
    pub(super) id: String,
    /// `on-demand` or `interruptible`.
    pub(super) kind: &'static str,
    pub(super) instance_type: String,
    pub(super) zone: String,
    pub(super) used: u32,
    pub(super) total: u32,
    /// `scheduled`, `active` or `over`.
    pub(super) state: &'static str,
    /// `open` or `targeted`.
    pub(super) match_criteria: &'static str,
    /// Account that owns it.
    pub(super) owner_id: String,
    pub(super) starts_at: Option<Timestamp>,
    pub(super) ends_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Block {
    /// `cb-…`.
    pub(super) id: Option<String>,
    pub(super) reservation_id: Option<String>,
    pub(super) instance_type: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) used: u32,
    pub(super) total: u32,
    /// `scheduled`, `active` or `over`.
    pub(super) state: &'static str,
    pub(super) starts_at: Option<Timestamp>,
    /// When its pods are asked to end.
    pub(super) drains_at: Option<Timestamp>,
    pub(super) ends_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spot {
    pub(super) instance_type: String,
    pub(super) zone: String,
    /// Dollars.
    pub(super) price_per_hour: String,
    pub(super) since: Timestamp,
}

/// Reservations that are no Capacity Blocks.
pub(super) fn reservations(all: &[cloud::Reservation]) -> Vec<Reservation> {
    let shown = all.iter().filter_map(|one| {
        let kind = match one.kind {
            ReservationKind::OnDemand => "on-demand",
            ReservationKind::Interruptible => "interruptible",
            ReservationKind::CapacityBlock => return None,
        };
        Some(Reservation {
            id: one.id.clone(),
            kind,
            instance_type: one.instance_type.clone(),
            zone: one.zone.clone(),
            used: used(one),
            total: one.total,
            state: state(one.state),
            match_criteria: match one.matches {
                ReservationMatch::Open => "open",
                ReservationMatch::Targeted => "targeted",
            },
            owner_id: one.owner_id.clone(),
            starts_at: one.starts_at,
            ends_at: one.ends_at,
        })
    });
    let mut shown: Vec<_> = shown.collect();
    shown.sort_by(|one, other| one.id.cmp(&other.id));
    shown
}

/// Capacity Blocks, one for each reservation of theirs, and those that have none yet.
pub(super) fn blocks(reservations: &[cloud::Reservation], blocks: &[cloud::Block]) -> Vec<Block> {
    let of_reservations = reservations.iter().filter(|one| one.kind == ReservationKind::CapacityBlock);
    let mut shown: Vec<Block> = of_reservations
        .clone()
        .map(|one| {
            let block = blocks.iter().find(|block| block.reservation_ids.contains(&one.id));
            Block {
                id: one.block_id.clone().or_else(|| block.map(|block| block.id.clone())),
                reservation_id: Some(one.id.clone()),
                instance_type: Some(one.instance_type.clone()),
                zone: Some(one.zone.clone()),
                used: used(one),
                total: one.total,
                state: state(one.state),
                starts_at: one.starts_at,
                drains_at: one.ends_at.map(|end| drain_time(&one.instance_type, end)),
                ends_at: one.ends_at,
            }
        })
        .collect();
    let seen: BTreeSet<&String> = of_reservations.map(|one| &one.id).collect();
    let bare = blocks.iter().filter(|block| !block.reservation_ids.iter().any(|id| seen.contains(id)));
    let known: BTreeSet<Option<String>> = shown.iter().map(|one| one.id.clone()).collect();
    shown.extend(bare.filter(|block| !known.contains(&Some(block.id.clone()))).map(|block| Block {
        id: Some(block.id.clone()),
        reservation_id: None,
        instance_type: None,
        zone: None,
        used: 0,
        total: 0,
        state: match block.state {
            BlockState::Scheduled => "scheduled",
            BlockState::Active => "active",
            BlockState::Over => "over",
        },
        starts_at: block.starts_at,
        drains_at: None,
        ends_at: block.ends_at,
    }));
    shown.sort_by(|one, other| (one.starts_at, &one.id).cmp(&(other.starts_at, &other.id)));
    shown
}

/// Prices of the wanted types in the zones of our subnets; without subnets, in all.
pub(super) fn spot(prices: &[SpotPrice], subnets: &[Subnet], types: &[String]) -> Vec<Spot> {
    let is_ours = |zone: &str| subnets.is_empty() || subnets.iter().any(|subnet| subnet.zone == zone);
    let wanted = prices.iter().filter(|one| is_ours(&one.zone) && is_wanted(types, &one.instance_type));
    let mut shown: Vec<&SpotPrice> = wanted.collect();
    shown.sort_by_key(|one| (&one.instance_type, one.price, &one.zone));
    let spot = |one: &SpotPrice| Spot {
        instance_type: one.instance_type.clone(),
        zone: one.zone.clone(),
        price_per_hour: one.price.to_string(),
        since: one.since,
    };
    shown.into_iter().map(spot).collect()
}

/// The types that the configuration names, in its defaults and templates, else those that it allows.
pub(super) fn wanted_types(rules: &Instances) -> Vec<String> {
    let mut named: Vec<String> = rules.named_types().into_iter().map(str::to_owned).collect();
    if named.is_empty() {
        named = rules.allowed_instance_types.clone().unwrap_or_default();
    }
    named
}

fn is_wanted(types: &[String], name: &str) -> bool {
    types.iter().any(|one| one.strip_suffix('*').map_or(one == name, |start| name.starts_with(start)))
}

/// What EC2 does not make available before the start is not used.
fn used(one: &cloud::Reservation) -> u32 {
    match one.state {
        ReservationState::Active => one.total.saturating_sub(one.available),
        ReservationState::Scheduled | ReservationState::Over => 0,
    }
}

fn state(state: ReservationState) -> &'static str {
    match state {
        ReservationState::Scheduled => "scheduled",
        ReservationState::Active => "active",
        ReservationState::Over => "over",
    }
}
