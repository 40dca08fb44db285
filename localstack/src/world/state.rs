//! Everything that changes: instances, client tokens, capacity, addresses, tags. Pure; the time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::addresses::Addresses;
use super::devices::Left;
use super::estate::Estate;
use super::instance::{Instance, State, Timing};
use super::launch::TokenUse;
use super::past::Past;
use super::pools::{Market, Pools};
use super::prices::Prices;
use super::purchase::Lifecycle;
use super::quotas::Quotas;
use super::reservations::Reservation;
use super::throttle::Throttle;
use crate::clock;

/// How long EC2 remembers a token after its instance's end.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The cloud's changing part.
#[derive(Debug)]
pub struct Cloud {
    /// Our account id.
    pub(super) account: String,
    /// By id.
    pub instances: BTreeMap<String, Instance>,
    /// Instances that descriptions have forgotten.
    pub past: Vec<Past>,
    /// By token and zone.
    pub(super) tokens: HashMap<(String, String), TokenUse>,
    pub pools: Pools,
    pub prices: Prices,
    pub quotas: Quotas,
    pub throttle: Throttle,
    /// Capacity Reservations by id, also those that have ended.
    pub reservations: BTreeMap<String, Reservation>,
    /// Volumes and network interfaces that outlived their instances.
    pub left: Left,
    subnets: BTreeMap<String, Addresses>,
    /// Tags of what is not launched: subnets, groups, images, the VPC.
    pub tags: BTreeMap<String, BTreeMap<String, String>>,
    pub timing: Timing,
    pub(super) sequence: u64,
}

impl Cloud {
    #[must_use]
    pub fn new(estate: &Estate, timing: Timing, account: &str, now: Timestamp) -> Self {
        let subnet = |subnet: &super::estate::Subnet| (subnet.id.clone(), Addresses::new(subnet.cidr));
        Self {
            instances: BTreeMap::new(),
            past: Vec::new(),
            tokens: HashMap::new(),
            pools: Pools::default(),
            prices: Prices::new(estate, now),
            quotas: Quotas::default(),
            throttle: Throttle::default(),
            account: account.to_owned(),
            reservations: BTreeMap::new(),
            left: Left::default(),
            subnets: estate.subnets.iter().map(subnet).collect(),
            tags: BTreeMap::new(),
            timing,
            sequence: 0,
        }
    }

    /// Brings everything up to date.
    pub fn settle(&mut self, now: Timestamp) {
        let timing = self.timing;
        self.settle_reservations(now);
        self.settle_notices(now);
        self.settle_events(now);
        let mut ended = Vec::new();
        for instance in self.instances.values_mut().filter(|instance| instance.state != State::Terminated) {
            let before = instance.state;
            instance.advance(now, &timing);
            if instance.state == State::Terminated {
                ended.push(Instance { state: before, ..instance.clone() });
            }
        }
        ended.iter().for_each(|had| self.released(had, now));
        let forgotten = self.instances.extract_if(.., |_, instance| instance.forgotten(now, &timing));
        self.past.extend(forgotten.map(|(_, instance)| Past::of(&instance)));
        self.tokens.retain(|_, used| used.spent.is_none_or(|spent| clock::after(spent, TOKEN_LIFE) > now));
    }

    /// Gives back what a terminated instance had, as it was a moment before its end.
    fn released(&mut self, had: &Instance, now: Timestamp) {
        let zone = &had.subnet.zone;
        let market = match (had.purchase.lifecycle, &had.purchase.reservation) {
            (Lifecycle::OnDemand, None) => Some(Market::OnDemand),
            (Lifecycle::Spot, _) => Some(Market::Spot),
            (Lifecycle::OnDemand, Some(_)) | (Lifecycle::CapacityBlock | Lifecycle::Interruptible, _) => None,
        };
        if let Some(market) = market {
            self.pools.give_back(had.kind.name, zone, market);
        }
        let token = had.client_token.clone().map(|token| (token, zone.clone()));
        if let Some(used) = token.and_then(|token| self.tokens.get_mut(&token)) {
            used.spent = Some(now);
        }
        self.part(had);
    }

    /// Instances that descriptions show, in the order of their launch.
    #[must_use]
    pub fn visible(&self, now: Timestamp) -> Vec<&Instance> {
        let mut instances: Vec<&Instance> =
            self.instances.values().filter(|instance| instance.visible(now, &self.timing)).collect();
        instances.sort_by_key(|instance| instance.sequence);
        instances
    }

    /// The addresses of a subnet of the estate.
    #[must_use]
    pub fn subnet(&self, id: &str) -> &Addresses {
        self.subnets.get(id).expect("every subnet of the estate has its addresses")
    }

    pub fn subnet_mut(&mut self, id: &str) -> &mut Addresses {
        self.subnets.get_mut(id).expect("every subnet of the estate has its addresses")
    }
}
