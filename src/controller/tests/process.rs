//! One ORCA process around `decide`: what it has read, what it remembers, and how it carries out what was decided.
//!
//! [`Tracked`], [`Fleet`], the steps of a decision and the rules of what is read live are the controller's own.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::super::fleet::Fleet;
use super::super::observe::to_read;
use super::super::table::Tracked;
use super::nature;
use super::world::{Answer, Call, Kubelet, UID, World, phase_of};
use crate::capacity::avoid::Next;
use crate::capacity::candidate::Candidate;
use crate::clock::after;
use crate::cloud::Instance;
use crate::config::DaemonSetPolicy;
use crate::link::{LinkState, LinkStatus};
use crate::pod::ask::Rejection;
use crate::pod::decide::{
    AbsentEnd, Action, Blind, Decision, Drain, Hold, Launch, Lists, Logs, Observed, Rules, decide,
};
use crate::pod::intent::Intent;
use crate::pod::state::State;
use crate::pod::status::StatusChange;
use crate::pod::{reasons, status};

/// The longest that a decision may look away.
const LONGEST: Duration = Duration::from_secs(300);

/// What one process has, and loses when it is killed.
pub(super) struct Process {
    /// How far its clock is off.
    skew: SignedDuration,
    rules: Rules,
    row: Tracked,
    fleet: Fleet,
    /// The watch's view of the pod, once it was listed.
    cached: Option<Option<Arc<Pod>>>,
    link: Option<Link>,
    /// A list of machines that is still on its way.
    pub(super) listing: Option<(Timestamp, Vec<Instance>)>,
    pub(super) drain: Option<Drain>,
    pub(super) logs: Logs,
    /// When the pod is looked at next.
    pub(super) due: Option<Timestamp>,
}

struct Link {
    status: LinkStatus,
    revoked: bool,
}

/// Why a pass ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The process was killed.
    Killed,
    /// A call failed, or the world is not as it was seen.
    Failed,
}

/// What is known of the pod: see [`super::super::observe::Seen`].
struct Seen {
    pod: Option<Arc<Pod>>,
    instances: Vec<Instance>,
    link: Option<LinkStatus>,
    row: Tracked,
    is_named: bool,
    lists: Lists,
    now: Timestamp,
}

impl Process {
    pub(super) fn start(now: Timestamp, skew: SignedDuration) -> Self {
        let rules = Rules {
            gpu_resource: "nvidia.com/gpu".to_owned(),
            daemon_sets: DaemonSetPolicy::Pending,
            keep_finished: Duration::from_secs(300),
            drain_logs: Duration::from_secs(120),
            boot_deadline: Duration::from_secs(600),
            started: now + skew,
        };
        Self {
            skew,
            rules,
            row: Tracked::default(),
            fleet: Fleet::new(),
            cached: None,
            link: None,
            listing: None,
            drain: None,
            logs: Logs::Archived,
            due: Some(now),
        }
    }

    pub(super) fn has_read(&self) -> bool {
        self.cached.is_some() && self.fleet.is_read()
    }

    pub(super) fn attached(&self) -> Option<&str> {
        let link = self.link.as_ref()?;
        matches!(link.status.state, LinkState::Attached { .. }).then_some(link.status.instance_id.as_str())
    }

