//! Crashes and restarts of what all pods share. These disturb the whole world, so they run one at a time.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::kubectl;
use crate::world::{Namespace, START, World, condition, container, eventually, exit_code, http};

pub(crate) const TESTS: &[crate::Test] = &[
    ("robust::a_restarted_orca_finds_its_pods_running", orca_restarts),
    ("robust::another_configuration_counts_for_pods_that_are_there", another_configuration),
    ("robust::a_lost_or_late_answer_to_runinstances_makes_one_instance", lost_answer),
    ("robust::orca_and_a_kubelet_come_up_while_the_api_server_is_away", all_restart),
    ("robust::sessions_that_are_denied_cost_no_machine_and_no_pod", sessions_denied),
    ("robust::a_machine_that_ec2_retires_is_announced_and_left_in_good_order_before", retired),
    ("robust::a_slow_tunnel_cuts_no_copy", slow_copy),
    ("robust::a_machine_ends_itself_when_orca_is_gone_for_good_and_not_before", gone_for_good),
];

const SLEEP: &str = "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]";

fn container_id(ns: &Namespace<'_>, pod: &str) -> Result<Value> {
    Ok(container(&ns.get_pod(pod)?, "main").context("container main")?["containerID"].clone())
}

/// How often the kubelet has told that `pod` is not ready.
fn unready(ns: &Namespace<'_>, pod: &str) -> Result<i64> {
    let selector = format!("involvedObject.name={pod},reason=Unhealthy");
    let counts =
        ns.run(&["get", "events", "--field-selector", &selector, "-o", "jsonpath={.items[*].count}"])?;
    Ok(counts.split_whitespace().filter_map(|count| count.parse().ok()).max().unwrap_or(0))
}

fn orca_restarts(ns: &Namespace<'_>) -> Result<()> {
    ns.pod(
        "steady",
        r#"
containers:
- {name: main, image: 'busybox:stable', command: [sh, -c, 'until [ -e /end ]; do sleep 0.2; done; exit 3']}
- {name: moody, image: 'busybox:stable', command: [sleep, infinity], readinessProbe: {exec: {command: ['false']}, periodSeconds: 2}}
"#,
    )?;
    ns.ready_pod("forced", SLEEP)?;
    ns.await_pod("steady", "to run", START, |pod| {
        container(pod, "main").is_some_and(|it| it["ready"] == true)
    })?;
    let before = container_id(ns, "steady")?;
    eventually("an event that is counted", Duration::from_secs(30), || {
        let count = unready(ns, "steady")?;
        Ok(if count >= 2 { Ok(()) } else { Err(count) })
    })?;
    ns.world.script(&["orca-stop"])?;
    // While ORCA is away a pod is taken out of its hands.
    ns.run(&["delete", "pod", "forced", "--force", "--grace-period=0"])?;
    let told = unready(ns, "steady")?;
    ns.world.script(&["orca-start"])?;
    ns.exec_works("steady")?;
    ensure!(
        before == container_id(ns, "steady")? && ns.restarts("steady")? == 0,
        "the container was touched"
    );
    // Sooner than the deadline for kubelets that cannot be asked, which is over a minute away.
    eventually("the forced pod's machine to end", Duration::from_secs(40), || {
        let all = ns.instances()?;
        Ok(if all.len() == 1 { Ok(()) } else { Err(all.len()) })
    })?;
    eventually("events to be counted on", Duration::from_secs(30), || {
        let count = unready(ns, "steady")?;
        Ok(if count > told { Ok(()) } else { Err(count) })
    })?;
    // Its status goes on.
    ns.run(&["exec", "steady", "-c", "main", "--", "touch", "/end"])?;
    ns.await_pod("steady", "to have its container's end told", Duration::from_secs(30), |pod| {
        container(pod, "main").is_some_and(|it| it["lastState"]["terminated"]["exitCode"] == 3)
            || exit_code(pod, "main") == Some(3)
    })?;
    Ok(())
}

/// ORCA with another configuration, and again with its own afterwards, whatever happens.
pub(crate) fn with_configuration<T>(
    world: &World,
    config: &str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let file = world.file("another.yaml");
    std::fs::write(&file, config)?;
    world.script(&["orca-stop"])?;
    world.script(&["orca-start", &file.to_string_lossy()])?;
    let result = work();
    world.script(&["orca-stop"])?;
    world.script(&["orca-start"])?;
    result
}

