//! Pods for which the same thing fails again and again, as the page `/stuck` of the running ORCA shows them and
//! `orca stuck` reads them; and the annotation by which a person says: now. Data.
//!
//! Fields of the page are never renamed or taken away.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

/// Annotation of a pod: what failed is tried again at once, each time that the value changes.
pub const ANNOTATION_RETRY: &str = "orca.research/retry-at";
/// So many attempts in a row must have failed.
pub const STUCK_AFTER: u32 = 5;
/// Pods on the page; those that have failed for longest.
pub const MOST: usize = 1000;

/// One moment of one ORCA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Page {
    /// Name of the virtual node.
    pub node: String,
    pub as_of: Timestamp,
    /// Why launches of all pods wait, if they do.
    pub launches: Option<String>,
    /// Pods of which something failed last, longest first, at most [`MOST`].
    pub pods: Vec<Entry>,
    /// How many more there are.
    pub more: usize,
}

/// What fails for one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// One of [`super::state::State`]'s names.
    pub state: String,
    /// What it waits for, one of [`super::reasons`]; or what failed: `kube`, or the kind of the cloud's error.
    pub reason: String,
    pub message: String,
    /// When it failed first.
    pub since: Timestamp,
    /// How often it failed since.
    pub attempts: u32,
    pub next_try: Timestamp,
    /// At least [`STUCK_AFTER`] attempts.
    pub is_stuck: bool,
}

/// The value of the pod's annotation, if it has one.
#[must_use]
pub fn asked_again(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(ANNOTATION_RETRY).map(String::as_str)
}
