//! What follows from a seed: the storm, life by life of ORCA, and what is asked of the cluster meanwhile.
//!
//! Pure, and the same in every build: the same seed makes the same schedule, whatever else happens. Only how far each
//! life comes is the machine's affair.

use std::time::Duration;

/// Numbers from a seed (SplitMix64): not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// `stream` tells apart those who throw with the same seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True so many times of a hundred.
    fn percent(&mut self, chance: u64) -> bool {
        self.between(1, 100) <= chance
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let at = self.between(0, all.len() as u64 - 1);
        all[usize::try_from(at).expect("an index")]
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let with = self.between(0, last as u64);
            all.swap(last, usize::try_from(with).expect("an index"));
        }
    }
}

/// One life of ORCA, from its start to its death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// As `ORCA_FAILPOINT` has them: the first that is met is its death. Without any it is killed when its time is over.
    pub(crate) points: Vec<String>,
    /// It is killed then, if it lives.
    pub(crate) lasts: Duration,
    /// What happens to others meanwhile, or just before.
    pub(crate) blow: Option<Blow>,
    pub(crate) replica: Replica,
}

/// Which of the two replicas lives. The other one is dead, and what it was leader of has to be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replica {
    First,
    Second,
}

/// Trouble that is not ORCA's own death. A victim is counted through the machines that run at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The cloud does the next call of that name, and says nothing, or nothing sensible.
    LostAnswer { action: &'static str, then: &'static str },
    /// The next call of that name is answered so late.
    LateAnswer { action: &'static str, delay: Duration },
    /// Nobody answers at the cloud for so many calls.
    Outage { calls: u64 },
    /// One machine's tunnel, or every machine's, is cut for so long.
    Cut { victim: Option<u64>, lasts: Duration },
    /// One machine is gone at once.
    Death { victim: u64 },
    /// One machine stands still for so long.
    Freeze { victim: u64, lasts: Duration },
    /// Somebody takes labels of ours from the Node.
    Tamper,
    /// The API server and the whole control plane end and start again.
    ApiServer,
}

/// With how many machines it rages, and whether they are real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machines {
    Real,
    States,
}

/// Every so many lives one is long, and nothing is armed in it: so that pods come further than their machines' boot.
const CALM_EVERY: u64 = 10;
/// Every so many lives the other replica takes over.
const SWITCH_EVERY: u64 = 30;
/// Points that every life meets in its first second.
const NEAR: [&str; 7] =
    ["leader.lease", "node.lease", "node.event", "node.status", "machine.session", "pod.status", "pod.event"];
/// So many of the other points are armed together.
const TOGETHER: usize = 8;

const ACTIONS: [&str; 5] =
    ["RunInstances", "TerminateInstances", "CreateTags", "PutLogEvents", "DescribeInstances"];

/// The storm: an endless series of lives.
#[derive(Debug)]
pub(crate) struct Storm {
    dice: Dice,
    machines: Machines,
    /// Failpoints that every life meets at once.
    near: Vec<String>,
    /// All others.
    far: Vec<String>,
    deck: Vec<String>,
    count: u64,
    replica: Replica,
}

impl Storm {
    /// `writes` are the names of what can be met here; each is met before and after.
    pub(crate) fn new(seed: u64, machines: Machines, writes: &[&str]) -> Self {
        let points = writes.iter().flat_map(|name| [format!("{name}.before"), format!("{name}.after")]);
        let (near, far) = points.partition(|point| NEAR.iter().any(|near| point.starts_with(near)));
        Self {
            dice: Dice::new(seed, 0),
            machines,
            near,
            far,
            deck: Vec::new(),
            count: 0,
            replica: Replica::First,
        }
    }

    /// What one life is armed with: some points that are far, or one that is far and has its time, or one that is near.
    /// Every one that is far has its turn before any has a second.
    fn points(&mut self) -> Vec<String> {
        let kind = self.dice.between(1, 100);
        if self.near.is_empty() || kind <= 85 {
            let count = if kind <= 60 { TOGETHER.min(self.far.len()) } else { 1 };
            return (0..count).map(|_| self.far_point()).collect();
        }
        let near = usize::try_from(self.dice.between(0, self.near.len() as u64 - 1)).expect("an index");
        let point = self.near[near].clone();
        vec![self.armed(&point)]
    }