fn gone_for_good(ns: &Namespace<'_>) -> Result<()> {
    let config = ns.world.log("orca.yaml")?.replace("limits:\n", "limits:\n  maxLostContact: 20s\n");
    ensure!(config.contains("maxLostContact"), "{config}");
    with_configuration(ns.world, &config, || {
        ns.ready_pod("left", SLEEP)?;
        eventually("the machine to outlive that with contact", START, || {
            let script = "echo $(($(date +%s) - $(stat -c %Y /proc/1)))";
            let age: i64 = ns.run(&["exec", "left", "--", "sh", "-c", script])?.trim().parse()?;
            Ok(if age > 45 { Ok(()) } else { Err(age) })
        })?;
        ns.world.script(&["orca-kill"])?;
        // With no help from anybody: its timer looks every few seconds.
        eventually("the machine to end itself", Duration::from_secs(120), || {
            let all = ns.instances()?;
            Ok(if all.is_empty() { Ok(()) } else { Err(all) })
        })?;
        ns.world.script(&["orca-start", &ns.world.file("another.yaml").to_string_lossy()])?;
        let pod = ns.await_phase("left", "Failed")?;
        ensure!(pod["status"]["reason"] == "InstanceShutDown", "{}", pod["status"]);
        Ok(())
    })
}

fn another_configuration(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(crate::refusals::DAEMON_SET)?;
    ns.pod(
        "over",
        "restartPolicy: Never\ncontainers: [{name: main, image: 'busybox:stable', command: [echo, farewell]}]",
    )?;
    ns.await_phase("over", "Succeeded")?;
    ensure!(ns.instances()?.len() == 1, "its machine is kept for those who want to look");
    let kept = ns.world.log("orca.yaml")?;
    let short = kept
        .replace("keepFinished: 5m", "keepFinished: 10s")
        .replace("pods: 300", "pods: 300\n  daemonSets: reject");
    ensure!(short.contains("10s") && short.contains("reject"), "{short}");
    with_configuration(ns.world, &short, || {
        ns.await_no_instance(Duration::from_secs(60))?;
        ensure!(ns.get_pod("over")?["status"]["phase"] == "Succeeded", "{}", ns.get_pod("over")?["status"]);
        // Its controller removes a failed pod and makes another: the events stay.
        eventually("a DaemonSet's pod to be rejected", Duration::from_secs(30), || {
            let told = ns.events("everywhere")?;
            Ok(if told.contains("FailedDaemonPod") { Ok(()) } else { Err(told) })
        })
    })
}

fn lost_answer(ns: &Namespace<'_>) -> Result<()> {
    for fault in [
        json!({"action": "RunInstances", "then": "act_then_drop"}),
        json!({"action": "RunInstances", "answer_delay_ms": 8000}),
    ] {
        http("POST", "/_local/faults", Some(&fault))?;
    }
    ns.pod("one", SLEEP)?;
    ns.ready_pod("other", SLEEP)?;
    ns.run(&["wait", "pod/one", "--for=condition=Ready", "--timeout=120s"])?;
    let all = ns.instances()?;
    ensure!(all.len() == 2, "{} instances for two pods", all.len());
    Ok(())
}

fn sessions_denied(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("runs", SLEEP)?;
    let fault = json!({"action": "StartSession", "then": "refuse", "code": "AccessDeniedException", "status": 400, "times": 1_000_000});
    http("POST", "/_local/faults", Some(&fault))?;
    let while_denied = nobody_is_let_in(ns);
    http("DELETE", "/_local/faults", None)?;
    while_denied?;
    // A person's stream finds out at once that sessions are given again, and that wakes everybody.
    ns.exec_works("runs")?;
    for pod in ["one", "two", "three", "late"] {
        ns.await_pod(pod, "to be Ready", START, |pod| condition(pod, "Ready") == Some("True"))?;
    }
    ensure!(ns.restarts("runs")? == 0, "the container was touched");
    ensure!(ns.instances()?.len() == 5, "{:#?}", ns.instances()?);
    Ok(())
}

