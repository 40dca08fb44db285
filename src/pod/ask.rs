//! Pod → what it asks of a machine, or why no machine here can give it.
//!
//! Only what ORCA itself cannot provide is refused; everything else in a pod is the kubelet's business.

mod place;

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements, Volume};

use super::layers::{self, Layer};
use super::wishes::Wishes;
use super::{quantity, reasons};
use crate::config::Instances;

/// The prefix of our annotations.
pub const PREFIX: &str = "orca.research/";
/// What a pod asks of its machine. Amounts are what must be there at once: the largest of any moment of its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The pod's UID.
    pub uid: String,
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    /// Ephemeral storage: images, writable layers, logs and emptyDirs, all on the root volume.
    pub ephemeral_bytes: u64,
    pub gpus: u64,
    /// The extended resource that stands for GPUs.
    pub gpu_resource: String,
    /// `amd64` or `arm64`, where the pod's node selector or required node affinity leaves only one.
    pub arch: Option<String>,
    /// `spec.activeDeadlineSeconds`.
    pub active_deadline: Option<Duration>,
    /// What annotations and configuration want of the machine.
    pub wishes: Wishes,
}

/// One thing that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One of [`reasons`].
    pub reason: &'static str,
    /// Such as `spec.volumes[2].persistentVolumeClaim`.
    pub path: String,
    pub message: String,
}

/// Everything that cannot be had, at once. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    problems: Vec<Problem>,
}

impl Rejection {
    /// `None` if there is no problem.
    #[must_use]
    pub fn of(problems: Vec<Problem>) -> Option<Self> {
        (!problems.is_empty()).then_some(Self { problems })
    }

    /// A single problem.
    #[must_use]
    pub fn single(reason: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { problems: vec![Problem { reason, path: path.into(), message: message.into() }] }
    }

    /// The reason of the first problem.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.problems.first().map_or(reasons::INVALID_ANNOTATION, |problem| problem.reason)
    }

    /// The problems, in the order of the pod's fields.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{}: {}", if i == 0 { "" } else { "; " }, problem.path, problem.message)?;
        }
        Ok(())
    }
}

/// What the pod asks for. `others` are the layers of its owner and its namespace, in this order; `gpu_resource` is the
/// extended resource that stands for GPUs.
///
/// # Errors
/// All reasons at once why no machine of ours can run it.
pub fn ask(pod: &Pod, others: &[Layer], gpu_resource: &str, rules: &Instances) -> Result<Ask, Rejection> {
    let mut problems = Vec::new();
    let spec = pod.spec.clone().unwrap_or_default();
    let active_deadline =
        spec.active_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let own = Layer::of_annotations(layers::POD, pod.metadata.annotations.as_ref());
    let all: Vec<Layer> = std::iter::once(own).chain(others.iter().cloned()).collect();
    let wishes = Wishes::read_until(&all, rules, active_deadline).unwrap_or_else(|rejection| {
        problems.extend(rejection.problems);
        Wishes::default()
    });
    let arch = place::architecture(&spec, &mut problems);
    if let Some(os) = spec.os.as_ref().filter(|os| os.name != "linux") {
        problems.push(Problem {
            reason: reasons::UNSUPPORTED_OS,
            path: "spec.os.name".to_owned(),
            message: format!("is `{}`, expected `linux`", os.name),
        });
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        problems.push(Problem {
            reason: reasons::UNSUPPORTED_CLAIM,
            path: "spec.resourceClaims".to_owned(),
            message: "dynamic resource allocation is not available on this node".to_owned(),
        });
    }
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        if let Some(kind) = unsupported(volume) {
            problems.push(Problem {
                reason: reasons::UNSUPPORTED_VOLUME,
                path: format!("spec.volumes[{i}].{kind}"),
                message: format!("volume `{}` cannot be mounted on this node", volume.name),
            });
        }
    }
    let mut amount = |name: &str, unit: fn(&str) -> Option<u64>| total(&spec, name, unit, &mut problems);
    let ask = Ask {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        cpu_milli: amount("cpu", quantity::milli),
        memory_bytes: amount("memory", quantity::whole),
        ephemeral_bytes: amount("ephemeral-storage", quantity::whole),
        gpus: amount(gpu_resource, quantity::whole),
        gpu_resource: gpu_resource.to_owned(),
        arch,
        active_deadline,
        wishes,
    };
    match Rejection::of(problems) {
        Some(rejection) => Err(rejection),
        None => Ok(ask),
    }
}

