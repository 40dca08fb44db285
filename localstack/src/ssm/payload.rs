//! The JSON inside data-channel messages, as the agent and the vendor's client write it.

use serde::{Deserialize, Serialize};

/// First frame of a WebSocket, as text.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OpenDataChannelInput {
    pub message_schema_version: String,
    pub request_id: String,
    pub token_value: String,
    pub client_id: String,
    /// Clients before 1.2.650 leave it out.
    pub client_version: Option<String>,
}

impl OpenDataChannelInput {
    /// What is wrong with it, by the lengths of the vendor's model.
    pub fn problem(&self) -> Option<&'static str> {
        if self.message_schema_version != "1.0" {
            return Some("MessageSchemaVersion is not 1.0");
        }
        if self.request_id.len() < 16 {
            return Some("RequestId is shorter than 16");
        }
        if self.client_id.is_empty() || self.client_version.as_ref().is_some_and(String::is_empty) {
            return Some("ClientId or ClientVersion is empty");
        }
        None
    }
}

/// Payload of an acknowledgement; it speaks of one message, not of all before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    #[serde(rename = "AcknowledgedMessageType")]
    pub message_type: String,
    #[serde(rename = "AcknowledgedMessageId")]
    pub message_id: String,
    #[serde(rename = "AcknowledgedMessageSequenceNumber")]
    pub sequence: i64,
    #[serde(rename = "IsSequentialMessage")]
    pub sequential: bool,
}

/// What the agent asks of the client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeRequest {
    pub agent_version: String,
    pub requested_client_actions: Vec<RequestedAction>,
}

/// One thing that the client is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestedAction {
    pub action_type: String,
    pub action_parameters: serde_json::Value,
}

/// What the client did of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeResponse {
    pub client_version: String,
    #[serde(default)]
    pub processed_client_actions: Vec<ProcessedAction>,
    /// Go writes an empty list as `null`.
    #[serde(default)]
    pub errors: Option<Vec<String>>,
}

/// How one of them went.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessedAction {
    pub action_type: String,
    /// 1 success, 2 failed, 3 unsupported.
    pub action_status: u8,
    #[serde(default)]
    pub action_result: serde_json::Value,
    #[serde(default)]
    pub error: String,
}

/// The end of the handshake.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeComplete {
    /// Nanoseconds.
    pub handshake_time_to_complete: u64,
    pub customer_message: String,
}

/// The service's last word.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChannelClosed {
    pub message_id: String,
    pub created_date: String,
    pub destination_id: String,
    pub session_id: String,
    pub message_type: String,
    pub schema_version: u32,
    /// The reason for people, or nothing.
    pub output: String,
}

/// Payload of the type `Flag`: a big-endian `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// The client's connection is gone: drop the agent's too.
    DisconnectToPort,
    /// End the session.
    TerminateSession,
    /// The agent could not connect a stream to the port.
    ConnectToPortError,
}

impl Flag {
    /// The payload for it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 4] {
        let number: u32 = match self {
            Self::DisconnectToPort => 1,
            Self::TerminateSession => 2,
            Self::ConnectToPortError => 3,
        };
        number.to_be_bytes()
    }

    /// The flag in a payload.
    #[must_use]
    pub fn from_bytes(payload: &[u8]) -> Option<Self> {
        [Self::DisconnectToPort, Self::TerminateSession, Self::ConnectToPortError]
            .into_iter()
            .find(|flag| flag.to_bytes() == payload)
    }
}

/// Whether a dotted version is at least `least`; one that is not made of numbers is older than everything.
#[must_use]
pub fn at_least(version: &str, least: &[u64]) -> bool {
    let parts: Result<Vec<u64>, _> = version.split('.').map(str::parse).collect();
    parts.is_ok_and(|mut parts| {
        parts.resize(parts.len().max(least.len()), 0);
        parts.as_slice() >= least
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(at_least("1.1.70.0", &[1, 1, 70]));
        assert!(at_least("1.1.70", &[1, 1, 70, 0]));
        assert!(at_least("1.10.0.0", &[1, 2, 331]));
        assert!(!at_least("1.1.69.9", &[1, 1, 70]));
        assert!(!at_least("newest", &[1, 1, 70]));
    }

    #[test]
    fn a_flag_is_four_bytes_and_nothing_else() {
        assert_eq!(Flag::from_bytes(&[0, 0, 0, 2]), Some(Flag::TerminateSession));
        assert_eq!(Flag::from_bytes(&[0, 0, 0, 9]), None);
        assert_eq!(Flag::from_bytes(&[2]), None);
    }
}
