//! ORCA is killed beside a thousand pods and started again: how long until each is matched with its machine again, and
//! what that asks of the API server and of the cloud. The machines are states only.
//!
//! How long is told by ORCA's own page of metrics, which alone knows it. What was asked is told by those who were asked,
//! and so is that no pod got another machine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::audit::{ORCA, by_kind, requests};
use crate::bursts::{NODE, UNLIMITED, create, launches};
use crate::configured::Configured;
use crate::gauge::{Calls, calls, count, now, since, total};
use crate::launches::{STATES, WIDE};
use crate::table::{Sample, Table};
use crate::world::clients::python;
use crate::world::{CLOUD, Namespace, eventually, http, metric, text};

const PODS: usize = 1000;
const ROUNDS: usize = 10;
/// Pods that are deleted, and as many that are bound, while there is no ORCA.
const CHANGED: usize = 10;
/// For a thousand machines to be launched, and for anything that follows a start.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a start of ORCA asked for, until a moment that was awaited.
struct Asked {
    /// Until then, in milliseconds.
    took: f64,
    requests: BTreeMap<String, u64>,
    calls: Calls,
}

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let config = Configured::new(&[&WIDE[..], &[UNLIMITED]].concat())?;
    let world = crate::world::World::start_with(&[STATES, ("ORCA_CONFIG", config.path()?)])?;
    let result = world.in_namespace(|ns| {
        let bound = create(ns, NODE, "restart", PODS, &json!({}))?;
        launches(ns, &bound, PATIENCE)?;
        await_matched(PODS)?;
        http("PUT", "/_local/throttle", Some(&json!({"mode": "aws"})))?;
        let before = living(ns)?;
        still(table, ns)?;
        ensure!(living(ns)? == before, "not the machines that were there before ORCA was killed");
        changed(table, ns)?;
        http("PUT", "/_local/throttle", Some(&json!({"mode": "off"})))?;
        ns.run(&["delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"])?;
        ns.await_no_instance(Duration::from_secs(400))
    });
    world.stop().and(result)
}

/// Nothing has changed meanwhile.
fn still(table: &mut Table, ns: &Namespace<'_>) -> Result<()> {
    let (mut ours, mut theirs, mut last) = (Vec::new(), Vec::new(), None);
    for _ in 0..ROUNDS {
        ns.world.script(&["orca-kill"])?;
        theirs.push(two_lists(ns)?);
        let asked = start(ns, || await_matched(PODS))?;
        ours.push(asked.took);
        last = Some(asked);
    }
    let asked = last.context("a round")?;
    let name = format!("kill -9, start: until {PODS} pods have their machines again");
    let others = Sample { name: "the same two lists alone, by kube and boto3", values: &theirs };
    table.compare("ms", Sample { name: &name, values: &ours }, others);
    let of = |kind: &str| total(asked.requests.get(kind).copied().unwrap_or(0));
    table.bar("in that time: lists of pods", "requests", of("list pods"), 1.0);
    let lists = total(asked.calls.get("DescribeInstances").copied().unwrap_or(0));
    table.bar("in that time: lists of instances", "calls", lists, 1.0);
    let is_write = |kind: &str| {
        kind.contains(" pods") && !["get ", "list ", "watch "].iter().any(|verb| kind.starts_with(verb))
    };
    let writes: u64 = asked.requests.iter().filter(|(kind, _)| is_write(kind)).map(|(_, of)| of).sum();
    table.bar("in that time: writes to pods", "requests", total(writes), 0.0);
    let is_change = |action: &str| ["RunInstances", "TerminateInstances", "CreateTags"].contains(&action);
    let changes: u64 = asked.calls.iter().filter(|(action, _)| is_change(action)).map(|(_, of)| of).sum();
    table.bar("in that time: calls that change instances", "calls", total(changes), 0.0);
    tell(table, "in that time", &asked);
    Ok(())
}

