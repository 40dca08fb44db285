//! A machine that is taken away: how it learns of it, and how it is told to end in good order.

use jiff::Timestamp;
use serde::Deserialize;

/// Waits half a minute at most for EC2's notice, and prints it. EC2 asks to look every 5 s: research on
/// `spot/instance-action` is in the EC2 user guide, "Spot Instance interruption notices".
pub const AWAIT_NOTICE: &str = include_str!("scripts/notice.sh");

/// Switches the machine off. The kubelet, which delays that, first ends its pod as on any node that is shut down:
/// SIGTERM, the pod's grace, Failed with the condition `DisruptionTarget`.
pub const SHUT_DOWN: &str = "systemctl --no-block --no-wall poweroff";

/// EC2's notice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Notice {
    /// `terminate`, `stop` or `hibernate`.
    pub action: String,
    /// When that happens.
    pub time: Timestamp,
}

impl Notice {
    /// Reads what [`AWAIT_NOTICE`] printed; `None` if there is no notice.
    #[must_use]
    pub fn parse(output: &[u8]) -> Option<Self> {
        serde_json::from_slice(output).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_and_silence_is_none() {
        let notice = Notice::parse(br#"{"action": "terminate", "time": "2026-11-21T08:22:00Z"}"#).unwrap();
        assert_eq!((notice.action.as_str(), notice.time.as_second()), ("terminate", 1_795_249_320));
        for text in ["", "{}", "<html>", r#"{"action": "terminate"}"#] {
            assert_eq!(Notice::parse(text.as_bytes()), None, "{text}");
        }
    }
}
