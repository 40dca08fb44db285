//! How old prices are, and how full reservations.

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Snapshot;
use crate::telemetry::Registry;

/// The market's metrics, as of the last reading.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    prices: Family<Priced, Gauge>,
    total: Family<Reserved, Gauge>,
    available: Family<Reserved, Gauge>,
    in_flight: Family<Reserved, Gauge>,
    remaining: Family<Reserved, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Priced {
    market: &'static str,
    source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reserved {
    id: String,
    instance_type: String,
    zone: String,
}

impl Metrics {
    /// Adds them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "price_read_timestamp_seconds",
            "When prices were last read, in seconds since 1970, by market and source; 0 is never",
            self.prices.clone(),
        );
        registry.register(
            "reservation_instances",
            "Instances that a reservation holds, by reservation",
            self.total.clone(),
        );
        registry.register(
            "reservation_available_instances",
            "Instances of a reservation that nobody uses, by reservation",
            self.available.clone(),
        );
        registry.register(
            "reservation_launches_in_flight",
            "Launches into a reservation that it does not count yet, by reservation",
            self.in_flight.clone(),
        );
        registry.register(
            "reservation_remaining_seconds",
            "Until a reservation with an end (a Capacity Block) is over, by reservation",
            self.remaining.clone(),
        );
    }

    pub(super) fn show(&self, snapshot: &Snapshot, now: Timestamp) {
        let prices = &snapshot.prices;
        self.prices.clear();
        let seconds = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_second);
        let on_demand = Priced { market: "on-demand", source: prices.on_demand_source.name() };
        self.prices.get_or_create(&on_demand).set(seconds(prices.on_demand_as_of));
        let spot = Priced { market: "spot", source: "api" };
        self.prices.get_or_create(&spot).set(seconds(prices.spot_as_of));
        for family in [&self.total, &self.available, &self.in_flight, &self.remaining] {
            family.clear();
        }
        for one in &snapshot.reservations {
            let labels = Reserved {
                id: one.id.clone(),
                instance_type: one.instance_type.clone(),
                zone: one.zone.clone(),
            };
            self.total.get_or_create(&labels).set(one.total.into());
            self.available.get_or_create(&labels).set(one.available.into());
            self.in_flight.get_or_create(&labels).set(snapshot.in_flight(&one.id).into());
            if let Some(end) = one.ends_at {
                self.remaining.get_or_create(&labels).set(end.duration_since(now).as_secs());
            }
        }
    }
}
