//! What the controller counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The controller's metrics. Clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) launches: Family<Result_, Counter>,
    pub(super) refusals: Family<Class, Counter>,
    pub(super) terminations: Family<Why, Counter>,
    pub(super) transitions: Family<Transition, Counter>,
    pub(super) illegal_transitions: Family<Transition, Counter>,
    pub(super) passes: Family<Result_, Counter>,
    pub(super) queue: Gauge,
    pub(super) instances: Gauge,
    pub(super) hourly_cost: Gauge<f64, AtomicU64>,
    pub(super) until_launch: Histogram,
}

/// `ok`, or the kind of the error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Result_ {
    pub(super) result: &'static str,
}

/// A class of [`crate::capacity::avoid`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Class {
    pub(super) class: &'static str,
}

/// Why a machine was ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Why {
    pub(super) why: &'static str,
}

/// From one state to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Transition {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        // From one millisecond to half a minute.
        let buckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
        Self {
            launches: Family::default(),
            refusals: Family::default(),
            terminations: Family::default(),
            transitions: Family::default(),
            illegal_transitions: Family::default(),
            passes: Family::default(),
            queue: Gauge::default(),
            instances: Gauge::default(),
            hourly_cost: Gauge::default(),
            until_launch: Histogram::new(buckets),
        }
    }
}

impl Metrics {
    /// Makes the metrics visible in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("controller");
        registry.register("launches", "Answers of RunInstances, by kind.", self.launches.clone());
        registry.register("terminations", "Machines that were ended, by reason.", self.terminations.clone());
        registry.register(
            "transitions",
            "Pods that went from one state to another.",
            self.transitions.clone(),
        );
        registry.register(
            "illegal_transitions",
            "Pods that went from one state to another that may not follow; each is a bug.",
            self.illegal_transitions.clone(),
        );
        registry.register("passes", "Looks at a pod, by outcome.", self.passes.clone());
        registry.register("queue_depth", "Pods that are due and wait.", self.queue.clone());
        registry.register("instances", "Machines that run or may run.", self.instances.clone());
        registry.register(
            "hourly_cost_dollars",
            "What the machines that run or are being launched add to the bill per hour, at list or spot price.",
            self.hourly_cost.clone(),
        );
        registry.register(
            "until_launch_seconds",
            "Time from the first sight of a bound pod until RunInstances was sent for it.",
            self.until_launch.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_name_and_a_sentence() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.launches.get_or_create(&Result_ { result: "ok" }).inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("controller_launches_total{result=\"ok\"} 1"), "{text}");
    }
}
