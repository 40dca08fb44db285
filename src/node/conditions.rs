//! Our conditions, and how they are merged with those of others. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Health;
use crate::cloud::CloudHealth;
use crate::link::Reach;
use crate::logs::archiver::Health as LogHealth;

/// The condition for trouble with the cloud.
pub(super) const CLOUD_REACHABLE: &str = "CloudReachable";
/// The condition for trouble with the archive of logs; there is none without an archive.
pub(super) const LOG_ARCHIVE: &str = "LogArchiveWorks";
/// The condition for trouble with the service that carries the links; there is none where no service does.
pub(super) const MACHINES_REACHABLE: &str = "MachinesReachable";
/// The condition that everybody looks at; it is true for as long as this process can write it.
pub(super) const READY: &str = "Ready";

/// What holds now, `Ready` last, as kubelets have it.
pub(super) fn ours(health: &Health, now: Timestamp) -> Vec<NodeCondition> {
    let condition = |type_: &str, status: &str, reason: &str, message: &str| NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let cloud = match &health.cloud {
        CloudHealth::Unknown => ("Unknown", "NotAskedYet", "the cloud was not asked yet"),
        CloudHealth::Reachable => ("True", "CloudAnswers", "the cloud answers"),
        CloudHealth::Unreachable { reason, message } => ("False", *reason, message.as_str()),
    };
    let logs = match &health.logs {
        LogHealth::Off => None,
        LogHealth::Unknown => Some(("Unknown", "NotAskedYet", "CloudWatch Logs was not asked yet")),
        LogHealth::Works => Some(("True", "ArchiveAnswers", "container logs go to CloudWatch Logs")),
        LogHealth::Fails { reason, message } => Some(("False", *reason, message.as_str())),
    };
    let logs = logs.map(|(status, reason, message)| condition(LOG_ARCHIVE, status, reason, message));
    let machines = match &health.machines {
        Reach::Off => None,
        Reach::Unknown => Some(("Unknown", "NotAskedYet", "no machine was dialed yet")),
        Reach::Works => Some(("True", "SessionsAreGiven", "sessions with machines are given")),
        Reach::Fails { reason, message, .. } => Some(("False", *reason, message.as_str())),
    };
    let machines =
        machines.map(|(status, reason, message)| condition(MACHINES_REACHABLE, status, reason, message));
    let conditions = [
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "every pod has a machine of its own",
        ),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "every pod has a machine of its own"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "every pod has a machine of its own"),
        // Route controllers of some clouds set it and taint the node, if nobody says that it is not so.
        condition("NetworkUnavailable", "False", "RouteCreated", "the cloud routes to every pod"),
        condition(CLOUD_REACHABLE, cloud.0, cloud.1, cloud.2),
    ];
    let ready = condition(READY, "True", "KubeletReady", "kubelet is posting ready status");
    conditions.into_iter().chain(machines).chain(logs).chain([ready]).collect()
}

/// `wanted` over what is there: transition times stay while the status does, foreign conditions stay as they are.
pub(super) fn merged(existing: &[NodeCondition], wanted: &[NodeCondition]) -> Vec<NodeCondition> {
    let is_ours = |condition: &NodeCondition| wanted.iter().any(|ours| ours.type_ == condition.type_);
    let mut merged: Vec<NodeCondition> =
        existing.iter().filter(|condition| !is_ours(condition)).cloned().collect();
    for ours in wanted {
        let mut ours = ours.clone();
        if let Some(before) = find(existing, &ours.type_)
            && before.status == ours.status
        {
            ours.last_transition_time = before.last_transition_time.clone();
        }
        merged.push(ours);
    }
    merged
}

/// Whether what is there says something else than `wanted`, times aside.
pub(super) fn differ(existing: &[NodeCondition], wanted: &[NodeCondition]) -> bool {
    wanted.iter().any(|ours| {
        find(existing, &ours.type_).is_none_or(|before| {
            // The cloud's refusals carry numbers and names that are new each time: the reason decides.
            let is_clouds = [CLOUD_REACHABLE, MACHINES_REACHABLE].contains(&ours.type_.as_str());
            let other_text = !is_clouds && before.message != ours.message;
            before.status != ours.status || before.reason != ours.reason || other_text
        })
    })
}

pub(super) fn find<'a>(conditions: &'a [NodeCondition], type_: &str) -> Option<&'a NodeCondition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
