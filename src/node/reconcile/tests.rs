//! What is written, what is left alone, and when nothing is written at all.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::link::{Prober, Reach};
use crate::node::testing::{at, created, health, patched, settings, wanted};
use crate::node::{CloudHealth, Health, render};

const NOON: &str = "2026-01-01T12:00:00Z";
const LATER: &str = "2026-01-01T12:04:50Z";
const FIVE_PAST: &str = "2026-01-01T12:05:00Z";

fn both(existing: &Node, wanted: &Node, now: &str) -> (Option<Value>, Option<Value>) {
    (metadata(existing, wanted), status(existing, wanted, at(now)))
}

fn condition<'a>(node: &'a Node, type_: &str) -> &'a NodeCondition {
    conditions::find(node.status.as_ref().unwrap().conditions.as_ref().unwrap(), type_).unwrap()
}

#[test]
fn a_node_that_is_as_it_should_be_is_written_only_every_five_minutes() {
    let settings = settings("");
    let existing = created(&settings, NOON);
    assert_eq!(both(&existing, &wanted(&settings, LATER), LATER), (None, None));
    let (main, report) = both(&existing, &wanted(&settings, FIVE_PAST), FIVE_PAST);
    assert_eq!(main, None);
    let after = patched(&existing, &report.unwrap());
    let ready = condition(&after, "Ready");
    assert_eq!(ready.last_heartbeat_time, Some(Time(at(FIVE_PAST))));
    assert_eq!(ready.last_transition_time, Some(Time(at(NOON))));
}

#[test]
fn quantities_that_the_api_server_wrote_in_its_own_way_are_no_difference() {
    let settings = settings("node: {cpu: '0.5', memory: 1024Gi}");
    let mut existing = created(&settings, NOON);
    let status = existing.status.as_mut().unwrap();
    for amounts in [status.capacity.as_mut().unwrap(), status.allocatable.as_mut().unwrap()] {
        amounts.insert("cpu".into(), Quantity("500m".into()));
        amounts.insert("memory".into(), Quantity("1Ti".into()));
        amounts.insert("example.com/foreign".into(), Quantity("1".into()));
    }
    assert_eq!(both(&existing, &wanted(&settings, LATER), LATER), (None, None));
}

#[test]
fn what_others_wrote_stays() {
    let settings = settings("");
    let mut existing = created(&settings, NOON);
    existing.metadata.labels.as_mut().unwrap().insert("foreign".into(), "label".into());
    existing.metadata.labels.as_mut().unwrap().insert("type".into(), "changed".into());
    let not_ready = Taint {
        key: "node.kubernetes.io/not-ready".into(),
        effect: "NoSchedule".into(),
        value: None,
        time_added: Some(Time(at(NOON))),
    };
    existing.spec.as_mut().unwrap().taints = Some(vec![not_ready.clone()]);
    existing.spec.as_mut().unwrap().unschedulable = Some(true);
    let foreign =
        NodeCondition { type_: "KernelDeadlock".into(), status: "False".into(), ..NodeCondition::default() };
    let status = existing.status.as_mut().unwrap();
    status.conditions.as_mut().unwrap().push(foreign.clone());
    status.conditions.as_mut().unwrap().retain(|condition| condition.type_ != "DiskPressure");

    let (main, report) = both(&existing, &wanted(&settings, LATER), LATER);
    let main = main.unwrap();
    assert_eq!(main["metadata"]["labels"], serde_json::json!({"type": "virtual-kubelet"}));
    assert_eq!(main["metadata"]["resourceVersion"], "7", "a list is replaced, so only in what was read");
    let after = patched(&patched(&existing, &main), &report.unwrap());
    assert_eq!(after.metadata.labels.as_ref().unwrap()["foreign"], "label");
    let spec = after.spec.as_ref().unwrap();
    let taints: Vec<String> = spec.taints.iter().flatten().map(identity).collect();
    assert_eq!(taints, ["node.kubernetes.io/not-ready:NoSchedule", "virtual-kubelet.io/provider:NoSchedule"]);
    assert_eq!(spec.taints.as_ref().unwrap()[0], not_ready);
    assert_eq!(spec.unschedulable, Some(true));
    assert_eq!(condition(&after, "KernelDeadlock"), &foreign);
    assert_eq!(condition(&after, "DiskPressure").status, "False");
    assert_eq!(both(&after, &wanted(&settings, LATER), LATER), (None, None));
}

#[test]
fn what_left_the_configuration_leaves_the_node() {
    let more = "node: {labels: {team: a}, taints: [{key: old, effect: NoExecute}]}";
    let existing = created(&settings(more), NOON);
    let now = settings("node: {labels: {eks.amazonaws.com/compute-type: ''}}");
    let main = metadata(&existing, &wanted(&now, LATER)).unwrap();
    let after = patched(&existing, &main);
    let labels = after.metadata.labels.as_ref().unwrap();
    assert!(!labels.contains_key("team") && !labels.contains_key("eks.amazonaws.com/compute-type"));
    let taints: Vec<String> = after.spec.as_ref().unwrap().taints.iter().flatten().map(identity).collect();
    assert_eq!(taints, ["virtual-kubelet.io/provider:NoSchedule"]);
    assert_eq!(metadata(&after, &wanted(&now, LATER)), None);
}

