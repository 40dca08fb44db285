//! What the cloud announces for a machine, as its pod is told of it. Pure.
//!
//! An announcement is told once, and again when its time changes or it comes to nothing. A machine that will be gone is
//! left in time: then its pod ends in good order instead of with its machine.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::decide::{Note, NoteKind};
use super::reasons;
use crate::cloud::{EventKind, EventProgress, ScheduledEvent};

/// Between the end of a pod's grace and the event: the machine shuts down after its pod, and clocks differ.
const MARGIN: Duration = Duration::from_secs(300);

/// What pods were told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told(BTreeMap<String, (Option<Timestamp>, EventProgress)>);

impl Told {
    /// What is to be told of an event, if that is news. `grace` is its pod's.
    pub fn news(&mut self, event: &ScheduledEvent, grace: Duration) -> Option<Note> {
        let now = (event.not_before, event.progress);
        let before = self.0.insert(event.id.clone(), now);
        match (before, event.progress) {
            (Some(before), _) if before == now => None,
            (_, EventProgress::Scheduled) => Some(Note {
                kind: NoteKind::Warning,
                reason: reasons::SCHEDULED_MAINTENANCE,
                text: announcement(event, grace),
            }),
            // Who was never told of it need not hear that it is over.
            (None | Some((_, EventProgress::Completed | EventProgress::Canceled)), _) => None,
            (Some((_, EventProgress::Scheduled)), EventProgress::Completed) => Some(over(event, "is over")),
            (Some((_, EventProgress::Scheduled)), EventProgress::Canceled) => {
                Some(over(event, "will not be: EC2 canceled it"))
            }
        }
    }

    /// Forgets what the cloud shows no more.
    pub fn keep(&mut self, shown: &[ScheduledEvent]) {
        self.0.retain(|id, _| shown.iter().any(|event| event.id == *id));
    }
}

/// When the pod of a machine is to be ended for an event, by the cloud's clock; `None` if it need not be.
#[must_use]
pub fn leave_at(event: &ScheduledEvent, grace: Duration) -> Option<Timestamp> {
    if event.progress != EventProgress::Scheduled || !event.kind.takes_the_machine() {
        return None;
    }
    let lead = SignedDuration::try_from(grace.saturating_add(MARGIN)).unwrap_or(SignedDuration::MAX);
    Some(event.not_before?.checked_sub(lead).unwrap_or(Timestamp::MIN))
}

fn over(event: &ScheduledEvent, what: &str) -> Note {
    let text = format!("the {} of instance {} {what} ({})", event.kind.code(), event.instance_id, event.id);
    Note { kind: NoteKind::Normal, reason: reasons::SCHEDULED_MAINTENANCE, text }
}

