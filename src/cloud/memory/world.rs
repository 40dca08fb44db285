//! What there is, and what becomes of a launch.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;

use super::leftovers::Left;
use super::machine::Machine;
use super::{Call, Pool, Timing};
use crate::capacity::money::MicroUsd;
use crate::clock;
use crate::cloud::{
    Block, Bought, CloudError, Gpus, Instance, InstanceState, InstanceType, LaunchSpec, Lifecycle, Purchase,
    Reservation, ReservationKind, ReservationMatch, ReservationState, SpotPrice, Subnet,
};

#[derive(Debug)]
pub(super) struct World {
    pub(super) timing: Timing,
    pub(super) machines: BTreeMap<String, Machine>,
    /// What a token was first used for, by its zone, and the machine that it made.
    tokens: HashMap<(String, String), (LaunchSpec, Option<String>)>,
    pub(super) types: Vec<InstanceType>,
    /// Zones of the types that are not offered in all of them.
    pub(super) offered: BTreeMap<String, BTreeSet<String>>,
    pub(super) subnets: Vec<Subnet>,
    pub(super) dry: HashSet<(Pool, String, String)>,
    pub(super) on_demand: BTreeMap<String, MicroUsd>,
    pub(super) spot: Vec<SpotPrice>,
    /// With `available` as if no machine of ours ran in them.
    pub(super) reservations: BTreeMap<String, Reservation>,
    /// Ids of the reservations of a resource group, by its ARN.
    pub(super) groups: HashMap<String, Vec<String>>,
    pub(super) blocks: BTreeMap<String, Block>,
    pub(super) errors: HashMap<Call, VecDeque<CloudError>>,
    pub(super) dropped_answers: u32,
    pub(super) hidden: HashSet<String>,
    pub(super) left: Vec<Left>,
    pub(super) discarded: Vec<(Timestamp, String)>,
    pub(super) calls: HashMap<Call, u64>,
    pub(super) sent: Vec<(Timestamp, LaunchSpec)>,
}

impl World {
    pub(super) fn new() -> Self {
        let price = |name: &str, micro| (name.to_owned(), MicroUsd(micro));
        Self {
            timing: Timing::default(),
            machines: BTreeMap::new(),
            tokens: HashMap::new(),
            types: types(),
            offered: BTreeMap::new(),
            subnets: vec![subnet('a', 0), subnet('b', 4)],
            dry: HashSet::new(),
            on_demand: BTreeMap::from([
                price("g5.xlarge", 1_006_000),
                price("g5.12xlarge", 5_672_000),
                price("t3.large", 83_200),
            ]),
            spot: Vec::new(),
            reservations: BTreeMap::new(),
            groups: HashMap::new(),
            blocks: BTreeMap::new(),
            errors: HashMap::new(),
            dropped_answers: 0,
            hidden: HashSet::new(),
            left: Vec::new(),
            discarded: Vec::new(),
            calls: HashMap::new(),
            sent: Vec::new(),
        }
    }

    /// Addresses of a subnet that machines have.
    pub(super) fn used(&self, subnet_id: &str) -> u32 {
        let here = |one: &&Machine| one.instance.subnet_id == subnet_id && one.ended.is_none();
        u32::try_from(self.machines.values().filter(here).count() * 2).unwrap_or(u32::MAX)
    }

    /// Zones that offer a type, sorted.
    pub(super) fn zones_of(&self, instance_type: &str) -> Vec<String> {
        let all = || self.subnets.iter().map(|subnet| subnet.zone.clone()).collect::<BTreeSet<_>>();
        self.offered.get(instance_type).cloned().unwrap_or_else(all).into_iter().collect()
    }

    /// The reservation as it is now: its state by the clock, and less what runs in it.
    pub(super) fn reservation(&self, id: &str) -> Option<Reservation> {
        let mut found = self.reservations.get(id)?.clone();
        let now = clock::now();
        if found.state == ReservationState::Scheduled && found.starts_at.is_some_and(|at| at <= now) {
            found.state = ReservationState::Active;
        }
        if found.ends_at.is_some_and(|at| at <= now) {
            found.state = ReservationState::Over;
        }
        let here =
            |one: &&Machine| one.ended.is_none() && one.instance.bought.reservation_id.as_deref() == Some(id);
        let used = u32::try_from(self.machines.values().filter(here).count()).unwrap_or(u32::MAX);
        found.available = match found.state {
            ReservationState::Active => found.available.saturating_sub(used),
            ReservationState::Scheduled | ReservationState::Over => 0,
        };
        Some(found)
    }

