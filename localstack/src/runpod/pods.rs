//! `/v2/pods`: what is asked of pods.

use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::account::Account;
use super::body::Body;
use super::container::{Disk, Remap};
use super::log::{Cursor, Log, Source, Start};
use super::page;
use super::pod::Container;
use super::problem::Problem;
use super::query::{Query, invalid};
use super::render;
use super::scenario::{Lost, Point, Scenario};
use super::settings::millis;
use super::status::Status;
use super::volumes::read;
use crate::clock;

/// Lines that a stream begins with where nothing else is asked for, and the most of them.
const TAIL: usize = 100;
const LONGEST_TAIL: usize = 5000;

/// A pod that was made, and what becomes of the answer.
#[derive(Debug)]
pub struct Created {
    pub pod: Value,
    pub lost: Option<Lost>,
}

/// `POST /v2/pods`.
pub fn create(account: &mut Account, body: Value, call: &str, now: Timestamp) -> Result<Created, Problem> {
    let order = Body::read("CreatePodRequest", body, account.settings.api)?.order()?;
    let name = order.name.clone();
    let id = account.create(order, call, now)?;
    let mut lost = None;
    if let Some(Scenario::LoseAnswer { how, listed_after_ms }) =
        account.scenarios.draw(Point::Answer, Some(&name), call)
    {
        account.pod(&id)?.listed_from = clock::after(now, millis(listed_after_ms));
        lost = Some(how);
    }
    Ok(Created { pod: show(account, &id, now)?, lost })
}

fn show(account: &mut Account, id: &str, now: Timestamp) -> Result<Value, Problem> {
    let settings = account.settings.clone();
    Ok(render::pod(account.pod(id)?, &settings, now))
}

/// `GET /v2/pods`.
pub fn list(account: &mut Account, text: &str, now: Timestamp) -> Result<Value, Problem> {
    let parameters = [&["includeClusterPods"], page::parameters(&account.settings)].concat();
    let query = Query::parse(text, &parameters)?;
    let clusters = query.one("includeClusterPods", "true or false")?.unwrap_or(false);
    let shown = account
        .pods
        .values()
        .filter(|pod| pod.is_visible() && pod.listed_from <= now && (clusters || pod.cluster.is_none()))
        .map(|pod| (pod.sequence, render::pod(pod, &account.settings, now)))
        .collect();
    let answer = page::page("pods", shown, &query, &account.settings)?;
    let ids: Vec<String> = account.pods.keys().cloned().collect();
    ids.iter().for_each(|id| account.seen(id));
    Ok(answer)
}

/// `GET /v2/pods/{id}`.
pub fn get(account: &mut Account, id: &str, now: Timestamp) -> Result<Value, Problem> {
    let shown = show(account, id, now)?;
    account.seen(id);
    Ok(shown)
}

/// `PATCH /v2/pods/{id}`. What its container is made of restarts it.
pub fn update(account: &mut Account, id: &str, body: Value, now: Timestamp) -> Result<Value, Problem> {
    let body = Body::read("UpdatePodRequest", body, account.settings.api)?;
    body.check()?;
    let (command, ports) = (body.command()?, body.ports()?);
    if let Some(registry) = body.registry.as_ref().and_then(Option::as_ref)
        && !account.registries.contains_key(registry)
    {
        return Err(Problem::not_found("registry"));
    }
    let pod = account.pod(id)?;
    if pod.cluster.is_some() {
        return Err(Problem::conflict("pod belongs to a cluster"));
    }
    let mut order = pod.order.clone();
    if let Some(mounts) = body.mounts {
        let is_same_kind = (mounts.persistent.is_none() || order.mounts.persistent.is_some())
            && (mounts.network.is_none() || order.mounts.network.is_some());
        let other = mounts
            .volume()
            .zip(order.mounts.volume())
            .is_some_and(|(new, old)| new.volume_id != old.volume_id);
        if !is_same_kind || other {
            return Err(Problem::rule("the kind and the volume of a mount cannot be changed"));
        }
        if mounts.persistent.is_some() || mounts.network.is_some() {
            order.mounts = mounts;
        }
    }
    if let Some((args, command)) = command {
        (order.args, order.command) = (args, command);
    }
    order.ports = ports.unwrap_or(order.ports);
    order.image = body.image.unwrap_or(order.image);
    order.disk = body.disk.unwrap_or(order.disk);
    order.env = body.env.unwrap_or(order.env);
    order.registry = body.registry.unwrap_or(order.registry);
    order.global_networking = body.global_networking.unwrap_or(order.global_networking);
    let name = body.name.unwrap_or_else(|| order.name.clone());
    let is_other = order != pod.order;
    pod.order = order;
    pod.order.name = name;
    pod.locked = body.locked.unwrap_or(pod.locked);
    if is_other {
        // The image may be another one.
        pod.has_image &= pod.status != Status::Starting;
        pod.disk = Disk::Fresh;
        pod.bill(now);
        if pod.status == Status::Running {
            pod.start(now);
        }
    }
    show(account, id, now)
}

