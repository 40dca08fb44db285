//! Refusals: which rule, what the guest is told, and how many there were.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::telemetry::Registry;

/// A request that this guest may not make.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("orca gateway, rule {}: {message}", rule.kind())]
pub(crate) struct Denied {
    pub rule: Rule,
    pub message: String,
}

/// The rule that refused. Each is a value of the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// Not a path that is written in one way only.
    Path,
    /// A doubled, unknown or malformed query parameter.
    Query,
    /// A header that asks to be someone else, or to change the protocol.
    Header,
    /// Not in the table of what a guest may ask.
    Unlisted,
    /// Another pod's, or another node's.
    Foreign,
    /// A Secret or ConfigMap that the pod does not refer to, or a list of them.
    Unreferenced,
    /// A patch of the pod's status that does more.
    PodStatus,
    /// A patch of the private Node that does more than report.
    NodeStatus,
    /// A deletion that the user did not ask for.
    Deletion,
    /// A token that the pod does not mount.
    Token,
    /// An event about something else, or somebody else's event.
    Event,
    /// A body that is no JSON object of the expected shape.
    Body,
    /// The mirror of a static pod. The kubelet tries this by itself, so it does not count.
    MirrorPod,
    /// The machine was given up.
    Revoked,
}

/// Counts refusals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Denials(Family<Label, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    rule: Rule,
}

impl Denied {
    pub(crate) fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule, message: message.into() }
    }
}

impl Rule {
    /// The label's value.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Unlisted => "unlisted",
            Self::Foreign => "foreign",
            Self::Unreferenced => "unreferenced",
            Self::PodStatus => "pod-status",
            Self::NodeStatus => "node-status",
            Self::Deletion => "deletion",
            Self::Token => "token",
            Self::Event => "event",
            Self::Body => "body",
            Self::MirrorPod => "mirror-pod",
            Self::Revoked => "revoked",
        }
    }
}

impl Denials {
    /// Counts one refusal, unless the kubelet could not help asking.
    pub(crate) fn count(&self, denied: &Denied) {
        if denied.rule != Rule::MirrorPod {
            self.0.get_or_create(&Label { rule: denied.rule }).inc();
        }
    }

    /// How many there were by this rule.
    #[cfg(test)]
    pub(crate) fn of(&self, rule: Rule) -> u64 {
        self.0.get_or_create(&Label { rule }).get()
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "gateway_denied_requests",
            "Requests of guest kubelets that the gateway refused, by rule",
            self.0.clone(),
        );
    }
}

impl EncodeLabelValue for Rule {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.kind())
    }
}
