//! The one pod that a guest may see, by UID.
//!
//! A kubelet kills what is missing from a list, so nothing here turns into "gone" without a proof: a live
//! answer of the API server that the pod does not exist, or is another one of the same name. Once proven it
//! stays: a UID never comes back. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::gpu;
use super::snapshot::{Item, POD, Snapshot};

/// What is known of the pod.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// Nothing yet: no list may be answered.
    Unknown,
    /// It exists; the typed pod is as the API server has it, the snapshot as the guest sees it.
    Present(Arc<Pod>, Arc<Snapshot>),
    /// Proven: it does not exist any more.
    Gone(Arc<Snapshot>),
}

/// A live answer of the API server about a name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Live {
    /// A pod with the guest's UID, as JSON.
    Present(Value),
    /// There is none, or it is another one.
    Absent,
}

impl Sight {
    /// What the guest may be told; `None` means nothing at all.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        match self {
            Self::Unknown => None,
            Self::Present(_, snapshot) | Self::Gone(snapshot) => Some(snapshot.clone()),
        }
    }

    /// After `pod` was read; `None` if that is nothing new. The pod must have the guest's UID.
    pub(crate) fn after_seeing(&self, pod: &Arc<Pod>, gpu_resource: &str) -> Option<Self> {
        let version = version_of(pod)?;
        let newer = match self {
            Self::Unknown => true,
            // Never back in time: a lagging cache must not undo what a live read has shown.
            Self::Present(_, before) => version > before.version,
            Self::Gone(_) => false,
        };
        if !newer {
            return None;
        }
        let mut object = serde_json::to_value(&**pod).ok()?;
        show(&mut object, gpu_resource);
        let name = pod.metadata.name.clone().unwrap_or_default();
        let items = BTreeMap::from([(name, Item { version, object: Arc::new(object) })]);
        Some(Self::Present(pod.clone(), Arc::new(Snapshot { version, items })))
    }

    /// After it was proven that the pod does not exist.
    pub(crate) fn after_proof(&self) -> Self {
        match self {
            // The pod's own last version is not this one, so that a watch from there is told of the deletion
            // or sent to list anew.
            Self::Unknown => Self::Gone(Snapshot::empty()),
            Self::Present(_, before) => {
                Self::Gone(Arc::new(Snapshot { version: before.version + 1, items: BTreeMap::new() }))
            }
            Self::Gone(_) => self.clone(),
        }
    }

    /// After a guest has shown that it knows a newer version than we do of a pod that is gone: what we know comes
    /// after that, so that a guest that saw the pod there is sent to list anew.
    pub(crate) fn after_asking(&self, version: u64) -> Option<Self> {
        match self {
            Self::Gone(snapshot) if version > snapshot.version => {
                let version = version.saturating_add(1);
                Some(Self::Gone(Arc::new(Snapshot { version, items: BTreeMap::new() })))
            }
            Self::Unknown | Self::Present(..) | Self::Gone(_) => None,
        }
    }
}

/// Makes a pod of the API server what the guest sees.
pub(crate) fn show(pod: &mut Value, gpu_resource: &str) {
    if let Some(object) = pod.as_object_mut() {
        object.insert("apiVersion".to_owned(), json!(POD.api_version));
        object.insert("kind".to_owned(), json!(POD.kind));
    }
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        // A third of a pod's bytes, which no kubelet reads; the way to the machine is narrow.
        metadata.remove("managedFields");
    }
    gpu::share(pod, gpu_resource);
}

/// Reads a live answer to `GET pods/NAME`: `None` proves nothing.
pub(crate) fn read_live(status: u16, body: &[u8], uid: &str) -> Option<Live> {
    let body: Value = serde_json::from_slice(body).ok()?;
    match status {
        200 if body["kind"] == "Pod" => {
            let found = body["metadata"]["uid"].as_str().filter(|found| !found.is_empty())?;
            if found == uid { Some(Live::Present(body)) } else { Some(Live::Absent) }
        }
        // Not any 404: a load balancer or an API that is not ready yet can say that too.
        404 if body["kind"] == "Status"
            && body["reason"] == "NotFound"
            && body["details"]["kind"] == "pods"
            && body["details"]["name"].is_string() =>
        {
            Some(Live::Absent)
        }
        _ => None,
    }
}

