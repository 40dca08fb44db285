//! One pass over the world for one pod: what is read once, and what is found on the way.

use std::time::Duration;

use super::Selection;
use super::against::Against;
use super::explain;
use super::ledger::Ledger;
use super::markets::Markets;
use super::order::{self, Draft, How, Key, Paid};
use super::rule::Rule;
use super::shape::{self, Demand};
use crate::capacity::blocked::Entry;
use crate::capacity::money::MicroUsd;
use crate::capacity::spend::Budget;
use crate::capacity::world::{Offer, Source, World};
use crate::cloud::{RootVolume, Subnet, Tenancy};
use crate::pod::ask::Ask;
use crate::pod::wishes::CapacityType;

/// Addresses of a subnet that one machine takes: its own and its pod's.
const ADDRESSES: u32 = 2;

#[derive(Debug)]
pub(super) struct Pass<'a, 'q> {
    pub(super) ask: &'q Ask,
    pub(super) world: World<'a>,
    pub(super) demand: Demand<'q>,
    pub(super) markets: Markets,
    pub(super) against: Against<'a>,
    pub(super) places: Vec<Place<'a>>,
    pub(super) ledger: Ledger,
    pub(super) drafts: Vec<Draft<'a>>,
}

/// A subnet that the pod may be in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) subnet: &'a Subnet,
    pub(super) rank: u16,
    hash: u64,
    /// Against anything there.
    against: Option<&'a Entry>,
}

/// A type that is right for the pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit<'a> {
    pub(super) offer: &'a Offer,
    pub(super) selection: Selection,
    /// Place in the list of types.
    pub(super) rank: u16,
    /// On demand.
    pub(super) list: Option<MicroUsd>,
    hash: u64,
}

impl<'a, 'q> Pass<'a, 'q> {
    pub(super) fn new(ask: &'q Ask, world: &World<'a>) -> Self
    where
        'a: 'q,
    {
        let mut pass = Self {
            ask,
            world: *world,
            demand: Demand::of(ask, world.rules),
            markets: Markets::of(ask, world.rules),
            against: Against::of(world.blocked, world.now),
            places: Vec::with_capacity(world.subnets.len()),
            ledger: Ledger::default(),
            drafts: Vec::new(),
        };
        for market in std::mem::take(&mut pass.markets.not_allowed) {
            pass.ledger.note(Rule::MarketNotAllowed, || market.name().to_owned());
        }
        pass.check_storage();
        pass.find_places();
        pass
    }

    fn check_storage(&mut self) {
        let (asked, size_gib) = (self.ask.ephemeral_bytes, self.root_volume().size_gib);
        if asked > u64::from(size_gib) << 30 {
            self.ledger.note(Rule::Storage, || format!("root volume of {size_gib}Gi"));
            self.ledger.fatal.push((Rule::Storage, explain::storage(asked, size_gib)));
        }
    }

    fn find_places(&mut self) {
        let wishes = &self.ask.wishes;
        if self.world.subnets.is_empty() {
            self.ledger.note(Rule::NoSubnet, || "the configuration".to_owned());
            return;
        }
        for wished in &wishes.subnet_ids {
            if !self.world.subnets.iter().any(|subnet| subnet.id == *wished) {
                self.refuse(Rule::UnknownSubnet, &format!("`{wished}`"));
            }
        }
        let volume_kind = &self.root_volume().kind;
        for (subnet, rank) in self.world.subnets.iter().zip(0..) {
            let is_one_of =
                |all: &[String], any: &[&String]| all.is_empty() || all.iter().any(|one| any.contains(&one));
            if !is_one_of(&wishes.zones, &[&subnet.zone, &subnet.zone_id]) {
                self.ledger.note(Rule::ZoneNotWished, || subnet_name(subnet));
            } else if !is_one_of(&wishes.subnet_ids, &[&subnet.id]) {
                self.ledger.note(Rule::SubnetNotWished, || subnet_name(subnet));
            } else {
                self.places.push(Place {
                    subnet,
                    rank,
                    hash: order::stable_hash(order::HASH_START, &subnet.id),
                    against: self.against.of_place(&subnet.id, &subnet.zone, volume_kind),
                });
            }
        }
    }

    /// The root volume that the machine would have.
    pub(super) fn root_volume(&self) -> &'q RootVolume
    where
        'a: 'q,
    {
        self.ask.wishes.root_volume.as_ref().unwrap_or(&self.world.rules.root_volume)
    }

