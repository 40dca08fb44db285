//! `/stats/summary` of many machines as that of one node. Pure.
//!
//! Pods are passed on as their kubelets wrote them. The node is the sum of its machines, as far as a sum means something:
//! what is in use and what there is. Counters are summed by [`super::tally`]; those that nobody sums, and the pressure
//! averages, are left out.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Detail;
use super::page::{Own, Point};

/// What is summed in each part of a node.
const SUMMED: [(&str, &[&str]); 5] = [
    ("cpu", &["usageNanoCores"]),
    ("memory", &["availableBytes", "usageBytes", "workingSetBytes", "rssBytes"]),
    ("fs", &FILE_SYSTEM),
    ("rlimit", &["maxpid", "curproc"]),
    ("swap", &["swapAvailableBytes", "swapUsageBytes"]),
];
const FILE_SYSTEM: [&str; 6] =
    ["availableBytes", "capacityBytes", "usedBytes", "inodesFree", "inodes", "inodesUsed"];
/// File systems of the container runtime.
const RUNTIME: [&str; 2] = ["imageFs", "containerFs"];
/// What `only_cpu_and_memory` leaves of a node, a pod and a container.
const SHORT: [&str; 8] =
    ["nodeName", "startTime", "systemContainers", "podRef", "name", "containers", "cpu", "memory"];

/// One machine's answer, as far as it is passed on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    node: Value,
    /// Its own pod, once the kubelet knows something of it.
    pod: Option<Value>,
}

/// A GPU or another device of a container, in the words of the kubelet's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accelerator {
    /// The container that has it; all containers of its pod that have one, if it is empty.
    pub container: String,
    pub make: String,
    pub model: String,
    pub id: String,
    /// In bytes.
    pub memory_total: u64,
    /// In bytes.
    pub memory_used: u64,
    /// Percent of the time in which it was busy.
    pub duty_cycle: u64,
}

/// The node's own part of the answer.
#[derive(Clone, Debug)]
pub(super) struct NodeFacts {
    pub(super) name: String,
    /// When counting began.
    pub(super) start: Timestamp,
    /// Seconds of CPU time.
    pub(super) cpu: Option<Point>,
    /// Bytes.
    pub(super) received: Option<Point>,
    /// Bytes.
    pub(super) sent: Option<Point>,
}

impl Summary {
    /// Of a kubelet's answer.
    ///
    /// # Errors
    /// It is no JSON.
    pub(super) fn read(page: &str, own: &Own) -> Result<Self, serde_json::Error> {
        let mut page: Value = serde_json::from_str(page)?;
        let is_own = |pod: &Value| {
            let of = &pod["podRef"];
            of["uid"] == *own.uid && of["name"] == *own.name && of["namespace"] == *own.namespace
        };
        // Changed in place by `get_mut` alone: what is no object has no fields, and indexing it would panic.
        let mut take = |field: &str| page.get_mut(field).map(Value::take).unwrap_or_default();
        let (node, pods) = (take("node"), take("pods"));
        let pods = if let Value::Array(pods) = pods { pods } else { Vec::new() };
        Ok(Self { node, pod: pods.into_iter().find(is_own) })
    }

    /// Bytes that the machine's interfaces have received and sent.
    pub(super) fn network(&self) -> Option<(Point, Point)> {
        let network = &self.node["network"];
        let at = network["time"].as_str()?.parse::<Timestamp>().ok()?.as_millisecond();
        let interfaces = network["interfaces"].as_array()?;
        let sum = |field: &str| interfaces.iter().filter_map(|one| one[field].as_f64()).sum();
        Some((Point { value: sum("rxBytes"), at }, Point { value: sum("txBytes"), at }))
    }

    /// The pod with its accelerators.
    pub(super) fn pod(&self, accelerators: &[Accelerator], detail: Detail) -> Option<Value> {
        let mut pod = self.pod.clone()?;
        let containers = pod.get_mut("containers").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
            let has = |one: &&Accelerator| one.container.is_empty() || one.container == name;
            let own: Vec<Value> = accelerators.iter().filter(has).map(Accelerator::to_json).collect();
            if !own.is_empty() {
                container.insert("accelerators".to_owned(), own.into());
            }
        }
        Some(if detail == Detail::CpuAndMemory { short(pod) } else { pod })
    }
}

