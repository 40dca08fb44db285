//! The status of a pod whose container runs on RunPod, as a kubelet would write it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::evidence::Situation;
use crate::pod::reasons;
use crate::pod::status::is_terminal;

/// The kubelet's words.
const COMPLETED: &str = "Completed";
const ERROR: &str = "Error";
const POD_COMPLETED: &str = "PodCompleted";

/// What a container is at RunPod.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// RunPod's id of the pod.
    pub id: &'a str,
    /// Name of the container in the Pod.
    pub container: &'a str,
    pub image: &'a str,
}

/// The patch of `pods/status` (strategic merge) that says what is known, or `None` if the pod says so or nothing is
/// known that a kubelet would say. A final phase is written only over the pod as it was seen, and never changed.
#[must_use]
pub fn patch(pod: &Pod, identity: Identity<'_>, situation: &Situation, now: Timestamp) -> Option<Value> {
    if is_terminal(pod) {
        return None;
    }
    let draft = Draft { pod, identity, now };
    match situation {
        Situation::Unknown
        | Situation::Allocating { .. }
        | Situation::Starting { .. }
        | Situation::NeverStarted { .. } => None,
        Situation::Running { since, restarts, last_code } => draft.running(*since, *restarts, *last_code),
        Situation::Ended { code, at } => Some(draft.ended(*code, *at)),
        Situation::Lost { reason, message } => Some(draft.lost(reason, message)),
    }
}

struct Draft<'a> {
    pod: &'a Pod,
    identity: Identity<'a>,
    now: Timestamp,
}

