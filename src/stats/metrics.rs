//! What is counted of the collecting itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::telemetry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    result: &'static str,
}

/// How often machines were asked. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    asked: Family<Asked, Counter>,
}

impl Metrics {
    /// Adds the counts to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Times that machines' kubelets were asked for their numbers, by result";
        registry.register("machine_scrapes", help, self.asked.clone());
    }

    pub(super) fn observe(&self, result: &'static str) {
        self.asked.get_or_create(&Asked { result }).inc();
    }
}
