//! What is honoured, and each thing that is refused.

use serde_json::{Value, json};

use super::*;

const RULES: Rules<'static> = Rules { gpu_resource: "nvidia.com/gpu", allow_secrets_in_env: false };

/// A pod as the API server stores it.
fn mk_pod(change: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "train", "namespace": "ml", "uid": "u-1", "annotations": {}},
        "spec": {
            "containers": [{
                "name": "main", "image": "ghcr.io/a/b:1", "imagePullPolicy": "IfNotPresent",
                "command": ["python"], "args": ["train.py"],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "4", "memory": "16Gi"}},
                "volumeMounts": [{
                    "name": "kube-api-access-x", "readOnly": true,
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"
                }]
            }],
            "volumes": [{"name": "kube-api-access-x", "projected": {"sources": []}}],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "nodeName": "orca",
            "nodeSelector": {"type": "virtual-kubelet"}, "preemptionPolicy": "PreemptLowerPriority", "priority": 0,
            "restartPolicy": "Never", "schedulerName": "default-scheduler", "securityContext": {},
            "serviceAccount": "default", "serviceAccountName": "default", "terminationGracePeriodSeconds": 5,
            "tolerations": [{"operator": "Exists"}]
        }
    });
    change(&mut pod);
    serde_json::from_value(pod).unwrap()
}

/// The paths that are refused.
fn refused(pod: &Pod) -> Vec<String> {
    match sketch(pod, RULES) {
        Ok(_) => Vec::new(),
        Err(rejection) => rejection.problems().iter().map(|problem| problem.path.clone()).collect(),
    }
}

#[test]
fn an_ordinary_pod_is_honoured() {
    let sketch = sketch(&mk_pod(|_| {}), RULES).unwrap();
    assert_eq!(sketch.command.as_deref(), Some(&["python".to_owned()][..]));
    assert_eq!((sketch.restart, sketch.grace), (Restart::Never, Duration::from_secs(5)));
    assert!(sketch.leaves_token_out && sketch.is_wrapped && !sketch.has_ssh());
    assert!(sketch.folders.is_empty());
}

#[test]
fn ports_folders_and_the_network_volume() {
    let pod = mk_pod(|pod| {
        let container = &mut pod["spec"]["containers"][0];
        container["ports"] = json!([{"containerPort": 22}, {"containerPort": 8888, "protocol": "TCP"}]);
        container["volumeMounts"] = json!([
            {"name": "scratch", "mountPath": "/scratch"}, {"name": "network-volume", "mountPath": "/data"}
        ]);
        pod["spec"]["volumes"] =
            json!([{"name": "scratch", "emptyDir": {}}, {"name": "network-volume", "emptyDir": {}}]);
        pod["metadata"]["annotations"] = json!({(NETWORK_VOLUME): "vol-1", (HTTP_PORTS): "8888, 8000"});
    });
    let sketch = sketch(&pod, RULES).unwrap();
    assert!(sketch.has_ssh());
    let ports: Vec<_> = sketch.ports.iter().map(|port| (port.number, port.kind)).collect();
    assert_eq!(ports, [(22, PortKind::Tcp), (8000, PortKind::Http), (8888, PortKind::Http)]);
    assert_eq!(sketch.folders, ["/scratch"]);
    assert_eq!(
        sketch.network_volume,
        Some(NetworkVolume { id: "vol-1".to_owned(), path: "/data".to_owned() })
    );
}

