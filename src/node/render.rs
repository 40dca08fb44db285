//! The Node as it should be. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;

use super::{Health, Settings, conditions};
use crate::pod::quantity;

const ARCH: &str = "kubernetes.io/arch";

/// A feature that guests declare and we do not: without it the API server speaks SPDY to our endpoint, which we
/// pass through as it is.
const NOT_OURS: &str = "ExtendWebSocketsToKubelet";

/// The whole object, as it would be created now.
pub(super) fn node(
    settings: &Settings,
    health: &Health,
    features: &BTreeSet<String>,
    ceilings: &BTreeMap<String, u64>,
    now: Timestamp,
) -> Node {
    let capacity: BTreeMap<String, Quantity> = settings
        .capacity
        .iter()
        .map(|(resource, amount)| (resource.clone(), Quantity(amount.clone())))
        .collect();
    Node {
        metadata: ObjectMeta {
            name: Some(settings.name.clone()),
            labels: Some(settings.labels.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: Some(provider_id(settings)),
            taints: Some(settings.taints.iter().map(taint).collect()),
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus {
            addresses: Some(vec![NodeAddress {
                // Nothing else: a host name that DNS does not know breaks API servers that prefer it.
                type_: "InternalIP".to_owned(),
                address: settings.address.to_string(),
            }]),
            allocatable: Some(lowered(&capacity, ceilings)),
            capacity: Some(capacity),
            conditions: Some(conditions::ours(health, now)),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: settings.port.into() }),
            }),
            declared_features: Some(
                features.iter().filter(|feature| *feature != NOT_OURS).cloned().collect(),
            ),
            node_info: Some(system_info(settings)),
            ..NodeStatus::default()
        }),
    }
}

/// What is offered, where a ceiling is below it.
fn lowered(
    capacity: &BTreeMap<String, Quantity>,
    ceilings: &BTreeMap<String, u64>,
) -> BTreeMap<String, Quantity> {
    let lower = |(resource, amount): (&String, &Quantity)| {
        let whole = quantity::whole(&amount.0);
        let most = ceilings.get(resource).copied().filter(|most| whole.is_none_or(|whole| *most < whole));
        (resource.clone(), most.map_or_else(|| amount.clone(), |most| Quantity(most.to_string())))
    };
    capacity.iter().map(lower).collect()
}

/// The scheme is ours, so that no cloud controller looks for the node among its machines and removes it.
pub(super) fn provider_id(settings: &Settings) -> String {
    format!("orca://{}/{}", settings.cluster_id, settings.name)
}

/// Ours, with those of the configuration over them; an empty value there leaves a default label out.
pub(super) fn labels(
    name: &str,
    region: &str,
    configured: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let defaults = [
        // What DaemonSets, CSI drivers and load balancers ask for to stay away.
        ("type", "virtual-kubelet"),
        ("node.kubernetes.io/exclude-from-external-load-balancers", "true"),
        ("alpha.service-controller.kubernetes.io/exclude-balancer", "true"),
        // On EKS, aws-node and kube-proxy tolerate every taint and skip this; the load balancer controller finds
        // pods by their address with it.
        ("eks.amazonaws.com/compute-type", "fargate"),
        // The `beta.` pair of the next three is kept in step with them by the controller manager.
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        (ARCH, "amd64"),
        ("topology.kubernetes.io/region", region),
    ];
    let mut labels: BTreeMap<String, String> =
        defaults.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    for (key, value) in configured {
        if value.is_empty() && labels.contains_key(key) {
            labels.remove(key);
        } else {
            labels.insert(key.clone(), value.clone());
        }
    }
    labels
}

/// Must be a version that tools accept for this API server: its own, with ours behind it.
pub(super) fn kubelet_version(server: &str) -> String {
    let released = server.split(['-', '+']).next().unwrap_or_default();
    format!("{released}-orca.{}", env!("CARGO_PKG_VERSION"))
}

pub(super) fn taint(taint: &crate::config::Taint) -> Taint {
    Taint {
        key: taint.key.clone(),
        value: taint.value.clone().filter(|value| !value.is_empty()),
        effect: taint.effect.clone(),
        time_added: None,
    }
}

/// Every text must be there; none says anything about a machine, because there is none.
fn system_info(settings: &Settings) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: settings.labels.get(ARCH).cloned().unwrap_or_else(|| "amd64".to_owned()),
        boot_id: provider_id(settings),
        container_runtime_version: format!("orca://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: String::new(),
        kube_proxy_version: String::new(),
        kubelet_version: settings.kubelet_version.clone(),
        machine_id: provider_id(settings),
        operating_system: "linux".to_owned(),
        os_image: "ORCA".to_owned(),
        swap: None,
        system_uuid: provider_id(settings),
    }
}
