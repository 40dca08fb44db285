//! What is the machine's alone: its Node, Lease and CSINode, and events.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Context};
use crate::clock;
use crate::failpoint::{self, Write};
use crate::gateway::answer::{self, Refusal};
use crate::gateway::events::{Author, Fate};
use crate::gateway::route::{Object, Slot, Verb};
use crate::gateway::session::lock;
use crate::gateway::upstream::Content;

/// The largest report of a node. A real one has some 30 KiB, images included.
pub(super) const LARGEST: usize = 256 << 10;

/// The private Node.
pub(super) fn get(cx: Context<'_>) -> Answer {
    let node = cx.session.node().ok_or(Refusal::NotNow("the node is not known yet"))?;
    Ok(answer::with_json(StatusCode::OK, &node))
}

/// The kubelet's report.
pub(super) fn patch_status(cx: Context<'_>, patch: &Value) -> Answer {
    let node = cx.session.patch_node(patch)?.ok_or(Refusal::NotNow("the node is not known yet"))?;
    Ok(answer::with_json(StatusCode::OK, &node))
}

/// Lease and CSINode: kept as they come, for as long as the session lasts. An update of one that is not there
/// makes it: after a restart of ORCA the kubelet goes on where it was.
pub(super) fn private(cx: Context<'_>, slot: Slot, verb: Verb, object: Option<Value>) -> Answer {
    let mut kept = lock(&cx.session.kept);
    kept.version += 1;
    let version = kept.version;
    let place = kept.slot(slot);
    let missing = || Refusal::NotFound(format!("\"{}\"", cx.shared.settings.node));
    match (verb, object) {
        (Verb::Get, _) => {
            place.as_ref().map(|kept| answer::with_json(StatusCode::OK, kept)).ok_or_else(missing)
        }
        (Verb::Delete, _) => place.take().map(|_| answer::deleted()).ok_or_else(missing),
        (Verb::Create | Verb::Update, Some(mut object)) => {
            let code = if verb == Verb::Create { StatusCode::CREATED } else { StatusCode::OK };
            let metadata = &mut object["metadata"];
            if !metadata.is_object() {
                *metadata = json!({});
            }
            metadata["name"] = json!(cx.shared.settings.node);
            metadata["resourceVersion"] = json!(version.to_string());
            if metadata["uid"].is_null() {
                metadata["uid"] = json!(uuid::Uuid::new_v4().to_string());
            }
            Ok(answer::with_json(code, place.insert(object)))
        }
        (Verb::Create | Verb::Update, None) => Err(Refusal::Unread("there is no body".to_owned())),
    }
}

/// A new event. A name that is taken is one from before a restart of ORCA: the kubelet asked for it to be counted on,
/// was told that there is none, and makes it anew.
pub(super) async fn create_event(cx: Context<'_>, namespace: &str, event: &Value) -> Answer {
    let fate = lock(&cx.session.events).create(namespace, event, author(cx), clock::now())?;
    let path = format!("/api/v1/namespaces/{namespace}/events");
    let answer = follow(cx, &fate, Method::POST, &path, Content::Json).await?;
    let Fate::Send(sent) = &fate else { return Ok(answer) };
    if answer.status() != StatusCode::CONFLICT {
        return Ok(answer);
    }
    let renamed = lock(&cx.session.events).renamed(sent, author(cx), clock::now());
    follow(cx, &Fate::Send(renamed), Method::POST, &path, Content::Json).await
}

/// A repetition of an event.
pub(super) async fn patch_event(cx: Context<'_>, event: &Object, patch: &Value) -> Answer {
    let fate =
        lock(&cx.session.events).patch(&event.namespace, &event.name, patch, author(cx), clock::now())?;
    let path = format!("/api/v1/namespaces/{}/events/{}", event.namespace, event.name);
    follow(cx, &fate, Method::PATCH, &path, Content::StrategicMerge).await
}

async fn follow(cx: Context<'_>, fate: &Fate, method: Method, path: &str, content: Content) -> Answer {
    match fate {
        Fate::Keep(kept) => {
            let code = if method == Method::POST { StatusCode::CREATED } else { StatusCode::OK };
            Ok(answer::with_json(code, kept))
        }
        Fate::TooMany => Err(Refusal::TooMany("events")),
        // The kubelet then makes a new one.
        Fate::Unknown => Err(Refusal::NotFound("the event".to_owned())),
        Fate::Send(body) => {
            let call = cx.shared.upstream.call(method, path, Some((content, body)));
            let answer = failpoint::around(Write::GuestEvent, call).await?;
            Ok(answer::with_bytes(answer.status, answer.body))
        }
    }
}

fn author(cx: Context<'_>) -> Author<'_> {
    let guest = &cx.session.guest;
    Author {
        node: &cx.shared.settings.node,
        namespace: &guest.pod_namespace,
        pod: &guest.pod_name,
        pod_uid: &guest.pod_uid,
    }
}
