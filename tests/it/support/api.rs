//! A small API server: pods with watches, status and deletion as Kubernetes does them, and events.
//!
//! It plugs in under `kube::Client` as its tower service; no socket. What ORCA must never write is noted as a
//! violation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use k8s_openapi::api::core::v1::Pod;
use kube::client::ClientBuilder;
use orca::leader::{Fence, Guard};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::NAMESPACE;

pub(crate) struct ApiServer {
    store: Mutex<Store>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Store {
    pods: BTreeMap<(String, String), Value>,
    history: Vec<(u64, Instant, Value)>,
    watch_lag: Duration,
    version: u64,
    uids: u64,
    events: Vec<Value>,
    violations: Vec<String>,
    failing: u32,
    writes: u64,
}

impl ApiServer {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { store: Mutex::default(), version: watch::Sender::new(0) })
    }

    /// A client whose changes pass this fence.
    pub(crate) fn client(self: &Arc<Self>, fence: &Fence) -> kube::Client {
        let one = "/api/v1/namespaces/{namespace}/pods/{name}";
        let router = Router::new()
            .route("/api/v1/pods", get(list))
            .route(one, get(read).patch(patch_meta).delete(delete))
            .route(&format!("{one}/status"), patch(patch_status))
            .route("/api/v1/namespaces/{namespace}", get(namespace))
            .route("/api/v1/namespaces/{namespace}/events", post(create_event))
            .route("/api/v1/namespaces/{namespace}/events/{name}", patch(count_event))
            .with_state(self.clone());
        ClientBuilder::new(router, "default").with_layer(&Guard::by(fence)).build()
    }

    /// Creates a pod; answers its UID.
    pub(crate) fn create(&self, mut pod: Value) -> String {
        let mut store = self.store();
        store.uids += 1;
        let uid = format!("u-{}", store.uids);
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        pod["metadata"]["uid"] = json!(uid);
        pod["metadata"]["generation"] = json!(1);
        pod["metadata"]["creationTimestamp"] = json!(orca::clock::now());
        assert!(!store.pods.contains_key(&(NAMESPACE.to_owned(), name.clone())), "{name} exists");
        store.put("ADDED", pod);
        self.tell(&store);
        uid
    }

    /// What `kubectl delete` does; a grace of 0 takes the object at once.
    pub(crate) fn delete(&self, name: &str, grace: i64) {
        let mut store = self.store();
        store.delete(&(NAMESPACE.to_owned(), name.to_owned()), grace);
        self.tell(&store);
    }

    /// Changes a pod as somebody other than ORCA: its kubelet, a person.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut store = self.store();
        if let Some(mut pod) = store.pods.get(&(NAMESPACE.to_owned(), name.to_owned())).cloned() {
            change(&mut pod);
            store.put("MODIFIED", pod);
            self.tell(&store);
        }
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Pod> {
        let store = self.store();
        let pod = store.pods.get(&(NAMESPACE.to_owned(), name.to_owned()))?;
        Some(serde_json::from_value(pod.clone()).unwrap())
    }

    pub(crate) fn by_uid(&self, uid: &str) -> Option<Pod> {
        self.pods().into_iter().find(|pod| pod.metadata.uid.as_deref() == Some(uid))
    }

    pub(crate) fn pods(&self) -> Vec<Pod> {
        self.store().pods.values().map(|pod| serde_json::from_value(pod.clone()).unwrap()).collect()
    }

    /// The next requests of ORCA (watches apart) are answered with 500.
    pub(crate) fn fail_next(&self, requests: u32) {
        self.store().failing = requests;
    }

    /// Watches tell everything so much later than it happens.
    pub(crate) fn lag_watches(&self, lag: Duration) {
        self.store().watch_lag = lag;
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.store().violations.clone()
    }

    /// Writes of ORCA to pods.
    pub(crate) fn writes(&self) -> u64 {
        self.store().writes
    }

    /// `name: reason` of every event, in order.
    pub(crate) fn stories(&self) -> Vec<String> {
        let text =
            |event: &Value, path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or("").to_owned();
        let store = self.store();
        let line = |event| {
            format!(
                "{}: {} {}",
                text(event, "/involvedObject/name"),
                text(event, "/reason"),
                text(event, "/message")
            )
        };
        store.events.iter().map(line).collect()
    }

    /// The reasons of a pod's events, in order.
    pub(crate) fn reasons(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}: ");
        let stories = self.stories();
        let own = stories.iter().filter_map(|line| line.strip_prefix(&prefix));
        own.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    fn tell(&self, store: &Store) {
        self.version.send_replace(store.version);
    }

    /// Fails the request if that was asked for.
    fn admit(&self) -> Result<MutexGuard<'_, Store>, Refusal> {
        let mut store = self.store();
        if store.failing > 0 {
            store.failing -= 1;
            return Err((StatusCode::INTERNAL_SERVER_ERROR, "asked for"));
        }
        Ok(store)
    }
}

