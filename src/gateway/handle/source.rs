//! What a pod is made of beside itself: Secrets, ConfigMaps, its runtime class, its tokens.

use http::{Method, StatusCode};
use serde_json::Value;

use super::{Answer, Context};
use crate::failpoint::{self, Write};
use crate::gateway::answer;
use crate::gateway::denied::{Denied, Rule};
use crate::gateway::query::{ListAsk, Read};
use crate::gateway::refs::References;
use crate::gateway::route::{Object, SourceKind, SourceRead};
use crate::gateway::snapshot::RUNTIME_CLASS;
use crate::gateway::token;
use crate::gateway::upstream::{self, Content};
use crate::gateway::watch::pass;

const RUNTIME_CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

/// A Secret or ConfigMap that the pod refers to.
pub(super) async fn read(cx: Context<'_>, kind: SourceKind, object: &Object, read: SourceRead) -> Answer {
    let pod = cx.session.pod(&cx.shared.settings.pods, &cx.shared.upstream).await?;
    let plural = kind.plural();
    let Object { namespace, name } = object;
    if *namespace != cx.session.guest.pod_namespace || !References::of(&pod).contain(kind, name) {
        let text = format!("the pod does not refer to {plural} {namespace}/{name}");
        return Err(Denied::new(Rule::Unreferenced, text).into());
    }
    let path = format!("/api/v1/namespaces/{namespace}/{plural}");
    match read {
        SourceRead::Get => whole(cx, &format!("{path}/{name}")).await,
        SourceRead::Collection(read) => collection(cx, &path, name, read).await,
    }
}

/// The pod's own runtime class; without one, none.
pub(super) async fn runtime_classes(cx: Context<'_>, read: Read) -> Answer {
    match own_runtime_class(cx).await? {
        Some(name) => collection(cx, RUNTIME_CLASSES, &name, read).await,
        None => cx.nothing(RUNTIME_CLASS, read).await,
    }
}

/// One runtime class, if it is the pod's.
pub(super) async fn runtime_class(cx: Context<'_>, name: &str) -> Answer {
    match own_runtime_class(cx).await? {
        Some(own) if own == name => whole(cx, &format!("{RUNTIME_CLASSES}/{name}")).await,
        Some(_) | None => {
            Err(Denied::new(Rule::Unreferenced, format!("the runtime class `{name}` is not the pod's"))
                .into())
        }
    }
}

/// A token that one of the pod's volumes projects.
pub(super) async fn create_token(cx: Context<'_>, namespace: &str, account: &str, request: &Value) -> Answer {
    let pod = cx.session.pod(&cx.shared.settings.pods, &cx.shared.upstream).await?;
    if namespace != cx.session.guest.pod_namespace {
        return Err(Denied::new(Rule::Token, format!("the namespace `{namespace}` is not the pod's")).into());
    }
    let request = token::check(request, account, &pod)?;
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let call = cx.shared.upstream.call(Method::POST, &path, Some((Content::Json, &request)));
    let answer = failpoint::around(Write::GuestToken, call).await?;
    Ok(answer::with_bytes(answer.status, answer.body))
}

async fn own_runtime_class(cx: Context<'_>) -> Result<Option<String>, answer::Refusal> {
    let pod = cx.session.pod(&cx.shared.settings.pods, &cx.shared.upstream).await?;
    Ok(pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.clone()).filter(|name| !name.is_empty()))
}

async fn whole(cx: Context<'_>, path: &str) -> Answer {
    let answer = cx.shared.upstream.call(Method::GET, path, None).await?;
    Ok(answer::with_bytes(answer.status, answer.body))
}

/// The collection that holds `name` alone, from the API server.
async fn collection(cx: Context<'_>, path: &str, name: &str, read: Read) -> Answer {
    let path = format!("{path}?{}", read.query_by_name(name));
    let ask = match read {
        Read::List(ListAsk { .. }) => return whole(cx, &path).await,
        Read::Watch(ask) => ask,
    };
    let permit = cx.watch_permit()?;
    let (status, body) = cx.shared.upstream.watch(&path).await?;
    if status == StatusCode::OK {
        let lasts = ask.lasts();
        return Ok(cx.stream(permit, move |out, closed| pass(body, lasts, out, closed)));
    }
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    let answer = upstream::collect(response).await?;
    Ok(answer::with_bytes(answer.status, answer.body))
}
