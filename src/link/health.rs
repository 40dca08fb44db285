//! Whether a kubelet answers.

use std::sync::Arc;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::keys::SERVING_NAME;
use crate::tunnel::ByteStream;

/// `GET /healthz` of the kubelet at the other end of `stream`; anything but 200 is an error. The caller sets the
/// deadline.
pub(super) async fn healthz(stream: ByteStream, tls: Arc<ClientConfig>) -> anyhow::Result<()> {
    let stream = TlsConnector::from(tls).connect(ServerName::from(SERVING_NAME), stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::get("/healthz").header("host", "kubelet").body(Empty::<Bytes>::new())?;
    let response = tokio::select! {
        response = sender.send_request(request) => response?,
        ended = connection => {
            ended?;
            anyhow::bail!("the connection ended without an answer");
        }
    };
    anyhow::ensure!(response.status() == 200, "kubelet answered {}", response.status());
    Ok(())
}