/// How many GPUs the pod asks for.
#[must_use]
pub fn gpus(pod: &Pod, gpu_resource: &str) -> u64 {
    pod.spec.as_ref().map_or(0, |spec| total(spec, gpu_resource, quantity::whole, &mut Vec::new()))
}

/// Whether the pod is the image of a static pod: such are shown by their kubelet, never run by us.
#[must_use]
pub fn is_mirror(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"))
}

/// Whether a DaemonSet made the pod.
#[must_use]
pub fn is_daemon_set_pod(pod: &Pod) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true))
}

fn unsupported(volume: &Volume) -> Option<&'static str> {
    if volume.persistent_volume_claim.is_some() {
        Some("persistentVolumeClaim")
    } else if volume.ephemeral.is_some() {
        Some("ephemeral")
    } else if volume.csi.is_some() {
        Some("csi")
    } else {
        None
    }
}

/// The scheduler's sum: containers and sidecars together, or the greediest moment of initialisation, plus overhead;
/// resources of the pod itself go before that.
fn total(spec: &PodSpec, name: &str, unit: fn(&str) -> Option<u64>, problems: &mut Vec<Problem>) -> u64 {
    let mut read = |resources: Option<&ResourceRequirements>, path: String| {
        let (text, field) = requested(resources?, name)?;
        let amount = unit(text);
        if amount.is_none() {
            problems.push(Problem {
                reason: reasons::INVALID_QUANTITY,
                path: format!("{path}.resources.{field}[{name}]"),
                message: format!("is `{text}`, expected a non-negative quantity"),
            });
        }
        amount
    };
    let mut at_once: u64 = 0;
    let mut peak: u64 = 0;
    for (i, container) in spec.init_containers.iter().flatten().enumerate() {
        let amount = read(container.resources.as_ref(), format!("spec.initContainers[{i}]")).unwrap_or(0);
        if is_sidecar(container) {
            at_once = at_once.saturating_add(amount);
            peak = peak.max(at_once);
        } else {
            peak = peak.max(at_once.saturating_add(amount));
        }
    }
    for (i, container) in spec.containers.iter().enumerate() {
        let amount = read(container.resources.as_ref(), format!("spec.containers[{i}]")).unwrap_or(0);
        at_once = at_once.saturating_add(amount);
    }
    let sum = read(spec.resources.as_ref(), "spec".to_owned()).unwrap_or_else(|| peak.max(at_once));
    let overhead = spec.overhead.as_ref().and_then(|overhead| unit(&overhead.get(name)?.0));
    sum.saturating_add(overhead.unwrap_or(0))
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// A request, or the limit that stands for it.
fn requested<'a>(resources: &'a ResourceRequirements, name: &str) -> Option<(&'a str, &'static str)> {
    let find = |field: &'a Option<std::collections::BTreeMap<String, _>>| {
        let quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = field.as_ref()?.get(name)?;
        Some(quantity.0.as_str())
    };
    let request = find(&resources.requests).map(|text| (text, "requests"));
    request.or_else(|| find(&resources.limits).map(|text| (text, "limits")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(pod: serde_json::Value) -> Result<Ask, String> {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        ask(&pod, &[], "nvidia.com/gpu", &Instances::default())
            .map_err(|rejection| format!("{}: {rejection}", rejection.reason()))
    }

    fn container(resources: &serde_json::Value) -> serde_json::Value {
        json!({"name": "c", "image": "i", "resources": resources})
    }

    #[test]
    fn a_pod_asks_for_the_largest_moment_of_its_life() {
        let mut sidecar =
            container(&json!({"requests": {"cpu": "100m", "memory": "1Gi", "ephemeral-storage": "1Gi"}}));
        sidecar["restartPolicy"] = json!("Always");
        let init = container(
            &json!({"requests": {"cpu": "3", "memory": "10Mi"}, "limits": {"ephemeral-storage": "9Gi"}}),
        );
        let main =
            container(&json!({"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "1", "memory": "2Gi"}}));
        let pod = json!({"spec": {"initContainers": [sidecar, init], "containers": [main, main], "overhead": {"cpu": "10m"}}});
        assert_eq!(
            read(pod),
            Ok(Ask {
                cpu_milli: 3110,
                memory_bytes: 5 << 30,
                ephemeral_bytes: 10 << 30,
                gpus: 2,
                gpu_resource: "nvidia.com/gpu".to_owned(),
                ..Ask::default()
            })
        );
    }

    #[test]
    fn resources_of_the_pod_itself_go_first() {
        let main = container(&json!({"requests": {"cpu": "1"}}));
        let pod = json!({"spec": {"containers": [main], "resources": {"requests": {"cpu": "4"}}}});
        assert_eq!(read(pod).unwrap().cpu_milli, 4000);
    }

    #[test]
    fn what_no_machine_can_give_is_refused_with_its_path() {
        for (pod, expected) in [
            (
                json!({"spec": {"containers": [], "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "c"}}]}}),
                "UnsupportedVolume: spec.volumes[1].persistentVolumeClaim: volume `b` cannot be mounted on this node",
            ),
            (
                json!({"spec": {"containers": [], "volumes": [{"name": "a", "ephemeral": {}}]}}),
                "UnsupportedVolume: spec.volumes[0].ephemeral: volume `a` cannot be mounted on this node",
            ),
            (
                json!({"spec": {"containers": [], "volumes": [{"name": "a", "csi": {"driver": "d"}}]}}),
                "UnsupportedVolume: spec.volumes[0].csi: volume `a` cannot be mounted on this node",
            ),
            (
                json!({"spec": {"containers": [], "os": {"name": "windows"}}}),
                "PodOSNotSupported: spec.os.name: is `windows`, expected `linux`",
            ),
            (
                json!({"spec": {"containers": [], "resourceClaims": [{"name": "a"}]}}),
                "UnsupportedResourceClaim: spec.resourceClaims: dynamic resource allocation is not available on this node",
            ),
            (
                json!({"metadata": {"annotations": {"orca.research/instance-typo": "g5.xlarge"}}}),
                "UnknownAnnotation: metadata.annotations[orca.research/instance-typo]: is not an annotation of ORCA, did you mean `orca.research/instance-type`?",
            ),
            (
                json!({"metadata": {"annotations": {"orca.research/instance-type": "G5 large"}}}),
                "InvalidAnnotation: metadata.annotations[orca.research/instance-type]: is `G5 large`, expected an instance type such as `g6.xlarge`",
            ),
        ] {
            assert_eq!(read(pod).unwrap_err(), expected);
        }
    }

    #[test]
    fn all_problems_are_told_at_once_and_the_first_is_the_reason() {
        let pod = json!({
            "metadata": {"annotations": {"orca.research/x": ""}},
            "spec": {"containers": [container(&json!({"limits": {"cpu": "much"}}))], "os": {"name": "windows"}}
        });
        assert_eq!(
            read(pod).unwrap_err(),
            "UnknownAnnotation: metadata.annotations[orca.research/x]: is not an annotation of ORCA; \
             spec.os.name: is `windows`, expected `linux`; \
             spec.containers[0].resources.limits[cpu]: is `much`, expected a non-negative quantity"
        );
    }

    #[test]
    fn everything_else_is_the_kubelets_business() {
        let pod = json!({
            "metadata": {"annotations": {
                "example.com/x": "y", "orca.research/instance-type": "u-6tb1.112xlarge",
                "orca.research/launch": "{}", "orca.research/instance-id": "i-1"
            }},
            "spec": {"hostNetwork": true, "os": {"name": "linux"}, "containers": [], "volumes": [
                {"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "nfs": {"server": "s", "path": "/"}}]}
        });
        assert_eq!(read(pod).unwrap().wishes.instance_types, ["u-6tb1.112xlarge"]);
    }

    #[test]
    fn daemon_set_pods_and_mirrors_are_told() {
        let owned = |kind: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"ownerReferences": [
                {"apiVersion": "apps/v1", "kind": kind, "name": "n", "uid": "u", "controller": true}]}}))
            .unwrap()
        };
        assert!(is_daemon_set_pod(&owned("DaemonSet")));
        assert!(!is_daemon_set_pod(&owned("ReplicaSet")));
        let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
        assert!(is_mirror(&serde_json::from_value(mirror).unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn no_annotation_and_no_amount_makes_it_panic(
            name in "[a-z.-]{0,20}", value: String, amount in "[0-9.eEimKMGkn+-]{0,12}"
        ) {
            drop(read(json!({
                "metadata": {"annotations": {format!("{PREFIX}{name}"): value, "orca.research/instance-type": value}},
                "spec": {"containers": [container(&json!({"limits": {"cpu": amount, "nvidia.com/gpu": value}}))]},
            })));
        }
    }
}
