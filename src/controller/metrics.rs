//! What the controller counts.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::journey::Phase;
use crate::clock;
use crate::pod::state::State;
use crate::telemetry::Registry;

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
    pub(super) max_instances: Gauge,
    pub(super) listed: Gauge,
    /// What is announced for machines.
    pub(super) scheduled: Family<OfKind, Gauge>,
    pub(super) cloud_reachable: Gauge,
    /// Machines without a pod, and what they cost.
    pub(super) orphans: Gauge,
    pub(super) orphans_cost: Gauge<f64, AtomicU64>,
    /// Volumes and network interfaces without a machine, and what they cost.
    pub(super) leftovers: Family<OfKind, Gauge>,
    pub(super) leftovers_cost: Family<OfKind, Gauge<f64, AtomicU64>>,
    pub(super) leftovers_deleted: Family<Deletion, Counter>,
    /// 1 while launches wait for all pods.
    pub(super) launches_wait: Gauge,
    pub(super) hourly_cost: Gauge<f64, AtomicU64>,
    pub(super) max_hourly_cost: Gauge<f64, AtomicU64>,
    pub(super) until_launch: Histogram,
    pods: Family<InState, Gauge>,
    stuck: Family<For, Gauge>,
    waits: Waits,
    phases: Family<InPhase, Histogram, fn() -> Histogram>,
    whole: Histogram,
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

/// A [`crate::cloud::LeftoverKind`], or EC2's code of a scheduled event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfKind {
    pub(super) kind: &'static str,
}

/// The deletion of a leftover: its kind, and `ok` or the kind of the error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Deletion {
    pub(super) kind: &'static str,
    pub(super) result: &'static str,
}

/// From one state to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Transition {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct For {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPhase {
    phase: &'static str,
}

/// Steps of a launch take from a tenth of a second to half an hour.
fn of_a_launch() -> Histogram {
    Histogram::new([0.1, 0.3, 1.0, 3.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0])
}

impl Default for Metrics {
    fn default() -> Self {
        // From one millisecond to half a minute.
        let buckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
        let metrics = Self {
            launches: Family::default(),
            refusals: Family::default(),
            terminations: Family::default(),
            transitions: Family::default(),
            illegal_transitions: Family::default(),
            passes: Family::default(),
            queue: Gauge::default(),
            instances: Gauge::default(),
            max_instances: Gauge::default(),
            listed: Gauge::default(),
            scheduled: Family::default(),
            cloud_reachable: Gauge::default(),
            launches_wait: Gauge::default(),
            orphans: Gauge::default(),
            orphans_cost: Gauge::default(),
            leftovers: Family::default(),
            leftovers_cost: Family::default(),
            leftovers_deleted: Family::default(),
            hourly_cost: Gauge::default(),
            max_hourly_cost: Gauge::default(),
            until_launch: Histogram::new(buckets),
            pods: Family::default(),
            stuck: Family::default(),
            waits: Waits::default(),
            phases: Family::new_with_constructor(of_a_launch),
            whole: of_a_launch(),
        };
        for state in State::ALL {
            metrics.pods(state).set(0);
        }
        metrics
    }
}

impl Metrics {
    /// When the cloud last told of all machines, in seconds since 1970; 0 is never.
    #[must_use]
    pub fn listed(&self) -> Gauge {
        self.listed.clone()
    }

