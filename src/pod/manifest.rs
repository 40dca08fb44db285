//! Objects as people write them → the pods that come of them, with the layers of wishes that such pods would have.
//!
//! The same layers as those of live pods (`controller::owners`): of a Deployment's pods, the Deployment counts; of a
//! CronJob's, the template of its Jobs. A Namespace among the objects counts for the pods in it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Namespace, Pod, PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::layers::Layer;

/// A pod that would be made, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Such as `Pod` or `Job`.
    pub kind: String,
    /// Of the object; pods of a Job have names of their own.
    pub name: String,
    /// As written; `None` leaves it to whoever applies it.
    pub namespace: Option<String>,
    pub pod: Pod,
    /// Wishes of its owner.
    pub owner: Option<Layer>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    pub workloads: Vec<Workload>,
    /// Wishes of the namespaces that are among the objects, by name.
    pub namespaces: BTreeMap<String, Layer>,
    /// Objects without pods: `Service web`.
    pub others: Vec<String>,
}

/// An object that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {message}")]
pub struct Malformed {
    /// `document 2 (Job train)`.
    pub what: String,
    /// Place among the documents.
    pub document: usize,
    /// What it was read as.
    pub kind: String,
    pub message: String,
}

impl Manifest {
    /// Reads objects, each with its place in the file. Lists are opened.
    ///
    /// # Errors
    /// The first object that has no kind, or is not what its kind says.
    pub fn read(documents: Vec<(usize, Value)>) -> Result<Self, Malformed> {
        let mut manifest = Self::default();
        for (document, value) in documents {
            manifest.object(document, value)?;
        }
        Ok(manifest)
    }

    /// The layers behind the pod's own, nearest first, as far as the objects tell.
    #[must_use]
    pub fn layers<'a>(&'a self, workload: &'a Workload, namespace: &str) -> Vec<&'a Layer> {
        workload.owner.iter().chain(self.namespaces.get(namespace)).collect()
    }

    fn object(&mut self, document: usize, mut value: Value) -> Result<(), Malformed> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&value["kind"]), text(&value["metadata"]["name"]));
        let read = Reading { document, kind: &kind, name: &name };
        let Some(group) = value["apiVersion"].as_str().filter(|_| !kind.is_empty()) else {
            return Err(read.wrong("expected an object with `apiVersion` and `kind`"));
        };
        let group = group.split_once('/').map_or("", |(group, _)| group).to_owned();
        match (group.as_str(), kind.as_str()) {
            ("", "List") => {
                let items = value["items"].take();
                let Value::Array(items) = items else {
                    return Err(read.wrong("expected a list in `items`"));
                };
                for item in items {
                    self.object(document, item)?;
                }
            }
            ("", "Namespace") => {
                let namespace: Namespace = read.as_(value)?;
                let origin = format!("Namespace {name} metadata.annotations");
                let layer = Layer::of_annotations(&origin, namespace.metadata.annotations.as_ref());
                self.namespaces.insert(name, layer);
            }
            ("", "Pod") => {
                let pod: Pod = read.as_(value)?;
                let namespace = pod.metadata.namespace.clone();
                self.workloads.push(Workload { kind, name, namespace, pod, owner: None });
            }
            _ => match template(&read, &group, value)? {
                Some((owner, made, pods)) => self.workloads.push(workload(kind, name, owner, made, pods)),
                None => self.others.push(format!("{kind} {name}")),
            },
        }
        Ok(())
    }
}

/// The object's own metadata, those whose annotations are wishes, and what its pods are made of.
type Template = (ObjectMeta, Option<ObjectMeta>, PodTemplateSpec);

#[rustfmt::skip] // one line a kind
fn template(read: &Reading<'_>, group: &str, value: Value) -> Result<Option<Template>, Malformed> {
    let missing = || read.wrong("has no template of pods, expected one in `spec`");
    let own = |meta: ObjectMeta| (meta.clone(), Some(meta));
    let (of, template) = match (group, read.kind) {
        ("batch", "Job") => { let it: Job = read.as_(value)?; (own(it.metadata), it.spec.map(|spec| spec.template)) }
        ("apps", "Deployment") => { let it: Deployment = read.as_(value)?; (own(it.metadata), it.spec.map(|spec| spec.template)) }
        ("apps", "ReplicaSet") => { let it: ReplicaSet = read.as_(value)?; (own(it.metadata), it.spec.and_then(|spec| spec.template)) }
        ("apps", "StatefulSet") => { let it: StatefulSet = read.as_(value)?; (own(it.metadata), it.spec.map(|spec| spec.template)) }
        // Live pods have no wishes of these, either.
        ("apps", "DaemonSet") => { let it: DaemonSet = read.as_(value)?; ((it.metadata, None), it.spec.map(|spec| spec.template)) }
        ("", "ReplicationController") => { let it: ReplicationController = read.as_(value)?; ((it.metadata, None), it.spec.and_then(|spec| spec.template)) }
        ("batch", "CronJob") => {
            let it: CronJob = read.as_(value)?;
            let job = it.spec.job_template;
            ((it.metadata, Some(job.metadata.unwrap_or_default())), job.spec.map(|spec| spec.template))
        }
        _ => return Ok(None),
    };
    Ok(Some((of.0, of.1, template.ok_or_else(missing)?)))
}