    pub(super) fn fit(&self, offer: &'a Offer, selection: Selection, rank: u16) -> Fit<'a> {
        let shared = || self.world.prices.on_demand.get(&offer.shape.name).copied();
        let list = match self.ask.wishes.tenancy {
            Tenancy::Shared => shared(),
            // Dedicated instances cost more than the list says, by type and region.
            Tenancy::Dedicated => None,
        };
        let start = order::stable_hash(order::HASH_START, &self.ask.uid);
        Fit { offer, selection, rank, list, hash: order::stable_hash(start, &offer.shape.name) }
    }

    /// Whether the zone has the type. The shipped catalog does not know zones: there it is offered everywhere.
    pub(super) fn is_offered(&self, offer: &Offer, zone: &str) -> bool {
        offer.zones.contains(zone) || (self.world.catalog.source == Source::Shipped && offer.zones.is_empty())
    }

    /// Whether a machine of any type can be put there now; noted if not.
    pub(super) fn has_room(&mut self, place: &Place<'_>) -> bool {
        if place.subnet.free_addresses < ADDRESSES {
            self.ledger.note(Rule::NoAddress, || {
                format!("{} ({} addresses)", subnet_name(place.subnet), place.subnet.free_addresses)
            });
            return false;
        }
        let Some(entry) = place.against else {
            return true;
        };
        self.avoided(entry, || subnet_name(place.subnet));
        false
    }

    pub(super) fn avoided(&mut self, entry: &Entry, what: impl FnOnce() -> String) {
        let example = || format!("{} ({})", what(), entry.code);
        self.ledger.note_until(Rule::Avoided(entry.class), Some(entry.until), example);
    }

    /// Whether the price is within the pod's limits; what is not known is within none.
    pub(super) fn check_price(&self, market: CapacityType, price: Option<MicroUsd>) -> Result<(), Rule> {
        let Some(limit) = self.limit(market) else {
            return Ok(());
        };
        match price {
            None => Err(Rule::PriceUnknown),
            Some(price) if price > limit => Err(Rule::PriceLimit),
            Some(_) => Ok(()),
        }
    }

    /// Whether the operator's budget has room for it; for what is not known there is none.
    fn check_budget(&self, cost: Cost) -> Result<(), Rule> {
        match (self.world.budget, cost.paid, cost.marginal) {
            (None, _, _) | (_, Paid::Already, _) => Ok(()),
            (Some(_), Paid::ByUse, None) => Err(Rule::PriceUnknown),
            (Some(budget), Paid::ByUse, Some(price)) if price > budget.left() => Err(Rule::Budget),
            (Some(_), Paid::ByUse, Some(_)) => Ok(()),
        }
    }

    /// What a machine of this market may cost per hour. A Capacity Block is paid for in advance.
    pub(super) fn limit(&self, market: CapacityType) -> Option<MicroUsd> {
        let wishes = &self.ask.wishes;
        match market {
            CapacityType::OnDemand | CapacityType::Reserved | CapacityType::Interruptible => wishes.max_price,
            CapacityType::CapacityBlock => None,
            CapacityType::Spot => match (wishes.max_price, wishes.max_spot_price) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
        }
    }

    /// Takes a candidate in.
    pub(super) fn take(&mut self, fit: &Fit<'a>, place: &Place<'a>, how: How<'a>, rank: Rank, cost: Cost) {
        let Cost { paid, marginal } = cost;
        if let Err(rule) = self.check_budget(cost) {
            let (market, name, zone) = (how.market().name(), &fit.offer.shape.name, &place.subnet.zone);
            let left = self.world.budget.map_or_else(MicroUsd::default, Budget::left);
            return self.ledger.note(rule, || match marginal {
                Some(price) => format!("{market} {name} in {zone} (${price}, ${left} left per hour)"),
                None => format!("{market} {name} in {zone}"),
            });
        }
        let compared = match paid {
            Paid::Already => fit.list,
            Paid::ByUse => marginal,
        };
        let mut key = Key {
            market_rank: rank.market,
            named_rank: rank.named,
            price: order::price_key(paid, compared),
            ..Key::default()
        };
        match fit.selection {
            Selection::Listed | Selection::Named => (key.type_rank, key.subnet_rank) = (fit.rank, place.rank),
            Selection::Cheapest => {
                let has = shape::nominal(&fit.offer.shape);
                let surplus = self.demand.gpus(&fit.offer.shape).saturating_sub(self.ask.gpus);
                key.surplus_gpus = u32::try_from(surplus).unwrap_or(u32::MAX);
                key.surplus_cpu_milli = has.cpu_milli.saturating_sub(self.ask.cpu_milli);
                key.surplus_memory = has.memory_bytes.saturating_sub(self.ask.memory_bytes);
                key.spread = order::mix(fit.hash, place.hash);
            }
        }
        let draft = Draft {
            key,
            offer: fit.offer,
            subnet: place.subnet,
            how,
            selection: fit.selection,
            list: fit.list,
            marginal,
        };
        self.drafts.push(draft);
    }

    /// A contradiction: the pod is refused whatever else could be had.
    pub(super) fn refuse(&mut self, rule: Rule, example: &str) {
        self.ledger.note(rule, || example.to_owned());
        let problem = explain::problem(rule, example, self.ask);
        self.ledger.fatal.push((rule, problem));
    }

    /// How long a reservation must last, as far as the pod says so.
    pub(super) fn needs(&self) -> Option<Duration> {
        self.ask.wishes.min_runtime.or(self.ask.active_deadline)
    }
}

/// Where a candidate stands by what people listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank {
    pub(super) market: u8,
    pub(super) named: u16,
}

/// What a candidate costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) paid: Paid,
    /// What its use adds to the bill.
    pub(super) marginal: Option<MicroUsd>,
}

impl Cost {
    pub(super) fn by_use(price: Option<MicroUsd>) -> Self {
        Self { paid: Paid::ByUse, marginal: price }
    }

    pub(super) fn already(list: Option<MicroUsd>) -> Self {
        let next_to_nothing = MicroUsd(list.map_or(0, |list| list.0 / order::PAID_DIVISOR));
        Self { paid: Paid::Already, marginal: Some(next_to_nothing) }
    }
}

pub(super) fn subnet_name(subnet: &Subnet) -> String {
    format!("{} ({})", subnet.id, subnet.zone)
}
