//! Candidates before a small API server that has one Lease, in real time: an election's clock cannot be paused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;

const SETTINGS: LeaderElection = LeaderElection {
    lease_duration: Duration::from_secs(2),
    renew_deadline: Duration::from_secs(1),
    retry_period: Duration::from_millis(100),
};
const LONG: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Server {
    /// Its Lease, and how often it was written.
    lease: Mutex<(Option<Value>, u64)>,
    changed: watch::Sender<u64>,
    is_away: AtomicBool,
}

impl Server {
    fn client(self: &Arc<Self>) -> Client {
        let all = "/apis/coordination.k8s.io/v1/namespaces/orca-system/leases";
        let router = Router::new()
            .route(all, get(watch_all).post(create))
            .route(&format!("{all}/orca"), get(read).put(replace))
            .with_state(self.clone());
        Client::new(router, "default")
    }

    fn write(&self, mut lease: Value) -> Value {
        let mut held = self.lease.lock().unwrap();
        held.1 += 1;
        lease["metadata"]["resourceVersion"] = json!(held.1.to_string());
        held.0 = Some(lease.clone());
        self.changed.send_replace(held.1);
        lease
    }

    fn holder(&self) -> String {
        let held = self.lease.lock().unwrap();
        held.0
            .as_ref()
            .map_or_else(String::new, |lease| lease["spec"]["holderIdentity"].as_str().unwrap().to_owned())
    }

    fn stand(self: &Arc<Self>, identity: &str) -> (Election, Fence) {
        let fence = Fence::closed();
        let candidate = Candidate {
            identity: identity.to_owned(),
            namespace: "orca-system".to_owned(),
            name: "orca".to_owned(),
            settings: SETTINGS,
            metrics: Metrics::new(&fence),
            fence: fence.clone(),
        };
        (Election::start(self.client(), candidate), fence)
    }
}

fn refuse(code: StatusCode) -> Response {
    let reason = match code {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        _ => "ServiceUnavailable",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": "", "code": code.as_u16(),
    });
    (code, axum::Json(status)).into_response()
}

async fn read(State(server): State<Arc<Server>>) -> Response {
    if server.is_away.load(Ordering::SeqCst) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE);
    }
    let lease = server.lease.lock().unwrap().0.clone();
    lease.map_or_else(|| refuse(StatusCode::NOT_FOUND), |lease| axum::Json(lease).into_response())
}

async fn create(State(server): State<Arc<Server>>, axum::Json(lease): axum::Json<Value>) -> Response {
    if server.lease.lock().unwrap().0.is_some() {
        return refuse(StatusCode::CONFLICT);
    }
    axum::Json(server.write(lease)).into_response()
}

async fn replace(State(server): State<Arc<Server>>, axum::Json(lease): axum::Json<Value>) -> Response {
    if server.is_away.load(Ordering::SeqCst) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE);
    }
    let version = server.lease.lock().unwrap().1.to_string();
    if lease["metadata"]["resourceVersion"] != version {
        return refuse(StatusCode::CONFLICT);
    }
    axum::Json(server.write(lease)).into_response()
}

async fn watch_all(
    State(server): State<Arc<Server>>,
    Query(query): Query<std::collections::HashMap<String, String>>,
) -> Response {
    assert_eq!(query["fieldSelector"], "metadata.name=orca");
    let from: u64 = query["resourceVersion"].parse().unwrap();
    let changes = futures::stream::unfold((server, from), |(server, from)| async move {
        let mut changed = server.changed.subscribe();
        changed.wait_for(|version| *version > from).await.ok()?;
        let (lease, version) = server.lease.lock().unwrap().clone();
        let event = json!({"type": "MODIFIED", "object": lease});
        Some((Ok::<_, std::convert::Infallible>(format!("{event}\n")), (server, version)))
    });
    Body::from_stream(changes).into_response()
}

async fn leads(election: &Election) -> Duration {
    let began = Instant::now();
    let mut role = election.role();
    let leads = role.wait_for(|role| matches!(role, Role::Leads { .. }));
    drop(timeout(LONG, leads).await.expect("in time").expect("its task lives"));
    began.elapsed()
}

#[tokio::test]
async fn the_first_leads_and_when_it_resigns_the_other_does_at_once() {
    let server = Arc::new(Server::default());
    let (first, first_fence) = server.stand("first");
    leads(&first).await;
    assert!(first_fence.is_open() && server.holder() == "first");
    let (second, second_fence) = server.stand("second");
    let mut role = second.role();
    let follows = Role::Follows { holder: Some("first".to_owned()) };
    drop(timeout(LONG, role.wait_for(|role| *role == follows)).await.unwrap().unwrap());
    // Longer than the Lease: it is renewed, and the other waits.
    sleep(SETTINGS.lease_duration + Duration::from_millis(500)).await;
    assert!(first_fence.is_open() && !second_fence.is_open());
    first.resign(LONG).await.unwrap();
    assert!(!first_fence.is_open());
    assert!(leads(&second).await < Duration::from_secs(1));
    assert_eq!(*role.borrow(), Role::Leads { before: None });
    assert!(second_fence.is_open() && server.holder() == "second");
}

#[tokio::test]
async fn a_leader_that_dies_is_followed_when_its_lease_has_run_out_and_not_before() {
    let server = Arc::new(Server::default());
    let (first, first_fence) = server.stand("first");
    leads(&first).await;
    let (second, _) = server.stand("second");
    let mut role = second.role();
    drop(
        timeout(LONG, role.wait_for(|role| *role == Role::Follows { holder: Some("first".to_owned()) }))
            .await,
    );
    drop(first);
    let took = leads(&second).await;
    assert!(!first_fence.is_open(), "the fence of the dead closed by itself");
    assert!(took > SETTINGS.renew_deadline && took < SETTINGS.lease_duration * 2, "{took:?}");
}

#[tokio::test]
async fn a_restarted_process_of_the_same_name_waits_for_nobody_and_a_survivor_of_that_name_ends() {
    let server = Arc::new(Server::default());
    let (first, first_fence) = server.stand("pod");
    leads(&first).await;
    let (again, _) = server.stand("pod");
    assert!(leads(&again).await < Duration::from_secs(1));
    let mut role = first.role();
    let lost = Role::Lost(Lost::Taken("pod".to_owned()));
    drop(timeout(LONG, role.wait_for(|role| *role == lost)).await.unwrap().unwrap());
    assert!(!first_fence.is_open());
}

#[tokio::test]
async fn a_leader_without_an_api_server_stops_before_its_lease_has_run_out() {
    let server = Arc::new(Server::default());
    let (first, fence) = server.stand("first");
    leads(&first).await;
    let began = Instant::now();
    server.is_away.store(true, Ordering::SeqCst);
    let mut role = first.role();
    let lost = Role::Lost(Lost::Expired(SETTINGS.renew_deadline));
    drop(timeout(LONG, role.wait_for(|role| *role == lost)).await.unwrap().unwrap());
    assert!(!fence.is_open());
    assert!(began.elapsed() < SETTINGS.lease_duration, "{:?}", began.elapsed());
}