impl Accelerator {
    fn to_json(&self) -> Value {
        let Self { container: _, make, model, id, memory_total, memory_used, duty_cycle } = self;
        json!({
            "make": make, "model": model, "id": id,
            "memoryTotal": memory_total, "memoryUsed": memory_used, "dutyCycle": duty_cycle,
        })
    }
}

/// The node as the sum of its machines.
pub(super) fn node(facts: &NodeFacts, machines: &[&Summary], detail: Detail) -> Value {
    let nodes: Vec<&Value> = machines.iter().map(|machine| &machine.node).collect();
    let mut node = sum_parts(&nodes);
    node.insert("nodeName".to_owned(), facts.name.clone().into());
    node.insert("startTime".to_owned(), facts.start.to_string().into());
    counter(
        &mut node,
        "cpu",
        "usageCoreNanoSeconds",
        facts.cpu.map(|cpu| Point { value: cpu.value * 1e9, ..cpu }),
    );
    counter(&mut node, "network", "rxBytes", facts.received);
    counter(&mut node, "network", "txBytes", facts.sent);
    let runtime: Map<String, Value> = RUNTIME
        .iter()
        .filter_map(|name| {
            let parts: Vec<&Value> = nodes.iter().map(|node| &node["runtime"][name]).collect();
            Some(((*name).to_owned(), sum(&parts, &FILE_SYSTEM)?))
        })
        .collect();
    if !runtime.is_empty() {
        node.insert("runtime".to_owned(), runtime.into());
    }
    let system = system_containers(&nodes);
    if !system.is_empty() {
        node.insert("systemContainers".to_owned(), system.into());
    }
    let node = Value::Object(node);
    if detail == Detail::CpuAndMemory { short(node) } else { node }
}

fn sum_parts(of: &[&Value]) -> Map<String, Value> {
    SUMMED
        .iter()
        .filter_map(|(part, fields)| {
            let parts: Vec<&Value> = of.iter().map(|one| &one[*part]).collect();
            Some(((*part).to_owned(), sum(&parts, fields)?))
        })
        .collect()
}

/// The sums of fields, with the time of the oldest: they are no newer than that. `None` if nobody has any.
fn sum(parts: &[&Value], fields: &[&str]) -> Option<Value> {
    let mut total = Map::new();
    for field in fields {
        let numbers = || parts.iter().filter_map(|part| part[*field].as_u64());
        if numbers().next().is_some() {
            total.insert((*field).to_owned(), numbers().fold(0, u64::saturating_add).into());
        }
    }
    if total.is_empty() {
        return None;
    }
    // RFC 3339 in UTC and whole seconds, as kubelets write it, sorts as text.
    if let Some(time) = parts.iter().filter_map(|part| part["time"].as_str()).min() {
        total.insert("time".to_owned(), time.into());
    }
    Some(total.into())
}

/// `kubelet`, `runtime`, `pods` and the like, each the sum of those of its name.
fn system_containers(nodes: &[&Value]) -> Vec<Value> {
    let all = || nodes.iter().filter_map(|node| node["systemContainers"].as_array()).flatten();
    // What a machine may call them is up to no one but its kubelet, and it knows four names.
    let names = ["kubelet", "runtime", "misc", "pods"];
    names
        .iter()
        .filter_map(|name| {
            let same: Vec<&Value> = all().filter(|one| one["name"] == **name).collect();
            let mut total = sum_parts(&same);
            let is_known = !total.is_empty();
            total.insert("name".to_owned(), (*name).into());
            is_known.then(|| total.into())
        })
        .collect()
}

/// A counter, and with it the time of its part.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count that is not negative")]
fn counter(node: &mut Map<String, Value>, part: &str, field: &str, count: Option<Point>) {
    let Some(count) = count else { return };
    let part = node.entry(part).or_insert_with(|| json!({}));
    part[field] = (count.value as u64).into();
    if let Ok(time) = Timestamp::from_second(count.at / 1000) {
        part["time"] = time.to_string().into();
    }
}

fn short(mut whole: Value) -> Value {
    if let Some(whole) = whole.as_object_mut() {
        whole.retain(|field, _| SHORT.contains(&field.as_str()));
        for list in ["containers", "systemContainers"] {
            if let Some(all) = whole.get_mut(list).and_then(Value::as_array_mut) {
                *all = std::mem::take(all).into_iter().map(short).collect();
            }
        }
    }
    whole
}