    fn far_point(&mut self) -> String {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.far);
            self.dice.shuffle(&mut self.deck);
        }
        let name = self.deck.pop().expect("there are points");
        self.armed(&name)
    }

    fn armed(&mut self, name: &str) -> String {
        let nth = self.dice.one_of(&[1, 1, 1, 1, 2]);
        let fate = match self.dice.between(1, 10) {
            // Only a call that has begun can be interrupted.
            1..=3 if name.ends_with(".before") => format!("kill:{}", self.dice.between(1, 40)),
            4 => "stall".to_owned(),
            _ => "kill".to_owned(),
        };
        format!("{name}#{nth}={fate}")
    }

    fn blow(&mut self) -> Blow {
        let dice = &mut self.dice;
        let victim = dice.between(0, 99);
        let seconds = Duration::from_secs(dice.between(1, 10));
        match dice.between(1, 100) {
            1..=25 => Blow::LostAnswer {
                action: dice.one_of(&ACTIONS),
                then: dice.one_of(&["act_then_drop", "act_then_refuse", "drop"]),
            },
            26..=45 => Blow::LateAnswer {
                action: dice.one_of(&ACTIONS),
                delay: Duration::from_millis(dice.between(200, 4000)),
            },
            46..=50 => Blow::Outage { calls: dice.between(2, 12) },
            51..=57 => Blow::Tamper,
            58..=60 => Blow::ApiServer,
            61..=68 => Blow::Death { victim },
            // The rest is for machines that are more than a state.
            _ if self.machines == Machines::States => Blow::Death { victim },
            69..=84 => Blow::Cut { victim: Some(victim), lasts: seconds },
            85..=90 => Blow::Cut { victim: None, lasts: seconds },
            _ => Blow::Freeze { victim, lasts: seconds },
        }
    }
}

impl Iterator for Storm {
    type Item = Life;

    fn next(&mut self) -> Option<Life> {
        self.count += 1;
        if self.count.is_multiple_of(SWITCH_EVERY) {
            self.replica = match self.replica {
                Replica::First => Replica::Second,
                Replica::Second => Replica::First,
            };
            // As long as the Lease of the one before, and long enough to act.
            let lasts = Duration::from_millis(self.dice.between(16_000, 20_000));
            return Some(Life { points: Vec::new(), lasts, blow: None, replica: self.replica });
        }
        let calm = self.count.is_multiple_of(CALM_EVERY);
        let points = if !calm && self.dice.percent(70) { self.points() } else { Vec::new() };
        let lasts = match (calm, points.len()) {
            (true, _) if self.machines == Machines::States => self.dice.between(4000, 8000),
            (true, _) => self.dice.between(18_000, 28_000),
            (false, 0) => self.dice.between(50, 2000),
            (false, 1) if self.near.iter().any(|near| points[0].starts_with(near)) => {
                self.dice.between(1500, 3000)
            }
            (false, 1) => self.dice.between(5000, 8000),
            (false, _) => self.dice.between(3000, 6000),
        };
        let blow = self.dice.percent(30).then(|| self.blow());
        Some(Life { points, lasts: Duration::from_millis(lasts), blow, replica: self.replica })
    }
}

/// What is asked of the cluster in one place for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tenant {
    /// A pod that ends by itself.
    Pod { runs: Duration, exit: i32 },
    /// A Job of one pod that ends by itself.
    Job { runs: Duration, exit: i32 },
    /// A Deployment of one pod, for so long after its pod is ready.
    Deployment { stays: Duration },
    /// A pod that is deleted after so long, wherever it is by then; at once and by force, or in good order.
    Doomed { after: Duration, end: End },
}

/// How a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Graceful,
    Forced,
}

/// Exit codes: what is right, what is usual, and what is nobody else's.
const EXITS: [i32; 6] = [0, 0, 1, 3, 42, 117];

/// What is asked for in one place: an endless series, with a pause before each.
#[derive(Debug)]
pub(crate) struct Load {
    dice: Dice,
    machines: Machines,
}

impl Load {
    /// Of the place with this number.
    pub(crate) fn new(seed: u64, machines: Machines, place: u64) -> Self {
        Self { dice: Dice::new(seed, place + 1), machines }
    }
}

impl Iterator for Load {
    type Item = (Duration, Tenant);

    fn next(&mut self) -> Option<Self::Item> {
        let dice = &mut self.dice;
        let kind = dice.between(1, 100);
        let end = if dice.percent(25) { End::Forced } else { End::Graceful };
        let exit = dice.one_of(&EXITS);
        let runs = Duration::from_secs(dice.between(1, 20));
        if self.machines == Machines::States {
            // No kubelet will ever say that anything ran.
            let after = Duration::from_millis(dice.between(0, 12_000));
            return Some((Duration::from_millis(dice.between(0, 1500)), Tenant::Doomed { after, end }));
        }
        let pause = Duration::from_millis(dice.between(200, 5000));
        let tenant = match kind {
            1..=40 => Tenant::Pod { runs, exit },
            41..=65 => Tenant::Job { runs, exit },
            66..=85 => Tenant::Deployment { stays: Duration::from_secs(dice.between(10, 90)) },
            _ => Tenant::Doomed { after: Duration::from_millis(dice.between(0, 30_000)), end },
        };
        Some((pause, tenant))
    }
}
