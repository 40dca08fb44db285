//! A small API server on a loopback socket, a gateway before it, and guests that speak TLS and HTTP to that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::Body as AxumBody;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::gateway::session::lock;
use crate::gateway::{Gateway, Guest, Session, Settings};
use crate::informer::PodInformer;
use crate::keys::Keys;

/// What reached the API server.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub method: Method,
    pub uri: String,
    pub headers: HeaderMap,
    pub body: Value,
}

/// The API server: answers by method and path, and remembers.
#[derive(Clone, Default)]
pub(super) struct Api(Arc<Mutex<ApiState>>);

#[derive(Default)]
struct ApiState {
    answers: HashMap<String, (u16, String)>,
    once: HashMap<String, (u16, String)>,
    streams: HashMap<String, Vec<String>>,
    seen: Vec<Seen>,
}

/// Everything together. Tasks end with it.
pub(super) struct World {
    pub api: Api,
    pub gateway: Arc<Gateway>,
    pub pods: Arc<PodInformer>,
    ca: String,
    tasks: Mutex<JoinSet<()>>,
}

/// One connection of a guest.
pub(super) enum Client {
    Http1(tokio::sync::Mutex<hyper::client::conn::http1::SendRequest<Full<Bytes>>>, String),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>, String),
}

/// An open watch.
pub(super) struct Watch {
    body: Incoming,
    rest: Vec<u8>,
}

pub(super) const NODE: &str = "burst";

impl Api {
    pub(super) fn answer(&self, line: &str, status: u16, body: &Value) {
        lock(&self.0).answers.insert(line.to_owned(), (status, body.to_string()));
    }

    /// What the next request of that line is answered, before what [`Api::answer`] says.
    pub(super) fn answer_once(&self, line: &str, status: u16, body: &Value) {
        lock(&self.0).once.insert(line.to_owned(), (status, body.to_string()));
    }

    pub(super) fn answer_text(&self, line: &str, status: u16, body: &str) {
        lock(&self.0).answers.insert(line.to_owned(), (status, body.to_owned()));
    }

    /// Lines of a watch of that path, which then stays open.
    pub(super) fn stream(&self, path: &str, lines: &[Value]) {
        lock(&self.0).streams.insert(path.to_owned(), lines.iter().map(|line| format!("{line}\n")).collect());
    }

    /// What reached it from guests: all but the gateway's own watches.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let own = |seen: &&Seen| seen.headers.get("user-agent").is_some_and(|agent| agent == "orca-gateway");
        lock(&self.0).seen.iter().filter(own).cloned().collect()
    }

    pub(super) fn pod_is_live(&self, pod: &Value) {
        self.answer("GET /api/v1/namespaces/ns/pods/web", 200, pod);
    }

    pub(super) fn pod_is_absent(&self) {
        let body = json!({
            "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404,
            "details": { "kind": "pods", "name": "web" },
        });
        self.answer("GET /api/v1/namespaces/ns/pods/web", 404, &body);
    }
}

async fn api(State(api): State<Api>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let mut state = lock(&api.0);
    state.seen.push(Seen {
        method: parts.method.clone(),
        uri: parts.uri.to_string(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let json = |status: u16, body: String| {
        let response = Response::builder().status(status).header("content-type", "application/json");
        response.header("set-cookie", "a=b").body(AxumBody::from(body)).unwrap()
    };
    if query.contains("watch=") {
        let lines = state.streams.get(parts.uri.path()).cloned().unwrap_or_default();
        let lines = futures::stream::iter(lines.into_iter().map(Ok::<_, std::io::Error>));
        let open = futures::StreamExt::chain(lines, futures::stream::pending());
        return Response::new(AxumBody::from_stream(open));
    }
    let line = format!("{} {}", parts.method, parts.uri.path());
    match state.once.remove(&line).or_else(|| state.answers.get(&line).cloned()) {
        Some((status, body)) => json(status, body),
        None => json(500, json!({ "kind": "Status", "message": "nothing set up for this" }).to_string()),
    }
}

/// The guest's pod.
pub(super) fn pod(uid: &str, version: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "namespace": "ns", "uid": uid, "resourceVersion": version },
        "spec": {
            "nodeName": NODE,
            "serviceAccountName": "robot",
            "containers": [{
                "name": "c", "image": "x",
                "resources": { "limits": { "nvidia.com/gpu": "1" } },
                "envFrom": [{ "secretRef": { "name": "mine" } }],
            }],
            "volumes": [{ "name": "t", "projected": { "sources": [
                { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
                { "configMap": { "name": "kube-root-ca.crt" } },
            ] } }],
        },
        "status": { "phase": "Pending" },
    })
}

pub(super) fn typed(pod: &Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(pod.clone()).unwrap())
}

pub(super) fn guest(uid: &str, instance: &str) -> Guest {
    let quantity = |text: &str| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned());
    Guest {
        pod_uid: uid.to_owned(),
        pod_namespace: "ns".to_owned(),
        pod_name: "web".to_owned(),
        instance_id: instance.to_owned(),
        private_ip: "10.0.0.5".parse().unwrap(),
        pod_ip: "10.0.0.6".parse().unwrap(),
        capacity: [("cpu".to_owned(), quantity("4")), ("pods".to_owned(), quantity("10"))].into(),
    }
}

