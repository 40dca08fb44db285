//! RunPod in a test's process: calls without a socket, pods that are states, and every answer checked against the schema.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::container::none::NoContainers;
use super::keys::KEY;
use super::settings::Settings;
use super::{RunPod, router, routes, schema};
use crate::app::DropConnection;

/// An account of its own.
#[derive(Debug)]
pub struct TestAccount {
    pub runpod: Arc<RunPod>,
    pub router: Router,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Null where there is none.
    pub body: Value,
    pub dropped: bool,
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status < 300 && !self.dropped, "{self:?}");
        self.body
    }

    /// `status detail` of a refusal.
    #[track_caller]
    pub fn refusal(&self) -> String {
        assert!(self.status >= 400, "{self:?}");
        format!("{} {}", self.status, self.body["detail"].as_str().unwrap())
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A body that is accepted.
pub fn mk_pod() -> Value {
    json!({
        "name": "a-1", "image": "busybox:1", "gpu": { "id": "NVIDIA GeForce RTX 4090" }, "disk": 20,
        "ports": ["22/tcp", "8888/http"], "env": { "A": "b" }, "args": "sleep 1000",
    })
}

/// This object with other members in place of its own; null removes one.
pub fn with(mut base: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else { panic!("{changes} is no object") };
    for (name, value) in changes {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(&name);
        } else {
            base[name] = value;
        }
    }
    base
}

/// What the answer to a call is, by its method, the shape of its path and its status.
fn definition(method: &str, shape: &str, status: u16) -> &'static str {
    match (method, shape) {
        _ if status >= 400 => "Problem",
        ("GET", "/v2/pods") => "ListPodsResponse",
        ("POST", "/v2/pods" | "/v2/pods/{id}/action") | ("GET" | "PATCH", "/v2/pods/{id}") => "Pod",
        ("GET", "/v2/network-volumes") => "ListNetworkVolumesResponse",
        (_, "/v2/network-volumes" | "/v2/network-volumes/{id}") => "NetworkVolume",
        ("GET", "/v2/registries") => "ListRegistriesResponse",
        (_, "/v2/registries" | "/v2/registries/{id}") => "Registry",
        ("GET", "/v2/account/secrets") => "ListSecretsResponse",
        (_, "/v2/account/secrets" | "/v2/account/secrets/{id}") => "Secret",
        (_, "/v2/account/ssh-keys") => "SshKeys",
        (_, "/v2/catalog/gpus") => "ListGpuTypesResponse",
        (_, "/v2/catalog/gpus/{id}") => "GpuType",
        (_, "/v2/catalog/cpus") => "ListCpuTypesResponse",
        (_, "/v2/catalog/cpus/{id}") => "CpuType",
        (_, "/v2/catalog/datacenters") => "ListDataCentersResponse",
        (_, "/v2/catalog/datacenters/{id}") => "DataCenter",
        (_, "/v2/billing/pods") => "ListPodBillingResponse",
        _ => panic!("{method} {shape} {status} has no definition"),
    }
}

impl TestAccount {
    pub fn start() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        let runpod = RunPod::start(settings, Arc::new(NoContainers::default()));
        Self { router: router(runpod.clone()), runpod }
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let dropped = response.extensions().get::<DropConnection>().is_some();
        let (parts, body) = response.into_parts();
        let status = parts.status.as_u16();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body: Value =
            if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        let answer = Answer { status, headers: parts.headers, body, dropped };
        if path.starts_with("/v2") && !dropped {
            answer.check(method.as_str(), &path);
        }
        answer
    }

    pub fn request(method: &str, path: &str, body: &Value) -> Request<Body> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .body(Body::from(text))
            .unwrap()
    }

    /// A call with the key.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(Self::request(method, path, &body)).await
    }

    /// A call whose answer may be anything: its status, `dropped`, or `cut`.
    pub async fn raw(&self, method: &str, path: &str, body: &Value) -> String {
        let response = self.router.clone().oneshot(Self::request(method, path, body)).await.unwrap();
        if response.extensions().get::<DropConnection>().is_some() {
            return "dropped".to_owned();
        }
        let status = response.status().as_u16().to_string();
        if response.into_body().collect().await.is_err() { "cut".to_owned() } else { status }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Value::Null).await
    }

    /// A control request, which must succeed.
    pub async fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let request = Self::request(method, &format!("/_local/{path}"), &body);
        let answer = self.send(request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    pub async fn scenario(&self, scenario: Value) {
        self.control("POST", "scenarios", scenario).await;
    }

    /// Creates a pod; its id.
    pub async fn create(&self, changes: Value) -> String {
        let pod = self.call("POST", "/v2/pods", with(mk_pod(), changes)).await.ok();
        pod["id"].as_str().unwrap().to_owned()
    }

    /// A pod as the control endpoint has it: not a call, and no read that lingering pods count.
    pub async fn look(&self, id: &str) -> Value {
        let all = self.control("GET", "pods", Value::Null).await;
        all.as_array().unwrap().iter().find(|pod| pod["id"] == id).cloned().unwrap_or_default()
    }

    /// Waits until a pod is as it should be. The clock is paused: no time passes but the cloud's.
    pub async fn until(&self, id: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..5000 {
            let pod = self.look(id).await;
            if fits(&pod) {
                return pod;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{id} is not {what}: {}", self.look(id).await);
    }

    pub async fn until_status(&self, id: &str, status: &str) -> Value {
        self.until(id, status, |pod| pod["status"] == status).await
    }

    /// Waits until its container is up and its ports are shown.
    pub async fn until_up(&self, id: &str) -> Value {
        self.until(id, "up", |pod| pod["runtime"]["ports"].as_array().is_some_and(|ports| ports.len() == 2))
            .await
    }

    /// The statuses that a pod had.
    pub async fn statuses(&self, id: &str) -> Vec<String> {
        let all = self.control("GET", "history", Value::Null).await;
        let life = all.as_array().unwrap().iter().find(|life| life["id"] == id).unwrap();
        let steps = life["history"].as_array().unwrap();
        steps.iter().map(|step| step["status"].as_str().unwrap().to_owned()).collect()
    }

    /// A pod's entry in the ledger.
    pub async fn entry(&self, id: &str) -> Value {
        let ledger = self.control("GET", "ledger", Value::Null).await;
        ledger["pods"].as_array().unwrap().iter().find(|entry| entry["id"] == id).unwrap().clone()
    }
}

impl Answer {
    /// Whatever the answer is, it is as the schema has it.
    #[track_caller]
    fn check(&self, method: &str, path: &str) {
        let kind = self.header("content-type");
        if kind == "text/event-stream" {
            return;
        }
        if self.status == 204 {
            assert_eq!(self.body, Value::Null, "{method} {path}");
        } else {
            let definition = definition(method, &routes::shape(path), self.status);
            assert_eq!(
                schema::check(definition, &self.body),
                Vec::<String>::new(),
                "{method} {path}: {self:?}"
            );
            let expected = if self.status >= 400 { "application/problem+json" } else { "application/json" };
            assert_eq!(kind, expected, "{method} {path}");
        }
        let is_told = !self.header("ratelimit").is_empty() && !self.header("ratelimit-policy").is_empty();
        // Nobody is told before they are known.
        assert_eq!(is_told, ![401, 413, 502].contains(&self.status), "{method} {path}: {self:?}");
    }
}
