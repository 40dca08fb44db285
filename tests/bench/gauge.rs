//! Where the numbers come from: clocks, the processes' memory, the local cloud's record of calls, and the API server's
//! of requests.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use crate::world::{Namespace, World, eventually, http};

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

/// Resident memory of a part of the world, in MiB.
pub(crate) fn resident(world: &World, name: &str) -> Result<f64> {
    let pid = world.log(&format!("{name}.pid"))?;
    let pid = pid.split_whitespace().next().context("an id")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
    Ok(kib / 1024.0)
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

/// Writes about pods and nodes, statuses too, that ORCA has asked the API server for between two times.
pub(crate) fn writes(world: &World, from: f64, to: f64) -> Result<Vec<String>> {
    // The server writes its record in batches; what is later than the end tells that all before it is there. ORCA
    // renews a Lease every ten seconds.
    eventually("the API server's record", Duration::from_secs(60), || {
        let mut writes = Vec::new();
        let mut is_whole = false;
        for line in world.log("audit.log")?.lines() {
            // The last line may be half written.
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            let at = millis(entry["requestReceivedTimestamp"].as_str().context("a time")?)?;
            is_whole |= at > to;
            let verb = entry["verb"].as_str().unwrap_or_default();
            let about = entry["objectRef"]["resource"].as_str().unwrap_or_default();
            let is_write = matches!(about, "pods" | "nodes") && !matches!(verb, "get" | "list" | "watch");
            if is_write && (from..=to).contains(&at) {
                writes.push(format!("{verb} {about} {}", entry["objectRef"]["name"]));
            }
        }
        Ok(if is_whole { Ok(writes) } else { Err(writes) })
    })
}
