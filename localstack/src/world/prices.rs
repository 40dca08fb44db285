//! What instances cost: on-demand prices, and the spot price of every type and zone over time. Pure.
//!
//! Prices are millionths of a dollar an hour, for Linux.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::estate::Estate;
use crate::clock;
use crate::ec2::catalog::{CATALOG, InstanceType};

/// All prices.
#[derive(Debug, Default)]
pub struct Prices {
    /// Where a test wants another than the catalog's; `None`: not in the price list.
    on_demand: BTreeMap<String, Option<u64>>,
    /// By type and zone, the oldest first.
    spot: BTreeMap<(&'static str, String), Vec<SpotPrice>>,
}

/// A spot price, from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpotPrice {
    pub since: Timestamp,
    pub micros: u64,
}

/// The spot price in percent of the on-demand price, by the zone's last letter.
const DISCOUNTED: [(char, u64); 3] = [('a', 40), ('b', 38), ('c', 45)];
/// The first prices are as old as this, and were this much higher before.
const LAST_CHANGE: Duration = Duration::from_secs(3600);
const FIRST_CHANGE: Duration = Duration::from_secs(24 * 3600);
const HIGHER_PERCENT: u64 = 105;

impl Prices {
    /// Prices as they are when a world begins.
    #[must_use]
    pub fn new(estate: &Estate, now: Timestamp) -> Self {
        let mut prices = Self::default();
        for kind in CATALOG.iter().filter(|kind| kind.usage.contains(&"spot")) {
            let Some(price) = kind.price else { continue };
            for zone in estate.zones().filter(|zone| kind.offered_in(zone)) {
                let percent = DISCOUNTED.iter().find(|(letter, _)| zone.ends_with(*letter));
                let micros = price * percent.map_or(50, |(_, percent)| *percent) / 100;
                let history = vec![
                    SpotPrice {
                        since: clock::before(now, FIRST_CHANGE),
                        micros: micros * HIGHER_PERCENT / 100,
                    },
                    SpotPrice { since: clock::before(now, LAST_CHANGE), micros },
                ];
                prices.spot.insert((kind.name, zone.to_owned()), history);
            }
        }
        prices
    }

    #[must_use]
    pub fn on_demand(&self, kind: &InstanceType) -> Option<u64> {
        self.on_demand.get(kind.name).copied().unwrap_or(kind.price)
    }

    pub fn set_on_demand(&mut self, kind: &InstanceType, price: Option<u64>) {
        self.on_demand.insert(kind.name.to_owned(), price);
    }

    /// The spot price of now. `None`: the type is not sold on that market there.
    #[must_use]
    pub fn spot(&self, kind: &InstanceType, zone: &str) -> Option<u64> {
        self.spot.get(&(kind.name, zone.to_owned()))?.last().map(|price| price.micros)
    }

    /// `None` forgets the whole history.
    pub fn set_spot(&mut self, kind: &InstanceType, zone: &str, micros: Option<u64>, since: Timestamp) {
        let history = self.spot.entry((kind.name, zone.to_owned())).or_default();
        match micros {
            Some(micros) => history.push(SpotPrice { since, micros }),
            None => history.clear(),
        }
    }

    /// The prices that were in force between two times, with the type and zone of each.
    pub fn history(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (&'static str, &str, SpotPrice)> {
        self.spot.iter().flat_map(move |((kind, zone), history)| {
            let begun = history.iter().rposition(|price| price.since <= from).unwrap_or(0);
            let inside = history[begun.min(history.len())..].iter().filter(move |price| price.since <= to);
            inside.map(move |price| (*kind, zone.as_str(), *price))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ec2::catalog;
    use crate::world::defaults;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn spot_is_cheaper_and_only_where_it_is_sold() {
        let prices = Prices::new(&defaults::estate(), at(1_000_000));
        let kind = catalog::find("g5.xlarge").unwrap();
        assert_eq!(
            (prices.on_demand(kind), prices.spot(kind, "us-east-1a")),
            (Some(1_006_000), Some(402_400))
        );
        assert_eq!(prices.spot(kind, "us-east-1c"), None, "not offered there");
        assert_eq!(prices.spot(catalog::find("p5e.48xlarge").unwrap(), "us-east-1c"), None, "no price");
    }

    #[test]
    fn a_history_begins_with_the_price_in_force() {
        let kind = catalog::find("t3.micro").unwrap();
        let mut prices = Prices::default();
        for (seconds, micros) in [(10, 1), (20, 2), (30, 3)] {
            prices.set_spot(kind, "z", Some(micros), at(seconds));
        }
        let between = |from, to| -> Vec<u64> {
            prices.history(at(from), at(to)).map(|(_, _, price)| price.micros).collect()
        };
        assert_eq!(between(0, 99), [1, 2, 3]);
        assert_eq!(between(20, 99), [2, 3]);
        assert_eq!(between(25, 29), [2]);
        assert_eq!(between(99, 99), [3]);
        assert_eq!(between(0, 5), [0; 0]);
    }
}