fn announcement(event: &ScheduledEvent, grace: Duration) -> String {
    let what = match event.kind {
        EventKind::InstanceReboot => "reboots",
        EventKind::SystemReboot => "reboots the host of",
        EventKind::SystemMaintenance => "maintains the host of",
        EventKind::InstanceRetirement => "retires",
        EventKind::InstanceStop => "stops",
    };
    let when = match (event.not_before, event.not_after) {
        (Some(from), Some(to)) => format!("between {from} and {to}"),
        (Some(from), None) => format!("at {from} or later"),
        (None, _) => "at a time that it does not tell".to_owned(),
    };
    let means = match event.kind {
        EventKind::InstanceReboot | EventKind::SystemReboot => {
            "the pod's containers end with it, and are started again as its restartPolicy says".to_owned()
        }
        EventKind::SystemMaintenance => {
            "the machine may have no network for a while, or reboot, which ends its containers".to_owned()
        }
        EventKind::InstanceRetirement | EventKind::InstanceStop => match leave_at(event, grace) {
            Some(at) => format!(
                "the machine is gone then, so the pod is ended in good order from {at} on, and its controller makes another"
            ),
            None => "the machine is gone then, and the pod with it".to_owned(),
        },
    };
    format!("EC2 {what} instance {} ({}, {}) {when}: {means}", event.instance_id, event.kind.code(), event.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
    }

    fn mk_event(kind: EventKind, minutes: i64) -> ScheduledEvent {
        ScheduledEvent {
            id: "instance-event-1".to_owned(),
            instance_id: "i-1".to_owned(),
            kind,
            description: String::new(),
            not_before: Some(at(minutes)),
            not_after: None,
            progress: EventProgress::Scheduled,
        }
    }

    #[test]
    fn an_announcement_says_what_and_when_and_what_it_means_for_the_pod() {
        for (event, expected) in [
            (
                mk_event(EventKind::InstanceRetirement, 60),
                "EC2 retires instance i-1 (instance-retirement, instance-event-1) at 2027-01-15T09:00:00Z or later: the \
                 machine is gone then, so the pod is ended in good order from 2027-01-15T08:54:30Z on, and its \
                 controller makes another",
            ),
            (
                ScheduledEvent { not_after: Some(at(120)), ..mk_event(EventKind::SystemReboot, 60) },
                "EC2 reboots the host of instance i-1 (system-reboot, instance-event-1) between 2027-01-15T09:00:00Z \
                 and 2027-01-15T10:00:00Z: the pod's containers end with it, and are started again as its \
                 restartPolicy says",
            ),
            (
                ScheduledEvent { not_before: None, ..mk_event(EventKind::InstanceStop, 0) },
                "EC2 stops instance i-1 (instance-stop, instance-event-1) at a time that it does not tell: the machine \
                 is gone then, and the pod with it",
            ),
            (
                mk_event(EventKind::SystemMaintenance, 0),
                "EC2 maintains the host of instance i-1 (system-maintenance, instance-event-1) at \
                 2027-01-15T08:00:00Z or later: the machine may have no network for a while, or reboot, which ends \
                 its containers",
            ),
        ] {
            let note = Told::default().news(&event, GRACE).unwrap();
            assert_eq!((note.kind, note.reason), (NoteKind::Warning, "ScheduledMaintenance"));
            assert_eq!(note.text, expected);
        }
    }

    #[test]
    fn each_is_told_once_and_again_when_its_time_changes_or_it_comes_to_nothing() {
        let mut told = Told::default();
        let mut tell = |event: &ScheduledEvent| told.news(event, GRACE).map(|note| note.text);
        let event = mk_event(EventKind::InstanceReboot, 60);
        assert!(tell(&event).is_some() && tell(&event).is_none());
        let later = mk_event(EventKind::InstanceReboot, 90);
        assert!(tell(&later).unwrap().contains("2027-01-15T09:30:00Z"));
        assert_eq!(tell(&later), None);
        let other = ScheduledEvent { id: "instance-event-2".to_owned(), ..later.clone() };
        assert!(tell(&other).is_some(), "another event of the same machine");
        let canceled = ScheduledEvent { progress: EventProgress::Canceled, ..later.clone() };
        assert_eq!(
            tell(&canceled).as_deref(),
            Some("the instance-reboot of instance i-1 will not be: EC2 canceled it (instance-event-1)")
        );
        assert_eq!(tell(&canceled), None);
        let completed = ScheduledEvent { progress: EventProgress::Completed, ..other };
        assert_eq!(
            tell(&completed).as_deref(),
            Some("the instance-reboot of instance i-1 is over (instance-event-2)")
        );
        let unheard = ScheduledEvent { id: "instance-event-3".to_owned(), ..completed };
        assert_eq!(tell(&unheard), None, "it was over when it was first seen");
        told.keep(&[canceled]);
        assert_eq!(told.0.len(), 1);
    }

    #[test]
    fn a_machine_is_left_only_when_it_will_be_gone() {
        for kind in EventKind::ALL {
            let leaves = leave_at(&mk_event(kind, 60), GRACE).is_some();
            assert_eq!(leaves, matches!(kind, EventKind::InstanceRetirement | EventKind::InstanceStop));
        }
        let event = mk_event(EventKind::InstanceRetirement, 60);
        let left = |grace| at(60).duration_since(leave_at(&event, grace).unwrap()).as_secs();
        assert_eq!([left(GRACE), left(Duration::from_secs(3600))], [330, 3900]);
        assert_eq!(leave_at(&event, Duration::MAX), Some(Timestamp::MIN));
        for progress in [EventProgress::Completed, EventProgress::Canceled] {
            assert_eq!(leave_at(&ScheduledEvent { progress, ..event.clone() }, GRACE), None);
        }
        assert_eq!(leave_at(&ScheduledEvent { not_before: None, ..event }, GRACE), None);
    }
}
