//! What makes the controller look at a pod: the pod itself, and its link.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::{Core, Urgency};
use crate::informer::Changed;
use crate::logs::archiver::Drain;

impl Core {
    /// Looks at every pod that changes. Ends with the informer.
    pub(super) async fn watch_pods(self: Arc<Self>) {
        let mut changes = self.pods.subscribe();
        self.pods.wait_synced().await;
        self.look_at_everything();
        loop {
            match changes.recv().await {
                Ok(changed) => self.changed(&changed),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "changes of pods came faster than they were read; looking at all");
                    self.look_at_everything();
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn changed(&self, changed: &Changed) {
        let cached = self.pods.get(&changed.namespace, &changed.name);
        let cached = cached.filter(|pod| pod.metadata.uid.as_deref() == Some(&changed.uid));
        let ends = cached.as_ref().is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        if let Some(pod) = cached {
            // The last version before a pod vanishes tells how it ended.
            self.table.update(&changed.uid, |row| row.newest(Some(pod)));
        }
        self.queue.add(
            &changed.uid,
            Some(&changed.namespace),
            if ends { Urgency::Urgent } else { Urgency::Normal },
        );
    }

    /// Looks at every pod whose link changes. Ends with the links.
    pub(super) async fn watch_links(self: Arc<Self>) {
        let mut changes = self.links.subscribe();
        loop {
            match changes.recv().await {
                Ok(uid) => self.queue.add(&uid, None, Urgency::Normal),
                Err(broadcast::error::RecvError::Lagged(_)) => self.look_at_everything(),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Looks at every pod whose logs are all archived. Ends with the archive.
    pub(super) async fn watch_logs(self: Arc<Self>, logs: Arc<dyn Drain>) {
        let mut changes = logs.subscribe();
        loop {
            match changes.recv().await {
                Ok(uid) => self.queue.add(&uid, None, Urgency::Urgent),
                Err(broadcast::error::RecvError::Lagged(_)) => self.look_at_everything(),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Whatever has a pod, a memory, a link or a machine.
    pub(super) fn look_at_everything(&self) {
        for pod in self.pods.all() {
            if let Some(uid) = &pod.metadata.uid {
                self.queue.add(uid, pod.metadata.namespace.as_deref(), Urgency::Normal);
            }
        }
        for uid in self.table.uids().into_iter().chain(self.links.uids()).chain(self.fleet.uids()) {
            self.queue.add(&uid, None, Urgency::Normal);
        }
    }
}