impl Store {
    fn put(&mut self, kind: &str, mut pod: Value) {
        self.version += 1;
        pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let text = |path: &str| pod.pointer(path).unwrap().as_str().unwrap().to_owned();
        let key = (text("/metadata/namespace"), text("/metadata/name"));
        self.history.push((self.version, Instant::now(), json!({"type": kind, "object": pod})));
        match kind {
            "DELETED" => self.pods.remove(&key),
            _ => self.pods.insert(key, pod),
        };
    }

    fn delete(&mut self, key: &(String, String), grace: i64) -> Option<Value> {
        let mut pod = self.pods.get(key)?.clone();
        let is_terminal = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let grace = if is_terminal { 0 } else { grace };
        let asked = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
        let is_held = pod["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if grace == 0 && !is_held {
            self.put("DELETED", pod.clone());
        } else if asked.is_none_or(|asked| grace < asked) {
            let at = orca::clock::now() + std::time::Duration::from_secs(u64::try_from(grace).unwrap());
            let at = at.round(k8s_openapi::jiff::Unit::Second).unwrap();
            pod["metadata"]["deletionTimestamp"] = json!(at.to_string());
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            self.put("MODIFIED", pod.clone());
        }
        Some(pod)
    }
}

/// Why a request is not answered as asked.
type Refusal = (StatusCode, &'static str);

fn status(code: StatusCode, message: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                      "message": message, "reason": message, "code": code.as_u16()});
    (code, axum::Json(body)).into_response()
}

type Server = State<Arc<ApiServer>>;
type Name = Path<(String, String)>;

/// A namespace without wishes.
async fn namespace(Path(name): Path<String>) -> axum::Json<Value> {
    axum::Json(json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": name, "uid": format!("uid-of-{name}")},
    }))
}

async fn list(State(api): Server, Query(query): Query<BTreeMap<String, String>>) -> Response {
    if query.get("watch").is_none_or(|watch| watch != "true") {
        let store = match api.admit() {
            Ok(store) => store,
            Err(refusal) => return status(refusal.0, refusal.1),
        };
        let items: Vec<_> = store.pods.values().cloned().collect();
        let version = store.version.to_string();
        return axum::Json(json!({"kind": "PodList", "apiVersion": "v1",
            "metadata": {"resourceVersion": version}, "items": items}))
        .into_response();
    }
    let from: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let lines = futures::stream::unfold((api, from), |(api, from)| async move {
        let mut versions = api.version.subscribe();
        loop {
            let (next, lag) = {
                let store = api.store();
                (store.history.iter().find(|(version, ..)| *version > from).cloned(), store.watch_lag)
            };
            if let Some((version, at, event)) = next {
                tokio::time::sleep_until(at + lag).await;
                let line = Bytes::from(format!("{event}\n"));
                return Some((Ok::<_, std::convert::Infallible>(line), (api, version)));
            }
            versions.changed().await.ok()?;
        }
    });
    Body::from_stream(lines).into_response()
}

async fn read(State(api): Server, Path(key): Name) -> Response {
    match api.admit() {
        Ok(store) => match store.pods.get(&key) {
            Some(pod) => axum::Json(pod).into_response(),
            None => status(StatusCode::NOT_FOUND, "NotFound"),
        },
        Err(refusal) => status(refusal.0, refusal.1),
    }
}

/// Finds the pod that a patch is for and checks its UID.
fn target<'a>(
    api: &'a ApiServer,
    key: &(String, String),
    patch: &Value,
) -> Result<(MutexGuard<'a, Store>, Value), Refusal> {
    let store = api.admit()?;
    let pod = store.pods.get(key).cloned().ok_or((StatusCode::NOT_FOUND, "NotFound"))?;
    if patch["metadata"]["uid"] != pod["metadata"]["uid"] {
        return Err((StatusCode::UNPROCESSABLE_ENTITY, "Invalid"));
    }
    let version = &patch["metadata"]["resourceVersion"];
    if !version.is_null() && *version != pod["metadata"]["resourceVersion"] {
        return Err((StatusCode::CONFLICT, "Conflict"));
    }
    Ok((store, pod))
}

