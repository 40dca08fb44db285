//! What of a kubelet's page is passed on: the series of the machine's own pod, family by family. Pure.
//!
//! A machine speaks of its own pod alone. What others would read as another pod's numbers, or as the node's, is left
//! out, whatever runs on the machine.

use std::collections::{BTreeMap, HashSet};

use super::exposition::{Line, Sample, lines};

/// Series of one page at most; a pod with a container has about 200.
const SERIES: usize = 10_000;
/// Series of a machine itself at most; with one network interface it has six.
const OF_ONE_MACHINE: usize = 64;

/// The pod that a machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// The machine itself.
    pub instance_id: String,
}

/// Families by their name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Families(pub(super) BTreeMap<Box<str>, Family>);

/// All series of one name, and what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Family {
    /// HELP and TYPE, each a whole line.
    pub(super) head: Box<str>,
    /// The samples, each a whole line.
    pub(super) lines: Box<str>,
}

/// What the node's sums are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Seconds of CPU time since the machine's start.
    pub(super) cpu: Option<Point>,
    /// Bytes.
    pub(super) memory: Option<Point>,
    /// Bytes.
    pub(super) swap: Option<Point>,
    /// The kubelet could not read a container's numbers.
    pub(super) has_error: bool,
}

/// A number and the time it was read, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) value: f64,
    pub(super) at: i64,
}

/// What is kept of a machine that is no pod, with the machine's id as a label: what a cluster's dashboards sum up.
const OF_MACHINES: [&str; 2] = ["machine_cpu_cores", "machine_memory_bytes"];
/// The same, of its root control group.
const OF_ROOT: [&str; 4] = [
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_network_receive_bytes_total",
    "container_network_transmit_bytes_total",
];

/// The pod's own series.
pub(super) fn of_pod(page: &str, own: &Own) -> Families {
    collect(page, |sample| is_own(sample, own).then(|| sample.text.to_owned()))
}

/// The pod's own series, and some of the machine.
pub(super) fn of_machine(page: &str, own: &Own) -> Families {
    let mut left = OF_ONE_MACHINE;
    collect(page, |sample| {
        if is_own(sample, own) {
            return Some(sample.text.to_owned());
        }
        let is_root = || sample.label("id") == Some("/") && sample.label("pod").is_none_or(str::is_empty);
        let is_machines = OF_MACHINES.contains(&sample.name) || OF_ROOT.contains(&sample.name) && is_root();
        if !is_machines || sample.label("instance_id").is_some() || left == 0 {
            return None;
        }
        left -= 1;
        Some(sample.with_label("instance_id", &own.instance_id))
    })
}

/// The machine's numbers, of the page `/metrics/resource`.
pub(super) fn usage(page: &str) -> Usage {
    let mut usage = Usage::default();
    for line in lines(page) {
        let Line::Sample(sample) = line else { continue };
        let point =
            sample.at.filter(|_| is_plausible(sample.value)).map(|at| Point { value: sample.value, at });
        match sample.name {
            "node_cpu_usage_seconds_total" => usage.cpu = point,
            "node_memory_working_set_bytes" => usage.memory = point,
            "node_swap_usage_bytes" => usage.swap = point,
            "resource_scrape_error" => usage.has_error = sample.value != 0.0,
            _ => {}
        }
    }
    usage
}

/// No machine has used so many seconds, or has so many bytes.
fn is_plausible(value: f64) -> bool {
    (0.0..1e15).contains(&value)
}

fn is_own(sample: &Sample<'_>, own: &Own) -> bool {
    // Most lines of a page are about something else: seen without taking their labels apart.
    sample.text.contains(&own.name)
        && sample.label("pod") == Some(&own.name)
        && sample.label("namespace") == Some(&own.namespace)
        && sample.label("pod_uid").is_none_or(|uid| uid == own.uid)
}

fn collect(page: &str, mut keep: impl FnMut(&Sample<'_>) -> Option<String>) -> Families {
    let mut families: BTreeMap<&str, (Head<'_>, String)> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut current = "";
    for line in lines(page) {
        match line {
            Line::Comment { name, is_type, text } => {
                current = name;
                families.entry(name).or_default().0.say(is_type, text);
            }
            Line::Sample(sample) if seen.len() < SERIES => {
                let Some(text) = keep(&sample) else { continue };
                if !sample.key().is_some_and(|key| seen.insert(key)) {
                    continue;
                }
                let kind = families.get(current).and_then(|(head, _)| head.kind);
                let family = if belongs(sample.name, current, kind) { current } else { sample.name };
                let lines = &mut families.entry(family).or_default().1;
                lines.push_str(&text);
                lines.push('\n');
            }
            Line::Sample(_) => break,
        }
    }
    let kept = families.into_iter().filter(|(_, (_, lines))| !lines.is_empty());
    Families(
        kept.map(|(name, (head, lines))| {
            (name.into(), Family { head: head.to_text(name).into(), lines: lines.into() })
        })
        .collect(),
    )
}

/// Whether a series of that name stands under the family's head.
fn belongs(name: &str, family: &str, kind: Option<&str>) -> bool {
    let Some(suffix) = name.strip_prefix(family) else { return false };
    match kind {
        Some("histogram") => matches!(suffix, "_bucket" | "_sum" | "_count"),
        Some("summary") => matches!(suffix, "" | "_sum" | "_count"),
        _ => suffix.is_empty(),
    }
}

#[derive(Clone, Copy, Default)]
struct Head<'a> {
    help: Option<&'a str>,
    kind: Option<&'a str>,
}

impl<'a> Head<'a> {
    fn say(&mut self, is_type: bool, text: &'a str) {
        let said = if is_type { &mut self.kind } else { &mut self.help };
        said.get_or_insert(text);
    }

    fn to_text(self, name: &str) -> String {
        let help = self.help.map(|help| format!("# HELP {name} {help}\n"));
        let kind = self.kind.map(|kind| format!("# TYPE {name} {kind}\n"));
        [help, kind].into_iter().flatten().collect()
    }
}