    pub(super) fn has_revoked(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.revoked)
    }

    /// The gateway shows the pod.
    pub(super) fn shown(&mut self) {
        if let Some(link) = &mut self.link {
            link.status.shown = true;
        }
    }

    pub(super) fn clock(&self, now: Timestamp) -> Timestamp {
        now + self.skew
    }

    /// The watch tells of the pod as it is.
    pub(super) fn watch(&mut self, now: Timestamp, pod: Option<Arc<Pod>>) {
        if let Some(pod) = &pod {
            self.row.newest(Some(pod.clone()));
        }
        let version = |pod: Option<&Arc<Pod>>| pod.and_then(|pod| pod.metadata.resource_version.clone());
        let news = self.cached.as_ref().is_none_or(|old| version(old.as_ref()) != version(pod.as_ref()));
        self.cached = Some(pod);
        if news {
            self.due = Some(now);
        }
    }

    /// A list of all machines arrived. As `take_list` and `suspect` do.
    pub(super) fn take_list(&mut self, now: Timestamp, list: Vec<Instance>) {
        let clock = self.clock(now);
        if !self.fleet.replace(list, clock).is_empty() {
            self.due = Some(now);
        }
        if matches!(self.cached, Some(None)) && self.fleet.uids().contains(UID) {
            let absent = self.row.absent(clock);
            absent.sightings = absent.sightings.saturating_add(1);
            self.due = Some(now);
        }
        if self.link.is_some() && matches!(self.cached, Some(None)) {
            self.due = Some(now);
        }
    }

    /// The link goes on: a machine that can be reached is attached to, one that cannot is dialled.
    pub(super) fn dial(&mut self, now: Timestamp, reachable: bool) -> Option<String> {
        let since = self.clock(now);
        let link = self.link.as_mut()?;
        let id = link.status.instance_id.clone();
        let was = matches!(link.status.state, LinkState::Attached { .. });
        if reachable == was || matches!(link.status.state, LinkState::Broken { .. }) {
            return None;
        }
        self.due = Some(now);
        if reachable {
            link.status.state = LinkState::Attached { since, boot_id: id.clone() };
            link.status.attached.get_or_insert(since);
            return Some(id);
        }
        link.status.state = LinkState::Dialing { since, error: None, was_attached: true };
        None
    }

    pub(super) fn linked(&self) -> Option<String> {
        self.link.as_ref().map(|link| link.status.instance_id.clone())
    }

    /// The link says something else of its machine.
    pub(super) fn set_link(&mut self, now: Timestamp, state: LinkState) {
        if let Some(link) = &mut self.link {
            link.status.state = state;
            self.due = Some(now);
        }
    }

    fn observe(&mut self, now: Timestamp) -> Seen {
        let now = self.clock(now);
        let lists = if self.has_read() { Lists::Read } else { Lists::NotYet };
        let pod = self.row.look(self.cached.clone().flatten(), lists, now);
        let instances = self.fleet.of(UID);
        self.row.mind_ending(&instances, now);
        Seen {
            pod,
            is_named: self.row.latest.is_some() || !instances.is_empty(),
            instances,
            link: self.link.as_ref().map(|link| link.status.clone()),
            row: self.row.clone(),
            lists,
            now,
        }
    }

    fn decide(&self, seen: &Seen) -> Decision {
        decide(&Observed {
            uid: UID,
            pod: seen.pod.as_deref(),
            instances: &seen.instances,
            link: seen.link.as_ref(),
            memory: &seen.row.memory,
            drain: self.drain.as_ref(),
            blind: &Blind::default(),
            lists: seen.lists,
            logs: self.logs,
            rules: &self.rules,
            now: seen.now,
        })
    }
}

impl World {
    fn me(&mut self) -> Result<&mut Process, Stop> {
        self.process.as_mut().ok_or(Stop::Killed)
    }

    /// One look at the pod, as `Core::pass`: the process says itself when to look again.
    pub(super) fn pass(&mut self) {
        self.settle_machines();
        let again = match self.look() {
            Ok(again) => again,
            Err(Stop::Failed) => Some(Duration::from_secs(1)),
            Err(Stop::Killed) => return,
        };
        let now = self.now;
        if let Some(process) = &mut self.process {
            process.due = again.map(|again| after(now, again));
        }
    }

    fn look(&mut self) -> Result<Option<Duration>, Stop> {
        let now = self.now;
        let mut seen = self.me()?.observe(now);
        let mut decision = self.decided(&seen)?;
        if decision.wants_proof(seen.row.gone) {
            seen = self.observe_live(&seen)?;
            decision = self.decided(&seen)?;
        }
        let (state, is_true_now) = (decision.state, !decision.is_true_once_written());
        if is_true_now {
            self.note(state)?;
        }
        if decision.state == State::Vanished && decision.actions.is_empty() && self.has_ended()? {
            return Ok(Some(Duration::ZERO));
        }
        let again = self.act(&seen, decision)?;
        if !is_true_now {
            self.note(state)?;
        }
        Ok(again)
    }

    fn decided(&mut self, seen: &Seen) -> Result<Decision, Stop> {
        let process = self.me()?;
        let decision = process.decide(seen);
        let again = decision.again;
        let same = decision.actions.is_empty() || process.decide(seen) == decision;
        let is_unread = seen.lists == Lists::NotYet;
        if !same {
            self.violate("the same world gave another decision");
        }
        if again.is_zero() || again > LONGEST {
            self.violate(format!("looks again in {again:?}"));
        }
        if is_unread && (decision.status.is_some() || !decision.actions.is_empty()) {
            self.violate("something is done before both lists were read");
        }
        self.tell(|_| {
            format!(
                "{} {:?} {:?}, again in {again:?}",
                decision.state.name(),
                decision.status,
                decision.actions
            )
        });
        Ok(decision)
    }

