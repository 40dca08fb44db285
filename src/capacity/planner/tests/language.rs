//! The language of the scenarios: an ask and a world in a few words, a plan in one line.
//!
//! World: zones `a`, `b`, `c` (ids `az1` …) with a subnet each (`s-a` …), the shipped catalog with its prices, to be
//! had in all of them; spot costs half. Words change it; times are seconds after `now`, or `2h`.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::super::{Planned, RankedBy, Selection, Verdict, plan};
use crate::capacity::avoid::{self, Attempt};
use crate::capacity::blocked::Blocked;
use crate::capacity::money::MicroUsd;
use crate::capacity::shipped::shipped;
use crate::capacity::spend::Budget;
use crate::capacity::world::{Catalog, Prices, Source, Usable, World};
use crate::cloud::{
    Block, BlockState, CloudError, Placement, Purchase, Reservation, ReservationKind, ReservationMatch,
    ReservationState, RootVolume, Subnet, Tenancy,
};
use crate::config::Instances;
use crate::pod::ask::Ask;
use crate::pod::layers::Layer;
use crate::pod::wishes::{CapacityType, GpuShare, Preference, ReservationSelector};

pub(super) const ZONES: [&str; 3] = ["a", "b", "c"];

/// A world that owns what a [`World`] borrows.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) now: Timestamp,
    pub(super) rules: Instances,
    pub(super) catalog: Catalog,
    pub(super) prices: Prices,
    pub(super) subnets: Vec<Subnet>,
    pub(super) reservations: Vec<Reservation>,
    pub(super) blocks: Vec<Block>,
    pub(super) in_flight: HashMap<String, u32>,
    pub(super) blocked: Blocked,
    pub(super) budget: Option<Budget>,
}

impl Owned {
    pub(super) fn new() -> Self {
        let (mut catalog, mut prices) = shipped();
        catalog.source = Source::Api;
        for offer in catalog.types.values_mut() {
            offer.zones = ZONES.map(str::to_owned).into();
            if let Some(price) = prices.on_demand.get(&offer.shape.name) {
                let half = ZONES.map(|zone| (zone.to_owned(), MicroUsd(price.0 / 2)));
                prices.spot.insert(offer.shape.name.clone(), half.into());
            }
        }
        Self::with(catalog, prices)
    }

