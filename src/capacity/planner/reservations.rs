//! Machines in reservations and Capacity Blocks: those that the pod names, and those that are discovered.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Selection;
use super::limits;
use super::order::How;
use super::pass::{Cost, Fit, Pass, Place, Rank};
use super::rule::Rule;
use super::types::Types;
use crate::capacity::world::Source;
use crate::cloud::{BlockState, Purchase, Reservation, ReservationKind, ReservationMatch, ReservationState};
use crate::pod::wishes::{CapacityType, ReservationSelector};

/// EC2 ends the machines of a block half an hour before its end; ten minutes before that, pods are asked to go.
const DRAIN: Duration = Duration::from_secs(40 * 60);
/// Of UltraServers EC2 ends them an hour before.
const DRAIN_ULTRA: Duration = Duration::from_secs(70 * 60);
/// The platform of every Linux that is not sold by the hour.
const PLATFORM: &str = "Linux/UNIX";

/// The market of a reservation.
pub(super) fn market(reservation: &Reservation) -> CapacityType {
    match reservation.kind {
        ReservationKind::OnDemand => CapacityType::Reserved,
        ReservationKind::CapacityBlock => CapacityType::CapacityBlock,
        ReservationKind::Interruptible => CapacityType::Interruptible,
    }
}

/// How a machine in it is bought.
pub(super) fn purchase(reservation: &Reservation) -> Purchase {
    let id = reservation.id.clone();
    match reservation.kind {
        ReservationKind::OnDemand => Purchase::Reservation { id },
        ReservationKind::CapacityBlock => Purchase::CapacityBlock { id },
        ReservationKind::Interruptible => Purchase::Interruptible { id },
    }
}

/// When pods have to leave a Capacity Block, so that they end by themselves and not by EC2.
#[must_use]
pub fn drain_time(instance_type: &str, ends_at: Timestamp) -> Timestamp {
    let is_ultra = ["u-", "p6e-", "trn2u."].iter().any(|start| instance_type.starts_with(start));
    ends_at.checked_sub(if is_ultra { DRAIN_ULTRA } else { DRAIN }).unwrap_or(Timestamp::MIN)
}

/// What is against a reservation.
struct Flaw {
    rule: Rule,
    until: Option<Timestamp>,
    detail: String,
}

impl Flaw {
    fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self { rule, until: None, detail: detail.into() }
    }
}

