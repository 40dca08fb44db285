//! What EC2 has left of a type in a zone, by market: pools that run dry, refill, and fail launches late. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Markets with capacity of their own. Capacity Blocks and interruptible reservations bring theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Market {
    #[default]
    OnDemand,
    Spot,
}

/// All pools that a test has limited; the others have no end.
#[derive(Debug, Default)]
pub struct Pools(BTreeMap<(String, String, Market), Pool>);

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Instances that can still be launched; `None`: no end.
    pub capacity: Option<u32>,
    /// The next launches that are accepted, and fail while they are pending.
    pub fail_launches: u32,
    /// With which `StateReason`.
    pub fail_code: String,
}

/// Of EC2's codes for launches that fail late, the one about capacity.
const LATE: &str = "Server.InsufficientInstanceCapacity";

/// A change of a pool; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolChange {
    pub capacity: Option<Option<u32>>,
    pub fail_launches: Option<u32>,
    pub fail_code: Option<String>,
}

impl Pools {
    /// What is left. `None`: no end.
    #[must_use]
    pub fn left(&self, kind: &str, zone: &str, market: Market) -> Option<u32> {
        self.0.get(&key(kind, zone, market))?.capacity
    }

    pub fn change(&mut self, kind: &str, zone: &str, market: Market, change: PoolChange) {
        let pool = self.0.entry(key(kind, zone, market)).or_default();
        if let Some(capacity) = change.capacity {
            pool.capacity = capacity;
        }
        if let Some(launches) = change.fail_launches {
            pool.fail_launches = launches;
            pool.fail_code = change.fail_code.unwrap_or_else(|| LATE.to_owned());
        }
        self.0.retain(|_, pool| pool.capacity.is_some() || pool.fail_launches > 0);
    }

    /// Takes one instance; the reason's code if its launch is to fail.
    pub fn take(&mut self, kind: &str, zone: &str, market: Market) -> Option<String> {
        let pool = self.0.get_mut(&key(kind, zone, market))?;
        pool.capacity = pool.capacity.map(|left| left.saturating_sub(1));
        let fails = pool.fail_launches > 0;
        pool.fail_launches = pool.fail_launches.saturating_sub(1);
        fails.then(|| pool.fail_code.clone())
    }

    /// Takes an instance back.
    pub fn give_back(&mut self, kind: &str, zone: &str, market: Market) {
        if let Some(pool) = self.0.get_mut(&key(kind, zone, market)) {
            pool.capacity = pool.capacity.map(|left| left.saturating_add(1));
        }
    }

    /// Every limited pool with its type, zone and market.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str, Market, &Pool)> {
        self.0.iter().map(|((kind, zone, market), pool)| (kind.as_str(), zone.as_str(), *market, pool))
    }
}

fn key(kind: &str, zone: &str, market: Market) -> (String, String, Market) {
    (kind.to_owned(), zone.to_owned(), market)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markets_of_one_type_and_zone_run_dry_apart() {
        let mut pools = Pools::default();
        let limit = |capacity| PoolChange { capacity: Some(capacity), ..PoolChange::default() };
        pools.change("t", "z", Market::Spot, limit(Some(1)));
        assert_eq!(pools.left("t", "z", Market::OnDemand), None);
        assert_eq!(pools.take("t", "z", Market::Spot), None);
        assert_eq!(pools.left("t", "z", Market::Spot), Some(0));
        pools.give_back("t", "z", Market::Spot);
        pools.give_back("t", "z", Market::OnDemand);
        assert_eq!(pools.left("t", "z", Market::Spot), Some(1));
        pools.change("t", "z", Market::Spot, limit(None));
        assert_eq!(pools.all().count(), 0);
    }

    #[test]
    fn so_many_launches_fail_late_and_the_capacity_stays_as_it_was_set() {
        let mut pools = Pools::default();
        let change = PoolChange { fail_launches: Some(2), ..PoolChange::default() };
        pools.change("t", "z", Market::OnDemand, change);
        assert_eq!(pools.left("t", "z", Market::OnDemand), None);
        let fates: Vec<_> = (0..3).map(|_| pools.take("t", "z", Market::OnDemand)).collect();
        assert_eq!(fates, [Some(LATE.to_owned()), Some(LATE.to_owned()), None]);
    }
}
