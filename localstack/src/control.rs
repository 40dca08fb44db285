//! The control endpoint for tests: unsigned JSON under `/_local`. Durations are milliseconds.
//! `docs/local-cloud.md` has an example of each request.
//!
//! | request | |
//! |---|---|
//! | `GET health`, `GET world` | whether it runs; the ids of everything |
//! | `GET instances`, `POST instances/{id}/{act}` | `kill`, `interrupt`, `rebalance`, `leave`, `power-cycle`, `freeze`, `thaw` |
//! | `POST instances/{id}/events`, `PUT`, `DELETE instances/{id}/events/{event}` | scheduled events: see `events` |
//! | `GET history` | the life of every instance that there ever was |
//! | `GET left` | the ids of the volumes and network interfaces that no instance has |
//! | `GET`, `POST`, `DELETE faults` | [`crate::faults::Fault`] |
//! | `GET`, `DELETE calls` | counts by action, and the last calls |
//! | `GET`, `PATCH settings` | [`Settings`] |
//! | `PUT subnets/{id}` | `{"free_addresses": 1}` |
//! | `GET pools`, `PUT pools/{zone}/{type}` | `{"capacity": 0, "market": "spot"}`: see `market::PoolBody` |
//! | `GET quotas`, `PUT quotas/{family}` | `{"vcpus": 8, "market": "spot"}` |
//! | `GET`, `PUT throttle` | `{"mode": "aws"}`, `{"mode": "off"}` |
//! | `PUT prices/{type}`, `PUT spot-prices/{zone}/{type}` | `{"price": "1.006"}`, or `null` for none |
//! | `GET reservations`, `PUT`, `DELETE reservations/{id}` | `{"instanceType": "..", "zone": "..", "total": 1}` |
//! | `POST cuts` | [`crate::ssm::Cut`] |
//! | `GET`, `PATCH ssm` | [`crate::ssm::Settings`] |
//! | `GET`, `PATCH logs` | [`crate::logs::Settings`] |
//! | `PUT parameters` | `{"name": "..", "value": ".."}` |

mod acts;
mod events;
mod market;
mod reservations;
mod throttle;
mod views;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock;
use crate::faults::Fault;
use crate::patch;
use crate::ssm::{Cut, Ssm};
use crate::world::World;
use crate::world::instance::Timing;

type Shared = State<Arc<World>>;

/// What can be changed while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long instances are invisible after their launch.
    pub describe_lag_ms: u64,
    /// Shortest time of a state transition.
    pub state_delay_ms: u64,
    /// How long terminated instances stay visible.
    pub terminated_for_ms: u64,
    /// How long a machine may take to shut down before its power is cut.
    pub shutdown_grace_ms: u64,
    /// How long before an interruption an instance is told.
    pub spot_notice_ms: u64,
}

impl From<Timing> for Settings {
    fn from(timing: Timing) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            describe_lag_ms: ms(timing.describe_lag),
            state_delay_ms: ms(timing.transition),
            terminated_for_ms: ms(timing.terminated),
            shutdown_grace_ms: ms(timing.shutdown_grace),
            spot_notice_ms: ms(timing.spot_notice),
        }
    }
}

impl From<Settings> for Timing {
    fn from(settings: Settings) -> Self {
        Self {
            describe_lag: Duration::from_millis(settings.describe_lag_ms),
            transition: Duration::from_millis(settings.state_delay_ms),
            terminated: Duration::from_millis(settings.terminated_for_ms),
            shutdown_grace: Duration::from_millis(settings.shutdown_grace_ms),
            spot_notice: Duration::from_millis(settings.spot_notice_ms),
        }
    }
}

/// Why a control request is refused.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, axum::Json(json!({ "error": self.to_string() }))).into_response()
    }
}

type Answer = Result<axum::Json<Value>, ControlError>;