fn keys() -> Keys {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let cert = params.self_signed(&key).unwrap().pem();
    Keys {
        ssh_private: String::new(),
        ssh_public: String::new(),
        serving_ca_cert: cert.clone(),
        serving_ca_key: key.serialize_pem(),
        client_ca_cert: cert,
        client_ca_key: String::new(),
        token_key: [7; 32],
    }
}

impl World {
    pub(super) async fn new() -> Self {
        let state = Api::default();
        let list = |kind: &str, items: Value| json!({ "kind": kind, "apiVersion": "v1", "metadata": { "resourceVersion": "50" }, "items": items });
        let node = json!({ "metadata": { "name": NODE, "uid": "n-1", "labels": { "zone": "a" }, "resourceVersion": "50" } });
        let service = |namespace: &str, name: &str| json!({ "metadata": { "name": name, "namespace": namespace }, "spec": { "clusterIP": "10.96.0.1" } });
        state.answer("GET /api/v1/nodes", 200, &list("NodeList", json!([node])));
        let services = json!([service("default", "kubernetes"), service("ns", "db"), service("other", "x")]);
        state.answer("GET /api/v1/services", 200, &list("ServiceList", services));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(api).with_state(state.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });

        let keys = keys();
        let ca = keys.serving_ca_cert.clone();
        let pods = PodInformer::new();
        let gateway = Gateway::new(Settings {
            node: NODE.to_owned(),
            kube: kube::Config::new(format!("http://{address}").parse().unwrap()),
            pods: pods.clone(),
            keys,
            gpu_resource: "nvidia.com/gpu".to_owned(),
            fence: crate::leader::Fence::open(),
        })
        .unwrap();
        Self { api: state, gateway, pods, ca, tasks: Mutex::new(tasks) }
    }

    /// A world in which the pod is known.
    pub(super) async fn with_pod(version: &str) -> (Self, Arc<Session>) {
        let world = Self::new().await;
        world.pods.replace(HashMap::new());
        world.pods.apply(&typed(&pod("6a1", version)));
        world.api.pod_is_live(&pod("6a1", version));
        let session = world.gateway.admit(guest("6a1", "i-1"));
        (world, session)
    }

    /// A TLS connection through that session's tunnel.
    pub(super) async fn dial(&self, session: &Arc<Session>, token: &str, alpn: &str) -> Client {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        lock(&self.tasks).spawn(self.gateway.clone().serve(session.clone(), Box::new(theirs)));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, ours).await.unwrap();
        let token = token.to_owned();
        if alpn == "h2" {
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            lock(&self.tasks).spawn(async { drop(connection.await) });
            Client::Http2(sender, token)
        } else {
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            lock(&self.tasks).spawn(async { drop(connection.await) });
            Client::Http1(tokio::sync::Mutex::new(sender), token)
        }
    }

    /// A connection as a kubelet makes it.
    pub(super) async fn client(&self, session: &Arc<Session>) -> Client {
        self.dial(session, &session.token(), "h2").await
    }
}

impl Client {
    pub(super) async fn send(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<http::Response<Incoming>, hyper::Error> {
        let (method, uri) = line.split_once(' ').unwrap();
        let (Self::Http1(_, token) | Self::Http2(_, token)) = self;
        let mut request = http::Request::builder()
            .method(method)
            .uri(match self {
                Self::Http1(..) => uri.to_owned(),
                Self::Http2(..) => format!("https://127.0.0.1{uri}"),
            })
            .header("accept", "application/vnd.kubernetes.protobuf,application/json")
            .header("authorization", format!("Bearer {token}"));
        let media_type = match method {
            "PATCH" => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", media_type);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        match self {
            Self::Http1(sender, _) => sender.lock().await.send_request(request).await,
            Self::Http2(sender, _) => sender.clone().send_request(request).await,
        }
    }

    /// One request, its whole answer.
    pub(super) async fn ask(&self, line: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let response = self.send(line, &[], &body).await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(!response.headers().contains_key("set-cookie"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(super) async fn get(&self, uri: &str) -> (u16, Value) {
        self.ask(&format!("GET {uri}"), &Value::Null).await
    }

    pub(super) async fn status(&self, line: &str, body: &Value) -> u16 {
        self.ask(line, body).await.0
    }

    pub(super) async fn watch(&self, uri: &str) -> Watch {
        let response = self.send(&format!("GET {uri}"), &[], &[]).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Watch { body: response.into_body(), rest: Vec::new() }
    }
}

impl Watch {
    /// The next event; none when the stream has ended.
    pub(super) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(20), self.body.frame());
            match frame.await.expect("an event or the end within 20 s")? {
                Ok(frame) => self.rest.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_broken) => return None,
            }
        }
    }

    /// Type and version of the next event.
    pub(super) async fn told(&mut self) -> Option<String> {
        let event = self.next().await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(format!("{}@{}", text(&event["type"]), text(&event["object"]["metadata"]["resourceVersion"])))
    }

    /// Whether nothing comes for a moment.
    pub(super) async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(300), self.next()).await.is_err()
    }
}