    /// Makes the metrics visible in a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.register_pods(registry);
        registry.register("controller_launches", "Answers of RunInstances, by kind", self.launches.clone());
        registry.register(
            "controller_launch_refusals",
            "Launches that the cloud refused, by what the refusal means",
            self.refusals.clone(),
        );
        registry.register(
            "controller_terminations",
            "Machines that were ended, by reason",
            self.terminations.clone(),
        );
        registry.register(
            "controller_transitions",
            "Pods that went from one state to another, by both",
            self.transitions.clone(),
        );
        registry.register(
            "controller_illegal_transitions",
            "Pods that went from one state to another that may not follow, by both; each is a bug",
            self.illegal_transitions.clone(),
        );
        registry.register("controller_passes", "Looks at a pod, by result", self.passes.clone());
        registry.register("controller_queue_depth", "Pods that are due and wait", self.queue.clone());
        self.register_machines(registry);
    }

    fn register_pods(&self, registry: &mut Registry) {
        registry.register("pods", "Pods that are known, by state", self.pods.clone());
        registry.register(
            "controller_stuck_pods",
            "Pods for which five attempts in a row have failed, by what they wait for or what failed: `orca stuck` lists them",
            self.stuck.clone(),
        );
        registry.collect([WAIT], self.waits.clone());
        registry.register(
            "pod_launch_phase_seconds",
            "How long pods took to be requested, running, reachable, attached and started, each from the phase before",
            self.phases.clone(),
        );
        registry.register(
            "pod_start_seconds",
            "Time from the binding of a pod until all its containers had started",
            self.whole.clone(),
        );
        registry.register(
            "controller_until_launch_seconds",
            "Time from the first sight of a bound pod until RunInstances was sent for it",
            self.until_launch.clone(),
        );
    }

    fn register_machines(&self, registry: &mut Registry) {
        registry.register("controller_instances", "Machines that run or may run", self.instances.clone());
        registry.register(
            "controller_max_instances",
            "Machines that may run at once (limits.maxConcurrentInstances)",
            self.max_instances.clone(),
        );
        registry.register(
            "controller_instances_listed_timestamp_seconds",
            "When the cloud last answered with all machines, in seconds since 1970; 0 is never",
            self.listed.clone(),
        );
        registry.register(
            "controller_scheduled_events",
            "Events that EC2 announces for machines of this node and that are to come, by code",
            self.scheduled.clone(),
        );
        registry.register(
            "cloud_reachable",
            "Whether the cloud answers and lets ORCA work: the Node's condition CloudReachable",
            self.cloud_reachable.clone(),
        );
        registry.register(
            "controller_orphaned_instances",
            "Machines of this node that no pod owns, as the last list shows them",
            self.orphans.clone(),
        );
        registry.register(
            "controller_orphaned_hourly_cost_dollars",
            "What they cost per hour, at list or spot price",
            self.orphans_cost.clone(),
        );
        registry.register(
            "controller_leftovers",
            "Volumes and network interfaces of this node that outlived their machines, as the last list shows them, by kind",
            self.leftovers.clone(),
        );
        registry.register(
            "controller_leftovers_hourly_cost_dollars",
            "What they cost per hour at the prices of us-east-1, as far as those are known, by kind",
            self.leftovers_cost.clone(),
        );
        registry.register(
            "controller_leftovers_deleted",
            "Deletions of what outlived its machine, by kind and result",
            self.leftovers_deleted.clone(),
        );
        registry.register(
            "controller_launches_wait",
            "Whether all pods' launches wait, but for a probe now and then, because RunInstances fails for everybody",
            self.launches_wait.clone(),
        );
        registry.register(
            "controller_hourly_cost_dollars",
            "What the machines that run or are being launched add to the bill per hour, at list or spot price",
            self.hourly_cost.clone(),
        );
        registry.register(
            "controller_max_hourly_cost_dollars",
            "What they may add at most (limits.maxHourlyCost); +Inf without a limit",
            self.max_hourly_cost.clone(),
        );
    }

    /// A pod went from one state to another; `None` is none.
    pub(super) fn moved(&self, from: Option<State>, to: Option<State>) {
        if from == to {
            return;
        }
        if let Some(state) = from {
            self.pods(state).dec();
        }
        if let Some(state) = to {
            self.pods(state).inc();
        }
    }

    /// A pod is stuck for this reason, and was for that; `None` is not at all.
    pub(super) fn stuck(&self, from: Option<&'static str>, to: Option<&'static str>) {
        if from == to {
            return;
        }
        if let Some(reason) = from {
            self.stuck.get_or_create(&For { reason }).dec();
        }
        if let Some(reason) = to {
            self.stuck.get_or_create(&For { reason }).inc();
        }
    }

    /// Since when a pod waits for a machine that has it; `None` if it does not.
    pub(super) fn waits(&self, uid: &str, since: Option<Timestamp>) {
        self.waits.set(uid, since);
    }

    /// A step was over after this time.
    pub(super) fn passed(&self, phase: Phase, seconds: f64) {
        self.phases.get_or_create(&InPhase { phase: phase.name() }).observe(seconds);
    }

    /// A pod had started after this time.
    pub(super) fn started(&self, seconds: f64) {
        self.whole.observe(seconds);
    }

    fn pods(&self, state: State) -> Gauge {
        self.pods.get_or_create(&InState { state: state.name() }).clone()
    }
}

const WAIT: (&str, &str, MetricType) = (
    "orca_pods_longest_wait_seconds",
    "How long the pod that waits longest for its machine has waited since it was bound; 0 if none does",
    MetricType::Gauge,
);

/// By pod UID, since when.
#[derive(Clone, Debug, Default)]
struct Waits(Arc<Mutex<HashMap<String, Timestamp>>>);

impl Waits {
    fn set(&self, uid: &str, since: Option<Timestamp>) {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match since {
            Some(since) => drop(waits.insert(uid.to_owned(), since)),
            None => drop(waits.remove(uid)),
        }
    }
}

impl Collector for Waits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let oldest = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().min().copied();
        let wait = oldest.map_or(0.0, |since| clock::now().duration_since(since).as_secs_f64().max(0.0));
        let (name, help, kind) = WAIT;
        encoder.encode_descriptor(name, &format!("{help}."), None, kind)?.encode_gauge(&wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(metrics: &Metrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        registry.encode().unwrap()
    }

    #[test]
    fn every_metric_has_a_name_and_a_sentence() {
        let metrics = Metrics::default();
        metrics.launches.get_or_create(&Result_ { result: "ok" }).inc();
        let text = shown(&metrics);
        assert!(text.contains("orca_controller_launches_total{result=\"ok\"} 1"), "{text}");
        assert!(
            text.contains("# HELP orca_controller_launches Answers of RunInstances, by kind.\n"),
            "{text}"
        );
    }

    #[test]
    fn pods_are_counted_where_they_are_and_the_longest_wait_is_told() {
        let metrics = Metrics::default();
        metrics.moved(None, Some(State::Waiting));
        metrics.moved(None, Some(State::Waiting));
        metrics.moved(Some(State::Waiting), Some(State::Attached));
        metrics.moved(Some(State::Attached), None);
        let long_ago = clock::now().checked_sub(jiff::SignedDuration::from_secs(1000)).unwrap();
        metrics.waits("a", Some(long_ago));
        metrics.waits("b", Some(clock::now()));
        let text = shown(&metrics);
        assert!(text.contains("orca_pods{state=\"waiting\"} 1\n"), "{text}");
        assert!(text.contains("orca_pods{state=\"attached\"} 0\n"), "{text}");
        let wait = |text: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix("orca_pods_longest_wait_seconds "));
            line.unwrap().parse().unwrap()
        };
        assert!((1000.0..1060.0).contains(&wait(&text)));
        metrics.waits("a", None);
        assert!(wait(&shown(&metrics)) < 60.0);
    }
}