    pub(super) fn with(catalog: Catalog, prices: Prices) -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            rules: Instances {
                defaults: Layer::of_settings("instances.defaults", &[("instance-type", "t3.large")]),
                ..Instances::default()
            },
            catalog,
            prices,
            subnets: ZONES.into_iter().zip(1..).map(|(zone, n)| subnet(zone, n)).collect(),
            reservations: Vec::new(),
            blocks: Vec::new(),
            in_flight: HashMap::new(),
            blocked: Blocked::default(),
            budget: None,
        }
    }

    pub(super) fn world(&self) -> World<'_> {
        World {
            now: self.now,
            rules: &self.rules,
            catalog: &self.catalog,
            prices: &self.prices,
            subnets: &self.subnets,
            reservations: &self.reservations,
            blocks: &self.blocks,
            in_flight: &self.in_flight,
            blocked: &self.blocked,
            budget: self.budget,
        }
    }

    /// Changes it by a word.
    pub(super) fn change(&mut self, word: &str) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "full" => self.subnet(value).free_addresses = 1,
            "subnets" => self.subnets.retain(|one| value.split(',').any(|id| id == one.id)),
            "unknown" => {
                self.catalog.types.remove(value);
            }
            "gone" => self.not_offered(value),
            "spot" => {
                let (at, price) = value.split_once(':').unwrap();
                let (name, zone) = at.split_once('/').unwrap();
                let zones = self.prices.spot.entry(name.to_owned()).or_default();
                match price {
                    "?" => zones.remove(zone),
                    price => zones.insert(zone.to_owned(), price.parse().unwrap()),
                };
            }
            "price" => {
                let (name, price) = value.split_once(':').unwrap();
                match price {
                    "?" => self.prices.on_demand.remove(name),
                    price => self.prices.on_demand.insert(name.to_owned(), price.parse().unwrap()),
                };
            }
            "learned" => {
                let (name, usable) = value.split_once(':').unwrap();
                let (cpu, memory) = usable.split_once('/').unwrap();
                let usable = Usable { cpu_milli: cpu.parse().unwrap(), memory_bytes: bytes(memory) };
                self.catalog.types.get_mut(name).unwrap().learned = Some(usable);
            }
            "allowed" => {
                self.rules.allowed_instance_types = Some(value.split(',').map(str::to_owned).collect());
            }
            "buys" => self.rules.allowed_capacity_types = value.split(',').map(market).collect(),
            "shipped" => {
                self.catalog.source = Source::Shipped;
                self.catalog.types.values_mut().for_each(|offer| offer.zones = BTreeSet::new());
            }
            "in-flight" => {
                let (id, count) = value.split_once(':').unwrap();
                self.in_flight.insert(id.to_owned(), count.parse().unwrap());
            }
            "fail" => self.fail(value),
            "budget" => {
                let (spent, limit) = value.split_once("of").unwrap();
                self.budget = Some(Budget { limit: limit.parse().unwrap(), spent: spent.parse().unwrap() });
            }
            "later" => self.now += time(value),
            id if id.starts_with("cr-") => self.reservations.push(reservation(id, value)),
            id if id.starts_with("cb-") => self.blocks.push(block(id, value)),
            other => panic!("no word of a world: {other}"),
        }
    }

    fn subnet(&mut self, id: &str) -> &mut Subnet {
        self.subnets.iter_mut().find(|one| one.id == id).unwrap()
    }

    /// `g5.xlarge/a`, or `g5.xlarge` for all zones.
    fn not_offered(&mut self, value: &str) {
        let (name, zone) = value.split_once('/').unwrap_or((value, ""));
        self.catalog.types.get_mut(name).unwrap().zones.retain(|one| !zone.is_empty() && one != zone);
    }

    /// `Code[:g5.xlarge[/a[/spot]]]`, where the last is a market or a reservation; `_` in a code's text is a space.
    fn fail(&mut self, value: &str) {
        let (code, at) = value.split_once(':').unwrap_or((value, "g5.xlarge"));
        let (code, message) = code.split_once('~').unwrap_or((code, ""));
        let mut at = at.split('/');
        let (name, zones, bought) =
            (at.next().unwrap(), at.next().unwrap_or("abc"), at.next().unwrap_or("on-demand"));
        let id = || bought.to_owned();
        let purchase = match bought {
            "on-demand" => Purchase::OnDemand,
            "spot" => Purchase::Spot { max_price: None },
            "open" => Purchase::OpenReservation,
            arn if arn.starts_with("arn:") => Purchase::ReservationGroup { arn: id() },
            _ => Purchase::Reservation { id: id() },
        };
        for zone in zones.split("").filter(|zone| !zone.is_empty()) {
            let error = CloudError::NoCapacity { code: code.to_owned(), message: message.replace('_', " ") };
            let attempt = Attempt {
                purchase: &purchase,
                selection: Selection::Cheapest,
                instance_type: name,
                zone,
                subnet_id: &format!("s-{zone}"),
                volume_kind: "gp3",
                placement_group: Some("pg-1"),
            };
            self.blocked.note(&avoid::of_error(&error, &attempt).avoid.unwrap(), self.now);
        }
    }
}

fn subnet(zone: &str, n: u32) -> Subnet {
    Subnet {
        id: format!("s-{zone}"),
        zone: zone.to_owned(),
        zone_id: format!("az{n}"),
        cidr: "10.0.0.0/24".to_owned(),
        free_addresses: 250,
    }
}

