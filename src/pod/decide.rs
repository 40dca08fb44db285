//! Observed → decision: what is true of a pod now, and what is to be done about it.
//!
//! Pure and total. Whoever acts on a decision that [destroys](Decision::is_destructive) must have read the pod and
//! its instances live for it; whoever acts carries out revocations first, then the status, then the rest in order.
//! `life` decides about pods that are to run, `end` about those that are finished, deleted or gone,
//! `drain` about machines that the cloud takes away, `blind` about time in which none can be reached.

mod blind;
mod drain;
mod end;
mod life;
mod view;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::ask::Rejection;
use super::intent::Intent;
use super::state::State;
use super::status::StatusChange;
use super::{ask, status};
use crate::clock::after;
use crate::cloud::{Instance, Purchase};
use crate::config::DaemonSetPolicy;
use crate::link::LinkStatus;

pub use blind::Blind;
pub use drain::{Drain, Ending};
pub(crate) use end::ORPHAN_AGE;
pub use view::{DUPLICATE, Shown};

/// What is known about one pod UID.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    pub uid: &'a str,
    /// `None` when the pod does not exist (any more).
    pub pod: Option<&'a Pod>,
    /// All instances that were launched for this UID and are still shown, ended ones included.
    pub instances: &'a [Instance],
    pub link: Option<&'a LinkStatus>,
    pub memory: &'a Memory,
    /// When what its machine was bought with ends, if it does.
    pub drain: Option<&'a Drain>,
    /// When no machine could be reached.
    pub blind: &'a Blind,
    pub lists: Lists,
    pub logs: Logs,
    pub rules: &'a Rules,
    pub now: Timestamp,
}

/// Whether logs of the pod's machine are missing in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logs {
    /// They are there, or there is no archive.
    Archived,
    /// They are not all there. This matters once the pod has ended.
    Behind,
}

/// Whether the world has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// Pods or instances have not been listed since the process started.
    NotYet,
    /// Both have.
    Read,
}

/// The configuration as far as it bears on decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub gpu_resource: String,
    pub daemon_sets: DaemonSetPolicy,
    pub keep_finished: Duration,
    /// How long the machine of a pod that has ended stays for its logs.
    pub drain_logs: Duration,
    pub boot_deadline: Duration,
    /// When this process started: links need a moment before their silence means something.
    pub started: Timestamp,
}

/// What the process remembers of a UID. All of it may be lost at any time: that costs time, never correctness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The state of the pass before.
    pub previous: Option<State>,
    /// Token of the intent that this process wrote: no other can have shown the pod to its machine.
    pub wrote: Option<String>,
    /// Token of an intent whose launch definitely failed.
    pub failed: Option<String>,
    /// Why nothing is launched now.
    pub hold: Option<Hold>,
    /// Why the pod can never have a machine.
    pub refused: Option<Rejection>,
    /// Since when a machine is on its way down, or was asked once more.
    pub ending: Option<Timestamp>,
    /// When this process first saw that deletion was asked for.
    pub deleting: Option<Timestamp>,
    /// Since when the pod's object is gone.
    pub absent: Option<Absent>,
    /// The instance that the gateway was told to give up.
    pub revoked: Option<String>,
    /// The instance that was told to switch itself off.
    pub draining: Option<String>,
    /// The instance whose last words were asked for.
    pub heard: Option<String>,
}

/// Nothing is launched before `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// One of [`super::reasons`].
    pub reason: &'static str,
    pub message: String,
    pub until: Timestamp,
}

/// A pod object that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// When that was first seen.
    pub since: Timestamp,
    /// The last grace that its kubelet may have seen.
    pub grace: Duration,
    pub end: AbsentEnd,
    /// In how many lists of instances its machine was found without a pod.
    pub sightings: u32,
}

/// What is known of the end of a pod whose object is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbsentEnd {
    /// This process never saw the pod.
    Unknown,
    /// It was there, and its containers may still run.
    Forced,
    /// Its containers ended: its phase was final, or its kubelet says so.
    Ended,
}

/// What is true and what is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub state: State,
    pub status: Option<StatusChange>,
    pub notes: Vec<Note>,
    pub actions: Vec<Action>,
    /// When to look again, if nothing happens before.
    pub again: Duration,
}

/// A line of the pod's story: an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub kind: NoteKind,
    /// One of [`super::reasons`].
    pub reason: &'static str,
    pub text: String,
}

/// Kubernetes' two types of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteKind {
    Normal,
    Warning,
}

/// One thing to do. Each may be done twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Launches a machine, or asks again for one.
    Launch(Launch),
    /// Writes the intent, with the instance's id, to the pod.
    Record(Box<Intent>),
    /// Writes the intent of another instance than the one that the pod names, which is gone.
    Adopt(Box<Intent>),
    /// Keeps a link to this running machine.
    EnsureLink { instance_id: String },
    /// The gateway never shows this machine its pod (again).
    Revoke { instance_id: String },
    /// Switches the machine off, after its kubelet has ended the pod in good order.
    ShutDown { instance_id: String },
    /// Ends and forgets the link.
    RemoveLink,
    /// Archives what the machine's console and kubelet said last, as far as they can still be asked. Once a machine.
    LastWords { instance_id: String },
    /// Ends the machine.
    Terminate { instance_id: String, why: &'static str },
    /// Deletes the pod's object, at once.
    DeletePod,
}

