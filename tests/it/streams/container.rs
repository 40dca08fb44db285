//! A container that is a real sshd, and requests for its streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use orca::streams::ssh::{Dial, SshBackend};
use orca::streams::{Asked, Refused};
use orca::tunnel::TunnelError;
use orca::tunnel::ssh::{SshConnection, SshOptions};
use tokio::io::{copy_bidirectional, duplex};
use tokio::net::TcpStream;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::Sshd;

/// The way to the sshd of the container.
#[derive(Debug)]
pub(crate) struct Way {
    port: u16,
    options: SshOptions,
    /// Bytes that sshd has sent.
    pub(crate) sent: Arc<AtomicU64>,
    /// Ends all connections, and lets none begin.
    pub(crate) cut: CancellationToken,
}

impl Way {
    pub(crate) async fn to(sshd: &Sshd) -> Arc<Self> {
        let (port, options) = (sshd.listening().await, sshd.options());
        Arc::new(Self { port, options, sent: Arc::default(), cut: CancellationToken::new() })
    }
}

#[async_trait]
impl Dial for Way {
    async fn dial(&self, deadline: Duration) -> Result<SshConnection, TunnelError> {
        if self.cut.is_cancelled() {
            return Err(TunnelError::NotYet("the machine is off".to_owned()));
        }
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let (read, write) = tcp.into_split();
        let sent = self.sent.clone();
        let read = InspectReader::new(read, move |bytes| {
            sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        });
        let (ours, mut theirs) = duplex(64 * 1024);
        let (mut far, cut) = (tokio::io::join(read, write), self.cut.clone());
        tokio::spawn(async move { cut.run_until_cancelled(copy_bidirectional(&mut theirs, &mut far)).await });
        SshConnection::connect(Box::new(ours), &self.options, deadline).await
    }
}

/// `attach` is a program that joins what runs: here, one of its own.
const ATTACH: [&str; 3] = ["sh", "-c", "echo attached; cat"];

/// Grants or refuses a request: exec, attach and port-forward end in that sshd.
pub(crate) fn grant(
    way: Arc<Way>,
    asked: Result<Asked, Refused>,
    mut request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let agreed = match asked.and_then(|asked| asked.agree(request.method(), request.headers())) {
        Ok(agreed) => agreed,
        Err(refused) => return refuse(&refused),
    };
    let client = hyper::upgrade::on(&mut request);
    let response = agreed.response().map(|()| Full::default());
    let launcher = vec!["env".to_owned(), "ORCA_TEST=in the container".to_owned()];
    tokio::spawn(async move {
        let backend = SshBackend::new(way, launcher, Some(ATTACH.map(str::to_owned).to_vec()));
        let client = TokioIo::new(client.await.unwrap());
        drop(agreed.serve(client, &backend, std::future::pending()).await);
    });
    response
}

fn refuse(refused: &Refused) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(refused.to_string()));
    *response.status_mut() = refused.status();
    response
}
