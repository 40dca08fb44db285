//! The story of a pod, as Kubernetes events: `kubectl describe pod` tells what happened to its machine.
//!
//! Nobody waits for an event: they go through a bounded queue to one writer, which counts repetitions instead of
//! writing them again, and drops what it cannot write.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::deadline;
use crate::clock;
use crate::pod::decide::{Note, NoteKind};

/// Events that may wait: ten for each pod of a burst of 200.
const QUEUE: usize = 2048;
/// Repetitions within this time are counted, later ones are written anew.
const COUNTED: Duration = Duration::from_secs(600);
/// Events that are remembered for counting.
const REMEMBERED: usize = 4096;

/// Where events are told.
#[derive(Clone, Debug)]
pub(super) struct Story {
    lines: mpsc::Sender<Line>,
}

#[derive(Debug)]
struct Line {
    about: ObjectReference,
    note: Note,
}

#[derive(Debug)]
struct Told {
    name: String,
    count: i32,
    at: Instant,
}

impl Story {
    /// The telling end, and the end that [`write()`] reads.
    pub(super) fn new() -> (Self, Lines) {
        let (lines, receiver) = mpsc::channel(QUEUE);
        (Self { lines }, Lines(receiver))
    }

    /// Tells something about a pod.
    pub(super) fn tell(&self, about: ObjectReference, note: Note) {
        tracing::info!(
            pod.namespace = about.namespace,
            pod.name = about.name,
            pod.uid = about.uid,
            reason = note.reason,
            "{}",
            note.text
        );
        if let Err(error) = self.lines.try_send(Line { about, note }) {
            tracing::debug!(%error, "an event is dropped");
        }
    }
}

/// Events to be written.
#[derive(Debug)]
pub(super) struct Lines(mpsc::Receiver<Line>);

/// Writes events until nobody tells any more. `reporter` is the name of the virtual node.
pub(super) async fn write(client: kube::Client, reporter: String, mut lines: Lines) {
    let mut told: HashMap<(String, &'static str, String), Told> = HashMap::new();
    while let Some(Line { about, note }) = lines.0.recv().await {
        if told.len() >= REMEMBERED {
            told.retain(|_, one| one.at.elapsed() < COUNTED);
        }
        if told.len() >= REMEMBERED {
            told.clear();
        }
        let key = (about.uid.clone().unwrap_or_default(), note.reason, note.text.clone());
        let api: Api<Event> =
            Api::namespaced(client.clone(), about.namespace.as_deref().unwrap_or("default"));
        let known = told.get_mut(&key).filter(|one| one.at.elapsed() < COUNTED);
        let result = match known {
            Some(one) => {
                one.count += 1;
                let patch = json!({"count": one.count, "lastTimestamp": Time(clock::now())});
                let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
                deadline("counting an event", api.patch(&one.name, &params, &patch)).await
            }
            None => {
                let event = mk_event(about, note, &reporter);
                let name = event.metadata.name.clone().unwrap_or_default();
                told.insert(key, Told { name, count: 1, at: Instant::now() });
                deadline("writing an event", api.create(&PostParams::default(), &event)).await
            }
        };
        if let Err(error) = result {
            tracing::warn!(%error, "an event could not be written");
        }
    }
}

fn mk_event(about: ObjectReference, note: Note, reporter: &str) -> Event {
    let now = clock::now();
    let type_ = match note.kind {
        NoteKind::Normal => "Normal",
        NoteKind::Warning => "Warning",
    };
    Event {
        metadata: ObjectMeta {
            // Unique without asking: the API server's own generated names cannot be patched before they are known.
            name: Some(format!(
                "{}.{}",
                about.name.as_deref().unwrap_or("pod"),
                uuid::Uuid::new_v4().simple()
            )),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: about,
        reason: Some(note.reason.to_owned()),
        message: Some(note.text),
        type_: Some(type_.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        event_time: None::<MicroTime>,
        source: Some(EventSource { component: Some("orca".to_owned()), host: Some(reporter.to_owned()) }),
        reporting_component: Some("orca".to_owned()),
        reporting_instance: Some(reporter.to_owned()),
        ..Event::default()
    }
}
