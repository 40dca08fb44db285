//! The one list of scheduled events: pods are told of them, and whoever has to leave its machine is looked at.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::metrics::OfKind;
use super::{Core, Urgency, back_off, deadline, table};
use crate::clock;
use crate::cloud::{CloudError, EventKind, EventProgress, Instance, ScheduledEvent};
use crate::node::events;
use crate::pod::decide::{Drain, Ending, Note, NoteKind};
use crate::pod::maintenance::{Told, leave_at};
use crate::pod::{reasons, status};

/// EC2 announces days ahead.
const PERIOD: Duration = Duration::from_secs(300);
/// While a machine is about to be left: its event may be put off, or canceled, in the last moment.
const PERIOD_NEAR: Duration = Duration::from_secs(30);
/// What is nearer than this is near.
const NEAR: Duration = Duration::from_secs(900);
/// Without a machine there is nothing to ask for.
const PERIOD_EMPTY: Duration = Duration::from_secs(30);
/// After a list that failed.
const RETRY: Duration = Duration::from_secs(15);
/// After one that was denied: somebody has to grant it.
const DENIED: Duration = Duration::from_secs(3600);

/// The events of this node's machines, as last read.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    /// By instance.
    events: Mutex<HashMap<String, Vec<ScheduledEvent>>>,
    told: Mutex<Told>,
}

impl Core {
    /// Lists the scheduled events again and again. Never ends.
    pub(super) async fn watch_maintenance(self: Arc<Self>) {
        let mut failures: u32 = 0;
        loop {
            if self.fleet.size() == 0 {
                tokio::time::sleep(PERIOD_EMPTY).await;
                continue;
            }
            let pause = match deadline("listing scheduled events", self.cloud.scheduled_events()).await {
                Ok(events) => {
                    failures = 0;
                    self.take_events(events);
                    if self.leaves_soon() { PERIOD_NEAR } else { PERIOD }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(failures, %error, "listing scheduled events failed");
                    self.without_events(failures, &error)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells the node once that nothing is announced; says when to ask again.
    fn without_events(&self, failures: u32, error: &CloudError) -> Duration {
        if !matches!(error, CloudError::Denied { .. }) {
            return back_off(RETRY, PERIOD, failures);
        }
        if failures == 1 {
            let text = format!(
                "scheduled events of machines are not told ahead: {error}; asked again every {} min",
                DENIED.as_secs() / 60
            );
            let about = events::about(&self.config.node.name);
            self.story.tell(about, Note { kind: NoteKind::Warning, reason: reasons::EVENTS_UNKNOWN, text });
        }
        DENIED
    }

    /// Takes over a list: of all machines of the account, some are ours.
    fn take_events(&self, list: Vec<ScheduledEvent>) {
        let machines = self.fleet.all();
        let ours: HashMap<&str, &Instance> =
            machines.iter().filter(|one| one.state.may_run()).map(|one| (one.id.as_str(), one)).collect();
        let mut events: HashMap<String, Vec<ScheduledEvent>> = HashMap::new();
        let mut counts: BTreeMap<EventKind, i64> = EventKind::ALL.map(|kind| (kind, 0)).into();
        lock(&self.calendar.told).keep(&list);
        for event in list {
            let Some(uid) = ours.get(event.instance_id.as_str()).and_then(|one| one.pod_uid()) else {
                continue;
            };
            if event.progress == EventProgress::Scheduled {
                *counts.entry(event.kind).or_default() += 1;
            }
            self.tell_of(uid, &event);
            self.queue.add(uid, None, Urgency::Normal);
            events.entry(event.instance_id.clone()).or_default().push(event);
        }
        for (kind, count) in counts {
            self.metrics.scheduled.get_or_create(&OfKind { kind: kind.code() }).set(count);
        }
        *lock(&self.calendar.events) = events;
    }

    fn tell_of(&self, uid: &str, event: &ScheduledEvent) {
        let Some(pod) = self.table.get(uid).latest.filter(|pod| !status::is_terminal(pod)) else { return };
        let Some(about) = self.observe(uid).reference(uid) else { return };
        if let Some(note) = lock(&self.calendar.told).news(event, table::spec_grace(&pod)) {
            self.story.tell(about, note);
        }
    }

    /// Whether some pod is about to leave its machine.
    fn leaves_soon(&self) -> bool {
        let soon = clock::after(clock::now(), NEAR);
        let events = lock(&self.calendar.events);
        events.values().flatten().any(|event| {
            let grace = event_grace(self, event);
            leave_at(event, grace).is_some_and(|at| at <= soon)
        })
    }

    /// When the first of these machines is to be left for a scheduled event.
    pub(super) fn event_drain(&self, instances: &[Instance], grace: Duration) -> Option<Drain> {
        let events = lock(&self.calendar.events);
        let all = instances.iter().filter(|one| one.state.may_run());
        let due = all.flat_map(|one| events.get(&one.id).into_iter().flatten());
        let (at, event) =
            due.filter_map(|event| Some((leave_at(event, grace)?, event))).min_by_key(|(at, _)| *at)?;
        let ends_at = event.not_before?;
        Some(Drain {
            instance_id: event.instance_id.clone(),
            at: super::observe::steadily(at),
            ends_at,
            why: Ending::Event { id: event.id.clone(), code: event.kind.code() },
        })
    }
}

/// The grace of the pod on an event's machine.
fn event_grace(core: &Core, event: &ScheduledEvent) -> Duration {
    let all = core.fleet.all();
    let uid = all.iter().find(|one| one.id == event.instance_id).and_then(Instance::pod_uid);
    let pod = uid.and_then(|uid| core.table.get(uid).latest);
    pod.as_deref().map_or(table::GRACE, table::spec_grace)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
