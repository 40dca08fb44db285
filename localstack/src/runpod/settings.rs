//! What tests and people may change while it runs. Times are in milliseconds.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which server answers: RunPod's own changed between these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Api {
    /// No `entrypoint` and `cmd`, no pages, no secrets.
    #[serde(rename = "2026-08")]
    August,
    #[serde(rename = "2026-10")]
    October,
}

/// The service's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Default `2026-10`.
    pub api: Api,
    /// Of lists, with `2026-10`; default 100.
    pub page_size: NonZeroUsize,
    /// Shortest time as `PROVISIONING`; default 1 s.
    pub provisioning_ms: u32,
    /// Shortest time as `STARTING`, whatever the image takes; default 1 s.
    pub pulling_ms: u32,
    /// From `RUNNING` until its container is created; default 0.5 s.
    pub booting_ms: u32,
    /// From a container's start until the ports are shown; default 0.5 s.
    pub mapping_ms: u32,
    /// From a container's exit until it is started again, and between two attempts at an image; default 1 s.
    pub restart_ms: u32,
    /// From SIGTERM to SIGKILL; default 10 s.
    pub stop_grace_ms: u32,
    /// How long pods that RunPod ended itself are shown as `TERMINATED`; default a minute.
    pub terminated_ms: u32,
    /// Between two bills; default 5 minutes.
    pub billing_tick_ms: NonZeroU32,
    /// Seconds that are billed in one; default 1.
    pub time_scale: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api: Api::October,
            page_size: NonZeroUsize::MIN.saturating_add(99),
            provisioning_ms: 1000,
            pulling_ms: 1000,
            booting_ms: 500,
            mapping_ms: 500,
            restart_ms: 1000,
            stop_grace_ms: 10_000,
            terminated_ms: 60_000,
            billing_tick_ms: NonZeroU32::MIN.saturating_add(299_999),
            time_scale: 1.0,
        }
    }
}

impl Settings {
    /// Between two bills.
    #[must_use]
    pub fn billing_tick(&self) -> Duration {
        millis(self.billing_tick_ms.get())
    }
}

/// So many milliseconds.
#[must_use]
pub fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}
