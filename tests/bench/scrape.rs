//! How long `/metrics/resource` takes for a node of a thousand pods: asked as metrics-server asks, by TLS and with a token,
//! on a connection that stays.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use orca::endpoint::authn::Authenticator;
use orca::endpoint::authz::Authorizer;
use orca::endpoint::{Endpoint, server};
use orca::informer::PodInformer;
use orca::link::{LinkStatus, Links, Machine};
use orca::stats::{Own, Page, Stats};
use orca::telemetry::Telemetry;
use orca::tunnel::{ByteStream, TunnelError};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use crate::gauge::count;
use crate::table::{Table, at};

const PODS: usize = 1000;
const ROUNDS: usize = 50;
/// In milliseconds.
const BAR: f64 = 50.0;
const RESOURCE: &str = include_str!("../../src/stats/tests/resource.txt");
const PAGES: [(Page, &str); 4] = [
    (Page::Resource, RESOURCE),
    (Page::Summary, include_str!("../../src/stats/tests/summary.json")),
    (Page::Cadvisor, include_str!("../../src/stats/tests/cadvisor.txt")),
    (Page::Probes, include_str!("../../src/stats/tests/probes.txt")),
];

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let stats = Arc::new(Stats::new("orca".to_owned(), Arc::new(())));
        let start = Instant::now();
        fill(&stats)?;
        let each = millis(start) / count(PODS);
        table.one("reading the four pages of one machine's kubelet", "ms", each);
        let mut tasks = JoinSet::new();
        let mut client = connect(&mut tasks, stats).await?;
        for (path, lines) in [("/metrics/resource", 11), ("/metrics/cadvisor", 160), ("/stats/summary", 1)] {
            let mut times = Vec::new();
            for _ in 0..ROUNDS.min(5000 / lines) {
                let start = Instant::now();
                let page = get(&mut client, path).await?;
                times.push(millis(start));
                let found = page.iter().filter(|byte| **byte == b'\n').count();
                ensure!(lines == 1 || found > PODS * lines, "{path} has {found} lines");
            }
            let name = format!("scrape of {path} for {PODS} pods, by TLS");
            if path == "/metrics/resource" {
                table.bar(&format!("{name}, p50"), "ms", at(&times, 0.5), BAR);
                table.one(&format!("{name}, p99"), "ms", at(&times, 0.99));
            } else {
                table.one(&format!("{name}, p50"), "ms", at(&times, 0.5));
            }
        }
        Ok(())
    })
}

/// What the machines of a thousand pods with two containers each have said.
fn fill(stats: &Stats) -> Result<()> {
    for n in 0..PODS {
        let (uid, name) = (format!("uid-{n}"), format!("trainer-{n}"));
        let own = Own { uid, namespace: "default".to_owned(), name, instance_id: format!("i-{n:017x}") };
        stats.begin(own.clone());
        for (page, text) in PAGES {
            let text = text
                .replace("pod=\"burn\"", &format!("pod=\"{}\"", own.name))
                .replace("\"name\": \"burn\"", &format!("\"name\": \"{}\"", own.name))
                .replace("ab5650bd-f40b-4b7f-a57c-b54de59f8226", &own.uid);
            stats.put(&own, page, &text)?;
        }
    }
    Ok(())
}

/// The real endpoint, and a connection to it.
async fn connect(tasks: &mut JoinSet<()>, stats: Arc<Stats>) -> Result<SendRequest<Empty<Bytes>>> {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    let reviews = reviews();
    let endpoint = Endpoint {
        pods: PodInformer::new(),
        links: Arc::new(NoMachines),
        metrics: orca::endpoint::Metrics::default(),
        archive: None,
        authenticator: Authenticator::new(reviews.clone()),
        authorizer: Authorizer::new(reviews, "orca".to_owned()),
        stats,
        telemetry: Telemetry::new(|_| {}),
        streams: orca::endpoint::Streams::default(),
    };
    let listener = server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listener.local_addr()?;
    let (keep, tls) = watch::channel(Arc::new(config));
    tasks.spawn(async move {
        server::serve(Arc::new(endpoint), listener, tls).await;
        drop(keep);
    });
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tasks.spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// An API server that knows everybody and allows everything.
fn reviews() -> kube::Client {
    let answer = |status: Value| {
        post(async move |Json(mut review): Json<Value>| {
            review["status"] = status;
            Json(review)
        })
    };
    let router = Router::new()
        .route(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            answer(json!({"authenticated": true, "user": {"username": "metrics-server"}})),
        )
        .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", answer(json!({"allowed": true})));
    let service = tower::ServiceBuilder::new()
        .map_request(|request: Request<kube::client::Body>| request.map(axum::body::Body::new))
        .service(router);
    kube::Client::new(service, "default")
}

async fn get(client: &mut SendRequest<Empty<Bytes>>, path: &str) -> Result<Bytes> {
    client.ready().await?;
    let request = Request::get(path)
        .header("host", "orca")
        .header("authorization", "Bearer token")
        .body(Empty::new())?;
    let answer = client.send_request(request).await?;
    ensure!(answer.status() == StatusCode::OK, "{path}: {}", answer.status());
    Ok(answer.into_body().collect().await.context("reading the page")?.to_bytes())
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// No page of numbers asks a machine.
#[derive(Debug)]
struct NoMachines;

impl NoMachines {
    fn none() -> TunnelError {
        TunnelError::NotYet("there are no machines".to_owned())
    }
}

#[async_trait]
impl Links for NoMachines {
    fn ensure(&self, _machine: Machine) {}
    fn status(&self, _pod_uid: &str) -> Option<LinkStatus> {
        None
    }
    fn revoke(&self, _pod_uid: &str) -> bool {
        false
    }
    fn shut_down(&self, _pod_uid: &str) {}
    fn is_ending(&self, _pod_uid: &str) -> bool {
        false
    }
    fn remove(&self, _pod_uid: &str) {}
    fn uids(&self) -> Vec<String> {
        Vec::new()
    }
    fn pod(&self, _pod_uid: &str) -> Option<(String, String)> {
        None
    }
    fn subscribe(&self) -> broadcast::Receiver<String> {
        broadcast::channel(1).1
    }
    async fn kubelet_stream(&self, _: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        Err(Self::none())
    }
    async fn command(&self, _: &str, _: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        Err(Self::none())
    }
    async fn scrape_stream(&self, _: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        Err(Self::none())
    }
    fn kubelet_tls(&self, _pod_uid: &str) -> Option<Arc<ClientConfig>> {
        None
    }
}
