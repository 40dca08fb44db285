//! `make bench`: what design promises in numbers, each beside what it is compared with, measured in the same run.
//!
//! Prints one JSON line a measurement and a table at the end. Nothing is asserted: a number is for people.
#![expect(clippy::print_stdout, reason = "this program's output is its purpose")]
#![expect(clippy::print_stderr, reason = "progress")]

#[path = "../e2e/world.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::json;

use futures::{StreamExt, TryStreamExt};
use world::{Namespace, World, eventually, http};

/// Pods on real machines while it is measured what each costs.
const PODS: usize = 4;
/// How long nothing happens while calls are counted.
const REST: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let mut table = Table::default();
    eprintln!("==> bursts, on instances that are states only");
    bursts(&mut table)?;
    eprintln!("==> machines, and rest");
    machines(&mut table)?;
    table.print();
    Ok(())
}

/// From a pod that is bound to the call that launches its machine.
fn bursts(table: &mut Table) -> Result<()> {
    let world = World::start_with(&[("ORCA_MACHINES", "none")])?;
    let result = world.in_namespace(|ns| {
        for (size, rounds) in [(1, 20), (50, 1), (200, 1)] {
            let mut waits = Vec::new();
            let mut posts = Vec::new();
            for round in 0..rounds {
                let bound = create(ns, &format!("burst-{size}-{round}"), size)?;
                posts.extend(bound.values().map(|(post, _)| *post));
                waits.extend(launches(ns, &bound)?);
                ns.run(&["delete", "pods", "--all", "--force", "--grace-period=0"])?;
                ns.await_no_instance(Duration::from_secs(120))?;
            }
            let name = format!("bound → RunInstances sent, burst of {size}");
            table.compare(&name, "ms", &waits, "POST of the pod", &posts);
        }
        Ok(())
    });
    world.stop().and(result)
}

/// Creates bound pods, sixteen at a time; by UID: how long the POST took and when it was answered (ms).
fn create(ns: &Namespace<'_>, name: &str, size: usize) -> Result<BTreeMap<String, (f64, f64)>> {
    let file = kube::config::Kubeconfig::read_from(ns.world.kubeconfig())?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let config =
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
        let pods: Api<Pod> = Api::namespaced(kube::Client::try_from(config)?, &ns.name);
        // The connection is not what is measured.
        pods.list(&kube::api::ListParams::default()).await?;
        let one = async |index: usize| -> Result<(String, (f64, f64))> {
            let pod = serde_json::from_value(json!({
                "metadata": {"name": format!("{name}-{index}")},
                "spec": {"nodeName": "orca", "tolerations": [{"operator": "Exists"}],
                         "containers": [{"name": "main", "image": "busybox:stable"}]},
            }))?;
            let begin = now();
            let answer = pods.create(&PostParams::default(), &pod).await?;
            let end = now();
            Ok((answer.metadata.uid.context("uid")?, (end - begin, end)))
        };
        futures::stream::iter(0..size).map(one).buffer_unordered(16).try_collect().await
    })
}

/// Milliseconds from each pod's binding to its launch. A launch that overtook the answer to the POST counts as 0.
fn launches(ns: &Namespace<'_>, bound: &BTreeMap<String, (f64, f64)>) -> Result<Vec<f64>> {
    let all = eventually("every instance", Duration::from_secs(120), || {
        let all = ns.instances()?;
        Ok(if all.len() == bound.len() { Ok(all) } else { Err(all.len()) })
    })?;
    all.iter()
        .map(|instance| {
            let uid = instance["tags"]["orca.research/pod-uid"].as_str().context("uid")?;
            let (_, at) = bound.get(uid).context("an instance of another pod")?;
            let launched: jiff::Timestamp =
                instance["launched_at"].as_str().context("launched_at")?.parse()?;
            Ok((millis(launched.as_nanosecond()) - at).max(0.0))
        })
        .collect()
}

/// What pods on machines cost while they start, and while nothing happens.
fn machines(table: &mut Table) -> Result<()> {
    let world = World::start_with(&[])?;
    let result = world.in_namespace(|ns| {
        let empty = resident(&world, "orca")?;
        table.one("resident memory of orca, no pods", "MiB", empty);
        starts(ns, table)?;
        for index in 0..PODS {
            ns.pod(
                &format!("rest-{index}"),
                "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]",
            )?;
        }
        ns.run(&["wait", "pods", "--all", "--for=condition=Ready", "--timeout=180s"])?;
        // What is left of the start must not count as rest.
        std::thread::sleep(Duration::from_secs(30));
        let (calls, writes) = (calls()?, writes(&world)?);
        std::thread::sleep(REST);
        let after = self::calls()?;
        let lists = |calls: &BTreeMap<String, u64>| calls.get("DescribeInstances").copied().unwrap_or(0);
        let total = |calls: &BTreeMap<String, u64>| calls.values().sum::<u64>();
        let listed = lists(&after) - lists(&calls);
        table.one("cloud calls at rest, all pods, per minute: lists of instances", "calls", count(listed));
        table.one(
            "cloud calls at rest, all pods, per minute: others",
            "calls",
            count(total(&after) - total(&calls) - listed),
        );
        table.one(
            "API writes about pods and nodes at rest, per minute",
            "writes",
            self::writes(&world)? - writes,
        );
        let full = resident(&world, "orca")?;
        table.one("resident memory of orca per attached pod", "MiB", (full - empty) / count(PODS as u64));
        Ok(())
    });
    world.stop().and(result)
}

