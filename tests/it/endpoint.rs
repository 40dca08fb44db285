//! The endpoint between a TLS client and a guest kubelet: who gets in, and what comes out.

// Streams whose process has ended before its output arrived.
mod ended;
// What users hear last when the process ends.
mod farewell;
// Clients that take all they can get: connections, headers, bodies, time.
mod floods;
// Logs from the machine, from the archive, and from both.
mod logs;
// Every request by every identity.
mod matrix;
// The numbers of all machines on the node's pages.
mod numbers;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use orca::endpoint::authn::Authenticator;
use orca::endpoint::authz::Authorizer;
use orca::endpoint::{Endpoint, Streams, server, tls};
use orca::informer::PodInformer;
use orca::link::{LinkStatus, Links, Machine};
use orca::logs::answer::Archive;
use orca::logs::store::Store;
use orca::stats::collect::Collector;
use orca::stats::{self, Stats};
use orca::telemetry::Telemetry;
use orca::tunnel::{ByteStream, TunnelError};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A certificate and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Identity {
        self.issue_with(name, usage, |_| {})
    }

    fn issue_with(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![HOST.to_string()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

/// A pod whose machine is being switched off.
const ENDING: &str = "uid-3";

/// A link whose machine's kubelet is a small TLS server in this process.
#[derive(Debug)]
struct OneMachine {
    uid: &'static str,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    tasks: Mutex<JoinSet<()>>,
    /// The log of the pod `logged`, which has a machine too.
    log: Arc<logs::Kubelet>,
    changes: broadcast::Sender<String>,
}

#[async_trait]
impl Links for OneMachine {
    fn ensure(&self, _machine: Machine) {}
    fn status(&self, pod_uid: &str) -> Option<LinkStatus> {
        (pod_uid == logs::UID).then(|| self.log.status())
    }
    fn revoke(&self, _pod_uid: &str) -> bool {
        false
    }
    fn shut_down(&self, _pod_uid: &str) {}
    fn is_ending(&self, pod_uid: &str) -> bool {
        pod_uid == ENDING
    }
    fn remove(&self, _pod_uid: &str) {}
    fn uids(&self) -> Vec<String> {
        vec![self.uid.to_owned()]
    }
    fn pod(&self, _pod_uid: &str) -> Option<(String, String)> {
        None
    }
    fn subscribe(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }
    async fn kubelet_stream(&self, pod_uid: &str, _deadline: Duration) -> Result<ByteStream, TunnelError> {
        if pod_uid == logs::UID {
            self.log.reach()?;
        }
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let accept = TlsAcceptor::from(self.server.clone());
        self.tasks.lock().unwrap().spawn(kubelet(accept, theirs, self.log.clone()));
        Ok(Box::new(ours))
    }
    async fn command(&self, _: &str, _: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        Err(TunnelError::NotYet("only pretends".to_owned()))
    }
    async fn scrape_stream(&self, pod_uid: &str, deadline: Duration) -> Result<ByteStream, TunnelError> {
        self.kubelet_stream(pod_uid, deadline).await
    }
    fn kubelet_tls(&self, pod_uid: &str) -> Option<Arc<ClientConfig>> {
        let has_machine = pod_uid == self.uid || (pod_uid == logs::UID && self.log.has_machine());
        has_machine.then(|| self.client.clone())
    }
}

/// Answers logs with what it was asked, and upgrades everything else: to an echo, or to [`ended::kubelet`].
async fn kubelet(accept: TlsAcceptor, stream: DuplexStream, log: Arc<logs::Kubelet>) {
    let stream = accept.accept(stream).await.unwrap();
    let log = &log;
    let service = service_fn(|mut request: Request<Incoming>| async move {
        let none = || Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(none());
        if request.uri().path().starts_with("/containerLogs/ns/logged") {
            response = log.answer(request.uri().query().unwrap_or_default());
        } else if request.uri().path().starts_with("/containerLogs/ns/running/endless") {
            response = floods::endless();
        } else if request.uri().path().starts_with("/containerLogs") {
            assert!(
                !request.headers().contains_key(header::AUTHORIZATION),
                "a caller's token must stay here"
            );
            let asked = format!("asked for {}\n", request.uri());
            *response.body_mut() = Full::new(asked.into()).map_err(|never| match never {}).boxed_unsync();
        } else if request.uri().path().ends_with("/missing") {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            let said = Full::new(Bytes::from_static(b"container not found (\"missing\")"));
            *response.body_mut() = said.map_err(|never| match never {}).boxed_unsync();
        } else {
            let upgrade = hyper::upgrade::on(&mut request);
            let protocol = request.headers()[header::UPGRADE].clone();
            response.headers_mut().insert(header::UPGRADE, protocol.clone());
            let has_ended = request.uri().path().ends_with("/ended");
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                if has_ended {
                    return ended::kubelet(protocol.to_str().unwrap(), stream).await;
                }
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..n]).await.unwrap();
                }
                stream.shutdown().await.unwrap();
            });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(header::CONNECTION, "Upgrade".parse().unwrap());
            response.headers_mut().insert("x-stream-protocol-version", "v4.channel.k8s.io".parse().unwrap());
        }
        Ok::<_, Infallible>(response)
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    drop(connection.with_upgrades().await);
}

