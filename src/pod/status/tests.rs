//! Golden patches.

use super::*;

fn now() -> Timestamp {
    "2026-11-21T08:00:00.75Z".parse().unwrap()
}

fn mk_pod(status: impl Into<Value>) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u-1", "generation": 2},
        "spec": {"containers": [{"name": "b", "image": "img-b"}, {"name": "a", "image": "img-a"}]},
        "status": status.into(),
    }))
    .unwrap()
}

/// What the API server would hold after the patch (conditions merge by type, everything else is replaced). It writes an
/// empty `lastState` where there is none.
fn applied(pod: &Pod, patch: &Value) -> Pod {
    let mut value = serde_json::to_value(pod).unwrap();
    for (field, new) in patch["status"].as_object().unwrap() {
        if field == "conditions" {
            let mut all = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
            for one in new.as_array().unwrap() {
                all.retain(|old| old["type"] != one["type"]);
                all.push(one.clone());
            }
            value["status"]["conditions"] = Value::Array(all);
        } else {
            value["status"][field] = new.clone();
        }
        if field.to_lowercase().ends_with("containerstatuses") {
            for one in value["status"][field].as_array_mut().unwrap() {
                one.as_object_mut().unwrap().entry("lastState").or_insert(json!({}));
            }
        }
    }
    serde_json::from_value(value).unwrap()
}

fn once(pod: &Pod, change: &StatusChange) -> Value {
    let value = patch(pod, change, now()).expect("a change");
    let later = now().checked_add(std::time::Duration::from_secs(7)).unwrap();
    assert_eq!(patch(&applied(pod, &value), change, later), None, "said twice");
    let status = &value["status"];
    for field in ["startTime", "hostIP", "hostIPs", "podIP", "podIPs", "qosClass"] {
        assert!(status.get(field).is_none(), "{field} is the kubelet's");
    }
    value
}

fn failed(cause: Cause) -> StatusChange {
    StatusChange::Failed { reason: "R", message: "m".to_owned(), cause }
}

#[test]
fn a_pod_that_waits_says_why_in_its_condition_and_its_containers() {
    let change = StatusChange::Pending {
        message: "none".to_owned(),
        capacity: Capacity::Missing(reasons::NO_CAPACITY),
    };
    let waiting = |name: &str| {
        json!({"name": name, "image": format!("img-{name}"), "imageID": "", "ready": false, "started": false,
               "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating", "message": "none"}}})
    };
    assert_eq!(
        once(&mk_pod(json!({"phase": "Pending"})), &change),
        json!({"metadata": {"uid": "u-1"}, "status": {
            "observedGeneration": 2,
            "containerStatuses": [waiting("a"), waiting("b")],
            "conditions": [{"type": "orca.research/Capacity", "status": "False", "reason": "NoCapacity",
                "message": "none", "lastTransitionTime": "2026-11-21T08:00:00Z", "observedGeneration": 2}],
        }})
    );
}

#[test]
fn a_found_machine_answers_the_condition_only_where_there_was_one() {
    let change = StatusChange::Pending { message: "boots".to_owned(), capacity: Capacity::Found };
    assert!(once(&mk_pod(json!({"phase": "Pending"})), &change)["status"].get("conditions").is_none());
    let waited = mk_pod(json!({"phase": "Pending", "conditions": [
        {"type": "orca.research/Capacity", "status": "False", "reason": "NoCapacity", "message": "none"}]}));
    assert_eq!(once(&waited, &change)["status"]["conditions"][0]["status"], "True");
}

#[test]
fn init_containers_wait_in_the_order_of_the_spec() {
    let mut pod = mk_pod(json!({"phase": "Pending"}));
    let mut spec = serde_json::to_value(&pod.spec).unwrap();
    spec["initContainers"] = json!([{"name": "z"}, {"name": "y"}]);
    pod.spec = serde_json::from_value(spec).unwrap();
    let change = StatusChange::Pending { message: "m".to_owned(), capacity: Capacity::Found };
    let status = &once(&pod, &change)["status"];
    assert_eq!(status["initContainerStatuses"][0]["name"], "z");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
}

#[test]
fn a_rejection_is_phase_reason_and_message() {
    assert_eq!(
        once(&mk_pod(json!({"phase": "Pending"})), &failed(Cause::Spec)),
        json!({"metadata": {"uid": "u-1"},
               "status": {"phase": "Failed", "reason": "R", "message": "m", "observedGeneration": 2}})
    );
}

