//! The process itself, under the names that every client library of Prometheus has for it. Linux alone: elsewhere, and
//! where `/proc` cannot be read, there are none.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Registry;
use crate::clock;

/// Of a second, in `/proc`: the same on every architecture that we run on.
const TICKS: f64 = 100.0;
const KIB: f64 = 1024.0;

const METRICS: [(&str, &str, MetricType); 6] = [
    ("process_cpu_seconds", "Processor time of the process, user and system", MetricType::Counter),
    ("process_resident_memory_bytes", "Memory that the process holds", MetricType::Gauge),
    ("process_open_fds", "File descriptors that the process has open", MetricType::Gauge),
    ("process_max_fds", "File descriptors that the process may have open", MetricType::Gauge),
    ("process_threads", "Threads of the process", MetricType::Gauge),
    ("process_start_time_seconds", "When the process started, in seconds since 1970", MetricType::Gauge),
];

/// Adds them.
pub(super) fn register(registry: &mut Registry) {
    registry.collect(METRICS, Process { started: clock::now().as_second() });
}

#[derive(Debug)]
struct Process {
    /// Seconds since 1970: what `/proc` says of it is off where the machine's clock was set since it booted.
    started: i64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for ((name, help, kind), value) in METRICS.into_iter().zip(values(self.started)) {
            let Some(value) = value else { continue };
            let metric = encoder.encode_descriptor(name, &format!("{help}."), None, kind)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(metric)?,
                MetricType::Gauge | MetricType::Histogram | MetricType::Info | MetricType::Unknown => {
                    ConstGauge::new(value).encode(metric)?;
                }
            }
        }
        Ok(())
    }
}

/// In the order of [`METRICS`].
#[expect(clippy::cast_precision_loss, reason = "exact for millions of years")]
fn values(started: i64) -> [Option<f64>; 6] {
    let read = |file: &str| std::fs::read_to_string(file).ok();
    let stat = read("/proc/self/stat").unwrap_or_default();
    let status = read("/proc/self/status").unwrap_or_default();
    let limits = read("/proc/self/limits").unwrap_or_default();
    let fds = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    [
        Some(ticks(&stat, 13)).zip(ticks(&stat, 14)).and_then(|(user, system)| Some(user? + system)),
        field(&status, "VmRSS:").map(|kib| kib * KIB),
        // Not the one that reads the folder.
        fds.map(|count| f64::from(u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX))),
        field(&limits, "Max open files"),
        field(&status, "Threads:"),
        Some(started as f64),
    ]
}

/// The number after `start` at the beginning of a line.
fn field(text: &str, start: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(start))?.split_whitespace().next()?.parse().ok()
}

/// A field of `/proc/self/stat` counted from 0, in seconds. The second field, a name, may have spaces.
fn ticks(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks: f64 = rest.split(' ').nth(number - 2)?.parse().ok()?;
    Some(ticks / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        let mut registry = Registry::default();
        register(&mut registry);
        let text = registry.encode().unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
            line.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6, "{text}");
        assert!(value("process_open_fds") >= 3.0 && value("process_threads") >= 1.0, "{text}");
        assert!(value("process_cpu_seconds_total") >= 0.0 && value("process_max_fds") > 3.0, "{text}");
        assert!(value("process_start_time_seconds") > 1.7e9, "{text}");
    }
}
