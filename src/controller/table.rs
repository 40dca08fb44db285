//! What the process remembers of each pod UID. Losing it costs time, never correctness.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::journey::Journey;
use super::metrics::Metrics;
use super::stuck::Trouble;
use crate::capacity::avoid::Next;
use crate::cloud::{Instance, InstanceState, TAG_HOST_KEY};
use crate::pod::decide::{Absent, AbsentEnd, Lists, Memory};
use crate::pod::status;

/// The grace of a pod that nobody knows any more: Kubernetes' default.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// One pod UID.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracked {
    pub(super) memory: Memory,
    /// The newest version of the pod that this process saw, be it from the watch or from an answer.
    pub(super) latest: Option<Arc<Pod>>,
    /// A live read said that this UID does not exist; it never comes back.
    pub(super) gone: bool,
    /// Passes that failed in a row.
    pub(super) failures: u32,
    /// Passes in a row that were in a hurry.
    pub(super) rushes: u32,
    /// Launches in a row that came to nothing.
    pub(super) holds: u32,
    pub(super) first_seen: Option<Instant>,
    /// What failed last, until something works.
    pub(super) trouble: Option<Trouble>,
    /// The value with which somebody asked for another attempt, if anybody had, when the pod was last seen.
    pub(super) asked: Option<Option<String>>,
    /// How far its launch has come.
    pub(super) journey: Journey,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Table {
    rows: Mutex<HashMap<String, Tracked>>,
    metrics: Metrics,
}

impl Table {
    /// Nothing is known; how many pods are in which state is counted in `metrics`.
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { rows: Mutex::default(), metrics }
    }

    /// What is remembered, or nothing.
    pub(super) fn get(&self, uid: &str) -> Tracked {
        self.rows().get(uid).cloned().unwrap_or_default()
    }

    /// Changes what is remembered.
    pub(super) fn update<T>(&self, uid: &str, change: impl FnOnce(&mut Tracked) -> T) -> T {
        let mut rows = self.rows();
        let row = rows.entry(uid.to_owned()).or_default();
        let (before, was_stuck) = (row.memory.previous, row.stuck());
        let answer = change(row);
        self.metrics.moved(before, row.memory.previous);
        self.metrics.stuck(was_stuck, row.stuck());
        answer
    }

    /// Nothing is left of this UID.
    pub(super) fn forget(&self, uid: &str) {
        if let Some(row) = self.rows().remove(uid) {
            self.metrics.moved(row.memory.previous, None);
            self.metrics.stuck(row.stuck(), None);
            self.metrics.waits(uid, None);
        }
    }

    /// What of all rows is wanted.
    pub(super) fn collect<T>(&self, pick: impl Fn(&str, &Tracked) -> Option<T>) -> Vec<T> {
        self.rows().iter().filter_map(|(uid, row)| pick(uid, row)).collect()
    }

    /// All UIDs that anything is remembered of.
    pub(super) fn uids(&self) -> Vec<String> {
        self.rows().keys().cloned().collect()
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<String, Tracked>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    /// The newer one of what is remembered and what the watch has now; `None` if the pod is gone.
    pub(super) fn newest(&mut self, cached: Option<Arc<Pod>>) -> Option<Arc<Pod>> {
        if self.gone {
            return None;
        }
        let cached = cached?;
        self.first_seen.get_or_insert_with(Instant::now);
        let newer = match &self.latest {
            Some(latest) if version(latest) > version(&cached) => latest.clone(),
            Some(_) | None => cached,
        };
        self.latest = Some(newer.clone());
        self.memory.absent = None;
        Some(newer)
    }

    /// The pod as it is known now. With both lists read, one that is not there is absent.
    pub(super) fn look(
        &mut self,
        cached: Option<Arc<Pod>>,
        lists: Lists,
        now: Timestamp,
    ) -> Option<Arc<Pod>> {
        let pod = self.newest(cached);
        match &pod {
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                self.memory.deleting.get_or_insert(now);
            }
            Some(_) => {}
            None if lists == Lists::Read => drop(self.absent(now).clone()),
            None => {}
        }
        pod
    }

    /// The call of this token is over, for good.
    pub(super) fn refused(&mut self, token: &str, next: Next) {
        self.memory.failed = Some(token.to_owned());
        // It was used before, by whoever wrote that intent then.
        if next == Next::LookUp {
            self.memory.wrote = None;
        }
    }

    /// A machine was answered; one that was bootstrapped already was not made by this call.
    pub(super) fn answered(&mut self, instance: &Instance) {
        if instance.tags.contains_key(TAG_HOST_KEY) {
            self.memory.wrote = None;
        }
    }

    /// Notes since when a machine is on its way down.
    pub(super) fn mind_ending(&mut self, instances: &[Instance], now: Timestamp) {
        let is_ending = instances.iter().any(|one| one.state == InstanceState::ShuttingDown);
        self.memory.ending = is_ending.then(|| self.memory.ending.unwrap_or(now));
    }

    /// Notes that there is no pod, if that is news.
    pub(super) fn absent(&mut self, now: Timestamp) -> &mut Absent {
        let latest = self.latest.as_deref();
        self.memory.absent.get_or_insert_with(|| Absent {
            since: now,
            grace: latest.map_or(GRACE, grace),
            end: match latest {
                Some(pod) if status::is_terminal(pod) => AbsentEnd::Ended,
                Some(_) => AbsentEnd::Forced,
                None => AbsentEnd::Unknown,
            },
            sightings: 0,
        })
    }
}

/// The grace that the kubelet of a pod last saw.
fn grace(pod: &Pod) -> Duration {
    let asked = pod.metadata.deletion_grace_period_seconds;
    asked.and_then(|seconds| u64::try_from(seconds).ok()).map_or_else(|| spec_grace(pod), Duration::from_secs)
}

/// The pod's own `terminationGracePeriodSeconds`.
pub(super) fn spec_grace(pod: &Pod) -> Duration {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(GRACE, Duration::from_secs)
}

/// Resource versions of one object are comparable numbers (since Kubernetes 1.35 by contract, before that in fact).
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_pod(version: &str, phase: &str, grace: i64) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.resource_version = Some(version.to_owned());
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        pod.status.get_or_insert_default().phase = Some(phase.to_owned());
        Arc::new(pod)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_watch_is_overruled_by_an_answer_and_by_a_proof_of_absence() {
        let mut row = Tracked { latest: Some(mk_pod("9", "Failed", 0)), ..Tracked::default() };
        let phase = |pod: Option<Arc<Pod>>| pod.and_then(|pod| pod.status.clone()?.phase);
        assert_eq!(phase(row.newest(Some(mk_pod("8", "Running", 0)))).as_deref(), Some("Failed"));
        assert_eq!(phase(row.newest(Some(mk_pod("10", "Succeeded", 0)))).as_deref(), Some("Succeeded"));
        row.gone = true;
        assert_eq!(phase(row.newest(Some(mk_pod("11", "Running", 0)))), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_of_an_absent_pod_is_what_was_last_seen() {
        let end = |latest: Option<Arc<Pod>>| {
            let mut row = Tracked { latest, ..Tracked::default() };
            let absent = row.absent(Timestamp::UNIX_EPOCH);
            (absent.end, absent.grace.as_secs())
        };
        assert_eq!(end(None), (AbsentEnd::Unknown, 30));
        assert_eq!(end(Some(mk_pod("1", "Running", 7))), (AbsentEnd::Forced, 7));
        assert_eq!(end(Some(mk_pod("1", "Succeeded", 7))), (AbsentEnd::Ended, 7));
    }
}
