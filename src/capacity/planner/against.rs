//! What is avoided now, sorted by what the planner asks it: nothing is allocated for a question.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::capacity::avoid::{Family, Scope, family_of};
use crate::capacity::blocked::{Blocked, Entry};
use crate::pod::wishes::CapacityType;

/// An index over [`Blocked`].
#[derive(Debug, Default)]
pub(super) struct Against<'b> {
    pools: HashMap<&'b str, Vec<Pool<'b>>>,
    quotas: Vec<(Family, CapacityType, &'b Entry)>,
    subnets: HashMap<&'b str, &'b Entry>,
    volumes: Vec<(&'b str, &'b str, &'b Entry)>,
    reservations: Vec<(&'b str, &'b str, &'b str, &'b Entry)>,
    spot: Option<&'b Entry>,
    groups: Vec<(&'b str, &'b str, &'b Entry)>,
}

/// A type in a zone.
#[derive(Debug)]
struct Pool<'b> {
    zone: &'b str,
    /// `None` stands for every market.
    market: Option<CapacityType>,
    entry: &'b Entry,
}

/// What is held against one type.
#[derive(Clone, Copy, Debug)]
pub(super) struct AgainstType<'x, 'b> {
    pools: &'x [Pool<'b>],
    quotas: &'x [(Family, CapacityType, &'b Entry)],
    family: Option<Family>,
    spot: Option<&'b Entry>,
}

impl<'b> Against<'b> {
    pub(super) fn of(blocked: &'b Blocked, now: Timestamp) -> Self {
        let mut index = Self::default();
        for (scope, entry) in blocked.iter(now) {
            match scope {
                Scope::Pool { instance_type, zone, market } => {
                    index.pool(instance_type, zone, Some(*market), entry);
                }
                Scope::TypeInZone { instance_type, zone } => index.pool(instance_type, zone, None, entry),
                Scope::SpotPrice { instance_type, zone } => {
                    index.pool(instance_type, zone, Some(CapacityType::Spot), entry);
                }
                Scope::Quota { family, market } => index.quotas.push((*family, *market, entry)),
                Scope::Subnet(id) => {
                    index.subnets.insert(id, entry);
                }
                Scope::Volume { zone, kind } => index.volumes.push((zone, kind, entry)),
                Scope::Reservation { target, instance_type, zone } => {
                    index.reservations.push((target, instance_type, zone, entry));
                }
                Scope::Spot => index.spot = Some(entry),
                Scope::GroupInZone { group, zone } => index.groups.push((group, zone, entry)),
            }
        }
        index
    }

    fn pool(
        &mut self,
        instance_type: &'b str,
        zone: &'b str,
        market: Option<CapacityType>,
        entry: &'b Entry,
    ) {
        self.pools.entry(instance_type).or_default().push(Pool { zone, market, entry });
    }

    pub(super) fn of_type(&self, instance_type: &str) -> AgainstType<'_, 'b> {
        AgainstType {
            pools: self.pools.get(instance_type).map_or(&[], Vec::as_slice),
            quotas: &self.quotas,
            family: (!self.quotas.is_empty()).then(|| family_of(instance_type)),
            spot: self.spot,
        }
    }

    /// Against anything in a subnet.
    pub(super) fn of_place(&self, subnet_id: &str, zone: &str, volume_kind: &str) -> Option<&'b Entry> {
        let volume =
            || self.volumes.iter().find(|(in_zone, kind, _)| *in_zone == zone && *kind == volume_kind);
        self.subnets.get(subnet_id).copied().or_else(|| volume().map(|(_, _, entry)| *entry))
    }

    pub(super) fn of_group(&self, group: &str, zone: &str) -> Option<&'b Entry> {
        let found = self.groups.iter().find(|(name, in_zone, _)| *name == group && *in_zone == zone);
        found.map(|(_, _, entry)| *entry)
    }

    /// `target` is a reservation's id, a group's ARN, or `open`.
    pub(super) fn of_reservation(&self, target: &str, instance_type: &str, zone: &str) -> Option<&'b Entry> {
        let is_it =
            |it: &&(&str, &str, &str, &Entry)| it.0 == target && it.1 == instance_type && it.2 == zone;
        self.reservations.iter().find(is_it).map(|(_, _, _, entry)| *entry)
    }
}

impl<'b> AgainstType<'_, 'b> {
    /// What is held longest against buying it there so.
    pub(super) fn find(&self, zone: &str, market: CapacityType) -> Option<&'b Entry> {
        let pools =
            self.pools.iter().filter(|pool| pool.zone == zone && pool.market.is_none_or(|one| one == market));
        let quotas =
            self.quotas.iter().filter(|(family, one, _)| *one == market && self.family == Some(*family));
        let spot = self.spot.filter(|_| market == CapacityType::Spot);
        let all = pools.map(|pool| pool.entry).chain(quotas.map(|(_, _, entry)| *entry)).chain(spot);
        all.max_by_key(|entry| entry.until)
    }
}
