//! The judge of a storm: what was promised, against the records of the API server and of the cloud.
//!
//! It knows nothing of ORCA but the tag by which an instance names its pod, reads nothing that ORCA wrote of itself, and
//! is pure: records in, verdicts out. `records` reads them from what the two servers kept.

// Named by path, since `it` includes this file from another folder.
#[path = "check/records.rs"]
pub(crate) mod records;

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use records::{Instance, Pod, Version};

/// What is wrong, by column. All of it must be nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    /// Instances that live when everything was deleted.
    Orphan,
    /// Two instances of one pod that lived at one time.
    Double,
    /// A pod that ended, and does not say with which exit code, or says another than its program's.
    Exit,
    /// A pod that had ended and was then in another phase, or with another exit code.
    Changed,
    /// A container that was started again although its machine never failed.
    Restart,
    /// A pod that was neither at work nor over long after the storm, or did not go when it was deleted.
    Stuck,
    /// An instance that was paid for while its pod was not there: longer than is allowed.
    Billed,
}

impl Column {
    pub(crate) const ALL: [Self; 7] =
        [Self::Orphan, Self::Double, Self::Exit, Self::Changed, Self::Restart, Self::Stuck, Self::Billed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orphan => "orphans",
            Self::Double => "double launches",
            Self::Exit => "wrong or missing exit codes",
            Self::Changed => "terminal phases that changed",
            Self::Restart => "containers started again",
            Self::Stuck => "pods stuck",
            Self::Billed => "dollars beyond the pods' lives",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) column: Column,
    pub(crate) text: String,
    /// Of [`Column::Billed`].
    pub(crate) dollars: f64,
}

/// When the storm was over, and what is allowed.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Everything that was asked for must be there or over by now.
    pub(crate) calm: Timestamp,
    /// Everything was deleted long ago.
    pub(crate) end: Timestamp,
    /// How long an instance may outlive its pod.
    pub(crate) overhead: SignedDuration,
    /// What a pod may be expected to come to.
    pub(crate) runs: Runs,
    /// By instance type, for an hour.
    pub(crate) dollars: BTreeMap<String, f64>,
}

/// Whether pods run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// There are kubelets.
    Truly,
    /// There are none: every pod waits until it is deleted.
    Never,
}

/// The verdicts, and what was looked at.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    pub(crate) pods: usize,
    /// Pods that told an exit code that was known beforehand.
    pub(crate) exits: usize,
    /// Pods that the storm took with their machines.
    pub(crate) excused: usize,
    pub(crate) instances: usize,
    /// Instances that were another one's successor for the same pod.
    pub(crate) replaced: usize,
    /// How long each ended instance outlived its pod, in seconds, sorted.
    pub(crate) outlived: Vec<f64>,
    pub(crate) dollars: f64,
}

/// Judges.
pub(crate) fn judge(pods: &[Pod], instances: &[Instance], terms: &Terms) -> Report {
    let mut of: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for one in instances {
        of.entry(&one.pod_uid).or_default().push(one);
    }
    let mut report = Report {
        findings: Vec::new(),
        pods: pods.len(),
        exits: 0,
        excused: 0,
        instances: instances.len(),
        replaced: of.values().map(|all| all.len() - 1).sum(),
        outlived: Vec::new(),
        dollars: 0.0,
    };
    for pod in pods {
        let machines = of.get(&*pod.uid).map_or(&[][..], |all| all.as_slice());
        report.pod(pod, machines, terms);
    }
    let owners: BTreeMap<&str, &Pod> = pods.iter().map(|pod| (&*pod.uid, pod)).collect();
    for all in of.values() {
        report.doubles(all, terms);
    }
    for one in instances {
        if one.ended.is_none() {
            report.find(Column::Orphan, format!("{one} still lives"));
        }
        report.bill(one, owners.get(&*one.pod_uid).copied(), terms);
    }
    report.outlived.sort_by(f64::total_cmp);
    report
}

impl Report {
    /// How many findings of a column; dollars for what was billed.
    pub(crate) fn count(&self, column: Column) -> f64 {
        let all = self.findings.iter().filter(|finding| finding.column == column);
        match column {
            Column::Billed => all.map(|finding| finding.dollars).fold(0.0, std::ops::Add::add),
            Column::Orphan
            | Column::Double
            | Column::Exit
            | Column::Changed
            | Column::Restart
            | Column::Stuck => all.map(|_| 1.0).fold(0.0, std::ops::Add::add),
        }
    }

    fn find(&mut self, column: Column, text: String) {
        self.findings.push(Finding { column, text, dollars: 0.0 });
    }

