//! What may happen to one machine, and what becomes of its pod.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::world::{Namespace, START, condition, container, eventually, exit_code, http};

pub(crate) const TESTS: &[crate::Test] = &[
    ("machine::one_that_is_never_reachable_is_replaced", never_reachable),
    ("machine::a_cut_tunnel_hurts_no_pod_and_a_machine_that_a_person_ends_fails_it", cut),
    ("machine::a_rebooted_one_runs_its_pod_again_and_one_that_the_spot_market_takes_fails_it", reboot),
    ("machine::one_that_ec2_stops_is_ended_and_fails_its_pod", stopped),
    ("machine::a_paused_reader_stalls_nobody_else", paused_reader),
    ("machine::a_killed_kubelet_comes_back_and_one_on_a_failed_host_does_not", kubelet_killed),
];

const SLEEP: &str = "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]";
const COUNT: &str = "containers: [{name: main, image: 'busybox:stable', command: [sh, -c, 'i=0; while true; do echo $i; i=$((i+1)); sleep 1; done']}]";

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

fn cut(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("far", COUNT)?;
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    http("POST", "/_local/cuts", Some(&json!({"instance_id": id, "duration_ms": 30_000})))?;
    ns.exec_works("far")?;
    let pod = ns.get_pod("far")?;
    ensure!(pod["status"]["phase"] == "Running" && ns.restarts("far")? == 0, "{}", pod["status"]);
    ensure!(condition(&pod, "Ready") == Some("True"), "{}", pod["status"]);
    crate::interop::terminate(ns.world, &id)?;
    is_lost(ns, "far", "InstanceTerminated", "Client.UserInitiatedShutdown")
}

/// Waits until the pod has failed with its machine, for that reason, and nothing is left of the machine.
fn is_lost(ns: &Namespace<'_>, pod: &str, reason: &str, code: &str) -> Result<()> {
    let pod = ns.await_phase(pod, "Failed")?;
    let status = &pod["status"];
    ensure!(condition(&pod, "DisruptionTarget") == Some("True"), "{status}");
    ensure!(condition(&pod, "Ready") == Some("False"), "{status}");
    ensure!(exit_code(&pod, "main") == Some(137), "{status}");
    ensure!(status["reason"] == reason, "{status}");
    let told = status["message"].as_str().unwrap_or_default();
    ensure!(told.matches(code).count() == 1, "`{told}`, expected `{code}` in it, once");
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
    ns.exec_works("phoenix")?;
    ensure!(ns.instance()?["id"] == id.as_str(), "the machine was replaced");
    http("POST", &format!("/_local/instances/{id}/interrupt"), None)?;
    is_lost(ns, "phoenix", "SpotInterrupted", "Server.SpotInstanceTermination")
}

fn stopped(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("halted", SLEEP)?;
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    // Sooner than ORCA reads what is announced.
    let event = json!({"code": "instance-stop", "not_before_ms": 1});
    http("POST", &format!("/_local/instances/{id}/events"), Some(&event))?;
    let pod = ns.await_phase("halted", "Failed")?;
    ensure!(pod["status"]["reason"] == "HostFailed", "{}", pod["status"]);
    let events = ns.events("halted")?;
    ensure!(events.contains(&format!("InstanceStopped: instance {id} was stopped")), "{events}");
    ns.await_no_instance(Duration::from_secs(60))
}

fn paused_reader(ns: &Namespace<'_>) -> Result<()> {
    // Far more than all buffers on the way hold together.
    let flood = "yes 0123456789012345678901234567890123456789 | head -c 40000000; sleep infinity";
    ns.ready_pod(
        "flood",
        &format!("containers: [{{name: main, image: 'busybox:stable', command: [sh, -c, '{flood}']}}]"),
    )?;
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
    ensure!(ns.restarts("killer")? == 0, "the container was touched");
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    http("POST", &format!("/_local/instances/{id}/kill"), None)?;
    is_lost(ns, "killer", "HostFailed", "Server.InternalError")
}
