//! The way of a pod from its binding to its running containers, step by step, as far as this process saw it.
//!
//! A step is told once, when it is over. A process that finds the pod already running tells none; one that took over on
//! the way tells those that are left, from what the cloud and the pod say of the earlier ones. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::cloud::{Instance, InstanceState};
use crate::link::LinkStatus;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// From the binding to the first RunInstances.
    Requested,
    /// From RunInstances' answer until EC2 says `running`.
    Running,
    /// Until the machine answers by SSH.
    Reachable,
    /// Until its kubelet has the pod.
    Attached,
    /// Until all containers have started.
    Started,
}

impl Phase {
    /// The label's value.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Running => "running",
            Self::Reachable => "reachable",
            Self::Attached => "attached",
            Self::Started => "started",
        }
    }
}

/// A step that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) phase: Phase,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Passed {
    pub(super) fn seconds(&self) -> f64 {
        self.to.duration_since(self.from).as_secs_f64()
    }
}

/// How far a pod has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Journey {
    begun: bool,
    requested: bool,
    /// The machine that it is about; another one begins anew.
    machine: Option<String>,
    /// When the latest step was over, and what comes next.
    last: Option<(Phase, Timestamp)>,
    over: bool,
}

impl Journey {
    /// RunInstances is being sent.
    pub(super) fn request(&mut self, pod: &Pod, now: Timestamp) -> Option<Passed> {
        let is_first = !std::mem::replace(&mut self.requested, true);
        let bound = bound(pod).filter(|_| is_first)?;
        Some(Passed { phase: Phase::Requested, from: bound.min(now), to: now })
    }

    /// Looks at the pod; what is over since the last look.
    pub(super) fn advance(
        &mut self,
        pod: &Pod,
        machine: Option<&Instance>,
        link: Option<&LinkStatus>,
        now: Timestamp,
    ) -> Vec<Passed> {
        let started = started(pod);
        if !std::mem::replace(&mut self.begun, true) && started.is_some() {
            self.over = true;
        }
        let Some(machine) = machine.filter(|_| !self.over) else { return Vec::new() };
        if self.machine.as_ref() != Some(&machine.id) {
            self.machine = Some(machine.id.clone());
            self.last = Some((Phase::Running, machine.launched_at.unwrap_or(now)));
        }
        let link = link.filter(|link| link.instance_id == machine.id);
        let mut passed = Vec::new();
        while let Some((phase, from)) = self.last.filter(|_| !self.over) {
            let at = match phase {
                Phase::Requested | Phase::Running => (machine.state == InstanceState::Running).then_some(now),
                Phase::Reachable => link.and_then(|link| link.reached),
                Phase::Attached => link.and_then(|link| link.attached),
                Phase::Started => started,
            };
            let Some(to) = at.map(|at| at.max(from)) else { break };
            passed.push(Passed { phase, from, to });
            match next(phase) {
                Some(phase) => self.last = Some((phase, to)),
                None => self.over = true,
            }
        }
        passed
    }
}

fn next(phase: Phase) -> Option<Phase> {
    match phase {
        Phase::Requested => Some(Phase::Running),
        Phase::Running => Some(Phase::Reachable),
        Phase::Reachable => Some(Phase::Attached),
        Phase::Attached => Some(Phase::Started),
        Phase::Started => None,
    }
}

