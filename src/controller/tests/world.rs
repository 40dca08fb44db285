//! The world around one pod: the API server's object, the cloud's machines, their kubelets; and what must never happen
//! in it. All of it is data: no runtime, no wire.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::dice::Dice;
use super::process::Process;
use crate::clock::after;
use crate::cloud::{
    Bought, Instance, InstanceState, StateReason, TAG_EPOCH, TAG_HOST_KEY, TAG_POD_NAME, TAG_POD_NAMESPACE,
    TAG_POD_UID,
};
use crate::pod::intent::{ANNOTATION_LAUNCH, Intent};
use crate::pod::status;

pub(super) const UID: &str = "u-1";
/// From `terminate` to terminated.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// What is terminated is shown for so long.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Everything there is.
pub(super) struct World {
    pub(super) dice: Dice,
    /// The true time, which is also the cloud's and the API server's.
    pub(super) now: Timestamp,
    pub(super) pod: Option<Arc<Pod>>,
    version: u64,
    pub(super) machines: Vec<Machine>,
    /// Calls whose sender gave up on them, and which may still be carried out.
    pub(super) late: Vec<Call>,
    pub(super) process: Option<Process>,
    /// No tunnel reaches any machine.
    pub(super) is_cut: bool,
    /// Nothing of that kind is to be had.
    pub(super) is_dry: bool,
    /// Somebody took away or broke what ORCA wrote into the pod.
    pub(super) is_meddled: bool,
    /// What nature may still do; faults are over at 0.
    pub(super) storm: u32,
    /// What happened, if somebody reads it.
    pub(super) story: Option<Vec<String>>,
    pub(super) wrong: Vec<String>,
}

/// A machine, as it truly is.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) instance: Instance,
    shown_from: Timestamp,
    /// The cloud denies it.
    pub(super) is_hidden: bool,
    /// The cloud denied it once, so that there may be another by rights.
    pub(super) was_hidden: bool,
    /// As `was_hidden`, by the cloud itself.
    pub(super) was_denied: bool,
    /// Not ORCA's doing: a call that its sender had given up, or somebody's copy.
    is_strays: bool,
    pub(super) ended: Option<Timestamp>,
    pub(super) kubelet: Kubelet,
}

/// What a machine's kubelet does with the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kubelet {
    /// It has never seen it.
    Fresh,
    Runs,
    Ending(Timestamp),
    /// Nothing of it runs any more; with its exit code.
    Ended(i32),
}

/// A call that changes something.
#[derive(Clone, Debug)]
pub(super) enum Call {
    /// RunInstances.
    Launch(Box<Intent>),
    Terminate(String),
    Annotate {
        intent: Box<Intent>,
        version: Option<String>,
    },
    PatchStatus {
        patch: Value,
        version: Option<String>,
    },
    DeletePod,
}

/// What a call answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Done,
    Pod(Arc<Pod>),
    Instance(Box<Instance>),
    /// The object is gone.
    NotFound,
    /// It is not as the caller saw it.
    Conflict,
    NoCapacity,
    /// The token's machine is gone.
    Spent,
}