/// What is to be done, in three steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    /// First of all. If one of them shows that the kubelet got the pod in the very last moment, what was decided for
    /// one that never had it is void, and nothing else of it may be done.
    pub revocations: Vec<Action>,
    pub status: Option<StatusChange>,
    /// One after the other; what fails ends them.
    pub rest: Vec<Action>,
}

/// How to launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launch {
    /// The call that this intent stands for, again.
    Repeat(Box<Intent>),
    /// A new call.
    Next {
        epoch: u32,
        failed_boots: u32,
        /// The cloud's code for which the machine before this one ended, if that was for want of capacity.
        starved: Option<Starved>,
    },
}

/// A machine that was promised and then not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starved {
    /// EC2's `StateReason`, such as `Server.InsufficientInstanceCapacity`.
    pub code: String,
    pub message: String,
    pub purchase: Purchase,
    pub instance_type: String,
    pub zone: String,
    pub subnet_id: String,
}

/// Clocks so near to each other agree.
const CLOSE: Duration = Duration::from_secs(10);
/// Looked at this often when nothing else is due.
const AT_REST: Duration = Duration::from_secs(300);

/// What to do about one pod UID.
#[must_use]
pub fn decide(seen: &Observed<'_>) -> Decision {
    if seen.lists == Lists::NotYet {
        return Decision::new(State::Unread, Duration::from_secs(1));
    }
    let Some(pod) = seen.pod else {
        return end::confirm(seen, end::absent(seen));
    };
    if ask::is_mirror(pod) {
        return Decision::new(State::Ignored, AT_REST);
    }
    let view = view::View::of(seen, pod);
    let mut decision = if status::is_terminal(pod) {
        end::terminal(seen, pod, &view)
    } else if pod.metadata.deletion_timestamp.is_some() {
        end::deleting(seen, pod, &view)
    } else {
        life::alive(seen, pod, &view)
    };
    view::end_duplicates(seen, &view, &mut decision);
    end::confirm(seen, decision)
}

impl Decision {
    fn new(state: State, again: Duration) -> Self {
        Self { state, status: None, notes: Vec::new(), actions: Vec::new(), again }
    }

    fn act(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    fn say(mut self, change: StatusChange) -> Self {
        self.status = Some(change);
        self
    }

    fn note(mut self, kind: NoteKind, reason: &'static str, text: impl Into<String>) -> Self {
        self.notes.push(Note { kind, reason, text: text.into() });
        self
    }

    /// A note for the first pass in this state only.
    fn note_first(
        self,
        seen: &Observed<'_>,
        kind: NoteKind,
        reason: &'static str,
        text: impl Into<String>,
    ) -> Self {
        if seen.memory.previous == Some(self.state) { self } else { self.note(kind, reason, text) }
    }

    fn again(mut self, again: Duration) -> Self {
        self.again = self.again.min(again);
        self
    }

    /// In the order in which it is carried out.
    #[must_use]
    pub fn into_steps(self) -> Steps {
        let (revocations, rest) =
            self.actions.into_iter().partition(|action| matches!(action, Action::Revoke { .. }));
        Steps { revocations, status: self.status, rest }
    }

    /// Whether its state is true only once the status is written: until then, the pod has not ended.
    #[must_use]
    pub fn is_true_once_written(&self) -> bool {
        self.state.is_terminal() && self.status.is_some()
    }

    /// Whether everything is to be read live before it is acted on: that something is taken away, or gone, is concluded
    /// from no cache. `is_proven`: a live read said already that the pod is gone.
    #[must_use]
    pub fn wants_proof(&self, is_proven: bool) -> bool {
        self.is_destructive() || self.state == State::Vanished && !is_proven
    }

    /// Whether acting on it takes something away that cannot be given back, or concludes that something is gone.
    #[must_use]
    pub fn is_destructive(&self) -> bool {
        let fails = match self.status {
            Some(StatusChange::Failed { .. }) => true,
            Some(StatusChange::Pending { .. } | StatusChange::NotReady { .. }) | None => false,
        };
        fails
            || self.actions.iter().any(|action| match action {
                Action::Adopt(_)
                | Action::Revoke { .. }
                | Action::ShutDown { .. }
                | Action::RemoveLink
                | Action::Terminate { .. }
                | Action::DeletePod => true,
                Action::Launch(Launch::Next { failed_boots, .. }) => *failed_boots > 0,
                Action::Launch(Launch::Repeat(_))
                | Action::Record(_)
                | Action::EnsureLink { .. }
                | Action::LastWords { .. } => false,
            })
    }
}

/// When something was, as another clock told it, unless that is still to come: clocks may be far apart, and nothing
/// waits for days until they agree. Seconds are rounded by some and no two clocks are equal, so a little is nothing.
fn past(at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    at.filter(|at| *at <= after(now, CLOSE))
}

/// How long from `now` until `at`, and at least a moment.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    // A deadline may be far away, by its nature or by a clock that jumped: somebody looks every few minutes all the same.
    Duration::try_from(at.duration_since(now)).unwrap_or_default().clamp(Duration::from_millis(50), AT_REST)
}

#[cfg(test)]
mod tests;
