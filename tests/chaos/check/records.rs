//! What the two servers kept: the API server's audit log (every version of every pod, as it answered whoever wrote it)
//! and the cloud's history of instances.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

/// The annotation that says with which exit code a pod's program will end.
pub(crate) const EXIT: &str = "chaos/exit";
/// The container whose exit code that is.
const CONTAINER: &str = "main";
/// The tag that names an instance's pod.
const POD_UID: &str = "orca.research/pod-uid";

/// A pod's whole life.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// With which exit code its program will end; without one it runs on.
    pub(crate) exit: Option<i64>,
    pub(crate) created: Timestamp,
    pub(crate) bound: Option<Timestamp>,
    /// In order.
    pub(crate) versions: Vec<Version>,
    pub(crate) removed: Option<Timestamp>,
}

/// One version of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) at: Timestamp,
    pub(crate) resource_version: u64,
    pub(crate) phase: String,
    pub(crate) reason: String,
    pub(crate) deleting: bool,
    pub(crate) ready: bool,
    pub(crate) exit: Option<i64>,
    pub(crate) restarts: u64,
}

/// An instance's life.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) pod_uid: String,
    pub(crate) kind: String,
    pub(crate) launched: Timestamp,
    /// When it began to shut down: EC2 bills until then.
    pub(crate) ended: Option<Timestamp>,
    pub(crate) reason: String,
    /// The cloud took it; nobody asked for its end.
    pub(crate) failed: bool,
}

impl Version {
    /// Whether the phase is final.
    pub(crate) fn is_over(&self) -> bool {
        ["Succeeded", "Failed"].contains(&&*self.phase)
    }
}

impl Pod {
    /// Whether its program ends by itself.
    pub(crate) fn ends(&self) -> bool {
        self.exit.is_some()
    }

    /// From when on nobody needs its machine.
    pub(crate) fn over(&self) -> Option<Timestamp> {
        let over = self.versions.iter().find(|version| version.is_over()).map(|version| version.at);
        [over, self.removed].into_iter().flatten().min()
    }
}

/// Times by namespace and name.
type Times = BTreeMap<(String, String), Vec<Timestamp>>;

/// Pods from the lines of an audit log, in any order, and from the list of those that are there in the end. Lines that
/// are no whole entry are passed over: a server that is killed leaves one.
pub(crate) fn pods<'a>(lines: impl Iterator<Item = &'a str>, left: &Value) -> Vec<Pod> {
    let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
    let (mut bound, mut unsure) = (Times::new(), Times::new());
    for line in lines {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        let code = entry["responseStatus"]["code"].as_u64().unwrap_or_default();
        let Some(at) = time(&entry["stageTimestamp"]) else { continue };
        let word = |key: &str| entry["objectRef"][key].as_str().unwrap_or_default().to_owned();
        let name = (word("namespace"), word("name"));
        if entry["verb"] == "delete" && code >= 500 {
            // Whoever asked died before the answer.
            unsure.entry(name).or_default().push(at);
            continue;
        }
        if entry["stage"] != "ResponseComplete" || !(200..300).contains(&code) {
            continue;
        }
        if entry["objectRef"]["subresource"] == "binding" {
            let asked = time(&entry["requestReceivedTimestamp"]).unwrap_or(at);
            bound.entry(name).or_default().push(asked);
            continue;
        }
        let object = &entry["responseObject"];
        let items = object["items"].as_array().map_or_else(|| std::slice::from_ref(object), Vec::as_slice);
        for item in
            items.iter().filter(|item| item["metadata"]["uid"].is_string() && item["spec"].is_object())
        {
            note(&mut pods, item, at);
        }
    }
    for pod in pods.values_mut() {
        pod.versions.sort_by_key(|version| (version.resource_version, version.at));
        let times = bound.get(&(pod.namespace.clone(), pod.name.clone()));
        let first = times.into_iter().flatten().filter(|at| **at >= pod.created).min().copied();
        pod.bound = pod.bound.or(first);
    }
    let left: Vec<&str> =
        left.as_array().into_iter().flatten().filter_map(|pod| pod["metadata"]["uid"].as_str()).collect();
    for pod in pods.values_mut().filter(|pod| pod.removed.is_none() && !left.contains(&&*pod.uid)) {
        let last = pod.versions.last().map_or(pod.created, |version| version.at);
        let times = unsure.get(&(pod.namespace.clone(), pod.name.clone()));
        pod.removed =
            Some(times.into_iter().flatten().filter(|at| **at >= last).min().copied().unwrap_or(last));
    }
    pods.into_values().collect()
}

fn note(pods: &mut BTreeMap<String, Pod>, item: &Value, at: Timestamp) {
    let metadata = &item["metadata"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let uid = word(&metadata["uid"]);
    // Kubernetes tells it in whole seconds.
    let created = time(&metadata["creationTimestamp"]).unwrap_or(at);
    let pod = pods.entry(uid.clone()).or_insert_with(|| Pod {
        uid,
        namespace: word(&metadata["namespace"]),
        name: word(&metadata["name"]),
        exit: metadata["annotations"][EXIT].as_str().and_then(|code| code.parse().ok()),
        created,
        bound: item["spec"]["nodeName"].as_str().map(|_| created),
        versions: Vec::new(),
        removed: None,
    });
    let deleting = metadata["deletionTimestamp"].is_string();
    let is_held = metadata["finalizers"].as_array().is_some_and(|all| !all.is_empty());
    if deleting && metadata["deletionGracePeriodSeconds"] == 0 && !is_held {
        pod.removed = Some(pod.removed.map_or(at, |before| before.min(at)));
    }
    pod.versions.push(version(item, at, deleting));
}

fn version(item: &Value, at: Timestamp, deleting: bool) -> Version {
    let status = &item["status"];
    let of = |list: &str| status[list].as_array().map_or(&[][..], Vec::as_slice);
    let main = of("containerStatuses").iter().find(|one| one["name"] == CONTAINER).unwrap_or(&Value::Null);
    let ready = of("conditions").iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
    let resource_version = item["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
    Version {
        at,
        resource_version: resource_version.unwrap_or_default(),
        phase: status["phase"].as_str().unwrap_or_default().to_owned(),
        reason: status["reason"].as_str().unwrap_or_default().to_owned(),
        deleting,
        ready,
        exit: main["state"]["terminated"]["exitCode"].as_i64(),
        restarts: main["restartCount"].as_u64().unwrap_or_default(),
    }
}

/// Instances from the cloud's history.
pub(crate) fn instances(history: &Value) -> Result<Vec<Instance>> {
    let all = history.as_array().context("the history is no list")?;
    all.iter()
        .map(|one| {
            let steps = one["history"].as_array().context("history")?;
            let end = steps.iter().find(|step| {
                ["shutting-down", "terminated"].contains(&step["state"].as_str().unwrap_or_default())
            });
            let reason = one["reason"]["code"].as_str().unwrap_or_default().to_owned();
            Ok(Instance {
                id: one["id"].as_str().context("id")?.to_owned(),
                pod_uid: one["tags"][POD_UID].as_str().unwrap_or_default().to_owned(),
                kind: one["instance_type"].as_str().context("instance_type")?.to_owned(),
                launched: time(&one["launched_at"]).context("launched_at")?,
                ended: end.and_then(|step| time(&step["at"])),
                failed: end.is_some() && reason.starts_with("Server."),
                reason,
            })
        })
        .collect()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}
