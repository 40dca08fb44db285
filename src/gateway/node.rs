//! The Node as one guest sees it: the real one's name and labels, the machine's addresses and capacity, and
//! what this kubelet itself has reported.
//!
//! Admission and the kubelet's caches read this object, so nothing in it may shrink, taint or go back in time.
//! A pure state machine; it never reaches the API server.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value, json};

use super::denied::{Denied, Rule};
use super::snapshot::{Item, NODE, Snapshot};
use crate::capacity::world::Usable;
use crate::pod::quantity;

/// What is taken from the real Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Real {
    pub uid: String,
    pub created: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// What a guest's kubelet has said about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reported {
    /// `status.declaredFeatures`, sorted.
    pub declared_features: Vec<String>,
    /// `status.nodeInfo`: versions of kernel, kubelet and container runtime.
    pub node_info: Map<String, Value>,
    /// Its condition Ready.
    pub ready: bool,
    /// What it would give to pods (`status.allocatable`), once it has said so.
    pub usable: Option<Usable>,
}

/// One guest's Node.
#[derive(Debug)]
pub(crate) struct PrivateNode {
    name: String,
    address: IpAddr,
    resources: Value,
    real: Option<Real>,
    /// In the order in which they were seeded or reported.
    conditions: Vec<Value>,
    /// The parts of the status that are echoed as they were reported.
    echoed: Map<String, Value>,
    /// Its own `allocatable`: learned from, never echoed.
    allocatable: Value,
    version: u64,
}

/// Echoed structures, merged key by key.
const MERGED: [&str; 3] = ["nodeInfo", "features", "daemonEndpoints"];
/// Echoed lists, replaced as a whole.
const REPLACED: [&str; 2] = ["runtimeHandlers", "declaredFeatures"];

/// Every condition from the start: a kubelet that misses Ready logs an error every 100 ms.
const SEEDED: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID"),
    ("Ready", "False", "KubeletStarting"),
];

impl PrivateNode {
    /// The Node of a machine. Its versions start at the time, so that they grow across restarts of ORCA too.
    pub(crate) fn new(
        name: &str,
        address: IpAddr,
        capacity: &BTreeMap<String, Quantity>,
        gpu_resource: &str,
        now: Timestamp,
    ) -> Self {
        // Not listed, the resource is ignored in admission: there is no device plugin to provide it.
        let resources: Map<String, Value> = capacity
            .iter()
            .filter(|(resource, _)| *resource != gpu_resource)
            .map(|(resource, quantity)| (resource.clone(), json!(quantity.0)))
            .collect();
        let conditions = SEEDED.map(|(kind, status, reason)| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": "not yet reported by this machine",
                "lastHeartbeatTime": seconds(now), "lastTransitionTime": seconds(now),
            })
        });
        Self {
            name: name.to_owned(),
            address,
            resources: Value::Object(resources),
            real: None,
            conditions: conditions.to_vec(),
            echoed: Map::new(),
            allocatable: json!({}),
            version: u64::try_from(now.as_microsecond()).unwrap_or(1),
        }
    }

    /// Takes over what the real Node says now; whether that changed anything.
    pub(crate) fn adopt(&mut self, real: &Real) -> bool {
        let changed = self.real.as_ref() != Some(real);
        if changed {
            self.real = Some(real.clone());
            self.version += 1;
        }
        changed
    }

    /// Takes a strategic merge patch of `nodes/status`.
    pub(crate) fn patch(&mut self, patch: &Value) -> Result<(), Denied> {
        let patch =
            patch.as_object().ok_or_else(|| Denied::new(Rule::Body, "the patch is no JSON object"))?;
        if let Some(key) = patch.keys().find(|key| !matches!(key.as_str(), "metadata" | "status")) {
            return Err(Denied::new(Rule::NodeStatus, format!("the patch holds `{key}`, expected `status`")));
        }
        let Some(status) = patch.get("status").and_then(Value::as_object) else { return Ok(()) };
        for condition in status.get("conditions").and_then(Value::as_array).into_iter().flatten() {
            self.merge_condition(condition);
        }
        for key in MERGED {
            if let Some(change) = status.get(key) {
                merge(self.echoed.entry(key).or_insert_with(|| json!({})), change, 0);
            }
        }
        if let Some(change) = status.get("allocatable") {
            merge(&mut self.allocatable, change, 0);
        }
        for key in REPLACED {
            match status.get(key) {
                Some(Value::Array(list)) => drop(self.echoed.insert(key.to_owned(), json!(list))),
                Some(Value::Null) => drop(self.echoed.remove(key)),
                Some(_) | None => {}
            }
        }
        self.version += 1;
        Ok(())
    }

    /// The Node as JSON; `None` until the real one is known.
    pub(crate) fn object(&self) -> Option<Value> {
        let real = self.real.as_ref()?;
        let mut status = self.echoed.clone();
        status.insert(
            "addresses".to_owned(),
            json!([
                { "type": "InternalIP", "address": self.address.to_string() },
                { "type": "Hostname", "address": self.name },
            ]),
        );
        status.insert("capacity".to_owned(), self.resources.clone());
        status.insert("allocatable".to_owned(), self.resources.clone());
        status.insert("conditions".to_owned(), json!(self.conditions));
        Some(json!({
            "apiVersion": NODE.api_version,
            "kind": NODE.kind,
            "metadata": {
                "name": self.name,
                "uid": real.uid,
                "labels": real.labels,
                "creationTimestamp": real.created,
                "resourceVersion": self.version.to_string(),
            },
            "spec": {},
            "status": status,
        }))
    }

    /// The collection that holds this Node alone.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let item = Item { version: self.version, object: Arc::new(self.object()?) };
        Some(Arc::new(Snapshot { version: self.version, items: [(self.name.clone(), item)].into() }))
    }

    /// What the kubelet has said.
    pub(crate) fn reported(&self) -> Reported {
        let list = self.echoed.get("declaredFeatures").and_then(Value::as_array);
        let mut declared_features: Vec<String> =
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        declared_features.sort();
        declared_features.dedup();
        Reported {
            declared_features,
            node_info: self.echoed.get("nodeInfo").and_then(Value::as_object).cloned().unwrap_or_default(),
            ready: self.conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"),
            usable: self.usable(),
        }
    }

    fn usable(&self) -> Option<Usable> {
        Some(Usable {
            cpu_milli: quantity::milli(self.allocatable["cpu"].as_str()?)?,
            memory_bytes: quantity::whole(self.allocatable["memory"].as_str()?)?,
        })
    }

    fn merge_condition(&mut self, change: &Value) {
        let Some(kind) = change["type"].as_str() else { return };
        let seeded = SEEDED.iter().any(|(name, ..)| *name == kind);
        let known = self.conditions.iter().position(|condition| condition["type"] == kind);
        match (known, change["$patch"].as_str()) {
            (Some(index), Some("delete")) if !seeded => drop(self.conditions.remove(index)),
            (_, Some(_)) => {}
            (Some(index), None) => merge(&mut self.conditions[index], change, 0),
            // A real kubelet has fewer than ten.
            (None, None) if self.conditions.len() < 32 => self.conditions.push(change.clone()),
            (None, None) => {}
        }
    }
}

