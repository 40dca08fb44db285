//! The control endpoint for tests, beside the API on its port: unsigned JSON under `/_local`.
//! `docs/local-cloud.md` has an example of each request.
//!
//! | request | |
//! |---|---|
//! | `GET health`, `GET pods`, `GET history`, `GET ledger` | what there is, what there was, what it cost |
//! | `GET`, `DELETE calls` | counts by method and path, and the last calls |
//! | `GET`, `PATCH settings` | [`Settings`] |
//! | `GET`, `PUT limits` | [`Window`]s of the rate limit |
//! | `GET keys`, `PUT`, `DELETE keys/{key}` | [`Key`] |
//! | `GET`, `PATCH account`, `POST tick` | [`Funds`]; a bill now |
//! | `GET`, `POST`, `DELETE scenarios`, `DELETE scenarios/{number}` | [`Rule`] |
//! | `GET`, `PUT`, `DELETE storm` | [`Storm`] |
//! | `GET`, `PUT stock`, `PUT denied` | a place and its supply; types of pools without access |
//! | `POST pods/{id}/line`, `exit` | plays a container, where pods are states only |
//! | `POST pods/{id}/{act}` | `maintenance`, `error`, `vanish`, `join-cluster` |

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::RunPod;
use super::account::Account;
use super::bank::Funds;
use super::container::{ContainerEvent, Exit};
use super::history::Past;
use super::keys::Key;
use super::log::Source;
use super::pod::{Container, Pod};
use super::rates::{Limits, Window};
use super::render;
use super::scenario::{Rule, Storm};
use super::settings::Settings;
use super::status::Status;
use super::stock::{Place, Supply};
use crate::patch::patched;

type Shared = State<Arc<RunPod>>;

/// Why a control request is refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Malformed(String),
    #[error("no {0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
        };
        (status, axum::Json(json!({ "error": self.to_string() }))).into_response()
    }
}

type Answer = Result<axum::Json<Value>, Refused>;

/// Everything under `/_local`.
pub fn router(runpod: Arc<RunPod>) -> Router {
    Router::new()
        .route("/health", get(async || axum::Json(json!({ "status": "ok" }))))
        .route("/pods", get(pods))
        .route("/pods/{id}/line", post(line))
        .route("/pods/{id}/exit", post(exit))
        .route("/pods/{id}/{act}", post(act))
        .route("/history", get(history))
        .route("/ledger", get(ledger))
        .route("/calls", get(calls).delete(reset_calls))
        .route("/settings", get(settings).patch(change_settings))
        .route("/limits", get(limits).put(set_limits))
        .route("/keys", get(keys))
        .route("/keys/{key}", put(put_key).delete(delete_key))
        .route("/account", get(account).patch(change_account))
        .route("/tick", post(tick))
        .route("/scenarios", get(scenarios).post(add_scenario).delete(clear_scenarios))
        .route("/scenarios/{number}", delete(remove_scenario))
        .route("/storm", get(storm).put(set_storm).delete(end_storm))
        .route("/stock", get(stock).put(set_stock))
        .route("/denied", get(denied).put(set_denied))
        .with_state(runpod)
}

/// A body, or what is wrong with it.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(bytes).map_err(|error| Refused::Malformed(error.to_string()))
}

fn done() -> Answer {
    Ok(axum::Json(json!({})))
}

/// These settings with the members of a body in place of theirs.
fn changed<T: serde::Serialize + DeserializeOwned>(current: &T, bytes: &Bytes) -> Result<T, Refused> {
    patched(current, &body(bytes)?).map_err(|error| Refused::Malformed(error.to_string()))
}

/// All pods as the API would show them, also those that it does not list, with what it never tells.
async fn pods(State(runpod): Shared) -> axum::Json<Value> {
    axum::Json(runpod.view(|account, now| {
        let shown = account.pods.values().map(|pod| {
            let mut shown = render::pod(pod, &account.settings, now);
            shown["container"] = json!(format!("{:?}", pod.container));
            shown["fate"] = json!(pod.fate);
            shown["reason"] = json!(pod.reason);
            shown["endedAt"] = json!(pod.ended);
            shown["starts"] = json!(pod.run);
            shown["listed"] = json!(pod.is_visible() && pod.listed_from <= now);
            shown
        });
        shown.collect()
    }))
}

/// The life of every pod that there ever was, those that nobody sees any more first.
async fn history(State(runpod): Shared) -> axum::Json<Value> {
    axum::Json(runpod.view(|account, _| json!(lives(account))))
}

