//! What a port session is to be, and the handshake that tells the client and learns what it can do.
//!
//! Pure: a [`Plan`] makes the request and judges the response.

use std::time::Duration;

use super::payload::{HandshakeRequest, HandshakeResponse, RequestedAction, at_least};
use super::smux::KeepAlive;

/// First client that speaks smux.
const MUX_SINCE: [u64; 3] = [1, 1, 70];
/// First client that does without smux keep-alives.
const QUIET_MUX_SINCE: [u64; 4] = [1, 2, 331, 1];

/// What a session is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub kind: Kind,
    /// As the client is told them in the handshake.
    pub properties: serde_json::Value,
    pub agent_version: String,
    pub handshake_timeout: Duration,
    /// Between sending `HandshakeComplete` and noting it; data that comes within is acknowledged and lost.
    pub handshake_gap: Duration,
}

/// What the document asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One raw stream; its end is the session's.
    Ssh,
    /// Many connections, by smux where the client can.
    Forward,
}

/// What carries the bytes on the machine's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// A TCP connection.
    Raw,
    /// An smux session.
    Mux(KeepAlive),
}

impl Plan {
    /// What the agent asks of the client.
    #[must_use]
    pub fn request(&self) -> HandshakeRequest {
        let parameters = serde_json::json!({ "SessionType": "Port", "Properties": self.properties });
        HandshakeRequest {
            agent_version: self.agent_version.clone(),
            requested_client_actions: vec![RequestedAction {
                action_type: "SessionType".to_owned(),
                action_parameters: parameters,
            }],
        }
    }

    /// What the session is carried by, given the client's response, or why it cannot be.
    pub fn accept(&self, response: &[u8]) -> Result<Connection, String> {
        let response: HandshakeResponse = serde_json::from_slice(response)
            .map_err(|error| format!("Handshake response cannot be read: {error}"))?;
        let session_type =
            response.processed_client_actions.iter().find(|action| action.action_type == "SessionType");
        match session_type {
            Some(action) if action.action_status == 1 => {}
            Some(action) => return Err(format!("SessionType failed on the client: {}", action.error)),
            None => return Err("The client did not process SessionType".to_owned()),
        }
        let version = &response.client_version;
        Ok(match self.kind {
            Kind::Ssh => Connection::Raw,
            Kind::Forward if !at_least(version, &MUX_SINCE) => Connection::Raw,
            Kind::Forward if at_least(version, &QUIET_MUX_SINCE) => Connection::Mux(KeepAlive::Off),
            Kind::Forward => Connection::Mux(KeepAlive::On),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(kind: Kind) -> Plan {
        Plan {
            kind,
            properties: serde_json::json!({ "portNumber": "22" }),
            agent_version: "3.3.0.0".to_owned(),
            handshake_timeout: Duration::from_secs(15),
            handshake_gap: Duration::ZERO,
        }
    }

    fn accepted(kind: Kind, version: &str) -> Connection {
        let actions = serde_json::json!([{ "ActionType": "SessionType", "ActionStatus": 1 }]);
        let response = serde_json::json!({ "ClientVersion": version, "ProcessedClientActions": actions });
        plan(kind).accept(response.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_clients_version_chooses_what_carries_the_session() {
        assert_eq!(accepted(Kind::Forward, "1.1.61.0"), Connection::Raw);
        assert_eq!(accepted(Kind::Forward, "1.1.70.0"), Connection::Mux(KeepAlive::On));
        assert_eq!(accepted(Kind::Forward, "1.2.331.0"), Connection::Mux(KeepAlive::On));
        assert_eq!(accepted(Kind::Forward, "1.2.339.0"), Connection::Mux(KeepAlive::Off));
        assert_eq!(accepted(Kind::Ssh, "1.2.339.0"), Connection::Raw);
    }

    #[test]
    fn the_request_is_in_the_agents_words() {
        let request = serde_json::to_value(plan(Kind::Ssh).request()).unwrap();
        let action = &request["RequestedClientActions"][0];
        assert_eq!(request["AgentVersion"], "3.3.0.0");
        assert_eq!(action["ActionType"], "SessionType");
        assert_eq!(action["ActionParameters"]["Properties"]["portNumber"], "22");
    }

    #[test]
    fn a_response_without_a_session_type_is_refused() {
        for response in ["", "{}", r#"{"ClientVersion":"1","ProcessedClientActions":[]}"#] {
            assert!(plan(Kind::Ssh).accept(response.as_bytes()).is_err(), "{response}");
        }
    }
}
