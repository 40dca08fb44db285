//! What is known of this node's pods: as they were seen last, and what became of those that are seen no more. Pure; the
//! time is an argument.
//!
//! RunPod forgets a pod at once when it is deleted, by whomever, and its lists may lag behind its answers. So a pod is
//! gone when two reads in a row lack it, and until then it is as it was last seen; one that we deleted is on its way down
//! until then. What is gone is shown for an hour, as EC2 shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::markers;
use super::types::{Sighting, Status};
use crate::cloud::{Bought, Instance, InstanceState, StateReason};

/// So many reads in a row must lack a pod.
const MISSES: u32 = 2;
/// So far from each other: what one server does not know yet, it does not know a moment later either.
const APART: Duration = Duration::from_secs(2);
/// After its creation a pod may be in no list for so long.
const SETTLING: Duration = Duration::from_secs(60);
/// What is gone is shown for so long.
const SHOWN: Duration = Duration::from_secs(3600);
/// After so long, a pod that can never run again is deleted, whoever forgot it: its disk costs.
const BURIED: Duration = Duration::from_secs(600);

/// The pods, by id.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    seen: Sighting,
    /// When the read that shows it so was begun.
    seen_at: Instant,
    /// When this process created it, if it did.
    created: Option<Instant>,
    /// We deleted it.
    is_deleted: bool,
    misses: u32,
    missed_at: Option<Instant>,
    /// Since when it is in a state that is the end.
    over: Option<Instant>,
    gone: Option<Instant>,
}

impl Book {
    /// Takes over a list of all of this node's pods that was asked for at `began`.
    pub(super) fn list(&mut self, pods: Vec<Sighting>, began: Instant, now: Instant) {
        let listed: std::collections::HashSet<String> = pods.iter().map(|pod| pod.id.clone()).collect();
        for pod in pods {
            self.put(pod, began, now);
        }
        for entry in self.entries.values_mut().filter(|entry| !listed.contains(&entry.seen.id)) {
            entry.miss(began, now);
        }
        self.forget(now);
    }

    /// Takes over one pod as it was read, asked at `began`.
    pub(super) fn put(&mut self, seen: Sighting, began: Instant, now: Instant) {
        let entry = self.entries.entry(seen.id.clone()).or_insert_with(|| Entry::new(seen.clone(), began));
        entry.see(seen, began, now);
    }

    /// A pod that this process created.
    pub(super) fn created(&mut self, seen: Sighting, now: Instant) {
        let id = seen.id.clone();
        self.put(seen, now, now);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.created = Some(now);
        }
    }

    /// RunPod does not know this pod, asked at `began`.
    pub(super) fn missed(&mut self, id: &str, began: Instant, now: Instant) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.miss(began, now);
        }
    }

    /// RunPod took our deletion.
    pub(super) fn deleted(&mut self, id: &str) {
        // Of what was gone before, that was not the reason.
        if let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.gone.is_none()) {
            entry.is_deleted = true;
        }
    }

    /// Whether it is one of this node's.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.entries.contains_key(id)
    }

    /// A pod that is known, gone or not.
    pub(super) fn instance(&self, id: &str) -> Option<Instance> {
        self.entries.get(id).map(Entry::instance)
    }

    /// Every pod that is known.
    pub(super) fn instances(&mut self, now: Instant) -> Vec<Instance> {
        self.forget(now);
        self.entries.values().map(Entry::instance).collect()
    }

    /// All that a token made, the oldest first.
    pub(super) fn of_token(&self, token: &str) -> Vec<Instance> {
        let mut all: Vec<&Entry> =
            self.entries.values().filter(|entry| markers::token(&entry.seen) == Some(token)).collect();
        all.sort_by_key(|entry| {
            (entry.seen.created_at.is_none(), entry.seen.created_at, entry.seen.id.clone())
        });
        all.into_iter().map(Entry::instance).collect()
    }

    /// Pods that can never run again, are still there, and have been so for a while.
    pub(super) fn unburied(&self, now: Instant) -> Vec<Instance> {
        let is_due = |entry: &&Entry| {
            let is_old = entry.over.is_some_and(|at| now.saturating_duration_since(at) >= BURIED);
            is_old && entry.gone.is_none() && !entry.is_deleted
        };
        self.entries.values().filter(is_due).map(Entry::instance).collect()
    }

    fn forget(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.gone.is_none_or(|at| now.saturating_duration_since(at) < SHOWN));
    }
}

