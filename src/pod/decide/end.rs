//! Pods that are finished, deleted or gone: what becomes of their machines, and of their objects.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::life::{ensure_link, lost};
use super::view::{Machine, Shown, View, live, others_may_run, shown};
use super::{AT_REST, AbsentEnd, Action, Decision, Logs, NoteKind, Observed, after, past, until};
use crate::cloud::{Instance, InstanceState};
use crate::link::LinkStatus;
use crate::pod::reasons;
use crate::pod::state::State;
use crate::pod::status::{self, Cause, StatusChange};

/// How long a kubelet may take beyond the grace to end a pod whose object is gone.
const VANISHED_MARGIN: Duration = Duration::from_secs(30);
/// A machine without a pod must be this old before it is ended: its pod may only be not yet seen.
pub(crate) const ORPHAN_AGE: Duration = Duration::from_secs(60);
/// Lists of instances that must have shown it without a pod.
const ORPHAN_SIGHTINGS: u32 = 2;
/// How long a kubelet may take after a final phase to let go of a deleted pod.
const LET_GO: Duration = Duration::from_secs(30);
/// How long a machine may be silent after the grace of a deletion.
const SILENT_DELETE: Duration = Duration::from_secs(60);
/// How long a kubelet that answers may take after the grace of a deletion (stuck mounts, slow hooks).
const STUCK_DELETE: Duration = Duration::from_secs(300);
/// How long the cloud may take to say that a machine which was ended is gone; some types take minutes.
const CONFIRMED: Duration = Duration::from_secs(900);
/// A machine on its way down is looked at this often, should the list of instances be late.
const MOVING: Duration = Duration::from_secs(10);
/// A machine whose pod is gone costs money and its kubelet is about to be done.
const VANISHED: Duration = Duration::from_secs(3);

/// The phase is final. The machine stays for those who want to look, and goes with the pod.
pub(super) fn terminal(seen: &Observed<'_>, pod: &Pod, view: &View<'_>) -> Decision {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref()).unwrap_or_default();
    let (state, ours) = if reasons::is_rejection(reason) {
        (State::Rejected, true)
    } else if reasons::is_loss(reason) {
        (State::Lost, true)
    } else {
        (State::Finished, false)
    };
    let decision = Decision::new(state, AT_REST);
    let Machine::Live(instance) = view.machine else {
        let decision = if seen.link.is_some() { decision.act(Action::RemoveLink) } else { decision };
        return if pod.metadata.deletion_timestamp.is_none() {
            decision
        } else if is_ending(seen) || live(seen).next().is_some() {
            decision.again(MOVING)
        } else if is_only_finalizers(pod) {
            decision
        } else {
            decision.again(MOVING).act(Action::DeletePod)
        };
    };
    if ours {
        return give_up(decision.again(MOVING), seen, "pod failed");
    }
    let ended = past(status::finished_at(pod), seen.now).unwrap_or(seen.rules.started);
    let deadline = match asked(seen, pod) {
        Some(_) if is_only_finalizers(pod) => seen.now,
        Some(asked) => {
            let answered = after(asked, LET_GO);
            if is_attached(view) { answered } else { answered.max(after(seen.rules.started, LET_GO)) }
        }
        None => after(ended, seen.rules.keep_finished),
    };
    let deadline = deadline.max(logs_due(seen, ended.max(seen.rules.started)));
    if seen.now < deadline {
        return ensure_link(decision.again(until(seen.now, deadline)), view.link.is_some(), instance);
    }
    let text = format!("instance {} of the finished pod is ended", instance.id);
    let decision = decision.again(MOVING).note(NoteKind::Normal, reasons::TERMINATING, text);
    end_all(without_logs(decision, seen, instance), seen, "pod finished")
}

