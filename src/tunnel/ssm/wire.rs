//! The JSON that travels inside frames, field for field as agent and service spell it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What we claim to be. The agent takes features from it: at this version it offers nothing to a raw port session
/// that is not implemented here.
pub(super) const CLIENT_VERSION: &str = "1.2.650.0";

/// First frame of every connection, as text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OpenDataChannel<'a> {
    message_schema_version: &'static str,
    request_id: String,
    token_value: &'a str,
    client_id: String,
    client_version: &'static str,
}

impl<'a> OpenDataChannel<'a> {
    pub(super) fn new(token_value: &'a str, client_id: Uuid) -> Self {
        Self {
            message_schema_version: "1.0",
            request_id: Uuid::new_v4().to_string(),
            token_value,
            client_id: client_id.to_string(),
            client_version: CLIENT_VERSION,
        }
    }
}

/// Payload of `acknowledge`: one message, not all up to it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Acknowledge {
    #[serde(rename = "AcknowledgedMessageType")]
    pub(super) kind: String,
    #[serde(rename = "AcknowledgedMessageId")]
    pub(super) id: String,
    #[serde(rename = "AcknowledgedMessageSequenceNumber")]
    pub(super) sequence: i64,
    #[serde(rename = "IsSequentialMessage")]
    pub(super) sequential: bool,
}

/// Payload of `channel_closed`; the rest of it repeats the header.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ChannelClosed {
    /// Why, for a human; often empty.
    #[serde(rename = "Output", default)]
    pub(super) reason: String,
}
