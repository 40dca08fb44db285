//! The numbers of all machines as the pages of one kubelet: `/metrics/resource`, `/metrics/cadvisor`, `/metrics/probes` and
//! `/stats/summary`.
//!
//! [`collect`] asks each machine's kubelet every few seconds and keeps what it answers; whoever asks this node is answered
//! from that at once, with the times at which the kubelets read their numbers. A machine that does not answer drops
//! out after a minute.

mod answer;
mod cache;
pub mod collect;
mod exposition;
mod fetch;
mod merge;
mod metrics;
mod page;
mod summary;
mod tally;
#[cfg(test)]
mod tests;

pub use answer::Page;
pub use metrics::Metrics;
pub use page::Own;
pub use summary::Accelerator;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::time::Instant;

use self::answer::Answer;
use self::cache::{Cache, Node};
use self::page::{Families, Point};
use self::summary::NodeFacts;
use crate::clock;

/// Who knows the GPUs and other devices of pods.
pub trait Accelerators: Send + Sync + std::fmt::Debug {
    /// Those of the pod's containers, as they are now; none if nothing is known.
    fn of(&self, pod_uid: &str) -> Vec<Accelerator>;
}

/// Nobody knows any.
impl Accelerators for () {
    fn of(&self, _pod_uid: &str) -> Vec<Accelerator> {
        Vec::new()
    }
}

/// How much of `/stats/summary` is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    All,
    /// `only_cpu_and_memory=true`.
    CpuAndMemory,
}

/// What is known of all machines.
#[derive(Debug)]
pub struct Stats {
    /// The node's name.
    node: String,
    start: Timestamp,
    accelerators: Arc<dyn Accelerators>,
    cache: Mutex<Cache>,
}

impl Stats {
    /// Nothing is known yet of the node of that name.
    #[must_use]
    pub fn new(node: String, accelerators: Arc<dyn Accelerators>) -> Self {
        Self { node, start: clock::now(), accelerators, cache: Mutex::default() }
    }

    /// From now on this machine is asked.
    pub fn begin(&self, own: Own) {
        self.lock().begin(own, Instant::now());
    }

    /// The machine of that pod is gone.
    pub fn remove(&self, pod_uid: &str) {
        self.lock().remove(pod_uid);
    }

    /// UIDs of the pods whose machines are asked.
    #[must_use]
    pub fn uids(&self) -> Vec<String> {
        self.lock().uids()
    }

    /// What a machine's kubelet answers now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn put(&self, own: &Own, page: Page, text: &str) -> Result<(), serde_json::Error> {
        let answer = Answer::read(page, text, own)?;
        self.lock().put(own, page, answer, Instant::now(), clock::now().as_millisecond());
        Ok(())
    }

    /// A page in the Prometheus text format, in pieces. `/stats/summary` is none.
    pub fn exposition(&self, page: Page) -> impl Iterator<Item = String> + Send + 'static + use<> {
        let mut cache = self.lock();
        let mut pages = cache.series(page, Instant::now());
        let node = cache.node(Instant::now());
        drop(cache);
        pages.push(Arc::new(own_series(page, &node)));
        merge::Merged::new(pages)
    }

    /// `/stats/summary`, in pieces.
    pub fn summary(&self, detail: Detail) -> impl Iterator<Item = String> + Send + 'static + use<> {
        let mut cache = self.lock();
        let machines = cache.summaries(Instant::now());
        let Node { cpu, received, sent, .. } = cache.node(Instant::now());
        drop(cache);
        let facts = NodeFacts { name: self.node.clone(), start: self.start, cpu, received, sent };
        let all: Vec<_> = machines.iter().map(|(_, summary)| &**summary).collect();
        let node = summary::node(&facts, &all, detail);
        let accelerators = Arc::clone(&self.accelerators);
        let mut separator = "";
        let pods = machines.into_iter().filter_map(move |(uid, summary)| {
            let pod = summary.pod(&accelerators.of(&uid), detail)?;
            let begin = std::mem::replace(&mut separator, ",");
            Some(format!("{begin}{pod}"))
        });
        [format!("{{\"node\":{node},\"pods\":[")].into_iter().chain(pods).chain(["]}".to_owned()])
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this node says of itself on a page.
fn own_series(page: Page, node: &Node) -> Families {
    let error = if node.has_error { "1" } else { "0" };
    let trouble = "1 if a machine's numbers could not be read, 0 otherwise";
    let sample = |name, kind, help, point: Option<Point>| {
        point.map(|point| merge::own(name, kind, help, &format!("{} {}", point.value, point.at)))
    };
    let series = match page {
        Page::Resource => vec![
            sample(
                "node_cpu_usage_seconds_total",
                "counter",
                "Cumulative cpu time consumed by the node's machines in core-seconds",
                node.cpu,
            ),
            sample(
                "node_memory_working_set_bytes",
                "gauge",
                "Current working set of the node's machines in bytes",
                node.memory,
            ),
            sample(
                "node_swap_usage_bytes",
                "gauge",
                "Current swap usage of the node's machines in bytes",
                node.swap,
            ),
            Some(merge::own("resource_scrape_error", "gauge", trouble, error)),
            Some(merge::own("scrape_error", "gauge", trouble, error)),
        ],
        Page::Cadvisor => vec![Some(merge::own("container_scrape_error", "gauge", trouble, error))],
        Page::Probes | Page::Summary => Vec::new(),
    };
    Families(series.into_iter().flatten().collect::<BTreeMap<_, _>>())
}
