//! The story of a pod, as Kubernetes events: `kubectl describe pod` tells what happened to its machine.
//!
//! Nobody waits for an event: they go through a bounded queue to one writer, which counts repetitions instead of
//! writing them again, and drops what it cannot write.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::deadline;
use crate::clock;
use crate::failpoint::{self, Write};
use crate::pod::decide::{Note, NoteKind};

/// Events that may wait: ten for each pod of a burst of 200.
const QUEUE: usize = 2048;
/// Repetitions within this time are counted, later ones are written anew.
const COUNTED: Duration = Duration::from_secs(600);
/// Of a pod's name, in names of events: they have 253 characters at most, and 17 are for the time.
const LONGEST: usize = 236;
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

    /// Waits until all that was told is being written.
    pub(super) async fn told(&self) {
        // An error is that nobody writes any more.
        drop(self.lines.reserve_many(self.lines.max_capacity()).await);
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
    let mut names = Names::default();
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
                let call = failpoint::around(Write::PodEvent, api.patch(&one.name, &params, &patch));
                deadline("counting an event", call).await
            }
            None => {
                let now = clock::now();
                let name = names.next(about.name.as_deref().unwrap_or("pod"), now);
                let event = mk_event(name.clone(), about, note, &reporter, now);
                told.insert(key, Told { name, count: 1, at: Instant::now() });
                let params = PostParams::default();
                let call = failpoint::around(Write::PodEvent, api.create(&params, &event));
                deadline("writing an event", call).await
            }
        };
        if let Err(error) = result {
            tracing::warn!(%error, "an event could not be written");
        }
    }
}

/// Names of events, in the kubelet's manner: their order is that of the telling. Times of events have seconds only, and
/// `kubectl` leaves those of one second in the order of their names.
#[derive(Debug, Default)]
struct Names {
    last: i128,
}

impl Names {
    fn next(&mut self, about: &str, now: Timestamp) -> String {
        self.last = now.as_nanosecond().max(self.last + 1);
        let about = about.get(..LONGEST).map_or(about, |cut| cut.trim_end_matches(['.', '-']));
        format!("{about}.{:x}", self.last)
    }
}

fn mk_event(name: String, about: ObjectReference, note: Note, reporter: &str, now: Timestamp) -> Event {
    let type_ = match note.kind {
        NoteKind::Normal => "Normal",
        NoteKind::Warning => "Warning",
    };
    Event {
        metadata: ObjectMeta {
            name: Some(name),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_later_has_a_later_name_even_in_the_same_moment_or_when_the_clock_goes_back() {
        let mut names = Names::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let seconds = [1_800_000_000, 1_800_000_000, 1_799_999_999, 1_800_000_001];
        let told = seconds.map(|second| names.next("train", at(second)));
        assert_eq!(told[0], "train.18fae27693b40000");
        assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
        let long = names.next(&format!("{}-{}", "a".repeat(235), "b".repeat(17)), at(1_800_000_002));
        assert_eq!(long, format!("{}.18fae2770ae99400", "a".repeat(235)));
    }
}
