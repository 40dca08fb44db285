//! Pods that are to run: from the first look at their spec to a machine that is gone.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::view::{Machine, Shown, View, is_in_contact, others_may_run};
use super::{
    AT_REST, Action, Decision, Hold, Launch, NoteKind, Observed, Starved, after, blind, drain, past, until,
};
use crate::cloud::{Instance, InstanceState, Purchase};
use crate::config::DaemonSetPolicy;
use crate::link::LinkState;
use crate::pod::ask::{self, Rejection};
use crate::pod::intent::Intent;
use crate::pod::reasons;
use crate::pod::state::State;
use crate::pod::status::{Capacity, Cause, StatusChange};

/// Machines of one pod that may fail to boot before the pod does.
const MAX_FAILED_BOOTS: u32 = 5;
/// Between the first and the second replacement; doubled with each.
const REPLACE_BACK_OFF: Duration = Duration::from_secs(30);
/// A pod stays Ready for this long without contact: shorter cuts are nobody's business.
const READY_GRACE: Duration = Duration::from_secs(60);
/// A machine on its way to somewhere is looked at this often, should the list of instances be late.
const MOVING: Duration = Duration::from_secs(15);

pub(super) fn alive(seen: &Observed<'_>, pod: &Pod, view: &View<'_>) -> Decision {
    let mut decision = match view.machine {
        // Whatever it ran on, a pod that ran is not run again.
        Machine::None if view.shown == Shown::Yes => lost(seen, view, None),
        Machine::None => no_machine(seen, pod, view),
        Machine::Unseen => Decision::new(unseen(seen, view), MOVING),
        Machine::Live(instance) => with_machine(seen, view, instance),
        Machine::Ending(instance) => ending(seen, view, instance),
        Machine::Dead(instance) => dead(seen, view, instance),
    };
    if let Some(error) = &view.intent_error {
        decision = decision.note_first(
            seen,
            NoteKind::Warning,
            reasons::INVALID_INTENT,
            format!("{error}; ignored"),
        );
    }
    decision
}

/// The cloud does not show the machine, be it not yet or for a while.
fn unseen(seen: &Observed<'_>, view: &View<'_>) -> State {
    let named = view.intent.as_ref().and_then(|intent| intent.instance_id.as_ref());
    let was_ending = seen.memory.previous == Some(State::Ending);
    if was_ending || named.is_some() && seen.memory.revoked.as_ref() == named {
        return State::Ending;
    }
    if is_in_contact(seen, None) {
        return State::Attached;
    }
    match view.shown {
        Shown::Yes => State::Detached,
        Shown::Never | Shown::Perhaps => State::Launching,
    }
}

fn no_machine(seen: &Observed<'_>, pod: &Pod, view: &View<'_>) -> Decision {
    if ask::is_daemon_set_pod(pod) {
        return daemon_set(seen);
    }
    if let Some(rejection) = &seen.memory.refused {
        return rejected(rejection);
    }
    let repeat = view.intent.as_ref().filter(|intent| seen.memory.failed.as_deref() != Some(&intent.token));
    let state = if repeat.is_some() { State::Launching } else { State::Waiting };
    if let Some(hold) = seen.memory.hold.as_ref().filter(|hold| hold.until > seen.now) {
        return held(seen, state, hold);
    }
    let launch = match repeat {
        Some(intent) => Launch::Repeat(Box::new(intent.clone())),
        None => Launch::Next {
            epoch: view.next_epoch(seen),
            failed_boots: view.intent.as_ref().map_or(0, |intent| intent.failed_boots),
            starved: None,
        },
    };
    without_link(seen, Decision::new(State::Launching, MOVING)).act(Action::Launch(launch))
}

fn held(seen: &Observed<'_>, state: State, hold: &Hold) -> Decision {
    Decision::new(state, until(seen.now, hold.until)).say(StatusChange::Pending {
        message: format!("waiting for a machine: {}", hold.message),
        capacity: Capacity::Missing(hold.reason),
    })
}

fn daemon_set(seen: &Observed<'_>) -> Decision {
    let message = "pods of DaemonSets get no machine of their own on this node; keep them away with node affinity \
                   (`type` not in `virtual-kubelet`)";
    match seen.rules.daemon_sets {
        DaemonSetPolicy::Reject => {
            rejected(&Rejection::single(reasons::DAEMON_SET, "metadata.ownerReferences", message))
        }
        DaemonSetPolicy::Pending => Decision::new(State::Held, AT_REST).note_first(
            seen,
            NoteKind::Warning,
            reasons::DAEMON_SET,
            message,
        ),
    }
}

fn rejected(rejection: &Rejection) -> Decision {
    let message = format!("Pod was rejected: {rejection}");
    Decision::new(State::Rejected, AT_REST)
        .note(NoteKind::Warning, rejection.reason(), &*message)
        .say(StatusChange::Failed { reason: rejection.reason(), message, cause: Cause::Spec })
}