    pub(super) fn launch(&mut self, spec: &LaunchSpec) -> Result<Instance, CloudError> {
        let Some(subnet) = self.subnets.iter().find(|subnet| subnet.id == spec.subnet_id).cloned() else {
            let code = "InvalidSubnetID.NotFound".to_owned();
            return Err(CloudError::NotFound { code, message: spec.subnet_id.clone() });
        };
        if spec.token.len() > 64 || !spec.token.is_ascii() || spec.user_data.len() > 16384 {
            return Err(invalid("InvalidParameterValue", "token or user data"));
        }
        let key = (subnet.zone.clone(), spec.token.clone());
        // What EC2 never sees decides nothing.
        let request = LaunchSpec { price: None, is_repeated: false, ..spec.clone() };
        if let Some((first, id)) = self.tokens.get(&key) {
            if *first != request {
                return Err(CloudError::TokenMismatch { message: spec.token.clone() });
            }
            if let Some(machine) = id.as_ref().and_then(|id| self.machines.get(id)) {
                if machine.ended.is_some() {
                    return Err(CloudError::TokenSpent { message: machine.instance.id.clone() });
                }
                return Ok(machine.seen(&self.timing));
            }
        }
        let made = self.make(spec, &subnet);
        let id = made.as_ref().ok().map(|instance| instance.id.clone());
        self.tokens.insert(key, (request, id));
        made
    }

    fn make(&mut self, spec: &LaunchSpec, subnet: &Subnet) -> Result<Instance, CloudError> {
        let Some(kind) = self.types.iter().find(|one| one.name == spec.instance_type) else {
            return Err(invalid("InvalidInstanceType", &spec.instance_type));
        };
        if !self.zones_of(&kind.name).contains(&subnet.zone) {
            return Err(no_capacity("Unsupported", "not supported in your requested Availability Zone"));
        }
        let bought = self.buy(spec, kind, &subnet.zone)?;
        if subnet.free_addresses < self.used(&subnet.id) + 2 {
            return Err(no_capacity("InsufficientFreeAddressesInSubnet", &subnet.id));
        }
        let now = clock::now();
        let number = u32::try_from(self.machines.len() + 1).unwrap_or(u32::MAX);
        let address = |offset| Some(IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + number * 2 + offset)));
        let instance = Instance {
            id: format!("i-{number:08x}"),
            state: InstanceState::Pending,
            state_reason: None,
            instance_type: spec.instance_type.clone(),
            image_id: spec.image.id.clone(),
            zone: subnet.zone.clone(),
            subnet_id: subnet.id.clone(),
            private_ip: address(0),
            pod_ip: address(1),
            launched_at: Some(now),
            client_token: Some(spec.token.clone()),
            bought,
            tags: spec.tags.clone(),
            runpod: None,
        };
        let machine =
            Machine { instance: instance.clone(), launched_at: now, ended: None, announced: Vec::new() };
        self.machines.insert(instance.id.clone(), machine);
        Ok(instance)
    }

    /// Where its capacity comes from, exactly as the launch says.
    fn buy(&self, spec: &LaunchSpec, kind: &InstanceType, zone: &str) -> Result<Bought, CloudError> {
        let (of_kind, ids) = match &spec.purchase {
            Purchase::OnDemand => {
                self.draw(Pool::OnDemand, kind, zone)?;
                return Ok(Bought::default());
            }
            Purchase::Spot { max_price } => {
                self.draw(Pool::Spot, kind, zone)?;
                let is_it = |one: &&SpotPrice| one.instance_type == kind.name && one.zone == zone;
                let now = self.spot.iter().find(is_it).map(|one| one.price);
                if max_price.zip(now).is_some_and(|(most, now)| most < now) {
                    return Err(no_capacity("SpotMaxPriceTooLow", "lower than the minimum required"));
                }
                return Ok(Bought { lifecycle: Lifecycle::Spot, ..Bought::default() });
            }
            Purchase::Reservation { id } => (ReservationKind::OnDemand, vec![id.clone()]),
            Purchase::CapacityBlock { id } => (ReservationKind::CapacityBlock, vec![id.clone()]),
            Purchase::Interruptible { id } => (ReservationKind::Interruptible, vec![id.clone()]),
            Purchase::ReservationGroup { arn } => {
                (ReservationKind::OnDemand, self.groups.get(arn).cloned().unwrap_or_default())
            }
            Purchase::OpenReservation => {
                let open = |one: &&Reservation| one.matches == ReservationMatch::Open;
                let ids = self.reservations.values().filter(open).map(|one| one.id.clone()).collect();
                (ReservationKind::OnDemand, ids)
            }
        };
        let found: Vec<Reservation> = ids.iter().filter_map(|id| self.reservation(id)).collect();
        if let Some(id) = spec.purchase.reservation_id() {
            refuse_named(id, found.first(), of_kind)?;
        }
        let fits = |one: &&Reservation| {
            let group = one.placement_group_arn.as_deref().and_then(|arn| arn.rsplit('/').next());
            let asked = spec.placement.group.as_deref().and_then(|group| group.rsplit('/').next());
            one.kind == of_kind
                && one.instance_type == kind.name
                && one.zone == zone
                && one.tenancy == spec.placement.tenancy
                && group.is_none_or(|group| asked == Some(group))
                && one.available > 0
        };
        let taken = found.iter().find(fits).ok_or_else(|| {
            no_capacity(
                "ReservationCapacityExceeded",
                "The requested reservation does not have sufficient compatible and available capacity",
            )
        })?;
        Ok(Bought {
            lifecycle: match of_kind {
                ReservationKind::OnDemand => Lifecycle::OnDemand,
                ReservationKind::CapacityBlock => Lifecycle::CapacityBlock,
                ReservationKind::Interruptible => Lifecycle::InterruptibleReservation,
            },
            reservation_id: Some(taken.id.clone()),
            block_id: taken.block_id.clone(),
        })
    }

    /// Whether a pool has one.
    fn draw(&self, pool: Pool, kind: &InstanceType, zone: &str) -> Result<(), CloudError> {
        let is_sold = match pool {
            Pool::OnDemand => kind.usage.on_demand,
            Pool::Spot => kind.usage.spot,
        };
        if !is_sold {
            return Err(invalid("UnsupportedOperation", &format!("{} is not sold as {pool:?}", kind.name)));
        }
        if self.dry.contains(&(pool, kind.name.clone(), zone.to_owned())) {
            return Err(no_capacity("InsufficientInstanceCapacity", &format!("{} in {zone}", kind.name)));
        }
        Ok(())
    }
}

