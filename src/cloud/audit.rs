//! The record of what was done to the cloud: one line, target `orca::audit`, for each call that was meant to
//! change something.
//!
//! It is written by whoever makes the call, because only the caller knows for which pod and why; adapters stay silent.
//! A call whose deadline passed is recorded too: it may have been done.

use super::CloudError;

/// A call that is meant to change something.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// The cloud's own name for it, such as `RunInstances`.
    pub action: &'static str,
    /// The pod that it is done for.
    pub pod_uid: &'a str,
    /// `namespace/name` of that pod; empty if nothing tells it any more.
    pub pod: &'a str,
    /// Empty for a launch that gave none.
    pub instance_id: &'a str,
    /// What else decides what the call does.
    pub detail: &'a str,
    pub why: &'a str,
}

impl Deed<'_> {
    /// Writes the line.
    pub fn record<T>(self, result: &Result<T, CloudError>) {
        let Self { action, pod_uid, pod, instance_id, detail, why } = self;
        let outcome = result.as_ref().map_or_else(CloudError::kind, |_| "ok");
        let error = result.as_ref().err().map(tracing::field::display);
        tracing::info!(target: "orca::audit", action, pod.uid = pod_uid, pod, instance.id = instance_id, detail, why, result = outcome, error);
    }
}
