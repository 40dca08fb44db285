//! The front door: size, key, rate, then what is asked for, with whatever goes wrong on purpose.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::problem::Problem;
use super::rates::Quota;
use super::routes::{self, Reply, Request};
use super::scenario::{Lost, Point, Scenario};
use super::settings::millis;
use super::{RunPod, graphql, stream as logs};
use crate::app::DropConnection;
use crate::clock;
use crate::faults::Call;

/// Of any request but one with a secret: RunPod refuses it before it looks at the key.
const LARGEST: usize = 102_400;

/// Of a request with a secret, whose value ends below 16 MiB; each byte may be written as six.
const LARGEST_SECRET: usize = 6 * (16 << 20);

/// How long an answer that hangs keeps its connection.
const HANG: Duration = Duration::from_secs(600);

/// Answers any request to RunPod.
pub async fn answer(State(runpod): State<Arc<RunPod>>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let call = format!("{} {path}", parts.method);
    let most = if path.starts_with("/v2/account/secrets") { LARGEST_SECRET } else { LARGEST };
    let (response, outcome) = match Limited::new(body, most).collect().await {
        Err(_) => {
            let problem = Problem::new(413, format!("request body exceeds {most} bytes"));
            (problem.into_response(), "413".to_owned())
        }
        Ok(body) => {
            let body = body.to_bytes();
            if path == "/graphql" {
                money(&runpod, &parts, &body)
            } else {
                rest(&runpod, &parts, &body, &call).await
            }
        }
    };
    let action = format!("{} {}", parts.method, routes::shape(path));
    runpod.calls.add(Call { at: clock::now(), service: "runpod".to_owned(), action, outcome });
    response
}

/// GraphQL has errors in answers of 200, but for a key that it does not know.
fn money(runpod: &RunPod, parts: &Parts, body: &Bytes) -> (Response, String) {
    let (status, answer) = runpod.view(|account, _| match account.keys.find(&parts.headers) {
        Err(_) => (401, graphql::errors("Unauthorized")),
        Ok(_) if parts.method != Method::POST => {
            (405, graphql::errors("GraphQL only supports POST requests."))
        }
        Ok(_) => (200, graphql::answer(account, body)),
    });
    (json_response(status, "application/json", &answer), status.to_string())
}

/// A call of REST v2.
async fn rest(runpod: &Arc<RunPod>, parts: &Parts, body: &Bytes, call: &str) -> (Response, String) {
    let (key, scope) = match runpod.view(|account, _| account.keys.find(&parts.headers)) {
        Ok(found) => found,
        Err(problem) => return (problem.into_response(), "401".to_owned()),
    };
    let fault = runpod.view(|account, _| {
        let pod = routes::named_pod(parts.uri.path());
        let name = pod.and_then(|id| account.pods.get(&id)).map(|pod| pod.order.name.clone());
        account.scenarios.draw(Point::Call, name.as_deref(), call)
    });
    let early = match fault {
        Some(Scenario::Drop {}) => return (dropped(), "dropped".to_owned()),
        Some(Scenario::Throttle { retry_after_s }) => {
            let problem = Problem::new(429, "rate limit exceeded for the minute window");
            Err(Problem { retry_after: Some(retry_after_s), ..problem })
        }
        Some(Scenario::ServerError { status }) => Err(Problem::new(status, "upstream request failed")),
        _ => runpod.view(|account, now| account.limits.take(&key, now)).map_err(|full| Problem {
            retry_after: Some(full.retry_after),
            ..Problem::new(429, format!("rate limit exceeded for the {} window", full.window))
        }),
    };
    let done = match early.and_then(|()| parsed(parts, body)) {
        Ok(body) => runpod.change(|account, now| {
            let request = Request {
                method: &parts.method,
                path: parts.uri.path(),
                query: parts.uri.query().unwrap_or(""),
                headers: &parts.headers,
                scope: &scope,
                body,
                call,
                now,
            };
            routes::answer(account, request)
        }),
        Err(problem) => Err(problem),
    };
    let quota = runpod.view(|account, now| account.limits.quota(&key, now));
    let reply = match done {
        Ok((reply, volume)) => {
            if let Some(volume) = volume
                && let Err(error) = runpod.containers.volume(&volume.id, volume.state).await
            {
                tracing::error!(volume = volume.id, "a network volume on the host: {error:#}");
            }
            Ok(reply)
        }
        Err(problem) => Err(problem),
    };
    if let Some(Scenario::Slow { delay_ms }) = fault {
        sleep(millis(delay_ms)).await;
    }
    let is_cut = fault == Some(Scenario::Truncate {});
    let (mut response, outcome) = match reply {
        Ok(Reply::Lost(how)) => return lost(how).await,
        Ok(Reply::Json(status, value)) if is_cut => (truncated(status, &value), "truncated".to_owned()),
        Ok(Reply::Json(status, value)) => {
            (json_response(status, "application/json", &value), status.to_string())
        }
        Ok(Reply::Empty) => (StatusCode::NO_CONTENT.into_response(), "204".to_owned()),
        Ok(Reply::Logs(stream)) => (logs::response(stream), "200".to_owned()),
        Err(problem) => {
            let status = problem.status.to_string();
            (problem.into_response(), status)
        }
    };
    if let Some(Quota { limit, policy }) = quota {
        for (name, value) in [("ratelimit", limit), ("ratelimit-policy", policy)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    (response, outcome)
}

/// The body of a request that has one.
fn parsed(parts: &Parts, body: &Bytes) -> Result<Value, Problem> {
    if ![Method::POST, Method::PATCH, Method::PUT].contains(&parts.method) {
        return Ok(Value::Null);
    }
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Problem::new(415, "content type must be application/json"));
    }
    serde_json::from_slice(body).map_err(|error| Problem::rule(format!("malformed JSON: {error}")))
}

fn json_response(status: u16, kind: &'static str, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer of which the second half never comes.
fn truncated(status: u16, value: &Value) -> Response {
    let text = value.to_string();
    let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
    let cut = async {
        // What is there goes out first.
        tokio::task::yield_now().await;
        Err(io::Error::other("asked to cut the answer"))
    };
    let body = stream::iter([Ok(half)]).chain(stream::once(cut));
    let mut response = json_response(status, "application/json", &json!(null));
    *response.body_mut() = Body::from_stream(body);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    response
}

/// What a client has instead of the answer to a create that was done.
async fn lost(how: Lost) -> (Response, String) {
    let response = match how {
        Lost::Drop => dropped(),
        Lost::BadGateway => Problem::new(502, "upstream request failed").into_response(),
        Lost::Hang => {
            sleep(HANG).await;
            dropped()
        }
    };
    (response, "lost".to_owned())
}

fn dropped() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(DropConnection);
    response
}

#[cfg(test)]
mod tests;
