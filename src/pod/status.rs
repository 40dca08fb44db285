//! What ORCA writes into a pod's status, as strategic merge patches.
//!
//! A patch has our fields and conditions alone and the pod's UID as its precondition; where nothing would change
//! there is no patch. A final phase is written only over the pod as it was seen: the kubelet may have had the last word
//! meanwhile, and what a process that is gone left on its way must end no pod. `startTime`, `hostIP` and `podIP` are the kubelet's and are never written.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod, PodCondition,
    PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::reasons;

/// What is to be said about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusChange {
    /// It has no machine yet, or one that still boots. Only for a pod that no kubelet was shown.
    Pending { message: String, capacity: Capacity },
    /// It will never run, or cannot run any more. Absorbing.
    Failed { reason: &'static str, message: String, cause: Cause },
    /// Nobody knows how it is. Only the kubelet makes it ready again.
    NotReady { message: String },
}

/// Whether there is a machine to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// Not now, for this reason.
    Missing(&'static str),
    /// There is one.
    Found,
}

/// Why a pod failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// By its own spec.
    Spec,
    /// Its machine is gone: `DisruptionTarget`.
    Disruption,
    /// It was deleted before it ran.
    Deletion,
}

/// The patch of `pods/status` that makes `change` true, or `None` if it is.
#[must_use]
pub fn patch(pod: &Pod, change: &StatusChange, now: Timestamp) -> Option<Value> {
    let empty = PodStatus::default();
    let mut draft = Draft {
        pod,
        old: pod.status.as_ref().unwrap_or(&empty),
        now,
        fields: Map::new(),
        conditions: vec![],
        is_final: false,
    };
    match change {
        StatusChange::Pending { message, capacity } => draft.pending(message, *capacity),
        StatusChange::Failed { reason, message, cause } => draft.failed(reason, message, *cause),
        StatusChange::NotReady { message } => draft.not_ready(message),
    }
    draft.finish()
}

/// Whether the phase is final.
#[must_use]
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), Some("Succeeded" | "Failed"))
}

/// Whether a kubelet ever wrote this status: it sets `startTime` with its first word, and ORCA never does.
#[must_use]
pub fn is_kubelets(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| {
        status.start_time.is_some() || status.host_ip.is_some() || status.pod_ip.is_some()
    })
}

/// Whether the pod's Ready condition is True.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// When the last container ended, as far as is recorded.
#[must_use]
pub fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let ends = all.filter_map(|one| Some(one.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0));
    let changes =
        status.conditions.iter().flatten().filter_map(|one| Some(one.last_transition_time.as_ref()?.0));
    ends.max().or_else(|| changes.max())
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

struct Draft<'a> {
    pod: &'a Pod,
    old: &'a PodStatus,
    now: Timestamp,
    fields: Map<String, Value>,
    conditions: Vec<Value>,
    is_final: bool,
}

