//! A small collection at one version, and the Kubernetes list and watch semantics over such versions.
//!
//! Everything a guest may watch without the API server (its pod, the private Node, Services, empty
//! collections) is a sequence of snapshots. A watcher only needs the newest: what lies between is folded,
//! so no queue grows behind a slow one. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::query::{ListAsk, VersionMatch, WatchAsk};

/// The kind of a collection's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub api_version: &'static str,
    pub kind: &'static str,
}

pub(crate) const POD: Kind = Kind { api_version: "v1", kind: "Pod" };
pub(crate) const NODE: Kind = Kind { api_version: "v1", kind: "Node" };
pub(crate) const SERVICE: Kind = Kind { api_version: "v1", kind: "Service" };
pub(crate) const CSI_DRIVER: Kind = Kind { api_version: "storage.k8s.io/v1", kind: "CSIDriver" };
pub(crate) const RUNTIME_CLASS: Kind = Kind { api_version: "node.k8s.io/v1", kind: "RuntimeClass" };
pub(crate) const RESOURCE_SLICE: Kind = Kind { api_version: "resource.k8s.io/v1", kind: "ResourceSlice" };

/// A collection at one version. Objects carry `apiVersion`, `kind` and their own resourceVersion.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// Grows with each change, and names exactly one content.
    pub version: u64,
    pub items: BTreeMap<String, Item>,
}

/// One object, and the version at which it last changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub version: u64,
    pub object: Arc<Value>,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Added(Arc<Value>),
    Modified(Arc<Value>),
    Deleted(Arc<Value>),
}

/// How a list or watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the whole state.
    State,
    /// With nothing: the client has exactly this version.
    Here,
    /// The client has a version that we can't go on from: 410.
    Gone,
    /// The client has seen a newer version than we have: wait, then 504.
    Early,
}

impl Snapshot {
    /// An empty collection that never changes.
    pub(crate) fn empty() -> Arc<Self> {
        Arc::new(Self { version: 1, items: BTreeMap::new() })
    }

    /// Whether this version can answer `ask`.
    pub(crate) fn list(&self, ask: &ListAsk) -> Start {
        match (ask.version, ask.matching) {
            (Some(version), Some(VersionMatch::Exact)) if version != self.version => Start::Gone,
            (Some(version), _) if version > self.version => Start::Early,
            _ => Start::State,
        }
    }

    /// How a watch begins.
    pub(crate) fn watch(&self, ask: &WatchAsk) -> Start {
        match ask.version {
            Some(version) if version > self.version => Start::Early,
            None | Some(0) => Start::State,
            Some(_) if ask.initial_events => Start::State,
            Some(version) if version == self.version => Start::Here,
            Some(_) => Start::Gone,
        }
    }

    /// The list as JSON.
    pub(crate) fn to_list(&self, kind: Kind) -> Value {
        let items: Vec<&Value> = self.items.values().map(|item| &*item.object).collect();
        json!({
            "apiVersion": kind.api_version,
            "kind": format!("{}List", kind.kind),
            "metadata": { "resourceVersion": self.version.to_string() },
            "items": items,
        })
    }

    /// What leads from `before` to here.
    pub(crate) fn since(&self, before: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        for (key, old) in &before.items {
            if !self.items.contains_key(key) {
                events.push(Event::Deleted(Arc::new(at_version(&old.object, self.version))));
            }
        }
        for (key, item) in &self.items {
            match before.items.get(key) {
                None => events.push(Event::Added(item.object.clone())),
                Some(old) if old.version != item.version => events.push(Event::Modified(item.object.clone())),
                Some(_) => {}
            }
        }
        events
    }

    /// A bookmark at this version, `done` if it ends the initial events.
    pub(crate) fn bookmark(&self, kind: Kind, mark: Mark) -> Bytes {
        let mut metadata = json!({ "creationTimestamp": null, "resourceVersion": self.version.to_string() });
        if mark == Mark::InitialEventsEnd {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({ "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata });
        line("BOOKMARK", &object)
    }
}

/// What a bookmark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Progress,
    InitialEventsEnd,
}

impl Event {
    /// One line of a watch.
    pub(crate) fn to_line(&self) -> Bytes {
        match self {
            Self::Added(object) => line("ADDED", object),
            Self::Modified(object) => line("MODIFIED", object),
            Self::Deleted(object) => line("DELETED", object),
        }
    }
}

/// `object` with another resourceVersion.
pub(crate) fn at_version(object: &Value, version: u64) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
    }
    object
}

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(version: u64, items: &[(&str, u64)]) -> Snapshot {
        let item = |name: &str, version: u64| Item {
            version,
            object: Arc::new(json!({ "metadata": { "name": name, "resourceVersion": version.to_string() } })),
        };
        Snapshot {
            version,
            items: items.iter().map(|(name, version)| ((*name).to_owned(), item(name, *version))).collect(),
        }
    }

    fn told(events: &[Event]) -> String {
        let one = |event: &Event| {
            let (kind, object) = match event {
                Event::Added(object) => ('+', object),
                Event::Modified(object) => ('~', object),
                Event::Deleted(object) => ('-', object),
            };
            let metadata = &object["metadata"];
            format!(
                "{kind}{}@{}",
                metadata["name"].as_str().unwrap(),
                metadata["resourceVersion"].as_str().unwrap()
            )
        };
        events.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_difference_is_told_once_and_with_growing_versions() {
        let before = snapshot(5, &[("a", 3), ("b", 5), ("c", 1)]);
        let after = snapshot(9, &[("a", 8), ("c", 1), ("d", 9)]);
        assert_eq!(told(&after.since(&before)), "-b@9 ~a@8 +d@9");
        assert_eq!(told(&after.since(&after)), "");
        assert_eq!(told(&before.since(&Snapshot::default())), "+a@3 +b@5 +c@1");
    }

    #[test]
    fn a_watch_goes_on_only_from_exactly_this_version() {
        let now = snapshot(5, &[("a", 5)]);
        let watch =
            |version, initial_events| now.watch(&WatchAsk { version, initial_events, ..WatchAsk::default() });
        assert_eq!(watch(Some(5), false), Start::Here);
        assert_eq!(watch(Some(4), false), Start::Gone);
        assert_eq!(watch(Some(6), false), Start::Early);
        assert_eq!(watch(None, false), Start::State);
        assert_eq!(watch(Some(0), false), Start::State);
        assert_eq!(watch(Some(5), true), Start::State);
        assert_eq!(watch(Some(4), true), Start::State);
        assert_eq!(watch(Some(6), true), Start::Early);
    }

    #[test]
    fn a_list_is_never_older_than_asked() {
        let now = snapshot(5, &[]);
        let list = |version, matching| now.list(&ListAsk { version, matching });
        assert_eq!(list(None, None), Start::State);
        assert_eq!(list(Some(0), None), Start::State);
        assert_eq!(list(Some(5), Some(VersionMatch::NotOlderThan)), Start::State);
        assert_eq!(list(Some(6), None), Start::Early);
        assert_eq!(list(Some(4), Some(VersionMatch::Exact)), Start::Gone);
    }

    #[test]
    fn a_bookmark_is_an_object_of_the_collections_kind() {
        let text = snapshot(7, &[]).bookmark(POD, Mark::InitialEventsEnd);
        let line: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&line["type"], &line["object"]["kind"]), (&json!("BOOKMARK"), &json!("Pod")));
        assert_eq!(line["object"]["metadata"]["resourceVersion"], "7");
        assert_eq!(line["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
        assert!(text.ends_with(b"\n"));
    }
}