impl Entry {
    fn new(seen: Sighting, seen_at: Instant) -> Self {
        Self {
            seen,
            seen_at,
            created: None,
            is_deleted: false,
            misses: 0,
            missed_at: None,
            over: None,
            gone: None,
        }
    }

    fn see(&mut self, seen: Sighting, began: Instant, now: Instant) {
        // A read that lacks the environment takes nothing away of what is known.
        let markers = if seen.markers.is_empty() {
            std::mem::take(&mut self.seen.markers)
        } else {
            seen.markers.clone()
        };
        self.seen = Sighting { markers, ..seen };
        self.seen_at = self.seen_at.max(began);
        (self.misses, self.missed_at) = (0, None);
        self.over = match self.seen.status {
            Status::Error | Status::Terminated => self.over.or(Some(now)),
            Status::Provisioning | Status::Starting | Status::Running | Status::Exited | Status::Other(_) => {
                None
            }
        };
        // What RunPod calls deleted and still shows is gone all the same.
        self.gone = match self.seen.status {
            Status::Terminated => self.gone.or(Some(now)),
            _ => None,
        };
    }

    /// A read that began then lacks it.
    fn miss(&mut self, began: Instant, now: Instant) {
        let is_settling = self.created.is_some_and(|at| began < at + SETTLING) && !self.is_deleted;
        let is_same = self.missed_at.is_some_and(|at| now < at + APART);
        // Another read that was begun later has shown it.
        if self.gone.is_some() || is_settling || is_same || began < self.seen_at {
            return;
        }
        self.misses += 1;
        self.missed_at = Some(now);
        if self.misses >= MISSES {
            self.gone = Some(now);
        }
    }

    fn instance(&self) -> Instance {
        let (state, reason) = self.state();
        let seen = &self.seen;
        Instance {
            id: seen.id.clone(),
            state,
            state_reason: reason.map(|(code, message)| StateReason { code: code.to_owned(), message }),
            instance_type: seen.hardware_id.clone(),
            image_id: seen.image.clone(),
            zone: seen.data_center_id.clone().unwrap_or_default(),
            subnet_id: String::new(),
            private_ip: None,
            pod_ip: None,
            launched_at: seen.created_at,
            client_token: markers::token(seen).map(str::to_owned),
            bought: Bought::default(),
            tags: markers::tags(seen),
            runpod: Some(Box::new(seen.clone())),
        }
    }

    /// The states of EC2 that others know, and why it is in one that is an end.
    fn state(&self) -> (InstanceState, Option<(&'static str, String)>) {
        let said = |code, text: &str| Some((code, text.to_owned()));
        if self.gone.is_some() {
            let reason = match (self.is_deleted, &self.seen.status) {
                (true, _) => said("RunPod.Deleted", "the pod was deleted by ORCA"),
                (false, Status::Error) => said("RunPod.Error", "RunPod said ERROR, and the pod is gone"),
                (false, Status::Terminated) => said("RunPod.Vanished", "RunPod says TERMINATED"),
                (false, Status::Exited) => said("RunPod.Vanished", "the pod had stopped, and is gone"),
                (false, _) => {
                    said("RunPod.Vanished", "RunPod knows the pod no more, and ORCA did not delete it")
                }
            };
            return (InstanceState::Terminated, reason);
        }
        match &self.seen.status {
            Status::Error => (
                InstanceState::Terminated,
                said("RunPod.Error", "RunPod says ERROR: the pod can never run again"),
            ),
            Status::Terminated => {
                (InstanceState::Terminated, said("RunPod.Vanished", "RunPod says TERMINATED"))
            }
            _ if self.is_deleted => {
                (InstanceState::ShuttingDown, said("RunPod.Deleted", "the pod was deleted by ORCA"))
            }
            Status::Provisioning | Status::Starting => (InstanceState::Pending, None),
            Status::Running => (InstanceState::Running, None),
            Status::Exited => {
                (InstanceState::Stopped, said("RunPod.Exited", "RunPod says EXITED: the pod was stopped"))
            }
            // A word that RunPod adds one day must not make a pod look gone.
            Status::Other(_) if self.seen.uptime.is_some_and(|uptime| !uptime.is_zero()) => {
                (InstanceState::Running, None)
            }
            Status::Other(_) => (InstanceState::Pending, None),
        }
    }
}

/// Whether the cloud says of it that its token can be used no more.
pub(super) fn is_spent(instance: &Instance) -> bool {
    match instance.state {
        InstanceState::Stopped | InstanceState::ShuttingDown | InstanceState::Terminated => true,
        InstanceState::Pending | InstanceState::Running | InstanceState::Stopping => false,
    }
}

#[cfg(test)]
mod tests;