fn lives(account: &Account) -> Vec<Past> {
    account.past.iter().cloned().chain(account.pods.values().map(Past::of)).collect()
}

/// What every pod was billed, which the API tells late or never.
async fn ledger(State(runpod): Shared) -> axum::Json<Value> {
    axum::Json(runpod.view(|account, now| {
        let lives = lives(account);
        let entries: Vec<_> = lives.iter().map(|past| past.entry(now)).collect();
        let live = entries.iter().filter(|entry| entry.live).count();
        json!({ "pods": entries, "live": live, "amount": account.spent(now).total() / 1e6 })
    }))
}

async fn calls(State(runpod): Shared) -> axum::Json<crate::faults::CallLog> {
    axum::Json(runpod.calls.snapshot())
}

async fn reset_calls(State(runpod): Shared) -> Answer {
    runpod.calls.reset();
    done()
}

async fn settings(State(runpod): Shared) -> axum::Json<Value> {
    axum::Json(json!(runpod.view(|account, _| account.settings.clone())))
}

async fn change_settings(State(runpod): Shared, bytes: Bytes) -> Answer {
    let settings: Settings = changed(&runpod.view(|account, _| account.settings.clone()), &bytes)?;
    if !settings.time_scale.is_finite() || settings.time_scale < 0.0 {
        let scale = settings.time_scale;
        return Err(Refused::Malformed(format!("timeScale is `{scale}`, expected 0 or more")));
    }
    runpod.change(|account, now| account.set(settings.clone(), now));
    Ok(axum::Json(json!(settings)))
}

async fn limits(State(runpod): Shared) -> axum::Json<Value> {
    axum::Json(json!(runpod.view(|account, _| account.limits.windows().to_vec())))
}

/// Other windows, all of them empty; none for no limit.
async fn set_limits(State(runpod): Shared, bytes: Bytes) -> Answer {
    let windows: Vec<Window> = body(&bytes)?;
    if let Some(wrong) = windows.iter().find(|window| window.seconds == 0 || window.name.contains('"')) {
        let problem =
            format!("window `{}`: expected a name without quotes and at least a second", wrong.name);
        return Err(Refused::Malformed(problem));
    }
    runpod.change(|account, _| account.limits = Limits::new(windows));
    done()
}

async fn keys(State(runpod): Shared) -> axum::Json<Value> {
    axum::Json(json!(runpod.view(|account, _| account.keys.all().clone())))
}

async fn put_key(State(runpod): Shared, Path(key): Path<String>, bytes: Bytes) -> Answer {
    let value: Key = body(&bytes)?;
    runpod.change(|account, _| account.keys.put(&key, value));
    done()
}

async fn delete_key(State(runpod): Shared, Path(key): Path<String>) -> Answer {
    runpod.change(|account, _| account.keys.remove(&key));
    done()
}

async fn account(State(runpod): Shared) -> axum::Json<Value> {
    axum::Json(json!(runpod.view(|account, _| account.bank.funds)))
}

async fn change_account(State(runpod): Shared, bytes: Bytes) -> Answer {
    let funds: Funds = changed(&runpod.view(|account, _| account.bank.funds), &bytes)?;
    runpod.change(|account, _| account.bank.funds = funds);
    Ok(axum::Json(json!(funds)))
}

/// The bill that would be due next, now.
async fn tick(State(runpod): Shared) -> Answer {
    runpod.change(Account::tick);
    done()
}

async fn scenarios(State(runpod): Shared) -> axum::Json<Value> {
    let shown = |(number, rule): &(u64, Rule)| json!({ "number": number, "rule": rule });
    axum::Json(runpod.view(|account, _| account.scenarios.rules().iter().map(shown).collect()))
}

async fn add_scenario(State(runpod): Shared, bytes: Bytes) -> Answer {
    let rule: Rule = body(&bytes)?;
    let number = runpod.change(|account, _| account.scenarios.add(rule)).map_err(Refused::Malformed)?;
    Ok(axum::Json(json!({ "number": number })))
}

async fn remove_scenario(State(runpod): Shared, Path(number): Path<u64>) -> Answer {
    if runpod.change(|account, _| account.scenarios.remove(number)) {
        return done();
    }
    Err(Refused::NotFound(format!("scenario `{number}`")))
}

async fn clear_scenarios(State(runpod): Shared) -> Answer {
    runpod.change(|account, _| account.scenarios.clear());
    done()
}