impl World {
    pub(super) fn new(seed: u64, storm: u32, story: Option<Vec<String>>) -> Self {
        let mut dice = Dice::new(seed);
        let mut world = Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            pod: None,
            version: 0,
            machines: Vec::new(),
            late: Vec::new(),
            process: None,
            is_cut: false,
            is_meddled: false,
            is_dry: dice.chance(10),
            storm,
            story,
            wrong: Vec::new(),
            dice,
        };
        let held = world.dice.chance(10);
        world.put(mk_pod(held));
        world
    }

    pub(super) fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.story.is_some() {
            let line = format!(
                "{:>9.2}s {}",
                (self.now.as_millisecond() - 1_800_000_000_000) as f64 / 1000.0,
                what(self)
            );
            self.story.get_or_insert_default().push(line);
        }
    }

    pub(super) fn violate(&mut self, rule: impl Into<String>) {
        let rule = rule.into();
        self.tell(|_| format!("WRONG: {rule}"));
        self.wrong.push(rule);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.storm == 0
    }

    pub(super) fn pass_time(&mut self, by: Duration) {
        self.now = after(self.now, by);
    }

    // The API server.

    fn put(&mut self, mut pod: Pod) {
        self.version += 1;
        pod.metadata.resource_version = Some(self.version.to_string());
        let old = self.pod.as_deref().and_then(phase_of);
        let new = phase_of(&pod);
        if matches!(old, Some("Succeeded" | "Failed")) && old != new {
            let text = format!("a terminal phase changed: {old:?} to {new:?}");
            self.violate(text);
        }
        self.pod = Some(Arc::new(pod));
    }

    /// Changes the pod as somebody who needs no permission.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Pod)) {
        if let Some(pod) = &self.pod {
            let mut pod = Pod::clone(pod);
            change(&mut pod);
            self.put(pod);
        }
    }

    /// As `kubectl delete` does it.
    pub(super) fn delete(&mut self, grace: i64) {
        let Some(pod) = self.pod.clone() else { return };
        let grace = if status::is_terminal(&pod) { 0 } else { grace };
        let is_held = pod.metadata.finalizers.as_ref().is_some_and(|all| !all.is_empty());
        if grace == 0 && !is_held {
            self.pod = None;
        } else if pod.metadata.deletion_grace_period_seconds.is_none_or(|asked| grace < asked) {
            let at = after(self.now, Duration::from_secs(grace.unsigned_abs()));
            self.change(|pod| {
                pod.metadata.deletion_timestamp = Some(Time(at));
                pod.metadata.deletion_grace_period_seconds = Some(grace);
            });
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some())
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.pod.as_deref().is_some_and(status::is_terminal)
    }

    // Calls of ORCA.

    /// Carries out a call; `is_late` if nobody waits for it any more.
    pub(super) fn carry_out(&mut self, call: Call, is_late: bool) -> Answer {
        self.tell(|_| format!("{}{}", if is_late { "LATE " } else { "" }, call.brief()));
        match call {
            Call::Launch(intent) => self.launch(&intent, is_late),
            Call::Terminate(id) => {
                if !is_late {
                    self.mind_termination(&id);
                }
                if self.described(&id).is_none() {
                    return Answer::NotFound;
                }
                self.end(&id, "Client.UserInitiatedShutdown");
                Answer::Done
            }
            Call::Annotate { intent, version } => self.patch(version, |pod| {
                let all = pod.metadata.annotations.get_or_insert_default();
                all.insert(ANNOTATION_LAUNCH.to_owned(), intent.to_annotation());
            }),
            Call::PatchStatus { patch, version } => {
                if patch["status"]["phase"] == "Failed"
                    && version.as_ref().is_none_or(|it| *it == self.version.to_string())
                {
                    self.mind_containers("a terminal phase is written");
                }
                self.patch(version, |pod| {
                    let status = pod.status.get_or_insert_default();
                    let text = |field: &str| patch["status"][field].as_str().map(str::to_owned);
                    status.phase = text("phase").or_else(|| status.phase.take());
                    status.reason = text("reason").or_else(|| status.reason.take());
                })
            }
            Call::DeletePod => {
                if self.pod.is_none() {
                    return Answer::NotFound;
                }
                self.mind_containers("the object goes");
                if !self.is_deleted() {
                    self.violate("deleted without being asked");
                }
                self.delete(0);
                Answer::Done
            }
        }
    }

    fn patch(&mut self, version: Option<String>, change: impl FnOnce(&mut Pod)) -> Answer {
        if self.pod.is_none() {
            return Answer::NotFound;
        }
        if version.is_some_and(|version| version != self.version.to_string()) {
            return Answer::Conflict;
        }
        self.change(change);
        self.pod.clone().map_or(Answer::NotFound, Answer::Pod)
    }

    fn launch(&mut self, intent: &Intent, is_late: bool) -> Answer {
        let known = |one: &&Machine| one.instance.client_token.as_deref() == Some(&intent.token);
        if let Some(machine) = self.machines.iter().find(known) {
            return match machine.ended {
                Some(_) => Answer::Spent,
                None => Answer::Instance(Box::new(machine.instance.clone())),
            };
        }
        if self.is_dry || (!self.is_calm() && self.dice.chance(20)) {
            return Answer::NoCapacity;
        }
        // What the cloud denied cannot be known of, nor what nobody waits for.
        let owned = |one: &&Machine| one.ended.is_none() && !one.was_hidden && !one.is_strays;
        if let Some(other) = self.machines.iter().find(owned).filter(|_| !is_late) {
            let text = format!("a second machine beside {}", other.instance.id);
            self.violate(text);
        }
        let instance = self.make(intent, is_late);
        let written = self.pod.as_deref().and_then(|pod| Intent::read(pod).ok().flatten());
        if !is_late && written.is_none_or(|written| written.token != intent.token) {
            if self.is_meddled {
                self.machines.iter_mut().for_each(|one| one.was_hidden = true);
            } else if self.pod.is_some() {
                self.violate("launched without its intent in the pod");
            }
        }
        Answer::Instance(Box::new(instance))
    }

    /// A machine more.
    pub(super) fn make(&mut self, intent: &Intent, is_strays: bool) -> Instance {
        let number = u8::try_from(self.machines.len()).unwrap();
        let tags = [
            (TAG_POD_UID, UID.to_owned()),
            (TAG_POD_NAMESPACE, "d".to_owned()),
            (TAG_POD_NAME, "p".to_owned()),
            (TAG_EPOCH, intent.epoch.to_string()),
        ];
        let instance = Instance {
            id: format!("i-{number}"),
            state: InstanceState::Pending,
            state_reason: None,
            instance_type: intent.instance_type.clone(),
            image_id: intent.image_id.clone(),
            zone: intent.zone.clone(),
            subnet_id: intent.subnet_id.clone(),
            private_ip: Some(IpAddr::from([10, 0, 0, number])),
            pod_ip: Some(IpAddr::from([10, 0, 1, number])),
            launched_at: Some(self.now),
            client_token: Some(intent.token.clone()),
            bought: Bought::default(),
            tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
            runpod: None,
        };
        let lag = Duration::from_secs(if self.is_calm() { 0 } else { self.dice.pick(&[0, 0, 2, 30]) });
        self.machines.push(Machine {
            instance: instance.clone(),
            shown_from: after(self.now, lag),
            is_hidden: false,
            was_hidden: false,
            was_denied: false,
            is_strays,
            ended: None,
            kubelet: Kubelet::Fresh,
        });
        instance
    }

    // The cloud.

    /// What the cloud says of one machine.
    pub(super) fn described(&self, id: &str) -> Option<Instance> {
        self.machines.iter().find(|one| one.instance.id == id)?.shown(self.now)
    }

    pub(super) fn listed(&self) -> Vec<Instance> {
        self.machines.iter().filter_map(|one| one.shown(self.now)).collect()
    }

    pub(super) fn machine(&mut self, id: &str) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|one| one.instance.id == id)
    }

    pub(super) fn end(&mut self, id: &str, code: &str) {
        let now = self.now;
        if let Some(machine) = self.machine(id).filter(|one| one.ended.is_none() && one.shown(now).is_some())
        {
            machine.ended = Some(now);
            machine.instance.state = InstanceState::ShuttingDown;
            let message = code.to_owned();
            machine.instance.state_reason = Some(StateReason { code: code.to_owned(), message });
        }
    }

    /// What time does to machines.
    pub(super) fn settle_machines(&mut self) {
        let now = self.now;
        for machine in &mut self.machines {
            let done = machine.ended.is_some_and(|at| after(at, SHUTDOWN) <= now);
            if done {
                machine.instance.state = InstanceState::Terminated;
                if let Kubelet::Runs | Kubelet::Ending(_) = machine.kubelet {
                    machine.kubelet = Kubelet::Ended(137);
                }
            } else if let Kubelet::Ending(at) = machine.kubelet
                && at <= now
            {
                machine.kubelet = Kubelet::Ended(143);
            }
        }
    }

    pub(super) fn alive(&self) -> usize {
        self.machines.iter().filter(|one| one.ended.is_none()).count()
    }

    // What must never happen.

    fn mind_containers(&mut self, what: &str) {
        let running = self.machines.iter().find(|one| {
            let runs = matches!(one.kubelet, Kubelet::Runs | Kubelet::Ending(_));
            // Of a machine that the cloud denies, nobody can know without contact.
            runs && !(one.is_hidden && self.attached() != Some(&one.instance.id))
        });
        if let Some(machine) = running {
            let text = format!("{what} while containers may run on {}", machine.instance.id);
            self.violate(text);
        }
    }

    fn mind_termination(&mut self, id: &str) {
        if self.process.as_ref().is_some_and(|process| !process.has_read()) {
            self.violate("terminated before both lists were read");
        }
        // Nothing runs without power.
        let runs = self.machines.iter().any(|one| {
            let has_power = one.instance.state != InstanceState::Stopped;
            one.instance.id == id && one.kubelet == Kubelet::Runs && has_power
        });
        let healthy = self.pod.is_some() && !self.is_deleted() && !self.is_terminal();
        if runs && healthy && self.attached() == Some(id) {
            let text = format!("{id} is ended although its pod runs there");
            self.violate(text);
        }
    }

    /// The machine that there is contact with.
    fn attached(&self) -> Option<&str> {
        self.process.as_ref()?.attached()
    }

    /// The kubelet of the machine that is attached looks at the API, as far as the gateway lets it.
    pub(super) fn kubelet_looks(&mut self) {
        let Some(id) = self.attached().map(str::to_owned) else { return };
        if self.process.as_ref().is_none_or(|process| process.has_revoked()) {
            return;
        }
        let (now, pod) = (self.now, self.pod.clone());
        let grace = Duration::from_secs(self.dice.pick(&[0, 2, 20]));
        let (deleted, terminal) = (self.is_deleted(), self.is_terminal());
        // With the intent taken away and the machine denied, nobody can know.
        let had = |one: &Machine| one.kubelet != Kubelet::Fresh && !(self.is_meddled && one.was_denied);
        let elsewhere = self.machines.iter().any(|one| one.instance.id != id && had(one));
        let Some(machine) = self.machine(&id).filter(|one| one.instance.state == InstanceState::Running)
        else {
            return;
        };
        let kubelet = machine.kubelet;
        match kubelet {
            Kubelet::Fresh if pod.is_some() && !terminal => {
                machine.kubelet = if deleted { Kubelet::Ended(0) } else { Kubelet::Runs };
                if let Some(process) = &mut self.process {
                    process.shown();
                }
                if elsewhere {
                    self.violate("the pod is shown to a second machine");
                }
                if !deleted && self.dice.chance(70) {
                    self.report("Running");
                }
            }
            Kubelet::Runs if pod.is_none() || deleted || terminal => {
                machine.kubelet = Kubelet::Ending(after(now, grace));
            }
            Kubelet::Runs => self.report("Running"),
            Kubelet::Ended(code) if pod.is_some() && !terminal => {
                self.report(if code == 0 { "Succeeded" } else { "Failed" });
            }
            Kubelet::Ended(_) if deleted => self.delete(0),
            Kubelet::Fresh | Kubelet::Ending(_) | Kubelet::Ended(_) => {}
        }
        self.tell(|_| format!("the kubelet of {id} ({kubelet:?}) looked"));
    }

    fn report(&mut self, phase: &str) {
        let now = self.now;
        let same =
            self.pod.as_deref().is_some_and(|pod| phase_of(pod) == Some(phase) && status::is_kubelets(pod));
        if self.is_terminal() || same {
            return;
        }
        self.change(|pod| {
            let status = pod.status.get_or_insert_default();
            status.phase = Some(phase.to_owned());
            status.start_time.get_or_insert(Time(now));
        });
    }
}