/// An API server that knows two tokens, and lets `system:apiserver` do everything, `viewer` only GET, and `scraper` only
/// read numbers.
fn api_server(client_ca: String) -> kube::Client {
    let router = Router::new()
        .route(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            post(async |Json(mut review): Json<Value>| {
                // Without audiences it is asked for its own: a token for another is none.
                assert_eq!(review["spec"].get("audiences"), None);
                let name = match review["spec"]["token"].as_str() {
                    Some("viewer-token") => "viewer",
                    Some("scraper-token") => "scraper",
                    _ => "",
                };
                review["status"] = json!({"authenticated": !name.is_empty(), "user": {"username": name}});
                Json(review)
            }),
        )
        .route(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            post(async |Json(mut review): Json<Value>| {
                let attributes = &review["spec"]["resourceAttributes"];
                assert_eq!(attributes["name"], "orca");
                let is_read = attributes["verb"] == "get";
                let allowed = match review["spec"]["user"].as_str() {
                    Some("system:apiserver") => true,
                    Some("viewer") => is_read,
                    Some("scraper") => {
                        is_read && ["metrics", "stats"].contains(&attributes["subresource"].as_str().unwrap())
                    }
                    _ => false,
                };
                review["status"] = json!({"allowed": allowed});
                Json(review)
            }),
        )
        .route(
            "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
            get(async move || {
                Json(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"client-ca-file": client_ca}}))
            }),
        );
    let service = tower::ServiceBuilder::new()
        .map_request(|request: Request<kube::client::Body>| request.map(axum::body::Body::new))
        .service(router);
    kube::Client::new(service, "default")
}

struct World {
    address: SocketAddr,
    cluster: Authority,
    pods: Arc<PodInformer>,
    streams: Streams,
    _tasks: JoinSet<()>,
}

/// How a link talks to its kubelet, and how the kubelet is met.
fn guest_tls() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (serving, clients) = (Authority::new("serving"), Authority::new("clients"));
    let (chain, key) = serving.issue("kubelet", ExtendedKeyUsagePurpose::ServerAuth);
    let verifier = rustls::server::WebPkiClientVerifier::builder(clients.roots()).build().unwrap();
    let guest =
        ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    let (chain, key) = clients.issue("orca", ExtendedKeyUsagePurpose::ClientAuth);
    let ours = ClientConfig::builder()
        .with_root_certificates(serving.roots())
        .with_client_auth_cert(chain, key)
        .unwrap();
    (Arc::new(ours), Arc::new(guest))
}

async fn start() -> World {
    start_with(Arc::default(), None).await
}

async fn start_with(log: Arc<logs::Kubelet>, archive: Option<Arc<dyn Store>>) -> World {
    let (client, server) = guest_tls();
    let (tasks, changes) = (Mutex::default(), broadcast::channel(1).0);
    start_on(Arc::new(OneMachine { uid: "uid-1", client, server, tasks, log, changes }), archive).await
}