/// `g5.xlarge/a/1of4` and further words.
pub(in crate::capacity) fn reservation(id: &str, text: &str) -> Reservation {
    let mut words = text.split('/');
    let instance_type = words.next().unwrap().to_owned();
    let zone = words.next().unwrap().to_owned();
    let (available, total) = words.next().unwrap().split_once("of").unwrap();
    let zone_id = match ZONES.iter().position(|one| *one == zone) {
        Some(at) => format!("az{}", at + 1),
        None => "az9".to_owned(),
    };
    let mut one = Reservation {
        id: id.to_owned(),
        owner_id: "111122223333".to_owned(),
        ours: true,
        kind: ReservationKind::OnDemand,
        instance_type,
        platform: "Linux/UNIX".to_owned(),
        tenancy: Tenancy::Shared,
        zone,
        zone_id,
        total: total.parse().unwrap(),
        available: available.parse().unwrap(),
        state: ReservationState::Active,
        matches: ReservationMatch::Targeted,
        starts_at: None,
        ends_at: None,
        placement_group_arn: None,
        block_id: None,
        tags: std::collections::BTreeMap::new(),
    };
    for word in words {
        let (key, value) = word.split_once('+').unwrap_or((word, ""));
        match key {
            "open" => one.matches = ReservationMatch::Open,
            "foreign" => (one.ours, one.owner_id) = (false, "999988887777".to_owned()),
            "dedicated" => one.tenancy = Tenancy::Dedicated,
            "rhel" => one.platform = "Red Hat Enterprise Linux".to_owned(),
            "group" => one.placement_group_arn = Some("arn:aws:ec2:r:1:placement-group/pg-1".to_owned()),
            "over" => one.state = ReservationState::Over,
            "begins" => {
                one.state = ReservationState::Scheduled;
                one.starts_at = Some(Timestamp::UNIX_EPOCH + time(value));
            }
            "ends" => one.ends_at = Some(Timestamp::UNIX_EPOCH + time(value)),
            "block" => {
                (one.kind, one.block_id) = (ReservationKind::CapacityBlock, Some(format!("cb-{value}")))
            }
            "interruptible" => one.kind = ReservationKind::Interruptible,
            "team" => {
                one.tags.insert("team".to_owned(), value.to_owned());
            }
            other => panic!("no word of a reservation: {other}"),
        }
    }
    one
}

fn block(id: &str, text: &str) -> Block {
    let (state, at) = text.split_once('+').unwrap_or((text, ""));
    let state = match state {
        "begins" => BlockState::Scheduled,
        "active" => BlockState::Active,
        "over" => BlockState::Over,
        other => panic!("no state of a block: {other}"),
    };
    let starts_at = (!at.is_empty()).then(|| Timestamp::UNIX_EPOCH + time(at));
    Block { id: id.to_owned(), reservation_ids: Vec::new(), state, starts_at, ends_at: None }
}

/// The ask in words.
pub(super) fn ask(text: &str) -> Ask {
    let mut ask = Ask {
        uid: "6b0c6f4e-0a5b-4b6e-9b1d-1f0e4a1c2d3e".to_owned(),
        gpu_resource: "nvidia.com/gpu".to_owned(),
        ..Ask::default()
    };
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        let wishes = &mut ask.wishes;
        match key {
            "cpu" => ask.cpu_milli = value.parse::<u64>().unwrap() * 1000,
            "milli" => ask.cpu_milli = value.parse().unwrap(),
            "mem" => ask.memory_bytes = bytes(value),
            "disk" => ask.ephemeral_bytes = bytes(value),
            "gpus" => ask.gpus = value.parse().unwrap(),
            "resource" => ask.gpu_resource = value.to_owned(),
            "arch" => ask.arch = Some(value.to_owned()),
            "deadline" => ask.active_deadline = Some(time(value)),
            "types" => wishes.instance_types = list(),
            "patterns" => wishes.type_patterns = list(),
            "models" => wishes.gpu_models = list(),
            "gpu-memory" => wishes.gpu_memory_min_mib = Some(bytes(value) >> 20),
            "shares" => wishes.gpu_share = GpuShare::Allowed,
            "markets" => wishes.capacity_types = list().iter().map(|name| market(name)).collect(),
            "prefer" => wishes.reservation.preference = Preference::Prefer,
            "required" => wishes.reservation.preference = Preference::Required,
            "ids" => wishes.reservation.ids = list(),
            "group-arn" => wishes.reservation.group_arn = Some(value.to_owned()),
            "team" => {
                let tags = vec![("team".to_owned(), Some(value.to_owned()))];
                wishes.reservation.selector = Some(ReservationSelector { owner_id: None, tags });
            }
            "owner" => {
                let owner_id = Some(value.to_owned());
                wishes.reservation.selector = Some(ReservationSelector { owner_id, tags: Vec::new() });
            }
            "block" => wishes.block_id = Some(value.to_owned()),
            "max" => wishes.max_price = Some(value.parse().unwrap()),
            "max-spot" => wishes.max_spot_price = Some(value.parse().unwrap()),
            "zones" => wishes.zones = list(),
            "subnets" => wishes.subnet_ids = list(),
            "placement" => wishes.placement_group = Some(value.to_owned()),
            "dedicated" => wishes.tenancy = Tenancy::Dedicated,
            "efa" => wishes.efa = value.parse().unwrap(),
            "min-runtime" => wishes.min_runtime = Some(time(value)),
            "root" => {
                let size_gib = u32::try_from(bytes(value) >> 30).unwrap();
                wishes.root_volume =
                    Some(RootVolume { size_gib, kind: "gp3".to_owned(), ..RootVolume::default() });
            }
            other => panic!("no word of an ask: {other}"),
        }
    }
    ask
}