/// JSON merge; directives of strategic merges are dropped.
fn merge(target: &mut Value, change: &Value, depth: u8) {
    let (Value::Object(target), Value::Object(change)) = (&mut *target, change) else {
        *target = change.clone();
        return;
    };
    for (key, value) in change.iter().filter(|(key, _)| !key.starts_with('$')) {
        match value {
            Value::Null => drop(target.remove(key)),
            // nodeInfo.swap and daemonEndpoints.kubeletEndpoint are the deepest that exist.
            Value::Object(_) if depth < 4 => {
                merge(target.entry(key).or_insert_with(|| json!({})), value, depth + 1);
            }
            _ => drop(target.insert(key.clone(), value.clone())),
        }
    }
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T08:00:00Z".parse().unwrap()
    }

    fn real() -> Real {
        Real {
            uid: "n-1".to_owned(),
            created: Some("2026-11-01T00:00:00Z".to_owned()),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
        }
    }

    fn node() -> PrivateNode {
        let capacity = [("cpu", "8"), ("memory", "32Gi"), ("pods", "10"), ("nvidia.com/gpu", "1")]
            .map(|(resource, quantity)| (resource.to_owned(), Quantity(quantity.to_owned())));
        let mut node =
            PrivateNode::new("burst", "10.0.0.5".parse().unwrap(), &capacity.into(), "nvidia.com/gpu", now());
        node.adopt(&real());
        node
    }

    fn version(node: &PrivateNode) -> i64 {
        node.object().unwrap()["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
    }

    fn condition(node: &PrivateNode, kind: &str) -> Value {
        node.conditions.iter().find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
    }

    #[test]
    fn is_not_shown_before_the_real_node_is_known() {
        let node = PrivateNode::new("burst", "10.0.0.5".parse().unwrap(), &BTreeMap::new(), "x", now());
        assert_eq!(node.object(), None);
        assert_eq!(node.snapshot(), None);
    }

    #[test]
    fn has_the_real_names_and_the_machines_addresses_and_capacity_without_gpus() {
        let object = node().object().unwrap();
        assert_eq!(object["metadata"]["uid"], "n-1");
        assert_eq!(object["metadata"]["labels"], json!({ "zone": "a" }));
        assert_eq!(object["spec"], json!({}));
        let status = &object["status"];
        assert_eq!(status["addresses"][0], json!({ "type": "InternalIP", "address": "10.0.0.5" }));
        assert_eq!(status["addresses"][1], json!({ "type": "Hostname", "address": "burst" }));
        assert_eq!(status["allocatable"], json!({ "cpu": "8", "memory": "32Gi", "pods": "10" }));
        assert_eq!(status["capacity"], status["allocatable"]);
    }

    #[test]
    fn every_condition_is_there_from_the_start() {
        let node = node();
        for kind in ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"] {
            assert_eq!(condition(&node, kind)["status"], "False", "{kind}");
        }
    }

    #[test]
    fn what_is_reported_is_echoed_and_learned() {
        let mut node = node();
        node.patch(&json!({ "status": {
            "$setElementOrder/conditions": [{ "type": "Ready" }],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
            "nodeInfo": { "kubeletVersion": "v1.36.3", "bootID": "1" },
            "declaredFeatures": ["B", "A", "ExtendWebSocketsToKubelet"],
            "features": { "supplementalGroupsPolicy": true },
            "runtimeHandlers": [{ "name": "" }],
        } }))
        .unwrap();
        node.patch(&json!({ "status": { "nodeInfo": { "bootID": "2" } } })).unwrap();
        let status = &node.object().unwrap()["status"];
        assert_eq!(status["nodeInfo"], json!({ "kubeletVersion": "v1.36.3", "bootID": "2" }));
        assert_eq!(status["features"], json!({ "supplementalGroupsPolicy": true }));
        assert_eq!(condition(&node, "Ready")["reason"], "KubeletReady");
        assert_eq!(condition(&node, "Ready")["lastTransitionTime"], "2026-11-21T08:00:00Z");
        let reported = node.reported();
        assert!(reported.ready);
        assert_eq!(reported.declared_features, ["A", "B", "ExtendWebSocketsToKubelet"]);
        assert_eq!(reported.node_info["bootID"], "2");
        assert_eq!(reported.usable, None);
        node.patch(&json!({ "status": { "allocatable": { "cpu": "3920m", "memory": "15Gi" } } })).unwrap();
        node.patch(&json!({ "status": { "allocatable": { "memory": "14Gi" } } })).unwrap();
        let usable = Usable { cpu_milli: 3920, memory_bytes: 14 << 30 };
        assert_eq!(node.reported().usable, Some(usable));
    }

    #[test]
    fn capacity_addresses_labels_and_spec_are_pinned() {
        let mut node = node();
        let before = node.object().unwrap();
        node.patch(&json!({
            "metadata": { "labels": { "kubernetes.io/arch": "arm64" }, "annotations": { "a": "b" } },
            "status": {
                "capacity": { "cpu": "2", "nvidia.com/gpu": "0" },
                "allocatable": { "cpu": "1", "memory": null },
                "addresses": [{ "type": "InternalIP", "address": "10.9.9.9" }, { "$patch": "replace" }],
                "images": [{ "names": ["x"] }],
            },
        }))
        .unwrap();
        let after = node.object().unwrap();
        assert_eq!(after["status"], before["status"]);
        assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
        assert!(node.patch(&json!({ "spec": { "taints": [] } })).is_err());
    }

    #[test]
    fn the_version_is_a_number_that_grows_with_each_change_and_across_restarts() {
        let mut node = node();
        let first = version(&node);
        node.patch(&json!({ "status": {} })).unwrap();
        let second = version(&node);
        assert!(!node.adopt(&real()));
        assert!(node.adopt(&Real { labels: BTreeMap::new(), ..real() }));
        let third = version(&node);
        assert!(first < second && second < third);
        let later = PrivateNode::new(
            "burst",
            "10.0.0.5".parse().unwrap(),
            &BTreeMap::new(),
            "x",
            now() + jiff::SignedDuration::from_secs(1),
        );
        assert!(i64::try_from(later.version).unwrap() > third);
    }

    #[test]
    fn a_seeded_condition_cannot_be_taken_away() {
        let mut node = node();
        let gone = |kind: &str| json!({ "status": { "conditions": [{ "$patch": "delete", "type": kind }] } });
        node.patch(&gone("Ready")).unwrap();
        assert_eq!(condition(&node, "Ready")["status"], "False");
        node.patch(&json!({ "status": { "conditions": [{ "type": "Own", "status": "True" }] } })).unwrap();
        node.patch(&gone("Own")).unwrap();
        assert_eq!(condition(&node, "Own"), Value::Null);
    }
}
