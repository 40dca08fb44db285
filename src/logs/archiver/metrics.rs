//! What the archive counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::clock;
use crate::logs::batch::Batch;

/// The archive's metrics. Clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) read: Counter,
    events: Counter,
    bytes: Counter,
    pub(super) refused: Counter,
    pub(super) cuts: Counter,
    pub(super) waited: Counter<f64, AtomicU64>,
    pub(super) failures: Counter,
    pub(super) sessions: Gauge,
    pub(super) breaks: Counter,
    lag: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            read: Counter::default(),
            events: Counter::default(),
            bytes: Counter::default(),
            refused: Counter::default(),
            cuts: Counter::default(),
            waited: Counter::default(),
            failures: Counter::default(),
            sessions: Gauge::default(),
            breaks: Counter::default(),
            lag: Histogram::new([0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0]),
        }
    }
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let area = registry.sub_registry_with_prefix("logs");
        area.register_with_unit(
            "read",
            "Bytes of log files read from machines",
            Unit::Bytes,
            self.read.clone(),
        );
        area.register("events", "Events that CloudWatch Logs took", self.events.clone());
        area.register_with_unit(
            "archived",
            "Bytes that CloudWatch Logs took, as it charges for them",
            Unit::Bytes,
            self.bytes.clone(),
        );
        area.register("refused_events", "Events that CloudWatch Logs refused for good", self.refused.clone());
        area.register("cuts", "Places in logs where lines are missing", self.cuts.clone());
        area.register_with_unit(
            "waited",
            "Time that batches waited because CloudWatch Logs was throttled, denied or away",
            Unit::Seconds,
            self.waited.clone(),
        );
        area.register("failures", "Calls to CloudWatch Logs that failed", self.failures.clone());
        area.register("sessions", "Machines whose logs are being read", self.sessions.clone());
        area.register("interruptions", "Sessions with machines that broke", self.breaks.clone());
        area.register_with_unit(
            "lag",
            "From a line's own time to its arrival in CloudWatch Logs, of the oldest line of each batch",
            Unit::Seconds,
            self.lag.clone(),
        );
    }

    /// A batch arrived, but for `rest`.
    pub(super) fn put(&self, batch: &Batch, rest: Option<&Batch>) {
        let (events, bytes) = rest.map_or((0, 0), |rest| (rest.events().len(), rest.bytes()));
        self.events.inc_by((batch.events().len() - events) as u64);
        self.bytes.inc_by((batch.bytes() - bytes) as u64);
        if let Some(first) = batch.events().first() {
            let lag = clock::now().as_millisecond() - first.millisecond;
            self.lag.observe(std::time::Duration::from_millis(u64::try_from(lag).unwrap_or(0)).as_secs_f64());
        }
    }
}
