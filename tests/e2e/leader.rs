//! Two replicas: the one that acts dies, ends in order, or freezes, and the other goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::record;
use crate::world::{Namespace, START, World, condition, container, eventually};

pub(crate) const TESTS: &[crate::Test] = &[
    ("leader::a_killed_leader_is_followed_within_fifteen_seconds_and_no_container_notices", killed),
    ("leader::an_orderly_stop_hands_over_within_three_seconds", stopped),
    ("leader::a_frozen_leader_that_wakes_up_changes_nothing", frozen),
];

const SLEEP: &str = "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]";
const FIRST: &str = "orca";
const SECOND: &str = "orca-second";

/// The address that a replica publishes.
fn address(name: &str) -> &'static str {
    if name == FIRST { "10.88.0.10" } else { "10.88.0.11" }
}

/// The world with a second replica; afterwards the first alone leads, whatever happened.
fn with_second<T>(world: &World, work: impl FnOnce() -> Result<T>) -> Result<T> {
    world.script(&["orca-start-second"])?;
    let result = follows(world, SECOND).and_then(|()| work());
    world.script(&["orca-stop", SECOND])?;
    world.script(&["orca-stop", FIRST])?;
    world.script(&["orca-start"])?;
    eventually("the first to lead alone", Duration::from_secs(30), || is_leader(world, FIRST))?;
    result
}

fn lease(world: &World) -> Result<Value> {
    world.get("/apis/coordination.k8s.io/v1/namespaces/orca-system/leases/orca")?.context("the Lease")
}

/// That it has the Lease, and the Node its address: it acts.
fn is_leader(world: &World, name: &str) -> Result<Result<(), String>> {
    let holder = lease(world)?["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    let node = world.get("/api/v1/nodes/orca")?.context("the node")?;
    let published = node["status"]["addresses"][0]["address"].as_str().unwrap_or_default().to_owned();
    let leads = holder == name && published == address(name);
    Ok(if leads { Ok(()) } else { Err(format!("{holder} has the Lease, the node is at {published}")) })
}

/// That it is ready to take over, and does nothing.
fn follows(world: &World, name: &str) -> Result<()> {
    eventually("a warm follower", Duration::from_secs(30), || {
        let ready = ask(name, "readyz?verbose");
        let is_warm = ready.contains("[+]pods ok") && ready.contains("readyz check passed");
        Ok(if is_warm { Ok(()) } else { Err(ready) })
    })?;
    ensure!(metric(name, "orca_leader")? == 0.0, "{name} leads");
    ensure!(is_leader(world, name)?.is_err(), "{name} acts");
    let listening = std::net::TcpStream::connect((address(name), 10250));
    ensure!(listening.is_err(), "{name} serves the node's port and does not lead");
    Ok(())
}

/// A page of a replica's own metrics server; empty while there is none.
fn ask(name: &str, page: &str) -> String {
    let host = if name == FIRST { "127.0.0.1" } else { "127.0.0.2" };
    let url = format!("http://{host}:9090/{page}");
    let output = std::process::Command::new("curl").args(["-s", "-m", "2", &url]).output();
    output.map_or_else(|_| String::new(), |output| crate::world::text(&output.stdout))
}

fn metric(name: &str, metric: &str) -> Result<f64> {
    let page = ask(name, "metrics");
    let line = page.lines().find(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(' ')));
    let value =
        line.and_then(|line| line.split(' ').nth(1)).with_context(|| format!("{metric} of {name}"))?;
    Ok(value.parse()?)
}

/// What must not change of a container when ORCA does.
fn run_of(ns: &Namespace<'_>, pod: &str) -> Result<(Value, Value, i64)> {
    let pod_object = ns.get_pod(pod)?;
    let status = container(&pod_object, "main").context("container main")?;
    Ok((status["containerID"].clone(), status["state"]["running"]["startedAt"].clone(), ns.restarts(pod)?))
}