    fn note(&mut self, next: State) -> Result<(), Stop> {
        let before = self.me()?.row.memory.previous.replace(next);
        if let Some(before) = before.filter(|before| !before.may_become(next)) {
            self.violate(format!("an illegal transition: {} to {}", before.name(), next.name()));
        }
        Ok(())
    }

    /// As `Core::observe_live`.
    fn observe_live(&mut self, seen: &Seen) -> Result<Seen, Stop> {
        if seen.is_named {
            self.read()?;
            let pod = self.pod.clone();
            let row = &mut self.me()?.row;
            match pod {
                Some(pod) => drop(row.newest(Some(pod))),
                None => row.gone = true,
            }
        }
        let latest = self.me()?.row.latest.clone();
        for id in to_read(&seen.instances, latest.as_deref()) {
            self.read()?;
            let found = self.described(&id);
            let now = self.now;
            let process = self.me()?;
            let clock = process.clock(now);
            match found {
                Some(instance) => process.fleet.put(instance, clock),
                None => drop(process.fleet.missed(&id, clock)),
            }
        }
        let now = self.now;
        let process = self.me()?;
        let mut fresh = process.observe(now);
        if fresh.pod.is_none() && !process.row.gone {
            fresh.pod = process.row.latest.clone().filter(|_| fresh.is_named);
        }
        Ok(fresh)
    }

    fn has_ended(&mut self) -> Result<bool, Stop> {
        let Some(id) = self.me()?.attached().map(str::to_owned) else { return Ok(false) };
        self.read()?;
        let runs =
            self.machine(&id).is_some_and(|one| matches!(one.kubelet, Kubelet::Runs | Kubelet::Ending(_)));
        let now = self.now;
        let process = self.me()?;
        if !runs {
            let clock = process.clock(now);
            process.row.absent(clock).end = AbsentEnd::Ended;
        }
        Ok(!runs)
    }

    /// As `Core::act`.
    fn act(&mut self, seen: &Seen, decision: Decision) -> Result<Option<Duration>, Stop> {
        let (state, mut again) = (decision.state, decision.again);
        let steps = decision.into_steps();
        let was_shown = seen.link.as_ref().is_some_and(|link| link.shown);
        let me = self.me()?;
        for action in &steps.revocations {
            if let Action::Revoke { instance_id } = action {
                if let Some(link) = &mut me.link {
                    link.revoked = true;
                }
                me.row.memory.revoked = Some(instance_id.clone());
            }
        }
        if !was_shown && me.link.as_ref().is_some_and(|link| link.status.shown) {
            return Ok(Some(Duration::from_millis(50)));
        }
        if let (Some(pod), Some(change)) = (&seen.pod, &steps.status) {
            self.write_status(pod, change)?;
        }
        for action in steps.rest {
            nature::interfere(self)?;
            match action {
                Action::Revoke { .. } => {}
                Action::Launch(launch) => {
                    if let Some(pod) = &seen.pod {
                        again = self.launch_for(pod.clone(), launch)?;
                    }
                }
                Action::Record(intent) | Action::Adopt(intent) => {
                    if let Some(pod) = &seen.pod {
                        self.annotate(pod, &intent)?;
                    }
                    again = Duration::from_millis(50);
                }
                Action::EnsureLink { instance_id } => self.link(instance_id)?,
                Action::ShutDown { instance_id } => self.shut_down(instance_id)?,
                Action::RemoveLink => self.me()?.link = None,
                Action::LastWords { instance_id } => self.me()?.row.memory.heard = Some(instance_id),
                Action::Terminate { instance_id, why } => {
                    self.mind_duplicate(seen, &instance_id, why);
                    let answer = self.call(Call::Terminate(instance_id.clone()))?;
                    let now = self.now;
                    let process = self.me()?;
                    let clock = process.clock(now);
                    if !matches!(answer, Answer::NotFound) {
                        process.fleet.ended(&instance_id, clock);
                        process.row.memory.ending = Some(clock);
                    } else if !process.fleet.missed(&instance_id, clock) {
                        return Err(Stop::Failed);
                    }
                }
                Action::DeletePod => {
                    if seen.pod.is_some() && matches!(self.call(Call::DeletePod)?, Answer::NotFound) {
                        self.me()?.row.gone = true;
                    }
                    again = again.min(Duration::from_millis(50));
                }
            }
        }
        let process = self.me()?;
        if state == State::Gone && process.cached.as_ref().is_none_or(Option::is_none) {
            process.row = Tracked::default();
            return Ok(None);
        }
        Ok(Some(again))
    }