fn with_machine(seen: &Observed<'_>, view: &View<'_>, instance: &Instance) -> Decision {
    if seen.memory.revoked.as_deref() == Some(&instance.id) {
        return Decision::new(State::Ending, Duration::from_secs(5))
            .act(Action::Terminate { instance_id: instance.id.clone(), why: "given up" });
    }
    if instance.state == InstanceState::Stopped {
        return stopped(instance);
    }
    let state = view.link.map(|link| &link.state);
    let decision = match state {
        Some(LinkState::Attached { since, .. }) => attached(seen, instance, *since),
        Some(LinkState::Dialing { .. } | LinkState::Bootstrapping { .. } | LinkState::Broken { .. })
        | None => match view.shown {
            Shown::Yes => detached(seen, state),
            Shown::Never | Shown::Perhaps => booting(seen, view, instance),
        },
    };
    let decision = match &view.intent {
        Some(intent) if intent.instance_id.as_deref() == Some(&instance.id) => decision,
        Some(intent) if intent.launched(instance) => decision.act(Action::Record(Box::new(Intent {
            instance_id: Some(instance.id.clone()),
            ..intent.clone()
        }))),
        Some(Intent { instance_id: Some(_), .. }) => {
            decision.act(Action::Adopt(Box::new(Intent::of_instance(seen.uid, instance))))
        }
        Some(_) | None => decision.act(Action::Record(Box::new(Intent::of_instance(seen.uid, instance)))),
    };
    let decision = drain::before_the_end(seen, view.link, instance, decision);
    ensure_link(decision, view.link.is_some(), instance)
}

/// Nothing runs on a machine that was stopped, its containers are lost, and nobody here starts it again.
fn stopped(instance: &Instance) -> Decision {
    let text = format!("instance {} was stopped, and its containers with it; it is ended", instance.id);
    Decision::new(State::Ending, Duration::from_secs(5))
        .note(NoteKind::Warning, reasons::INSTANCE_STOPPED, text)
        .act(Action::Revoke { instance_id: instance.id.clone() })
        .act(Action::Terminate { instance_id: instance.id.clone(), why: "stopped" })
}

/// Every running machine whose addresses are known has a link, unless it is being given up.
pub(super) fn ensure_link(decision: Decision, has_link: bool, instance: &Instance) -> Decision {
    let given_up = decision.actions.iter().any(|action| match action {
        Action::Revoke { .. } | Action::Terminate { .. } | Action::RemoveLink | Action::LastWords { .. } => {
            true
        }
        Action::Launch(_)
        | Action::Record(_)
        | Action::Adopt(_)
        | Action::EnsureLink { .. }
        | Action::ShutDown { .. }
        | Action::DeletePod => false,
    });
    if has_link || given_up || !is_reachable(instance) {
        return decision;
    }
    decision.act(Action::EnsureLink { instance_id: instance.id.clone() })
}

/// Whether there is anything to dial.
fn is_reachable(instance: &Instance) -> bool {
    instance.state == InstanceState::Running && instance.private_ip.is_some() && instance.pod_ip.is_some()
}

fn attached(seen: &Observed<'_>, instance: &Instance, since: Timestamp) -> Decision {
    let decision = Decision::new(State::Attached, AT_REST);
    match seen.memory.previous {
        Some(State::Launching | State::Booting) => {
            let took = instance
                .launched_at
                .map_or_else(String::new, |at| format!(", {} after its launch", took(at, since)));
            let text = format!("the kubelet of instance {} has the pod{took}", instance.id);
            decision.note(NoteKind::Normal, reasons::ATTACHED, text)
        }
        Some(State::Detached | State::Rebooted) => decision.note(
            NoteKind::Normal,
            reasons::REATTACHED,
            format!("contact with instance {} is back", instance.id),
        ),
        Some(
            State::Unread
            | State::Ignored
            | State::Held
            | State::Rejected
            | State::Waiting
            | State::Attached
            | State::Finished
            | State::Deleting
            | State::Ending
            | State::Lost
            | State::Vanished
            | State::Gone,
        )
        | None => decision,
    }
}