fn version_of(pod: &Pod) -> Option<u64> {
    pod.metadata.resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::query::WatchAsk;
    use crate::gateway::snapshot::{Event, Start};

    const GPU: &str = "nvidia.com/gpu";

    fn pod(version: &str) -> Arc<Pod> {
        let pod = json!({
            "metadata": {
                "name": "web", "namespace": "ns", "uid": "6a1", "resourceVersion": version,
                "managedFields": [{ "manager": "x" }],
            },
            "spec": { "containers": [{ "name": "c" }] },
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn present(version: &str) -> Sight {
        Sight::Unknown.after_seeing(&pod(version), GPU).unwrap()
    }

    #[test]
    fn nothing_may_be_told_before_the_pod_was_seen_or_proven_absent() {
        assert!(Sight::Unknown.snapshot().is_none());
    }

    #[test]
    fn is_shown_with_its_devices_and_without_ballast() {
        let snapshot = present("7").snapshot().unwrap();
        let object = &snapshot.items["web"].object;
        assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("Pod"), &json!("v1")));
        assert_eq!(object["spec"]["containers"][0]["env"][0]["value"], "void");
        assert_eq!(object["metadata"].get("managedFields"), None);
        assert_eq!((snapshot.version, &object["metadata"]["resourceVersion"]), (7, &json!("7")));
    }

    #[test]
    fn never_goes_back_in_time() {
        let now = present("7");
        assert!(now.after_seeing(&pod("6"), GPU).is_none());
        assert!(now.after_seeing(&pod("7"), GPU).is_none());
        assert_eq!(now.after_seeing(&pod("8"), GPU).unwrap().snapshot().unwrap().version, 8);
    }

    #[test]
    fn gone_is_for_ever() {
        let gone = present("7").after_proof();
        assert!(gone.after_seeing(&pod("9"), GPU).is_none());
        assert!(gone.snapshot().unwrap().items.is_empty());
        assert_eq!(gone.after_proof().snapshot().unwrap().version, 8);
    }

    #[test]
    fn a_watcher_of_the_last_version_is_told_of_the_deletion_or_sent_to_list() {
        let before = present("7").snapshot().unwrap();
        let after = present("7").after_proof().snapshot().unwrap();
        let events = after.since(&before);
        let [Event::Deleted(object)] = events.as_slice() else { panic!("not deleted") };
        assert_eq!(object["metadata"]["resourceVersion"], "8");
        let from = |version| after.watch(&WatchAsk { version: Some(version), ..WatchAsk::default() });
        assert_eq!(from(7), Start::Gone);
        assert_eq!(from(8), Start::Here);
    }

    #[test]
    fn a_guest_that_has_seen_more_of_a_gone_pod_lists_anew_once() {
        let gone = Sight::Unknown.after_proof().after_asking(500).unwrap();
        let now = gone.snapshot().unwrap();
        let from = |version| now.watch(&WatchAsk { version: Some(version), ..WatchAsk::default() });
        assert_eq!((now.version, from(500), from(501)), (501, Start::Gone, Start::Here));
        assert!(gone.after_asking(501).is_none());
        assert!(present("7").after_asking(500).is_none());
    }

    #[test]
    fn only_the_api_servers_own_words_prove_an_absence() {
        let read = |status, body: Value| read_live(status, body.to_string().as_bytes(), "6a1");
        let not_found =
            json!({ "kind": "Status", "reason": "NotFound", "details": { "kind": "pods", "name": "web" } });
        assert_eq!(read(404, not_found.clone()), Some(Live::Absent));
        let other = json!({ "kind": "Pod", "metadata": { "uid": "7b2" } });
        assert_eq!(read(200, other), Some(Live::Absent));
        let own = json!({ "kind": "Pod", "metadata": { "uid": "6a1" } });
        assert_eq!(read(200, own.clone()), Some(Live::Present(own.clone())));
        for (status, body) in [
            (404, json!({ "kind": "Status", "reason": "NotFound", "details": {} })),
            (
                404,
                json!({ "kind": "Status", "reason": "NotFound", "details": { "kind": "namespaces", "name": "ns" } }),
            ),
            (404, json!({ "message": "no such page" })),
            (403, not_found.clone()),
            (500, not_found.clone()),
            (503, json!({})),
            (200, json!({ "kind": "Pod", "metadata": {} })),
            (200, json!({ "kind": "Pod", "metadata": { "uid": "" } })),
            (200, json!({ "kind": "Table" })),
        ] {
            assert_eq!(read(status, body.clone()), None, "{status} {body}");
        }
        assert_eq!(read_live(404, b"<html>not found</html>", "6a1"), None);
        assert_eq!(read_live(404, b"", "6a1"), None);
    }
}
