//! An answer of a machine's kubelet, as far as others are told of it. Pure.

use std::sync::Arc;

use super::page::{Families, Own, Usage, of_machine, of_pod, usage};
use super::summary::Summary;

/// The pages that each kubelet is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// What `kubectl top` and autoscalers read.
    Resource,
    Summary,
    Cadvisor,
    Probes,
}

impl Page {
    /// All of them, the most wanted first.
    pub(super) const ALL: [Self; 4] = [Self::Resource, Self::Summary, Self::Cadvisor, Self::Probes];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Resource => "/metrics/resource",
            Self::Summary => "/stats/summary",
            Self::Cadvisor => "/metrics/cadvisor",
            Self::Probes => "/metrics/probes",
        }
    }
}

/// What an answer says. Clones share it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Numbers { series: Arc<Families>, usage: Usage },
    Summary(Arc<Summary>),
}

impl Answer {
    /// Reads the answer of the machine that runs `own`.
    ///
    /// # Errors
    /// A summary that is no JSON; other pages are read as far as they make sense.
    pub(super) fn read(page: Page, text: &str, own: &Own) -> Result<Self, serde_json::Error> {
        let (series, usage) = match page {
            Page::Resource => (of_pod(text, own), usage(text)),
            Page::Cadvisor => (of_machine(text, own), Usage::default()),
            Page::Probes => (of_pod(text, own), Usage::default()),
            Page::Summary => return Ok(Self::Summary(Arc::new(Summary::read(text, own)?))),
        };
        Ok(Self::Numbers { series: Arc::new(series), usage })
    }
}
