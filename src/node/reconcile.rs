//! The difference between the Node that is there and the Node as it should be, as JSON merge patches. Pure.
//!
//! Patches of lists carry the resourceVersion they were made from: a list is replaced as a whole, and what somebody
//! else added meanwhile must not get lost.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus, Taint};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::conditions;
use crate::config::quantity;

/// A status that did not change is written again after this time (kubelets' `nodeStatusReportFrequency`).
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(300);

/// Remembers what was ours when the Node was last written, so that what left the configuration leaves the Node.
const APPLIED: &str = "orca.research/applied";

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Applied {
    labels: BTreeSet<String>,
    /// `key:effect`.
    taints: BTreeSet<String>,
}

/// Marks a Node that is about to be created.
pub(super) fn remember(node: &mut Node) {
    let applied = applied(node);
    node.metadata.annotations.get_or_insert_default().insert(APPLIED.to_owned(), applied);
}

/// Whether a Node that is there already is ours to write: it has our scheme, or is one of nobody's making.
///
/// # Errors
/// Says whose it is.
pub(super) fn check_ours(existing: &Node) -> Result<(), String> {
    let name = existing.metadata.name.as_deref().unwrap_or_default();
    let provider = existing.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()).unwrap_or_default();
    let labels = existing.metadata.labels.as_ref();
    let is_virtual =
        labels.and_then(|labels| labels.get("type")).is_some_and(|kind| kind == "virtual-kubelet");
    if provider.starts_with("orca://") || (provider.is_empty() && is_virtual) {
        return Ok(());
    }
    Err(format!(
        "the node `{name}` exists and is not ORCA's (providerID `{provider}`), expected another node.name"
    ))
}

/// The patch for labels, taints and provider id, if something of ours is missing or too much.
pub(super) fn metadata(existing: &Node, wanted: &Node) -> Option<Value> {
    let annotations = existing.metadata.annotations.as_ref();
    let before: Applied = annotations
        .and_then(|annotations| annotations.get(APPLIED))
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let mut patch = Map::new();
    let labels = labels(existing, wanted, &before.labels);
    let applied = applied(wanted);
    let mut fields = Map::new();
    if !labels.is_empty() {
        fields.insert("labels".to_owned(), Value::Object(labels));
    }
    if annotations.and_then(|annotations| annotations.get(APPLIED)) != Some(&applied) {
        fields.insert("annotations".to_owned(), json!({ APPLIED: applied }));
    }
    let mut spec = Map::new();
    if let Some(taints) = taints(existing, wanted, &before.taints) {
        spec.insert("taints".to_owned(), json!(taints));
        fields.insert("resourceVersion".to_owned(), json!(existing.metadata.resource_version));
    }
    let has_provider = existing.spec.as_ref().is_some_and(|spec| {
        // Immutable once it is set.
        spec.provider_id.as_deref().is_some_and(|id| !id.is_empty())
    });
    if !has_provider {
        let provider = wanted.spec.as_ref().and_then(|spec| spec.provider_id.clone());
        spec.insert("providerID".to_owned(), json!(provider));
    }
    if !fields.is_empty() {
        patch.insert("metadata".to_owned(), Value::Object(fields));
    }
    if !spec.is_empty() {
        patch.insert("spec".to_owned(), Value::Object(spec));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The patch for the status, if something of ours is different, or the last report is old.
pub(super) fn status(existing: &Node, wanted: &Node, now: Timestamp) -> Option<Value> {
    let none = NodeStatus::default();
    let there = existing.status.as_ref().unwrap_or(&none);
    let ours = wanted.status.as_ref()?;
    let there_conditions = there.conditions.as_deref().unwrap_or_default();
    let our_conditions = ours.conditions.as_deref().unwrap_or_default();
    let is_same = there.addresses == ours.addresses
        && there.daemon_endpoints == ours.daemon_endpoints
        && there.node_info == ours.node_info
        && there.declared_features.as_deref().unwrap_or_default()
            == ours.declared_features.as_deref().unwrap_or_default()
        && !conditions::differ(there_conditions, our_conditions)
        && has_amounts(there.capacity.as_ref(), ours.capacity.as_ref())
        && has_amounts(there.allocatable.as_ref(), ours.allocatable.as_ref());
    if is_same && !is_old(there_conditions, now) {
        return None;
    }
    Some(json!({
        "metadata": { "resourceVersion": existing.metadata.resource_version },
        "status": {
            "addresses": ours.addresses,
            "allocatable": ours.allocatable,
            "capacity": ours.capacity,
            "conditions": conditions::merged(there_conditions, our_conditions),
            "daemonEndpoints": ours.daemon_endpoints,
            "declaredFeatures": ours.declared_features,
            "nodeInfo": ours.node_info,
        }
    }))
}

fn is_old(existing: &[NodeCondition], now: Timestamp) -> bool {
    conditions::find(existing, conditions::READY)
        .and_then(|ready| ready.last_heartbeat_time.as_ref())
        .is_none_or(|reported| {
            now.duration_since(reported.0) >= jiff::SignedDuration::try_from(REPORT_EVERY).unwrap_or_default()
        })
}

type Amounts = std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// Whether every amount of ours is there. By value: the API server rewrites quantities.
fn has_amounts(there: Option<&Amounts>, ours: Option<&Amounts>) -> bool {
    ours.is_none_or(|ours| {
        ours.iter().all(|(resource, amount)| {
            there.and_then(|there| there.get(resource)).is_some_and(|found| {
                found == amount || quantity::nanos(&found.0) == quantity::nanos(&amount.0)
            })
        })
    })
}

/// Labels to set, and to remove (null).
fn labels(existing: &Node, wanted: &Node, before: &BTreeSet<String>) -> Map<String, Value> {
    let none = std::collections::BTreeMap::new();
    let there = existing.metadata.labels.as_ref().unwrap_or(&none);
    let ours = wanted.metadata.labels.as_ref().unwrap_or(&none);
    let set = ours
        .iter()
        .filter(|(key, value)| there.get(*key) != Some(*value))
        .map(|(key, value)| (key.clone(), json!(value)));
    let removed = before
        .iter()
        .filter(|key| !ours.contains_key(*key) && there.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    set.chain(removed).collect()
}

/// The whole list of taints, if ours are not in it as they should be.
fn taints(existing: &Node, wanted: &Node, before: &BTreeSet<String>) -> Option<Vec<Taint>> {
    let of = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let there = of(existing);
    let ours = of(wanted);
    let is_ours = |taint: &Taint| ours.iter().any(|mine| identity(mine) == identity(taint));
    let mut list: Vec<Taint> = there
        .iter()
        .filter(|taint| is_ours(taint) || !before.contains(&identity(taint)))
        .map(|taint| match ours.iter().find(|mine| identity(mine) == identity(taint)) {
            Some(mine) => Taint { value: mine.value.clone(), ..taint.clone() },
            None => taint.clone(),
        })
        .collect();
    list.extend(
        ours.iter().filter(|mine| !there.iter().any(|taint| identity(taint) == identity(mine))).cloned(),
    );
    (list != there).then_some(list)
}

fn identity(taint: &Taint) -> String {
    format!("{}:{}", taint.key, taint.effect)
}

fn applied(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten().map(|(key, _)| key.clone()).collect();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).map(identity).collect();
    json!(Applied { labels, taints }).to_string()
}

#[cfg(test)]
mod tests;
