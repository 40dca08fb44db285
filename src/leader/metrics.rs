//! What is counted of the election.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::Fence;
use crate::telemetry::Registry;

/// What is counted. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(super) leader: Gauge,
    pub(super) heard: Gauge,
    pub(super) elections: Counter,
    pub(super) failures: Counter,
    /// Changes that the fence refused.
    pub(super) refused: Counter<u64, AtomicU64>,
}

impl Metrics {
    /// Those of a process with this fence.
    #[must_use]
    pub fn new(fence: &Fence) -> Self {
        Self { refused: fence.refused(), ..Self::default() }
    }

    /// When the Lease was last read, written or seen to change, in seconds since 1970; 0 is never.
    #[must_use]
    pub fn heard(&self) -> Gauge {
        self.heard.clone()
    }

    /// 1 while this process leads.
    #[must_use]
    pub fn leader(&self) -> Gauge {
        self.leader.clone()
    }

    /// Adds them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "leader",
            "Whether this process is the one that acts: 1, or 0 for one that is ready to take over",
            self.leader.clone(),
        );
        registry.register(
            "leader_elections",
            "How often this process was elected: 0 or 1, since a leader that loses ends",
            self.elections.clone(),
        );
        registry.register(
            "leader_election_failures",
            "Requests about the Lease of the election that failed or had no answer in time",
            self.failures.clone(),
        );
        registry.register(
            "leader_fenced",
            "Changes that were not sent because this process did not lead any more",
            self.refused.clone(),
        );
    }
}
