//! The session documents that AWS owns and that open ports: their parameters, defaults and rules.

use serde_json::{Map, Value, json};

use super::JsonError;
use super::handshake::Kind;

/// What a document and its parameters come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) kind: Kind,
    /// On the machine's loopback.
    pub(super) port: u16,
    /// As the client is told.
    pub(super) properties: Value,
}

/// What may be written for a port.
#[derive(Clone, Copy)]
enum Zero {
    Allowed,
    Refused,
}

/// Resolves a `StartSession` request's document and parameters.
pub(super) fn open(name: Option<&str>, parameters: &Map<String, Value>) -> Result<Opening, JsonError> {
    let (kind, known): (_, &[&str]) = match name {
        Some("AWS-StartSSHSession") => (Kind::Ssh, &["portNumber"]),
        Some("AWS-StartPortForwardingSession") => (Kind::Forward, &["portNumber", "localPortNumber"]),
        // A shell document exists in every account, but this cloud's machines have no shell sessions.
        Some(other) => return Err(unknown(other)),
        None => return Err(unknown("SSM-SessionManagerRunShell")),
    };
    if let Some(unknown) = parameters.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(invalid(format!("Document does not support parameter {unknown}.")));
    }
    match kind {
        Kind::Ssh => {
            let port = port(parameters, "portNumber", "22", Zero::Refused)?;
            Ok(Opening { kind, port, properties: json!({ "portNumber": port.to_string() }) })
        }
        Kind::Forward => {
            let number = port(parameters, "portNumber", "80", Zero::Refused)?;
            let local = port(parameters, "localPortNumber", "0", Zero::Allowed)?;
            let properties = json!({
                "portNumber": number.to_string(),
                "localPortNumber": local.to_string(),
                "type": "LocalPortForwarding",
            });
            Ok(Opening { kind, port: number, properties })
        }
    }
}

fn port(parameters: &Map<String, Value>, name: &str, default: &str, zero: Zero) -> Result<u16, JsonError> {
    let text = match parameters.get(name).and_then(Value::as_array).map(Vec::as_slice) {
        None => default,
        Some([one]) => one.as_str().unwrap_or_default(),
        Some(_) => return Err(invalid(format!("Parameter {name} takes one value."))),
    };
    let canonical = !text.starts_with('+') && (text == "0" || !text.starts_with('0'));
    match (text.parse::<u16>(), zero) {
        (Ok(0), Zero::Allowed) => Ok(0),
        (Ok(port @ 1..), _) if canonical => Ok(port),
        (Ok(_) | Err(_), _) => {
            Err(invalid(format!("Parameter {name} with value {text} does not match the allowed pattern.")))
        }
    }
}

fn unknown(name: &str) -> JsonError {
    JsonError::caller("InvalidDocument", format!("Document with name {name} does not exist."))
}

fn invalid(message: String) -> JsonError {
    JsonError::caller("InvalidParameters", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(name: &str, parameters: Value) -> Result<Opening, String> {
        let Value::Object(parameters) = parameters else { panic!("an object") };
        open(Some(name), &parameters).map_err(|error| error.code)
    }

    #[test]
    fn documents_have_their_own_default_ports() {
        let ssh = opened("AWS-StartSSHSession", json!({})).unwrap();
        assert_eq!((ssh.kind, ssh.port), (Kind::Ssh, 22));
        let forward = opened("AWS-StartPortForwardingSession", json!({ "portNumber": ["8080"] })).unwrap();
        assert_eq!((forward.kind, forward.port), (Kind::Forward, 8080));
        assert_eq!(forward.properties["type"], "LocalPortForwarding");
    }

    #[test]
    fn what_the_documents_do_not_allow_is_refused() {
        let ssh = "AWS-StartSSHSession";
        for value in ["0", "022", "+22", "65536", "ssh", ""] {
            let refused = opened(ssh, json!({ "portNumber": [value] }));
            assert_eq!(refused.unwrap_err(), "InvalidParameters", "{value}");
        }
        assert_eq!(opened(ssh, json!({ "portNumber": ["1", "2"] })).unwrap_err(), "InvalidParameters");
        assert_eq!(opened(ssh, json!({ "host": ["10.0.0.1"] })).unwrap_err(), "InvalidParameters");
        assert_eq!(opened("AWS-RunShellScript", json!({})).unwrap_err(), "InvalidDocument");
        assert_eq!(open(None, &Map::new()).unwrap_err().code, "InvalidDocument");
    }
}
