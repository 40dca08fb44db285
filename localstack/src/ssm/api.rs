//! The operations on sessions.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::book::{Record, State};
use super::handshake::Plan;
use super::session::{self, Command, Seat};
use super::settings::millis;
use super::smux::Port;
use super::{JsonError, Ssm, clock, document, locked};
use crate::aws::json::{Members, parse};

/// Commands that wait for a session.
const COMMANDS: usize = 16;
const MAX_SESSION_ID: usize = 96;
/// The rules of this service's members.
pub(super) const MEMBERS: Members = Members("ValidationException");

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartSession {
    target: Option<String>,
    document_name: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SessionOnly {
    session_id: Option<String>,
}

pub(super) fn start_session(ssm: &Arc<Ssm>, body: Value) -> Result<Value, JsonError> {
    let request: StartSession = parse(body)?;
    let target = MEMBERS.text("target", request.target, 1..=400)?;
    if let Some(reason) = &request.reason {
        MEMBERS.length("reason", reason, reason.chars().count(), 1..=256)?;
    }
    if let Some(name) = &request.document_name {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
        if !(3..=128).contains(&name.len()) || !name.chars().all(allowed) {
            let rule = "satisfy regular expression pattern: ^[a-zA-Z0-9_\\-.:/]{3,128}$";
            return Err(MEMBERS.broken("documentName", name, rule));
        }
    }
    let settings = ssm.settings();
    locked(&ssm.bucket)
        .take(settings.start_session_burst, settings.start_session_per_second, Instant::now())
        .map_err(|_| JsonError::caller("ThrottlingException", "Rate exceeded"))?;
    let opening = document::open(request.document_name.as_deref(), &request.parameters)?;
    let machines = ssm
        .connected(&target)
        .ok_or_else(|| JsonError::caller("TargetNotConnected", format!("{target} is not connected.")))?;

    let id = format!("local-{:017x}", rand::random::<u128>() & ((1 << 68) - 1));
    let cell = STANDARD.encode(rand::random::<[u8; 28]>());
    let cell = cell.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let query = format!("role=publish_subscribe&cell-number=AAEA{cell}");
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let document = request.document_name.unwrap_or_default();
    let mut record = Record::new(&id, &target, &document, &query, commands, clock::now());
    record.reason = request.reason;
    let seat = Seat {
        id: id.clone(),
        plan: Plan {
            kind: opening.kind,
            properties: opening.properties,
            agent_version: settings.agent_version.clone(),
            handshake_timeout: millis(settings.handshake_timeout_ms),
            handshake_gap: millis(settings.handshake_gap_ms),
        },
        port: Port { machines, instance_id: target, port: opening.port },
        world: Arc::clone(&ssm.world),
        book: Arc::clone(&ssm.book),
        settings: ssm.settings.subscribe(),
        commands: inbox,
    };
    ssm.book.add(record);
    ssm.spawn(session::run(seat));
    Ok(opened(ssm, &id, &query))
}

pub(super) fn resume_session(ssm: &Ssm, body: Value) -> Result<Value, JsonError> {
    let record = find(ssm, body)?;
    if ssm.is_cut(&record.target) {
        return Err(JsonError::internal("The data channel cannot be reached."));
    }
    match record.state {
        State::Active => Ok(opened(ssm, &record.id, &record.query)),
        // A session that is over has no token, which is how clients see it.
        State::Terminating | State::Ended { .. } => Ok(json!({ "SessionId": record.id })),
    }
}

pub(super) async fn terminate_session(ssm: &Ssm, body: Value) -> Result<Value, JsonError> {
    let record = find(ssm, body)?;
    match record.state {
        State::Active => {
            ssm.book.terminating(&record.id);
            // A session that just ended needs no telling.
            drop(record.commands.send(Command::Terminate).await);
        }
        State::Terminating | State::Ended { .. } => {}
    }
    Ok(json!({ "SessionId": record.id }))
}

fn find(ssm: &Ssm, body: Value) -> Result<Record, JsonError> {
    let request: SessionOnly = parse(body)?;
    let id = MEMBERS.text("sessionId", request.session_id, 1..=MAX_SESSION_ID)?;
    ssm.book
        .get(&id)
        .ok_or_else(|| JsonError::caller("DoesNotExistException", format!("Session {id} does not exist")))
}

/// The answer with a new token.
fn opened(ssm: &Ssm, id: &str, query: &str) -> Value {
    let mut secret = [0; 96];
    rand::rng().fill(&mut secret);
    let token = STANDARD.encode(secret);
    let lifetime = millis(ssm.settings().token_lifetime_ms);
    ssm.book.issue(id, &token, lifetime, Instant::now());
    json!({
        "SessionId": id,
        "TokenValue": token,
        "StreamUrl": format!("{}/v1/data-channel/{id}?{query}", ssm.stream_base),
    })
}
