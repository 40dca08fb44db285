//! What the gateway counts.

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::denied::Denials;
use crate::telemetry::Registry;

/// The gateway's metrics. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(crate) denials: Denials,
    pub(crate) watch_errors: Counter,
    requests: Family<Answered, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    code: u16,
}

impl Metrics {
    /// One request was answered.
    pub(crate) fn answered(&self, method: &Method, code: StatusCode) {
        let method = ["GET", "POST", "PUT", "PATCH", "DELETE"].into_iter().find(|one| method == *one);
        let label = Answered { method: method.unwrap_or("other"), code: code.as_u16() };
        self.requests.get_or_create(&label).inc();
    }

    /// Adds them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "gateway_requests",
            "Requests of guest kubelets that the gateway answered, by method and code",
            self.requests.clone(),
        );
        self.denials.register(registry);
        registry.register(
            "gateway_watch_errors",
            "Failures of the gateway's watch of Services, after each of which it begins again",
            self.watch_errors.clone(),
        );
    }
}
