//! What is remembered of a pod for good: for whom it was, when it was what, what its container did, and what it cost.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::meter::{Billed, Meter};
use super::pod::{Ending, Pod};
use super::status::Step;

/// A pod's life.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    pub id: String,
    pub name: String,
    pub image: String,
    /// GPU type or CPU flavor, and how many.
    pub hardware: (&'static str, u32),
    pub cloud: &'static str,
    pub data_center: &'static str,
    pub env: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub history: Vec<Step>,
    pub reason: Option<String>,
    pub endings: Vec<Ending>,
    #[serde(skip)]
    pub meter: Meter,
}

/// What the hidden ledger says of a pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry<'a> {
    pub id: &'a str,
    pub name: &'a str,
    /// It costs something now.
    pub live: bool,
    pub compute_seconds: f64,
    pub disk_seconds: f64,
    /// Dollars.
    pub amount: f64,
}

impl Past {
    /// The life of a pod so far.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        Self {
            id: pod.id.clone(),
            name: pod.order.name.clone(),
            image: pod.order.image.clone(),
            hardware: pod.order.compute.takes(),
            cloud: pod.order.cloud.name(),
            data_center: pod.placement.data_center,
            env: pod.order.env.clone(),
            created_at: pod.created,
            ended_at: pod.ended,
            history: pod.history.clone(),
            reason: pod.reason.clone(),
            endings: pod.endings.clone(),
            meter: pod.meter.clone(),
        }
    }

    /// What it was billed until now.
    #[must_use]
    pub fn entry(&self, now: Timestamp) -> Entry<'_> {
        let Billed { compute_seconds, disk_seconds, compute, disk } = self.meter.billed(Timestamp::MIN, now);
        Entry {
            id: &self.id,
            name: &self.name,
            live: self.meter.is_running(),
            compute_seconds,
            disk_seconds,
            amount: (compute + disk) / 1e6,
        }
    }
}
