//! The listener: one task a connection, TLS inside it, so that a slow handshake holds up nobody.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Endpoint;
use super::authn::PeerCertificate;
use super::unproven::{Place, Unproven};

/// How long a TLS handshake, and the headers of a request, may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(90);
/// Bytes of a request's line and headers, at most, and what is read ahead of a body. A URI has 64 KiB at most (hyper),
/// and the arguments of `kubectl exec` are in it.
const HEAD: usize = 128 * 1024;
/// A peer that says nothing for so long is asked whether it is still there, so often, and given up after so many silences:
/// it may have vanished without a word, and a spliced stream may be idle for hours.
const IDLE: Duration = Duration::from_secs(30);
const PROBE: Duration = Duration::from_secs(10);
const PROBES: u32 = 6;
/// Connections at most: each user stream is one, and each costs four buffers of 32 KiB when spliced.
const CONNECTIONS: usize = 4096;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Takes the address, at which nobody is listened to yet.
///
/// # Errors
/// When it is taken, or not ours.
pub fn reserve(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let context = || format!("listening on `{address}` (kubelet.listen)");
    let socket = socket.with_context(context)?;
    // What is left of connections of a former process is in nobody's way.
    socket.set_reuseaddr(true).with_context(context)?;
    socket.bind(address).with_context(context)?;
    Ok(socket)
}

/// Listens there from now on.
///
/// # Errors
/// When somebody else began to meanwhile.
pub fn listen(socket: TcpSocket) -> anyhow::Result<TcpListener> {
    let listener = socket.listen(BACKLOG).context("listening (kubelet.listen)")?;
    // What is accepted inherits it.
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(PROBE).with_retries(PROBES);
    SockRef::from(&listener).set_tcp_keepalive(&keepalive).context("asking for keepalive")?;
    Ok(listener)
}

/// Both at once.
///
/// # Errors
/// As [`reserve`].
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    listen(reserve(address)?)
}

/// Serves until it is dropped.
pub async fn serve(endpoint: Arc<Endpoint>, listener: TcpListener, tls: watch::Receiver<Arc<ServerConfig>>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let unproven = Arc::new(Unproven::default());
    let mut connections = JoinSet::new();
    let closing = endpoint.streams.closing();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            // Who comes now is to come again, to whoever serves then.
            () = closing.cancelled() => {
                drop(listener);
                while connections.join_next().await.is_some() {}
                return std::future::pending().await;
            }
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                match ended {
                    // Made room for another: a flood is not to fill the log.
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(error = %error, "serving a connection failed"),
                    Ok(()) => {}
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                // An answer of several pieces must not wait for the client to acknowledge the first, nor a key's echo.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(error = %error, "a connection ended as it began");
                }
                let (endpoint, tls) = (endpoint.clone(), tls.borrow().clone());
                let place = unproven.place(peer.ip());
                let id = place.id();
                let task = connections.spawn(async move {
                    connection(endpoint, stream, tls, place).await;
                    drop(permit);
                });
                unproven.started(id, task);
            }
            // Out of file descriptors, mostly: let some connections end first.
            Err(error) => {
                tracing::warn!(error = %error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(endpoint: Arc<Endpoint>, stream: TcpStream, tls: Arc<ServerConfig>, place: Place) {
    let stream = match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(error = %error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = Arc::new(peer.map(|certificate| PeerCertificate(certificate.to_vec())));
    let place = Arc::new(place);
    let service = service_fn(move |request| {
        let (endpoint, peer, place) = (endpoint.clone(), peer.clone(), place.clone());
        async move {
            let answer = endpoint.answer(peer.as_ref().as_ref(), request).await;
            if answer.status() != StatusCode::UNAUTHORIZED {
                place.is_proven();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "a connection ended");
    }
}
