//! Traces over OTLP: one for each pod, from its binding to its running containers.
//!
//! The ids of trace and spans follow from the pod's UID, so that another process goes on with the same trace. Spans are
//! told when they are over and sent by one task; nobody waits for it, what does not fit its queue is dropped, and a
//! collector that is away is a warning, once.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter as Otlp, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Registry;

/// Spans that may wait: ten for each pod of a burst of 200.
const QUEUE: usize = 2048;
/// Spans that are sent together.
const BATCH: usize = 256;
/// How long the first of them waits for others.
const LINGER: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(10);

/// A span that is over. Attributes have names of OpenTelemetry's semantic conventions, where there are some.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub pod_uid: String,
    pub name: &'static str,
    pub part: Part,
    pub from: Timestamp,
    pub to: Timestamp,
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Where in its pod's trace a span stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The whole way of the pod.
    Whole,
    /// A step of it.
    Step,
    /// A call to the cloud on the way.
    Call,
}

/// What is measured. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    sent: Counter,
    dropped: Counter,
}

impl Metrics {
    /// Adds them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("trace_spans", "Spans that the collector of traces took", self.sent.clone());
        registry.register(
            "trace_dropped_spans",
            "Spans that were dropped, because the collector was away or too slow",
            self.dropped.clone(),
        );
    }
}

/// Where spans are told; without a collector, nowhere. Clones share the queue.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    spans: Option<mpsc::Sender<Span>>,
    metrics: Metrics,
}

/// Sends what is told.
#[derive(Debug)]
pub struct Exporter {
    spans: mpsc::Receiver<Span>,
    otlp: Otlp,
    endpoint: String,
    metrics: Metrics,
}

impl Traces {
    /// Traces that `Exporter` sends to a collector, such as `http://otel-collector.monitoring:4318`. Within a tokio
    /// runtime.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn new(
        endpoint: &str,
        resource: Vec<(&'static str, String)>,
        metrics: Metrics,
    ) -> anyhow::Result<(Self, Exporter)> {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let mut otlp = Otlp::builder()
            .with_http()
            .with_endpoint(url)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .build()
            .with_context(|| format!("preparing the export of traces to `{endpoint}`"))?;
        let attributes = resource.into_iter().map(|(key, value)| KeyValue::new(key, value));
        otlp.set_resource(&Resource::builder_empty().with_attributes(attributes).build());
        let (traces, spans) = Self::channel(metrics.clone());
        Ok((traces, Exporter { spans, otlp, endpoint: endpoint.to_owned(), metrics }))
    }

    /// Traces that somebody else does something with.
    #[must_use]
    pub fn channel(metrics: Metrics) -> (Self, mpsc::Receiver<Span>) {
        let (sender, spans) = mpsc::channel(QUEUE);
        (Self { spans: Some(sender), metrics }, spans)
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.spans.is_some()
    }

    /// Tells a span. Never waits.
    pub fn tell(&self, span: Span) {
        if let Some(spans) = &self.spans
            && spans.try_send(span).is_err()
        {
            self.metrics.dropped.inc();
        }
    }
}

impl Exporter {
    /// Sends until nobody tells any more.
    pub async fn run(mut self) {
        let mut is_away = false;
        while let Some(batch) = self.batch().await {
            let count = batch.len() as u64;
            match self.otlp.export(batch).await {
                Ok(()) => {
                    self.metrics.sent.inc_by(count);
                    is_away = false;
                }
                Err(error) => {
                    self.metrics.dropped.inc_by(count);
                    if !is_away {
                        tracing::warn!(endpoint = self.endpoint, %error, "traces are dropped: the collector does not take them");
                    }
                    is_away = true;
                }
            }
        }
    }

    /// Waits for a span, and a moment for those that follow it.
    async fn batch(&mut self) -> Option<Vec<SpanData>> {
        let mut batch = vec![data(self.spans.recv().await?)];
        let end = Instant::now() + LINGER;
        while batch.len() < BATCH {
            tokio::select! {
                span = self.spans.recv() => match span {
                    Some(span) => batch.push(data(span)),
                    None => break,
                },
                () = sleep_until(end) => break,
            }
        }
        Some(batch)
    }
}

fn data(span: Span) -> SpanData {
    let root = span_id(&span.pod_uid, "", Timestamp::UNIX_EPOCH);
    let (id, parent) = match span.part {
        Part::Whole => (root, SpanId::INVALID),
        Part::Step | Part::Call => (span_id(&span.pod_uid, span.name, span.from), root),
    };
    let trace = trace_id(&span.pod_uid);
    SpanData {
        span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: parent,
        parent_span_is_remote: false,
        span_kind: if span.part == Part::Call { SpanKind::Client } else { SpanKind::Internal },
        name: span.name.into(),
        start_time: SystemTime::from(span.from),
        end_time: SystemTime::from(span.to.max(span.from)),
        attributes: span.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("orca")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

/// The pod's UID itself, if it is one as the API server makes them: who knows the pod knows its trace.
fn trace_id(uid: &str) -> TraceId {
    let bytes =
        uuid::Uuid::parse_str(uid).map_or_else(|_| hash::<16>(&["trace", uid]), uuid::Uuid::into_bytes);
    TraceId::from_bytes(bytes)
}

fn span_id(uid: &str, name: &str, from: Timestamp) -> SpanId {
    SpanId::from_bytes(hash::<8>(&["span", uid, name, &from.as_nanosecond().to_string()]))
}

fn hash<const N: usize>(parts: &[&str]) -> [u8; N] {
    let digest = digest(&SHA256, parts.join("\0").as_bytes());
    digest.as_ref()[..N].try_into().expect("a SHA-256 digest is longer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(uid: &str, name: &'static str, part: Part) -> Span {
        let at = |second| Timestamp::from_second(second).unwrap();
        Span {
            pod_uid: uid.to_owned(),
            name,
            part,
            from: at(100),
            to: at(90),
            attributes: vec![("k8s.pod.uid", uid.to_owned())],
            error: None,
        }
    }

    #[test]
    fn ids_follow_from_the_pod_alone() {
        let uid = "3f2a9f0e-0000-4000-8000-000000000001";
        let (whole, step) = (data(span(uid, "pod start", Part::Whole)), data(span(uid, "boot", Part::Step)));
        assert_eq!(whole.span_context.trace_id().to_string(), uid.replace('-', ""));
        assert_eq!(step.parent_span_id, whole.span_context.span_id());
        assert_eq!(step, data(span(uid, "boot", Part::Step)), "another process says the same");
        assert!(step.end_time >= step.start_time);
        let other = data(span("static-pod", "boot", Part::Step));
        assert_ne!(other.span_context.trace_id(), TraceId::INVALID);
        assert_ne!(other.parent_span_id, step.parent_span_id);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_collector_and_what_is_too_much_is_counted() {
        let metrics = Metrics::default();
        let (traces, exporter) = Traces::new("http://127.0.0.1:9", Vec::new(), metrics.clone()).unwrap();
        for _ in 0..QUEUE + 5 {
            traces.tell(span("uid", "boot", Part::Step));
        }
        assert_eq!(metrics.dropped.get(), 5);
        drop(traces);
        tokio::time::timeout(Duration::from_secs(60), exporter.run()).await.unwrap();
        assert_eq!((metrics.sent.get(), metrics.dropped.get()), (0, QUEUE as u64 + 5));
        Traces::default().tell(span("uid", "boot", Part::Step));
    }
}
