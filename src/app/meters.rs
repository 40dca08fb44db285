//! Every metric of the process: what the parts count, gathered in one place, so that what is served and what is
//! documented cannot differ.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::cloud::runpod;
use crate::endpoint::csr;
use crate::gpu::Gpus;
use crate::leader::Fence;
use crate::logs::archiver;
use crate::telemetry::{CloudCalls, Registry, TraceMetrics};
use crate::{controller, endpoint, gateway, leader, link, market, node, stats};

/// What each part counts. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    pub cloud: CloudCalls,
    pub runpod: runpod::Metrics,
    pub controller: controller::Metrics,
    pub gateway: gateway::Metrics,
    pub market: market::Metrics,
    pub links: link::Metrics,
    pub endpoint: endpoint::Metrics,
    pub certificate: csr::Metrics,
    pub node: node::Metrics,
    pub pod_watch_errors: Counter,
    pub gpus: Gpus,
    pub logs: archiver::Metrics,
    pub scrapes: stats::Metrics,
    pub traces: TraceMetrics,
    pub election: leader::Metrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Meters {
    /// Those of a process with these GPUs and this fence.
    pub(super) fn new(gpus: Gpus, fence: &Fence) -> Self {
        Self { gpus, election: leader::Metrics::new(fence), ..Self::default() }
    }

    /// Adds all of them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "Always 1, with the version as a label", build);
        self.election.register(registry);
        self.controller.register(registry);
        self.cloud.register(registry);
        self.runpod.register(registry);
        self.market.register(registry);
        self.links.register(registry);
        self.gateway.register(registry);
        self.endpoint.register(registry);
        self.certificate.register(registry);
        self.node.register(registry);
        registry.register(
            "pod_watch_errors",
            "Failures of the watch of this node's pods, after each of which it begins again",
            self.pod_watch_errors.clone(),
        );
        self.logs.register(registry);
        self.scrapes.register(registry);
        self.traces.register(registry);
        self.gpus.register(registry);
    }
}