fn detached(seen: &Observed<'_>, link: Option<&LinkState>) -> Decision {
    let said = |state, reason, kind, text: String| {
        Decision::new(state, AT_REST).note_first(seen, kind, reason, text)
    };
    let lost = |text: String| said(State::Detached, reasons::DETACHED, NoteKind::Warning, text);
    let (decision, since) = match link {
        Some(LinkState::Bootstrapping { since, step }) => {
            let text = format!("the machine is bootstrapped again ({step})");
            (said(State::Rebooted, reasons::REBOOTED, NoteKind::Normal, text), *since)
        }
        Some(LinkState::Dialing { since, error, .. }) => {
            let error = error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
            (lost(format!("no contact with the machine{error}")), *since)
        }
        Some(LinkState::Broken { since, error }) => {
            (lost(format!("the machine cannot be reached any more: {error}")), *since)
        }
        Some(LinkState::Attached { .. }) | None => return Decision::new(State::Detached, AT_REST),
    };
    let deadline = after(since, READY_GRACE);
    if seen.now < deadline {
        return decision.again(until(seen.now, deadline));
    }
    let since = since.round(jiff::Unit::Second).unwrap_or(since);
    decision.say(StatusChange::NotReady { message: format!("no contact with the machine since {since}") })
}

fn booting(seen: &Observed<'_>, view: &View<'_>, instance: &Instance) -> Decision {
    let launched = launched(seen, view, instance);
    let limit = seen.rules.boot_deadline;
    let deadline = blind::boot_deadline(seen, launched);
    let broken = view.link.and_then(|link| match &link.state {
        LinkState::Broken { error, .. } => Some(error.as_str()),
        LinkState::Dialing { .. } | LinkState::Bootstrapping { .. } | LinkState::Attached { .. } => None,
    });
    let why = match broken {
        Some(error) => Some(format!("it can never be used: {error}")),
        None if deadline.is_some_and(|deadline| seen.now >= deadline) => {
            Some(format!("it was not reachable within {limit:?}"))
        }
        None => None,
    };
    if let Some(why) = why {
        return Decision::new(State::Ending, Duration::from_secs(5))
            .note(
                NoteKind::Warning,
                reasons::REPLACING,
                format!("instance {} is given up: {why}", instance.id),
            )
            .act(Action::Revoke { instance_id: instance.id.clone() })
            .act(Action::LastWords { instance_id: instance.id.clone() })
            .act(Action::Terminate { instance_id: instance.id.clone(), why: "boot deadline" });
    }
    let again = deadline.map_or(MOVING, |deadline| MOVING.min(until(seen.now, deadline)));
    let decision = Decision::new(State::Booting, again);
    let machine = format!("instance {} ({} in {})", instance.id, instance.instance_type, instance.zone);
    let ran_before = seen.memory.previous.is_none_or(|previous| previous == State::Unread);
    let decision = if is_reachable(instance) && view.link.is_none() && !ran_before {
        let text = format!("{machine} runs, {} after its launch", took(launched, seen.now));
        decision.note(NoteKind::Normal, reasons::BOOTING, text)
    } else {
        decision
    };
    match view.shown {
        Shown::Never => decision.say(StatusChange::Pending {
            message: match seen.blind.why() {
                Some(why) => format!("{machine} waits to be reached, as all do: {why}"),
                None => format!("{machine} is booting"),
            },
            capacity: Capacity::Found,
        }),
        Shown::Perhaps | Shown::Yes => decision,
    }
}

/// When the machine was launched, by the clock of this process: the cloud's may be another.
fn launched(seen: &Observed<'_>, view: &View<'_>, instance: &Instance) -> Timestamp {
    let own = view.intent.as_ref().filter(|intent| seen.memory.wrote.as_ref() == Some(&intent.token));
    let own = own.and_then(|intent| intent.written_at);
    let told = own.or(instance.launched_at).or_else(|| view.intent.as_ref()?.written_at);
    past(told, seen.now).unwrap_or(seen.rules.started)
}

/// Its kubelet may still report how the pod ends.
fn ending(seen: &Observed<'_>, view: &View<'_>, instance: &Instance) -> Decision {
    match view.shown {
        Shown::Never => replace(seen, view, Some(instance)),
        Shown::Perhaps | Shown::Yes => {
            let why =
                instance.state_reason.as_ref().map_or_else(String::new, |why| format!(": {}", why.message));
            let text = format!("instance {} is shutting down{why}", instance.id);
            Decision::new(State::Ending, MOVING).note_first(
                seen,
                NoteKind::Warning,
                reasons::INSTANCE_SHUT_DOWN,
                text,
            )
        }
    }
}

fn dead(seen: &Observed<'_>, view: &View<'_>, instance: Option<&Instance>) -> Decision {
    match view.shown {
        Shown::Never => replace(seen, view, instance),
        Shown::Perhaps | Shown::Yes => lost(seen, view, instance),
    }
}

/// Says that the pod ended with its machine; not before every other that was ever bootstrapped
/// is gone, too.
pub(super) fn lost(seen: &Observed<'_>, view: &View<'_>, instance: Option<&Instance>) -> Decision {
    if others_may_run(seen, instance) {
        return Decision::new(State::Ending, Duration::from_secs(5));
    }
    let (reason, why) = loss(instance);
    let id = instance.map(|one| one.id.as_str()).or_else(|| view.intent.as_ref()?.instance_id.as_deref());
    let message = format!("instance {} {why}", id.unwrap_or("of this pod"));
    hear(fail(seen, reason, message, Cause::Disruption), seen, instance)
}

