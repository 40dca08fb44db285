//! The endpoint's certificate by CertificateSigningRequest: asked for, approved by somebody, taken, renewed.
//!
//! The API server is in memory, the clock is paused, and TLS runs over a pipe: no socket, no waiting.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Request, StatusCode};
use orca::endpoint::csr::{Metrics, Requester, Subject};
use orca::endpoint::tls::{Serving, Source};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData, SignatureAlgorithm};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
const HOUR: Duration = Duration::from_secs(3600);

/// Requests by name, in the order they came, and events.
#[derive(Default)]
struct Store {
    requests: Vec<Value>,
    events: Vec<Value>,
    /// Answers everything about requests with 500.
    is_down: bool,
}

type Api = Arc<Mutex<Store>>;

fn lock(api: &Api) -> MutexGuard<'_, Store> {
    api.lock().unwrap()
}

async fn create(State(api): State<Api>, Json(mut request): Json<Value>) -> Response {
    let mut store = lock(&api);
    if store.is_down {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let name = format!("{}{}", request["metadata"]["generateName"].as_str().unwrap(), store.requests.len());
    request["metadata"]["name"] = json!(name);
    store.requests.push(request.clone());
    (StatusCode::CREATED, Json(request)).into_response()
}

async fn read(State(api): State<Api>, Path(name): Path<String>) -> Response {
    let store = lock(&api);
    if store.is_down {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    match store.requests.iter().find(|request| request["metadata"]["name"] == name.as_str()) {
        Some(request) => Json(request).into_response(),
        None => (
            StatusCode::NOT_FOUND,
            Json(json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})),
        )
            .into_response(),
    }
}

async fn event(State(api): State<Api>, Json(event): Json<Value>) -> Response {
    lock(&api).events.push(event.clone());
    (StatusCode::CREATED, Json(event)).into_response()
}

/// The key of a request, to be signed for.
struct Public(Vec<u8>);

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

struct World {
    api: Api,
    authority: CertifiedIssuer<'static, KeyPair>,
    current: watch::Receiver<Arc<ServerConfig>>,
    _tasks: JoinSet<()>,
}

