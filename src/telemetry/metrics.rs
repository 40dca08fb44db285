//! The metrics, one struct an area, and the router that shows them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::health::{Asked, Health, Probe, Report};
use super::{Registry, process};

/// The content type of [`Telemetry::encode`].
pub const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics and health checks of the process. Clones share them.
#[derive(Clone, Debug)]
pub struct Telemetry {
    pub health: Health,
    registry: Arc<Registry>,
    capacity: Option<Page>,
    stuck: Option<Page>,
}

/// A page that is made when it is asked for.
#[derive(Clone)]
struct Page(Arc<dyn Fn() -> Option<serde_json::Value> + Send + Sync>);

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Page")
    }
}

impl Telemetry {
    /// Registers what the process is, and with `areas` what its parts count.
    #[must_use]
    pub fn new(areas: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::default();
        process::register(&mut registry);
        areas(&mut registry);
        Self { health: Health::default(), registry: Arc::new(registry), capacity: None, stuck: None }
    }

    /// Shows what is known of capacity, as JSON, at `/capacity`: read only, for `orca capacity`. `None` is told as a
    /// process that does not lead, and knows nothing of it.
    #[must_use]
    pub fn with_capacity<P: Into<Option<serde_json::Value>>>(
        self,
        page: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self {
        Self { capacity: Some(Page(Arc::new(move || page().into()))), ..self }
    }

    /// Shows what fails again and again, as JSON, at `/stuck`: read only, for `orca stuck`. `None` as above.
    #[must_use]
    pub fn with_stuck<P: Into<Option<serde_json::Value>>>(
        self,
        page: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self {
        Self { stuck: Some(Page(Arc::new(move || page().into()))), ..self }
    }

    /// `/metrics`, `/livez`, `/readyz`, `/capacity` and `/stuck`.
    pub fn router(&self) -> axum::Router {
        axum::Router::new()
            .route("/metrics", get(show_metrics))
            .route("/capacity", get(show_capacity))
            .route("/stuck", get(show_stuck))
            .merge(probe("/livez", Probe::Live))
            .merge(probe("/readyz", Probe::Ready))
            .with_state(self.clone())
    }

    /// Serves [`Telemetry::router`] until it is dropped. For `metrics.listen`.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn serve(&self, listen: SocketAddr) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .with_context(|| format!("listening on `{listen}` (metrics.listen)"))?;
        axum::serve(listener, self.router()).await.context("serving metrics")
    }

    /// The metrics as text, of the type [`FORMAT`].
    ///
    /// # Errors
    /// Never for the metrics here: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        self.registry.encode()
    }

    /// Where everything is registered.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    fn show_health(&self, probe: Probe, query: Option<&str>) -> Response {
        answer(&self.health.report(probe, &Asked::parse(query.unwrap_or_default())))
    }

    fn show_check(&self, probe: Probe, name: &str) -> Response {
        match self.health.single(probe, name) {
            Some(report) => answer(&report),
            None => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
        }
    }
}

/// A probe, and each of its checks below it.
fn probe(path: &str, probe: Probe) -> axum::Router<Telemetry> {
    let all = move |State(this): State<Telemetry>, RawQuery(query): RawQuery| async move {
        this.show_health(probe, query.as_deref())
    };
    let one = move |State(this): State<Telemetry>, Path(name): Path<String>| async move {
        this.show_check(probe, &name)
    };
    axum::Router::new().route(path, get(all)).route(&format!("{path}/{{name}}"), get(one))
}

fn answer(report: &Report) -> Response {
    let status = if report.is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, report.text.clone()).into_response()
}

async fn show_metrics(State(this): State<Telemetry>) -> Response {
    match this.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "encoding the metrics failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn show_capacity(State(this): State<Telemetry>) -> Response {
    show_page(this.capacity.as_ref())
}

async fn show_stuck(State(this): State<Telemetry>) -> Response {
    show_page(this.stuck.as_ref())
}

