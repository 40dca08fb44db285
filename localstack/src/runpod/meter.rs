//! What a pod costs, span by span. Pure: it is the only account of money there is, and every view is computed from it.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::catalog::Micros;

/// Of a container's disk and a running pod's persistent volume, a GB for a month: $0.10.
const DISK_MONTH: Micros = 100_000;

/// Of a stopped pod's persistent volume: $0.20.
const STOPPED_VOLUME_MONTH: Micros = 200_000;

/// As prices per month are turned into prices per hour: 365 days of 24 hours in 12 months.
const MONTH_HOURS: Micros = 730;

/// What is billed an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub compute: Micros,
    pub disk: Micros,
}

impl Rate {
    /// Of a pod that holds its hardware: a container disk and a persistent volume of so many GB.
    #[must_use]
    pub fn running(compute: Micros, disk: u32, volume: u32) -> Self {
        Self { compute, disk: (Micros::from(disk) + Micros::from(volume)) * DISK_MONTH / MONTH_HOURS }
    }

    /// Of a stopped one: its container's disk is gone.
    #[must_use]
    pub fn stopped(volume: u32) -> Self {
        Self { compute: 0, disk: Micros::from(volume) * STOPPED_VOLUME_MONTH / MONTH_HOURS }
    }
}

/// A time at one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    from: Timestamp,
    /// `None` while it lasts.
    to: Option<Timestamp>,
    rate: Rate,
    /// Seconds that are billed in one.
    scale: f64,
}

/// Amounts of money, or of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Billed {
    /// Seconds with hardware, as the bill counts them.
    pub compute_seconds: f64,
    /// Seconds in which only a disk was paid for.
    pub disk_seconds: f64,
    /// Millionths of a dollar.
    pub compute: f64,
    pub disk: f64,
}

impl Billed {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            compute_seconds: self.compute_seconds + other.compute_seconds,
            disk_seconds: self.disk_seconds + other.disk_seconds,
            compute: self.compute + other.compute,
            disk: self.disk + other.disk,
        }
    }

    /// Millionths of a dollar.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.compute + self.disk
    }
}

/// The spans of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meter(Vec<Span>);

impl Meter {
    /// From now on it costs this, with so many billed seconds in a second.
    pub fn set(&mut self, rate: Rate, scale: f64, now: Timestamp) {
        self.stop(now);
        self.0.push(Span { from: now, to: None, rate, scale });
    }

    /// From now on it costs nothing.
    pub fn stop(&mut self, now: Timestamp) {
        if let Some(Span { to: to @ None, .. }) = self.0.last_mut() {
            *to = Some(now);
        }
    }

    /// Whether it costs something now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.rate() != Rate::default()
    }

    /// What it costs an hour now.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.0.last().filter(|span| span.to.is_none()).map_or_else(Rate::default, |span| span.rate)
    }

    /// What was billed between two times.
    #[must_use]
    pub fn billed(&self, from: Timestamp, to: Timestamp) -> Billed {
        self.0.iter().fold(Billed::default(), |sum, span| {
            let end = span.to.unwrap_or(to).min(to);
            let time = Duration::try_from(end.duration_since(span.from.max(from))).unwrap_or_default();
            let seconds = time.as_secs_f64() * span.scale;
            let amount = |hourly: Micros| super::catalog::dollars(hourly) * 1e6 * seconds / 3600.0;
            let is_compute = span.rate.compute > 0;
            sum.plus(Billed {
                compute_seconds: if is_compute { seconds } else { 0.0 },
                disk_seconds: if is_compute { 0.0 } else { seconds },
                compute: amount(span.rate.compute),
                disk: amount(span.rate.disk),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn at(seconds: u64) -> Timestamp {
        clock::after(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
    }

    #[test]
    fn hardware_is_paid_until_it_is_given_back_and_a_volume_until_the_end() {
        let mut meter = Meter::default();
        meter.set(Rate::running(3_600_000, 73, 0), 1.0, at(0));
        meter.set(Rate::stopped(73), 1.0, at(100));
        assert_eq!(meter.rate(), Rate { compute: 0, disk: 20_000 });
        meter.stop(at(300));
        assert!(!meter.is_running());
        let billed = meter.billed(at(0), at(1000));
        assert_eq!((billed.compute_seconds, billed.disk_seconds), (100.0, 200.0));
        assert!((billed.compute - 100_000.0).abs() < 1e-6, "{billed:?}");
        // 73 GB: $0.01 an hour while it ran, $0.02 after that.
        assert!((billed.disk - (10_000.0 * 100.0 + 20_000.0 * 200.0) / 3600.0).abs() < 1e-6, "{billed:?}");
    }

    #[test]
    fn a_bill_is_of_its_time_alone_and_time_may_run_faster() {
        let mut meter = Meter::default();
        meter.set(Rate::running(3_600_000, 0, 0), 1.0, at(100));
        assert_eq!(meter.billed(at(0), at(50)).compute_seconds, 0.0);
        assert_eq!(meter.billed(at(110), at(130)).compute_seconds, 20.0);
        meter.set(Rate::running(3_600_000, 0, 0), 60.0, at(120));
        assert_eq!(meter.billed(at(110), at(130)).compute_seconds, 10.0 + 600.0);
    }

    #[test]
    fn a_stopped_pod_without_a_volume_costs_nothing_and_still_counts_its_time() {
        let mut meter = Meter::default();
        meter.set(Rate::stopped(0), 1.0, at(0));
        assert!(!meter.is_running());
        assert_eq!(meter.billed(at(0), at(10)).disk_seconds, 10.0);
    }
}