/// When the scheduler bound the pod; else when it was made, for pods that never saw a scheduler.
pub(super) fn bound(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let scheduled = conditions.into_iter().find(|one| one.type_ == "PodScheduled" && one.status == "True");
    let at = scheduled.and_then(|one| one.last_transition_time.as_ref());
    at.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

/// When the last of its regular containers started, once all have.
fn started(pod: &Pod) -> Option<Timestamp> {
    let wanted = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let times: Vec<Timestamp> = statuses.iter().filter_map(started_at).collect();
    times
        .into_iter()
        .max()
        .filter(|_| statuses.len() == wanted && statuses.iter().all(|one| started_at(one).is_some()))
}

fn started_at(status: &ContainerStatus) -> Option<Timestamp> {
    let earlier = |state: &k8s_openapi::api::core::v1::ContainerState| {
        let running = state.running.as_ref().and_then(|running| running.started_at.clone());
        running.or_else(|| state.terminated.as_ref().and_then(|end| end.started_at.clone()))
    };
    let first = status.last_state.as_ref().and_then(earlier);
    first.or_else(|| status.state.as_ref().and_then(earlier)).map(|time| time.0)
}

#[cfg(test)]
mod tests {

    use serde_json::json;

    use super::*;
    use crate::cloud::testing::mk_instance;
    use crate::link::LinkState;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn pod(started: Option<i64>) -> Pod {
        let state = match started {
            None => json!({"waiting": {}}),
            Some(second) => json!({"running": {"startedAt": at(second).to_string()}}),
        };
        let status = json!({
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(0).to_string()}],
            "containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state}],
        });
        serde_json::from_value(json!({"spec": {"containers": [{"name": "a"}]}, "status": status})).unwrap()
    }

    fn machine(id: &str, state: InstanceState) -> Instance {
        Instance { launched_at: Some(at(3)), ..mk_instance(id, state) }
    }

    fn link(reached: Option<i64>, attached: Option<i64>) -> LinkStatus {
        LinkStatus {
            instance_id: "i-1".to_owned(),
            state: LinkState::Dialing { since: at(0), error: None, was_attached: false },
            shown: true,
            reached: reached.map(at),
            attached: attached.map(at),
            notice: None,
            usable: None,
            has_nvidia: false,
        }
    }

    fn told(passed: &[Passed]) -> String {
        let seconds = |time: Timestamp| time.as_second() - at(0).as_second();
        let all: Vec<_> = passed
            .iter()
            .map(|one| format!("{} {}-{}", one.phase.name(), seconds(one.from), seconds(one.to)))
            .collect();
        all.join(", ")
    }

    #[test]
    fn each_step_is_told_once_when_it_is_over() {
        let mut journey = Journey::default();
        let waiting = pod(None);
        assert!(journey.advance(&waiting, None, None, at(0)).is_empty());
        assert_eq!(told(&journey.request(&waiting, at(2)).into_iter().collect::<Vec<_>>()), "requested 0-2");
        assert_eq!(journey.request(&waiting, at(3)), None, "the next candidate is no new pod");
        let pending = machine("i-1", InstanceState::Pending);
        assert!(journey.advance(&waiting, Some(&pending), None, at(4)).is_empty());
        let running = machine("i-1", InstanceState::Running);
        assert_eq!(told(&journey.advance(&waiting, Some(&running), None, at(9))), "running 3-9");
        assert!(journey.advance(&waiting, Some(&running), Some(&link(None, None)), at(10)).is_empty());
        let reached = link(Some(20), Some(24));
        assert_eq!(
            told(&journey.advance(&waiting, Some(&running), Some(&reached), at(25))),
            "reachable 9-20, attached 20-24"
        );
        assert_eq!(
            told(&journey.advance(&pod(Some(30)), Some(&running), Some(&reached), at(31))),
            "started 24-30"
        );
        assert!(journey.advance(&pod(Some(30)), Some(&running), Some(&reached), at(32)).is_empty());
    }

    #[test]
    fn a_pod_that_ran_before_this_process_tells_nothing() {
        let mut journey = Journey::default();
        let running = machine("i-1", InstanceState::Running);
        for second in [50, 51] {
            assert!(
                journey
                    .advance(&pod(Some(30)), Some(&running), Some(&link(Some(49), Some(50))), at(second))
                    .is_empty()
            );
        }
    }

    #[test]
    fn another_machine_begins_its_own_way() {
        let mut journey = Journey::default();
        let waiting = pod(None);
        assert_eq!(
            told(&journey.advance(&waiting, Some(&machine("i-0", InstanceState::Running)), None, at(9))),
            "running 3-9"
        );
        let second = machine("i-1", InstanceState::Running);
        let told = told(&journey.advance(&waiting, Some(&second), Some(&link(Some(40), None)), at(30)));
        assert_eq!(told, "running 3-30, reachable 30-40");
    }
}
