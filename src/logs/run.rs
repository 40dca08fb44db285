//! Which run of a container a request for logs is about, or why there is none, in the kubelet's words.
//!
//! Pure. As `validateContainerLogStatus` in pkg/kubelet (1.36) decides it, from the Pod alone.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

/// One run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// With its runtime: `containerd://6f1c…`.
    pub container_id: String,
    /// As in the name of its log file and of its stream.
    pub restart: u32,
}

/// Why there is no log. `Display` is the kubelet's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NoLog {
    /// The HTTP status. (Of a 404, kubectl does not show the text.)
    pub status: u16,
    text: String,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The present run, or the last one.
    Latest,
    /// `previous=true`: the run before the present one.
    Previous,
}

/// The run that a request for a container's log is about.
///
/// # Errors
/// [`NoLog`], with the kubelet's code and text.
pub fn choose(pod: &Pod, container: &str, which: Which) -> Result<Run, NoLog> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if !has(pod, container) {
        return Err(NoLog {
            status: 404,
            text: format!("container {container:?} not found in pod {name:?}"),
        });
    }
    let refuse = |why: &str| {
        Err(NoLog { status: 400, text: format!("container {container:?} in pod {name:?} is {why}") })
    };
    let Some(status) = status(pod, container) else { return refuse("not available") };
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let run = |id: Option<&str>| id.filter(|id| !id.is_empty()).map(|id| of(status, id));

    if which == Which::Previous {
        let text = format!("previous terminated container {container:?} in pod {name:?} not found");
        return run(last.and_then(id)).ok_or(NoLog { status: 400, text });
    }
    let terminated = state.terminated.as_ref();
    if state.running.is_some() {
        return run(status.container_id.as_deref()).map_or_else(|| refuse("not available"), Ok);
    }
    if terminated.is_some() || last.is_some() {
        // Where the present run never came to be, the one before counts.
        let found = run(terminated.and_then(id)).or_else(|| run(last.and_then(id)));
        return found.map_or_else(|| refuse("terminated"), Ok);
    }
    match state.waiting.map(|waiting| waiting.reason.unwrap_or_default()).as_deref() {
        Some("ErrImagePull") => refuse("waiting to start: image can't be pulled"),
        Some("ImagePullBackOff") => refuse("waiting to start: trying and failing to pull image"),
        Some(reason) => refuse(&format!("waiting to start: {reason}")),
        None => refuse("waiting to start - no logs yet"),
    }
}

/// Which of the archived runs (oldest first) a request is about that the Pod itself does not tell: its status names one
/// run before the present one at most, and the archive has them all.
#[must_use]
pub fn among(archived: &[u32], pod: &Pod, container: &str, which: Which) -> Option<u32> {
    let present = status(pod, container).and_then(|status| u32::try_from(status.restart_count).ok());
    match (which, present) {
        (Which::Latest, _) => archived.last().copied(),
        (Which::Previous, Some(present)) => archived.iter().rfind(|run| **run < present).copied(),
        (Which::Previous, None) => archived.iter().nth_back(1).copied(),
    }
}

/// Whether nothing more comes from this run, as far as the Pod says.
#[must_use]
pub fn has_ended(pod: &Pod, container: &str, run: u32) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = |status: &ContainerStatus| {
        let is_latest = u32::try_from(status.restart_count).is_ok_and(|latest| latest <= run);
        !is_latest || status.state.as_ref().is_some_and(|state| state.terminated.is_some())
    };
    matches!(phase, Some("Succeeded" | "Failed")) || status(pod, container).is_some_and(ended)
}

fn id(terminated: &ContainerStateTerminated) -> Option<&str> {
    terminated.container_id.as_deref()
}

/// The run with this id. `restartCount` is that of the latest run, which is the one named by the status itself: a
/// container in a crash loop has it as its last state too.
fn of(status: &ContainerStatus, id: &str) -> Run {
    let latest = u32::try_from(status.restart_count).unwrap_or(0);
    let is_latest = status.container_id.as_deref().is_none_or(|latest| latest == id);
    let restart = if is_latest { latest } else { latest.saturating_sub(1) };
    Run { container_id: id.to_owned(), restart }
}

