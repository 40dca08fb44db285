//! The metrics, one struct an area, and the router that shows them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::health::{Health, Probe};

/// The content type of [`Telemetry::encode`].
pub const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics and health checks of the process. Clones share them.
#[derive(Clone, Debug)]
pub struct Telemetry {
    pub health: Health,
    registries: Arc<Registries>,
    capacity: Option<Page>,
}

/// Where metrics are registered.
#[derive(Debug)]
pub struct Registries {
    /// Those whose names begin with `orca_`.
    pub own: Registry,
    /// Those with names that others gave.
    pub plain: Registry,
}

/// A page that is made when it is asked for.
#[derive(Clone)]
struct Page(Arc<dyn Fn() -> serde_json::Value + Send + Sync>);

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Page")
    }
}

impl Telemetry {
    /// Registers the calls to the cloud, and with `areas` what the other parts count.
    #[must_use]
    pub fn new(cloud: &CloudCalls, areas: impl FnOnce(&mut Registries)) -> Self {
        let mut registries = Registries { own: Registry::with_prefix("orca"), plain: Registry::default() };
        cloud.register(&mut registries.own);
        areas(&mut registries);
        Self { health: Health::default(), registries: Arc::new(registries), capacity: None }
    }

    /// Shows what is known of capacity, as JSON, at `/capacity`: read only, for `orca capacity`.
    #[must_use]
    pub fn with_capacity(self, page: impl Fn() -> serde_json::Value + Send + Sync + 'static) -> Self {
        Self { capacity: Some(Page(Arc::new(page))), ..self }
    }

    /// `/metrics`, `/livez`, `/readyz` and `/capacity`.
    pub fn router(&self) -> axum::Router {
        axum::Router::new()
            .route("/metrics", get(show_metrics))
            .route("/capacity", get(show_capacity))
            .route("/livez", get(|State(this): State<Self>| async move { this.show_health(Probe::Live) }))
            .route("/readyz", get(|State(this): State<Self>| async move { this.show_health(Probe::Ready) }))
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

    /// The metrics as text in the OpenMetrics format.
    ///
    /// # Errors
    /// Never for the metrics here: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode_registry(&mut out, &self.registries.own)?;
        text::encode_registry(&mut out, &self.registries.plain)?;
        text::encode_eof(&mut out)?;
        Ok(out)
    }

    fn show_health(&self, probe: Probe) -> Response {
        let report = self.health.report(probe);
        let status = if report.is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, report.text).into_response()
    }
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
    match &this.capacity {
        Some(Page(page)) => axum::Json(page()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    action: &'static str,
    result: &'static str,
}

/// Calls to the cloud.
#[derive(Clone, Debug, Default)]
pub struct CloudCalls {
    calls: Family<Call, Counter>,
}

impl CloudCalls {
    /// One call, with `ok` or the kind of its refusal.
    pub fn observe(&self, action: &'static str, result: &'static str) {
        self.calls.get_or_create(&Call { action, result }).inc();
    }

    /// Calls made so far, by action and result.
    #[must_use]
    pub fn count(&self, action: &'static str, result: &'static str) -> u64 {
        self.calls.get_or_create(&Call { action, result }).get()
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("cloud_calls", "Calls to the cloud, by action and result", self.calls.clone());
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
        let telemetry =
            Telemetry::new(&calls, |registries| registries.own.register("areas", "Areas.", areas.clone()));
        calls.observe("RunInstances", "ok");
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
        let telemetry = Telemetry::new(&CloudCalls::default(), |_| {});
        assert_eq!(ask(&telemetry, "/capacity").await.0, StatusCode::NOT_FOUND);
        let telemetry = telemetry.with_capacity(|| serde_json::json!({"node": "orca"}));
        let expected = (StatusCode::OK, "{\"node\":\"orca\"}".to_owned());
        assert_eq!(ask(&telemetry, "/capacity").await, expected);
    }

    #[tokio::test]
    async fn readiness_waits_for_every_check_and_liveness_for_its_own() {
        let telemetry = Telemetry::new(&CloudCalls::default(), |_| {});
        assert_eq!(ask(&telemetry, "/readyz").await.0, StatusCode::OK);
        let synced = telemetry.health.check("pods-synced", Probe::Ready, "not yet");
        let (status, text) = ask(&telemetry, "/readyz").await;
        assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "[-] pods-synced: not yet\n"));
        assert_eq!(ask(&telemetry, "/livez").await.0, StatusCode::OK);
        synced.pass();
        assert_eq!(ask(&telemetry, "/readyz").await, (StatusCode::OK, "[+] pods-synced\n".to_owned()));
        synced.fail("the watch is gone");
        assert_eq!(ask(&telemetry, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
