//! What is known of the account at RunPod.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::balance::Balance;
use super::governor::Standing;
use crate::telemetry::Registry;

/// Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests_left: Family<Window, Gauge>,
    balance: Gauge<f64, AtomicU64>,
    spend: Gauge<f64, AtomicU64>,
    pub(super) launches_wait: Gauge,
    pub(super) duplicates: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Window {
    window: &'static str,
}

impl Metrics {
    pub(super) fn balance(&self, balance: Balance) {
        self.balance.set(balance.credits.dollars());
        self.spend.set(balance.spend.dollars());
    }

    pub(super) fn standing(&self, windows: &[Standing]) {
        for one in windows {
            self.requests_left.get_or_create(&Window { window: one.span.name() }).set(one.left.into());
        }
    }

    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "runpod_requests_left",
            "Requests that RunPod's rate leaves this account, by window",
            self.requests_left.clone(),
        );
        registry.register(
            "runpod_balance_dollars",
            "Credits of the account at RunPod, as they were read last",
            self.balance.clone(),
        );
        registry.register(
            "runpod_hourly_spend_dollars",
            "What the account at RunPod spends per hour, whoever started it, as it was read last",
            self.spend.clone(),
        );
        registry.register(
            "runpod_launches_wait",
            "Whether no pod is created at RunPod now: the key is not taken, or the money is gone",
            self.launches_wait.clone(),
        );
        registry.register(
            "runpod_duplicates",
            "Pods at RunPod that one launch made beside another, and that were deleted",
            self.duplicates.clone(),
        );
    }
}