#[test]
fn a_node_that_was_given_up_by_the_controller_manager_is_ready_again() {
    let settings = settings("");
    let mut existing = created(&settings, NOON);
    for condition in existing.status.as_mut().unwrap().conditions.as_mut().unwrap() {
        condition.status = "Unknown".into();
        condition.reason = Some("NodeStatusUnknown".into());
    }
    let report = status(&existing, &wanted(&settings, LATER), at(LATER)).unwrap();
    let after = patched(&existing, &report);
    let ready = condition(&after, "Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("True", Some("KubeletReady")));
    assert_eq!(ready.last_transition_time, Some(Time(at(LATER))));
}

#[test]
fn trouble_with_the_cloud_is_a_condition_of_its_own_and_the_node_stays_ready() {
    let settings = settings("");
    let existing = created(&settings, NOON);
    let trouble =
        |message: &str| CloudHealth::Unreachable { reason: "AccessDenied", message: message.into() };
    let with = |cloud: &CloudHealth| {
        render::node(&settings, &health(cloud), &BTreeSet::new(), &BTreeMap::new(), at(LATER))
    };
    let report = status(&existing, &with(&trouble("request 1")), at(LATER)).unwrap();
    let after = patched(&existing, &report);
    let cloud = condition(&after, "CloudReachable");
    assert_eq!((cloud.status.as_str(), cloud.reason.as_deref()), ("False", Some("AccessDenied")));
    assert_eq!(condition(&after, "Ready").status, "True");
    // The same refusal with another request id.
    assert_eq!(status(&after, &with(&trouble("request 2")), at(LATER)), None);
    assert!(status(&after, &with(&CloudHealth::Reachable), at(LATER)).is_some());
}

#[test]
fn machines_that_cannot_be_reached_are_a_condition_and_each_machines_own_words_are_no_news() {
    let settings = settings("");
    let existing = created(&settings, NOON);
    let with = |machines: Reach| {
        let health = Health { cloud: CloudHealth::Reachable, machines, ..Health::default() };
        render::node(&settings, &health, &BTreeSet::new(), &BTreeMap::new(), at(LATER))
    };
    let denied = |message: &str| {
        with(Reach::Fails { reason: "AccessDenied", message: message.to_owned(), probe: Prober::Links })
    };
    let after = patched(&existing, &status(&existing, &denied("on instance/i-1"), at(LATER)).unwrap());
    let machines = condition(&after, "MachinesReachable");
    assert_eq!((machines.status.as_str(), machines.reason.as_deref()), ("False", Some("AccessDenied")));
    assert_eq!(condition(&after, "Ready").status, "True");
    assert_eq!(status(&after, &denied("on instance/i-2"), at(LATER)), None);
    let after = patched(&after, &status(&after, &with(Reach::Works), at(LATER)).unwrap());
    assert_eq!(condition(&after, "MachinesReachable").status, "True");
    let conditions = wanted(&settings, LATER).status.unwrap().conditions.unwrap();
    assert!(conditions::find(&conditions, "MachinesReachable").is_none(), "nobody stands between");
}

#[test]
fn a_node_of_something_else_is_never_written() {
    let settings = settings("");
    assert_eq!(check_ours(&created(&settings, NOON)), Ok(()));
    let mut real = created(&settings, NOON);
    real.spec.as_mut().unwrap().provider_id = Some("aws:///us-east-1a/i-0001".into());
    assert_eq!(
        check_ours(&real).unwrap_err(),
        "the node `orca` exists and is not ORCA's (providerID `aws:///us-east-1a/i-0001`), expected another node.name"
    );
    real.spec.as_mut().unwrap().provider_id = None;
    assert_eq!(check_ours(&real), Ok(()), "made by hand, with our label");
    real.metadata.labels = None;
    assert!(check_ours(&real).is_err());
}

#[test]
fn the_provider_id_is_filled_in_but_never_changed() {
    let settings = settings("");
    let mut existing = created(&settings, NOON);
    existing.spec.as_mut().unwrap().provider_id = None;
    let main = metadata(&existing, &wanted(&settings, LATER)).unwrap();
    assert_eq!(main, serde_json::json!({"spec": {"providerID": "orca://cluster-1/orca"}}));
    existing.spec.as_mut().unwrap().provider_id = Some("orca://older/orca".into());
    assert_eq!(metadata(&existing, &wanted(&settings, LATER)), None);
}

#[test]
fn a_node_is_rendered_as_the_cluster_expects_a_virtual_one() {
    let settings = settings("node: {gpu: {count: 4}}");
    let features = ["ExtendWebSocketsToKubelet", "Zebra", "Apple"].map(str::to_owned).into();
    let node = render::node(&settings, &Health::default(), &features, &BTreeMap::new(), at(NOON));
    insta::assert_snapshot!(serde_json::to_string_pretty(&node).unwrap(), @r#"
    {
      "apiVersion": "v1",
      "kind": "Node",
      "metadata": {
        "labels": {
          "alpha.service-controller.kubernetes.io/exclude-balancer": "true",
          "eks.amazonaws.com/compute-type": "fargate",
          "kubernetes.io/arch": "amd64",
          "kubernetes.io/hostname": "orca",
          "kubernetes.io/os": "linux",
          "node.kubernetes.io/exclude-from-external-load-balancers": "true",
          "topology.kubernetes.io/region": "us-east-1",
          "type": "virtual-kubelet"
        },
        "name": "orca"
      },
      "spec": {
        "providerID": "orca://cluster-1/orca",
        "taints": [
          {
            "effect": "NoSchedule",
            "key": "virtual-kubelet.io/provider",
            "value": "orca"
          }
        ]
      },
      "status": {
        "addresses": [
          {
            "address": "10.0.0.7",
            "type": "InternalIP"
          }
        ],
        "allocatable": {
          "cpu": "128",
          "ephemeral-storage": "2Ti",
          "memory": "1Ti",
          "nvidia.com/gpu": "4",
          "pods": "50"
        },
        "capacity": {
          "cpu": "128",
          "ephemeral-storage": "2Ti",
          "memory": "1Ti",
          "nvidia.com/gpu": "4",
          "pods": "50"
        },
        "conditions": [
          {
            "lastHeartbeatTime": "2026-01-01T12:00:00Z",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
            "message": "every pod has a machine of its own",
            "reason": "KubeletHasSufficientMemory",
            "status": "False",
            "type": "MemoryPressure"
          },
          {
            "lastHeartbeatTime": "2026-01-01T12:00:00Z",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
            "message": "every pod has a machine of its own",
            "reason": "KubeletHasNoDiskPressure",
            "status": "False",
            "type": "DiskPressure"
          },
          {
            "lastHeartbeatTime": "2026-01-01T12:00:00Z",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
            "message": "every pod has a machine of its own",
            "reason": "KubeletHasSufficientPID",
            "status": "False",
            "type": "PIDPressure"
          },
          {
            "lastHeartbeatTime": "2026-01-01T12:00:00Z",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
            "message": "the cloud routes to every pod",
            "reason": "RouteCreated",
            "status": "False",
            "type": "NetworkUnavailable"
          },
          {
            "lastHeartbeatTime": "2026-01-01T12:00:00Z",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
            "message": "the cloud was not asked yet",
            "reason": "NotAskedYet",
            "status": "Unknown",
            "type": "CloudReachable"
          },
          {
            "lastHeartbeatTime": "2026-01-01T12:00:00Z",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
            "message": "kubelet is posting ready status",
            "reason": "KubeletReady",
            "status": "True",
            "type": "Ready"
          }
        ],
        "daemonEndpoints": {
          "kubeletEndpoint": {
            "Port": 10350
          }
        },
        "declaredFeatures": [
          "Apple",
          "Zebra"
        ],
        "nodeInfo": {
          "architecture": "amd64",
          "bootID": "orca://cluster-1/orca",
          "containerRuntimeVersion": "orca://0.1.0",
          "kernelVersion": "",
          "kubeProxyVersion": "",
          "kubeletVersion": "v1.36.3-orca.0.1.0",
          "machineID": "orca://cluster-1/orca",
          "operatingSystem": "linux",
          "osImage": "ORCA",
          "systemUUID": "orca://cluster-1/orca"
        }
      }
    }
    "#);
}

#[test]
fn the_version_is_the_api_servers_with_ours_behind_it() {
    let ours = env!("CARGO_PKG_VERSION");
    for server in ["v1.36.3", "v1.36.3-eks-a1b2c3d", "v1.36.3+k3s1"] {
        assert_eq!(render::kubelet_version(server), format!("v1.36.3-orca.{ours}"));
    }
}

#[test]
fn a_ceiling_lowers_what_is_offered_and_never_raises_it() {
    let settings = settings("");
    let resource = settings.capacity.keys().find(|name| name.contains('/')).unwrap().clone();
    let offered = |most: u64| {
        let ceilings = [(resource.clone(), most)].into();
        let node = render::node(&settings, &Health::default(), &BTreeSet::new(), &ceilings, at(NOON));
        let status = node.status.unwrap();
        let amount = |list: Option<BTreeMap<String, Quantity>>| list.unwrap()[&resource].0.clone();
        (amount(status.allocatable), amount(status.capacity))
    };
    let configured = settings.capacity[&resource].clone();
    assert_eq!(offered(1), ("1".to_owned(), configured.clone()));
    assert_eq!(offered(1_000_000), (configured.clone(), configured));
}
