//! What pods cost while nothing happens.

use std::time::Duration;

use anyhow::Result;

use crate::gauge::{calls, count, now, resident, since, watches, writes};
use crate::table::Table;
use crate::world::Namespace;

/// Pods on machines; a few, since all of them share this host.
const PODS: usize = 4;
/// What is left of the start must not count as rest: a kubelet syncs a pod again after up to 90 s, and on cgroup v1
/// it reports then, once, the memory limit of containers that have none.
const SETTLE: Duration = Duration::from_secs(110);
const REST: Duration = Duration::from_secs(45);

/// ORCA without pods.
pub(crate) struct Idle {
    memory: f64,
    watches: f64,
}

impl Idle {
    pub(crate) fn read(ns: &Namespace<'_>) -> Result<Self> {
        Ok(Self { memory: resident(ns.world, "orca")?, watches: watches(ns)? })
    }
}

pub(crate) fn measure(ns: &Namespace<'_>, idle: &Idle, table: &mut Table) -> Result<()> {
    table.one("resident memory of orca, no pod ever", "MiB", idle.memory);
    let before = (resident(ns.world, "orca")?, watches(ns)?);
    table.one("resident memory of orca, pods come and gone", "MiB", before.0);
    // Two at a time, as many as this host has cores at least.
    for pair in (0..PODS).collect::<Vec<_>>().chunks(2) {
        for index in pair {
            let spec = "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]";
            ns.pod(&format!("rest-{index}"), spec)?;
        }
        ns.run(&["wait", "pods", "--all", "--for=condition=Ready", "--timeout=120s"])?;
    }
    std::thread::sleep(SETTLE);

    let (called, from) = (calls()?, now());
    std::thread::sleep(REST);
    let (called, to) = (since(&called, &calls()?), now());
    let minutes = (to - from) / 60_000.0;
    let lists = called.get("DescribeInstances").copied().unwrap_or(0);
    let others = called.values().sum::<u64>() - lists;
    let each = |calls: u64| count(usize::try_from(calls).unwrap_or(usize::MAX)) / minutes;
    table.one("at rest: lists of instances per minute, for all pods together", "calls", each(lists));
    table.bar("at rest: other cloud calls per pod per minute", "calls", each(others) / count(PODS), 0.0);
    let writes = writes(ns.world, from, to)?;
    for write in &writes {
        eprintln!("a write at rest: {write}");
    }
    table.bar("at rest: patches of pods and nodes per minute", "writes", count(writes.len()) / minutes, 0.0);
    let after = (resident(ns.world, "orca")?, watches(ns)?);
    table.one("resident memory of orca per attached pod", "MiB", (after.0 - before.0) / count(PODS));
    table.one(
        "watches at the API server per attached pod",
        "watches",
        (after.1 - idle.watches) / count(PODS),
    );
    ns.run(&["delete", "pods", "--all", "--wait=false"])?;
    ns.await_no_instance(Duration::from_secs(120))
}