/// Asks a machine that is gone for its last words, once.
fn hear(decision: Decision, seen: &Observed<'_>, instance: Option<&Instance>) -> Decision {
    match instance {
        Some(one) if seen.memory.heard.as_deref() != Some(&one.id) => {
            decision.act(Action::LastWords { instance_id: one.id.clone() })
        }
        Some(_) | None => decision,
    }
}

fn fail(seen: &Observed<'_>, reason: &'static str, message: String, cause: Cause) -> Decision {
    let decision = Decision::new(State::Lost, AT_REST)
        .note(NoteKind::Warning, reason, &*message)
        .say(StatusChange::Failed { reason, message, cause });
    if seen.link.is_some() { decision.act(Action::RemoveLink) } else { decision }
}

/// A machine ended before any kubelet on it had the pod: the next one, a few times.
fn replace(seen: &Observed<'_>, view: &View<'_>, instance: Option<&Instance>) -> Decision {
    let (_, why) = loss(instance);
    let failed_boots = view.intent.as_ref().map_or(0, |intent| intent.failed_boots).saturating_add(1);
    if failed_boots >= MAX_FAILED_BOOTS {
        let message = format!("{failed_boots} machines ended before they could be used; the last one {why}");
        return hear(fail(seen, reasons::BOOT_FAILED, message, Cause::Disruption), seen, instance);
    }
    if let Some(rejection) = &seen.memory.refused {
        return rejected(rejection);
    }
    let back_off = match failed_boots {
        1 => Duration::ZERO,
        more => REPLACE_BACK_OFF.saturating_mul(1 << (more - 2)),
    };
    if let Some(hold) = seen.memory.hold.as_ref().filter(|hold| hold.until > seen.now) {
        return held(seen, State::Waiting, hold);
    }
    let began = past(view.intent.as_ref().and_then(|intent| intent.written_at), seen.now);
    let next = began.map_or(seen.now, |at| after(at, back_off));
    if next > seen.now {
        return Decision::new(State::Waiting, until(seen.now, next)).say(StatusChange::Pending {
            message: format!("the last machine {why} before it could be used; another follows"),
            capacity: Capacity::Found,
        });
    }
    let text = format!(
        "the machine {why} before it could be used; launching another ({failed_boots} of {MAX_FAILED_BOOTS})"
    );
    let decision = Decision::new(State::Launching, MOVING).note(NoteKind::Warning, reasons::REPLACING, text);
    let decision = without_link(seen, decision);
    let starved = instance.and_then(starved);
    hear(decision, seen, instance).act(Action::Launch(Launch::Next {
        epoch: view.next_epoch(seen),
        failed_boots,
        starved,
    }))
}

/// Before another machine is asked for, the one before it must not be shown the pod any more.
fn without_link(seen: &Observed<'_>, decision: Decision) -> Decision {
    match seen.link {
        Some(link) => {
            decision.act(Action::Revoke { instance_id: link.instance_id.clone() }).act(Action::RemoveLink)
        }
        None => decision,
    }
}

/// A launch that the cloud accepted and then did not fulfil.
fn starved(instance: &Instance) -> Option<Starved> {
    let why = instance.state_reason.as_ref()?;
    let is_clouds = why.code.starts_with("Server.") || why.code.starts_with("Client.Volume");
    is_clouds.then(|| Starved {
        code: why.code.clone(),
        message: why.message.clone(),
        purchase: Purchase::of(&instance.bought),
        instance_type: instance.instance_type.clone(),
        zone: instance.zone.clone(),
        subnet_id: instance.subnet_id.clone(),
    })
}

/// Why a machine is gone, by the cloud's `StateReason`.
fn loss(instance: Option<&Instance>) -> (&'static str, String) {
    let Some(instance) = instance else {
        return (reasons::INSTANCE_LOST, "is not known to the cloud any more".to_owned());
    };
    let Some(why) = &instance.state_reason else {
        return (reasons::INSTANCE_TERMINATED, "is terminated".to_owned());
    };
    let reason = match why.code.as_str() {
        "Server.SpotInstanceTermination" | "Server.SpotInstanceShutdown" => reasons::SPOT_INTERRUPTED,
        "Client.InstanceInitiatedShutdown" => reasons::INSTANCE_SHUT_DOWN,
        code if code.starts_with("Server.") => reasons::HOST_FAILED,
        _ => reasons::INSTANCE_TERMINATED,
    };
    // EC2's messages begin with the code.
    let code = if why.message.contains(&why.code) { String::new() } else { format!("{}: ", why.code) };
    (reason, format!("is terminated ({code}{})", why.message))
}

/// A duration as people read it.
fn took(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    if seconds < 120 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}
