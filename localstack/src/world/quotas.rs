//! How many vCPUs the account may run at once: a quota for every family of types and market, as EC2 counts them. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::instance::{Instance, State};
use super::launch::{Launch, LaunchError};
use super::pools::Market;
use super::purchase::Lifecycle;
use super::reservations::{Nature, State as Is};
use super::source::Source;
use super::state::Cloud;
use crate::ec2::catalog::InstanceType;

/// Types that share a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// A, C, D, H, I, M, R, T and Z.
    Standard,
    /// G and VT.
    GVt,
    P,
    Inf,
    Trn,
    Dl,
    F,
    X,
    Hpc,
    HighMemory,
}

impl Family {
    pub const ALL: [Self; 10] = [
        Self::Standard,
        Self::GVt,
        Self::P,
        Self::Inf,
        Self::Trn,
        Self::Dl,
        Self::F,
        Self::X,
        Self::Hpc,
        Self::HighMemory,
    ];

    #[must_use]
    pub fn of(kind: &InstanceType) -> Self {
        // Longer beginnings first: `trn1` is no `t3`, and `dl1` no `d3`.
        let families = [
            ("trn", Self::Trn),
            ("inf", Self::Inf),
            ("hpc", Self::Hpc),
            ("dl", Self::Dl),
            ("vt", Self::GVt),
            ("u-", Self::HighMemory),
            ("u7", Self::HighMemory),
            ("g", Self::GVt),
            ("p", Self::P),
            ("f", Self::F),
            ("x", Self::X),
        ];
        let found = families.iter().find(|(beginning, _)| kind.name.starts_with(beginning));
        found.map_or(Self::Standard, |(_, family)| *family)
    }
}

/// The limits in vCPUs; without one there is no end.
#[derive(Debug, Default)]
pub struct Quotas(BTreeMap<(Family, Market), u32>);

impl Quotas {
    #[must_use]
    pub fn limit(&self, family: Family, market: Market) -> Option<u32> {
        self.0.get(&(family, market)).copied()
    }

    pub fn set(&mut self, family: Family, market: Market, vcpus: Option<u32>) {
        match vcpus {
            Some(vcpus) => drop(self.0.insert((family, market), vcpus)),
            None => drop(self.0.remove(&(family, market))),
        }
    }
}

/// Which quota an instance counts against. Those in Capacity Blocks and in lent capacity count against none.
fn market_of(lifecycle: Lifecycle) -> Option<Market> {
    match lifecycle {
        Lifecycle::OnDemand => Some(Market::OnDemand),
        Lifecycle::Spot => Some(Market::Spot),
        Lifecycle::CapacityBlock | Lifecycle::Interruptible => None,
    }
}

impl Cloud {
    /// The vCPUs that count against a quota: those of instances until they are terminated or stopped, and on demand
    /// also what our own reservations keep unused.
    #[must_use]
    pub fn quota_used(&self, family: Family, market: Market, now: Timestamp) -> u32 {
        let counts = |instance: &&Instance| {
            Family::of(instance.kind) == family
                && market_of(instance.purchase.lifecycle) == Some(market)
                && !matches!(instance.state, State::Stopped | State::Terminated)
        };
        let running: u32 = self.instances.values().filter(counts).map(|instance| instance.kind.vcpus).sum();
        let kept: u32 = match market {
            Market::Spot => 0,
            Market::OnDemand => {
                let own = self.reservations.values().filter(|one| {
                    Family::of(one.kind) == family
                        && one.owner == self.account
                        && one.nature == Nature::OnDemand
                        && one.state(now) == Is::Active
                });
                own.map(|one| one.total.saturating_sub(self.used(&one.id)) * one.kind.vcpus).sum()
            }
        };
        running + kept
    }

    /// How many instances the quota leaves room for, of which those in our own reservations need none.
    pub(super) fn room_in_quota(
        &self,
        launch: &Launch,
        source: &Source,
        now: Timestamp,
    ) -> Result<u32, LaunchError> {
        let family = Family::of(launch.kind);
        let Some(market) = market_of(launch.purchase.lifecycle) else { return Ok(u32::MAX) };
        let Some(limit) = self.quotas.limit(family, market) else { return Ok(u32::MAX) };
        let own = |id: &&String| self.reservations.get(*id).is_some_and(|one| one.owner == self.account);
        let counted: u32 = source.reservations.iter().filter(own).map(|id| self.available(id, now)).sum();
        let free = limit.saturating_sub(self.quota_used(family, market, now)) / launch.kind.vcpus;
        let room = counted.saturating_add(free);
        if room < launch.count.0 { Err(LaunchError::OverQuota { market, limit }) } else { Ok(room) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ec2::catalog::CATALOG;

    #[test]
    fn every_type_has_the_family_of_its_quota() {
        let mut families: BTreeMap<Family, Vec<&str>> = BTreeMap::new();
        for kind in CATALOG.iter() {
            let all = families.entry(Family::of(kind)).or_default();
            if !all.contains(&kind.family()) {
                all.push(kind.family());
            }
        }
        let text: Vec<String> =
            families.iter().map(|(family, all)| format!("{family:?} {}", all.join(" "))).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        Standard t3 c7i m7i r7i c7g m7g
        GVt g4dn g4ad g5 g5g g6 gr6 g6f gr6f g6e g7 g7e vt1
        P p3 p3dn p4d p4de p5 p5e p5en p6-b200 p6-b300
        Inf inf1 inf2
        Trn trn1 trn1n trn2
        Dl dl1 dl2q
        F f2
        ");
    }
}