async fn storm(State(runpod): Shared) -> axum::Json<Value> {
    axum::Json(json!(runpod.view(|account, _| account.scenarios.storm().cloned())))
}

async fn set_storm(State(runpod): Shared, bytes: Bytes) -> Answer {
    let storm: Storm = body(&bytes)?;
    runpod.change(|account, _| account.scenarios.set_storm(Some(storm))).map_err(Refused::Malformed)?;
    done()
}

async fn end_storm(State(runpod): Shared) -> Answer {
    runpod.change(|account, _| account.scenarios.set_storm(None)).map_err(Refused::Malformed)?;
    done()
}

async fn stock(State(runpod): Shared) -> axum::Json<Value> {
    let shown = |(place, supply): (&Place, &Supply)| json!({ "place": place, "supply": supply });
    axum::Json(runpod.view(|account, _| account.stock.places().iter().map(shown).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StockChange {
    place: Place,
    supply: Supply,
}

async fn set_stock(State(runpod): Shared, bytes: Bytes) -> Answer {
    let StockChange { place, supply } = body(&bytes)?;
    let known = super::catalog::Gpu::find(&place.id).map(|gpu| gpu.data_centers);
    let known = known.or_else(|| super::catalog::Cpu::find(&place.id).map(|cpu| cpu.data_centers));
    if !known.is_some_and(|centers| centers.contains(&place.data_center.as_str())) {
        return Err(Refused::NotFound(format!("`{}` in `{}`", place.id, place.data_center)));
    }
    runpod.change(|account, _| account.stock.put(place, supply));
    done()
}

async fn denied(State(runpod): Shared) -> axum::Json<Value> {
    axum::Json(json!(runpod.view(|account, _| account.stock.denied().clone())))
}

async fn set_denied(State(runpod): Shared, bytes: Bytes) -> Answer {
    let ids: BTreeSet<String> = body(&bytes)?;
    runpod.change(|account, _| account.stock.deny(ids));
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlayedLine {
    #[serde(default = "container")]
    source: Source,
    line: String,
}

fn container() -> Source {
    Source::Container
}

/// A line that its container would write, or its host.
async fn line(State(runpod): Shared, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let PlayedLine { source, line } = body(&bytes)?;
    find(&runpod, &id, |_| ())?;
    runpod.view(|account, now| {
        account.happened(ContainerEvent::Line { id: id.clone(), source, text: line }, now);
    });
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
enum PlayedExit {
    Code(i32),
    Signal(i32),
}

/// The end of its container's main process.
async fn exit(State(runpod): Shared, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let exit = match body(&bytes)? {
        PlayedExit::Code(code) => Exit::Code(code),
        PlayedExit::Signal(signal) => Exit::Signal(signal),
    };
    let (run, is_up) = find(&runpod, &id, |pod| (pod.run, matches!(pod.container, Container::Up { .. })))?;
    if !is_up {
        return Err(Refused::Conflict(format!("the container of `{id}` is not up")));
    }
    if !runpod.containers.play(ContainerEvent::Exited { id, run, exit }) {
        return Err(Refused::Conflict("its container is real: end its process".to_owned()));
    }
    done()
}

/// What happens to one pod without being asked for.
async fn act(State(runpod): Shared, Path((id, act)): Path<(String, String)>) -> Answer {
    let acted = runpod.change(|account, now| {
        let pod = account.pods.get_mut(&id).filter(|pod| pod.ended.is_none());
        let pod = pod.ok_or_else(|| Refused::NotFound(format!("pod `{id}`")))?;
        match act.as_str() {
            "maintenance" if pod.status == Status::Running => {
                pod.say("host is under maintenance", now);
                pod.exit("host maintenance", now);
            }
            "error" => pod.set(Status::Error, now),
            "vanish" => pod.end("vanished", 0, now),
            "join-cluster" => pod.cluster = Some("cluster_local".to_owned()),
            "maintenance" => return Err(Refused::Conflict(format!("pod `{id}` is {}", pod.status.name()))),
            other => return Err(Refused::NotFound(format!("act `{other}`"))),
        }
        Ok(())
    });
    acted.and_then(|()| done())
}

fn find<T>(runpod: &RunPod, id: &str, look: impl FnOnce(&Pod) -> T) -> Result<T, Refused> {
    runpod
        .view(|account, _| account.pods.get(id).map(look))
        .ok_or_else(|| Refused::NotFound(format!("pod `{id}`")))
}
