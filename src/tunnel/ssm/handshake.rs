//! The handshake of a port session: the agent asks for actions, we answer, it says that it is complete.
//!
//! A pause follows: the agent says "complete" before it has noted so itself, and until then it acknowledges what we
//! send and drops it (amazon-ssm-agent 2024-10; about 1 session in 25 lost its first message on loopback, none in 25
//! with a pause of 50 ms).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codec::Millis;
use super::wire::CLIENT_VERSION;

/// From the first frame to `HandshakeComplete`; the agent's own limit.
pub const HANDSHAKE_TIMEOUT: Millis = 15_000;
/// After `HandshakeComplete`, before we send anything: twice what was enough.
pub const SETTLE: Millis = 100;

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Request { until: Millis },
    Complete { until: Millis },
    Settling { until: Millis },
    Done,
}

/// Where the handshake stands.
#[derive(Debug)]
pub struct Handshake {
    stage: Stage,
}

/// Why there will be no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("no handshake within {HANDSHAKE_TIMEOUT} ms")]
    Timeout,
    #[error("handshake request is not understood: {0}")]
    Request(String),
    #[error("session type is `{0}`, expected `Port`")]
    SessionType(String),
    #[error("data before the handshake was complete")]
    Early,
}

/// The answer to a request: what to send, and whether it was a refusal of the session as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub response: Vec<u8>,
    pub refused: Option<HandshakeError>,
}

