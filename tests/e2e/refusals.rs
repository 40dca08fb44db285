//! What ORCA refuses: Failed at once, naming the field, and no machine.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::world::Namespace;

pub(crate) const TESTS: &[crate::Test] = &[
    ("refusal::a_pod_that_no_machine_can_honour_fails_at_once_and_names_the_field", refused),
    ("refusal::a_daemonset_pod_waits_and_never_gets_a_machine", daemonset),
];

fn base(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"type": "virtual-kubelet"},
            "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
            "containers": [{"name": "main", "image": "busybox:stable", "command": ["true"]}],
        },
    })
}

fn refused(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: claim}\nspec: {accessModes: [ReadWriteOnce], \
         volumeName: volume, storageClassName: '', resources: {requests: {storage: 1Gi}}}\n",
    )?;
    let volume = |volume: Value| move |pod: &mut Value| pod["spec"]["volumes"] = json!([volume]);
    let annotated = |key: &'static str, value: &'static str| {
        move |pod: &mut Value| pod["metadata"]["annotations"] = json!({key: value})
    };
    let claim =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    type Change = Box<dyn Fn(&mut Value)>;
    // Pods that name the node skip the scheduler, which would hold back some of them for reasons of its own.
    let cases: Vec<(&str, &str, Change)> = vec![
        (
            "claim",
            "spec.volumes[0].persistentVolumeClaim",
            Box::new(volume(json!({"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}))),
        ),
        (
            "ephemeral",
            "spec.volumes[0].ephemeral",
            Box::new(volume(json!({"name": "v", "ephemeral": {"volumeClaimTemplate": claim}}))),
        ),
        (
            "csi",
            "spec.volumes[0].csi",
            Box::new(volume(json!({"name": "v", "csi": {"driver": "secrets-store.csi.k8s.io"}}))),
        ),
        ("windows", "spec.os.name", Box::new(|pod| pod["spec"]["os"] = json!({"name": "windows"}))),
        (
            "unknown-type",
            "metadata.annotations[orca.research/instance-type]",
            Box::new(annotated("orca.research/instance-type", "g99.huge")),
        ),
        (
            "forbidden-type",
            "metadata.annotations[orca.research/instance-type]",
            Box::new(annotated("orca.research/instance-type", "p5.48xlarge")),
        ),
        (
            "too-many-gpus",
            "nvidia.com/gpu",
            Box::new(|pod| {
                pod["metadata"]["annotations"] = json!({"orca.research/instance-type": "g5.xlarge"});
                pod["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": 2}});
            }),
        ),
        (
            "too-much-disk",
            "requests[ephemeral-storage]",
            Box::new(|pod| {
                pod["spec"]["containers"][0]["resources"] =
                    json!({"requests": {"ephemeral-storage": "101Gi"}});
            }),
        ),
        (
            "claims",
            "spec.resourceClaims",
            Box::new(|pod| {
                pod["spec"]["resourceClaims"] = json!([{"name": "r", "resourceClaimName": "none"}])
            }),
        ),
    ];
    for (name, _, change) in &cases {
        let mut pod = base(name);
        pod["spec"]["nodeName"] = json!("orca");
        change(&mut pod);
        ns.apply(&pod.to_string())?;
    }
    for (name, field, _) in &cases {
        let pod = ns.await_pod(name, "to be Failed", Duration::from_secs(15), |pod| {
            pod["status"]["phase"] == "Failed"
        })?;
        let told = pod["status"]["message"].as_str().unwrap_or_default();
        ensure!(told.contains(field), "pod {name} is refused with {told:?}, which does not name `{field}`");
        ensure!(!pod["status"]["reason"].is_null(), "pod {name} has no reason");
        ensure!(pod["status"]["startTime"].is_null(), "pod {name} never started");
    }
    let instances = ns.instances()?;
    ensure!(instances.is_empty(), "machines for refused pods: {instances:?}");
    Ok(())
}

/// One whose pods go everywhere.
pub(crate) const DAEMON_SET: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      tolerations: [{operator: Exists}]
      containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]
"#;

fn daemonset(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(DAEMON_SET)?;
    let told =
        crate::world::eventually("an event about the DaemonSet's pod", Duration::from_secs(30), || {
            let all = ns.run(&[
                "get",
                "events",
                "-o",
                "jsonpath={range .items[*]}{.involvedObject.kind} {.message}{\"\\n\"}{end}",
            ])?;
            let told = all
                .lines()
                .find(|line| line.starts_with("Pod ") && line.contains("DaemonSet"))
                .map(str::to_owned);
            Ok(told.ok_or(all))
        })?;
    ensure!(told.contains("DaemonSet"), "{told}");
    let pods: Value = serde_json::from_str(&ns.run(&["get", "pods", "-o", "json"])?)?;
    ensure!(pods["items"][0]["status"]["phase"] == "Pending", "{}", pods["items"][0]["status"]);
    ensure!(ns.instances()?.is_empty());
    Ok(())
}