async fn start_on(links: Arc<dyn Links>, archive: Option<Arc<dyn Store>>) -> World {
    let cluster = Authority::new("cluster");
    let pods = PodInformer::new();
    let pod = |name: &str, uid: &str| -> ((String, String), Arc<Pod>) {
        let pod = json!({"metadata": {"namespace": "ns", "name": name, "uid": uid}});
        (("ns".to_owned(), name.to_owned()), Arc::new(serde_json::from_value(pod).unwrap()))
    };
    pods.replace(HashMap::from([pod("running", "uid-1")]));
    pods.apply(&logs::pod("logged", logs::UID, logs::running(0)));
    let waiting = json!({"restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}});
    pods.apply(&logs::pod("booting", "uid-2", waiting));
    pods.apply(&logs::pod("ending", ENDING, logs::running(0)));
    let client = api_server(cluster.0.pem());
    let source = tls::Source::new(client.clone(), tls::Serving::SelfSigned, "orca", HOST).unwrap();
    let (_keep, tls) = watch::channel(source.load().await.unwrap());
    let stats = Arc::new(Stats::new("orca".to_owned(), Arc::new(())));
    let metrics = stats::Metrics::default();
    let collector = Collector { stats: stats.clone(), links: links.clone(), metrics };
    let streams = Streams::default();
    let endpoint = Endpoint {
        pods: pods.clone(),
        metrics: orca::endpoint::Metrics::default(),
        links,
        archive: archive.map(Archive::new),
        authenticator: Authenticator::new(client.clone()),
        authorizer: Authorizer::new(client, "orca".to_owned()),
        stats,
        telemetry: Telemetry::new(|_| {}),
        streams: streams.clone(),
    };
    let listener = server::bind(SocketAddr::from((HOST, 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(collector.run());
    tasks.spawn(async move {
        let _keep = _keep;
        server::serve(Arc::new(endpoint), listener, tls).await;
    });
    World { address, cluster, pods, streams, _tasks: tasks }
}

impl World {
    /// One request over a connection of its own, as `name` by client certificate, or as nobody.
    async fn send(&self, name: Option<&str>, request: http::request::Builder) -> Response<Incoming> {
        let identity = name.map(|name| self.cluster.issue(name, ExtendedKeyUsagePurpose::ClientAuth));
        self.try_send(identity, request).await.expect("let in by TLS")
    }

    /// A connection on which nothing is said yet but TLS.
    async fn connect(&self, identity: Option<Identity>) -> std::io::Result<TlsStream<TcpStream>> {
        let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
        let mut config = match identity {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.dangerous().set_certificate_verifier(Arc::new(AnyServer));
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::from(HOST), stream).await
    }

    /// `None` if TLS refuses the certificate.
    async fn try_send(
        &self,
        identity: Option<Identity>,
        request: http::request::Builder,
    ) -> Option<Response<Incoming>> {
        let stream = self.connect(identity).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        // With TLS 1.3 a client hears only now that its certificate is refused.
        sender.send_request(request.header("host", "node").body(Empty::<Bytes>::new()).unwrap()).await.ok()
    }
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The API server does not verify a kubelet's certificate by default either.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

const LOGS: &str = "/containerLogs/ns/running/c?timestamps=true&tailLines=0";

#[tokio::test]
async fn nobody_gets_in_without_credentials() {
    let world = start().await;
    let response = world.send(None, Request::get(LOGS)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(response).await, "Unauthorized");
    let response = world.send(None, Request::get(LOGS).header("authorization", "Bearer other")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_that_may_only_read_gets_logs_but_no_exec_by_websocket() {
    let world = start().await;
    let as_viewer = |path: &str| Request::get(path).header("authorization", "Bearer viewer-token");
    let response = world.send(None, as_viewer(LOGS)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, format!("asked for {LOGS}\n"));
    let response = world.send(None, as_viewer("/exec/ns/running/c?command=id")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        text(response).await,
        "Forbidden (user=viewer, verb=create, resource=nodes, subresource(s)=[proxy])\n"
    );
}

#[tokio::test]
async fn an_upgrade_is_spliced_both_ways_and_ends_with_the_client() {
    let world = start().await;
    let request =
        Request::post("/exec/ns/running/c").header("connection", "Upgrade").header("upgrade", "SPDY/3.1");
    let mut response = world.send(Some("system:apiserver"), request).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
    assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let sent = vec![7; 300_000];
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let read = async { reader.read_to_end(&mut received).await };
    let (_, end) = tokio::join!(write, read);
    assert!(end.is_ok_and(|n| n == sent.len()) && received == sent);
}

#[tokio::test]
async fn a_refused_upgrade_passes_the_kubelets_own_words_and_closes() {
    let world = start().await;
    let request = Request::post("/exec/ns/running/missing")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1");
    let response = world.send(Some("system:apiserver"), request).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(text(response).await, "container not found (\"missing\")");
}

#[tokio::test]
async fn a_pod_whose_machine_is_booting_has_no_logs_yet_and_says_so() {
    let world = start().await;
    let response = world.send(Some("system:apiserver"), Request::get("/containerLogs/ns/booting/c")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        text(response).await,
        "container \"c\" in pod \"booting\" is waiting to start: ContainerCreating"
    );
}

#[tokio::test]
async fn nothing_new_begins_on_a_machine_that_is_being_ended() {
    let world = start().await;
    for path in ["/exec/ns/ending/c", "/attach/ns/ending/c", "/portForward/ns/ending"] {
        let request = Request::post(path).header("connection", "Upgrade").header("upgrade", "SPDY/3.1");
        let response = world.send(Some("system:apiserver"), request).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
        let told = text(response).await;
        assert_eq!(told, "the machine of pod \"ending\" is being ended: nothing new begins there");
    }
}

#[tokio::test]
async fn unknown_pods_and_other_uids_are_not_found() {
    let world = start().await;
    for path in ["/containerLogs/ns/other/c", "/exec/ns/running/uid-0/c"] {
        let response = world.send(Some("system:apiserver"), Request::get(path)).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let world = start().await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(tokio::net::TcpStream::connect(world.address).await.unwrap());
    }
    let response = world.send(Some("system:apiserver"), Request::get("/healthz")).await;
    assert_eq!(response.status(), StatusCode::OK);
    // The first had to make room, long before any deadline.
    let ended = tokio::time::timeout(Duration::from_secs(5), silent[0].read(&mut [0])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}
