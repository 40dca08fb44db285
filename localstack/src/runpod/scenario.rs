//! What goes wrong on purpose: rules that tests set one by one, and a seeded storm of them all.
//!
//! A scenario belongs to one point of a pod's life or of a call; whoever comes by there draws. Rules are asked in the
//! order in which they were added, then the storm.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Scenario {
    /// A create is refused for want of capacity, whatever the catalog says: 400 with the phrase of this number.
    NoCapacity {
        #[serde(default)]
        phrase: usize,
    },
    /// A create is refused.
    Refuse { status: u16, detail: String },
    /// A create is done, and its answer is lost; lists show the pod later.
    LoseAnswer {
        how: Lost,
        #[serde(default)]
        listed_after_ms: u32,
    },
    /// Accepted and billed, and `PROVISIONING` for ever.
    StuckProvisioning {},
    /// Accepted and billed, and `EXITED` at the next bill.
    ExitAtTick {},
    /// Accepted, and after a while there is no such pod.
    Vanish {
        #[serde(default)]
        after_ms: u32,
    },
    /// `RUNNING` with an empty `runtime`, billed, and no container ever.
    NeverStarts {},
    /// Its container is killed so long after each start; without containers it exits with this code.
    Crash {
        after_ms: u32,
        #[serde(default = "one")]
        code: i32,
    },
    /// So long after its container's start, `ERROR`.
    Error {
        #[serde(default)]
        after_ms: u32,
    },
    /// So long after its container's start its host is taken out of service: `EXITED`.
    Maintenance {
        #[serde(default)]
        after_ms: u32,
    },
    /// Every start of its container maps other ports.
    RemapPorts {},
    /// A delete succeeds, and so many reads still show the pod.
    Linger { polls: u32 },
    /// A delete is refused, and nothing is deleted.
    RefuseDelete { status: u16 },
    /// 429.
    Throttle { retry_after_s: u64 },
    /// 5xx, with nothing done.
    ServerError { status: u16 },
    /// Done and answered late.
    Slow { delay_ms: u32 },
    /// Done, and the answer ends in the middle.
    Truncate {},
    /// The connection is closed without an answer, with nothing done.
    Drop {},
    /// A stream of logs ends in the middle of an event after so many.
    CutLogs { after_events: usize },
    /// A stream of logs that goes on after an event begins with that event again.
    RepeatBoundary {},
}

fn one() -> i32 {
    1
}

/// How an answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lost {
    /// The connection is closed.
    Drop,
    /// 502.
    BadGateway,
    /// Nothing comes, until the client gives up.
    Hang,
}

/// Where a scenario happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A create, before anything is done.
    Create,
    /// A create, afterwards.
    Answer,
    /// What becomes of a new pod.
    Fate,
    Delete,
    /// Any call.
    Call,
    /// A stream of logs that begins.
    Logs,
}

impl Scenario {
    #[must_use]
    pub fn point(&self) -> Point {
        match self {
            Self::NoCapacity { .. } | Self::Refuse { .. } => Point::Create,
            Self::LoseAnswer { .. } => Point::Answer,
            Self::StuckProvisioning {}
            | Self::ExitAtTick {}
            | Self::Vanish { .. }
            | Self::NeverStarts {}
            | Self::Crash { .. }
            | Self::Error { .. }
            | Self::Maintenance { .. }
            | Self::RemapPorts {} => Point::Fate,
            Self::Linger { .. } | Self::RefuseDelete { .. } => Point::Delete,
            Self::Throttle { .. }
            | Self::ServerError { .. }
            | Self::Slow { .. }
            | Self::Truncate {}
            | Self::Drop {} => Point::Call,
            Self::CutLogs { .. } | Self::RepeatBoundary {} => Point::Logs,
        }
    }

    /// What is wrong with its numbers.
    fn problem(&self) -> Option<String> {
        let status = match self {
            Self::Refuse { status, .. } if !(400..=499).contains(status) => Some((status, "400 to 499")),
            Self::RefuseDelete { status } if !(400..=599).contains(status) => Some((status, "400 to 599")),
            Self::ServerError { status } if !(500..=599).contains(status) => Some((status, "500 to 599")),
            _ => None,
        };
        match self {
            Self::NoCapacity { phrase } if *phrase >= super::stock::PHRASES.len() => {
                Some(format!("phrase is `{phrase}`, expected 0 to {}", super::stock::PHRASES.len() - 1))
            }
            _ => status.map(|(status, expected)| format!("status is `{status}`, expected {expected}")),
        }
    }
}

/// When a scenario happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub scenario: Scenario,
    /// Names of pods, with `*` for anything; default `*`, which is also calls without a pod.
    #[serde(default = "any")]
    pub pods: String,
    /// Calls such as `POST /v2/pods`, with `*` for anything; default `*`.
    #[serde(default = "any")]
    pub calls: String,
    /// How often; default for ever.
    #[serde(default)]
    pub times: Option<u32>,
    /// How likely each time, from 0 to 1; default 1.
    #[serde(default = "always")]
    pub chance: f64,
}

fn any() -> String {
    "*".to_owned()
}

fn always() -> f64 {
    1.0
}

