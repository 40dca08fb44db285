//! Events of the Node: the cloud was lost, the cloud is back; and whatever other parts tell about it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};

use super::CloudHealth;
use crate::failpoint::{self, Write};
use crate::link::Reach;
use crate::logs::archiver::Health as LogHealth;
use crate::pod::reasons;

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// `Normal` or `Warning`.
    pub(crate) kind: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What changed between two looks at the cloud, if it is worth telling. A new text for the same reason is not.
pub(super) fn about_cloud(before: &CloudHealth, now: &CloudHealth) -> Option<Told> {
    match (before, now) {
        (CloudHealth::Unreachable { reason: before, .. }, CloudHealth::Unreachable { reason: now, .. })
            if before == now =>
        {
            None
        }
        (_, CloudHealth::Unreachable { reason, message }) => Some(Told {
            kind: "Warning",
            reason: reasons::CLOUD_UNREACHABLE,
            message: format!("{reason}: {message}"),
        }),
        (CloudHealth::Unreachable { .. }, CloudHealth::Reachable) => Some(Told {
            kind: "Normal",
            reason: reasons::CLOUD_REACHABLE,
            message: "the cloud answers again".to_owned(),
        }),
        (_, CloudHealth::Reachable | CloudHealth::Unknown) => None,
    }
}

/// As [`about_cloud`], of the way to machines.
pub(super) fn about_machines(before: &Reach, now: &Reach) -> Option<Told> {
    match (before, now) {
        (Reach::Fails { reason: before, .. }, Reach::Fails { reason: now, .. }) if before == now => None,
        (_, Reach::Fails { reason, message, .. }) => Some(Told {
            kind: "Warning",
            reason: reasons::MACHINES_UNREACHABLE,
            message: format!(
                "{reason}: {message}; running pods go on, nothing is launched, and no machine is given up for it"
            ),
        }),
        (Reach::Fails { .. }, Reach::Works) => Some(Told {
            kind: "Normal",
            reason: reasons::MACHINES_REACHABLE,
            message: "sessions with machines are given again".to_owned(),
        }),
        (_, Reach::Works | Reach::Unknown | Reach::Off) => None,
    }
}

/// As [`about_cloud`], of the archive of logs.
pub(super) fn about_logs(before: &LogHealth, now: &LogHealth) -> Option<Told> {
    match (before, now) {
        (LogHealth::Fails { reason: before, .. }, LogHealth::Fails { reason: now, .. }) if before == now => {
            None
        }
        (_, LogHealth::Fails { reason, message }) => Some(Told {
            kind: "Warning",
            reason: reasons::LOG_ARCHIVE_FAILS,
            message: format!("{reason}: {message}; pods run on, and their logs wait on their machines"),
        }),
        (LogHealth::Fails { .. }, LogHealth::Works) => Some(Told {
            kind: "Normal",
            reason: reasons::LOG_ARCHIVE_WORKS,
            message: "container logs go to CloudWatch Logs again".to_owned(),
        }),
        (_, LogHealth::Works | LogHealth::Unknown | LogHealth::Off) => None,
    }
}

/// Writes it. Events about nodes live in `default`.
pub(crate) async fn send(client: &Client, node: &str, told: &Told, now: Timestamp) -> Result<(), Error> {
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{node}.{:x}", now.as_nanosecond())),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: about(node),
        type_: Some(told.kind.to_owned()),
        reason: Some(told.reason.to_owned()),
        message: Some(told.message.chars().take(1024).collect()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some("orca".to_owned()), host: Some(node.to_owned()) }),
        ..Event::default()
    };
    let (api, params) = (Api::namespaced(client.clone(), "default"), PostParams::default());
    failpoint::around(Write::NodeEvent, api.create(&params, &event)).await.map(|_| ())
}

/// The Node, as events name it.
pub(crate) fn about(node: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(node.to_owned()),
        // As kubelets do: `kubectl describe node` looks for the name here.
        uid: Some(node.to_owned()),
        ..ObjectReference::default()
    }
}