    /// Of two machines, the one stays that the pod names.
    fn mind_duplicate(&mut self, seen: &Seen, id: &str, why: &str) {
        let named = seen.pod.as_deref().and_then(|pod| Intent::read(pod).ok().flatten()?.instance_id);
        if why == "duplicate" && named.as_deref() == Some(id) {
            self.violate("of two machines, the one is ended that the pod names");
        }
    }

    fn link(&mut self, id: String) -> Result<(), Stop> {
        let now = self.now;
        let me = self.me()?;
        if me.link.as_ref().is_some_and(|link| link.status.instance_id == id) {
            return Ok(());
        }
        let state = LinkState::Dialing { since: me.clock(now), error: None, was_attached: false };
        me.link = Some(Link {
            status: LinkStatus {
                instance_id: id,
                state,
                shown: false,
                reached: None,
                attached: None,
                notice: None,
                usable: None,
                has_nvidia: false,
            },
            revoked: false,
        });
        Ok(())
    }

    fn shut_down(&mut self, id: String) -> Result<(), Stop> {
        let is_attached = self.me()?.attached() == Some(&id);
        if is_attached {
            if let Some(machine) = self.machine(&id)
                && machine.kubelet == Kubelet::Runs
            {
                machine.kubelet = Kubelet::Ended(143);
            }
            self.kubelet_looks();
            self.end(&id, "Client.InstanceInitiatedShutdown");
        }
        self.me()?.row.memory.draining = Some(id);
        Ok(())
    }

