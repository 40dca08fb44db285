//! `GET /v1/data-channel/{session}`: the WebSocket upgrade by hand, its signature, and the first frame.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::JsonError;
use super::Ssm;
use super::book::TokenError;
use super::codec::HEADER;
use super::payload::OpenDataChannelInput;
use super::session::Command;
use super::settings::UpgradeAuth;
use super::socket::{Socket, Wire};

/// From the upgrade to the first frame.
const FIRST_FRAME: Duration = Duration::from_secs(10);

pub(super) async fn data_channel(
    State(ssm): State<Arc<Ssm>>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Response {
    let (mut parts, _body) = request.into_parts();
    let accept = match check(&ssm, &id, &parts) {
        Ok(accept) => accept,
        Err(error) => {
            tracing::info!(session.id = id, %error, "data channel refused");
            return error.into_response();
        }
    };
    let Some(upgrade) = parts.extensions.remove::<hyper::upgrade::OnUpgrade>() else {
        return JsonError::internal("the connection cannot be upgraded").into_response();
    };
    let owner = Arc::downgrade(&ssm);
    ssm.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let Some(ssm) = owner.upgrade() else { return };
        let most = Some(HEADER + ssm.settings().max_payload);
        let config = WebSocketConfig::default()
            .max_message_size(most)
            .max_frame_size(most)
            .read_buffer_size(16 << 10)
            .write_buffer_size(16 << 10);
        drop(ssm);
        let mut wire =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let first = timeout(FIRST_FRAME, first_frame(&mut wire)).await;
        let socket = Socket::new(wire);
        let Some(ssm) = owner.upgrade() else { return };
        let refused = match first {
            Ok(Ok(input)) => match open(&ssm, &id, &input) {
                Ok(commands) => {
                    drop(ssm);
                    // The session may have ended meanwhile; then there is nobody to say it to.
                    drop(commands.send(Command::Attach(Box::new(socket))).await);
                    return;
                }
                Err(refused) => refused,
            },
            Ok(Err(refused)) => refused,
            Err(_) => "no OpenDataChannelInput in time",
        };
        drop(ssm);
        tracing::info!(session.id = id, refused, "data channel refused");
        socket.close(None, CloseCode::Policy, refused).await;
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Everything that can be refused before the upgrade; the answer to the client's key otherwise.
fn check(ssm: &Ssm, id: &str, parts: &Parts) -> Result<HeaderValue, JsonError> {
    let text =
        |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or("");
    let token =
        |list: &str, wanted: &str| list.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted));
    if !token(text(header::UPGRADE), "websocket") || !token(text(header::CONNECTION), "upgrade") {
        return Err(JsonError::caller("BadRequest", "expected a WebSocket upgrade"));
    }
    if text(header::SEC_WEBSOCKET_VERSION) != "13" || text(header::SEC_WEBSOCKET_KEY).is_empty() {
        return Err(JsonError::caller("BadRequest", "expected Sec-WebSocket-Version 13 and a key"));
    }
    let query = parts.uri.query().unwrap_or("");
    let signed = parts.headers.contains_key(header::AUTHORIZATION) || query.contains("X-Amz-Signature=");
    match (signed, ssm.settings().upgrade_auth) {
        (true, _) => ssm.world.verify_upgrade(parts)?,
        (false, UpgradeAuth::Optional) => {}
        (false, UpgradeAuth::Required) => {
            return Err(JsonError {
                status: 403,
                ..JsonError::caller("MissingAuthenticationToken", "Missing Authentication Token")
            });
        }
    }
    let Some(record) = ssm.book.get(id) else {
        return Err(JsonError {
            status: 404,
            ..JsonError::caller("ChannelNotFound", format!("no session {id}"))
        });
    };
    let presigned = |part: &&str| !part.starts_with("X-Amz-");
    if query.split('&').filter(presigned).collect::<Vec<_>>().join("&") != record.query {
        return Err(JsonError::caller("BadRequest", "expected the query of StreamUrl as it was given"));
    }
    if ssm.is_cut(&record.target) {
        return Err(JsonError { status: 503, ..JsonError::internal("the data channel is cut") });
    }
    let accept = derive_accept_key(text(header::SEC_WEBSOCKET_KEY).as_bytes());
    Ok(HeaderValue::from_str(&accept).expect("base64 is a header value"))
}

async fn first_frame(wire: &mut Wire) -> Result<OpenDataChannelInput, &'static str> {
    loop {
        match wire.next().await {
            Some(Ok(Message::Text(text))) => {
                let input: OpenDataChannelInput = serde_json::from_str(text.as_str())
                    .map_err(|_| "the first frame is no OpenDataChannelInput")?;
                return input.problem().map_or(Ok(input), Err);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_) | Message::Close(_) | Message::Frame(_)) | Err(_)) | None => {
                return Err("the first frame is no text");
            }
        }
    }
}

fn open(
    ssm: &Ssm,
    id: &str,
    input: &OpenDataChannelInput,
) -> Result<tokio::sync::mpsc::Sender<Command>, &'static str> {
    let record = ssm.book.redeem(id, &input.token_value, Instant::now()).map_err(|error| match error {
        TokenError::NoSession => "no such session",
        TokenError::Ended => "the session is over",
        TokenError::Refused => "the token is not valid",
    })?;
    if ssm.is_cut(&record.target) { Err("the data channel is cut") } else { Ok(record.commands) }
}
