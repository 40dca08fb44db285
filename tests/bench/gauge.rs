//! Where the numbers come from: clocks, the local cloud's record of calls, and the API server's metrics.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::world::{Namespace, http};

/// Calls by their action.
pub(crate) type Calls = BTreeMap<String, u64>;

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "what is compared are times of several programs")]
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// Milliseconds since 1970 at which this host booted, by the clock that `/proc/uptime` and the start of processes are
/// told in, on machines too.
pub(crate) fn boot_time() -> Result<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let seconds: f64 = uptime.split_whitespace().next().context("uptime")?.parse()?;
    Ok(now() - seconds * 1000.0)
}

/// Milliseconds since 1970 of a timestamp as programs write it.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit")]
pub(crate) fn millis(timestamp: &str) -> Result<f64> {
    let timestamp: Timestamp = timestamp.parse().with_context(|| format!("the time `{timestamp}`"))?;
    Ok(timestamp.as_nanosecond() as f64 / 1e6)
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}

/// The same of what was counted in 64 bits.
pub(crate) fn total(number: u64) -> f64 {
    count(usize::try_from(number).unwrap_or(usize::MAX))
}

/// Calls that the local cloud has answered.
pub(crate) fn calls() -> Result<Calls> {
    let log = http("GET", "/_local/calls", None)?;
    serde_json::from_value(log["counts"].clone()).context("the local cloud's counts")
}

/// What was called between two looks.
pub(crate) fn since(before: &Calls, after: &Calls) -> Calls {
    let new = |(name, count): (&String, &u64)| {
        let new = count - before.get(name).copied().unwrap_or(0);
        (new > 0).then(|| (name.clone(), new))
    };
    after.iter().filter_map(new).collect()
}

/// Watches that are open at the API server, whoever holds them.
pub(crate) fn watches(ns: &Namespace<'_>) -> Result<f64> {
    let metrics = ns.run(&["get", "--raw", "/metrics"])?;
    let is_watch =
        |line: &&str| line.starts_with("apiserver_longrunning_requests{") && line.contains("verb=\"WATCH\"");
    metrics
        .lines()
        .filter(is_watch)
        .map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>().context("a gauge"))
        .sum()
}