    fn pod(&mut self, pod: &Pod, machines: &[&Instance], terms: &Terms) {
        let over = pod.versions.iter().position(Version::is_over);
        if let Some(over) = over {
            self.unchanged(pod, over);
            self.exit(pod, &pod.versions[over], machines);
        }
        if machines.iter().all(|one| !one.failed) && pod.versions.iter().any(|version| version.restarts > 0) {
            self.find(Column::Restart, format!("{pod} was started again"));
        }
        let at_calm = pod.versions.iter().rfind(|version| version.at <= terms.calm);
        let is_there = pod.created <= terms.calm && pod.removed.is_none_or(|at| at > terms.calm);
        if let Some(version) = at_calm.filter(|_| is_there) {
            let is_well = if pod.ends() { version.is_over() } else { version.ready };
            if !is_well && !version.deleting && terms.runs == Runs::Truly {
                self.find(Column::Stuck, format!("{pod} is {version} after the storm"));
            } else if version.deleting {
                self.find(Column::Stuck, format!("{pod} is still being deleted after the storm"));
            }
        }
        if pod.removed.is_none() {
            self.find(Column::Stuck, format!("{pod} did not go when it was deleted"));
        }
    }

    /// Once it is over, it stays as it is.
    fn unchanged(&mut self, pod: &Pod, over: usize) {
        let first = &pod.versions[over];
        let changed = pod.versions[over..]
            .iter()
            .find(|later| later.phase != first.phase || first.exit.is_some() && later.exit != first.exit);
        if let Some(later) = changed {
            self.find(Column::Changed, format!("{pod} was {first} and then {later}"));
        }
    }

    fn exit(&mut self, pod: &Pod, over: &Version, machines: &[&Instance]) {
        // Who deletes a pod or takes its machine away has no claim to its program's own end.
        let is_taken = machines.iter().any(|one| one.failed && one.ended.is_some_and(|at| at <= over.at));
        if is_taken || over.deleting {
            self.excused += 1;
            return;
        }
        let Some(expected) = pod.exit else {
            self.find(Column::Exit, format!("{pod} was to run on, and is {over}"));
            return;
        };
        let phase = if expected == 0 { "Succeeded" } else { "Failed" };
        if over.exit == Some(expected) && over.phase == phase {
            self.exits += 1;
        } else {
            self.find(Column::Exit, format!("{pod} ended with {expected}, and is {over}"));
        }
    }

    fn doubles(&mut self, all: &[&Instance], terms: &Terms) {
        for (at, one) in all.iter().enumerate() {
            let lives = |one: &Instance| (one.launched, one.ended.unwrap_or(terms.end));
            let (launched, ended) = lives(one);
            for other in &all[at + 1..] {
                let (other_launched, other_ended) = lives(other);
                if launched < other_ended && other_launched < ended {
                    self.find(Column::Double, format!("{one} and {other} lived at one time"));
                }
            }
        }
    }

    fn bill(&mut self, one: &Instance, pod: Option<&Pod>, terms: &Terms) {
        let ended = one.ended.unwrap_or(terms.end);
        let hour = terms.dollars.get(&one.kind).copied().unwrap_or(1.0);
        let cost =
            |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64().max(0.0) / 3600.0 * hour;
        self.dollars += cost(one.launched, ended);
        let (begin, over) = match pod {
            Some(pod) => (pod.bound.unwrap_or(pod.created), pod.over().unwrap_or(terms.end)),
            None => (one.launched, one.launched),
        };
        let before = cost(one.launched, begin.min(ended));
        // Never before its own launch: what was launched for a pod that had ended counts from then on.
        let after = over.max(one.launched);
        if one.ended.is_some() {
            self.outlived.push(ended.duration_since(after).as_secs_f64().max(0.0));
        }
        let allowed = if pod.is_some() { after + terms.overhead } else { one.launched };
        let beyond = before + cost(allowed, ended);
        if beyond > 0.0 {
            let late = ended.duration_since(after).as_secs_f64();
            let text = match pod {
                Some(pod) => format!("{one} ended {late:.1} s after {pod}, or was there before it"),
                None => format!("{one} belongs to no pod that ever was"),
            };
            self.findings.push(Finding { column: Column::Billed, text, dollars: beyond });
        }
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {}/{} ({})", self.namespace, self.name, self.uid)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.phase)?;
        match self.exit {
            Some(code) => write!(f, " with exit code {code}")?,
            None => write!(f, " without an exit code")?,
        }
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        write!(f, " at {}", self.at)
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance {} of pod {} (from {}", self.id, self.pod_uid, self.launched)?;
        match self.ended {
            Some(at) => write!(f, " to {at}, {})", self.reason),
            None => write!(f, ")"),
        }
    }
}