/// From first contact with a machine to its running container, and the kubelet's part of that.
fn starts(ns: &Namespace<'_>, table: &mut Table) -> Result<()> {
    const CLOCKS: &str = r#"
hostPID: true
containers:
- name: main
  image: busybox:stable
  command: [sh, -c]
  args:
  - |
    read up rest < /proc/uptime; kubelet=$(pidof kubelet)
    echo $up $(cut -d' ' -f22 /proc/$kubelet/stat); sleep infinity
"#;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let name = format!("start-{round}");
        ns.ready_pod(&name, CLOCKS)?;
        let printed = ns.run(&["logs", &name])?;
        let [up, ticks] = printed.split_whitespace().collect::<Vec<_>>()[..] else {
            anyhow::bail!("{printed:?}")
        };
        let (up, kubelet): (f64, f64) = (up.parse()?, ticks.parse::<f64>()? / 100.0);
        let log = ns.world.log("orca.log")?;
        // The host key is pinned at first contact.
        let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
        let pinned = |line: &&str| line.contains(&id) && line.contains("action=\"CreateTags\"");
        let line = log.lines().find(pinned).context("the line of the first contact")?;
        let reached: jiff::Timestamp = line.split_whitespace().next().context("a time")?.parse()?;
        ours.push(boot_time()? + kubelet * 1000.0 - millis(reached.as_nanosecond()));
        theirs.push((up - kubelet) * 1000.0);
        ns.run(&["delete", "pod", &name, "--timeout=60s"])?;
        ns.await_no_instance(Duration::from_secs(60))?;
    }
    table.compare(
        "machine reachable → kubelet started",
        "ms",
        &ours,
        "kubelet started → container running",
        &theirs,
    );
    Ok(())
}

/// Milliseconds since 1970 at which this host booted, by the clock that processes' start times are told in.
fn boot_time() -> Result<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let seconds: f64 = uptime.split_whitespace().next().context("uptime")?.parse()?;
    Ok(now() - seconds * 1000.0)
}

/// Resident memory of a part, in MiB.
fn resident(world: &World, name: &str) -> Result<f64> {
    let pid = world.log(&format!("{name}.pid"))?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
    Ok(kib / 1024.0)
}

/// Writes about pods and nodes that ORCA has asked the API server for, by the server's audit log.
fn writes(world: &World) -> Result<f64> {
    let is_write = |line: &&str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let about = entry["objectRef"]["resource"].as_str().unwrap_or_default();
        let verb = entry["verb"].as_str().unwrap_or_default();
        matches!(about, "pods" | "nodes") && !matches!(verb, "get" | "list" | "watch")
    };
    Ok(count(world.log("audit.log")?.lines().filter(is_write).count() as u64))
}

fn calls() -> Result<BTreeMap<String, u64>> {
    let log = http("GET", "/_local/calls", None)?;
    serde_json::from_value(log["counts"].clone()).context("the local cloud's counts")
}

#[expect(clippy::disallowed_methods, reason = "what is compared are times of several programs")]
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit")]
fn millis(nanoseconds: i128) -> f64 {
    nanoseconds as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn count(number: u64) -> f64 {
    number as f64
}

/// What was measured.
#[derive(Default)]
struct Table(Vec<(String, String)>);

impl Table {
    fn one(&mut self, name: &str, unit: &str, value: f64) {
        println!("{}", json!({"name": name, "unit": unit, "value": value}));
        self.0.push((name.to_owned(), format!("{value:.1} {unit}")));
    }

    fn compare(&mut self, name: &str, unit: &str, values: &[f64], beside: &str, others: &[f64]) {
        let ((p50, p99), (other, _)) = (percentiles(values), percentiles(others));
        let ratio = p50 / other;
        println!(
            "{}",
            json!({"name": name, "unit": unit, "p50": p50, "p99": p99, "beside": beside, "beside_p50": other, "ratio": ratio})
        );
        let text = format!(
            "p50 {p50:.1} {unit}, p99 {p99:.1} {unit}; {beside}: p50 {other:.1} {unit}; ratio {ratio:.2}"
        );
        self.0.push((name.to_owned(), text));
    }

    fn print(&self) {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, text) in &self.0 {
            println!("{name:width$}  {text}");
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
fn percentiles(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        sorted.get(((count(sorted.len() as u64) - 1.0) * share).round() as usize).copied().unwrap_or(0.0)
    };
    (at(0.5), at(0.99))
}