pub(super) fn market(name: &str) -> CapacityType {
    CapacityType::ALL.into_iter().find(|one| one.name() == name).unwrap()
}

fn bytes(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 2);
    let unit = if unit == "Gi" { 1 << 30 } else { 1 << 20 };
    number.parse::<u64>().unwrap() * unit
}

fn time(text: &str) -> Duration {
    let (number, unit) = match text.strip_suffix('h') {
        Some(hours) => (hours, 3600),
        None => text.strip_suffix('m').map_or((text, 1), |minutes| (minutes, 60)),
    };
    Duration::from_secs(number.parse::<u64>().unwrap() * unit)
}

/// The plan in one line. `how_many` groups of choices are shown; zones that only the pod's UID orders are sorted.
pub(super) fn show(planned: &Planned<'_>, how_many: usize) -> String {
    match &planned.verdict {
        Verdict::Refuse(rejection) => format!("refuse {}: {rejection}", rejection.reason()),
        Verdict::Wait { reason, message, until } => {
            let until = until.map_or_else(|| "?".to_owned(), |at| at.as_second().to_string());
            format!("wait {reason} {until}: {message}")
        }
        Verdict::Launch => {
            let mut groups: Vec<(String, Vec<&str>, String)> = Vec::new();
            for choice in &planned.choices {
                let (name, zone) = (choice.offer.shape.name.clone(), choice.subnet.zone.as_str());
                let price = choice.price.marginal.map_or_else(|| "?".to_owned(), |price| price.to_string());
                let how = format!("{}{} {price}", bought(&choice.purchase), placed(&choice.placement));
                match groups.last_mut().filter(|last| last.0 == name && last.2 == how) {
                    Some(last) => last.1.push(zone),
                    None => groups.push((name, vec![zone], how)),
                }
                if choice.why.ranked_by == RankedBy::Spread {
                    groups.last_mut().unwrap().1.sort_unstable();
                }
            }
            let more = if groups.len() > how_many { "; …" } else { "" };
            let shown = groups
                .iter()
                .take(how_many)
                .map(|(name, zones, how)| format!("{name} {} {how}", zones.concat()));
            shown.collect::<Vec<_>>().join("; ") + more
        }
    }
}

fn bought(purchase: &Purchase) -> String {
    match purchase {
        Purchase::OnDemand => "on-demand".to_owned(),
        Purchase::Spot { max_price: None } => "spot".to_owned(),
        Purchase::Spot { max_price: Some(price) } => format!("spot(≤{price})"),
        Purchase::Reservation { id } => id.clone(),
        Purchase::ReservationGroup { arn } => arn.clone(),
        Purchase::OpenReservation => "any-open".to_owned(),
        Purchase::CapacityBlock { id } => format!("block:{id}"),
        Purchase::Interruptible { id } => format!("interruptible:{id}"),
    }
}

fn placed(placement: &Placement) -> String {
    let tenancy = if placement.tenancy == Tenancy::Dedicated { "+dedicated" } else { "" };
    let group = placement.group.as_ref().map(|group| format!("+{group}")).unwrap_or_default();
    format!("{tenancy}{group}")
}

/// The plan for an ask in a world, in words.
pub(super) fn run(asked: &str, world: &str, how_many: usize) -> String {
    let mut owned = Owned::new();
    for word in world.split_whitespace() {
        owned.change(word);
    }
    let ask = ask(asked);
    show(&plan(&ask, &owned.world()), how_many)
}
