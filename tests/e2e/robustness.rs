//! Crashes, cuts and restarts. These disturb the whole world, so they run one at a time.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::kubectl;
use crate::world::{Namespace, START, condition, container, eventually, exit_code, http};

pub(crate) const TESTS: &[crate::Test] = &[
    ("robust::a_restarted_orca_finds_its_pods_running", orca_restarts),
    ("robust::a_rebooted_machine_runs_its_pod_again", reboot),
    ("robust::a_cut_tunnel_hurts_no_pod", cut),
    ("robust::a_paused_reader_stalls_nobody_else", paused_reader),
    ("robust::a_slow_tunnel_cuts_no_copy", slow_copy),
    ("robust::a_killed_kubelet_comes_back", kubelet_killed),
    ("robust::a_killed_machine_fails_its_pod_with_disruption_target", machine_killed),
    ("robust::a_lost_or_late_answer_to_runinstances_makes_one_instance", lost_answer),
    ("robust::orca_and_a_kubelet_come_up_while_the_api_server_is_away", all_restart),
    ("robust::a_machine_that_is_never_reachable_is_replaced", never_reachable),
];

const SLEEP: &str = "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]";
const COUNT: &str = "containers: [{name: main, image: 'busybox:stable', command: [sh, -c, 'i=0; while true; do echo $i; i=$((i+1)); sleep 1; done']}]";

fn restart_count(ns: &Namespace<'_>, pod: &str) -> Result<i64> {
    let pod = ns.get("pod", pod)?;
    container(&pod, "main").and_then(|main| main["restartCount"].as_i64()).context("restartCount")
}

fn exec_works(ns: &Namespace<'_>, pod: &str) -> Result<()> {
    eventually("exec to work again", Duration::from_secs(90), || {
        let (code, out, error) = ns.exit(&["exec", pod, "--", "echo", "here"])?;
        Ok(if code == 0 && out == "here\n" { Ok(()) } else { Err(error) })
    })
}

fn orca_restarts(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("steady", SLEEP)?;
    let before = container(&ns.get("pod", "steady")?, "main").map(|it| it["containerID"].clone());
    ns.world.script(&["orca-stop"])?;
    // While ORCA is away the container ends nothing and nobody is told anything: then it all catches up.
    ns.world.script(&["orca-start"])?;
    exec_works(ns, "steady")?;
    let after = container(&ns.get("pod", "steady")?, "main").map(|it| it["containerID"].clone());
    ensure!(before == after && restart_count(ns, "steady")? == 0, "the container was touched");
    ensure!(ns.instances()?.len() == 1);
    ns.run(&["exec", "steady", "--", "kill", "-9", "1"]).map(drop).unwrap_or_default();
    ns.run(&["delete", "pod", "steady", "--timeout=60s"])?;
    ns.await_no_instance(Duration::from_secs(60))
}

fn reboot(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("phoenix", SLEEP)?;
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    http("POST", &format!("/_local/instances/{id}/power-cycle"), None)?;
    ns.await_pod("phoenix", "to have been started again", START, |pod| {
        container(pod, "main")
            .is_some_and(|main| main["restartCount"].as_i64() >= Some(1) && main["ready"] == true)
    })?;
    exec_works(ns, "phoenix")?;
    ensure!(ns.instance()?["id"] == id.as_str(), "the machine was replaced");
    Ok(())
}

fn cut(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("far", COUNT)?;
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    http("POST", "/_local/cuts", Some(&json!({"instance_id": id, "duration_ms": 30_000})))?;
    exec_works(ns, "far")?;
    let pod = ns.get("pod", "far")?;
    ensure!(pod["status"]["phase"] == "Running" && restart_count(ns, "far")? == 0, "{}", pod["status"]);
    ensure!(condition(&pod, "Ready") == Some("True"), "{}", pod["status"]);
    Ok(())
}

