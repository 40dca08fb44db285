//! Events of a guest: about its own pod, within a rate, changed only by who made them.
//!
//! The node identity may write any event of the cluster, so everything is checked and written anew here.
//! Pure; the time comes as an argument.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::bucket::Bucket;
use super::denied::{Denied, Rule};

/// Names of events remembered per guest: client-go folds repetitions within ten minutes, and a pod has few kinds.
const REMEMBERED: usize = 512;
/// What may come at once, and per second after that. A kubelet limits itself to 25 per object and then one
/// in five minutes.
const BURST: u32 = 60;
const PER_SECOND: u32 = 1;
/// The longest message, as in the API's own validation.
const LONGEST_MESSAGE: usize = 1024;
/// The longest name of an object.
const LONGEST_NAME: usize = 253;

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// About the pod: this goes to the API server.
    Send(Value),
    /// About the node: it stays here, and this is the answer.
    Keep(Value),
    /// Too many; ask again later.
    TooMany,
    /// The guest made none of that name (or too long ago).
    Unknown,
}

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Author<'a> {
    pub node: &'a str,
    pub namespace: &'a str,
    pub pod: &'a str,
    pub pod_uid: &'a str,
}

/// What one guest has written.
#[derive(Debug)]
pub(crate) struct Log {
    sent: VecDeque<String>,
    kept: VecDeque<(String, Value)>,
    rate: Bucket,
}

impl Log {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { sent: VecDeque::new(), kept: VecDeque::new(), rate: Bucket::new(BURST, PER_SECOND, now) }
    }

    /// A new event, posted into `namespace`.
    pub(crate) fn create(
        &mut self,
        namespace: &str,
        event: &Value,
        author: Author<'_>,
        now: Timestamp,
    ) -> Result<Fate, Denied> {
        let involved = &event["involvedObject"];
        let name = event["metadata"]["name"].as_str().unwrap_or_default();
        if involved["kind"] == "Node" && involved["name"] == author.node {
            return Ok(self.keep(name, event, now));
        }
        if namespace != author.namespace
            || involved["kind"] != "Pod"
            || involved["namespace"] != author.namespace
            || involved["name"] != author.pod
            || involved["uid"] != author.pod_uid
        {
            return Err(refuse("an event must be about the guest's own pod, in its namespace"));
        }
        // client-go takes a UUID where the pod's name is too long to have something appended.
        let own = name.strip_prefix(author.pod).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'));
        if !own && uuid::Uuid::try_parse(name).is_err() {
            return Err(refuse(format!("the event's name is `{name}`, expected `{}.` and more", author.pod)));
        }
        if !self.rate.take(now) {
            return Ok(Fate::TooMany);
        }
        remember(&mut self.sent, name.to_owned());
        Ok(Fate::Send(written_anew(namespace, name, event, author)))
    }

    /// A strategic merge patch of an event that this guest made.
    pub(crate) fn patch(
        &mut self,
        namespace: &str,
        name: &str,
        patch: &Value,
        author: Author<'_>,
        now: Timestamp,
    ) -> Result<Fate, Denied> {
        let fields =
            patch.as_object().ok_or_else(|| Denied::new(Rule::Body, "the patch is no JSON object"))?;
        if let Some(key) =
            fields.keys().find(|key| !matches!(key.as_str(), "count" | "lastTimestamp" | "message"))
        {
            return Err(refuse(format!("the patch of an event holds `{key}`")));
        }
        if let Some((_, kept)) = self.kept.iter_mut().find(|(kept, _)| kept == name) {
            for (key, value) in fields {
                kept[key] = value.clone();
            }
            return Ok(Fate::Keep(kept.clone()));
        }
        if namespace != author.namespace || !self.sent.iter().any(|sent| sent == name) {
            return Ok(Fate::Unknown);
        }
        if !self.rate.take(now) {
            return Ok(Fate::TooMany);
        }
        let mut fields = fields.clone();
        if let Some(message) = fields.get_mut("message") {
            *message = shortened(message);
        }
        Ok(Fate::Send(Value::Object(fields)))
    }

    /// The same event under a name that nobody has: what the guest made before a restart of ORCA is still there under
    /// `name`, and whose it is is not known any more.
    pub(crate) fn renamed(&mut self, event: &Value, author: Author<'_>, now: Timestamp) -> Value {
        // As client-go names them, which takes a UUID where that would be too long.
        let name = format!("{}.{:x}", author.pod, now.as_nanosecond());
        let name = if name.len() > LONGEST_NAME { uuid::Uuid::new_v4().to_string() } else { name };
        let mut event = event.clone();
        event["metadata"]["name"] = json!(name);
        remember(&mut self.sent, name);
        event
    }

    fn keep(&mut self, name: &str, event: &Value, now: Timestamp) -> Fate {
        let mut kept = event.clone();
        if let Some(object) = kept.as_object_mut() {
            let metadata = object.entry("metadata").or_insert_with(|| json!({}));
            metadata["resourceVersion"] = json!(now.as_microsecond().to_string());
            metadata["uid"] = json!(name);
        }
        remember(&mut self.kept, (name.to_owned(), kept.clone()));
        Fate::Keep(kept)
    }
}