fn show_page(page: Option<&Page>) -> Response {
    match page {
        Some(Page(page)) => match page() {
            Some(page) => axum::Json(page).into_response(),
            None => (StatusCode::SERVICE_UNAVAILABLE, "this process does not lead\n").into_response(),
        },
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    action: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Action {
    action: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Calls to the cloud.
#[derive(Clone, Debug)]
pub struct CloudCalls {
    calls: Family<Call, Counter>,
    seconds: Family<Action, Histogram, fn() -> Histogram>,
    waits: Family<Kind, Histogram, fn() -> Histogram>,
}

impl Default for CloudCalls {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new([0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])),
            waits: Family::new_with_constructor(|| {
                Histogram::new([0.001, 0.1, 1.0, 10.0, 60.0, 300.0, 1200.0])
            }),
        }
    }
}

impl CloudCalls {
    /// One call, with `ok` or the kind of its refusal, and how long it took.
    pub fn observe(&self, action: &'static str, result: &'static str, took: Duration) {
        self.calls.get_or_create(&Call { action, result }).inc();
        self.seconds.get_or_create(&Action { action }).observe(took.as_secs_f64());
    }

    /// How long a call of this kind waited for its turn.
    pub fn waited(&self, kind: &'static str, wait: Duration) {
        self.waits.get_or_create(&Kind { kind }).observe(wait.as_secs_f64());
    }

    /// Calls made so far, by action and result.
    #[must_use]
    pub fn count(&self, action: &'static str, result: &'static str) -> u64 {
        self.calls.get_or_create(&Call { action, result }).get()
    }

    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cloud_calls", "Calls to the cloud, by action and result", self.calls.clone());
        registry.register(
            "cloud_call_seconds",
            "How long calls to the cloud took, by action",
            self.seconds.clone(),
        );
        registry.register(
            "cloud_throttle_wait_seconds",
            "How long calls waited here for the rate that the cloud allows, by kind",
            self.waits.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request as HttpRequest;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(telemetry: &Telemetry, path: &str) -> (StatusCode, String) {
        let request = HttpRequest::get(path).body(Body::empty()).unwrap();
        let response = telemetry.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn metrics_show_what_the_handles_counted() {
        let (calls, areas) = (CloudCalls::default(), Counter::<u64>::default());
        let telemetry = Telemetry::new(|registry| {
            calls.register(registry);
            registry.register("areas", "Areas", areas.clone());
        });
        calls.observe("RunInstances", "ok", Duration::from_millis(200));
        areas.inc();
        let (status, text) = ask(&telemetry, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        for line in ["orca_cloud_calls_total{action=\"RunInstances\",result=\"ok\"} 1", "orca_areas_total 1"]
        {
            assert!(text.lines().any(|found| found == line), "{line} not in:\n{text}");
        }
    }

    #[tokio::test]
    async fn the_page_of_capacity_is_there_once_somebody_knows_something() {
        let telemetry = Telemetry::new(|_| {});
        assert_eq!(ask(&telemetry, "/capacity").await.0, StatusCode::NOT_FOUND);
        let telemetry = telemetry.with_capacity(|| serde_json::json!({"node": "orca"}));
        let expected = (StatusCode::OK, "{\"node\":\"orca\"}".to_owned());
        assert_eq!(ask(&telemetry, "/capacity").await, expected);
    }

    #[tokio::test]
    async fn readiness_waits_for_every_check_and_liveness_for_its_own() {
        let telemetry = Telemetry::new(|_| {});
        assert_eq!(ask(&telemetry, "/readyz").await.0, StatusCode::OK);
        let synced = telemetry.health.check("pods-synced", Probe::Ready, "not yet");
        let (status, text) = ask(&telemetry, "/readyz").await;
        let expected = "[-]pods-synced failed: not yet\nreadyz check failed\n";
        assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, expected));
        assert_eq!(ask(&telemetry, "/livez").await, (StatusCode::OK, "ok".to_owned()));
        assert_eq!(ask(&telemetry, "/readyz/pods-synced").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(&telemetry, "/readyz/other").await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask(&telemetry, "/readyz?exclude=pods-synced").await.0, StatusCode::OK);
        synced.pass();
        let verbose = (StatusCode::OK, "[+]pods-synced ok\nreadyz check passed\n".to_owned());
        assert_eq!(ask(&telemetry, "/readyz?verbose").await, verbose);
        synced.fail("the watch is gone");
        assert_eq!(ask(&telemetry, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
