//! What the tests of this module share: a node's settings, and JSON merge patches as the API server applies them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use super::{Health, Settings, reconcile, render};
use crate::cloud::CloudHealth;
use crate::config::{Config, Facts};

pub(super) fn settings(more: &str) -> Settings {
    let file = format!(
        "
aws: {{region: us-east-1, vpcID: vpc-0001, subnetIDs: [subnet-0001], securityGroupIDs: [sg-0001]}}
instances: {{defaultInstanceType: g6.xlarge}}
kubelet: {{address: 10.0.0.7, listen: '0.0.0.0:10350'}}
{more}"
    );
    let (config, _) = Config::resolve(&file, &Facts::default()).unwrap();
    Settings::new(&config, "cluster-1", "v1.36.3-eks-a1b2c3d")
}

pub(super) fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// The cloud is so, and nothing else has a condition.
pub(super) fn health(cloud: &CloudHealth) -> Health {
    Health { cloud: cloud.clone(), ..Health::default() }
}

/// The Node as it should be, with the cloud answering and no features.
pub(super) fn wanted(settings: &Settings, now: &str) -> Node {
    render::node(settings, &health(&CloudHealth::Reachable), &BTreeSet::new(), &BTreeMap::new(), at(now))
}

/// The Node as the API server has it after we created it.
pub(super) fn created(settings: &Settings, now: &str) -> Node {
    let mut node = wanted(settings, now);
    reconcile::remember(&mut node);
    node.metadata.uid = Some("uid-1".into());
    node.metadata.resource_version = Some("7".into());
    node
}

/// RFC 7386.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

pub(super) fn patched(node: &Node, patch: &Value) -> Node {
    let mut value = serde_json::to_value(node).unwrap();
    merge(&mut value, patch);
    serde_json::from_value(value).unwrap()
}
