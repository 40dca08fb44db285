//! What a pod's status says of the runs of its containers. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use crate::logs::record::Eof;
use crate::pod::status::is_terminal;

/// Whether containers of the pod may still write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    On,
    /// The phase is final, or the object is gone, as far as it is known to end only then.
    Over,
}

/// `gone`: the object does not exist any more; `pod` is how it was last seen.
pub(super) fn life(pod: Option<&Pod>, gone: bool) -> Life {
    if gone || pod.is_some_and(is_terminal) { Life::Over } else { Life::On }
}

/// How a run ended, if it has.
pub(super) fn ending(pod: &Pod, container: &str, restart: u32) -> Option<Eof> {
    let status = statuses(pod).find(|status| status.name == container)?;
    let latest = u32::try_from(status.restart_count).unwrap_or(0);
    let state = status.state.as_ref();
    let now = state.and_then(|state| state.terminated.as_ref());
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    // In a crash loop the latest run is the last state.
    let is_latest = |end: &ContainerStateTerminated| end.container_id == status.container_id;
    let found = if restart == latest {
        now.or_else(|| before.filter(|end| is_latest(end)))
    } else if restart.checked_add(1) == Some(latest) {
        before.filter(|end| !is_latest(end))
    } else {
        None
    };
    match found {
        Some(end) => Some(eof(end)),
        // Another run came after it.
        None => (restart < latest).then(Eof::default),
    }
}

/// Containers that ran, each with its latest run.
pub(super) fn ran(pod: &Pod) -> Vec<(String, u32)> {
    let ran = statuses(pod).filter(|status| status.container_id.as_deref().is_some_and(|id| !id.is_empty()));
    ran.map(|status| (status.name.clone(), u32::try_from(status.restart_count).unwrap_or(0))).collect()
}

fn eof(end: &ContainerStateTerminated) -> Eof {
    Eof {
        exit_code: Some(end.exit_code),
        finished_at: end.finished_at.as_ref().map(|at| at.0),
        reason: end.reason.clone(),
    }
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    let all = status.flat_map(|status| {
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
    });
    all.flatten().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(phase: &str, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p"}, "status": {"phase": phase, "containerStatuses": [status]},
        }))
        .unwrap()
    }

    fn ended(id: &str, code: i32) -> Value {
        json!({"terminated": {"containerID": id, "exitCode": code, "reason": "Error", "finishedAt": "2026-11-21T03:29:11Z"}})
    }

    fn codes(pod: &Pod) -> Vec<Option<Option<i32>>> {
        (0..4).map(|run| ending(pod, "main", run).map(|eof| eof.exit_code)).collect()
    }

    fn status(restarts: i32, id: &str, state: &Value, last: &Value) -> Value {
        json!({"name": "main", "image": "i", "imageID": "", "ready": false, "restartCount": restarts,
            "containerID": id, "state": state, "lastState": last})
    }

    #[test]
    fn the_present_run_and_the_one_before_are_known_and_older_ones_have_ended_somehow() {
        let running = json!({"running": {}});
        let one = pod("Running", &status(2, "c2", &running, &ended("c1", 3)));
        assert_eq!(codes(&one), [Some(None), Some(Some(3)), None, None]);
        let two = pod("Failed", &status(2, "c2", &ended("c2", 7), &ended("c1", 3)));
        assert_eq!(codes(&two), [Some(None), Some(Some(3)), Some(Some(7)), None]);
        assert_eq!(ran(&two), [("main".to_owned(), 2)]);
    }

    #[test]
    fn in_a_crash_loop_the_last_state_is_the_latest_run() {
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let pod = pod("Running", &status(1, "c1", &waiting, &ended("c1", 3)));
        assert_eq!(codes(&pod), [Some(None), Some(Some(3)), None, None]);
    }

    #[test]
    fn a_container_that_never_ran_has_no_end() {
        let pod = pod("Pending", &status(0, "", &json!({"waiting": {}}), &json!({})));
        assert_eq!(codes(&pod), [None, None, None, None]);
        assert_eq!(ran(&pod), []);
    }

    #[test]
    fn a_pod_is_over_when_its_phase_is_final_or_its_object_gone() {
        let running = pod(
            "Running",
            &json!({"name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": 0}),
        );
        assert_eq!(life(Some(&running), false), Life::On);
        assert_eq!(life(Some(&running), true), Life::Over);
        assert_eq!(life(None, false), Life::On);
        let done = pod(
            "Succeeded",
            &json!({"name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": 0}),
        );
        assert_eq!(life(Some(&done), false), Life::Over);
    }
}
