//! What the endpoint counts.

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::telemetry::Registry;

/// First segments of the paths that there are; all others are counted together.
const ROUTES: [&str; 8] =
    ["healthz", "pods", "containerLogs", "exec", "attach", "portForward", "metrics", "stats"];

/// The endpoint's metrics. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<Answered, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    code: u16,
}

impl Metrics {
    /// One request was answered; a stream is, once it begins.
    pub(super) fn answered(&self, path: &str, code: StatusCode) {
        let first = path.trim_start_matches('/').split('/').next();
        let route = ROUTES.into_iter().find(|route| Some(*route) == first).unwrap_or("other");
        self.requests.get_or_create(&Answered { route, code: code.as_u16() }).inc();
    }

    /// Adds them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "endpoint_requests",
            "Requests that the node's own endpoint answered, by route and code",
            self.requests.clone(),
        );
    }
}