/// `DELETE /v2/pods/{id}`, and the action of the same effect.
pub fn delete(account: &mut Account, id: &str, call: &str, now: Timestamp) -> Result<(), Problem> {
    let pod = account.pod(id)?;
    if pod.cluster.is_some() {
        return Err(Problem::conflict("pod belongs to a cluster; delete the cluster"));
    }
    let name = pod.order.name.clone();
    let mut lingers = 0;
    match account.scenarios.draw(Point::Delete, Some(&name), call) {
        Some(Scenario::RefuseDelete { status: 409 }) => {
            return Err(Problem::conflict("pod cannot be terminated in its current state"));
        }
        Some(Scenario::RefuseDelete { status }) => {
            return Err(Problem::new(status, "could not terminate pod"));
        }
        Some(Scenario::Linger { polls }) => lingers = polls,
        Some(_) | None => {}
    }
    let pod = account.pod(id)?;
    // Deleted once more, it lingers as before.
    if pod.ended.is_none() {
        pod.say("remove container", now);
        pod.reason = None;
        pod.end("deleted", lingers, now);
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Start,
    Stop,
    Restart,
    Terminate,
}

#[derive(Deserialize)]
struct ActionBody {
    action: Action,
}

/// `POST /v2/pods/{id}/action`. `None` where nothing is left to show.
pub fn act(
    account: &mut Account,
    id: &str,
    body: Value,
    call: &str,
    now: Timestamp,
) -> Result<Option<Value>, Problem> {
    let ActionBody { action } = read("PodActionRequest", body)?;
    let pod = account.pod(id)?;
    let name = match action {
        Action::Start => "start",
        Action::Stop => "stop",
        Action::Restart => "restart",
        Action::Terminate => "terminate",
    };
    if pod.ended.is_some() || !pod.status.actions().contains(&name) {
        let status = pod.status.name();
        return Err(Problem::conflict(format!("action {name} is not valid for a pod that is {status}")));
    }
    if pod.locked && matches!(action, Action::Stop | Action::Restart) {
        return Err(Problem::conflict("pod is locked"));
    }
    match action {
        Action::Start => account.start(id, now)?,
        Action::Stop => pod.exit("stopped", now),
        Action::Restart => {
            pod.restart = !matches!(pod.container, Container::Absent | Container::Halted);
            pod.remap = Remap::Keep;
            pod.say("restart container", now);
        }
        Action::Terminate => {
            delete(account, id, call, now)?;
            return Ok(None);
        }
    }
    show(account, id, now).map(Some)
}

/// A stream of a pod's log that begins.
#[derive(Debug)]
pub struct Stream {
    pub log: Arc<Log>,
    pub begin: Cursor,
    pub source: Option<Source>,
    /// It is cut in the middle of an event after so many.
    pub cut: Option<usize>,
}

/// `GET /v2/pods/{id}/logs`.
pub fn logs(
    account: &mut Account,
    id: &str,
    text: &str,
    headers: &HeaderMap,
    call: &str,
) -> Result<Stream, Problem> {
    let query = Query::parse(text, &["source", "tail", "since"])?;
    let source = query.one("source", "container or system")?;
    let tail = query.one("tail", "an integer")?.unwrap_or(TAIL);
    if tail > LONGEST_TAIL {
        return Err(invalid("tail", &tail.to_string(), "0 to 5000"));
    }
    let since = query.one::<Timestamp>("since", "an RFC 3339 time")?;
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("").parse::<Cursor>());
    let last = last.transpose().map_err(|error| Problem::invalid(vec![format!("Last-Event-ID: {error}")]))?;
    let pod = account.pod(id)?;
    let (log, name) = (pod.log.clone(), pod.order.name.clone());
    let mut cut = None;
    let mut repeats = false;
    match account.scenarios.draw(Point::Logs, Some(&name), call) {
        Some(Scenario::CutLogs { after_events }) => cut = Some(after_events),
        Some(Scenario::RepeatBoundary {}) => repeats = true,
        Some(_) | None => {}
    }
    let start = match (last, since) {
        (Some(cursor), _) if repeats => Start::With(cursor),
        (Some(cursor), _) => Start::After(cursor),
        (None, Some(at)) => Start::After(Cursor { at, sequence: 0 }),
        (None, None) => Start::Tail(tail),
    };
    Ok(Stream { begin: log.begin(start, source), log, source, cut })
}
