//! `/v2`: which path is what, and who may ask for it.

use http::{HeaderMap, Method};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::account::Account;
use super::catalog;
use super::container::VolumeState;
use super::keys::{Access, Scope};
use super::page;
use super::pods::{self, Created, Stream};
use super::problem::Problem;
use super::query::Query;
use super::registries;
use super::scenario::Lost;
use super::secrets;
use super::settings::Api;
use super::volumes::{self, read};
use super::{billing, query};

/// Real, and not played here.
const NOT_PLAYED: [&str; 4] = ["serverless", "clusters", "templates", "delegations"];

/// A request that was authenticated.
#[derive(Debug)]
pub struct Request<'a> {
    pub method: &'a Method,
    /// Such as `/v2/pods`.
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub scope: &'a Scope,
    /// Parsed, where the method has one.
    pub body: Value,
    /// Method and path, as scenarios name it.
    pub call: &'a str,
    pub now: Timestamp,
}

/// What is answered.
#[derive(Debug)]
pub enum Reply {
    Json(u16, Value),
    /// 204.
    Empty,
    Logs(Stream),
    /// It was done, and nobody hears of it.
    Lost(Lost),
}

/// What follows for the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Volume {
    pub id: String,
    pub state: VolumeState,
}

/// The pod that a path names.
#[must_use]
pub fn named_pod(path: &str) -> Option<String> {
    match query::segments(path)?.as_slice() {
        [version, pods, id, ..] if version == "v2" && pods == "pods" => Some(id.clone()),
        _ => None,
    }
}

/// A path without the ids in it, for counting.
#[must_use]
pub fn shape(path: &str) -> String {
    let Some(segments) = query::segments(path) else { return "malformed".to_owned() };
    let mut parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let id = match parts.as_slice() {
        ["v2", "catalog" | "account" | "billing", _, _, ..] => 3,
        ["v2", "pods" | "network-volumes" | "registries", _, ..] => 2,
        _ => return path.to_owned(),
    };
    parts[id] = "{id}";
    format!("/{}", parts.join("/"))
}

/// Methods of a path. `None` where there is no such path.
fn methods(path: &[&str]) -> Option<&'static str> {
    Some(match path {
        ["pods" | "network-volumes" | "registries"] | ["account", "secrets"] => "GET, POST",
        ["pods" | "network-volumes", _] | ["account", "secrets", _] => "GET, PATCH, DELETE",
        ["registries", _] => "GET, DELETE",
        ["pods", _, "logs"]
        | ["catalog", "gpus" | "cpus" | "datacenters"]
        | ["catalog", "gpus" | "cpus" | "datacenters", _]
        | ["billing", "pods"] => "GET",
        ["pods", _, "action"] => "POST",
        ["account", "ssh-keys"] => "GET, PUT",
        _ => return None,
    })
}

/// Does what is asked. The volume is for the host to make or remove.
pub fn answer(account: &mut Account, request: Request<'_>) -> Result<(Reply, Option<Volume>), Problem> {
    let segments = query::segments(request.path).ok_or_else(|| Problem::rule("malformed path"))?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["v2", path @ ..] = segments.as_slice() else { return Err(Problem::not_found("resource")) };
    let is_old = account.settings.api == Api::August;
    if is_old && path.starts_with(&["account", "secrets"]) {
        return Err(Problem::not_found("resource"));
    }
    if path.iter().take(2).any(|part| NOT_PLAYED.contains(part)) || *path == ["billing"] {
        return Err(Problem::new(501, "the local cloud does not play this"));
    }
    let Some(allow) = methods(path) else { return Err(Problem::not_found("resource")) };
    if !allow.split(", ").any(|method| method == request.method.as_str()) {
        let detail = "The requested method is not allowed for this path.";
        return Err(Problem { allow: Some(allow), ..Problem::new(405, detail) });
    }
    let access = if request.method == Method::GET { Access::Read } else { Access::Write };
    let pod = if let ["pods", id, ..] = path { Some(*id) } else { None };
    request.scope.allows(access, pod)?;
    match path {
        ["pods", ..] => on_pods(account, request, path),
        ["catalog", ..] => catalog_of(account, &request, path).map(|shown| (Reply::Json(200, shown), None)),
        ["billing", ..] => {
            let shown = billing::pods(account, request.query, request.now)?;
            Ok((Reply::Json(200, shown), None))
        }
        _ => stored(account, request, path),
    }
}

type Answered = Result<(Reply, Option<Volume>), Problem>;