/// What is wrong with the one reservation that a launch names.
fn refuse_named(id: &str, found: Option<&Reservation>, kind: ReservationKind) -> Result<(), CloudError> {
    let Some(found) = found else {
        let code = "InvalidCapacityReservationId.NotFound".to_owned();
        return Err(CloudError::NotFound { code, message: format!("`{id}` does not exist") });
    };
    if found.kind != kind {
        return Err(invalid("InvalidParameterValue", "The market type (purchasing) option is not valid"));
    }
    if found.state == ReservationState::Scheduled {
        let code = "InvalidCapacityReservationState.PendingActivation";
        return Err(no_capacity(code, &format!("`{id}` is not active yet")));
    }
    Ok(())
}

fn no_capacity(code: &str, message: &str) -> CloudError {
    CloudError::NoCapacity { code: code.to_owned(), message: message.to_owned() }
}

fn invalid(code: &str, message: &str) -> CloudError {
    CloudError::Invalid { code: code.to_owned(), message: message.to_owned() }
}

fn types() -> Vec<InstanceType> {
    let gpus = |count| {
        (count > 0).then(|| Gpus {
            count,
            share_of: 1,
            model: "A10G".to_owned(),
            manufacturer: "NVIDIA".to_owned(),
            memory_mib: 24 << 10,
        })
    };
    let kind = |name: &str, vcpus, memory_gib: u64, count| InstanceType {
        name: name.to_owned(),
        vcpus,
        memory_mib: memory_gib << 10,
        arch: "amd64".to_owned(),
        gpus: gpus(count),
        nitro: true,
        ..InstanceType::default()
    };
    vec![kind("g5.xlarge", 4, 16, 1), kind("g5.12xlarge", 48, 192, 4), kind("t3.large", 2, 8, 0)]
}

fn subnet(letter: char, third: u8) -> Subnet {
    Subnet {
        id: format!("subnet-{letter}"),
        zone: format!("zone-{letter}"),
        zone_id: format!("z-{letter}"),
        cidr: format!("10.0.{third}.0/22"),
        free_addresses: 1019,
    }
}