fn paused_reader(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("flood", "containers: [{name: main, image: 'busybox:stable', command: [sh, -c, 'while true; do head -c 10000 /dev/zero | tr \"\\0\" x; echo; done']}]")?;
    let mut follow = ns.background(&["logs", "-f", "flood"])?;
    let mut stalled = ns.background(&["exec", "flood", "--", "cat", "/dev/zero"])?;
    // Each has begun, and is read no further: its buffers fill from here to the machine.
    for reader in [&mut follow, &mut stalled] {
        reader.0.stdout.as_mut().context("stdout")?.read_exact(&mut [0; 100])?;
    }
    for _ in 0..5 {
        let begin = std::time::Instant::now();
        ensure!(ns.run(&["exec", "flood", "--", "echo", "here"])? == "here\n");
        ensure!(begin.elapsed() < Duration::from_secs(20), "an exec beside them took {:?}", begin.elapsed());
    }
    ns.run(&["label", "pod", "flood", "seen=yes"])?;
    drop((follow, stalled));
    ns.run(&["delete", "pod", "flood", "--timeout=60s"])?;
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

fn kubelet_killed(ns: &Namespace<'_>) -> Result<()> {
    // From a pod in the machine's PID namespace, as a person with that right would.
    ns.ready_pod(
        "killer",
        "hostPID: true\ncontainers: [{name: main, image: 'busybox:stable', securityContext: {privileged: true}, command: [sleep, infinity]}]",
    )?;
    let pids = || ns.run(&["exec", "killer", "--", "pidof", "kubelet"]);
    let before = pids()?;
    ns.run(&["exec", "killer", "--", "sh", "-c", "kill -9 $(pidof kubelet)"]).map(drop).unwrap_or_default();
    eventually("another kubelet", Duration::from_secs(90), || {
        let (code, now, error) = ns.exit(&["exec", "killer", "--", "pidof", "kubelet"])?;
        Ok(if code == 0 && now != before { Ok(()) } else { Err(error) })
    })?;
    ensure!(restart_count(ns, "killer")? == 0, "the container was touched");
    Ok(())
}

fn machine_killed(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("lost", SLEEP)?;
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    http("POST", &format!("/_local/instances/{id}/kill"), None)?;
    let pod = ns.await_phase("lost", "Failed")?;
    ensure!(condition(&pod, "DisruptionTarget") == Some("True"), "{}", pod["status"]);
    ensure!(exit_code(&pod, "main") == Some(137), "{}", pod["status"]);
    ensure!(condition(&pod, "Ready") == Some("False"), "{}", pod["status"]);
    Ok(())
}

fn lost_answer(ns: &Namespace<'_>) -> Result<()> {
    for (pod, fault) in [
        ("lost", json!({"action": "RunInstances", "then": "act_then_drop"})),
        ("late", json!({"action": "RunInstances", "answer_delay_ms": 8000})),
    ] {
        http("POST", "/_local/faults", Some(&fault))?;
        ns.ready_pod(pod, SLEEP)?;
    }
    let all = ns.instances()?;
    ensure!(all.len() == 2, "{} instances for two pods", all.len());
    Ok(())
}

fn all_restart(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "steady",
        "hostPID: true\ncontainers: [{name: main, image: 'busybox:stable', securityContext: {privileged: true}, command: [sleep, infinity]}]",
    )?;
    let before = container(&ns.get("pod", "steady")?, "main").map(|it| it["containerID"].clone());
    ns.run(&["exec", "steady", "--", "sh", "-c", "(sleep 2; kill -9 $(pidof kubelet)) > /dev/null 2>&1 &"])?;
    ns.world.script(&["orca-stop"])?;
    ns.world.script(&["apiserver-stop"])?;
    // ORCA cannot start without its API server, and whoever runs it starts it again.
    ns.world.script(&["apiserver-start"])?;
    ns.world.script(&["orca-start"])?;
    exec_works(ns, "steady")?;
    let after = container(&ns.get("pod", "steady")?, "main").map(|it| it["containerID"].clone());
    ensure!(before == after && restart_count(ns, "steady")? == 0, "the container was touched");
    ensure!(ns.instances()?.len() == 1);
    Ok(())
}

fn never_reachable(ns: &Namespace<'_>) -> Result<()> {
    ns.pod("stuck", SLEEP)?;
    let first = eventually("the instance to run", START, || {
        let all = ns.instances()?;
        Ok(all.iter().find(|one| one["state"] == "running").cloned().ok_or(all))
    })?;
    let id = first["id"].as_str().context("id")?;
    http("POST", &format!("/_local/instances/{id}/freeze"), None)?;
    // limits.bootDeadline of the local world's configuration, and the next machine's own start.
    ns.await_pod("stuck", "to run on another machine", Duration::from_secs(240), |pod| {
        condition(pod, "Ready") == Some("True")
    })?;
    let events = ns.events("stuck")?;
    ensure!(events.contains(id) && events.contains("attempt 2"), "{events}");
    eventually("one machine to be left", Duration::from_secs(60), || {
        let all = ns.instances()?;
        Ok(if all.len() == 1 && all[0]["id"] != id { Ok(()) } else { Err(all) })
    })
}
