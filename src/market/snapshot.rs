//! The market at one moment, and how readings and launches change it. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::capacity::blocked::Blocked;
use crate::capacity::spend::{Budget, Rates};
use crate::capacity::world::{Catalog, Offer, Prices, Source, Usable, World};
use crate::cloud::{Block, InstanceType, Reservation, ReservationState, SpotPrice, Subnet};
use crate::config::Instances;

/// Addresses of a subnet that one machine takes: its own and its pod's.
const ADDRESSES: u32 = 2;
/// Sooner than this nothing is read again, whatever changes.
const SOONEST: Duration = Duration::from_secs(1);
/// A reservation that should have begun is looked for this often, and for so long.
const LATE: Duration = Duration::from_secs(5);
const LATE_FOR: Duration = Duration::from_secs(300);

/// What is known of the market.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub catalog: Catalog,
    pub prices: Prices,
    /// In their configured order, less what our launches took.
    pub subnets: Vec<Subnet>,
    pub reservations: Vec<Reservation>,
    pub blocks: Vec<Block>,
    /// Launches that the reservations do not count yet, by reservation id.
    in_flight: HashMap<String, u32>,
    launches: Vec<Launch>,
    tickets: u64,
}

/// A launch into a reservation.
#[derive(Clone, Debug)]
struct Launch {
    ticket: u64,
    reservation_id: String,
    /// `None` as long as the cloud has not answered.
    at: Option<Instant>,
}

impl Snapshot {
    /// As a plan wants it.
    #[must_use]
    pub fn world<'a>(
        &'a self,
        now: Timestamp,
        rules: &'a Instances,
        blocked: &'a Blocked,
        budget: Option<Budget>,
    ) -> World<'a> {
        World {
            now,
            rules,
            catalog: &self.catalog,
            prices: &self.prices,
            subnets: &self.subnets,
            reservations: &self.reservations,
            blocks: &self.blocks,
            in_flight: &self.in_flight,
            blocked,
            budget,
        }
    }

    /// What machines cost, as far as is known.
    #[must_use]
    pub fn rates(&self) -> Rates<'_> {
        Rates { prices: &self.prices, reservations: &self.reservations }
    }

    /// Launches into a reservation that it does not count yet.
    #[must_use]
    pub fn in_flight(&self, reservation_id: &str) -> u32 {
        self.in_flight.get(reservation_id).copied().unwrap_or(0)
    }

    /// All of them, by reservation id.
    #[must_use]
    pub fn all_in_flight(&self) -> BTreeMap<String, u32> {
        self.in_flight.iter().map(|(id, count)| (id.clone(), *count)).collect()
    }

    pub(super) fn offer(
        &mut self,
        types: Vec<InstanceType>,
        zones: &BTreeMap<String, Vec<String>>,
        now: Timestamp,
    ) {
        let mut before = std::mem::take(&mut self.catalog.types);
        let offers = types.into_iter().map(|shape| {
            let learned = before.remove(&shape.name).and_then(|offer| offer.learned);
            let zones = zones.get(&shape.name).into_iter().flatten().cloned().collect();
            (shape.name.clone(), Offer { shape, zones, learned })
        });
        self.catalog = Catalog { types: offers.collect(), source: Source::Api, as_of: Some(now) };
    }

    pub(super) fn quote(&mut self, spot: Vec<SpotPrice>, now: Timestamp) {
        let mut by_type: HashMap<String, BTreeMap<String, _>> = HashMap::new();
        for one in spot {
            by_type.entry(one.instance_type).or_default().insert(one.zone, one.price);
        }
        self.prices.spot = by_type;
        self.prices.spot_as_of = Some(now);
    }

    /// Whether a reservation or Capacity Block of that id was in the last reading.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.reservations.iter().any(|one| one.id == id || one.block_id.as_deref() == Some(id))
            || self.blocks.iter().any(|one| one.id == id)
    }

    /// Whether a reservation has room for one more, as far as is known.
    pub(super) fn has_room(&self, reservation_id: &str) -> bool {
        let known = self.reservations.iter().find(|one| one.id == reservation_id);
        known.is_none_or(|one| one.available > self.in_flight(reservation_id))
    }

    /// Takes over what the cloud says of reservations; launches from before the reading are counted in it.
    pub(super) fn reserve(&mut self, reservations: Vec<Reservation>, blocks: Vec<Block>, began: Instant) {
        self.reservations = reservations;
        self.blocks = blocks;
        self.launches.retain(|one| one.at.is_none_or(|at| at >= began));
        self.count();
    }

    /// A launch is about to be tried there; its ticket.
    pub(super) fn take(&mut self, subnet_id: &str, reservation_id: Option<&str>) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        if let Some(one) = self.subnet(subnet_id) {
            one.free_addresses = one.free_addresses.saturating_sub(ADDRESSES);
        }
        if let Some(id) = reservation_id {
            self.launches.push(Launch { ticket, reservation_id: id.to_owned(), at: None });
            self.count();
        }
        ticket
    }

    /// The machine is there: a reading that begins later counts it.
    pub(super) fn landed(&mut self, ticket: u64, now: Instant) {
        for launch in self.launches.iter_mut().filter(|one| one.ticket == ticket) {
            launch.at = Some(now);
        }
    }

    /// There is no machine.
    pub(super) fn give_back(&mut self, ticket: u64, subnet_id: &str) {
        if let Some(one) = self.subnet(subnet_id) {
            one.free_addresses = one.free_addresses.saturating_add(ADDRESSES);
        }
        self.launches.retain(|one| one.ticket != ticket);
        self.count();
    }

    fn subnet(&mut self, id: &str) -> Option<&mut Subnet> {
        self.subnets.iter_mut().find(|one| one.id == id)
    }

    pub(super) fn learn(&mut self, instance_type: &str, usable: Usable) {
        if let Some(offer) = self.catalog.types.get_mut(instance_type) {
            offer.learned = Some(usable);
        }
    }

    /// How far away the next start or end of a reservation is, or the next look for one that is late.
    pub(super) fn next_turn(&self, now: Timestamp) -> Option<Duration> {
        let away =
            |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default().max(SOONEST);
        let is_late = |one: &Reservation| {
            let begun = one.starts_at.and_then(|at| Duration::try_from(now.duration_since(at)).ok());
            one.state == ReservationState::Scheduled && begun.is_some_and(|since| since < LATE_FOR)
        };
        let late = self.reservations.iter().any(is_late).then_some(LATE);
        let turns = self.reservations.iter().flat_map(|one| [one.starts_at, one.ends_at]).flatten();
        let next = turns.filter(|at| *at > now).min().map(away);
        next.into_iter().chain(late).min()
    }

    fn count(&mut self) {
        self.in_flight.clear();
        for launch in &self.launches {
            *self.in_flight.entry(launch.reservation_id.clone()).or_default() += 1;
        }
    }
}

/// A machine that gives much less than its type has, or more, is not one to learn from: a local cloud's sees its host.
pub(super) fn is_plausible(shape: &InstanceType, usable: Usable) -> bool {
    let (cpu, memory) = (u64::from(shape.vcpus) * 1000, shape.memory_mib << 20);
    let near = |has: u64, of: u64| has <= of && has >= of / 4 * 3;
    near(usable.cpu_milli, cpu) && near(usable.memory_bytes, memory)
}