fn has(pod: &Pod, container: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let init = spec.init_containers.iter().flatten();
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|it| &it.name);
    spec.containers.iter().chain(init).map(|it| &it.name).chain(ephemeral).any(|name| name == container)
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|status| status.name == container)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod with the containers `main`, `init` and `debug`, and this status of one of them.
    fn pod(kind: &str, status: &str) -> Pod {
        let text = format!(
            r#"{{"metadata": {{"name": "p"}},
            "spec": {{"containers": [{{"name": "main"}}], "initContainers": [{{"name": "init"}}], "ephemeralContainers": [{{"name": "debug"}}]}},
            "status": {{"{kind}": [{status}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn main(state: &str, last: &str) -> Pod {
        let rest = r#""name": "main", "image": "i", "imageID": "", "ready": false, "restartCount": 3"#;
        let status = format!(
            r#"{{{rest}, "containerID": "containerd://now", "state": {{{state}}}, "lastState": {{{last}}}}}"#
        );
        pod("containerStatuses", &status)
    }

    fn terminated(id: &str) -> String {
        format!(r#""terminated": {{"exitCode": 1, "containerID": "{id}"}}"#)
    }

    const RUNNING: &str = r#""running": {}"#;

    fn waiting(reason: &str) -> String {
        format!(r#""waiting": {{"reason": "{reason}"}}"#)
    }

    fn text(pod: &Pod, container: &str, which: Which) -> String {
        match choose(pod, container, which) {
            Ok(run) => format!("{} {}", run.container_id, run.restart),
            Err(error) => format!("{} {error}", error.status),
        }
    }

    #[test]
    fn the_run_is_the_one_that_the_kubelet_shows() {
        let (now, before) = (terminated("containerd://now"), terminated("containerd://before"));
        let (latest, previous) = ("containerd://now 3", "containerd://before 2");
        let none = r#"400 previous terminated container "main" in pod "p" not found"#;
        for (pod, shown, shown_before) in [
            (main(RUNNING, ""), latest, none),
            (main(RUNNING, &before), latest, previous),
            (main(&now, &before), latest, previous),
            (main(&now, ""), latest, none),
            // In a crash loop the last state is the latest run's.
            (main(&waiting("CrashLoopBackOff"), &now), latest, latest),
            (main(&terminated(""), &before), previous, previous),
            (main(&terminated(""), ""), r#"400 container "main" in pod "p" is terminated"#, none),
            (
                main(&waiting("CrashLoopBackOff"), &terminated("")),
                r#"400 container "main" in pod "p" is terminated"#,
                none,
            ),
        ] {
            assert_eq!(text(&pod, "main", Which::Latest), shown);
            assert_eq!(text(&pod, "main", Which::Previous), shown_before);
        }
    }

    #[test]
    fn why_there_is_no_log_is_said_in_the_kubelets_words() {
        for (state, why) in [
            (waiting("ContainerCreating"), "waiting to start: ContainerCreating"),
            (waiting("PodInitializing"), "waiting to start: PodInitializing"),
            (waiting("ErrImagePull"), "waiting to start: image can't be pulled"),
            (waiting("ImagePullBackOff"), "waiting to start: trying and failing to pull image"),
            (String::new(), "waiting to start - no logs yet"),
        ] {
            let expected = format!(r#"400 container "main" in pod "p" is {why}"#);
            assert_eq!(text(&main(&state, ""), "main", Which::Latest), expected);
        }
        let pod = main(RUNNING, "");
        assert_eq!(text(&pod, "other", Which::Latest), r#"404 container "other" not found in pod "p""#);
        assert_eq!(text(&pod, "init", Which::Latest), r#"400 container "init" in pod "p" is not available"#);
    }

    #[test]
    fn init_and_ephemeral_containers_have_logs_too() {
        for (kind, name) in [("initContainerStatuses", "init"), ("ephemeralContainerStatuses", "debug")] {
            let status = format!(
                r#"{{"name": "{name}", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "containerID": "c://1", "state": {{{RUNNING}}}}}"#
            );
            assert_eq!(text(&pod(kind, &status), name, Which::Latest), "c://1 0");
        }
    }
}
