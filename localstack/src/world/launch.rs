//! Launching: client tokens, capacity, addresses. Pure, under the world's lock.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;

use super::addresses::Taken;
use super::devices::{EfaOnly, Interface, Leaves, Volume};
use super::estate::{Image, Profile, Subnet};
use super::ids;
use super::instance::{Features, Instance, Machine, Metadata, OnShutdown, Power, Reason, State};
use super::notices::Notices;
use super::pools::Market;
use super::purchase::{Lifecycle, Purchase};
use super::source::Source;
use super::state::Cloud;
use super::throttle::Throttled;
use crate::aws::Refusal;
use crate::ec2::catalog::InstanceType;

/// A launch that is well-formed, and whose subnet, image, groups and profile exist.
#[derive(Clone, Debug)]
pub struct Launch {
    pub token: Option<String>,
    /// Equal for equal requests.
    pub fingerprint: String,
    /// Fewest and most instances.
    pub count: (u32, u32),
    pub kind: &'static InstanceType,
    pub image: Image,
    pub subnet: Subnet,
    pub groups: Vec<String>,
    pub address: Option<Ipv4Addr>,
    /// How many secondary addresses.
    pub secondary: u32,
    pub interface_description: String,
    pub interface_deleted: bool,
    /// Whether the primary interface is an EFA.
    pub efa: bool,
    /// Network cards that get an EFA-only interface.
    pub efa_cards: Vec<u32>,
    /// Without ids; tags included.
    pub volumes: Vec<Volume>,
    pub interface_tags: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub on_shutdown: OnShutdown,
    pub metadata: Metadata,
    pub user_data: Vec<u8>,
    pub profile: Option<Profile>,
    pub features: Features,
    /// Without its reservation.
    pub purchase: Purchase,
}

/// Why nothing was launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchError {
    TokenMismatch,
    TokenSpent,
    NotOffered,
    NoCapacity,
    ReservationNotFound(String),
    /// The market is not that of the reservation.
    WrongMarket,
    /// More instances than EC2 launches in this time.
    Throttled,
    /// More vCPUs than the account may run.
    OverQuota {
        market: Market,
        limit: u32,
    },
    /// What it would pay is less than the spot price, which is this.
    PriceTooLow {
        price: u64,
    },
    /// An interruptible reservation that its owner takes back.
    Reclaimed(String),
    /// A Capacity Block that has not begun.
    NotActive(String),
    /// The reservations that it may use, and nothing else, have no room.
    ReservationFull,
    NoAddresses,
    AddressTaken(Taken),
    /// A fault that a test asked for.
    Asked(Refusal),
}

/// What a client token is bound to.
#[derive(Clone, Debug)]
pub struct TokenUse {
    fingerprint: String,
    instances: Vec<String>,
    /// Set when its instances are terminated; the token is forgotten a day later.
    pub(super) spent: Option<Timestamp>,
}

impl Cloud {
    /// Launches, or finds what the same call launched before. A call that fails binds its token too, unless it
    /// names a reservation that does not exist or is of another market.
    pub fn launch(
        &mut self,
        launch: &Launch,
        asked: Option<Refusal>,
        now: Timestamp,
    ) -> Result<Vec<Instance>, LaunchError> {
        let key = launch.token.clone().map(|token| (token, launch.subnet.zone.clone()));
        if let Some(key) = &key
            && let Some(found) = self.redeem(key, &launch.fingerprint)?
        {
            return Ok(found);
        }
        self.throttle.launch(launch.count.1, now).map_err(|Throttled| LaunchError::Throttled)?;
        let source = self.source(launch, now)?;
        if let Some(key) = &key {
            let fingerprint = launch.fingerprint.clone();
            self.tokens.insert(key.clone(), TokenUse { fingerprint, instances: Vec::new(), spent: None });
        }
        if let Some(refusal) = asked {
            return Err(LaunchError::Asked(refusal));
        }
        if !launch.kind.offered_in(&launch.subnet.zone) {
            return Err(LaunchError::NotOffered);
        }
        let count = self.room_for(launch, &source, now)?;
        let reservation_id = ids::fresh("r");
        let mut instances = Vec::new();
        for index in 0..count {
            let (purchase, doomed) = self.occupy(&source, launch, now);
            let instance = Instance { purchase, doomed, ..self.make(launch, &reservation_id, index, now) };
            self.instances.insert(instance.id.clone(), instance.clone());
            instances.push(instance);
        }
        if let Some(used) = key.and_then(|key| self.tokens.get_mut(&key)) {
            used.instances = instances.iter().map(|instance| instance.id.clone()).collect();
        }
        Ok(instances)
    }

