//! What the parts of an observation mean together: which instance is the pod's, and what its kubelet may know.

use k8s_openapi::api::core::v1::Pod;

use super::{Action, Decision, Note, NoteKind, Observed, after, past};
use crate::cloud::{Instance, InstanceState, TAG_HOST_KEY};
use crate::link::{LinkState, LinkStatus};
use crate::pod::intent::{Intent, IntentError, epoch_of, is_launched_for};
use crate::pod::{reasons, status};

/// Shortly after a launch, an instance that the cloud does not know may only be not yet known.
pub(super) const DESCRIBE_LAG: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a second machine of a pod is ended.
pub const DUPLICATE: &str = "duplicate";

/// Whether a kubelet may have the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Provably not: nothing of the pod runs anywhere.
    Never,
    /// A process before this one may have shown it.
    Perhaps,
    /// It has.
    Yes,
}

/// The machine of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine<'a> {
    /// None was ever launched for the present intent, as far as is known.
    None,
    /// Launched, and the cloud does not show it yet.
    Unseen,
    /// There, and containers may run on it now or later.
    Live(&'a Instance),
    /// On its way down.
    Ending(&'a Instance),
    /// Gone; with what the cloud still shows of it.
    Dead(Option<&'a Instance>),
}

/// A pod and what belongs to it.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) intent: Option<Intent>,
    pub(super) intent_error: Option<IntentError>,
    pub(super) machine: Machine<'a>,
    pub(super) shown: Shown,
    /// The link to this machine, if there is one.
    pub(super) link: Option<&'a LinkStatus>,
}

impl<'a> View<'a> {
    pub(super) fn of(seen: &Observed<'a>, pod: &Pod) -> Self {
        let (intent, intent_error) = match Intent::read(pod) {
            Ok(intent) => (intent, None),
            Err(error) => (None, Some(error)),
        };
        let own = own_machine(seen, intent.as_ref());
        let view = Self::with(seen, pod, intent, intent_error, own);
        // What was launched for a pod that no kubelet has may as well be used. Who has lost the intent of one that a
        // kubelet has can only go by who ever was bootstrapped.
        // What a call of ours made counts for more than a copy: the call is repeated first.
        let may_launch = pod.metadata.deletion_timestamp.is_none() && !status::is_terminal(pod);
        let is_asked = |intent: &Intent| {
            may_launch && intent.instance_id.is_none() && seen.memory.failed.as_ref() != Some(&intent.token)
        };
        let is_usable = |one: &&Instance| match view.machine {
            Machine::None if view.intent.as_ref().is_some_and(is_asked) => is_launched_for(one, seen.uid),
            Machine::None | Machine::Ending(_) | Machine::Dead(_) => {
                view.shown == Shown::Never || view.intent.is_none() && was_pinned(one)
            }
            Machine::Unseen | Machine::Live(_) => false,
        };
        match oldest(live(seen).filter(is_usable)) {
            Some(one) => Self::with(seen, pod, view.intent, view.intent_error, Machine::Live(one)),
            None => view,
        }
    }

    fn with(
        seen: &Observed<'a>,
        pod: &Pod,
        intent: Option<Intent>,
        intent_error: Option<IntentError>,
        machine: Machine<'a>,
    ) -> Self {
        let instance = machine.instance();
        let id = instance.map(|one| one.id.as_str()).or_else(|| intent.as_ref()?.instance_id.as_deref());
        // Where nothing names the machine, the link does.
        let link = seen.link.filter(|link| id.is_none_or(|id| link.instance_id == id));
        // A link is only made to a machine whose id is recorded, so without an id nothing was ever shown.
        let asked =
            intent.as_ref().filter(|intent| intent.instance_id.is_some()).map(|intent| &*intent.token);
        let token = instance.and_then(|one| one.client_token.as_deref()).or(asked);
        let shown = shown(seen, Some(pod), instance, token, link);
        Self { intent, intent_error, machine, shown, link }
    }

    /// The epoch of the next launch.
    pub(super) fn next_epoch(&self, seen: &Observed<'_>) -> u32 {
        let used = seen.instances.iter().map(epoch_of).chain(self.intent.iter().map(|intent| intent.epoch));
        used.max().map_or(0, |epoch| epoch.saturating_add(1))
    }
}

impl<'a> Machine<'a> {
    pub(super) fn instance(self) -> Option<&'a Instance> {
        match self {
            Self::Live(one) | Self::Ending(one) => Some(one),
            Self::Dead(one) => one,
            Self::None | Self::Unseen => None,
        }
    }
}

/// Whether a bootstrap ever was there, so that a kubelet may have had the pod.
fn was_pinned(one: &Instance) -> bool {
    one.tags.contains_key(TAG_HOST_KEY)
}

/// Whether containers may run on a machine beside `own`, be it on its way down.
pub(super) fn others_may_run(seen: &Observed<'_>, own: Option<&Instance>) -> bool {
    let is_own = |one: &Instance| own.is_some_and(|own| own.id == one.id);
    seen.instances.iter().any(|one| one.state != InstanceState::Terminated && was_pinned(one) && !is_own(one))
}

/// All instances on which containers may run.
pub(super) fn live<'a>(seen: &Observed<'a>) -> impl Iterator<Item = &'a Instance> {
    seen.instances.iter().filter(|one| one.state.may_run())
}

