//! The lists of what machines left behind, and its end: volumes and network interfaces that outlived their machine
//! although they were asked for so that they go with it.
//!
//! They cost little beside machines, so they are looked for seldom. The cloud is listed before machines are looked at; who
//! may go is for [`book`] to say, and is asked again with a live list of machines before anything is deleted.

pub(crate) mod book;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Core, back_off, deadline, metrics};
use crate::capacity::money::MicroUsd;
use crate::clock;
use crate::cloud::{CloudError, Leftover, LeftoverKind};
use crate::failpoint::{self, Write};
use crate::node::events;
use crate::pod::decide::{Lists, Note, NoteKind};
use crate::pod::reasons;
use book::{AGE, Book, Eye, Look, is_claimed, told};

/// The first list after the start, when pods and machines are known.
const FIRST: Duration = Duration::from_secs(60);
/// At rest.
const PERIOD: Duration = Duration::from_secs(600);
/// After a list that failed, and after a deletion that did; doubled with each, up to the period.
const RETRY: Duration = Duration::from_secs(30);
/// Where a permission is missing: somebody has to grant it.
const DENIED: Duration = Duration::from_secs(3600);

/// The sweep of one kind.
#[derive(Debug)]
struct Sweep {
    kind: LeftoverKind,
    book: Book,
    /// In a row.
    failures: u32,
    /// The node was told that something is not allowed.
    is_denied: bool,
}

impl Core {
    /// Looks for leftovers of one kind again and again.
    pub(super) async fn watch_leftovers(self: Arc<Self>, kind: LeftoverKind) {
        let mut sweep = Sweep { kind, book: Book::default(), failures: 0, is_denied: false };
        let mut pause = FIRST;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.sweep_leftovers(&mut sweep).await {
                Ok(awaits) => {
                    if std::mem::take(&mut sweep.is_denied) {
                        tracing::info!(kind = kind.label(), "what machines left behind is swept again");
                    }
                    sweep.failures = 0;
                    if awaits { AGE } else { PERIOD }
                }
                Err((action, error @ CloudError::Denied { .. })) => {
                    if !std::mem::replace(&mut sweep.is_denied, true) {
                        self.tell_denied(kind, action, &error);
                    }
                    DENIED
                }
                Err((action, error)) => {
                    sweep.failures = sweep.failures.saturating_add(1);
                    let failures = sweep.failures;
                    tracing::warn!(action, failures, %error, "sweeping what machines left behind failed");
                    back_off(RETRY, PERIOD, failures)
                }
            };
        }
    }

    /// One list, and the end of what may go. Whether another list soon may let more go; or what failed, and how.
    async fn sweep_leftovers(&self, sweep: &mut Sweep) -> Result<bool, (&'static str, CloudError)> {
        let kind = sweep.kind;
        let list = deadline("listing what machines left behind", self.cloud.leftovers(kind)).await;
        let list = list.map_err(|error| (kind.list_action(), error))?;
        let eye = Eye {
            cluster_id: &self.cluster_id,
            node: &self.config.node.name,
            alive: &self.fleet.claims(),
            steady: clock::steady(),
            wall: clock::now(),
        };
        let Look { mut ours, fresh, due, awaits } = sweep.book.take(list, &eye);
        self.count_leftovers(kind, &ours);
        if !fresh.is_empty() {
            let reason = match kind {
                LeftoverKind::Volume => reasons::ORPHANED_VOLUME,
                LeftoverKind::NetworkInterface => reasons::ORPHANED_INTERFACE,
            };
            self.tell_node(reason, told(kind, &fresh));
        }
        if due.is_empty() {
            return Ok(awaits);
        }
        // Nothing is destroyed before pods and machines were both read in full, nor on the way out.
        if self.lists() != Lists::Read || self.draining.is_asked() {
            return Ok(true);
        }
        let alive = self.alive_now().await.map_err(|error| ("DescribeInstances", error))?;
        let due = due.into_iter().filter(|one| !is_claimed(one, &alive)).collect();
        let done = self.discard(sweep, due, &mut ours).await;
        self.count_leftovers(kind, &ours);
        done.map(|()| awaits)
    }

    fn count_leftovers(&self, kind: LeftoverKind, ours: &[Leftover]) {
        let of = metrics::OfKind { kind: kind.label() };
        self.metrics.leftovers.get_or_create(&of).set(i64::try_from(ours.len()).unwrap_or(i64::MAX));
        let cost: MicroUsd = ours.iter().filter_map(Leftover::hourly).sum();
        self.metrics.leftovers_cost.get_or_create(&of).set(cost.dollars());
    }

    /// UIDs of the pods that have a machine, or are being given one, by the cloud's word of now and our own.
    async fn alive_now(&self) -> Result<HashSet<String>, CloudError> {
        let listed = deadline("listing the instances", self.cloud.instances()).await?;
        let alive = listed.iter().filter(|one| one.state.may_run()).filter_map(|one| one.pod_uid());
        Ok(alive.map(str::to_owned).chain(self.fleet.claims()).collect())
    }

    /// Deletes what is due, one after the other, and takes it out of `ours`. What fails does not keep the others; the last
    /// failure is answered.
    async fn discard(
        &self,
        sweep: &mut Sweep,
        due: Vec<Leftover>,
        ours: &mut Vec<Leftover>,
    ) -> Result<(), (&'static str, CloudError)> {
        let mut failed = None;
        for one in due {
            if self.draining.is_asked() {
                break;
            }
            let write = match one.kind {
                LeftoverKind::Volume => Write::DeleteVolume,
                LeftoverKind::NetworkInterface => Write::DeleteInterface,
            };
            let call = failpoint::around(write, self.cloud.discard(one.kind, &one.id));
            let result = deadline("deleting what a machine left behind", call).await;
            let (pod, detail) = (one.pod(), format!("{}, {}", one.id, one.brief()));
            let deed = one.deletion(&pod, &detail);
            deed.record(&result);
            let outcome = result.as_ref().map_or_else(CloudError::kind, |()| "ok");
            let of = metrics::Deletion { kind: one.kind.label(), result: outcome };
            self.metrics.leftovers_deleted.get_or_create(&of).inc();
            match result {
                Ok(()) => ours.retain(|other| other.id != one.id),
                // Something has it again: it is looked at anew.
                Err(CloudError::Invalid { .. }) => sweep.book.forget(&one.id),
                // The same would be said of all others.
                Err(error @ (CloudError::Denied { .. } | CloudError::Throttled { .. })) => {
                    return Err((deed.action, error));
                }
                Err(error) => failed = Some((deed.action, error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Says once what is missing: AWS's own words may be a kilobyte of code, and the log of calls has them.
    fn tell_denied(&self, kind: LeftoverKind, action: &'static str, error: &CloudError) {
        tracing::warn!(action, %error, "what machines leave behind cannot be swept; asked again every hour");
        let text = format!(
            "{action} is denied ({}): {}s that outlive their machines are not deleted; the policy is in docs/operations.md",
            error.code(),
            kind.noun()
        );
        self.tell_node(reasons::LEFTOVERS_DENIED, text);
    }

    fn tell_node(&self, reason: &'static str, text: String) {
        let about = events::about(&self.config.node.name);
        self.story.tell(about, Note { kind: NoteKind::Warning, reason, text });
    }
}
