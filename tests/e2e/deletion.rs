//! Every way a pod goes. Afterwards there is no instance, and the Pod object went only when nothing could run it.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::world::{Namespace, START, condition, eventually};

pub(crate) const TESTS: &[crate::Test] = &[
    ("deletion::a_deleted_pod_takes_its_machine_with_it_by_its_own_grace_or_with_none", plain),
    ("deletion::a_forced_deletion_takes_the_object_at_once_and_the_machine_soon", forced),
    ("deletion::a_pod_deleted_while_its_machine_boots_is_gone_at_once", booting),
    ("deletion::a_deleted_namespace_leaves_no_machine", namespace),
    ("deletion::a_pod_of_the_same_name_is_another_pod", same_name),
];

const SLEEP: &str = "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]";
const GONE: Duration = Duration::from_secs(60);

fn plain(ns: &Namespace<'_>) -> Result<()> {
    ns.pod("plain", SLEEP)?;
    // Which takes no notice of SIGTERM, and is given no time to.
    ns.ready_pod("quick", &format!("terminationGracePeriodSeconds: 300\n{SLEEP}"))?;
    ns.run(&["wait", "pod/plain", "--for=condition=Ready", "--timeout=120s"])?;
    for pod in ["plain", "quick"] {
        let instance = ns.instance_of(pod)?;
        ensure!(instance["state"] == "running", "{instance}");
    }
    ns.run(&["delete", "pod", "plain", "--timeout=60s"])?;
    ns.run(&["delete", "pod", "quick", "--grace-period=0", "--timeout=60s"])?;
    ns.await_no_instance(GONE)
}

fn forced(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("forced", SLEEP)?;
    ns.run(&["delete", "pod", "forced", "--force", "--grace-period=0"])?;
    ns.await_gone("forced", Duration::from_secs(5))?;
    // Its kubelet is asked whether it is done; the deadline, should it not answer, is later than this.
    ns.await_no_instance(Duration::from_secs(25))
}

fn booting(ns: &Namespace<'_>) -> Result<()> {
    ns.pod("early", SLEEP)?;
    eventually("the instance", START, || {
        let all = ns.instances()?;
        Ok(if all.is_empty() { Err(all) } else { Ok(()) })
    })?;
    ns.run(&["delete", "pod", "early", "--timeout=60s"])?;
    ns.await_no_instance(GONE)
}

fn namespace(ns: &Namespace<'_>) -> Result<()> {
    // Whose controllers would make other pods, if they could.
    for (kind, name) in [("Deployment", "web"), ("StatefulSet", "db")] {
        ns.apply(&format!(
            r#"
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {{type: virtual-kubelet}}
      tolerations: [{{key: virtual-kubelet.io/provider, operator: Exists}}]
      {SLEEP}
"#
        ))?;
    }
    for workload in ["deployment/web", "statefulset/db"] {
        ns.run(&["rollout", "status", workload, "--timeout=120s"])?;
    }
    ns.run(&["delete", "namespace", &ns.name, "--timeout=120s"])?;
    ns.await_no_instance(GONE)
}

fn same_name(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("twin", SLEEP)?;
    let first = ns.get_pod("twin")?;
    ns.run(&["exec", "twin", "--", "touch", "/mark"])?;
    ns.run(&["delete", "pod", "twin", "--force", "--grace-period=0"])?;
    ns.ready_pod("twin", SLEEP)?;
    let second = ns.get_pod("twin")?;
    ensure!(first["metadata"]["uid"] != second["metadata"]["uid"]);
    ensure!(first["status"]["podIP"] != second["status"]["podIP"], "both have {}", first["status"]["podIP"]);
    let (code, ..) = ns.exit(&["exec", "twin", "--", "test", "-e", "/mark"])?;
    ensure!(code == 1, "the second pod runs on the first one's machine");
    eventually("the first machine to end", GONE, || {
        let all = ns.instances()?;
        Ok(if all.len() == 1 { Ok(()) } else { Err(all) })
    })?;
    ensure!(condition(&ns.get_pod("twin")?, "Ready") == Some("True"), "the second pod was hurt");
    Ok(())
}