/// Everything under `/_local`.
pub fn router(world: Arc<World>, ssm: Arc<Ssm>) -> Router {
    let sessions = Router::new().route("/ssm", get(ssm_settings).patch(change_ssm_settings)).with_state(ssm);
    Router::new()
        .route("/health", get(async || axum::Json(json!({ "status": "ok" }))))
        .route("/world", get(async |State(world): Shared| axum::Json(views::world(&world))))
        .route("/instances", get(async |State(world): Shared| axum::Json(views::instances(&world))))
        .route("/left", get(async |State(world): Shared| axum::Json(views::left(&world))))
        .route("/history", get(async |State(world): Shared| axum::Json(views::history(&world))))
        .route("/instances/{id}/{act}", post(acts::act))
        .route("/instances/{id}/events", post(events::schedule))
        .route("/instances/{id}/events/{event}", put(events::change).delete(events::cancel))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/calls", get(calls).delete(reset_calls))
        .route("/settings", get(settings).patch(change_settings))
        .route("/subnets/{id}", put(subnet))
        .route("/reservations", get(reservations::list))
        .route("/reservations/{id}", put(reservations::put).delete(reservations::delete))
        .route("/pools", get(market::pools))
        .route("/throttle", get(throttle::show).put(throttle::set))
        .route("/quotas", get(market::quotas))
        .route("/quotas/{family}", put(market::quota))
        .route("/spot-prices/{zone}/{kind}", put(market::spot_price))
        .route("/prices/{kind}", put(market::price))
        .route("/pools/{zone}/{kind}", put(market::pool))
        .route("/cuts", post(cut))
        .route("/logs", get(logs_settings).patch(change_logs_settings))
        .route("/parameters", put(parameter))
        .with_state(world)
        .merge(sessions)
}

/// A body, or what is wrong with it.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ControlError> {
    serde_json::from_slice(bytes).map_err(|error| ControlError::Malformed(error.to_string()))
}

fn done() -> Answer {
    Ok(axum::Json(json!({})))
}

async fn faults(State(world): Shared) -> axum::Json<Vec<Fault>> {
    axum::Json(world.faults.list())
}

async fn add_fault(State(world): Shared, bytes: Bytes) -> Answer {
    let fault: Fault = body(&bytes)?;
    if let Some(status) = fault.status.filter(|status| !(400..=599).contains(status)) {
        return Err(ControlError::Malformed(format!("status is `{status}`, expected 400 to 599")));
    }
    world.faults.add(fault);
    done()
}

async fn clear_faults(State(world): Shared) -> Answer {
    world.faults.clear();
    done()
}

async fn calls(State(world): Shared) -> axum::Json<crate::faults::CallLog> {
    axum::Json(world.calls.snapshot())
}

async fn reset_calls(State(world): Shared) -> Answer {
    world.calls.reset();
    done()
}

async fn settings(State(world): Shared) -> axum::Json<Settings> {
    axum::Json(world.view(|cloud, _| cloud.timing).into())
}

/// Changes the members that are given.
async fn change_settings(State(world): Shared, bytes: Bytes) -> Answer {
    let current = Settings::from(world.view(|cloud, _| cloud.timing));
    let changed = patch::patched(&current, &body(&bytes)?)
        .map_err(|error| ControlError::Malformed(error.to_string()))?;
    world.change(|cloud, _| cloud.timing = changed.clone().into());
    Ok(axum::Json(json!(changed)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubnetChange {
    free_addresses: u32,
}

async fn subnet(State(world): Shared, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let change: SubnetChange = body(&bytes)?;
    if world.estate.subnet(&id).is_none() {
        return Err(ControlError::NotFound(format!("no subnet `{id}`")));
    }
    world.change(|cloud, _| cloud.subnet_mut(&id).leave(change.free_addresses));
    done()
}

/// Tells whoever serves data channels; how many heard it.
async fn cut(State(world): Shared, bytes: Bytes) -> Answer {
    let cut: Cut = body(&bytes)?;
    if let Some(id) = cut.instance_id.as_ref().filter(|id| world.instance(id).is_none()) {
        return Err(ControlError::NotFound(format!("no instance `{id}`")));
    }
    Ok(axum::Json(json!({ "heard_by": world.cuts.send(cut).unwrap_or(0) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterChange {
    name: String,
    value: String,
}

async fn parameter(State(world): Shared, bytes: Bytes) -> Answer {
    let change: ParameterChange = body(&bytes)?;
    world.parameters.put(&change.name, &change.value, clock::now());
    done()
}

async fn ssm_settings(State(ssm): State<Arc<Ssm>>) -> axum::Json<Value> {
    axum::Json(json!(ssm.settings()))
}

async fn change_ssm_settings(State(ssm): State<Arc<Ssm>>, bytes: Bytes) -> Answer {
    let patch: Value = body(&bytes)?;
    let settings = ssm.configure(&patch).map_err(|error| ControlError::Malformed(error.to_string()))?;
    Ok(axum::Json(json!(settings)))
}

async fn logs_settings(State(world): Shared) -> axum::Json<Value> {
    axum::Json(json!(world.logs.settings()))
}

async fn change_logs_settings(State(world): Shared, bytes: Bytes) -> Answer {
    let patch: Value = body(&bytes)?;
    let changed = world.logs.configure(&patch).map_err(|error| ControlError::Malformed(error.to_string()))?;
    Ok(axum::Json(json!(changed)))
}