#[test]
fn everything_else_is_refused_by_its_path() {
    let container = |field: &str, value: Value| {
        let field = field.to_owned();
        mk_pod(move |pod| pod["spec"]["containers"][0][field] = value)
    };
    let spec = |field: &str, value: Value| {
        let field = field.to_owned();
        mk_pod(move |pod| pod["spec"][field] = value)
    };
    let volume = |kind: Value| {
        mk_pod(move |pod| {
            let mut one = json!({"name": "v"});
            one.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
            pod["spec"]["volumes"] = json!([one]);
        })
    };
    let annotated = |key: &str, value: &str| {
        let (key, value) = (key.to_owned(), value.to_owned());
        mk_pod(move |pod| pod["metadata"]["annotations"][key] = json!(value))
    };
    for (pod, path) in [
        (spec("initContainers", json!([{"name": "a", "image": "b"}])), "spec.initContainers"),
        (spec("ephemeralContainers", json!([{"name": "a", "image": "b"}])), "spec.ephemeralContainers"),
        (spec("hostNetwork", json!(true)), "spec.hostNetwork"),
        (spec("dnsPolicy", json!("None")), "spec.dnsPolicy"),
        (spec("dnsConfig", json!({"nameservers": ["1.1.1.1"]})), "spec.dnsConfig"),
        (spec("hostname", json!("h")), "spec.hostname"),
        (spec("hostAliases", json!([{"ip": "1.1.1.1"}])), "spec.hostAliases"),
        (spec("securityContext", json!({"fsGroup": 1})), "spec.securityContext"),
        (spec("shareProcessNamespace", json!(true)), "spec.shareProcessNamespace"),
        (spec("runtimeClassName", json!("nvidia")), "spec.runtimeClassName"),
        (spec("overhead", json!({"cpu": "1"})), "spec.overhead"),
        (spec("readinessGates", json!([{"conditionType": "x"}])), "spec.readinessGates"),
        (spec("resourceClaims", json!([{"name": "x"}])), "spec.resourceClaims"),
        (spec("automountServiceAccountToken", json!(true)), "spec.automountServiceAccountToken"),
        (
            mk_pod(|pod| {
                let all = pod["spec"]["containers"].as_array_mut().unwrap();
                all.push(json!({"name": "b", "image": "c"}));
            }),
            "spec.containers[1]",
        ),
        (
            container("lifecycle", json!({"preStop": {"sleep": {"seconds": 1}}})),
            "spec.containers[0].lifecycle",
        ),
        (container("livenessProbe", json!({"exec": {}})), "spec.containers[0].livenessProbe"),
        (container("readinessProbe", json!({"grpc": {"port": 1}})), "spec.containers[0].readinessProbe"),
        (container("startupProbe", json!({"exec": {}})), "spec.containers[0].startupProbe"),
        (container("securityContext", json!({"runAsUser": 1})), "spec.containers[0].securityContext"),
        (container("stdin", json!(true)), "spec.containers[0].stdin"),
        (container("tty", json!(true)), "spec.containers[0].tty"),
        (
            container("volumeDevices", json!([{"name": "a", "devicePath": "/b"}])),
            "spec.containers[0].volumeDevices",
        ),
        (
            container("resizePolicy", json!([{"resourceName": "cpu", "restartPolicy": "x"}])),
            "spec.containers[0].resizePolicy",
        ),
        (container("imagePullPolicy", json!("Never")), "spec.containers[0].imagePullPolicy"),
        (
            container("resources", json!({"limits": {"amd.com/gpu": "1"}})),
            "spec.containers[0].resources[amd.com/gpu]",
        ),
        (
            container("ports", json!([{"containerPort": 53, "protocol": "UDP"}])),
            "spec.containers[0].ports[0].protocol",
        ),
        (
            container("ports", json!([{"containerPort": 80, "hostPort": 80}])),
            "spec.containers[0].ports[0].hostPort",
        ),
        (
            container(
                "env",
                json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            ),
            "spec.containers[0].env[0].valueFrom.secretKeyRef",
        ),
        (
            container("envFrom", json!([{"secretRef": {"name": "s"}}])),
            "spec.containers[0].envFrom[0].secretRef",
        ),
        (
            container(
                "env",
                json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
            ),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
        ),
        (container("env", json!([{"name": "ORCA_POD_UID", "value": "x"}])), "spec.containers[0].env[0].name"),
        (volume(json!({"configMap": {"name": "c"}})), "spec.volumes[0].configMap"),
        (volume(json!({"secret": {"secretName": "c"}})), "spec.volumes[0].secret"),
        (volume(json!({"projected": {"sources": []}})), "spec.volumes[0].projected"),
        (
            volume(json!({"persistentVolumeClaim": {"claimName": "c"}})),
            "spec.volumes[0].persistentVolumeClaim",
        ),
        (volume(json!({"hostPath": {"path": "/"}})), "spec.volumes[0].hostPath"),
        (volume(json!({"emptyDir": {"medium": "Memory"}})), "spec.volumes[0].emptyDir.medium"),
        (annotated(NETWORK_VOLUME, "vol-1"), "metadata.annotations[orca.research/runpod-network-volume]"),
        (annotated(EXIT_CODE, "maybe"), "metadata.annotations[orca.research/runpod-exit-code]"),
        (annotated(HTTP_PORTS, "0"), "metadata.annotations[orca.research/runpod-http-ports]"),
        (
            annotated(HTTP_PORTS, "1,2,3,4,5,6,7,8,9,10,11"),
            "metadata.annotations[orca.research/runpod-http-ports]",
        ),
    ] {
        assert_eq!(refused(&pod), [path]);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let pod = mk_pod(|pod| {
        pod["spec"]["hostNetwork"] = json!(true);
        pod["spec"]["containers"][0]["tty"] = json!(true);
        pod["spec"]["volumes"] = json!([{"name": "v", "nfs": {"server": "a", "path": "/b"}}]);
    });
    assert_eq!(refused(&pod), ["spec.hostNetwork", "spec.containers[0].tty", "spec.volumes[0].nfs"]);
}

#[test]
fn secrets_need_the_operators_consent() {
    let pod = mk_pod(|pod| {
        pod["spec"]["containers"][0]["env"] =
            json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    });
    let allowed = Rules { allow_secrets_in_env: true, ..RULES };
    assert_eq!(sketch(&pod, allowed).unwrap().env.len(), 1);
    // RunPod's own secrets are plain text here.
    let own = mk_pod(|pod| {
        pod["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "{{ RUNPOD_SECRET_a }}"}]);
    });
    assert!(refused(&own).is_empty());
}

#[test]
fn without_its_wrapper_a_pod_has_only_what_the_image_does_itself() {
    let pod = mk_pod(|pod| {
        pod["metadata"]["annotations"] = json!({(EXIT_CODE): "none"});
        pod["spec"]["containers"][0]["workingDir"] = json!("/w");
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    });
    assert_eq!(refused(&pod), ["spec.containers[0].workingDir", "spec.containers[0].volumeMounts"]);
}
