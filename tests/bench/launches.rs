//! Launches at EC2's own rates: a thousand pods at once, and a pod that forty pools refuse. The machines are states only.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bursts::{NODE, create, launches};
use crate::configured::Configured;
use crate::gauge::count;
use crate::table::Table;
use crate::world::{Namespace, World, http, metrics};

/// EC2's bucket of RunInstances: so many at once, and so many a second then.
const BURST: f64 = 5.0;
const PER_SECOND: f64 = 2.0;
pub(crate) const STATES: (&str, &str) = ("ORCA_MACHINES", "none");

const PODS: usize = 1000;
/// Launch time in percent of what the bucket alone takes.
const PERCENT: f64 = 105.0;

/// Pools that have nothing: thirteen types in three zones, and one zone of the last.
const DRY: usize = 40;
const ZONES: [&str; 3] = ["us-east-1a", "us-east-1b", "us-east-1c"];
const SIZES: [&str; 7] = ["large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "24xlarge"];
/// In milliseconds, beside the bucket; the local cloud's own answers take a few milliseconds each and are in it.
const DRY_BAR: f64 = 1500.0;

/// What the bucket alone makes so many calls take, in milliseconds.
fn bucket(calls: usize) -> f64 {
    ((count(calls) - BURST) / PER_SECOND).max(0.0) * 1000.0
}

/// A pod for which only the forty-first pool has a machine.
pub(crate) fn dry(table: &mut Table) -> Result<()> {
    let world = World::start_with(&[STATES])?;
    let result = world.in_namespace(|ns| {
        http("PUT", "/_local/throttle", Some(&json!({"mode": "aws"})))?;
        let types: Vec<String> =
            ["c7i", "m7i"].iter().flat_map(|of| SIZES.map(|size| format!("{of}.{size}"))).collect();
        let pools = types.iter().flat_map(|kind| ZONES.map(|zone| (kind, zone)));
        for (kind, zone) in pools.take(DRY) {
            http("PUT", &format!("/_local/pools/{zone}/{kind}"), Some(&json!({"capacity": 0})))?;
        }
        let before = answers()?;
        let wish = json!({"orca.research/instance-types": types.join(",")});
        let bound = create(ns, NODE, "dry", 1, &wish)?;
        let wait = launches(ns, &bound, Duration::from_secs(120))?.into_iter().next().context("a launch")?;
        let after = answers()?;
        let calls = after.values().sum::<u64>() - before.values().sum::<u64>();
        ensure!(usize::try_from(calls)? == DRY + 1, "{calls} calls of RunInstances: {after:?}");
        let name = format!("bound → right launch, behind {DRY} dry pools, less what EC2's bucket takes");
        table.bar(&name, "ms", wait - bucket(DRY + 1), DRY_BAR);
        ns.run(&["delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"])?;
        ns.await_no_instance(Duration::from_secs(60))
    });
    world.stop().and(result)
}

/// A thousand pods at once.
pub(crate) fn thousand(table: &mut Table) -> Result<()> {
    let config = Configured::new(&WIDE)?;
    let world = World::start_with(&[STATES, ("ORCA_CONFIG", config.path()?)])?;
    let result = world.in_namespace(|ns| {
        http("PUT", "/_local/throttle", Some(&json!({"mode": "aws"})))?;
        let bound = create(ns, NODE, "thousand", PODS, &json!({}))?;
        let first = bound.values().map(|(_, at)| *at).fold(f64::INFINITY, f64::min);
        let waits = launches(ns, &bound, Duration::from_secs(900))?;
        // Each wait counts from its own pod's binding; together they end when the last is launched.
        let ends = bound.values().map(|(_, at)| *at).fold(0.0, f64::max);
        let last = last_launch(ns)?;
        eprintln!("bound within {:.1} s, {} waits", (ends - first) / 1000.0, waits.len());
        let name = format!("{PODS} pods at once: launch time, of the bucket's own minimum");
        table.bar(&name, "%", (last - first) / bucket(PODS) * 100.0, PERCENT);
        let mut machines: BTreeMap<String, usize> = BTreeMap::new();
        for one in http("GET", "/_local/instances", None)?.as_array().context("instances")? {
            let uid = one["tags"]["orca.research/pod-uid"].as_str().context("uid")?.to_owned();
            *machines.entry(uid).or_default() += 1;
        }
        let most = machines.values().copied().max().unwrap_or_default();
        table.bar(
            &format!("{PODS} pods at once: most machines of one pod, ever"),
            "machines",
            count(most),
            1.0,
        );
        table.bar(
            &format!("{PODS} pods at once: pods without a machine"),
            "pods",
            count(PODS - machines.len()),
            0.0,
        );
        for (result, calls) in answers()? {
            table.one(
                &format!("{PODS} pods at once: RunInstances answered `{result}`"),
                "calls",
                count(usize::try_from(calls)?),
            );
        }
        ns.run(&["delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"])?;
        ns.await_no_instance(Duration::from_secs(400))
    });
    world.stop().and(result)
}

/// The world's configuration with room for all of them, and patience with machines that are states only. The first
/// subnet has room for two thousand machines.
pub(crate) const WIDE: [(&str, &str); 3] = [
    ("maxConcurrentInstances: 300", "maxConcurrentInstances: 2200"),
    ("bootDeadline: 90s", "bootDeadline: 1h"),
    (
        "subnetIDs: [subnet-0c10ad0000000000a,",
        "subnetIDs: [subnet-0c10ad0000000001b, subnet-0c10ad0000000000a,",
    ),
];

/// When the last machine was launched, in milliseconds since 1970.
fn last_launch(ns: &Namespace<'_>) -> Result<f64> {
    let all = ns.instances()?;
    let times = all.iter().filter_map(|one: &Value| one["launched_at"].as_str()).map(crate::gauge::millis);
    times.collect::<Result<Vec<f64>>>().map(|all| all.into_iter().fold(0.0, f64::max))
}

/// Calls of RunInstances by ORCA's own count, by result.
fn answers() -> Result<BTreeMap<String, u64>> {
    let metrics = metrics()?;
    let of = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("orca_cloud_calls_total{action=\"RunInstances\",result=\"")?;
        let (result, count) = rest.split_once("\"} ")?;
        Some((result.to_owned(), count.parse().ok()?))
    });
    Ok(of.collect())
}