/// Some pods were deleted meanwhile, and as many were bound.
fn changed(table: &mut Table, ns: &Namespace<'_>) -> Result<()> {
    ns.world.script(&["orca-kill"])?;
    for index in 0..CHANGED {
        ns.run(&["delete", "pod", &format!("restart-{index}"), "--wait=false"])?;
    }
    create(ns, NODE, "anew", CHANGED, &json!({}))?;
    let asked = start(ns, || {
        eventually("the changes to be made good", PATIENCE, || {
            let left = gone(ns)?;
            let new = living(ns)?.keys().filter(|name| name.starts_with("anew-")).count();
            Ok(if left == 0 && new == CHANGED { Ok(()) } else { Err((left, new)) })
        })?;
        await_matched(PODS)
    })?;
    let name = format!("the same, with {CHANGED} pods deleted and {CHANGED} bound meanwhile");
    table.one(&name, "ms", asked.took);
    let per_pod = |all: u64| total(all) / count(2 * CHANGED);
    let about = |kind: &str| {
        ["pods", "events"].iter().any(|of| kind.contains(of))
            && !kind.contains("list")
            && !kind.contains("watch")
    };
    let requests: u64 = asked.requests.iter().filter(|(kind, _)| about(kind)).map(|(_, of)| of).sum();
    table.one(
        "of that, requests about pods and their events, per pod that changed",
        "requests",
        per_pod(requests),
    );
    let acts: u64 = asked
        .calls
        .iter()
        .filter(|(action, _)| *action != "DescribeInstances" && *action != "StartSession")
        .map(|(_, of)| of)
        .sum();
    table.one("of that, cloud calls besides lists and dials, per pod that changed", "calls", per_pod(acts));
    tell(table, "with changes", &asked);
    Ok(())
}

/// Starts ORCA and waits; what it asked for until then.
fn start(ns: &Namespace<'_>, wait: impl FnOnce() -> Result<()>) -> Result<Asked> {
    let (called, from) = (calls()?, now());
    ns.world.script(&["orca-start"])?;
    wait()?;
    let to = now();
    let calls = since(&called, &calls()?);
    let requests = by_kind(&requests(ns.world, ORCA, from, to)?);
    Ok(Asked { took: to - from, requests, calls })
}

/// Waits until ORCA says that so many pods have a machine that is on its way up.
fn await_matched(pods: usize) -> Result<()> {
    let begin = Instant::now();
    loop {
        // Refused while ORCA is down, and absent before it has looked.
        let booting = metric("orca_pods{state=\"booting\"}").unwrap_or(0.0);
        if booting >= count(pods) {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "{booting} pods of {pods} have a machine after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ids of the instances that may run, by the name of their pod; two of one pod are an error.
fn living(ns: &Namespace<'_>) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for one in ns.instances()? {
        if one["state"] == "shutting-down" {
            continue;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        let pod = text(&one["tags"]["orca.research/pod-name"])?;
        let before = all.insert(pod.clone(), text(&one["id"])?);
        ensure!(before.is_none(), "two machines of {pod}");
    }
    Ok(all)
}

/// How many of the pods that were deleted are still there, or their machines.
fn gone(ns: &Namespace<'_>) -> Result<usize> {
    let path = format!("/api/v1/namespaces/{}/pods", ns.name);
    let pods = ns.world.get(&path)?.context("the pods")?;
    let pods = pods["items"].as_array().context("items")?;
    let deleted = pods.iter().filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null()).count();
    let machines = living(ns)?;
    let kept = (0..CHANGED).filter(|index| machines.contains_key(&format!("restart-{index}"))).count();
    Ok(deleted + kept)
}

/// What nobody can do without, by others: all pods of the node, and all instances; in milliseconds.
fn two_lists(ns: &Namespace<'_>) -> Result<f64> {
    let begin = Instant::now();
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}");
    let pods = ns.world.get(&path)?.context("the pods")?;
    let took = begin.elapsed().as_secs_f64() * 1000.0;
    ensure!(pods["items"].as_array().is_some_and(|items| items.len() >= PODS), "not all pods");
    let output = python("timed.py").args(["instances", CLOUD]).output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    let theirs: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(theirs["items"].as_u64().is_some_and(|items| items >= 1000), "not all instances: {theirs}");
    Ok(took + theirs["ms"].as_f64().context("milliseconds")?)
}

fn tell(table: &mut Table, when: &str, asked: &Asked) {
    for (kind, of) in &asked.requests {
        table.one(&format!("{when}: API server, {kind}"), "requests", total(*of));
    }
    for (action, of) in &asked.calls {
        table.one(&format!("{when}: cloud, {action}"), "calls", total(*of));
    }
}
