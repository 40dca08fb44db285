//! The guest's own pod: shown, reported on, and deleted when its time has come.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Context};
use crate::failpoint::{self, Write};
use crate::gateway::answer::{self, Refusal};
use crate::gateway::denied::{Denied, Rule};
use crate::gateway::pods::{self, Live};
use crate::gateway::query::Read;
use crate::gateway::route::Object;
use crate::gateway::session::Session;
use crate::gateway::snapshot::{POD, Snapshot};
use crate::gateway::status;
use crate::gateway::upstream::Content;
use crate::gateway::watch::Gate;

/// Notes what the guest is told of its pod, and lets nothing pass once it was revoked.
struct Shown(Arc<Session>);

impl Gate for Shown {
    fn open(&self, now: &Snapshot) -> bool {
        if now.items.is_empty() {
            self.0.note_told_gone();
            true
        } else {
            self.0.show()
        }
    }
}

/// The pods of this node, as far as this guest is concerned, once its machine can run them.
pub(super) async fn list(cx: Context<'_>, read: Read) -> Answer {
    cx.session.preparation().await?;
    cx.session.settle(&cx.shared.settings.pods, &cx.shared.upstream).await?;
    cx.session.asked(match &read {
        Read::List(ask) => ask.version,
        Read::Watch(ask) => ask.version,
    });
    cx.collection(cx.session.pod_view(), POD, read, Shown(cx.session.clone())).await
}

/// A live read: the kubelet makes its next status patch from the difference to this.
pub(super) async fn get(cx: Context<'_>, pod: &Object) -> Answer {
    let live = live(cx, pod).await?;
    shown(cx, StatusCode::OK, live)
}

/// Passes a narrowed status patch on.
pub(super) async fn patch_status(cx: Context<'_>, pod: &Object, patch: &[u8]) -> Answer {
    own(cx, pod)?;
    let guest = &cx.session.guest;
    let author = status::Author { pod_uid: &guest.pod_uid, addresses: [guest.private_ip, guest.pod_ip] };
    let patch = status::check(patch, author)?;
    let path = format!("/api/v1/namespaces/{}/pods/{}/status", pod.namespace, pod.name);
    let call = cx.shared.upstream.call(Method::PATCH, &path, Some((Content::StrategicMerge, &patch)));
    let answer = failpoint::around(Write::GuestStatus, call).await?;
    pass(cx, answer.status, &answer.body)
}

/// Deletes the pod object: the kubelet's last word, after the containers have ended.
pub(super) async fn delete(cx: Context<'_>, pod: &Object, options: &Value) -> Answer {
    if own(cx, pod).is_err() && pod.name.ends_with(&format!("-{}", cx.shared.settings.node)) {
        return Err(Denied::new(Rule::MirrorPod, "static pods have no mirror on this node").into());
    }
    own(cx, pod)?;
    let uid = &cx.session.guest.pod_uid;
    if options["gracePeriodSeconds"] != 0 || options["preconditions"]["uid"] != **uid {
        let text = "a pod is deleted with gracePeriodSeconds 0 and its own uid as precondition";
        return Err(Denied::new(Rule::Deletion, text).into());
    }
    match live(cx, pod).await {
        Ok(live) if live["metadata"]["deletionTimestamp"].is_string() => {}
        Ok(_) => return Err(Denied::new(Rule::Deletion, "nobody has asked for the pod's deletion").into()),
        Err(refusal) => {
            if matches!(refusal, Refusal::NotFound(_)) {
                cx.session.note_deleted();
            }
            return Err(refusal);
        }
    }
    let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions",
        "gracePeriodSeconds": 0, "preconditions": { "uid": uid },
    });
    let call = cx.shared.upstream.call(Method::DELETE, &path, Some((Content::Json, &options)));
    let answer = failpoint::around(Write::GuestDelete, call).await?;
    if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
        cx.session.note_deleted();
    }
    pass(cx, answer.status, &answer.body)
}

/// The pod as the API server has it now.
async fn live(cx: Context<'_>, pod: &Object) -> Result<Value, Refusal> {
    own(cx, pod)?;
    match cx.shared.upstream.prove(pod, &cx.session.guest.pod_uid).await? {
        Live::Present(live) => Ok(live),
        Live::Absent => Err(Refusal::NotFound(format!("pods \"{}\"", pod.name))),
    }
}

fn own(cx: Context<'_>, pod: &Object) -> Result<(), Denied> {
    if *pod == cx.session.place() {
        return Ok(());
    }
    Err(Denied::new(Rule::Foreign, format!("the pod {}/{} is not this guest's", pod.namespace, pod.name)))
}

/// Passes on what the API server says: the pod as the guest sees it, or a Status.
fn pass(cx: Context<'_>, status: StatusCode, body: &[u8]) -> Answer {
    let body: Value = serde_json::from_slice(body)
        .map_err(|_unreadable| Refusal::NotNow("the API server's answer is no JSON"))?;
    if body["kind"] == "Pod" && body["metadata"]["uid"] == *cx.session.guest.pod_uid {
        return shown(cx, status, body);
    }
    if body["kind"] == "Status" {
        return Ok(answer::with_json(status, &body));
    }
    Err(Refusal::NotNow("the API server's answer is not about this pod"))
}

fn shown(cx: Context<'_>, status: StatusCode, mut pod: Value) -> Answer {
    if !cx.session.show() {
        return Err(Denied::new(Rule::Revoked, "this machine was given up").into());
    }
    pods::show(&mut pod, &cx.shared.settings.gpu_resource);
    Ok(answer::with_json(status, &pod))
}