impl Draft<'_> {
    fn running(&self, since: Timestamp, restarts: u32, last_code: Option<i32>) -> Option<Value> {
        let running = ContainerStateRunning { started_at: Some(Time(since)) };
        let last = last_code.map(|code| ContainerState {
            terminated: Some(self.terminated(code, None, since)),
            ..ContainerState::default()
        });
        let container = ContainerStatus {
            ready: true,
            started: Some(true),
            restart_count: i32::try_from(restarts).unwrap_or(i32::MAX),
            state: Some(ContainerState { running: Some(running), ..ContainerState::default() }),
            last_state: last,
            ..self.container()
        };
        if self.says_running(restarts) {
            return None;
        }
        let mut fields = Map::new();
        fields.insert("phase".to_owned(), json!("Running"));
        fields.insert("startTime".to_owned(), json!(self.start_time(since)));
        Some(self.finish(fields, &container, true, ""))
    }

    /// Whether the pod says so already. That it has begun again is told by the count.
    fn says_running(&self, restarts: u32) -> bool {
        let Some(status) = &self.pod.status else { return false };
        let container = status.container_statuses.iter().flatten().next();
        status.phase.as_deref() == Some("Running")
            && container.is_some_and(|one| {
                one.ready && one.restart_count == i32::try_from(restarts).unwrap_or(i32::MAX)
            })
    }

    fn ended(&self, code: i32, at: Timestamp) -> Value {
        let since = self.began();
        let container = ContainerStatus {
            state: Some(ContainerState {
                terminated: Some(self.terminated(code, since, at)),
                ..ContainerState::default()
            }),
            restart_count: self.restarts(),
            started: Some(false),
            ..self.container()
        };
        let mut fields = Map::new();
        fields.insert("phase".to_owned(), json!(if code == 0 { "Succeeded" } else { "Failed" }));
        fields.insert("startTime".to_owned(), json!(self.start_time(since.unwrap_or(at))));
        let reason = if code == 0 { POD_COMPLETED } else { reasons::POD_FAILED };
        self.finish(fields, &container, false, reason)
    }

    fn lost(&self, reason: &str, message: &str) -> Value {
        let since = self.began();
        let terminated = ContainerStateTerminated {
            reason: Some(reasons::CONTAINER_STATUS_UNKNOWN.to_owned()),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            ..self.terminated(137, since, self.now)
        };
        let container = ContainerStatus {
            state: Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() }),
            restart_count: self.restarts(),
            started: Some(false),
            ..self.container()
        };
        let mut fields = Map::new();
        fields.insert("phase".to_owned(), json!("Failed"));
        fields.insert("reason".to_owned(), json!(reason));
        fields.insert("message".to_owned(), json!(message));
        fields.insert("startTime".to_owned(), json!(self.start_time(since.unwrap_or(self.now))));
        let mut patch = self.finish(fields, &container, false, reasons::POD_FAILED);
        let disruption = self.condition("DisruptionTarget", true, reasons::DISRUPTION, message);
        if let Some(conditions) = patch["status"]["conditions"].as_array_mut() {
            conditions.push(disruption);
        }
        patch
    }

    fn terminated(&self, code: i32, since: Option<Timestamp>, at: Timestamp) -> ContainerStateTerminated {
        ContainerStateTerminated {
            exit_code: code,
            reason: Some(if code == 0 { COMPLETED } else { ERROR }.to_owned()),
            container_id: Some(self.container_id()),
            started_at: since.map(Time),
            finished_at: Some(Time(at)),
            ..ContainerStateTerminated::default()
        }
    }

    fn container(&self) -> ContainerStatus {
        ContainerStatus {
            name: self.identity.container.to_owned(),
            image: self.identity.image.to_owned(),
            container_id: Some(self.container_id()),
            ..ContainerStatus::default()
        }
    }

    fn container_id(&self) -> String {
        format!("runpod://{}", self.identity.id)
    }

    /// When the container started, as the pod has it.
    fn began(&self) -> Option<Timestamp> {
        let all = self.pod.status.as_ref()?.container_statuses.as_ref()?;
        Some(all.first()?.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0)
    }

    fn restarts(&self) -> i32 {
        let all = self.pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        all.and_then(|all| all.first()).map_or(0, |one| one.restart_count)
    }

    /// It is written once.
    fn start_time(&self, since: Timestamp) -> Time {
        let written = self.pod.status.as_ref().and_then(|status| status.start_time.clone());
        written.unwrap_or(Time(since))
    }

    fn finish(
        &self,
        mut fields: Map<String, Value>,
        container: &ContainerStatus,
        is_ready: bool,
        reason: &str,
    ) -> Value {
        fields.insert("containerStatuses".to_owned(), json!([container]));
        fields.insert(
            "conditions".to_owned(),
            json!([
                self.condition("PodReadyToStartContainers", is_ready, "", ""),
                self.condition("Initialized", true, if is_ready { "" } else { reason }, ""),
                self.condition("ContainersReady", is_ready, reason, ""),
                self.condition("Ready", is_ready, reason, ""),
            ]),
        );
        let mut metadata = json!({"uid": self.pod.metadata.uid});
        if let (false, Some(version)) = (is_ready, &self.pod.metadata.resource_version) {
            metadata["resourceVersion"] = json!(version);
        }
        if let Some(generation) = self.pod.metadata.generation {
            fields.insert("observedGeneration".to_owned(), json!(generation));
        }
        json!({"metadata": metadata, "status": fields})
    }

    fn condition(&self, type_: &str, is_true: bool, reason: &str, message: &str) -> Value {
        let status = if is_true { "True" } else { "False" };
        let old = self.find(type_).filter(|old| old.status == status);
        let since = old.and_then(|old| old.last_transition_time.clone()).unwrap_or(Time(self.now));
        let mut condition = json!({"type": type_, "status": status, "lastTransitionTime": since});
        // Null takes away what an earlier status said.
        condition["reason"] = if reason.is_empty() { Value::Null } else { json!(reason) };
        condition["message"] = if message.is_empty() { Value::Null } else { json!(message) };
        if let Some(generation) = self.pod.metadata.generation {
            condition["observedGeneration"] = json!(generation);
        }
        condition
    }

    fn find(&self, type_: &str) -> Option<&PodCondition> {
        let status = self.pod.status.as_ref()?;
        status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const IDENTITY: Identity<'static> = Identity { id: "p1", container: "main", image: "a:1" };

    fn mk_pod(status: &Value) -> Pod {
        let metadata = json!({"name": "a", "uid": "u-1", "resourceVersion": "5", "generation": 1});
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    }

    fn running() -> Value {
        let state = json!({"running": {"startedAt": "1970-01-01T00:00:10Z"}});
        json!({
            "phase": "Running", "startTime": "1970-01-01T00:00:10Z",
            "containerStatuses": [{
                "name": "main", "image": "a:1", "imageID": "", "ready": true, "restartCount": 0, "state": state
            }],
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:11Z"}
            ]
        })
    }

    fn said(pod: &Pod, situation: &Situation) -> Option<Value> {
        patch(pod, IDENTITY, situation, at(100))
    }

    fn condition<'a>(patch: &'a Value, type_: &str) -> &'a Value {
        let all = patch["status"]["conditions"].as_array().unwrap();
        all.iter().find(|one| one["type"] == type_).unwrap()
    }

    #[test]
    fn a_running_container_is_told_once_and_its_restarts_are() {
        let runs =
            |restarts| Situation::Running { since: at(10), restarts, last_code: (restarts > 0).then_some(4) };
        let pending = mk_pod(&json!({"phase": "Pending"}));
        let patch = said(&pending, &runs(0)).unwrap();
        assert_eq!(patch["metadata"], json!({"uid": "u-1"}));
        assert_eq!(patch["status"]["phase"], "Running");
        assert_eq!(patch["status"]["startTime"], "1970-01-01T00:00:10Z");
        assert_eq!(patch["status"]["containerStatuses"][0]["containerID"], "runpod://p1");
        assert_eq!(condition(&patch, "Ready")["status"], "True");
        let pod = mk_pod(&running());
        assert_eq!(said(&pod, &runs(0)), None);
        let again = said(&pod, &runs(2)).unwrap();
        let container = &again["status"]["containerStatuses"][0];
        assert_eq!(
            (&container["restartCount"], &container["lastState"]["terminated"]["exitCode"]),
            (&json!(2), &json!(4))
        );
        assert_eq!(condition(&again, "Ready")["lastTransitionTime"], "1970-01-01T00:00:11Z");
    }

    #[test]
    fn an_end_has_its_code_its_times_and_the_version_it_was_decided_on() {
        for (code, phase, reason, ready) in
            [(0, "Succeeded", "Completed", "PodCompleted"), (7, "Failed", "Error", "PodFailed")]
        {
            let patch = said(&mk_pod(&running()), &Situation::Ended { code, at: at(90) }).unwrap();
            assert_eq!(patch["metadata"]["resourceVersion"], "5");
            assert_eq!(patch["status"]["phase"], phase);
            assert_eq!(
                patch["status"]["containerStatuses"][0]["state"]["terminated"],
                json!({
                    "exitCode": code, "reason": reason, "containerID": "runpod://p1",
                    "startedAt": "1970-01-01T00:00:10Z", "finishedAt": "1970-01-01T00:01:30Z"
                })
            );
            assert_eq!(condition(&patch, "Ready")["status"], "False");
            assert_eq!(condition(&patch, "Ready")["reason"], ready);
        }
    }

    #[test]
    fn a_lost_container_has_the_kubelets_code_for_what_nobody_saw() {
        let lost = Situation::Lost { reason: reasons::PROVIDER_STOPPED, message: "gone".to_owned() };
        let patch = said(&mk_pod(&running()), &lost).unwrap();
        assert_eq!(
            (&patch["status"]["phase"], &patch["status"]["reason"]),
            (&json!("Failed"), &json!("ProviderStopped"))
        );
        let terminated = &patch["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(
            (&terminated["exitCode"], &terminated["reason"]),
            (&json!(137), &json!("ContainerStatusUnknown"))
        );
        assert_eq!(condition(&patch, "DisruptionTarget")["status"], "True");
    }

    #[test]
    fn a_final_phase_never_changes_and_what_is_not_known_is_not_told() {
        let done = mk_pod(&json!({"phase": "Succeeded"}));
        assert_eq!(said(&done, &Situation::Ended { code: 7, at: at(90) }), None);
        for nothing in [
            Situation::Unknown,
            Situation::Allocating { until: at(1) },
            Situation::Starting { until: at(1) },
            Situation::NeverStarted { message: String::new() },
        ] {
            assert_eq!(said(&mk_pod(&json!({"phase": "Pending"})), &nothing), None);
        }
    }
}
