//! Where metrics are registered, and remembered as the documentation lists them.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Metric, Registry as Inner};

/// The metrics of the process.
#[derive(Debug)]
pub struct Registry {
    /// Their names get the prefix `orca_`.
    own: Inner,
    /// Their names are those that others gave.
    plain: Inner,
    described: Vec<Described>,
}

/// One metric, as it is documented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// With prefix, and with the suffix of a counter.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `unknown`.
    pub kind: &'static str,
    /// Without a full stop.
    pub help: &'static str,
}

impl Default for Registry {
    fn default() -> Self {
        Self { own: Inner::with_prefix("orca"), plain: Inner::default(), described: Vec::new() }
    }
}

impl Registry {
    /// Adds a metric of ours: `name` without the prefix, and without `_total` for a counter; `help` is a sentence
    /// without its full stop, and names the labels.
    pub fn register(&mut self, name: &'static str, help: &'static str, metric: impl Metric) {
        self.describe(format!("orca_{name}"), help, metric.metric_type());
        self.own.register(name, help, metric);
    }

    /// Adds metrics whose names others gave, and which are made when they are asked for.
    pub fn collect(
        &mut self,
        metrics: impl IntoIterator<Item = (&'static str, &'static str, MetricType)>,
        collector: impl Collector,
    ) {
        for (name, help, kind) in metrics {
            self.describe(name.to_owned(), help, kind);
        }
        self.plain.register_collector(Box::new(collector));
    }

    /// Every metric that there may be, in the order of registration.
    #[must_use]
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// The metrics as text in the OpenMetrics format.
    ///
    /// # Errors
    /// Never for the metrics here: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode_registry(&mut out, &self.own)?;
        text::encode_registry(&mut out, &self.plain)?;
        text::encode_eof(&mut out)?;
        Ok(out)
    }

    fn describe(&mut self, name: String, help: &'static str, kind: MetricType) {
        let (name, kind) = match kind {
            MetricType::Counter if name.ends_with("_total") => (name, "counter"),
            MetricType::Counter => (format!("{name}_total"), "counter"),
            MetricType::Gauge => (name, "gauge"),
            MetricType::Histogram => (name, "histogram"),
            MetricType::Info => (name, "info"),
            MetricType::Unknown => (name, "unknown"),
        };
        self.described.push(Described { name, kind, help: help.trim_end_matches('.') });
    }
}