fn on_pods(account: &mut Account, request: Request<'_>, path: &[&str]) -> Answered {
    let Request { method, query, headers, body, call, now, .. } = request;
    let none = |query: &str| Query::parse(query, &[]);
    let reply = match (method.as_str(), path) {
        ("GET", [_]) => Reply::Json(200, pods::list(account, query, now)?),
        ("GET", [_, id]) => {
            none(query)?;
            Reply::Json(200, pods::get(account, id, now)?)
        }
        ("GET", [_, id, _]) => Reply::Logs(pods::logs(account, id, query, headers, call)?),
        ("POST", [_]) => {
            none(query)?;
            let Created { pod, lost } = pods::create(account, body, call, now)?;
            lost.map_or(Reply::Json(201, pod), Reply::Lost)
        }
        ("PATCH", [_, id, ..]) => Reply::Json(200, pods::update(account, id, body, now)?),
        ("POST", [_, id, ..]) => {
            let shown = pods::act(account, id, body, call, now)?;
            shown.map_or(Reply::Empty, |shown| Reply::Json(200, shown))
        }
        (_, [_, id, ..]) => {
            pods::delete(account, id, call, now)?;
            Reply::Empty
        }
        _ => return Err(Problem::not_found("resource")),
    };
    Ok((reply, None))
}

fn catalog_of(account: &Account, request: &Request<'_>, path: &[&str]) -> Result<Value, Problem> {
    let (stock, query) = (&account.stock, request.query);
    match path {
        [_, "gpus"] => catalog::gpus(stock, query),
        [_, "gpus", id] => catalog::gpu(stock, id, query),
        [_, "cpus"] => catalog::cpus(stock, query),
        [_, "cpus", id] => catalog::cpu(stock, id, query),
        [_, _, id] => catalog::data_center(stock, id, query),
        _ => catalog::data_centers(stock, query),
    }
}

/// What is kept beside pods.
fn stored(account: &mut Account, request: Request<'_>, path: &[&str]) -> Answered {
    let Request { method, query, body, now, .. } = request;
    let mut volume = None;
    let reply = match (method.as_str(), path) {
        ("GET", ["account", "ssh-keys"]) => Reply::Json(200, json!({ "keys": account.ssh_keys })),
        ("PUT", ["account", "ssh-keys"]) => {
            #[derive(serde::Deserialize)]
            struct Keys {
                keys: Vec<String>,
            }
            account.ssh_keys = read::<Keys>("SshKeys", body)?.keys;
            Reply::Json(200, json!({ "keys": account.ssh_keys }))
        }
        ("GET", ["network-volumes" | "registries"] | ["account", "secrets"]) => {
            Reply::Json(200, list(account, query, path)?)
        }
        ("GET", [.., id]) => Reply::Json(200, one(account, path, id)?),
        ("POST", ["network-volumes"]) => {
            let id = volumes::create(account, body)?;
            let shown = one(account, &["network-volumes", &id], &id)?;
            volume = Some(Volume { id, state: VolumeState::Present });
            Reply::Json(201, shown)
        }
        ("POST", ["registries"]) => {
            let id = registries::create(account, body)?;
            Reply::Json(201, one(account, &["registries", &id], &id)?)
        }
        ("POST", _) => {
            let id = secrets::create(account, body, now)?;
            Reply::Json(201, one(account, &["account", "secrets", &id], &id)?)
        }
        ("PATCH", ["network-volumes", id]) => {
            volumes::update(account, id, body)?;
            Reply::Json(200, one(account, path, id)?)
        }
        ("PATCH", [.., id]) => {
            secrets::update(account, id, body, now)?;
            Reply::Json(200, one(account, path, id)?)
        }
        ("DELETE", ["network-volumes", id]) => {
            volumes::delete(account, id)?;
            volume = Some(Volume { id: (*id).to_owned(), state: VolumeState::Absent });
            Reply::Empty
        }
        ("DELETE", ["registries", id]) => {
            registries::delete(account, id)?;
            Reply::Empty
        }
        ("DELETE", [.., id]) => {
            secrets::delete(account, id)?;
            Reply::Empty
        }
        _ => return Err(Problem::not_found("resource")),
    };
    Ok((reply, volume))
}

fn one(account: &Account, path: &[&str], id: &str) -> Result<Value, Problem> {
    let (shown, what) = match path.first() {
        Some(&"network-volumes") => (account.volumes.get(id).map(|it| json!(it)), "network volume"),
        Some(&"registries") => (account.registries.get(id).map(|it| json!(it)), "registry"),
        _ => (account.secrets.get(id).map(|it| json!(it)), "secret"),
    };
    shown.ok_or_else(|| Problem::not_found(what))
}

fn list(account: &Account, text: &str, path: &[&str]) -> Result<Value, Problem> {
    let is_secrets = path.first() == Some(&"account");
    let own: &[&str] = if is_secrets { &["name"] } else { &[] };
    let query = Query::parse(text, &[own, page::parameters(&account.settings)].concat())?;
    let numbered = |number: u32, shown: Value| (u64::from(number), shown);
    let (name, items) = match path.first() {
        Some(&"network-volumes") => {
            let all = account.volumes.values().map(|it| numbered(it.sequence, json!(it)));
            ("networkVolumes", all.collect())
        }
        Some(&"registries") => {
            let all = account.registries.values().map(|it| numbered(it.sequence, json!(it)));
            ("registries", all.collect())
        }
        _ => {
            let wanted = query.text("name");
            let fits = |name: &str| wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name));
            let all = account.secrets.values().filter(|it| fits(&it.name));
            ("secrets", all.map(|it| numbered(it.sequence, json!(it))).collect())
        }
    };
    page::page(name, items, &query, &account.settings)
}