/// Deletion was asked for. The kubelet does it; ORCA only where there is none that could.
pub(super) fn deleting(seen: &Observed<'_>, pod: &Pod, view: &View<'_>) -> Decision {
    let decision = Decision::new(State::Deleting, MOVING);
    match (view.machine, view.shown) {
        // Another one may have run it; it is ended first.
        (Machine::Live(own), Shown::Never) if others_may_run(seen, Some(own)) => decision,
        (_, Shown::Never) => never_ran(decision, seen, view, pod),
        (Machine::Live(instance), Shown::Perhaps | Shown::Yes) => {
            let asked = asked(seen, pod).unwrap_or(seen.now);
            let deadline = if is_attached(view) {
                after(asked, STUCK_DELETE)
            } else {
                after(asked, SILENT_DELETE).max(after(seen.rules.started, SILENT_DELETE))
            };
            let given_up = seen.memory.revoked.as_deref() == Some(&instance.id);
            if given_up || seen.now >= deadline {
                let text = format!(
                    "instance {} is ended: its kubelet did not finish the deletion in time",
                    instance.id
                );
                let decision = if given_up {
                    decision
                } else {
                    decision.note(NoteKind::Warning, reasons::TERMINATING, text)
                };
                return give_up(decision, seen, "deletion deadline");
            }
            ensure_link(
                Decision { again: until(seen.now, deadline), ..decision },
                view.link.is_some(),
                instance,
            )
        }
        (Machine::Ending(_) | Machine::Unseen, Shown::Perhaps | Shown::Yes) => decision,
        (Machine::None, Shown::Perhaps | Shown::Yes) => ended(lost(seen, view, None), pod),
        (Machine::Dead(instance), Shown::Perhaps | Shown::Yes) => ended(lost(seen, view, instance), pod),
    }
}

/// As [`finish`], once the pod has ended.
fn ended(decision: Decision, pod: &Pod) -> Decision {
    if decision.state == State::Ending {
        return Decision { state: State::Deleting, ..decision };
    }
    finish(decision, pod)
}

/// When the grace of a deletion ends, by the clock of this process if it saw the deletion begin.
fn asked(seen: &Observed<'_>, pod: &Pod) -> Option<Timestamp> {
    let told = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = pod.metadata.deletion_grace_period_seconds.and_then(|grace| u64::try_from(grace).ok());
    Some(seen.memory.deleting.map_or(told, |since| after(since, Duration::from_secs(grace.unwrap_or(0)))))
}

/// No kubelet has the pod: its object goes at once, its machine beside it.
fn never_ran(decision: Decision, seen: &Observed<'_>, view: &View<'_>, pod: &Pod) -> Decision {
    let mut decision = decision;
    let unseen = view
        .intent
        .as_ref()
        .and_then(|intent| intent.instance_id.as_ref())
        .filter(|_| view.machine == Machine::Unseen);
    let ids: Vec<String> = live(seen).map(|one| one.id.clone()).chain(unseen.cloned()).collect();
    for id in &ids {
        decision = decision.act(Action::Revoke { instance_id: id.clone() });
    }
    if ids.is_empty() && seen.link.is_some() {
        decision = decision.act(Action::RemoveLink);
    }
    decision = finish(
        decision.say(StatusChange::Failed {
            reason: reasons::DELETED_BEFORE_START,
            message: "the pod was deleted before it ran".to_owned(),
            cause: Cause::Deletion,
        }),
        pod,
    );
    for id in ids {
        decision = decision.act(Action::Terminate { instance_id: id, why: "deleted before start" });
    }
    decision
}

/// The pod cannot run any more: its object goes, as far as it is ours to remove.
fn finish(decision: Decision, pod: &Pod) -> Decision {
    let decision = Decision { state: State::Deleting, again: MOVING, ..decision };
    if is_only_finalizers(pod) { decision } else { decision.act(Action::DeletePod) }
}