/// The machine that the intent speaks of, dead or alive; without an intent, what ended last.
fn own_machine<'a>(seen: &Observed<'a>, intent: Option<&Intent>) -> Machine<'a> {
    let Some(intent) = intent else {
        if is_in_contact(seen, None) && live(seen).next().is_none() {
            return Machine::Unseen;
        }
        // Whatever was bootstrapped may have had the pod.
        let had = |one: &&Instance| (was_pinned(one), epoch_of(one), one.launched_at);
        let ended = seen.instances.iter().filter(|one| !one.state.may_run());
        return ended.max_by_key(had).map_or(Machine::None, told);
    };
    let named = |one: &&Instance| intent.instance_id.as_deref() == Some(&one.id);
    let launched = |one: &&Instance| intent.launched(one);
    let one = live(seen)
        .find(named)
        .or_else(|| live(seen).find(launched))
        .or_else(|| seen.instances.iter().find(launched));
    match one {
        Some(one) => told(one),
        None if intent.instance_id.is_none() => Machine::None,
        None if is_unseen(seen, intent) => Machine::Unseen,
        None => Machine::Dead(None),
    }
}

/// Whether the machine that the intent names may only be not shown yet.
fn is_unseen(seen: &Observed<'_>, intent: &Intent) -> bool {
    let Some(id) = &intent.instance_id else { return false };
    // Whoever wrote it may have had another clock, so that the start of this process counts, too.
    let written = past(intent.written_at, seen.now);
    let asked = written.map_or(seen.rules.started, |at| at.max(seen.rules.started));
    is_in_contact(seen, Some(id)) || seen.now < after(asked, DESCRIBE_LAG)
}

/// Whether the machine's kubelet, or any, is in contact: better proof of life than any list.
pub(super) fn is_in_contact(seen: &Observed<'_>, id: Option<&str>) -> bool {
    let is_kept = |link: &&LinkStatus| seen.memory.revoked.as_ref() != Some(&link.instance_id);
    let link = seen.link.filter(is_kept);
    link.is_some_and(|link| link.is_attached() && id.is_none_or(|id| link.instance_id == id))
}

fn told(one: &Instance) -> Machine<'_> {
    match one.state {
        InstanceState::ShuttingDown => Machine::Ending(one),
        InstanceState::Terminated => Machine::Dead(Some(one)),
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped => Machine::Live(one),
    }
}

fn oldest<'a>(all: impl Iterator<Item = &'a Instance>) -> Option<&'a Instance> {
    all.min_by_key(|one| (one.launched_at.is_none(), one.launched_at, &one.id))
}

/// Ends every living instance but the pod's own: the one that its intent names, else the oldest. None while the named
/// one may only be not shown yet.
pub(super) fn end_duplicates(seen: &Observed<'_>, view: &View<'_>, decision: &mut Decision) {
    let own = match view.machine {
        Machine::Live(one) => Some(&*one.id),
        Machine::None if view.shown == Shown::Never => return,
        Machine::None | Machine::Ending(_) | Machine::Dead(_) => None,
        Machine::Unseen => return,
    };
    for extra in live(seen).filter(|one| Some(&*one.id) != own) {
        let done = decision.actions.iter().any(|action| match action {
            Action::Terminate { instance_id, .. } => *instance_id == extra.id,
            Action::Launch(_)
            | Action::Record(_)
            | Action::Adopt(_)
            | Action::EnsureLink { .. }
            | Action::Revoke { .. }
            | Action::ShutDown { .. }
            | Action::RemoveLink
            | Action::LastWords { .. }
            | Action::DeletePod => false,
        });
        if !done {
            let why =
                own.map_or_else(|| "the pod ran on another".to_owned(), |own| format!("{own} runs this pod"));
            decision.actions.push(Action::Terminate { instance_id: extra.id.clone(), why: DUPLICATE });
            decision.notes.push(Note {
                kind: NoteKind::Warning,
                reason: reasons::DUPLICATE,
                text: format!("instance {} is ended: {why}", extra.id),
            });
        }
    }
}

/// What the kubelet of `instance` may know of the pod.
///
/// The host key is pinned as a tag before any secret goes to a machine, so without it no kubelet there ever spoke
/// to the gateway, whatever process launched it.
pub(super) fn shown(
    seen: &Observed<'_>,
    pod: Option<&Pod>,
    instance: Option<&Instance>,
    token: Option<&str>,
    link: Option<&LinkStatus>,
) -> Shown {
    if pod.is_some_and(status::is_kubelets) || link.is_some_and(knows) {
        return Shown::Yes;
    }
    let unpinned = instance.is_some_and(|one| one.state == InstanceState::Pending || !was_pinned(one));
    let wrote = token.is_some() && token == seen.memory.wrote.as_deref();
    // Nothing was ever launched.
    let nothing = instance.is_none() && token.is_none();
    if unpinned || wrote || nothing { Shown::Never } else { Shown::Perhaps }
}

/// Whether a link says that its kubelet has the pod.
fn knows(link: &LinkStatus) -> bool {
    let attached = match link.state {
        LinkState::Attached { .. } => true,
        LinkState::Dialing { was_attached, .. } => was_attached,
        LinkState::Bootstrapping { .. } | LinkState::Broken { .. } => false,
    };
    attached || link.shown || link.attached.is_some()
}