    fn write_status(&mut self, pod: &Pod, change: &StatusChange) -> Result<(), Stop> {
        // Conditions are not kept here, so what would change nothing is told apart by hand.
        let wanted = match change {
            StatusChange::Pending { .. } => phase_of(pod) != Some("Pending"),
            StatusChange::Failed { .. } => true,
            StatusChange::NotReady { .. } => false,
        };
        let now = self.now;
        let clock = self.me()?.clock(now);
        let Some(patch) = wanted.then(|| status::patch(pod, change, clock)).flatten() else { return Ok(()) };
        let version = patch["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let answer = self.call(Call::PatchStatus { patch, version })?;
        self.answered(answer).map(drop)
    }

    /// As `Core::write_intent`.
    fn annotate(&mut self, pod: &Pod, intent: &Intent) -> Result<Option<Arc<Pod>>, Stop> {
        let version = pod.metadata.resource_version.clone();
        let answer = self.call(Call::Annotate { intent: Box::new(intent.clone()), version })?;
        self.answered(answer)
    }

    fn answered(&mut self, answer: Answer) -> Result<Option<Arc<Pod>>, Stop> {
        let live = self.pod.clone();
        let row = &mut self.me()?.row;
        match answer {
            Answer::Pod(pod) => Ok(row.newest(Some(pod))),
            Answer::NotFound => {
                row.gone = true;
                Ok(None)
            }
            Answer::Conflict => {
                row.newest(live);
                Err(Stop::Failed)
            }
            Answer::Done | Answer::Instance(_) | Answer::NoCapacity | Answer::Spent => Ok(None),
        }
    }

    /// As `Core::launch`.
    fn launch_for(&mut self, pod: Arc<Pod>, launch: Launch) -> Result<Duration, Stop> {
        let (epoch, failed_boots) = match launch {
            Launch::Repeat(intent) => {
                let Some((pod, intent)) = self.claim(pod, *intent)? else { return Ok(Duration::ZERO) };
                return self.run(&pod, intent).map(|again| again.unwrap_or_default());
            }
            Launch::Next { epoch, failed_boots, .. } => (epoch, failed_boots),
        };
        if !self.is_calm() && self.dice.chance(2) {
            let rejection = Rejection::single(reasons::NO_INSTANCE_TYPE, "spec", "no");
            self.me()?.row.memory.refused = Some(rejection);
            return Ok(Duration::ZERO);
        }
        let first = self.dice.below(2);
        let mut pod = pod;
        for (attempt, zone) in [first, 1 - first].into_iter().enumerate() {
            let candidate = mk_candidate(["a", "b"][zone]);
            let now = self.now;
            let clock = self.me()?.clock(now);
            let epoch = epoch + u32::try_from(attempt).unwrap();
            let intent = Intent::new(UID, epoch, failed_boots, &candidate, clock);
            let Some(written) = self.annotate(&pod, &intent)? else { return Ok(Duration::ZERO) };
            pod = written;
            if pod.metadata.deletion_timestamp.is_some() {
                return Ok(Duration::ZERO);
            }
            let memory = &mut self.me()?.row.memory;
            memory.wrote = Some(intent.token.clone());
            memory.failed = None;
            if let Some(again) = self.run(&pod, intent)? {
                return Ok(again);
            }
        }
        self.hold(15)
    }

    /// As `Core::claim`.
    fn claim(&mut self, pod: Arc<Pod>, intent: Intent) -> Result<Option<(Arc<Pod>, Intent)>, Stop> {
        let now = self.now;
        let me = self.me()?;
        if me.row.memory.wrote.as_ref() == Some(&intent.token) {
            return Ok(Some((pod, intent)));
        }
        let intent = intent.written_now(me.clock(now));
        let written = self.annotate(&pod, &intent)?;
        if written.is_some() {
            self.me()?.row.memory.wrote = Some(intent.token.clone());
        }
        Ok(written.map(|pod| (pod, intent)))
    }

    /// RunInstances, and what follows from its answer; `None` for the next candidate.
    fn run(&mut self, pod: &Pod, intent: Intent) -> Result<Option<Duration>, Stop> {
        if pod.metadata.deletion_timestamp.is_some() || status::is_terminal(pod) {
            self.violate("a machine for a pod that goes");
        }
        let answer = match self.call(Call::Launch(Box::new(intent.clone()))) {
            Ok(answer) => answer,
            Err(Stop::Killed) => return Err(Stop::Killed),
            // No definite answer: the same call again, soon.
            Err(Stop::Failed) => return self.hold(1).map(Some),
        };
        let now = self.now;
        let me = self.me()?;
        match answer {
            Answer::Instance(instance) => {
                let id = instance.id.clone();
                let clock = me.clock(now);
                me.row.answered(&instance);
                me.fleet.launched(*instance, clock);
                me.row.memory.hold = None;
                self.annotate(pod, &Intent { instance_id: Some(id), ..intent })?;
                Ok(Some(Duration::ZERO))
            }
            Answer::NoCapacity => {
                me.row.refused(&intent.token, Next::Candidate);
                Ok(None)
            }
            Answer::Spent => {
                me.row.refused(&intent.token, Next::LookUp);
                self.read()?;
                let list = self.listed();
                let now = self.now;
                self.me()?.take_list(now, list);
                self.hold(1).map(Some)
            }
            Answer::Done | Answer::Pod(_) | Answer::NotFound | Answer::Conflict => Ok(Some(Duration::ZERO)),
        }
    }

    fn hold(&mut self, seconds: u64) -> Result<Duration, Stop> {
        let now = self.now;
        let me = self.me()?;
        let until = after(me.clock(now), Duration::from_secs(seconds));
        me.row.memory.hold = Some(Hold { reason: reasons::NO_CAPACITY, message: String::new(), until });
        Ok(Duration::from_millis(1))
    }

    /// A call that only reads: it may fail, and meanwhile the world goes on.
    fn read(&mut self) -> Result<(), Stop> {
        nature::interfere(self)?;
        if !self.is_calm() && self.dice.chance(4) { Err(Stop::Failed) } else { Ok(()) }
    }

    /// A call that changes something: it may fail before or after, or be carried out when nobody waits any more.
    fn call(&mut self, call: Call) -> Result<Answer, Stop> {
        nature::interfere(self)?;
        let fate = if self.is_calm() { 99 } else { self.dice.below(100) };
        let answer = match fate {
            0..=3 => Err(Stop::Failed),
            4..=6 => {
                self.carry_out(call, false);
                Err(Stop::Failed)
            }
            7..=9 => {
                self.late.push(call);
                Err(Stop::Failed)
            }
            _ => Ok(self.carry_out(call, false)),
        };
        nature::interfere(self)?;
        answer
    }
}

fn mk_candidate(zone: &str) -> Candidate {
    Candidate {
        instance_type: "g5.xlarge".to_owned(),
        subnet_id: format!("subnet-{zone}"),
        zone: zone.to_owned(),
        ..Candidate::default()
    }
}
