//! What the machines' kubelets answered last, each answer with its age. Pure: time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Answer, Page};
use super::page::{Families, Own, Point, Usage};
use super::summary::Summary;
use super::tally::Tally;

/// An answer that is older is told to nobody: its machine has missed several, and numbers of then are not those of now.
pub(super) const STALE: Duration = Duration::from_secs(60);
/// How far a machine's clock may be from ours, in milliseconds; samples of a kubelet are up to 15 s old.
const CLOCK: i64 = 30_000;
/// No machine has so many CPUs.
const CPUS: f64 = 4096.0;
/// Nor such a network, in bytes a second.
const NETWORK: f64 = 1e12;

/// The machines that are asked, and their answers.
#[derive(Debug)]
pub(super) struct Cache {
    /// By pod UID.
    machines: BTreeMap<String, Machine>,
    cpu: Tally,
    received: Tally,
    sent: Tally,
}

#[derive(Debug)]
struct Machine {
    own: Own,
    since: Instant,
    answers: HashMap<Page, (Answer, Instant)>,
}

/// What the node is, of its machines' numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Node {
    /// Seconds of CPU time.
    pub(super) cpu: Option<Point>,
    /// Bytes.
    pub(super) memory: Option<Point>,
    /// Bytes.
    pub(super) swap: Option<Point>,
    /// Bytes.
    pub(super) received: Option<Point>,
    /// Bytes.
    pub(super) sent: Option<Point>,
    /// A machine does not answer, or its kubelet has trouble.
    pub(super) has_error: bool,
}

impl Default for Cache {
    fn default() -> Self {
        let network = Tally::new(NETWORK);
        Self { machines: BTreeMap::new(), cpu: Tally::new(CPUS), received: network.clone(), sent: network }
    }
}

impl Cache {
    /// From now on this machine is asked. Answers of another machine for the same pod are forgotten.
    pub(super) fn begin(&mut self, own: Own, now: Instant) {
        if self.machines.get(&own.uid).is_some_and(|machine| machine.own == own) {
            return;
        }
        // Another pod of that name is gone, if its machine is still there: two would be the same series twice.
        let is_replaced = |(uid, other): &(&String, &Machine)| {
            **uid == own.uid || (&other.own.namespace, &other.own.name) == (&own.namespace, &own.name)
        };
        let replaced: Vec<String> =
            self.machines.iter().filter(is_replaced).map(|(uid, _)| uid.clone()).collect();
        replaced.iter().for_each(|uid| self.remove(uid));
        let uid = own.uid.clone();
        self.machines.insert(uid, Machine { own, since: now, answers: HashMap::new() });
    }

    /// The machine is gone.
    pub(super) fn remove(&mut self, uid: &str) {
        self.machines.remove(uid);
        for tally in [&mut self.cpu, &mut self.received, &mut self.sent] {
            tally.remove(uid);
        }
    }

    /// UIDs of the pods whose machines are asked.
    pub(super) fn uids(&self) -> Vec<String> {
        self.machines.keys().cloned().collect()
    }

    /// An answer of a machine's kubelet. `clock` is the time in milliseconds since 1970.
    pub(super) fn put(&mut self, own: &Own, page: Page, answer: Answer, now: Instant, clock: i64) {
        let Some(machine) = self.machines.get_mut(&own.uid).filter(|machine| machine.own == *own) else {
            return;
        };
        // A machine whose clock is wrong must not hold up the sum of all.
        let near = |point: Point| Point { at: point.at.clamp(clock - CLOCK, clock), ..point };
        match &answer {
            Answer::Numbers { usage: Usage { cpu: Some(cpu), .. }, .. } => self.cpu.add(&own.uid, near(*cpu)),
            Answer::Numbers { .. } => {}
            Answer::Summary(summary) => {
                if let Some((received, sent)) = summary.network() {
                    self.received.add(&own.uid, near(received));
                    self.sent.add(&own.uid, near(sent));
                }
            }
        }
        machine.answers.insert(page, (answer, now));
    }

    /// The series of all machines on one page.
    pub(super) fn series(&mut self, page: Page, now: Instant) -> Vec<Arc<Families>> {
        self.expire(now);
        let answers = self.machines.values().filter_map(|machine| machine.answers.get(&page));
        answers
            .filter_map(|(answer, _)| match answer {
                Answer::Numbers { series, .. } => Some(Arc::clone(series)),
                Answer::Summary(_) => None,
            })
            .collect()
    }

    /// The summaries of all machines, by pod UID.
    pub(super) fn summaries(&mut self, now: Instant) -> Vec<(String, Arc<Summary>)> {
        self.expire(now);
        let all =
            self.machines.iter().filter_map(|(uid, machine)| match machine.answers.get(&Page::Summary)? {
                (Answer::Summary(summary), _) => Some((uid.clone(), Arc::clone(summary))),
                (Answer::Numbers { .. }, _) => None,
            });
        all.collect()
    }

    /// The node as the sum of its machines.
    pub(super) fn node(&mut self, now: Instant) -> Node {
        self.expire(now);
        let usages: Vec<Usage> = self.machines.values().filter_map(Machine::usage).collect();
        let cpu = self.cpu.read();
        // Readers take the time of either for the time of both.
        let at = cpu.map(|cpu| cpu.at);
        let sum = |field: fn(&Usage) -> Option<Point>| {
            let points: Vec<Point> = usages.iter().filter_map(field).collect();
            let at = at.or_else(|| points.iter().map(|point| point.at).min())?;
            (!points.is_empty()).then(|| Point { value: points.iter().map(|point| point.value).sum(), at })
        };
        let is_silent =
            |machine: &Machine| machine.usage().is_none() && now.duration_since(machine.since) > STALE;
        Node {
            cpu,
            memory: sum(|usage| usage.memory).filter(|memory| memory.value > 0.0),
            swap: sum(|usage| usage.swap),
            received: self.received.read(),
            sent: self.sent.read(),
            has_error: usages.iter().any(|usage| usage.has_error) || self.machines.values().any(is_silent),
        }
    }

    /// Forgets answers that are too old.
    fn expire(&mut self, now: Instant) {
        for (uid, machine) in &mut self.machines {
            machine.answers.retain(|_, (_, at)| now.duration_since(*at) <= STALE);
            if !machine.answers.contains_key(&Page::Resource) {
                self.cpu.remove(uid);
            }
            if !machine.answers.contains_key(&Page::Summary) {
                self.received.remove(uid);
                self.sent.remove(uid);
            }
        }
    }
}

impl Machine {
    fn usage(&self) -> Option<Usage> {
        match self.answers.get(&Page::Resource)? {
            (Answer::Numbers { usage, .. }, _) => Some(*usage),
            (Answer::Summary(_), _) => None,
        }
    }
}