async fn patch_meta(State(api): Server, Path(key): Name, axum::Json(patch): axum::Json<Value>) -> Response {
    let (mut store, mut pod) = match target(&api, &key, &patch) {
        Ok(target) => target,
        Err(refusal) => return status(refusal.0, refusal.1),
    };
    store.writes += 1;
    for (field, value) in patch["metadata"]["annotations"].as_object().unwrap() {
        if value.is_null() {
            if let Some(all) = pod["metadata"]["annotations"].as_object_mut() {
                all.remove(field);
            }
        } else {
            pod["metadata"]["annotations"][field] = value.clone();
        }
    }
    store.put("MODIFIED", pod);
    api.tell(&store);
    axum::Json(store.pods[&key].clone()).into_response()
}

async fn patch_status(State(api): Server, Path(key): Name, axum::Json(patch): axum::Json<Value>) -> Response {
    let (mut store, mut pod) = match target(&api, &key, &patch) {
        Ok(target) => target,
        Err(refusal) => return status(refusal.0, refusal.1),
    };
    store.writes += 1;
    for field in ["startTime", "hostIP", "hostIPs", "podIP", "podIPs"] {
        if patch["status"].get(field).is_some() {
            store.violations.push(format!("{key:?}: ORCA wrote {field}"));
        }
    }
    let before = pod["status"]["phase"].as_str().unwrap_or("").to_owned();
    for (field, value) in patch["status"].as_object().unwrap() {
        if field == "conditions" {
            let mut all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            for one in value.as_array().unwrap() {
                all.retain(|old| old["type"] != one["type"]);
                all.push(one.clone());
            }
            pod["status"]["conditions"] = Value::Array(all);
        } else {
            pod["status"][field] = value.clone();
        }
    }
    let after = pod["status"]["phase"].as_str().unwrap_or("").to_owned();
    if matches!(&*before, "Succeeded" | "Failed") && after != before {
        store.violations.push(format!("{key:?}: {before} became {after}"));
    }
    if before == "Running" && after == "Pending" {
        store.violations.push(format!("{key:?}: written over the kubelet"));
    }
    if pod == store.pods[&key] {
        store.violations.push(format!("{key:?}: a patch that changes nothing: {patch}"));
    }
    store.put("MODIFIED", pod);
    api.tell(&store);
    axum::Json(store.pods[&key].clone()).into_response()
}

async fn delete(State(api): Server, Path(key): Name, body: Bytes) -> Response {
    let mut store = match api.admit() {
        Ok(store) => store,
        Err(refusal) => return status(refusal.0, refusal.1),
    };
    let options: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(pod) = store.pods.get(&key).cloned() else {
        return status(StatusCode::NOT_FOUND, "NotFound");
    };
    let uid = &options["preconditions"]["uid"];
    if uid.is_null() {
        store.violations.push(format!("{key:?}: deleted without a UID"));
    } else if *uid != pod["metadata"]["uid"] {
        return status(StatusCode::CONFLICT, "Conflict");
    }
    if pod["metadata"]["deletionTimestamp"].is_null() {
        store.violations.push(format!("{key:?}: deleted without being asked"));
    }
    store.writes += 1;
    let pod = store.delete(&key, options["gracePeriodSeconds"].as_i64().unwrap_or(30));
    api.tell(&store);
    axum::Json(pod).into_response()
}

async fn create_event(State(api): Server, axum::Json(event): axum::Json<Value>) -> Response {
    api.store().events.push(event.clone());
    (StatusCode::CREATED, axum::Json(event)).into_response()
}

async fn count_event(State(api): Server, Path(key): Name, axum::Json(patch): axum::Json<Value>) -> Response {
    let mut store = api.store();
    let Some(event) = store.events.iter_mut().find(|event| event["metadata"]["name"] == key.1.as_str())
    else {
        return status(StatusCode::NOT_FOUND, "NotFound");
    };
    event["count"] = patch["count"].clone();
    axum::Json(event.clone()).into_response()
}
