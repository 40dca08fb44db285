//! The pure core of the election: the Lease as it was last seen and the time since boot in, the next step out.
//!
//! No clock of another machine is believed. A follower counts from when it last *saw* the Lease change, which is after
//! the leader asked for that change; a leader counts from before it asked. So with `renewDeadline` below `leaseDuration`
//! the one has stopped before the other begins, whatever the wall clocks say.

use std::time::Duration;

use jiff::Timestamp;

use super::record::Record;
use crate::config::LeaderElection;

/// One process that stands for election. Times are since boot.
#[derive(Clone, Debug)]
pub(super) struct Elector {
    identity: String,
    settings: LeaderElection,
    sight: Sight,
    term: Option<Term>,
    /// When the last write that came to nothing was begun.
    failed: Option<Duration>,
}

/// What is known of the Lease.
#[derive(Clone, Debug)]
enum Sight {
    /// Nothing, or not what it is now.
    Unknown {
        before: Option<Seen>,
    },
    Absent {
        before: Option<Seen>,
    },
    There(Seen),
}

/// The Lease, and when it was first seen like that.
#[derive(Clone, Debug)]
struct Seen {
    record: Record,
    at: Duration,
}

/// A time as leader.
#[derive(Clone, Debug)]
struct Term {
    /// Tells it from one of an earlier process with the same identity.
    acquired: Option<Timestamp>,
    /// When the last renewal that succeeded was begun.
    began: Duration,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing before this time, unless the Lease is seen to change.
    Wait(Duration),
    /// Read the Lease.
    Read,
    /// Write [`Elector::claim`]: over the Lease as it was seen, or anew.
    Write,
    /// Act no more.
    StandDown(Lost),
}

/// Why a leader is none any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It could not renew in time.
    #[error("the Lease could not be renewed within {0:?}")]
    Expired(Duration),
    /// Somebody else has the Lease, or a later process of the same identity.
    #[error("the Lease was taken by `{0}`")]
    Taken(String),
}

impl Elector {
    pub(super) fn new(identity: &str, settings: LeaderElection) -> Self {
        Self {
            identity: identity.to_owned(),
            settings,
            sight: Sight::Unknown { before: None },
            term: None,
            failed: None,
        }
    }

    /// Takes in the Lease as it is now; `None` is that there is none.
    pub(super) fn looked(&mut self, record: Option<Record>, now: Duration) {
        let before = self.seen().cloned();
        self.sight = match record {
            None => Sight::Absent { before },
            Some(record) => {
                // Seen again as it was is no sign of life.
                let at = before.filter(|seen| seen.record == record).map_or(now, |seen| seen.at);
                Sight::There(Seen { record, at })
            }
        };
    }

    /// What was written is there; writing it was begun then.
    pub(super) fn wrote(&mut self, record: Record, began: Duration) {
        self.term = Some(Term { acquired: record.acquired, began });
        self.failed = None;
        self.sight = Sight::There(Seen { record, at: began });
    }

    /// Writing it, begun then, came to nothing, or to nobody knows what.
    pub(super) fn failed(&mut self, began: Duration) {
        self.failed = Some(began);
        self.sight = Sight::Unknown { before: self.seen().cloned() };
    }

    /// Somebody else wrote meanwhile: it is not what it was.
    pub(super) fn overtaken(&mut self) {
        self.failed = None;
        self.sight = Sight::Unknown { before: self.seen().cloned() };
    }

    /// Whether it leads, and until when it may act without another renewal.
    pub(super) fn leads_until(&self) -> Option<Duration> {
        self.term.as_ref().map(|term| term.began + self.settings.renew_deadline)
    }

    /// Who leads, as far as is known.
    pub(super) fn holder(&self) -> Option<&str> {
        self.seen().map(|seen| seen.record.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    pub(super) fn next(&self, now: Duration) -> Step {
        match &self.term {
            Some(term) => self.next_of_leader(term, now),
            None => self.next_of_follower(now),
        }
    }

    fn next_of_leader(&self, term: &Term, now: Duration) -> Step {
        let deadline = term.began + self.settings.renew_deadline;
        if now >= deadline {
            return Step::StandDown(Lost::Expired(self.settings.renew_deadline));
        }
        if let Sight::There(Seen { record, .. }) = &self.sight
            && (record.holder != self.identity || record.acquired != term.acquired)
        {
            return Step::StandDown(Lost::Taken(record.holder.clone()));
        }
        // Half of the period is at most a quarter of the deadline: one failure is not the end.
        let pause = self.settings.retry_period;
        let due = self.failed.map_or(term.began + pause, |failed| failed + pause / 2).min(deadline);
        if now < due {
            return Step::Wait(due);
        }
        match &self.sight {
            Sight::Unknown { .. } => Step::Read,
            Sight::There(_) | Sight::Absent { .. } => Step::Write,
        }
    }

    fn next_of_follower(&self, now: Duration) -> Step {
        let due = self.failed.map_or(now, |failed| failed + self.settings.retry_period);
        if now < due {
            return Step::Wait(due);
        }
        let free = match &self.sight {
            Sight::Unknown { .. } => return Step::Read,
            Sight::There(seen) => self.free_at(seen),
            // A Lease that somebody removed says nothing of who acted under it.
            Sight::Absent { before } => before.as_ref().and_then(|seen| self.free_at(seen)),
        };
        match free.filter(|free| now < *free) {
            Some(free) => Step::Wait(free),
            None => Step::Write,
        }
    }

    /// When the Lease may be taken; `None` is at once.
    fn free_at(&self, seen: &Seen) -> Option<Duration> {
        let Record { holder, duration, .. } = &seen.record;
        if holder.is_empty() || *holder == self.identity {
            return None;
        }
        // Its own, which the leader lives by: the configurations of two processes may differ.
        let duration = duration.unwrap_or(self.settings.lease_duration);
        Some(seen.at + duration)
    }

    /// What [`Step::Write`] writes at this time of the wall clock.
    pub(super) fn claim(&self, wall: Timestamp) -> Record {
        let before = self.seen().map(|seen| &seen.record);
        let transitions = before.map_or(0, |record| record.transitions);
        let is_new = before.is_some_and(|record| record.holder != self.identity);
        let wall = Record::written(wall);
        Record {
            holder: self.identity.clone(),
            duration: Some(self.settings.lease_duration),
            acquired: self.term.as_ref().map_or(Some(wall), |term| term.acquired),
            renewed: Some(wall),
            transitions: transitions.saturating_add(i32::from(is_new)),
        }
    }

    /// What gives the Lease up.
    pub(super) fn resignation(&self, wall: Timestamp) -> Record {
        Record { holder: String::new(), duration: Some(RESIGNED), ..self.claim(wall) }
    }

    /// The Lease as it was last seen.
    fn seen(&self) -> Option<&Seen> {
        match &self.sight {
            Sight::There(seen) => Some(seen),
            Sight::Unknown { before } | Sight::Absent { before } => before.as_ref(),
        }
    }
}

/// As client-go leaves it: nobody has to wait.
const RESIGNED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
