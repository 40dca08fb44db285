//! What pods cost while nothing happens.

use std::time::Duration;

use anyhow::Result;

use crate::audit::{ORCA, requests};
use crate::gauge::{calls, count, now, since, total, watches};
use crate::process::Process;
use crate::table::Table;
use crate::world::Namespace;

/// Pods on machines; a few, since all of them share this host.
const PODS: usize = 4;
/// What is left of the start must not count as rest: a kubelet syncs a pod again after up to 90 s, and on cgroup v1
/// it reports then, once, the memory limit of containers that have none.
const SETTLE: Duration = Duration::from_secs(110);
const REST: Duration = Duration::from_secs(45);
/// In milliseconds.
const HOUR: f64 = 3_600_000.0;

/// ORCA without pods.
pub(crate) struct Idle {
    memory: f64,
    watches: f64,
    /// In seconds an hour.
    cpu: f64,
}

impl Idle {
    pub(crate) fn read(ns: &Namespace<'_>) -> Result<Self> {
        let orca = Process::of(ns.world, "orca")?;
        let (memory, watches) = (orca.resident()?, watches(ns)?);
        let (cpu, from) = (orca.cpu()?, now());
        std::thread::sleep(REST);
        Ok(Self { memory, watches, cpu: (orca.cpu()? - cpu) / (now() - from) * HOUR })
    }
}

pub(crate) fn measure(ns: &Namespace<'_>, idle: &Idle, table: &mut Table) -> Result<()> {
    table.one("resident memory of orca, no pod ever", "MiB", idle.memory);
    let orca = Process::of(ns.world, "orca")?;
    let before = (orca.resident()?, watches(ns)?);
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

    let (called, cpu, from) = (calls()?, orca.cpu()?, now());
    std::thread::sleep(REST);
    let (called, cpu, to) = (since(&called, &calls()?), orca.cpu()? - cpu, now());
    let minutes = (to - from) / 60_000.0;
    let lists = called.get("DescribeInstances").copied().unwrap_or(0);
    let others = called.values().sum::<u64>() - lists;
    let each = |calls: u64| total(calls) / minutes;
    table.one("at rest: lists of instances per minute, for all pods together", "calls", each(lists));
    table.bar("at rest: other cloud calls per pod per minute", "calls", each(others) / count(PODS), 0.0);
    let mut writes = requests(ns.world, ORCA, from, to)?;
    writes.retain(|one| one.is_write() && matches!(one.about.split('/').next(), Some("pods" | "nodes")));
    for write in &writes {
        eprintln!("a write at rest: {} {}", write.kind(), write.name);
    }
    table.bar("at rest: patches of pods and nodes per minute", "writes", count(writes.len()) / minutes, 0.0);
    let cpu = cpu / (to - from) * HOUR;
    table.one("at rest: CPU of orca without pods, per hour", "s", idle.cpu);
    table.one("at rest: CPU of orca per attached pod, per hour", "s", (cpu - idle.cpu) / count(PODS));
    let after = (orca.resident()?, watches(ns)?);
    table.one("resident memory of orca per attached pod", "MiB", (after.0 - before.0) / count(PODS));
    table.one(
        "watches at the API server per attached pod",
        "watches",
        (after.1 - idle.watches) / count(PODS),
    );
    ns.run(&["delete", "pods", "--all", "--wait=false"])?;
    ns.await_no_instance(Duration::from_secs(120))
}