fn killed(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("steady", SLEEP)?;
    let before = run_of(ns, "steady")?;
    with_second(ns.world, || {
        // In the middle of launches.
        ns.pod("one", SLEEP)?;
        ns.pod("other", SLEEP)?;
        eventually("a launch to be asked for", Duration::from_secs(20), || {
            let told = ns.events("one")?;
            Ok(if told.contains("Launching") { Ok(()) } else { Err(told) })
        })?;
        let began = Instant::now();
        ns.world.script(&["orca-kill", FIRST])?;
        eventually("the second to act", Duration::from_secs(15), || is_leader(ns.world, SECOND))?;
        ensure!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
        ns.exec_works("steady")?;
        ensure!(run_of(ns, "steady")? == before, "the container was touched");
        ensure!(metric(SECOND, "orca_leader")? == 1.0 && ask(SECOND, "readyz") == "ok");
        ns.run(&[
            "wait",
            "pod/one",
            "pod/other",
            "--for=condition=Ready",
            &format!("--timeout={}s", START.as_secs()),
        ])?;
        for pod in ["steady", "one", "other"] {
            let uid = ns.get_pod(pod)?["metadata"]["uid"].clone();
            let machines = ns.world.instances(|it| it["tags"]["orca.research/pod-uid"] == uid)?;
            ensure!(machines.len() == 1, "{pod} has {} machines", machines.len());
        }
        let told = ns.world.get("/api/v1/namespaces/default/events?fieldSelector=reason%3DLeaderElected")?;
        ensure!(
            told.unwrap_or_default().to_string().contains("`orca-second` leads now"),
            "no event tells of it"
        );
        // Started again, the first follows: nothing goes back and forth.
        ns.world.script(&["orca-start"])?;
        follows(ns.world, FIRST)
    })
}

fn stopped(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("steady", SLEEP)?;
    let before = run_of(ns, "steady")?;
    with_second(ns.world, || {
        let began = Instant::now();
        ns.world.script(&["orca-stop", FIRST])?;
        eventually("the second to act", Duration::from_secs(3), || is_leader(ns.world, SECOND))?;
        ensure!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
        let log = ns.world.log("orca.log")?;
        let report = log.lines().rev().find(|line| line.contains("machines and their pods go on"));
        ensure!(report.is_some_and(|line| line.contains("nothing is left to the next start")), "{report:?}");
        ns.exec_works("steady")?;
        ensure!(run_of(ns, "steady")? == before, "the container was touched");
        Ok(())
    })
}

/// Ready as long as there is no file `/no`.
const MOODY: &str = r#"
containers:
- name: main
  image: 'busybox:stable'
  command: [sleep, infinity]
  readinessProbe: {exec: {command: ['test', '!', '-e', '/no']}, periodSeconds: 1, failureThreshold: 1}
"#;
/// From a change on a machine to the Pod, with a new leader that has just begun to look for its machines. The former one's
/// session on the machine would be in the way for 75 s.
const REPORT: Duration = Duration::from_secs(15);

fn frozen(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("steady", MOODY)?;
    let before = run_of(ns, "steady")?;
    with_second(ns.world, || {
        ns.world.script(&["orca-freeze", FIRST])?;
        eventually("the second to act", Duration::from_secs(15), || is_leader(ns.world, SECOND))?;
        // The first still has its connections to the machine; what the kubelet says goes to the second.
        ns.exec_works("steady")?;
        ns.run(&["exec", "steady", "--", "touch", "/no"])?;
        ns.await_pod("steady", "to be told not ready", REPORT, |pod| {
            condition(pod, "Ready") == Some("False")
        })?;
        ensure!(metric(SECOND, "orca_link_evictions_total")? > 0.0, "nobody's session was in the way");
        // Work for a leader: what the frozen one would do about it when it wakes up is what the second has done.
        ns.pod("late", SLEEP)?;
        ns.run(&["wait", "pod/late", "--for=condition=Ready", &format!("--timeout={}s", START.as_secs())])?;
        let seen = record::entries(ns.world)?.len();
        let held = lease(ns.world)?["spec"]["acquireTime"].clone();
        let ended = ns.world.log("orca.log")?.matches("leads no more").count();
        ns.world.script(&["orca-thaw", FIRST])?;
        eventually("the first to end, and to say why", Duration::from_secs(10), || {
            let is_gone = ask(FIRST, "livez").is_empty();
            let told = ns.world.log("orca.log")?.matches("leads no more").count();
            Ok(if is_gone && told == ended + 1 { Ok(()) } else { Err((is_gone, told)) })
        })?;
        // The API server's record is written once a second.
        std::thread::sleep(Duration::from_secs(2));
        for entry in &record::entries(ns.world)?[seen..] {
            let by_first = entry["userAgent"].as_str().is_some_and(|agent| agent.ends_with("(orca)"));
            let looks = ["get", "list", "watch"].contains(&entry["verb"].as_str().unwrap_or_default());
            ensure!(!by_first || looks, "the frozen leader changed something: {entry}");
        }
        ensure!(lease(ns.world)?["spec"]["acquireTime"] == held, "the Lease went elsewhere");
        let late = ns.get_pod("late")?["metadata"]["uid"].clone();
        let machines = ns.world.instances(|it| it["tags"]["orca.research/pod-uid"] == late)?;
        ensure!(machines.len() == 1, "{} machines for one pod", machines.len());
        ns.exec_works("steady")?;
        ensure!(run_of(ns, "steady")? == before, "the container was touched");
        Ok(())
    })
}
