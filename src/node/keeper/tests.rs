//! The whole of `node::run` against a small API server, with a clock that runs as fast as it is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::link::{Prober, Reach};
use crate::node::testing::{merge, settings};
use crate::node::{CloudHealth, Deps, run};

/// One node, one lease, and what was asked.
#[derive(Default)]
struct Server {
    node: Option<Value>,
    lease: Option<Value>,
    version: u64,
    events: Vec<Value>,
    log: Vec<String>,
    nodes_hang: bool,
    drops_features: bool,
}

type Shared = Arc<Mutex<Server>>;

struct World {
    server: Shared,
    cloud: watch::Sender<CloudHealth>,
    machines: watch::Sender<Reach>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl World {
    fn start(server: Server) -> Self {
        let server = Arc::new(Mutex::new(server));
        let router = Router::new()
            .route("/api/v1/nodes", post(create_node))
            .route("/api/v1/nodes/{name}", any(node))
            .route("/api/v1/nodes/{name}/status", any(node))
            .route("/api/v1/namespaces/default/events", post(event))
            .route("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", post(create_lease))
            .route("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}", any(lease))
            .with_state(Arc::clone(&server));
        let service = router.map_request(|request: http::Request<Body>| request.map(axum::body::Body::new));
        let (cloud, seen) = watch::channel(CloudHealth::Unknown);
        let (machines, reach) = watch::channel(Reach::Off);
        let deps = Deps {
            metrics: crate::node::Metrics::default(),
            client: Client::new(service, "default"),
            settings: settings(""),
            cloud: seen,
            logs: watch::channel(crate::logs::archiver::Health::Off).1,
            machines: reach,
            features: Arc::new(|| ["Apple".to_owned()].into()),
            ceilings: Arc::new(BTreeMap::new),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(run(deps));
        Self { server, cloud, machines, tasks }
    }

    /// Waits in (paused) time until something holds.
    async fn until(&self, what: &str, holds: impl Fn(&Server) -> bool) {
        let wait = async {
            while !holds(&self.server.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(600), wait)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
    }

    fn count(&self, of: &str) -> usize {
        self.server.lock().unwrap().log.iter().filter(|line| line.starts_with(of)).count()
    }
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason,
        "reason": reason, "code": status.as_u16()});
    (status, Json(body)).into_response()
}

fn stamp(server: &mut Server, object: &mut Value) {
    server.version += 1;
    object["metadata"]["resourceVersion"] = json!(server.version.to_string());
}

async fn hang_if_told(server: &Shared) {
    if server.lock().unwrap().nodes_hang {
        std::future::pending::<()>().await;
    }
}

async fn create_node(State(server): State<Shared>, Json(mut node): Json<Value>) -> Response {
    hang_if_told(&server).await;
    let mut server = server.lock().unwrap();
    server.log.push("POST node".into());
    if server.node.is_some() {
        return refuse(StatusCode::CONFLICT, "AlreadyExists");
    }
    stamp(&mut server, &mut node);
    node["metadata"]["uid"] = json!(format!("uid-{}", server.version));
    if server.drops_features {
        node["status"]["declaredFeatures"] = Value::Null;
    }
    server.node = Some(node.clone());
    Json(node).into_response()
}

async fn node(State(server): State<Shared>, method: Method, body: String) -> Response {
    hang_if_told(&server).await;
    let mut server = server.lock().unwrap();
    server.log.push(format!("{method} node"));
    let Some(mut node) = server.node.clone() else { return refuse(StatusCode::NOT_FOUND, "NotFound") };
    if method == Method::PATCH {
        let patch: Value = serde_json::from_str(&body).unwrap();
        let version = &patch["metadata"]["resourceVersion"];
        if !version.is_null() && *version != node["metadata"]["resourceVersion"] {
            return refuse(StatusCode::CONFLICT, "Conflict");
        }
        merge(&mut node, &patch);
        if server.drops_features {
            node["status"]["declaredFeatures"] = Value::Null;
        }
        stamp(&mut server, &mut node);
        server.node = Some(node.clone());
    }
    Json(node).into_response()
}

async fn event(State(server): State<Shared>, Json(event): Json<Value>) -> Response {
    server.lock().unwrap().events.push(event.clone());
    Json(event).into_response()
}

async fn create_lease(State(server): State<Shared>, Json(mut lease): Json<Value>) -> Response {
    let mut server = server.lock().unwrap();
    server.log.push("POST lease".into());
    stamp(&mut server, &mut lease);
    server.lease = Some(lease.clone());
    Json(lease).into_response()
}

async fn lease(
    State(server): State<Shared>,
    Path(_name): Path<String>,
    method: Method,
    body: String,
) -> Response {
    let mut server = server.lock().unwrap();
    server.log.push(format!("{method} lease"));
    let Some(lease) = server.lease.clone() else { return refuse(StatusCode::NOT_FOUND, "NotFound") };
    if method != Method::PUT {
        return Json(lease).into_response();
    }
    let mut update: Value = serde_json::from_str(&body).unwrap();
    if update["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
        return refuse(StatusCode::CONFLICT, "Conflict");
    }
    stamp(&mut server, &mut update);
    server.lease = Some(update.clone());
    Json(update).into_response()
}

fn condition(node: &Value, type_: &str) -> Value {
    let conditions = node["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == type_).unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_is_written_once_and_then_only_reported_every_five_minutes() {
    let world = World::start(Server::default());
    world.until("the node is there", |server| server.node.is_some()).await;
    tokio::time::sleep(Duration::from_secs(280)).await;
    assert_eq!((world.count("POST node"), world.count("PATCH node")), (1, 0));
    world.until("a report", |server| server.log.iter().any(|line| line == "PATCH node")).await;
    tokio::time::sleep(Duration::from_secs(280)).await;
    assert_eq!(world.count("PATCH node"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_node_is_registered_again() {
    let world = World::start(Server::default());
    world.until("the node is there", |server| server.node.is_some()).await;
    world.server.lock().unwrap().node = None;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(world.server.lock().unwrap().node.is_some());
}

#[tokio::test(start_paused = true)]
async fn features_that_the_api_server_does_not_keep_are_not_sent_for_ever() {
    let world = World::start(Server { drops_features: true, ..Server::default() });
    world.until("the node is there", |server| server.node.is_some()).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(world.count("PATCH node"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_every_ten_seconds_though_nothing_else_answers() {
    let world = World::start(Server { nodes_hang: true, ..Server::default() });
    tokio::time::sleep(Duration::from_secs(101)).await;
    assert_eq!((world.count("POST lease"), world.count("PUT lease")), (1, 10));
    let lease = world.server.lock().unwrap().lease.clone().unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "orca");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_owned_by_the_node_and_survives_a_conflict() {
    let world = World::start(Server::default());
    world
        .until("an owner", |server| {
            server.lease.as_ref().is_some_and(|lease| {
                lease["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
                    || lease["metadata"]["ownerReferences"][0]["uid"] == "uid-2"
            })
        })
        .await;
    let before = {
        let mut server = world.server.lock().unwrap();
        let lease = server.lease.as_mut().unwrap();
        lease["metadata"]["resourceVersion"] = json!("9000");
        lease["spec"]["renewTime"].clone()
    };
    tokio::time::sleep(Duration::from_secs(11)).await;
    let after = world.server.lock().unwrap().lease.clone().unwrap();
    assert_ne!(after["spec"]["renewTime"], before);
    assert!(world.count("GET lease") >= 2, "read again after the conflict");
}

#[tokio::test(start_paused = true)]
async fn a_lost_cloud_is_told_at_once_and_the_node_stays_ready() {
    let world = World::start(Server::default());
    world.until("the node is there", |server| server.node.is_some()).await;
    let trouble = CloudHealth::Unreachable { reason: "AccessDenied", message: "no credentials".into() };
    world.cloud.send_replace(trouble);
    world.until("an event", |server| server.events.len() == 1).await;
    {
        let server = world.server.lock().unwrap();
        let node = server.node.as_ref().unwrap();
        assert_eq!(condition(node, "CloudReachable")["status"], "False");
        assert_eq!(condition(node, "Ready")["status"], "True");
        assert_eq!(server.events[0]["reason"], "CloudUnreachable");
        assert_eq!(server.events[0]["message"], "AccessDenied: no credentials");
    }
    world.cloud.send_replace(CloudHealth::Reachable);
    world.until("a second event", |server| server.events.len() == 2).await;
    assert_eq!(world.server.lock().unwrap().events[1]["reason"], "CloudReachable");
}

#[tokio::test(start_paused = true)]
async fn machines_that_cannot_be_reached_are_told_of_once_and_the_node_stays_ready() {
    let world = World::start(Server::default());
    world.until("the node is there", |server| server.node.is_some()).await;
    for machine in ["i-1", "i-2"] {
        let message = format!("access denied: {machine}");
        world.machines.send_replace(Reach::Fails { reason: "AccessDenied", message, probe: Prober::Links });
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    {
        let server = world.server.lock().unwrap();
        let node = server.node.as_ref().unwrap();
        assert_eq!(condition(node, "MachinesReachable")["status"], "False");
        assert_eq!(condition(node, "Ready")["status"], "True");
        assert_eq!(server.events.len(), 1, "{:?}", server.events);
        assert_eq!(server.events[0]["reason"], "MachinesUnreachable");
    }
    world.machines.send_replace(Reach::Works);
    world.until("a second event", |server| server.events.len() == 2).await;
    assert_eq!(world.server.lock().unwrap().events[1]["reason"], "MachinesReachable");
}

#[tokio::test(start_paused = true)]
async fn a_node_of_something_else_ends_the_process_and_is_left_alone() {
    let real = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "orca", "resourceVersion": "1"},
        "spec": {"providerID": "aws:///us-east-1a/i-0001"}});
    let mut world = World::start(Server { node: Some(real.clone()), ..Server::default() });
    let error = world.tasks.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("is not ORCA's"), "{error}");
    assert_eq!(world.server.lock().unwrap().node, Some(real));
}
