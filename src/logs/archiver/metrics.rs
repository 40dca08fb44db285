//! What the archive counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::clock;
use crate::logs::batch::Batch;
use crate::telemetry::Registry;

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
        registry.register("logs_read_bytes", "Bytes of log files read from machines", self.read.clone());
        registry.register("logs_events", "Events that CloudWatch Logs took", self.events.clone());
        registry.register(
            "logs_archived_bytes",
            "Bytes that CloudWatch Logs took, as it charges for them",
            self.bytes.clone(),
        );
        registry.register(
            "logs_refused_events",
            "Events that CloudWatch Logs refused for good",
            self.refused.clone(),
        );
        registry.register("logs_cuts", "Places in logs where lines are missing", self.cuts.clone());
        registry.register(
            "logs_waited_seconds",
            "Time that batches waited because CloudWatch Logs was throttled, denied or away",
            self.waited.clone(),
        );
        registry.register("logs_failures", "Calls to CloudWatch Logs that failed", self.failures.clone());
        registry.register("logs_sessions", "Machines whose logs are being read", self.sessions.clone());
        registry.register("logs_interruptions", "Sessions with machines that broke", self.breaks.clone());
        registry.register(
            "logs_lag_seconds",
            "From a line's own time to its arrival in CloudWatch Logs, of the oldest line of each batch",
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
