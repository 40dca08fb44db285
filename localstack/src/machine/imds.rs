//! Instance metadata, served on the host and reached from machines at 169.254.169.254.
//!
//! The instance is told by the source of its connection; anyone else is told nothing. The hop limit is real: it is
//! the time-to-live of every packet that the server sends, the answer to a connection's first one included, so with
//! a limit of 1 a network namespace behind the machine's own never gets one. That needs a listener per limit.

mod answer;
mod tree;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use axum::serve::ListenerExt;
use http::{HeaderMap, Method, StatusCode, Uri};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::answer::{Asked, Metadata, Reply};
pub(super) use self::tree::short_hostname;
use super::{MachineSpec, Notices};
use crate::clock;

/// Serves the metadata of all instances.
#[derive(Debug)]
pub struct Imds {
    address: Ipv4Addr,
    instances: Instances,
    /// Hop limit to listener.
    listeners: Mutex<HashMap<u8, Listener>>,
}

/// By every address of an instance: a pod that may pass the hop limit comes from the secondary one.
type Instances = Arc<RwLock<HashMap<Ipv4Addr, Arc<std::sync::Mutex<Metadata>>>>>;

#[derive(Debug)]
struct Listener {
    port: u16,
    _served: AbortOnDropHandle<()>,
}

impl Imds {
    /// A server on an address that only machines reach. It listens once there is an instance.
    #[must_use]
    pub fn new(address: Ipv4Addr) -> Self {
        Self { address, instances: Instances::default(), listeners: Mutex::default() }
    }

    /// Answers an instance from now on; returns where its requests have to be sent.
    pub async fn register(&self, spec: &MachineSpec) -> anyhow::Result<SocketAddrV4> {
        let metadata = Arc::new(std::sync::Mutex::new(Metadata::of(spec, clock::now())));
        for address in spec.secondary_ips.iter().chain([&spec.private_ip]) {
            let mut instances = self.instances.write().unwrap_or_else(PoisonError::into_inner);
            instances.insert(*address, Arc::clone(&metadata));
        }
        self.listener(spec.imds.hop_limit).await
    }

    /// Tells the instance what EC2 has announced to it.
    pub fn notify(&self, spec: &MachineSpec, notices: Notices) {
        let instances = self.instances.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(metadata) = instances.get(&spec.private_ip) {
            let mut metadata = metadata.lock().unwrap_or_else(PoisonError::into_inner);
            // Its address may be another's by now.
            if metadata.instance() == spec.id {
                metadata.notify(notices);
            }
        }
    }

    /// Answers the instance no more.
    pub fn forget(&self, spec: &MachineSpec) {
        let mut instances = self.instances.write().unwrap_or_else(PoisonError::into_inner);
        // Its addresses may be another's by now.
        instances.retain(|_, metadata| {
            metadata.lock().unwrap_or_else(PoisonError::into_inner).instance() != spec.id
        });
    }

    async fn listener(&self, hop_limit: u8) -> anyhow::Result<SocketAddrV4> {
        let mut listeners = self.listeners.lock().await;
        if let Some(listener) = listeners.get(&hop_limit) {
            return Ok(SocketAddrV4::new(self.address, listener.port));
        }
        let socket = TcpListener::bind((self.address, 0))
            .await
            .with_context(|| format!("listening for metadata requests on `{}`", self.address))?;
        // The listener's own limit is that of the packet that accepts a connection.
        socket.set_ttl(u32::from(hop_limit)).context("setting the hop limit")?;
        let port = socket.local_addr()?.port();
        let socket = socket.tap_io(move |stream| {
            if let Err(error) = stream.set_ttl(u32::from(hop_limit)) {
                tracing::error!(%error, "a metadata connection keeps the default hop limit");
            }
        });
        let router = Router::new().fallback(handle).with_state(Arc::clone(&self.instances));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let served = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = axum::serve(socket, service).await {
                tracing::error!(%error, "the metadata server ended");
            }
        }));
        listeners.insert(hop_limit, Listener { port, _served: served });
        Ok(SocketAddrV4::new(self.address, port))
    }
}

async fn handle(
    State(instances): State<Instances>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let IpAddr::V4(from) = from.ip() else { return respond(Reply::not_found()) };
    let found = instances.read().unwrap_or_else(PoisonError::into_inner).get(&from).cloned();
    let Some(metadata) = found else { return respond(Reply::not_found()) };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = Asked {
        method: method.as_str(),
        path: uri.path(),
        token: header("x-aws-ec2-metadata-token"),
        token_seconds: header("x-aws-ec2-metadata-token-ttl-seconds"),
        forwarded: headers.contains_key("x-forwarded-for"),
    };
    let reply = metadata.lock().unwrap_or_else(PoisonError::into_inner).answer(&asked, Instant::now());
    respond(reply)
}

fn respond(reply: Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("every reply's status is a literal");
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    headers.insert(http::header::SERVER, http::HeaderValue::from_static("EC2ws"));
    if let Some(seconds) = reply.token_seconds {
        headers.insert("x-aws-ec2-metadata-token-ttl-seconds", seconds.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};

    use super::*;
    use crate::machine::tests::mk_spec;
    use crate::machine::{ImdsOptions, MachineSpec};

    async fn get(server: SocketAddrV4, from: [u8; 4], path: &str) -> String {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::from(from), 0).into()).unwrap();
        let mut stream: TcpStream = socket.connect(server.into()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn an_instance_is_told_by_its_source_address_and_others_are_told_nothing() {
        let imds = Imds::new(Ipv4Addr::LOCALHOST);
        let spec = MachineSpec {
            private_ip: [127, 0, 0, 2].into(),
            secondary_ips: vec![[127, 0, 0, 3].into()],
            imds: ImdsOptions { tokens_required: false, hop_limit: 1 },
            ..mk_spec()
        };
        let server = imds.register(&spec).await.unwrap();
        let path = "/latest/meta-data/instance-id";
        for own in [[127, 0, 0, 2], [127, 0, 0, 3]] {
            assert!(get(server, own, path).await.ends_with("i-0123456789abcdef0"), "{own:?}");
        }
        assert!(get(server, [127, 0, 0, 4], path).await.starts_with("HTTP/1.1 404"));
        let heir = MachineSpec { id: "i-2".into(), secondary_ips: Vec::new(), ..spec.clone() };
        imds.register(&heir).await.unwrap();
        imds.forget(&spec);
        assert!(get(server, [127, 0, 0, 2], path).await.ends_with("i-2"));
        assert!(get(server, [127, 0, 0, 3], path).await.starts_with("HTTP/1.1 404"));
        imds.forget(&heir);
        assert!(get(server, [127, 0, 0, 2], path).await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn instances_with_one_hop_limit_share_a_listener_and_others_have_another() {
        let imds = Imds::new(Ipv4Addr::LOCALHOST);
        let with =
            |hop_limit| MachineSpec { imds: ImdsOptions { tokens_required: true, hop_limit }, ..mk_spec() };
        let one = imds.register(&with(1)).await.unwrap();
        assert_eq!(one, imds.register(&with(1)).await.unwrap());
        assert_ne!(one, imds.register(&with(2)).await.unwrap());
    }
}
