//! What was asked of the API server, from its own audit log.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::gauge::millis;
use crate::world::{World, eventually};

/// Whom ORCA is to the API server.
pub(crate) const ORCA: &str = "system:serviceaccount:orca-system:orca";
/// The server writes its record in batches, a second apart at most (`control-plane.sh`).
const BATCH: f64 = 2_000.0;

/// One request, watches among them; what impersonates is whoever it really is.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) verb: String,
    /// Such as `pods/status`.
    pub(crate) about: String,
    pub(crate) name: String,
    /// A page of a list after its first.
    pub(crate) is_next_page: bool,
}

impl Request {
    /// Verb and resource, as metrics and RBAC name them.
    pub(crate) fn kind(&self) -> String {
        let page = if self.is_next_page { ", next pages" } else { "" };
        format!("{} {}{page}", self.verb, self.about)
    }

    pub(crate) fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// All requests of `user` that were received between two times (milliseconds since 1970). That they are all there is
/// told by a later one, of anybody in the record: ORCA renews a Lease every few seconds.
pub(crate) fn requests(world: &World, user: &str, from: f64, to: f64) -> Result<Vec<Request>> {
    eventually("the API server's record", Duration::from_secs(60), || {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut is_whole = false;
        for line in world.log("audit.log")?.lines() {
            // The last line may be half written.
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            let at = millis(entry["requestReceivedTimestamp"].as_str().context("a time")?)?;
            is_whole |= at > to + BATCH;
            let id = entry["auditID"].as_str().context("auditID")?;
            // A watch is told twice, when it begins and when it ends.
            if entry["user"]["username"] == user && (from..=to).contains(&at) && seen.insert(id.to_owned()) {
                found.push(request(&entry));
            }
        }
        Ok(if is_whole { Ok(found) } else { Err(found.len()) })
    })
}

fn request(entry: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let about = &entry["objectRef"];
    let resource = match (about["resource"].as_str(), about["subresource"].as_str()) {
        (Some(resource), Some(sub)) => format!("{resource}/{sub}"),
        (Some(resource), None) => resource.to_owned(),
        // `/version` and its like.
        (None, _) => text(&entry["requestURI"]).split('?').next().unwrap_or_default().to_owned(),
    };
    Request {
        verb: text(&entry["verb"]),
        about: resource,
        name: text(&about["name"]),
        is_next_page: text(&entry["requestURI"]).contains("continue="),
    }
}

/// How many there were of each kind.
pub(crate) fn by_kind(requests: &[Request]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for request in requests {
        *kinds.entry(request.kind()).or_default() += 1;
    }
    kinds
}