/// Everything at once, by a seed: whoever comes by draws one of the scenarios for that point now and then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    pub seed: u64,
    /// How likely something goes wrong at each point, from 0 to 1.
    pub chance: f64,
    #[serde(default = "any")]
    pub pods: String,
    /// Default: each of them, with moderate numbers.
    #[serde(default = "everything")]
    pub scenarios: Vec<Scenario>,
}

/// A scenario of each kind.
#[must_use]
pub fn everything() -> Vec<Scenario> {
    let mut all: Vec<Scenario> =
        (0..super::stock::PHRASES.len()).map(|phrase| Scenario::NoCapacity { phrase }).collect();
    all.extend([
        Scenario::Refuse { status: 403, detail: "access denied".to_owned() },
        Scenario::LoseAnswer { how: Lost::Drop, listed_after_ms: 1500 },
        Scenario::LoseAnswer { how: Lost::BadGateway, listed_after_ms: 500 },
        Scenario::LoseAnswer { how: Lost::Hang, listed_after_ms: 0 },
        Scenario::StuckProvisioning {},
        Scenario::ExitAtTick {},
        Scenario::Vanish { after_ms: 3000 },
        Scenario::NeverStarts {},
        Scenario::Crash { after_ms: 2000, code: 1 },
        Scenario::Error { after_ms: 2000 },
        Scenario::Maintenance { after_ms: 3000 },
        Scenario::RemapPorts {},
        Scenario::Linger { polls: 3 },
        Scenario::RefuseDelete { status: 500 },
        Scenario::Throttle { retry_after_s: 1 },
        Scenario::ServerError { status: 500 },
        Scenario::ServerError { status: 503 },
        Scenario::Slow { delay_ms: 700 },
        Scenario::Truncate {},
        Scenario::Drop {},
        Scenario::CutLogs { after_events: 3 },
        Scenario::RepeatBoundary {},
    ]);
    all
}

/// All rules, and the storm if there is one.
#[derive(Debug)]
pub struct Scenarios {
    rules: Vec<(u64, Rule)>,
    next: u64,
    storm: Option<Storm>,
    random: StdRng,
}

impl Default for Scenarios {
    fn default() -> Self {
        Self { rules: Vec::new(), next: 0, storm: None, random: StdRng::seed_from_u64(0) }
    }
}

impl Scenarios {
    /// Adds a rule behind the others; its number.
    pub fn add(&mut self, rule: Rule) -> Result<u64, String> {
        check_chance(rule.chance)?;
        if let Some(problem) = rule.scenario.problem() {
            return Err(problem);
        }
        self.next += 1;
        self.rules.push((self.next, rule));
        Ok(self.next)
    }

    #[must_use]
    pub fn rules(&self) -> &[(u64, Rule)] {
        &self.rules
    }

    /// Removes a rule; whether there was one.
    pub fn remove(&mut self, number: u64) -> bool {
        let before = self.rules.len();
        self.rules.retain(|(own, _)| *own != number);
        self.rules.len() < before
    }

    /// No rules any more, and no storm.
    pub fn clear(&mut self) {
        self.rules.clear();
        self.storm = None;
    }

    #[must_use]
    pub fn storm(&self) -> Option<&Storm> {
        self.storm.as_ref()
    }

    /// Begins a storm, from its seed on, or ends it.
    pub fn set_storm(&mut self, storm: Option<Storm>) -> Result<(), String> {
        if let Some(storm) = &storm {
            check_chance(storm.chance)?;
            if let Some(problem) = storm.scenarios.iter().find_map(Scenario::problem) {
                return Err(problem);
            }
            self.random = StdRng::seed_from_u64(storm.seed);
        }
        self.storm = storm;
        Ok(())
    }

    /// What happens at a point to a pod of this name, in this call.
    pub fn draw(&mut self, point: Point, pod: Option<&str>, call: &str) -> Option<Scenario> {
        let is_of = |pattern: &str| matches(pattern, pod.unwrap_or(""));
        for (_, rule) in &mut self.rules {
            let fits = rule.scenario.point() == point && is_of(&rule.pods) && matches(&rule.calls, call);
            if !fits || rule.times == Some(0) || !self.random.random_bool(rule.chance) {
                continue;
            }
            rule.times = rule.times.map(|times| times - 1);
            let scenario = rule.scenario.clone();
            self.rules.retain(|(_, rule)| rule.times != Some(0));
            return Some(scenario);
        }
        let storm = self.storm.as_ref().filter(|storm| is_of(&storm.pods))?;
        let all: Vec<&Scenario> =
            storm.scenarios.iter().filter(|scenario| scenario.point() == point).collect();
        if all.is_empty() || !self.random.random_bool(storm.chance) {
            return None;
        }
        let index = self.random.random_range(0..all.len());
        Some(all[index].clone())
    }
}

fn check_chance(chance: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&chance) {
        return Ok(());
    }
    Err(format!("chance is `{chance}`, expected 0 to 1"))
}

/// Whether a text is as a pattern says, in which `*` is any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(before) else { return false };
    loop {
        if matches(after, rest) {
            return true;
        }
        let mut chars = rest.chars();
        if chars.next().is_none() {
            return false;
        }
        rest = chars.as_str();
    }
}

#[cfg(test)]
mod tests;
