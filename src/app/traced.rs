//! Where launches are traced to, by the configuration.

use anyhow::Result;

use crate::config::Config;
use crate::telemetry::{Exporter, TraceMetrics, Traces};

/// Traces of launches, and who sends them, if somebody is to get them.
pub(super) fn traces(
    config: &Config,
    cluster_id: &str,
    metrics: TraceMetrics,
) -> Result<(Traces, Option<Exporter>)> {
    let Some(endpoint) = &config.tracing.otlp_endpoint else { return Ok((Traces::default(), None)) };
    let resource = vec![
        ("service.name", "orca".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("k8s.cluster.uid", cluster_id.to_owned()),
        ("k8s.node.name", config.node.name.clone()),
        ("cloud.provider", "aws".to_owned()),
        ("cloud.platform", "aws_ec2".to_owned()),
        ("cloud.region", config.aws.region.clone()),
    ];
    let (traces, exporter) = Traces::new(endpoint, resource, metrics)?;
    Ok((traces, Some(exporter)))
}
