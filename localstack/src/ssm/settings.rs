//! What tests and people may change while the service runs. Durations are milliseconds.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::channel::Resend;
use super::faults::FrameFaults;
use crate::patch;

/// The service's settings. New sessions take them all; `pace`, `output_bytes_per_second` and `faults` apply to
/// running ones too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Sessions that may be started at once before `ThrottlingException`. AWS publishes no figure; default 200.
    pub start_session_burst: u32,
    /// Sessions per second after that; default 100.
    pub start_session_per_second: f64,
    /// How long a token opens a data channel; default 60 s.
    pub token_lifetime_ms: u64,
    /// From `StartSession` to the agent's first message; default 20 ms.
    pub agent_start_ms: u64,
    /// Default 15 s, as the agent's.
    pub handshake_timeout_ms: u64,
    /// For how long after `HandshakeComplete` data is acknowledged and lost. The real gap is some microseconds,
    /// within which no client answers over a real network, but one in 25 does over loopback. Default 0.
    pub handshake_gap_ms: u64,
    pub pace: Pace,
    /// Most bytes per second that each session carries out of its machine; default none. Real ones carry about 0.6 MB/s.
    pub output_bytes_per_second: Option<NonZeroU32>,
    /// WebSockets are closed after this time; default 60 min.
    pub recycle_after_ms: u64,
    /// Without a message of the client, sessions end after this time; default 20 min.
    pub idle_timeout_ms: u64,
    /// Sessions end after this time; default none.
    pub max_duration_ms: Option<u64>,
    /// Largest payload from a client, in bytes; larger ones end the WebSocket. Default 32 KiB, more than which
    /// was not tried with the real agent.
    pub max_payload: usize,
    pub upgrade_auth: UpgradeAuth,
    pub agent_version: String,
    /// Frames lost, doubled and delayed; default none.
    pub faults: FrameFaults,
}

/// How fast the agent reads from its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// As fast as they are taken, within a window of messages in flight.
    Unlimited,
    /// 1 KiB, then 1 ms of sleep, without a window: the real agent.
    Agent,
}

/// Whether the upgrade to a WebSocket must be signed. A signature that is there is always checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeAuth {
    Optional,
    Required,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            start_session_burst: 200,
            start_session_per_second: 100.0,
            token_lifetime_ms: 60_000,
            agent_start_ms: 20,
            handshake_timeout_ms: 15_000,
            handshake_gap_ms: 0,
            pace: Pace::Unlimited,
            output_bytes_per_second: None,
            recycle_after_ms: 3_600_000,
            idle_timeout_ms: 1_200_000,
            max_duration_ms: None,
            max_payload: 32 << 10,
            upgrade_auth: UpgradeAuth::Optional,
            agent_version: "3.3.1142.0".to_owned(),
            faults: FrameFaults::default(),
        }
    }
}

impl Settings {
    /// These settings with the members of `patch` in place of theirs.
    pub fn patched(&self, patch: &Value) -> Result<Self, serde_json::Error> {
        patch::patched(self, patch)
    }

    /// How long to read nothing after so many bytes were read.
    pub(super) fn rest(&self, bytes: usize) -> Duration {
        let limited = self.output_bytes_per_second.map_or(Duration::ZERO, |most| {
            let nanos = bytes as u128 * 1_000_000_000 / u128::from(most.get());
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        limited.max(self.pace.rest())
    }

    pub(super) fn resend(&self) -> Resend {
        match self.pace {
            Pace::Agent => Resend::Oldest,
            Pace::Unlimited => Resend::UpTo(WINDOW),
        }
    }
}

impl Pace {
    /// How far the agent may be ahead of the client, in messages.
    pub(super) fn window(self) -> usize {
        match self {
            Self::Unlimited => WINDOW,
            Self::Agent => usize::MAX,
        }
    }

    /// Sleep after a message.
    pub(super) fn rest(self) -> Duration {
        match self {
            Self::Unlimited => Duration::ZERO,
            Self::Agent => Duration::from_millis(1),
        }
    }
}

/// A setting as a duration; longer than a year is a year, so that it can be added to any time.
pub(super) fn millis(setting: u64) -> Duration {
    const YEAR: u64 = 365 * 24 * 3600 * 1000;
    Duration::from_millis(setting.min(YEAR))
}

/// 512 KiB: full speed over loopback, and all of it sent again in one tick after a cut.
const WINDOW: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_refuses_what_does_not_exist() {
        let patch = serde_json::json!({ "pace": "agent", "faults": { "drop": 0.5 } });
        let patched = Settings::default().patched(&patch).unwrap();
        assert_eq!(patched.pace, Pace::Agent);
        assert!((patched.faults.drop - 0.5).abs() < f64::EPSILON);
        assert_eq!(patched.idle_timeout_ms, 1_200_000);
        let wrong = Settings::default().patched(&serde_json::json!({ "idle_timeout": 1 })).unwrap_err();
        assert!(wrong.to_string().contains("idle_timeout"), "{wrong}");
        assert!(Settings::default().patched(&serde_json::json!([1])).is_err());
    }

    #[test]
    fn the_rest_after_a_read_is_what_the_slower_of_pace_and_limit_asks_for() {
        let patched = |patch| Settings::default().patched(&patch).unwrap();
        assert_eq!(Settings::default().rest(1024), Duration::ZERO);
        let limited = serde_json::json!({ "pace": "agent", "output_bytes_per_second": 1000 });
        assert_eq!(patched(limited).rest(500), Duration::from_millis(500));
        let limited = serde_json::json!({ "pace": "agent", "output_bytes_per_second": u32::MAX });
        assert_eq!(patched(limited).rest(500), Duration::from_millis(1));
        let none = serde_json::json!({ "output_bytes_per_second": 0 });
        assert!(Settings::default().patched(&none).is_err());
    }
}
