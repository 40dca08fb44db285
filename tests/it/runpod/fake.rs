//! A loopback server that speaks as much of RunPod's API v2 as ORCA does, strictly, with faults that a test tells it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use orca::cloud::runpod::{
    ApiKey, Client, CloudTier, Hardware, KeySource, Metrics, Order, RunPodCloud, Thrift,
};
use orca::cloud::{LaunchSpec, TAG_EPOCH, TAG_POD_NAME, TAG_POD_NAMESPACE, TAG_POD_UID};
use orca::telemetry::CloudCalls;
use serde_json::{Value, json};
use tokio::task::JoinSet;

pub(crate) const KEY: &str = "rpa_0123456789ABCDEF";
pub(crate) const CLUSTER: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
pub(crate) const NODE: &str = "burst";

/// The server; it ends when this is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<World>>,
    _server: JoinSet<()>,
}

/// What is there, and what is to go wrong.
pub(crate) struct World {
    pub(crate) key: String,
    pub(crate) pods: BTreeMap<String, Value>,
    /// Ids that lists do not show yet, with how many lists that goes on for.
    pub(crate) unlisted: BTreeMap<String, u32>,
    pub(crate) page: usize,
    pub(crate) faults: VecDeque<(&'static str, Fault)>,
    /// For the log of any pod: one connection after the other.
    pub(crate) logs: VecDeque<Vec<Piece>>,
    pub(crate) balance: Value,
    pub(crate) asked: Vec<Asked>,
    /// Put on every answer.
    pub(crate) headers: Vec<(&'static str, String)>,
    created: u32,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Such as `GET /v2/pods`, as it was encoded.
    pub(crate) what: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is not done, and answered so.
    Problem(u16, &'static str),
    /// It is refused for its rate, with so many seconds to wait.
    Slow(u64),
    /// It is done, and the connection closed without an answer.
    Lost,
    /// It is done, and the answer breaks off.
    Cut,
    /// It is done, and answered with this instead.
    Answer(&'static str),
}

/// A part of a stream.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Text(&'static str),
    /// The connection breaks.
    Break,
    /// Nothing more comes, and the connection stays.
    Hang,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(World {
            key: KEY.to_owned(),
            pods: BTreeMap::new(),
            unlisted: BTreeMap::new(),
            page: usize::MAX,
            faults: VecDeque::new(),
            logs: VecDeque::new(),
            balance: json!({"clientBalance": 100.0, "currentSpendPerHr": 1.0, "spendLimit": 80}),
            asked: Vec::new(),
            headers: Vec::new(),
            created: 0,
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, state.clone()));
        Self { address, state, _server: server }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.state.lock().unwrap()
    }

    /// The next requests of this kind, such as `POST /v2/pods`, go wrong so.
    pub(crate) fn fail(&self, what: &'static str, faults: &[Fault]) {
        self.world().faults.extend(faults.iter().map(|fault| (what, fault.clone())));
    }

    /// What was asked since it was asked for last, without queries.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.world().asked);
        asked.into_iter().map(|one| one.what.split('?').next().unwrap().to_owned()).collect()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/v2", self.address)
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(KeySource::Given(ApiKey::new(KEY).unwrap()))
    }

    pub(crate) fn client_with(&self, key: KeySource) -> Client {
        Client::new(&self.endpoint(), key, CloudCalls::default())
    }

    pub(crate) fn cloud(&self) -> RunPodCloud {
        cloud_of(self.client())
    }
}

pub(crate) fn cloud_of(client: Client) -> RunPodCloud {
    let thrift = Thrift { min_runway: Duration::from_secs(3600), spend_limit: None };
    RunPodCloud::new(client, CLUSTER, NODE, thrift, None, Metrics::default())
}

/// A launch for the pod `uid`.
pub(crate) fn spec(token: &str) -> LaunchSpec {
    let tags = [
        (TAG_POD_UID, "7f00aa11-bb22-cc33-dd44-ee55ff667788"),
        (TAG_POD_NAMESPACE, "ml"),
        (TAG_POD_NAME, "train"),
        (TAG_EPOCH, "3"),
    ];
    LaunchSpec {
        token: token.to_owned(),
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        runpod: Some(Box::new(order())),
        ..LaunchSpec::default()
    }
}

pub(crate) fn order() -> Order {
    Order {
        name: String::new(),
        image: "busybox:1.37".to_owned(),
        entrypoint: Vec::new(),
        command: vec!["sleep".to_owned(), "60".to_owned()],
        env: [("PASSWORD".to_owned(), "correct-horse".to_owned())].into(),
        hardware: Hardware::Gpu {
            id: "NVIDIA L4".to_owned(),
            count: 1,
            min_memory_per_gpu_gb: Some(32),
            min_vcpus_per_gpu: None,
            min_cuda: None,
        },
        cloud: CloudTier::Secure,
        data_center_ids: Vec::new(),
        disk_gb: 20,
        ports: Vec::new(),
        registry_id: None,
        network_volume: None,
    }
}

async fn serve(listener: tokio::net::TcpListener, state: Arc<Mutex<World>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(state.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new();
            // Clients come and go, and some are cut off on purpose.
            drop(connection.serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// An error closes the connection.
async fn answer(
    state: Arc<Mutex<World>>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let what = format!("{} {}", parts.method, parts.uri);
    let plain = format!("{} {}", parts.method, parts.uri.path());
    let mut world = state.lock().unwrap();
    world.asked.push(Asked { what, headers: parts.headers.clone(), body: body.clone() });
    let at = world.faults.iter().position(|(of, _)| *of == plain);
    let fault = at.and_then(|at| world.faults.remove(at)).map(|(_, fault)| fault);
    let made = match &fault {
        Some(Fault::Problem(status, detail)) => problem(*status, detail),
        Some(Fault::Slow(seconds)) => {
            let mut refused = problem(429, "rate limit exceeded for the minute window");
            refused.headers_mut().insert(header::RETRY_AFTER, (*seconds).into());
            refused
        }
        Some(Fault::Lost | Fault::Cut | Fault::Answer(_)) | None => {
            world.act(&parts.method, parts.uri.path(), parts.uri.query(), &parts.headers, &body)
        }
    };
    let mut made = match fault {
        Some(Fault::Lost) => return Err(std::io::Error::other("lost")),
        Some(Fault::Answer(text)) => Response::new(Body::from(text)),
        Some(Fault::Cut) => {
            let head = Bytes::from_static(b"{\"id\": \"abc\", \"na");
            // What was written leaves while the next piece is waited for.
            let broken = futures::stream::iter([Ok(head), Err(std::io::Error::other("cut"))]).then(later);
            Response::builder().status(made.status()).body(Body::from_stream(broken)).unwrap()
        }
        Some(Fault::Problem(..) | Fault::Slow(_)) | None => made,
    };
    for (name, value) in &world.headers {
        made.headers_mut().insert(*name, value.parse().unwrap());
    }
    Ok(made)
}

impl World {
    fn act(
        &mut self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
        body: &Value,
    ) -> Response<Body> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if bearer != Some(&format!("Bearer {}", self.key)) {
            return problem(401, &format!("bad bearer token {}", bearer.unwrap_or_default()));
        }
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method.as_str(), &segments[..]) {
            ("POST", ["graphql"]) => json_of(200, &json!({"data": {"myself": self.balance}})),
            ("POST", ["v2", "pods"]) => self.create(body),
            ("GET", ["v2", "pods"]) => self.list(query.unwrap_or_default()),
            ("GET", ["v2", "pods", id]) => match self.pods.get(*id) {
                Some(pod) => json_of(200, pod),
                None => problem(404, "pod not found"),
            },
            ("DELETE", ["v2", "pods", id]) => match self.pods.remove(*id) {
                Some(_) => Response::builder().status(StatusCode::NO_CONTENT).body(Body::empty()).unwrap(),
                None => problem(404, "pod not found to terminate"),
            },
            ("GET", ["v2", "pods", id, "logs"]) if self.pods.contains_key(*id) => self.log(),
            ("GET", ["v2", "catalog", "gpus", "AMD%2FMI300X%20OAM"]) => {
                json_of(200, &json!({"id": "AMD/MI300X OAM", "memory": 192, "availability": "LOW"}))
            }
            _ => problem(404, "resource not found"),
        }
    }

    /// What the schema of August 2026 has, and nothing else.
    fn create(&mut self, body: &Value) -> Response<Body> {
        const FIELDS: [&str; 13] = [
            "name",
            "image",
            "args",
            "cloud",
            "gpu",
            "cpu",
            "dataCenterIds",
            "disk",
            "env",
            "ports",
            "registry",
            "mounts",
            "globalNetworking",
        ];
        const OF_GPU: [&str; 4] = ["id", "count", "allowedCudaVersions", "minCudaVersion"];
        let unknown = |value: &Value, known: &[&str]| {
            let keys = value.as_object().into_iter().flat_map(|object| object.keys());
            keys.filter(|key| !known.contains(&key.as_str())).map(ToString::to_string).collect::<Vec<_>>()
        };
        let gpu = body.get("gpu").cloned().unwrap_or_default();
        let odd = [unknown(body, &FIELDS), unknown(&gpu, &OF_GPU)].concat();
        if !odd.is_empty() {
            return problem(422, &format!("additional properties {odd:?} not allowed"));
        }
        if body.get("gpu").is_some() == body.get("cpu").is_some() {
            return problem(400, "exactly one of gpu and cpu is required");
        }
        if body["name"].as_str().is_none_or(str::is_empty) || body["image"].as_str().is_none_or(str::is_empty)
        {
            return problem(422, "name and image are required");
        }
        self.created += 1;
        let id = format!("pod{:04}", self.created);
        let pod = json!({
            "id": id, "name": body["name"], "image": body["image"], "args": body["args"], "env": body["env"],
            "status": "PROVISIONING", "actions": ["terminate"], "disk": body["disk"],
            "gpu": {"id": gpu["id"], "count": gpu["count"], "vcpuCount": 8, "memory": 62.5},
            "cloud": "SECURE", "dataCenterId": "EU-RO-1", "cost": 0.44, "locked": false, "runtime": {},
            "createdAt": format!("2026-11-21T10:00:{:02}Z", self.created), "startedAt": null,
        });
        self.pods.insert(id, pod.clone());
        json_of(201, &pod)
    }

    fn list(&mut self, query: &str) -> Response<Body> {
        for left in self.unlisted.values_mut() {
            *left = left.saturating_sub(1);
        }
        let hidden: Vec<String> = self.unlisted.keys().cloned().collect();
        self.unlisted.retain(|_, left| *left > 0);
        let shown: Vec<&Value> =
            self.pods.iter().filter(|(id, _)| !hidden.contains(id)).map(|(_, pod)| pod).collect();
        let from: usize = query.strip_prefix("cursor=").map_or(0, |cursor| cursor.parse().unwrap());
        let page: Vec<_> = shown.iter().skip(from).take(self.page).collect();
        let next = from.saturating_add(self.page);
        let has_next = next < shown.len();
        let cursor = has_next.then(|| next.to_string());
        json_of(200, &json!({"pods": page, "pagination": {"hasNextPage": has_next, "nextCursor": cursor}}))
    }

    fn log(&mut self) -> Response<Body> {
        let pieces = self.logs.pop_front().unwrap_or_else(|| vec![Piece::Hang]);
        let stream = futures::stream::iter(pieces).then(later).then(|piece| async move {
            match piece {
                Piece::Text(text) => Ok(Bytes::from_static(text.as_bytes())),
                Piece::Break => Err(std::io::Error::other("broken")),
                Piece::Hang => std::future::pending().await,
            }
        });
        let body = Body::from_stream(stream);
        Response::builder().header(header::CONTENT_TYPE, "text/event-stream").body(body).unwrap()
    }
}

async fn later<T>(piece: T) -> T {
    tokio::task::yield_now().await;
    piece
}

fn json_of(status: u16, value: &Value) -> Response<Body> {
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    answer.body(Body::from(value.to_string())).unwrap()
}

fn problem(status: u16, detail: &str) -> Response<Body> {
    json_of(status, &json!({"title": "Problem", "status": status, "detail": detail}))
}