impl<'a> Pass<'a, '_> {
    /// Whether reservations are looked for that nobody named.
    pub(super) fn discovers(&self, market: CapacityType) -> bool {
        let wish = &self.ask.wishes.reservation;
        let is_named = match market {
            CapacityType::CapacityBlock => self.ask.wishes.block_id.is_some(),
            CapacityType::Reserved => !wish.ids.is_empty() || wish.group_arn.is_some(),
            CapacityType::Interruptible => !wish.ids.is_empty(),
            CapacityType::Spot | CapacityType::OnDemand => true,
        };
        !is_named && self.markets.rank(market).is_some()
    }

    /// Candidates in the reservations that the pod names.
    pub(super) fn search_named(&mut self) {
        let world = self.world;
        let wishes = &self.ask.wishes;
        let mut named: Vec<(&'a Reservation, u16)> = Vec::new();
        for (id, rank) in wishes.reservation.ids.iter().zip(0..) {
            match world.reservations.iter().find(|one| one.id == *id) {
                Some(reservation) => named.push((reservation, rank)),
                None => self.ledger.note(Rule::ReservationUnknown, || format!("`{id}`")),
            }
        }
        if let Some(id) = &wishes.block_id {
            named.extend(self.of_block(id).into_iter().map(|one| (one, 0)));
        }
        for (reservation, rank) in named {
            self.try_named(reservation, rank);
        }
    }

    /// The reservations of a block, which is named by its own id or by a reservation's.
    fn of_block(&mut self, id: &str) -> Vec<&'a Reservation> {
        let world = self.world;
        if id.starts_with("cr-") {
            match world.reservations.iter().find(|one| one.id == id) {
                Some(one) if one.kind == ReservationKind::CapacityBlock => return vec![one],
                Some(_) => {
                    self.ledger.note(Rule::ReservationNotMeant, || format!("`{id}` (no Capacity Block)"))
                }
                None => self.ledger.note(Rule::ReservationUnknown, || format!("`{id}`")),
            }
            return Vec::new();
        }
        let block = world.blocks.iter().find(|one| one.id == id);
        let is_of_it = |one: &&Reservation| {
            one.block_id.as_deref() == Some(id)
                || block.is_some_and(|block| block.reservation_ids.contains(&one.id))
        };
        let found: Vec<_> = world.reservations.iter().filter(is_of_it).collect();
        if found.is_empty() {
            match block {
                Some(block) if block.state == BlockState::Over => {
                    self.ledger.note(Rule::ReservationOver, || format!("`{id}`"));
                }
                Some(block) => self.ledger.note_until(Rule::ReservationScheduled, block.starts_at, || {
                    format!("`{id}`{}", begins(block.starts_at))
                }),
                None => self.ledger.note(Rule::ReservationUnknown, || format!("`{id}`")),
            }
        }
        found
    }

    fn try_named(&mut self, reservation: &'a Reservation, named: u16) {
        let Reservation { id, instance_type, .. } = reservation;
        let listed = &self.ask.wishes.instance_types;
        let type_rank = listed.iter().position(|name| name == instance_type);
        if !listed.is_empty() && type_rank.is_none() {
            let example = format!("`{id}` ({instance_type}, expected `{}`)", listed.join("`, `"));
            return self.refuse(Rule::ReservationType, &example);
        }
        let market = market(reservation);
        if !limits::allows_market(self.world.rules, market) {
            return self.ledger.note(Rule::MarketNotAllowed, || format!("{} `{id}`", market.name()));
        }
        let Some(rank) = self.markets.rank_of_named(market) else {
            return;
        };
        let Some(offer) = self.world.catalog.types.get(instance_type) else {
            let is_shipped = self.world.catalog.source == Source::Shipped;
            let rule = if is_shipped { Rule::CatalogNotRead } else { Rule::UnknownType };
            return self.ledger.note(rule, || format!("{instance_type} of `{id}`"));
        };
        let type_rank = type_rank.and_then(|rank| u16::try_from(rank).ok()).unwrap_or_default();
        let fit = self.fit(offer, Selection::Named, type_rank);
        if let Err(rule) = self.demand.check(offer, fit.selection) {
            return self.ledger.note(rule, || format!("{instance_type} of `{id}`"));
        }
        self.try_reservation(&fit, reservation, Rank { market: rank, named });
    }

    /// Candidates in reservations that nobody named, of types that fit.
    pub(super) fn search_discovered(&mut self, types: &Types<'a>) {
        if types.search.as_ref().is_none_or(|search| !search.found) {
            // No reservation, now or later, helps a pod that fits no type.
            return;
        }
        let markets = [CapacityType::Reserved, CapacityType::CapacityBlock, CapacityType::Interruptible];
        let markets =
            markets.map(|market| (market, self.markets.rank(market).filter(|_| self.discovers(market))));
        if markets.iter().all(|(_, rank)| rank.is_none()) {
            return;
        }
        let before = self.drafts.len();
        let by_name: HashMap<&str, &Fit<'a>> =
            types.fits.iter().map(|fit| (fit.offer.shape.name.as_str(), fit)).collect();
        for reservation in self.world.reservations {
            let bought = market(reservation);
            let Some(rank) = markets.iter().find(|(market, _)| *market == bought).and_then(|(_, rank)| *rank)
            else {
                continue;
            };
            if self.ask.wishes.reservation.ids.contains(&reservation.id) {
                // A block may be named as a reservation: then it is a candidate already.
                continue;
            }
            if !self.is_meant(reservation) {
                self.ledger.note(Rule::ReservationNotMeant, || format!("`{}`", reservation.id));
                continue;
            }
            let Some(fit) = by_name.get(reservation.instance_type.as_str()) else {
                let example = || format!("`{}` ({})", reservation.id, reservation.instance_type);
                self.ledger.note(Rule::ReservationType, example);
                continue;
            };
            self.try_reservation(fit, reservation, Rank { market: rank, named: 0 });
        }
        if self.drafts.len() == before {
            let listed = self.ask.wishes.instance_types.join(", ");
            let what = if listed.is_empty() { "of any type that fits".to_owned() } else { listed };
            self.ledger.note(Rule::ReservationNone, || what);
        }
    }

    /// By the selector if there is one; else whatever is open to everybody of the account.
    fn is_meant(&self, reservation: &Reservation) -> bool {
        match &self.ask.wishes.reservation.selector {
            Some(selector) => selects(selector, reservation),
            None => {
                reservation.matches == ReservationMatch::Open || reservation.kind != ReservationKind::OnDemand
            }
        }
    }

    fn try_reservation(&mut self, fit: &Fit<'a>, reservation: &'a Reservation, rank: Rank) {
        if let Err(flaw) = self.examine(fit, reservation) {
            let Flaw { rule, until, detail } = flaw;
            return self.ledger.note_until(rule, until, || format!("`{}`{detail}", reservation.id));
        }
        let Reservation { id, instance_type, zone, .. } = reservation;
        let group = reservation.placement_group_arn.as_deref().or(self.ask.wishes.placement_group.as_deref());
        let entry = self.against.of_reservation(id, instance_type, zone);
        let entry = entry.or_else(|| self.against.of_type(instance_type).find(zone, market(reservation)));
        if let Some(entry) = entry.or_else(|| self.group_against(group, zone)) {
            return self.avoided(entry, || format!("`{id}`"));
        }
        let is_paid = reservation.ours || reservation.kind == ReservationKind::CapacityBlock;
        let cost = if is_paid { Cost::already(fit.list) } else { Cost::by_use(fit.list) };
        let places = std::mem::take(&mut self.places);
        for place in places.iter().filter(|place| is_in(place, reservation)) {
            if self.has_room(place) {
                self.take(fit, place, How::Reserved(reservation), rank, cost);
            }
        }
        self.places = places;
    }

    /// What can never be comes before what time may change.
    fn examine(&self, fit: &Fit<'_>, one: &Reservation) -> Result<(), Flaw> {
        let (wishes, now) = (&self.ask.wishes, self.world.now);
        let is_ended = one.ends_at.is_some_and(|end| end <= now);
        if one.state == ReservationState::Over || is_ended {
            return Err(Flaw::new(Rule::ReservationOver, ""));
        }
        if one.tenancy != wishes.tenancy {
            return Err(Flaw::new(Rule::ReservationTenancy, ""));
        }
        if one.platform != PLATFORM {
            return Err(Flaw::new(Rule::ReservationPlatform, format!(" ({})", one.platform)));
        }
        if let (Some(arn), Some(wish)) = (&one.placement_group_arn, &wishes.placement_group)
            && arn != wish
            && !arn.ends_with(&format!(":placement-group/{wish}"))
        {
            return Err(Flaw::new(Rule::ReservationPlacement, format!(" ({arn})")));
        }
        if !self.places.iter().any(|place| is_in(place, one)) {
            return Err(Flaw::new(Rule::ReservationZone, format!(" ({}, {})", one.zone, one.zone_id)));
        }
        self.examine_time(one)?;
        if one.state == ReservationState::Scheduled {
            return Err(Flaw {
                rule: Rule::ReservationScheduled,
                until: one.starts_at.filter(|at| *at > now),
                detail: begins(one.starts_at),
            });
        }
        let under_way = self.world.in_flight.get(&one.id).copied().unwrap_or_default();
        if one.available <= under_way {
            return Err(Flaw::new(
                Rule::ReservationFull,
                format!(" ({} of {} in use)", one.total, one.total),
            ));
        }
        self.check_price(market(one), fit.list)
            .map_err(|rule| Flaw::new(rule, format!(" ({})", one.instance_type)))
    }

    fn examine_time(&self, one: &Reservation) -> Result<(), Flaw> {
        let Some(end) = one.ends_at else {
            return Ok(());
        };
        let end = match one.kind {
            ReservationKind::CapacityBlock => drain_time(&one.instance_type, end),
            ReservationKind::OnDemand | ReservationKind::Interruptible => end,
        };
        let now = self.world.now;
        let begin = match one.state {
            ReservationState::Scheduled => one.starts_at.map_or(now, |start| start.max(now)),
            ReservationState::Active | ReservationState::Over => now,
        };
        let need = begin.checked_add(self.needs().unwrap_or_default()).unwrap_or(Timestamp::MAX);
        if begin >= end || need > end {
            return Err(Flaw::new(Rule::ReservationEnds, format!(" (to be left by {end})")));
        }
        Ok(())
    }
}

fn is_in(place: &Place<'_>, reservation: &Reservation) -> bool {
    // Names of zones differ between accounts, ids do not.
    place.subnet.zone_id == reservation.zone_id
}

fn selects(selector: &ReservationSelector, reservation: &Reservation) -> bool {
    let has = |(key, value): &(String, Option<String>)| {
        let found = reservation.tags.get(key);
        found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
    };
    selector.owner_id.as_ref().is_none_or(|owner| *owner == reservation.owner_id)
        && selector.tags.iter().all(has)
}

fn begins(at: Option<Timestamp>) -> String {
    at.map(|at| format!(" (begins at {at})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ultra_servers_are_left_half_an_hour_earlier() {
        let end = Timestamp::from_second(7200).unwrap();
        for (name, minutes) in
            [("p5.48xlarge", 80), ("trn2.48xlarge", 80), ("trn2u.48xlarge", 50), ("p6e-gb200.36xlarge", 50)]
        {
            assert_eq!(drain_time(name, end).as_second(), minutes * 60, "{name}");
        }
    }
}
