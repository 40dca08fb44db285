//! What goes wrong on one machine and passes, or does not: docs/failure-modes.md has a row for each.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::world::{Namespace, condition, http};

pub(crate) const TESTS: &[crate::Test] = &[
    ("failure::a_machine_that_freezes_and_comes_back_goes_on_where_it_was", frozen),
    ("failure::a_kubelet_that_cannot_start_leaves_its_containers_and_is_back_when_it_can", looping),
    ("failure::a_pod_that_fills_its_disk_is_evicted_by_its_kubelet_and_its_machine_ends", full),
];

/// Ready stays for a minute after the last contact; SSH notices a silent machine in another.
const NOTICED: Duration = Duration::from_secs(240);
const COUNT: &str = "containers: [{name: main, image: 'busybox:stable', command: [sh, -c, 'i=0; while true; do echo $i; i=$((i+1)); sleep 1; done']}]";

fn frozen(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("cold", COUNT)?;
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    http("POST", &format!("/_local/instances/{id}/freeze"), None)?;
    let pod = ns.await_pod("cold", "to be told not ready", NOTICED, is_not_ready)?;
    ensure!(pod["status"]["phase"] == "Running", "{}", pod["status"]);
    http("POST", &format!("/_local/instances/{id}/thaw"), None)?;
    is_back(ns, "cold", &id)
}

fn looping(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "loop",
        "hostPID: true\ncontainers: [{name: main, image: 'busybox:stable', securityContext: {privileged: true}, command: [sleep, infinity]}]",
    )?;
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    // Whatever starts as the kubelet ends at once, for so long.
    let fault = "K=$(readlink -f /proc/$(pidof kubelet)/exe); mount --bind /bin/false $K; (sleep 170; umount $K) > /dev/null 2>&1 & kill -9 $(pidof kubelet)";
    // The exec itself goes with the kubelet.
    ns.exit(&["exec", "loop", "--", "nsenter", "-t", "1", "-m", "--", "sh", "-c", fault])?;
    let pod = ns.await_pod("loop", "to be told not ready", NOTICED, is_not_ready)?;
    ensure!(pod["status"]["phase"] == "Running", "{}", pod["status"]);
    is_back(ns, "loop", &id)
}

fn full(ns: &Namespace<'_>) -> Result<()> {
    ns.pod(
        "full",
        "restartPolicy: Never\nvolumes: [{name: scratch, emptyDir: {sizeLimit: 8Mi}}]\ncontainers: [{name: main, image: 'busybox:stable', volumeMounts: [{name: scratch, mountPath: /scratch}], command: [sh, -c, 'dd if=/dev/zero of=/scratch/fill bs=1M count=32; sleep infinity']}]",
    )?;
    let pod = ns.await_phase("full", "Failed")?;
    ensure!(pod["status"]["reason"] == "Evicted", "{}", pod["status"]);
    let message = pod["status"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("scratch"), "{message}");
    ns.run(&["delete", "pod", "full"])?;
    ns.await_no_instance(NOTICED)
}

fn is_not_ready(pod: &serde_json::Value) -> bool {
    condition(pod, "Ready") == Some("False")
}

/// The same machine, and the same container.
fn is_back(ns: &Namespace<'_>, pod: &str, id: &str) -> Result<()> {
    ns.await_pod(pod, "to be ready again", NOTICED, |pod| condition(pod, "Ready") == Some("True"))?;
    ns.exec_works(pod)?;
    ensure!(ns.restarts(pod)? == 0, "the container was touched");
    let all = ns.instances()?;
    ensure!(all.len() == 1 && all[0]["id"] == id, "{all:#?}");
    Ok(())
}