fn workload(
    kind: String,
    name: String,
    own: ObjectMeta,
    wishes: Option<ObjectMeta>,
    pods: PodTemplateSpec,
) -> Workload {
    let made_by = if kind == "CronJob" { "Job" } else { &kind };
    let owner = wishes.map(|meta| {
        let origin = format!("{made_by} {name} metadata.annotations");
        Layer::of_annotations(&origin, meta.annotations.as_ref())
    });
    let reference = OwnerReference {
        api_version: String::new(),
        kind: made_by.to_owned(),
        name: name.clone(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    let mut metadata = pods.metadata.unwrap_or_default();
    metadata.namespace.clone_from(&own.namespace);
    metadata.owner_references = Some(vec![reference]);
    let pod = Pod { metadata, spec: pods.spec, status: None };
    Workload { kind, name, namespace: own.namespace, pod, owner }
}

/// The object that is being read, for messages.
struct Reading<'a> {
    document: usize,
    kind: &'a str,
    name: &'a str,
}

impl Reading<'_> {
    fn as_<T: DeserializeOwned>(&self, value: Value) -> Result<T, Malformed> {
        serde_json::from_value(value).map_err(|error| self.wrong(&error.to_string()))
    }

    fn wrong(&self, message: &str) -> Malformed {
        let of = format!("{} {}", self.kind, self.name);
        let of = if of.trim().is_empty() { String::new() } else { format!(" ({})", of.trim()) };
        Malformed {
            what: format!("document {}{of}", self.document + 1),
            document: self.document,
            kind: self.kind.to_owned(),
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(documents: &[Value]) -> Result<Manifest, String> {
        let documents = documents.iter().cloned().enumerate().collect();
        Manifest::read(documents).map_err(|error| error.to_string())
    }

    fn wishes(zone: &str) -> Value {
        json!({"orca.research/zones": zone, "example.com/zones": "x"})
    }

    #[test]
    fn pods_of_every_kind_have_the_layers_that_live_ones_have() {
        let template =
            json!({"metadata": {"annotations": {"orca.research/efa": "1"}}, "spec": {"containers": []}});
        let apps = |kind: &str| {
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "n", "annotations": wishes(kind)},
                "spec": {"selector": {}, "serviceName": "s", "template": template}})
        };
        let job = json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "n", "namespace": "ml", "annotations": wishes("Job")}, "spec": {"template": template}});
        let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": "n", "annotations": wishes("not this")},
            "spec": {"schedule": "* * * * *", "jobTemplate":
                {"metadata": {"annotations": wishes("its Jobs")}, "spec": {"template": template}}}});
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}});
        let all =
            [apps("Deployment"), apps("ReplicaSet"), apps("StatefulSet"), apps("DaemonSet"), job, cron, pod];
        let list = json!({"apiVersion": "v1", "kind": "List", "items": all});
        let manifest = read(&[list]).unwrap();
        let shown: Vec<_> = manifest
            .workloads
            .iter()
            .map(|one| {
                let owner = one.owner.as_ref().map(|layer| format!("{}: {:?}", layer.origin, layer.values));
                format!("{} {} {:?}", one.kind, owner.unwrap_or_default(), one.namespace)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "Deployment Deployment n metadata.annotations: {\"zones\": \"Deployment\"} None",
                "ReplicaSet ReplicaSet n metadata.annotations: {\"zones\": \"ReplicaSet\"} None",
                "StatefulSet StatefulSet n metadata.annotations: {\"zones\": \"StatefulSet\"} None",
                "DaemonSet  None",
                "Job Job n metadata.annotations: {\"zones\": \"Job\"} Some(\"ml\")",
                "CronJob Job n metadata.annotations: {\"zones\": \"its Jobs\"} None",
                "Pod  None",
            ]
        );
        assert!(manifest.workloads[..6].iter().all(|one| one.pod.metadata.annotations.is_some()));
        assert!(super::super::ask::is_daemon_set_pod(&manifest.workloads[3].pod));
    }

    #[test]
    fn a_namespace_counts_for_its_pods_and_other_objects_are_named() {
        let manifest = read(&[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml", "annotations": wishes("a")}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}),
            json!({"apiVersion": "apps.example.com/v1", "kind": "Deployment", "metadata": {"name": "x"}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ml"}}),
        ]).unwrap();
        assert_eq!(manifest.others, ["Service web", "Deployment x"]);
        let pod = &manifest.workloads[0];
        let origins = |namespace| {
            manifest.layers(pod, namespace).iter().map(|one| one.origin.clone()).collect::<Vec<_>>()
        };
        assert_eq!(origins("ml"), ["Namespace ml metadata.annotations"]);
        assert_eq!(origins("default"), [""; 0]);
    }

    #[test]
    fn what_is_no_object_is_told_with_its_place() {
        for (value, expected) in [
            (json!("text"), "document 2: expected an object with `apiVersion` and `kind`"),
            (json!({"kind": "Pod"}), "document 2 (Pod): expected an object with `apiVersion` and `kind`"),
            (
                json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}}),
                "document 2 (Job j): has no template of pods, expected one in `spec`",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": 1}}),
                "document 2 (Pod p): invalid type: integer `1`, expected a sequence",
            ),
        ] {
            let service = json!({"apiVersion": "v1", "kind": "Service"});
            assert_eq!(read(&[service, value]).unwrap_err(), expected);
        }
    }
}