    fn redeem(
        &self,
        key: &(String, String),
        fingerprint: &str,
    ) -> Result<Option<Vec<Instance>>, LaunchError> {
        let Some(used) = self.tokens.get(key) else { return Ok(None) };
        if used.fingerprint != fingerprint {
            return Err(LaunchError::TokenMismatch);
        }
        let found: Vec<Instance> =
            used.instances.iter().filter_map(|id| self.instances.get(id).cloned()).collect();
        let all_over = found.iter().all(|instance| instance.state == State::Terminated);
        match used.instances.is_empty() {
            true => Ok(None),
            false if all_over => Err(LaunchError::TokenSpent),
            false => Ok(Some(found)),
        }
    }

    /// How many instances there is capacity and room for, within what was asked.
    fn room_for(&self, launch: &Launch, source: &Source, now: Timestamp) -> Result<u32, LaunchError> {
        let (least, most) = launch.count;
        let allowed = self.room_in_quota(launch, source, now)?;
        let capacity = self.room_in(source, launch, now);
        if capacity < least {
            let full = source.pool.is_none() && launch.purchase.lifecycle != Lifecycle::Spot;
            return Err(if full { LaunchError::ReservationFull } else { LaunchError::NoCapacity });
        }
        let addresses = self.subnet(&launch.subnet.id);
        if let Some(address) = launch.address {
            addresses.check(address).map_err(LaunchError::AddressTaken)?;
        }
        let room = addresses.free() / (1 + launch.secondary);
        if room < least {
            return Err(LaunchError::NoAddresses);
        }
        Ok(most.min(allowed).min(capacity).min(room))
    }

    fn make(&mut self, launch: &Launch, reservation_id: &str, index: u32, now: Timestamp) -> Instance {
        self.sequence += 1;
        let subnet = self.subnet_mut(&launch.subnet.id);
        let primary = match launch.address {
            Some(address) => {
                subnet.take_this(address);
                address
            }
            None => subnet.take().expect("room_for counted the free addresses"),
        };
        let secondary = (0..launch.secondary)
            .map(|_| subnet.take().expect("room_for counted the free addresses"))
            .collect();
        let volume = |volume: &Volume| Volume { id: ids::fresh("vol"), ..volume.clone() };
        let further = |card: &u32| EfaOnly::fresh(*card, &launch.interface_tags);
        Instance {
            id: ids::fresh("i"),
            reservation_id: reservation_id.to_owned(),
            launch_index: index,
            sequence: self.sequence,
            client_token: launch.token.clone(),
            kind: launch.kind,
            image: launch.image.clone(),
            subnet: launch.subnet.clone(),
            groups: launch.groups.clone(),
            interface: Interface {
                id: ids::fresh("eni"),
                attachment_id: ids::fresh("eni-attach"),
                mac: ids::fresh_mac(),
                description: launch.interface_description.clone(),
                delete_on_termination: launch.interface_deleted,
                primary,
                secondary,
                tags: launch.interface_tags.clone(),
                efa: launch.efa,
                efa_only: launch.efa_cards.iter().map(further).collect(),
            },
            volumes: launch.volumes.iter().map(volume).collect(),
            leaves: Leaves::default(),
            tags: launch.tags.clone(),
            on_shutdown: launch.on_shutdown,
            metadata: launch.metadata,
            user_data: launch.user_data.clone(),
            profile: launch.profile.clone(),
            features: launch.features,
            purchase: launch.purchase.clone(),
            launched: now,
            state: State::Pending,
            since: now,
            reason: Some(Reason { code: "pending".to_owned(), message: "pending".to_owned() }),
            transition: String::new(),
            machine: Machine::Waiting,
            machine_since: now,
            power: Power::Button,
            console: String::new(),
            doomed: None,
            history: Vec::new(),
            notices: Notices::default(),
            told: Notices::default(),
            events: Vec::new(),
            reboots: false,
        }
    }
}
