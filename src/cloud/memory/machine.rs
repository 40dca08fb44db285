//! One machine, and how it changes in time.

use std::time::Duration;

use jiff::Timestamp;

use super::Timing;
use crate::clock;
use crate::cloud::{EventKind, EventProgress, Instance, InstanceState, ScheduledEvent, StateReason};

/// How long EC2 shows what is terminated.
const SHOWN_AFTER_END: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// As it was launched.
    pub(super) instance: Instance,
    pub(super) launched_at: Timestamp,
    pub(super) ended: Option<(Timestamp, StateReason)>,
    /// What was announced for it.
    pub(super) announced: Vec<Announced>,
}

/// A scheduled event.
#[derive(Clone, Debug)]
pub(super) struct Announced {
    id: String,
    kind: EventKind,
    not_before: Timestamp,
    is_canceled: bool,
}

impl Announced {
    /// Whether it has begun. Each is over at once.
    fn is_done(&self, now: Timestamp) -> bool {
        !self.is_canceled && self.not_before <= now
    }
}

impl Machine {
    pub(super) fn schedule(&mut self, id: &str, kind: EventKind, not_before: Timestamp) {
        self.announced.retain(|one| one.id != id);
        self.announced.push(Announced { id: id.to_owned(), kind, not_before, is_canceled: false });
    }

    pub(super) fn cancel(&mut self, id: &str, now: Timestamp) {
        let open = self.announced.iter_mut().filter(|one| one.id == id && one.not_before > now);
        open.for_each(|one| one.is_canceled = true);
    }

    /// Its scheduled events, as they are shown now.
    pub(super) fn events(&self, now: Timestamp) -> Vec<ScheduledEvent> {
        let shown = |one: &Announced| {
            let (progress, start) = if one.is_canceled {
                (EventProgress::Canceled, "[Canceled] ")
            } else if one.is_done(now) {
                (EventProgress::Completed, "[Completed] ")
            } else {
                (EventProgress::Scheduled, "")
            };
            ScheduledEvent {
                id: one.id.clone(),
                instance_id: self.instance.id.clone(),
                kind: one.kind,
                description: format!("{start}as it is announced"),
                not_before: Some(one.not_before),
                not_after: None,
                progress,
            }
        };
        self.announced.iter().map(shown).collect()
    }

    /// Whether the cloud has stopped it.
    fn is_stopped(&self, now: Timestamp) -> bool {
        self.announced.iter().any(|one| one.kind.takes_the_machine() && one.is_done(now))
    }

    pub(super) fn end(&mut self, code: &str, now: Timestamp) {
        let reason = StateReason { code: code.to_owned(), message: format!("{code}: ended") };
        self.ended.get_or_insert((now, reason));
    }

    /// As it is now.
    pub(super) fn seen(&self, timing: &Timing) -> Instance {
        let mut instance = self.instance.clone();
        let now = clock::now();
        let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        instance.state = match &self.ended {
            Some((at, _)) if since(*at) < timing.shutdown => InstanceState::ShuttingDown,
            Some(_) => InstanceState::Terminated,
            None if since(self.launched_at) < timing.boot => InstanceState::Pending,
            None if self.is_stopped(now) => InstanceState::Stopped,
            None => InstanceState::Running,
        };
        if let Some((_, reason)) = &self.ended {
            instance.state_reason = Some(reason.clone());
        }
        instance
    }

    /// As a describe call shows it, if it does.
    pub(super) fn shown(&self, timing: &Timing) -> Option<Instance> {
        let now = clock::now();
        let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        let too_new = since(self.launched_at) < timing.describe_lag;
        let too_old = self.ended.as_ref().is_some_and(|(at, _)| since(*at) > SHOWN_AFTER_END);
        (!too_new && !too_old).then(|| self.seen(timing))
    }
}