#[test]
fn a_lost_pod_keeps_recorded_exits_and_gets_137_for_the_others() {
    let pod = mk_pod(json!({
        "phase": "Running", "startTime": "2026-11-21T07:00:00Z",
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T07:01:00Z"},
            {"type": "example.com/gate", "status": "True"}],
        "containerStatuses": [
            {"name": "a", "image": "img-a", "imageID": "x", "ready": false, "restartCount": 2,
             "state": {"terminated": {"exitCode": 7, "reason": "Error", "finishedAt": "2026-11-21T07:30:00Z"}}},
            {"name": "b", "image": "img-b", "imageID": "y", "ready": true, "started": true, "restartCount": 1,
             "containerID": "containerd://b", "state": {"running": {"startedAt": "2026-11-21T07:01:00Z"}}}],
    }));
    assert_eq!(
        once(&pod, &failed(Cause::Disruption)),
        json!({"metadata": {"uid": "u-1"}, "status": {
            "phase": "Failed", "reason": "R", "message": "m", "observedGeneration": 2,
            "conditions": [
                {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "m",
                 "lastTransitionTime": "2026-11-21T08:00:00Z", "observedGeneration": 2},
                {"type": "Ready", "status": "False", "reason": "PodFailed", "message": "",
                 "lastTransitionTime": "2026-11-21T08:00:00Z", "observedGeneration": 2},
                {"type": "ContainersReady", "status": "False", "reason": "PodFailed", "message": "",
                 "lastTransitionTime": "2026-11-21T08:00:00Z", "observedGeneration": 2}],
            "containerStatuses": [
                {"name": "a", "image": "img-a", "imageID": "x", "ready": false, "started": false, "restartCount": 2,
                 "state": {"terminated": {"exitCode": 7, "reason": "Error", "finishedAt": "2026-11-21T07:30:00Z"}}},
                {"name": "b", "image": "img-b", "imageID": "y", "ready": false, "started": false, "restartCount": 1,
                 "containerID": "containerd://b",
                 "state": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown",
                    "message": "The container could not be located when the pod was terminated",
                    "containerID": "containerd://b", "startedAt": "2026-11-21T07:01:00Z",
                    "finishedAt": "2026-11-21T08:00:00Z"}}}],
        }})
    );
}

#[test]
fn containers_that_never_had_their_turn_are_left_waiting() {
    let waiting = json!({"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                         "state": {"waiting": {"reason": "PodInitializing"}}});
    let init = |name: &str, state: Value| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    let pod = mk_pod(json!({
        "phase": "Pending", "startTime": "2026-11-21T07:00:00Z", "containerStatuses": [waiting],
        "initContainerStatuses": [
            init("x", json!({"running": {}})), init("y", json!({"waiting": {"reason": "PodInitializing"}}))],
    }));
    let value = once(&pod, &failed(Cause::Disruption));
    assert!(value["status"].get("containerStatuses").is_none());
    assert_eq!(value["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 137);
    assert!(value["status"]["initContainerStatuses"][1]["state"].get("terminated").is_none());
}

#[test]
fn a_final_phase_is_never_written_over() {
    for phase in ["Succeeded", "Failed"] {
        let pod = mk_pod(json!({"phase": phase, "reason": "Evicted"}));
        assert_eq!(patch(&pod, &failed(Cause::Disruption), now()), None);
    }
}

#[test]
fn ready_goes_false_once_and_only_where_it_was_true() {
    let change = StatusChange::NotReady { message: "m".to_owned() };
    let ready = mk_pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
    assert_eq!(once(&ready, &change)["status"]["conditions"][0]["reason"], "MachineUnreachable");
    let not = mk_pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}));
    assert_eq!(patch(&not, &change, now()), None);
}

#[test]
fn the_end_of_a_pod_is_the_end_of_its_last_container() {
    let ended = |name: &str, at: &str| {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
               "state": {"terminated": {"exitCode": 0, "finishedAt": at}}})
    };
    let pod = mk_pod(json!({"phase": "Succeeded", "containerStatuses": [
        ended("a", "2026-11-21T07:30:00Z"), ended("b", "2026-11-21T07:20:00Z")]}));
    assert_eq!(finished_at(&pod).unwrap().to_string(), "2026-11-21T07:30:00Z");
    assert_eq!(finished_at(&Pod::default()), None);
}