fn remember<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() == REMEMBERED {
        all.pop_front();
    }
    all.push_back(one);
}

fn written_anew(namespace: &str, name: &str, event: &Value, author: Author<'_>) -> Value {
    let mut anew = Map::new();
    for key in [
        "reason",
        "type",
        "count",
        "firstTimestamp",
        "lastTimestamp",
        "reportingComponent",
        "reportingInstance",
    ] {
        if let Some(value) = event.get(key) {
            anew.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(message) = event.get("message") {
        anew.insert("message".to_owned(), shortened(message));
    }
    let involved = &event["involvedObject"];
    let mut about = json!({
        "apiVersion": "v1", "kind": "Pod",
        "namespace": author.namespace, "name": author.pod, "uid": author.pod_uid,
    });
    for key in ["fieldPath", "resourceVersion"] {
        if let Some(Value::String(value)) = involved.get(key) {
            about[key] = json!(value);
        }
    }
    anew.insert("apiVersion".to_owned(), json!("v1"));
    anew.insert("kind".to_owned(), json!("Event"));
    anew.insert("metadata".to_owned(), json!({ "namespace": namespace, "name": name }));
    anew.insert("involvedObject".to_owned(), about);
    anew.insert("source".to_owned(), json!({ "component": "kubelet", "host": author.node }));
    Value::Object(anew)
}

/// Cut at a character, never within one.
fn shortened(message: &Value) -> Value {
    let text = message.as_str().unwrap_or_default();
    let mut end = text.len().min(LONGEST_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    json!(text[..end])
}

fn refuse(message: impl Into<String>) -> Denied {
    Denied::new(Rule::Event, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan as _;

    const AUTHOR: Author<'_> = Author { node: "burst", namespace: "ns", pod: "web", pod_uid: "6a1" };

    fn now() -> Timestamp {
        "2026-11-21T08:00:00Z".parse().unwrap()
    }

    fn event() -> Value {
        json!({
            "metadata": { "name": "web.17a", "namespace": "ns", "annotations": { "a": "b" } },
            "involvedObject": { "kind": "Pod", "namespace": "ns", "name": "web", "uid": "6a1",
                                "apiVersion": "v1", "fieldPath": "spec.containers{c}" },
            "reason": "Pulled", "message": "done", "type": "Normal", "count": 1,
            "source": { "component": "somebody", "host": "elsewhere" },
            "related": { "kind": "Secret", "name": "x" },
        })
    }

    fn create(log: &mut Log, event: &Value) -> Result<Fate, Denied> {
        log.create("ns", event, AUTHOR, now())
    }

    #[test]
    fn an_event_about_the_own_pod_is_written_anew() {
        let Ok(Fate::Send(sent)) = create(&mut Log::new(now()), &event()) else { panic!("not sent") };
        assert_eq!(sent["involvedObject"]["uid"], "6a1");
        assert_eq!(sent["involvedObject"]["fieldPath"], "spec.containers{c}");
        assert_eq!(sent["source"], json!({ "component": "kubelet", "host": "burst" }));
        assert!(sent["metadata"].get("annotations").is_none() && sent.get("related").is_none());
    }

    #[test]
    fn events_about_anything_else_are_refused() {
        for (key, value) in [
            ("kind", "Deployment"),
            ("kind", "Node"),
            ("namespace", "kube-system"),
            ("name", "db"),
            ("uid", "7b2"),
        ] {
            let mut about = event();
            about["involvedObject"][key] = json!(value);
            assert_eq!(create(&mut Log::new(now()), &about).unwrap_err().rule, Rule::Event, "{key}");
        }
        let elsewhere = Log::new(now()).create("kube-system", &event(), AUTHOR, now());
        assert_eq!(elsewhere.unwrap_err().rule, Rule::Event);
    }

    #[test]
    fn names_that_could_be_another_pods_are_refused() {
        for name in ["db.17a", "web", "web.", "webx.17a", ""] {
            let mut named = event();
            named["metadata"]["name"] = json!(name);
            assert!(create(&mut Log::new(now()), &named).is_err(), "{name}");
        }
    }

    #[test]
    fn node_events_stay_here_and_can_be_patched_here() {
        let mut log = Log::new(now());
        let about = json!({
            "metadata": { "name": "burst.17a" },
            "involvedObject": { "kind": "Node", "name": "burst", "uid": "burst" },
            "reason": "Starting", "count": 1,
        });
        let Ok(Fate::Keep(kept)) = log.create("default", &about, AUTHOR, now()) else { panic!("not kept") };
        assert!(kept["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().is_ok());
        let Ok(Fate::Keep(kept)) = log.patch("default", "burst.17a", &json!({ "count": 2 }), AUTHOR, now())
        else {
            panic!("not kept")
        };
        assert_eq!((&kept["count"], &kept["reason"]), (&json!(2), &json!("Starting")));
    }

    #[test]
    fn only_what_this_guest_made_can_be_patched() {
        let mut log = Log::new(now());
        let patch = json!({ "count": 2, "lastTimestamp": "2026-11-21T08:00:01Z" });
        assert_eq!(log.patch("ns", "web.17a", &patch, AUTHOR, now()), Ok(Fate::Unknown));
        create(&mut log, &event()).unwrap();
        assert_eq!(log.patch("ns", "web.17a", &patch, AUTHOR, now()), Ok(Fate::Send(patch.clone())));
        assert_eq!(log.patch("other", "web.17a", &patch, AUTHOR, now()), Ok(Fate::Unknown));
        let moved = json!({ "involvedObject": { "name": "db" } });
        assert_eq!(log.patch("ns", "web.17a", &moved, AUTHOR, now()).unwrap_err().rule, Rule::Event);
        let renamed = json!({ "metadata": { "annotations": {} } });
        assert_eq!(log.patch("ns", "web.17a", &renamed, AUTHOR, now()).unwrap_err().rule, Rule::Event);
    }

    #[test]
    fn a_renamed_event_is_the_guests_own() {
        let mut log = Log::new(now());
        let Ok(Fate::Send(sent)) = create(&mut log, &event()) else { panic!("not sent") };
        let mut renamed = log.renamed(&sent, AUTHOR, now());
        let name = renamed["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("web.") && name != "web.17a", "{name}");
        let patch = json!({ "count": 2 });
        assert_eq!(log.patch("ns", &name, &patch, AUTHOR, now()), Ok(Fate::Send(patch)));
        renamed["metadata"]["name"] = json!("web.17a");
        assert_eq!(renamed, sent);
        let long = "w".repeat(250);
        let renamed = log.renamed(&sent, Author { pod: &long, ..AUTHOR }, now());
        assert!(uuid::Uuid::try_parse(renamed["metadata"]["name"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn a_flood_is_slowed_down_and_recovers() {
        let mut log = Log::new(now());
        let sent = (0..200).filter(|_| matches!(create(&mut log, &event()), Ok(Fate::Send(_)))).count();
        assert_eq!(sent, 60);
        let later = now() + 10.seconds();
        let sent = (0..200)
            .filter(|_| matches!(log.create("ns", &event(), AUTHOR, later), Ok(Fate::Send(_))))
            .count();
        assert_eq!(sent, 10);
    }

    #[test]
    fn memory_is_bounded_and_long_messages_are_cut() {
        let mut log = Log::new(now());
        for number in 0..2000 {
            let mut about = json!({ "involvedObject": { "kind": "Node", "name": "burst" } });
            about["metadata"] = json!({ "name": format!("burst.{number}") });
            log.create("default", &about, AUTHOR, now()).unwrap();
        }
        assert_eq!(log.kept.len(), REMEMBERED);
        let mut long = event();
        long["message"] = json!("é".repeat(2000));
        let Ok(Fate::Send(sent)) = create(&mut log, &long) else { panic!("not sent") };
        assert!(sent["message"].as_str().unwrap().len() <= LONGEST_MESSAGE);
    }
}