impl Draft<'_> {
    fn pending(&mut self, message: &str, capacity: Capacity) {
        let spec = self.pod.spec.as_ref();
        let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let main = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let reason = if init.is_empty() { reasons::CONTAINER_CREATING } else { reasons::POD_INITIALIZING };
        let waiting = |name: &str, image: Option<&String>| ContainerStatus {
            name: name.to_owned(),
            image: image.cloned().unwrap_or_default(),
            started: Some(false),
            state: Some(ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some(reason.to_owned()),
                    message: Some(message.to_owned()),
                }),
                ..ContainerState::default()
            }),
            ..ContainerStatus::default()
        };
        let inits: Vec<_> = init.iter().map(|c| waiting(&c.name, c.image.as_ref())).collect();
        let mut mains: Vec<_> = main.iter().map(|c| waiting(&c.name, c.image.as_ref())).collect();
        mains.sort_by(|a, b| a.name.cmp(&b.name));
        self.containers("initContainerStatuses", self.old.init_container_statuses.as_deref(), &inits);
        self.containers("containerStatuses", self.old.container_statuses.as_deref(), &mains);
        if phase(self.pod) != Some("Pending") {
            self.set("phase", "Pending");
        }
        match capacity {
            Capacity::Missing(reason) => {
                self.condition(reasons::CONDITION_CAPACITY, "False", reason, message)
            }
            Capacity::Found if self.has(reasons::CONDITION_CAPACITY) => {
                self.condition(reasons::CONDITION_CAPACITY, "True", reasons::CAPACITY_FOUND, "");
            }
            Capacity::Found => {}
        }
    }

    fn failed(&mut self, reason: &str, message: &str, cause: Cause) {
        if is_terminal(self.pod) {
            return;
        }
        self.is_final = true;
        self.set("phase", "Failed");
        self.set("reason", reason);
        self.set("message", message);
        match cause {
            Cause::Spec | Cause::Deletion => {}
            Cause::Disruption => self.condition("DisruptionTarget", "True", reasons::DISRUPTION, message),
        }
        if !is_kubelets(self.pod) {
            return;
        }
        self.condition("Ready", "False", reasons::POD_FAILED, "");
        self.condition("ContainersReady", "False", reasons::POD_FAILED, "");
        let ended = |all: Option<&Vec<ContainerStatus>>, count: usize| -> Vec<ContainerStatus> {
            let all = all.map(Vec::as_slice).unwrap_or_default();
            all.iter()
                .enumerate()
                .map(|(i, one)| if i < count { self.ended(one) } else { one.clone() })
                .collect()
        };
        let init = self.old.init_container_statuses.as_ref();
        let begun = init.map_or(0, |all| all.iter().rposition(has_begun).map_or(0, |last| last + 1));
        let inits = ended(init, begun);
        let count = if is_initialized(self.old) { usize::MAX } else { 0 };
        let mains = ended(self.old.container_statuses.as_ref(), count);
        let ephemeral = self.old.ephemeral_container_statuses.as_ref();
        let others = ended(ephemeral, usize::MAX);
        self.containers("initContainerStatuses", self.old.init_container_statuses.as_deref(), &inits);
        self.containers("containerStatuses", self.old.container_statuses.as_deref(), &mains);
        self.containers(
            "ephemeralContainerStatuses",
            self.old.ephemeral_container_statuses.as_deref(),
            &others,
        );
    }

    fn not_ready(&mut self, message: &str) {
        if is_ready(self.pod) {
            self.condition("Ready", "False", reasons::MACHINE_UNREACHABLE, message);
        }
    }

    /// A recorded exit stays; an end that nobody saw is the kubelet's 137.
    fn ended(&self, one: &ContainerStatus) -> ContainerStatus {
        let state = one.state.as_ref();
        let mut ended = one.clone();
        ended.ready = false;
        ended.started = Some(false);
        if state.and_then(|state| state.terminated.as_ref()).is_none() {
            let running = state.and_then(|state| state.running.as_ref());
            ended.state = Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: 137,
                    reason: Some(reasons::CONTAINER_STATUS_UNKNOWN.to_owned()),
                    message: Some(
                        "The container could not be located when the pod was terminated".to_owned(),
                    ),
                    container_id: one.container_id.clone(),
                    started_at: running.and_then(|running| running.started_at.clone()),
                    finished_at: running.map(|_| Time(self.now)),
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            });
        }
        ended
    }

    fn set(&mut self, field: &str, value: &str) {
        self.fields.insert(field.to_owned(), json!(value));
    }

    /// The lists have no merge key: all of it or nothing.
    fn containers(&mut self, field: &str, old: Option<&[ContainerStatus]>, new: &[ContainerStatus]) {
        if !old.unwrap_or_default().iter().map(written).eq(new.iter().map(written)) {
            self.fields.insert(field.to_owned(), json!(new));
        }
    }

    fn find(&self, type_: &str) -> Option<&PodCondition> {
        self.old.conditions.iter().flatten().find(|condition| condition.type_ == type_)
    }

    fn has(&self, type_: &str) -> bool {
        self.find(type_).is_some()
    }

    fn condition(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let old = self.find(type_);
        let same = old.is_some_and(|old| {
            old.status == status
                && old.reason.as_deref().unwrap_or_default() == reason
                && old.message.as_deref().unwrap_or_default() == message
        });
        if same {
            return;
        }
        let kept = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
        let mut condition = json!({
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": kept.unwrap_or(Time(self.now)),
        });
        if let Some(generation) = self.pod.metadata.generation {
            condition["observedGeneration"] = json!(generation);
        }
        self.conditions.push(condition);
    }

    fn finish(mut self) -> Option<Value> {
        if !self.conditions.is_empty() {
            self.fields.insert("conditions".to_owned(), Value::Array(self.conditions));
        }
        if self.fields.is_empty() {
            return None;
        }
        if let Some(generation) = self.pod.metadata.generation {
            self.fields.insert("observedGeneration".to_owned(), json!(generation));
        }
        let mut metadata = json!({"uid": self.pod.metadata.uid});
        if let (true, Some(version)) = (self.is_final, &self.pod.metadata.resource_version) {
            metadata["resourceVersion"] = json!(version);
        }
        Some(json!({"metadata": metadata, "status": self.fields}))
    }
}

/// As ORCA writes it: where there is no `lastState` the API server answers an empty one.
fn written(one: &ContainerStatus) -> ContainerStatus {
    let last_state = one.last_state.clone().filter(|state| *state != ContainerState::default());
    ContainerStatus { last_state, ..one.clone() }
}

/// Whether there is any sign that the container ran.
fn has_begun(one: &ContainerStatus) -> bool {
    let ran = |state: Option<&ContainerState>| {
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    ran(one.state.as_ref()) || ran(one.last_state.as_ref())
}

/// Whether initialisation is over, as the kubelet tells it: from then on a container without an end has failed.
fn is_initialized(status: &PodStatus) -> bool {
    if status.container_statuses.iter().flatten().any(has_begun) {
        return true;
    }
    let Some(last) = status.init_container_statuses.iter().flatten().last() else {
        return true;
    };
    let ended = last.state.as_ref().and_then(|state| state.terminated.as_ref());
    last.started == Some(true) || ended.is_some_and(|ended| ended.exit_code == 0)
}

#[cfg(test)]
mod tests;
