//! What is free of each GPU type and CPU flavor, by cloud and data center: without an end until a test gives it one.
//!
//! What the catalog shows may be told apart from what there is, as it is on RunPod, where stock changes between the
//! look and the create.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::catalog::Cloud;

/// The refusals of a create for want of capacity: only these sentences tell it from a broken rule.
pub const PHRASES: [&str; 8] = [
    "There are no longer any instances available with the requested specifications. Please refresh and try again.",
    "There are no longer any instances available with the request specifications. Please try again later.",
    "There are no longer any instances available with enough disk space.",
    "This machine does not have the resources to deploy your pod. Please try a different machine.",
    "There are not enough free GPUs on the host machine to start this pod.",
    "insufficient capacity for the requested GPU type",
    "no instances currently available",
    "ResourcesUnavailable: the requested resources are not available",
];

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Place {
    /// Of a GPU type or a CPU flavor.
    pub id: String,
    pub cloud: Cloud,
    pub data_center: String,
}

/// Catalog stock, as RunPod grades it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    None,
    Low,
    Medium,
    High,
}

/// What is free at a place, and what the catalog says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Supply {
    /// GPUs, or vCPUs. `None` has no end.
    pub free: Option<u32>,
    /// Instead of what `free` would give.
    pub shown: Option<Level>,
}

/// All stock.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    places: BTreeMap<Place, Supply>,
    /// Types of pools that the account may not use.
    denied: BTreeSet<String>,
}

impl Stock {
    pub fn put(&mut self, place: Place, supply: Supply) {
        self.places.insert(place, supply);
    }

    #[must_use]
    pub fn places(&self) -> &BTreeMap<Place, Supply> {
        &self.places
    }

    /// The account may not use these types any more, and all others.
    pub fn deny(&mut self, ids: BTreeSet<String>) {
        self.denied = ids;
    }

    #[must_use]
    pub fn denied(&self) -> &BTreeSet<String> {
        &self.denied
    }

    #[must_use]
    pub fn is_denied(&self, id: &str) -> bool {
        self.denied.contains(id)
    }

    /// Takes so many, or none.
    #[must_use]
    pub fn take(&mut self, place: &Place, count: u32) -> bool {
        let Some(Supply { free: Some(free), .. }) = self.places.get_mut(place) else { return true };
        let left = free.checked_sub(count);
        *free = left.unwrap_or(*free);
        left.is_some()
    }

    pub fn give_back(&mut self, place: &Place, count: u32) {
        if let Some(Supply { free: Some(free), .. }) = self.places.get_mut(place) {
            *free = free.saturating_add(count);
        }
    }

    /// What the catalog says of a request for `count`.
    #[must_use]
    pub fn level(&self, place: &Place, count: u32) -> Level {
        let supply = self.places.get(place).copied().unwrap_or_default();
        let graded = match supply.free.map(|free| free.checked_div(count).unwrap_or(0)) {
            Some(0) => Level::None,
            Some(1 | 2) => Level::Low,
            Some(3..=9) => Level::Medium,
            Some(_) | None => Level::High,
        };
        supply.shown.unwrap_or(graded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(id: &str) -> Place {
        Place { id: id.to_owned(), cloud: Cloud::Secure, data_center: "US-KS-2".to_owned() }
    }

    #[test]
    fn stock_has_no_end_until_it_is_given_one_and_comes_back() {
        let mut stock = Stock::default();
        assert!(stock.take(&place("a"), 100));
        assert_eq!(stock.level(&place("a"), 8), Level::High);
        stock.put(place("a"), Supply { free: Some(4), shown: None });
        assert_eq!((stock.level(&place("a"), 1), stock.level(&place("a"), 8)), (Level::Medium, Level::None));
        assert!(!stock.take(&place("a"), 5));
        assert!(stock.take(&place("a"), 3));
        assert_eq!(stock.level(&place("a"), 1), Level::Low);
        stock.give_back(&place("a"), 3);
        assert!(stock.take(&place("a"), 4));
        assert_eq!(stock.level(&place("a"), 1), Level::None);
    }

    #[test]
    fn the_catalog_may_say_what_is_not_so() {
        let mut stock = Stock::default();
        stock.put(place("a"), Supply { free: Some(0), shown: Some(Level::High) });
        assert_eq!(stock.level(&place("a"), 1), Level::High);
        assert!(!stock.take(&place("a"), 1));
    }
}
