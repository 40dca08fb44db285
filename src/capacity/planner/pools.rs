//! Machines that nobody named a reservation for: on demand, spot, in a resource group's reservations or any open one.

use super::Selection;
use super::limits;
use super::order::How;
use super::pass::{Cost, Fit, Pass, Place, Rank};
use super::rule::Rule;
use crate::capacity::avoid::reservation_target;
use crate::capacity::money::MicroUsd;
use crate::cloud::{Purchase, ReservationMatch, ReservationState};
use crate::pod::wishes::{CapacityType, Preference};

/// How a type of the pass is bought, in one market.
#[derive(Clone, Copy, Debug)]
struct Way<'a> {
    how: How<'a>,
    rank: u8,
}

impl<'a> Pass<'a, '_> {
    /// Candidates of every fitting type in every place.
    pub(super) fn search_pools(&mut self, fits: &[Fit<'a>]) {
        let ways = self.ways();
        if ways.is_empty() {
            return;
        }
        let places = std::mem::take(&mut self.places);
        for fit in fits {
            let sold: Vec<Way<'a>> = ways.iter().copied().filter(|way| self.is_sold(fit, *way)).collect();
            if !sold.is_empty() {
                self.search_type(fit, &sold, &places);
            }
        }
        self.places = places;
    }

    fn ways(&self) -> Vec<Way<'a>> {
        let mut ways = Vec::new();
        let mut add = |how: How<'a>, rank: Option<u8>| {
            ways.extend(rank.map(|rank| Way { how, rank }));
        };
        add(How::OnDemand, self.markets.rank(CapacityType::OnDemand));
        add(How::Spot, self.markets.rank(CapacityType::Spot));
        let reserved = self.markets.rank(CapacityType::Reserved);
        let wish = &self.ask.wishes.reservation;
        if wish.group_arn.is_some() {
            add(How::Group, reserved);
        } else if wish.preference == Preference::Required && wish.ids.is_empty() && wish.selector.is_none() {
            // Asking EC2 is all that is left where nothing is seen; with another market to go to it is not worth a call.
            add(How::Open, reserved);
        }
        ways
    }

    fn is_sold(&mut self, fit: &Fit<'a>, way: Way<'a>) -> bool {
        let usage = fit.offer.shape.usage;
        let is_sold = match way.how {
            How::Spot => usage.spot,
            How::OnDemand => usage.on_demand,
            // Where ORCA chooses the type, only what it sees is tried.
            How::Group => fit.selection == Selection::Listed || self.sees_reservation(&fit.offer.shape.name),
            How::Open => fit.selection == Selection::Listed,
            How::Reserved(_) => false,
        };
        if !is_sold && matches!(way.how, How::Spot | How::OnDemand) {
            let market = way.how.market();
            self.ledger.note(Rule::MarketNotSold, || format!("{} {}", market.name(), fit.offer.shape.name));
        }
        is_sold
    }

    fn search_type(&mut self, fit: &Fit<'a>, ways: &[Way<'a>], places: &[Place<'a>]) {
        let name = &fit.offer.shape.name;
        let spots = self.world.prices.spot.get(name);
        for place in places {
            let zone = &place.subnet.zone;
            if !self.is_offered(fit.offer, zone) {
                let is_default = limits::is_default_type(self.world.rules, name);
                // The operator's default is never the pod's fault.
                let rule = if is_default { Rule::DefaultType } else { Rule::NotOffered };
                self.ledger.note(rule, || format!("{name} in {zone}"));
                continue;
            }
            if !self.has_room(place) {
                continue;
            }
            for way in ways {
                let price = match way.how {
                    How::Spot => spots.and_then(|zones| zones.get(zone)).copied(),
                    How::OnDemand | How::Group | How::Open | How::Reserved(_) => fit.list,
                };
                self.try_way(fit, place, *way, price);
            }
        }
    }

    fn try_way(&mut self, fit: &Fit<'a>, place: &Place<'a>, way: Way<'a>, price: Option<MicroUsd>) {
        let (name, zone, market) = (&fit.offer.shape.name, &place.subnet.zone, way.how.market());
        let what = || format!("{} {name} in {zone}", market.name());
        if matches!(way.how, How::Open) && self.sees_open_reservation(name, zone) {
            // Those are candidates by their ids.
            return;
        }
        if let Some(entry) = self.against.of_type(name).find(zone, market) {
            return self.avoided(entry, what);
        }
        let target = match way.how {
            How::Group => self.ask.wishes.reservation.group_arn.as_deref(),
            How::Open => Some(reservation_target(&Purchase::OpenReservation)),
            How::OnDemand | How::Spot | How::Reserved(_) => None,
        };
        if let Some(entry) = target.and_then(|target| self.against.of_reservation(target, name, zone)) {
            return self.avoided(entry, what);
        }
        if let Some(entry) = self.group_against(self.ask.wishes.placement_group.as_deref(), zone) {
            return self.avoided(entry, || format!("placement group in {zone}"));
        }
        if let Err(rule) = self.check_price(market, price) {
            let limit = self.limit(market).unwrap_or_default();
            return self.ledger.note(rule, || match price {
                Some(price) => format!("{} (${price}, limit ${limit} per hour)", what()),
                None => what(),
            });
        }
        let cost = match way.how {
            How::OnDemand | How::Spot => Cost::by_use(price),
            How::Group | How::Open | How::Reserved(_) => Cost::already(price),
        };
        self.take(fit, place, way.how, Rank { market: way.rank, named: 0 }, cost);
    }

    fn sees_reservation(&self, instance_type: &str) -> bool {
        self.world.reservations.iter().any(|one| one.instance_type == instance_type)
    }

    /// Whether an open reservation of the type is known in the zone, with room or without.
    fn sees_open_reservation(&self, instance_type: &str, zone: &str) -> bool {
        self.world.reservations.iter().any(|one| {
            one.instance_type == instance_type
                && one.zone == zone
                && one.matches == ReservationMatch::Open
                && one.state == ReservationState::Active
        })
    }

    pub(super) fn group_against(
        &self,
        group: Option<&str>,
        zone: &str,
    ) -> Option<&'a crate::capacity::blocked::Entry> {
        self.against.of_group(group?, zone)
    }
}