/// There is no pod. Its machine stays until its kubelet ended the containers, or a deadline.
pub(super) fn absent(seen: &Observed<'_>) -> Decision {
    let Some(instance) = live(seen).min_by_key(|one| (one.launched_at, &one.id)) else {
        // Its end is awaited, so that one that comes back to life would be seen.
        let state = if is_ending(seen) { State::Vanished } else { State::Gone };
        let decision = Decision::new(state, MOVING);
        return if seen.link.is_some() { decision.act(Action::RemoveLink) } else { decision };
    };
    let decision = Decision::new(State::Vanished, VANISHED);
    let link = seen.link.filter(|link| link.instance_id == instance.id);
    let decision = ensure_link(decision, seen.link.is_some() || seen.memory.revoked.is_some(), instance);
    let Some(absent) = &seen.memory.absent else {
        return decision;
    };
    let born = past(instance.launched_at, seen.now).unwrap_or(absent.since);
    let orphan = absent.sightings >= ORPHAN_SIGHTINGS && seen.now >= after(born, ORPHAN_AGE);
    let never = shown(seen, None, Some(instance), instance.client_token.as_deref(), link) == Shown::Never;
    let due = seen.now >= after(absent.since, absent.grace.saturating_add(VANISHED_MARGIN));
    let end = match absent.end {
        AbsentEnd::Ended => true,
        AbsentEnd::Forced => never || due,
        AbsentEnd::Unknown => orphan && (never || due),
    };
    if end || seen.memory.revoked.as_deref() == Some(&instance.id) {
        let due = logs_due(seen, absent.since.max(seen.rules.started));
        if !never && seen.now < due {
            return decision;
        }
        let decision = Decision { actions: Vec::new(), ..decision };
        let text = format!("instance {} is ended: its pod is gone", instance.id);
        let is_told = seen.memory.revoked.as_deref() == Some(&instance.id);
        let decision =
            if is_told { decision } else { decision.note(NoteKind::Normal, reasons::TERMINATING, text) };
        return give_up(without_logs(decision, seen, instance), seen, "no pod");
    }
    decision
}

/// Until when the machine of a pod that ended then stays for its logs.
fn logs_due(seen: &Observed<'_>, ended: Timestamp) -> Timestamp {
    match seen.logs {
        Logs::Archived => ended,
        Logs::Behind => after(ended, seen.rules.drain_logs),
    }
}

/// Says so if the machine is ended before its logs are archived.
fn without_logs(decision: Decision, seen: &Observed<'_>, instance: &Instance) -> Decision {
    match seen.logs {
        Logs::Archived => decision,
        Logs::Behind => decision.note(
            NoteKind::Warning,
            reasons::LOGS_INCOMPLETE,
            format!(
                "instance {} is ended before all logs of the pod were archived: logs.drainDeadline passed",
                instance.id
            ),
        ),
    }
}

fn give_up(decision: Decision, seen: &Observed<'_>, why: &'static str) -> Decision {
    let revoked = live(seen)
        .fold(decision, |decision, one| decision.act(Action::Revoke { instance_id: one.id.clone() }));
    end_all(revoked, seen, why)
}

fn end_all(decision: Decision, seen: &Observed<'_>, why: &'static str) -> Decision {
    live(seen).fold(decision, |decision, one: &Instance| {
        decision.act(Action::Terminate { instance_id: one.id.clone(), why })
    })
}

/// A machine on its way down is asked again, and told of, when the cloud does not say in time that it is gone. Nothing
/// is concluded before it does: the pod of a machine that may still run does not go.
pub(super) fn confirm(seen: &Observed<'_>, decision: Decision) -> Decision {
    let ending = seen.instances.iter().filter(|one| one.state == InstanceState::ShuttingDown);
    let Some(since) = seen.memory.ending else { return decision };
    let deadline = after(since, CONFIRMED);
    ending.fold(decision, |decision, one| {
        if seen.now < deadline {
            return decision.again(until(seen.now, deadline));
        }
        let text = format!("the cloud does not say that instance {} is gone; it is asked again", one.id);
        decision
            .note(NoteKind::Warning, reasons::TERMINATION_UNCONFIRMED, text)
            .act(Action::Terminate { instance_id: one.id.clone(), why: "unconfirmed" })
    })
}

fn is_ending(seen: &Observed<'_>) -> bool {
    seen.instances.iter().any(|one| one.state == InstanceState::ShuttingDown)
}

fn is_attached(view: &View<'_>) -> bool {
    view.link.is_some_and(LinkStatus::is_attached)
}

/// The final deletion was asked for already, and others hold the object.
fn is_only_finalizers(pod: &Pod) -> bool {
    let held = pod.metadata.finalizers.as_ref().is_some_and(|all| !all.is_empty());
    held && pod.metadata.deletion_grace_period_seconds == Some(0) && status::is_terminal(pod)
}