impl Call {
    fn brief(&self) -> String {
        match self {
            Self::Launch(intent) => format!("RunInstances epoch {} in {}", intent.epoch, intent.zone),
            Self::Terminate(id) => format!("TerminateInstances {id}"),
            Self::Annotate { intent, version } => {
                format!(
                    "intent epoch {} in {} {:?}, over {version:?}",
                    intent.epoch, intent.zone, intent.instance_id
                )
            }
            Self::PatchStatus { patch, version } => {
                format!("status {}, over {version:?}", patch["status"]["phase"])
            }
            Self::DeletePod => "DELETE".to_owned(),
        }
    }
}

impl Machine {
    fn shown(&self, now: Timestamp) -> Option<Instance> {
        let forgotten = self.ended.is_some_and(|at| after(at, REMEMBERED) <= now);
        let shown = now >= self.shown_from && !self.is_hidden && !forgotten;
        shown.then(|| self.instance.clone())
    }

    pub(super) fn pin(&mut self) {
        self.instance.tags.entry(TAG_HOST_KEY.to_owned()).or_insert_with(|| "k".to_owned());
    }
}

pub(super) fn phase_of(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn mk_pod(held: bool) -> Pod {
    let mut pod: Pod = Pod::default();
    pod.metadata.name = Some("p".to_owned());
    pod.metadata.namespace = Some("d".to_owned());
    pod.metadata.uid = Some(UID.to_owned());
    pod.metadata.finalizers = held.then(|| vec!["f".to_owned()]);
    pod.status.get_or_insert_default().phase = Some("Pending".to_owned());
    pod
}