fn nobody_is_let_in(ns: &Namespace<'_>) -> Result<()> {
    for pod in ["one", "two", "three"] {
        ns.pod(pod, SLEEP)?;
    }
    let node = || ns.world.get("/api/v1/nodes/orca")?.context("there is no node");
    eventually("the node to tell of it", START, || {
        let node = node()?;
        let is_told = condition(&node, "MachinesReachable") == Some("False");
        Ok(if is_told { Ok(()) } else { Err(node["status"]["conditions"].clone()) })
    })?;
    ns.pod("late", SLEEP)?;
    ns.await_pod("late", "to wait", Duration::from_secs(30), |pod| {
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|one| one["reason"] == "MachinesUnreachable")
    })?;
    let before = ns.instances()?;
    // `limits.bootDeadline` is 90 s here.
    eventually("the boot deadline to pass", Duration::from_secs(180), || {
        let three = ns.instance_of("three")?;
        let launched: jiff::Timestamp = three["launched_at"].as_str().context("launched_at")?.parse()?;
        let age = orca::clock::now().duration_since(launched).as_secs();
        Ok(if age > 120 { Ok(()) } else { Err(age) })
    })?;
    let ids = |all: &[Value]| all.iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
    ensure!(before.len() == 4 && ids(&ns.instances()?) == ids(&before), "{:#?}", ns.instances()?);
    ensure!(condition(&node()?, "Ready") == Some("True"), "{:#}", node()?["status"]["conditions"]);
    let runs = ns.get_pod("runs")?;
    ensure!(condition(&runs, "Ready") == Some("True"), "{}", runs["status"]);
    Ok(())
}

fn retired(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("old", "terminationGracePeriodSeconds: 5\ncontainers: [{name: main, image: 'busybox:stable', command: [sh, -c, 'trap \"exit 7\" TERM; while true; do sleep 1; done']}]")?;
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    // The grace and five minutes before that time are half a minute from now.
    let event = json!({"code": "instance-retirement", "not_before_ms": 335_000});
    http("POST", &format!("/_local/instances/{id}/events"), Some(&event))?;
    // It reads what is announced when it starts, and every five minutes.
    ns.world.script(&["orca-stop"])?;
    ns.world.script(&["orca-start"])?;
    eventually("the pod to be told", Duration::from_secs(60), || {
        let told = ns.events("old")?;
        let expected = format!("ScheduledMaintenance: EC2 retires instance {id} (instance-retirement, ");
        Ok(if told.contains(&expected) { Ok(()) } else { Err(told) })
    })?;
    let pod = ns.await_phase("old", "Failed")?;
    ensure!(exit_code(&pod, "main") == Some(7), "it was not ended in good order: {}", pod["status"]);
    let told = ns.events("old")?;
    ensure!(told.contains("MachineRetiring: "), "{told}");
    ns.await_no_instance(Duration::from_secs(60))
}

fn all_restart(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "steady",
        "hostPID: true\ncontainers: [{name: main, image: 'busybox:stable', securityContext: {privileged: true}, command: [sleep, infinity]}]",
    )?;
    let before = container_id(ns, "steady")?;
    ns.run(&["exec", "steady", "--", "sh", "-c", "(sleep 2; kill -9 $(pidof kubelet)) > /dev/null 2>&1 &"])?;
    ns.world.script(&["orca-stop"])?;
    ns.world.script(&["apiserver-stop"])?;
    // ORCA cannot start without its API server, and whoever runs it starts it again.
    ns.world.script(&["apiserver-start"])?;
    ns.world.script(&["orca-start"])?;
    ns.exec_works("steady")?;
    let after = container_id(ns, "steady")?;
    ensure!(before == after && ns.restarts("steady")? == 0, "the container was touched");
    ensure!(ns.instances()?.len() == 1);
    Ok(())
}

fn slow_copy(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("files", SLEEP)?;
    let sum = ns.run(&[
        "exec",
        "files",
        "--",
        "sh",
        "-c",
        "cd /tmp && head -c 8388608 /dev/urandom > much && sha256sum much",
    ])?;
    let folder = std::env::temp_dir().join(format!("orca-{}", ns.name));
    std::fs::create_dir_all(&folder)?;
    let limit = |bytes: Option<u32>| {
        http("PATCH", "/_local/ssm", Some(&json!({"output_bytes_per_second": bytes}))).map(drop)
    };
    // What a real session carries: tar has ended long before the first of kubectl's pings, half of the file comes after.
    limit(Some(600_000))?;
    let copy = |websockets: &str| -> Result<String> {
        let to = folder.join(websockets);
        kubectl::copy(ns, Path::new("files:/tmp/much"), &to, websockets)?;
        let output = Command::new("sha256sum").stdin(std::fs::File::open(&to)?).output()?;
        Ok(crate::world::text(&output.stdout))
    };
    let copied = kubectl::PROTOCOLS.map(|(protocol, websockets)| (protocol, copy(websockets)));
    limit(None)?;
    std::fs::remove_dir_all(&folder)?;
    for (protocol, got) in copied {
        let got = got?;
        ensure!(got.get(..64) == sum.get(..64), "{protocol}: {got:?}, expected {sum:?}");
    }
    Ok(())
}
