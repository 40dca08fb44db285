//! The one list of all instances, and what it shows that no pod owns.
//!
//! The cloud is listed before the pods are looked at: a pod that is there afterwards may have been there before,
//! one that is not was not launched for in between. Suspects are only counted here; the decision about them is
//! the same pure function as for every pod, on a live read.

use std::sync::Arc;
use std::time::Duration;

use super::{Core, Urgency, back_off, deadline};
use crate::capacity::money::MicroUsd;
use crate::clock;
use crate::cloud::{Instance, TAG_NODE};
use crate::node::events;
use crate::pod::decide::{AbsentEnd, Hold, Note, NoteKind};
use crate::pod::reasons;

/// At rest.
const PERIOD: Duration = Duration::from_secs(10);
/// While a machine is on its way up, or one was seen for the first time without its pod: still one call for all.
const PERIOD_MOVING: Duration = Duration::from_secs(2);
/// After a list that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Machines whose pods nobody saw since the process started.
#[derive(Default)]
struct Orphans {
    machines: i64,
    /// Per hour.
    cost: MicroUsd,
}

impl Core {
    /// Lists all instances again and again.
    pub(super) async fn watch_instances(self: Arc<Self>) {
        let mut failures: u32 = 0;
        loop {
            let pause = match deadline("listing the instances", self.cloud.instances()).await {
                Ok(list) => {
                    failures = 0;
                    self.health.listed(self.cloud.trouble().as_ref().map_or(Ok(()), Err));
                    self.metrics.listed.set(clock::now().as_second());
                    self.take_list(list);
                    let are_suspects = self.suspect();
                    if are_suspects || self.fleet.is_moving() { PERIOD_MOVING } else { PERIOD }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.health.listed(Err(&error));
                    tracing::warn!(failures, %error, "listing the instances failed");
                    back_off(RETRY, PERIOD, failures)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Takes over a list, and has every pod looked at whose machines changed.
    pub(super) fn take_list(&self, list: Vec<Instance>) {
        let node = self.config.node.name.as_str();
        let ours: Vec<Instance> =
            list.into_iter().filter(|one| one.tags.get(TAG_NODE).map(String::as_str) == Some(node)).collect();
        let was_read = self.fleet.is_read();
        let size = self.fleet.size();
        if self.fleet.frees(&ours) {
            self.market.freed();
        }
        let changed = self.fleet.replace(ours, clock::steady());
        let left = self.fleet.size();
        self.metrics.instances.set(i64::try_from(left).unwrap_or(i64::MAX));
        self.metrics.hourly_cost.set(self.hourly_cost().dollars());
        for uid in changed {
            self.queue.add(&uid, None, Urgency::Normal);
        }
        if !was_read {
            self.look_at_everything();
        } else if left < size {
            self.wake_limited();
        }
    }

    /// Notes every machine and every link that no pod owns. Whether the next list will say more: a machine is among them
    /// that was not before, or nobody knows yet. A process that never lives long must come to that list.
    fn suspect(&self) -> bool {
        if !self.pods.is_synced() {
            return true;
        }
        let mut are_new = false;
        let pods: std::collections::HashSet<String> =
            self.pods.all().iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        let mut orphans = Orphans::default();
        for uid in self.fleet.uids().into_iter().filter(|uid| !pods.contains(uid)) {
            let sightings = self.table.update(&uid, |row| {
                let absent = row.absent(clock::steady());
                absent.sightings = absent.sightings.saturating_add(1);
                (absent.sightings, absent.end)
            });
            if sightings.1 == AbsentEnd::Unknown {
                are_new |= sightings.0 == 1;
                self.count(&uid, sightings.0, &mut orphans);
            }
            self.queue.add(&uid, None, Urgency::Urgent);
        }
        self.metrics.orphans.set(orphans.machines);
        self.metrics.orphans_cost.set(orphans.cost.dollars());
        for uid in self.links.uids().into_iter().filter(|uid| !pods.contains(uid)) {
            self.queue.add(&uid, None, Urgency::Normal);
        }
        are_new
    }

    /// Counts the machines of a pod that nobody ever saw, and tells the node of them once.
    fn count(&self, uid: &str, sightings: u32, orphans: &mut Orphans) {
        let snapshot = self.market.snapshot();
        for one in self.fleet.of(uid).into_iter().filter(|one| one.state.may_run()) {
            let cost = snapshot.rates().of_machine(&one);
            orphans.machines += 1;
            orphans.cost = [orphans.cost, cost].into_iter().sum();
            if sightings == 1 {
                let text = format!(
                    "instance {} ({}, ${cost} an hour) has no pod, and is ended if the next list of machines shows it still",
                    one.id, one.instance_type
                );
                let about = events::about(&self.config.node.name);
                self.story.tell(about, Note { kind: NoteKind::Warning, reason: reasons::ORPHAN, text });
            }
        }
    }

    /// There is room again: whoever waits for it is looked at.
    pub(super) fn wake_limited(&self) {
        self.wake(|hold| [reasons::INSTANCE_LIMIT, reasons::BUDGET].contains(&hold.reason));
    }

    /// Looks again at pods that wait for capacity whenever the market is known better. Never ends.
    pub(super) async fn watch_market(self: Arc<Self>) {
        let mut changes = self.market.changed();
        let mut before = *changes.borrow_and_update();
        while changes.changed().await.is_ok() {
            let now = *changes.borrow_and_update();
            if now.reservations != before.reservations {
                self.blocked().reservations_were_read();
                // A block may end at another time than it was known to.
                for uid in self.fleet.uids_in_blocks() {
                    self.queue.add(&uid, None, Urgency::Normal);
                }
            }
            if now.spot != before.spot {
                self.blocked().prices_were_read();
            }
            before = now;
            self.wake(|hold| reasons::waits_for_market(hold.reason));
        }
        std::future::pending().await
    }

    /// Whoever is held back for such a reason is looked at now.
    pub(super) fn wake(&self, is_due: impl Fn(&Hold) -> bool) {
        for uid in self.table.uids() {
            let woken = self.table.update(&uid, |row| row.memory.hold.take_if(|hold| is_due(hold)).is_some());
            if woken {
                self.queue.add(&uid, None, Urgency::Normal);
            }
        }
    }
}