impl World {
    async fn start() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "cluster");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let api = Api::default();
        let client_ca = authority.pem();
        let router = Router::new()
            .route("/apis/certificates.k8s.io/v1/certificatesigningrequests", post(create))
            .route("/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}", get(read))
            .route("/api/v1/namespaces/default/events", post(event))
            .route(
                "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
                get(async move || {
                    Json(json!({"metadata": {"name": "x"}, "data": {"client-ca-file": client_ca}}))
                }),
            )
            .with_state(api.clone());
        let service = tower::ServiceBuilder::new()
            .map_request(|request: Request<kube::client::Body>| request.map(axum::body::Body::new))
            .service(router);
        let client = kube::Client::new(service, "default");
        let requester = Requester {
            node: client.clone(),
            own: client.clone(),
            subject: Subject {
                node: "orca".to_owned(),
                address: ADDRESS,
                signer: "kubernetes.io/kubelet-serving".to_owned(),
            },
            metrics: Metrics::default(),
        };
        let (issued, serving) = watch::channel(None);
        let source = Source::new(client, Serving::Issued(serving), "orca", ADDRESS).unwrap();
        let (sender, current) = watch::channel(source.load().await.unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { requester.run(&issued).await });
        tasks.spawn(async move { source.refresh(&sender).await });
        Self { api, authority, current, _tasks: tasks }
    }

    async fn until(&self, limit: Duration, what: &str, is_so: impl Fn(&Store) -> bool) {
        let step = limit / 2000;
        let waited = tokio::time::timeout(limit, async {
            while !is_so(&lock(&self.api)) {
                tokio::time::sleep(step).await;
            }
        });
        if waited.await.is_err() {
            let store = lock(&self.api);
            panic!("not within {limit:?}: {what}\n{:#?}\n{:#?}", store.requests, store.events);
        }
    }

    async fn until_asked(&self, times: usize) {
        self.until(HOUR, "a request", |store| store.requests.len() == times).await;
    }

    fn reasons(&self) -> Vec<String> {
        lock(&self.api).events.iter().map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
    }

    /// Approves the last request and signs it, for `key` instead of its own if there is one; for ten hours, of which three are over.
    fn sign(&self, key: Option<&KeyPair>) {
        let mut store = lock(&self.api);
        let request = store.requests.last_mut().unwrap();
        let pem = BASE64_STANDARD.decode(request["spec"]["request"].as_str().unwrap()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        let asked = parsed.certification_request_info.subject_pki.subject_public_key.data.to_vec();
        let public = Public(key.map_or(asked, |key| key.der_bytes().to_vec()));
        let mut params = CertificateParams::new(vec![ADDRESS.to_string()]).unwrap();
        let from = std::time::SystemTime::UNIX_EPOCH;
        let now = Duration::from_secs(orca::clock::now().as_second().unsigned_abs());
        params.not_before = (from + now - 3 * HOUR).into();
        params.not_after = (from + now + 7 * HOUR).into();
        let certificate = params.signed_by(&public, &self.authority).unwrap().pem();
        request["status"] = json!({
            "conditions": [{"type": "Approved", "status": "True"}],
            "certificate": BASE64_STANDARD.encode(certificate),
        });
    }

    /// A TLS handshake as an API server with --kubelet-certificate-authority makes it: the certificate, or why not.
    async fn shake_hands(&self) -> Result<Vec<u8>, String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let server = TlsAcceptor::from(self.current.borrow().clone());
        let serve = server.accept(theirs);
        let call = TlsConnector::from(Arc::new(client)).connect(ServerName::from(ADDRESS), ours);
        let (called, _served) = tokio::join!(call, serve);
        let called = called.map_err(|error| error.to_string())?;
        Ok(called.get_ref().1.peer_certificates().unwrap()[0].to_vec())
    }

    async fn until_served(&self) -> Vec<u8> {
        for _ in 0..600 {
            if let Ok(certificate) = self.shake_hands().await {
                return certificate;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no certificate of the cluster is served: {:?}", self.shake_hands().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_self_signed_certificate_serves_until_somebody_approves_and_then_the_clusters_without_a_restart() {
    let world = World::start().await;
    world.until_asked(1).await;
    world.until(HOUR, "an event that says what to do", |store| !store.events.is_empty()).await;
    {
        let store = lock(&world.api);
        assert_eq!(store.events[0]["reason"], "ServingCertificatePending");
        assert_eq!(store.events[0]["involvedObject"]["kind"], "Node");
        let message = store.events[0]["message"].as_str().unwrap();
        assert!(message.contains("`kubectl certificate approve orca-serving-0`"), "{message}");
    }
    let refused = world.shake_hands().await.unwrap_err();
    assert!(refused.contains("UnknownIssuer") || refused.contains("CaUsedAsEndEntity"), "{refused}");

    world.sign(None);
    world.until_served().await;
    assert_eq!(world.reasons(), ["ServingCertificatePending", "ServingCertificateIssued"]);
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(lock(&world.api).requests.len(), 1, "nothing is asked for while the certificate is young");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_before_it_ends_and_serves_until_the_next_is_there() {
    let world = World::start().await;
    world.until_asked(1).await;
    world.sign(None);
    let first = world.until_served().await;
    let begin = tokio::time::Instant::now();
    world.until(7 * HOUR, "the renewal", |store| store.requests.len() == 2).await;
    assert!(begin.elapsed() > 3 * HOUR, "{:?}", begin.elapsed());
    {
        let store = lock(&world.api);
        assert_ne!(store.requests[0]["spec"]["request"], store.requests[1]["spec"]["request"], "another key");
    }
    tokio::time::sleep(HOUR / 2).await;
    assert_eq!(world.shake_hands().await.unwrap(), first);
    // The verifier's clock is the real one, which has not moved: what begins now, it would not accept yet.
    let before = world.current.borrow().clone();
    world.sign(None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!Arc::ptr_eq(&before, &world.current.borrow()));
    assert_ne!(world.shake_hands().await, Ok(first), "the old certificate is still there");
    assert_eq!(world.reasons().last().unwrap(), "ServingCertificateIssued");
}

#[tokio::test(start_paused = true)]
async fn a_denied_request_is_told_and_not_repeated_for_an_hour() {
    let world = World::start().await;
    world.until_asked(1).await;
    lock(&world.api).requests[0]["status"] = json!({"conditions": [{"type": "Denied", "status": "True", "reason": "Policy", "message": "not here"}]});
    world
        .until(HOUR, "the event", |store| {
            store.events.iter().any(|event| event["reason"] == "ServingCertificateRefused")
        })
        .await;
    let message = lock(&world.api).events.last().unwrap()["message"].to_string();
    assert!(message.contains("Denied (Policy: not here)"), "{message}");
    tokio::time::sleep(Duration::from_secs(3500)).await;
    assert_eq!(lock(&world.api).requests.len(), 1);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(lock(&world.api).requests.len(), 2);
    world.sign(None);
    world.until_served().await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_for_another_key_is_never_served() {
    let world = World::start().await;
    world.until_asked(1).await;
    world.sign(Some(&KeyPair::generate().unwrap()));
    world
        .until(HOUR, "the event", |store| {
            store.events.iter().any(|event| event["reason"] == "ServingCertificateRefused")
        })
        .await;
    world.shake_hands().await.unwrap_err();
    assert!(lock(&world.api).events.last().unwrap()["message"].to_string().contains("for another key"));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_somebody_deletes_is_made_again_and_an_api_server_that_fails_is_asked_again() {
    let world = World::start().await;
    world.until_asked(1).await;
    lock(&world.api).requests.clear();
    world.until_asked(1).await;
    lock(&world.api).is_down = true;
    tokio::time::sleep(HOUR).await;
    lock(&world.api).is_down = false;
    world.sign(None);
    tokio::time::sleep(Duration::from_secs(400)).await;
    world.until_served().await;
}