impl Handshake {
    /// One that begins now.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self { stage: Stage::Request { until: now + HANDSHAKE_TIMEOUT } }
    }

    /// Whether we may send.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Whether the agent may send data: it does so as soon as it has said "complete".
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match self.stage {
            Stage::Settling { .. } | Stage::Done => true,
            Stage::Request { .. } | Stage::Complete { .. } => false,
        }
    }

    /// When [`Handshake::tick`] has something to do.
    #[must_use]
    pub fn wake(&self) -> Option<Millis> {
        match self.stage {
            Stage::Request { until } | Stage::Complete { until } | Stage::Settling { until } => Some(until),
            Stage::Done => None,
        }
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`HandshakeError::Timeout`].
    pub fn tick(&mut self, now: Millis) -> Result<(), HandshakeError> {
        match self.stage {
            Stage::Request { until } | Stage::Complete { until } if now >= until => {
                Err(HandshakeError::Timeout)
            }
            Stage::Settling { until } if now >= until => {
                self.stage = Stage::Done;
                Ok(())
            }
            Stage::Request { .. } | Stage::Complete { .. } | Stage::Settling { .. } | Stage::Done => Ok(()),
        }
    }

    /// The agent's `HandshakeRequest`.
    ///
    /// # Errors
    /// [`HandshakeError::Request`] when it cannot be read.
    pub fn on_request(&mut self, payload: &[u8]) -> Result<Answer, HandshakeError> {
        let request: Request =
            serde_json::from_slice(payload).map_err(|error| HandshakeError::Request(error.to_string()))?;
        let mut refused = None;
        let mut port = false;
        let mut errors = Vec::new();
        let mut processed = Vec::with_capacity(request.actions.len());
        for action in &request.actions {
            let (status, error) = match action.kind.as_str() {
                "SessionType" => {
                    let kind =
                        action.parameters.get("SessionType").and_then(Value::as_str).unwrap_or_default();
                    if kind == "Port" {
                        port = true;
                        (Status::Success, String::new())
                    } else {
                        let error = HandshakeError::SessionType(kind.to_owned());
                        let text = error.to_string();
                        refused = Some(error);
                        (Status::Unsupported, text)
                    }
                }
                // The agent never encrypts port sessions, and SSH runs inside ours.
                "KMSEncryption" => {
                    (Status::Failed, "KMS encryption is not supported by this client".to_owned())
                }
                other => (Status::Unsupported, format!("action `{other}` is not supported by this client")),
            };
            if !error.is_empty() {
                errors.push(error.clone());
            }
            processed.push(Processed {
                kind: &action.kind,
                status: status as u8,
                result: Value::Null,
                error,
            });
        }
        if !port && refused.is_none() {
            refused = Some(HandshakeError::SessionType(String::new()));
        }
        if let Stage::Request { until } = self.stage {
            self.stage = Stage::Complete { until };
        }
        let response = Response { version: CLIENT_VERSION, processed, errors };
        let response =
            serde_json::to_vec(&response).map_err(|error| HandshakeError::Request(error.to_string()))?;
        Ok(Answer { response, refused })
    }

    /// The agent's `HandshakeComplete`.
    ///
    /// # Errors
    /// [`HandshakeError::Early`] when it was never asked for.
    pub fn on_complete(&mut self, now: Millis) -> Result<(), HandshakeError> {
        match self.stage {
            Stage::Request { .. } => Err(HandshakeError::Early),
            Stage::Complete { .. } => {
                self.stage = Stage::Settling { until: now + SETTLE };
                Ok(())
            }
            Stage::Settling { .. } | Stage::Done => Ok(()),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Request {
    #[serde(rename = "RequestedClientActions", default)]
    actions: Vec<Action>,
}

#[derive(Debug, Deserialize)]
struct Action {
    #[serde(rename = "ActionType")]
    kind: String,
    #[serde(rename = "ActionParameters", default)]
    parameters: Value,
}

#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Status {
    Success = 1,
    Failed = 2,
    Unsupported = 3,
}

#[derive(Debug, Serialize)]
struct Response<'a> {
    #[serde(rename = "ClientVersion")]
    version: &'a str,
    #[serde(rename = "ProcessedClientActions")]
    processed: Vec<Processed<'a>>,
    #[serde(rename = "Errors")]
    errors: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Processed<'a> {
    #[serde(rename = "ActionType")]
    kind: &'a str,
    #[serde(rename = "ActionStatus")]
    status: u8,
    #[serde(rename = "ActionResult")]
    result: Value,
    #[serde(rename = "Error")]
    error: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(actions: &Value) -> (Value, Option<HandshakeError>) {
        let request = json!({"AgentVersion": "3.3.987.0", "RequestedClientActions": actions});
        let answer = Handshake::new(0).on_request(request.to_string().as_bytes()).unwrap();
        (serde_json::from_slice(&answer.response).unwrap(), answer.refused)
    }

    #[test]
    fn a_port_session_is_accepted() {
        let (response, refused) = ask(&json!([
            {"ActionType": "SessionType", "ActionParameters": {"SessionType": "Port", "Properties": {"portNumber": "22"}}}
        ]));
        assert_eq!(refused, None);
        assert_eq!(
            response,
            json!({
                "ClientVersion": CLIENT_VERSION,
                "ProcessedClientActions": [
                    {"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null, "Error": ""}
                ],
                "Errors": [],
            })
        );
    }

    #[test]
    fn kms_is_refused_as_failed_and_does_not_end_the_session_by_itself() {
        let (response, refused) = ask(&json!([
            {"ActionType": "SessionType", "ActionParameters": {"SessionType": "Port"}},
            {"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "k"}},
        ]));
        assert_eq!(refused, None);
        assert_eq!(response["ProcessedClientActions"][1]["ActionStatus"], 2);
        assert_eq!(response["Errors"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_shell_is_answered_as_unsupported_and_refused() {
        let (response, refused) = ask(&json!([
            {"ActionType": "SessionType", "ActionParameters": {"SessionType": "InteractiveCommands"}},
        ]));
        assert_eq!(refused, Some(HandshakeError::SessionType("InteractiveCommands".to_owned())));
        assert_eq!(response["ProcessedClientActions"][0]["ActionStatus"], 3);
    }

    #[test]
    fn nothing_may_be_sent_until_the_pause_is_over() {
        let mut handshake = Handshake::new(0);
        let request = br#"{"RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port"}}]}"#;
        assert_eq!(handshake.on_complete(5), Err(HandshakeError::Early));
        handshake.on_request(request).unwrap();
        handshake.on_complete(1000).unwrap();
        assert!(handshake.is_complete() && !handshake.is_done());
        assert_eq!(handshake.wake(), Some(1000 + SETTLE));
        handshake.tick(1000 + SETTLE - 1).unwrap();
        assert!(!handshake.is_done());
        handshake.tick(1000 + SETTLE).unwrap();
        assert!(handshake.is_done());
        assert_eq!(handshake.wake(), None);
    }

    #[test]
    fn silence_ends_it_after_15_seconds() {
        let mut handshake = Handshake::new(100);
        assert_eq!(handshake.tick(15_099), Ok(()));
        assert_eq!(handshake.tick(15_100), Err(HandshakeError::Timeout));
    }
}
