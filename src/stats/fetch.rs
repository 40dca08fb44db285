//! One HTTP connection to a machine's kubelet, on the machine's side connection: whatever comes is read at once, or the
//! connection ends.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::answer::Page;
use crate::link::Links;
use crate::tunnel::TunnelError;

/// Of a page, compressed or not. One with a pod of a few containers has 120 KiB.
const SIZE: usize = 4 << 20;

/// An open connection.
#[derive(Debug)]
pub(super) struct Kubelet {
    sender: SendRequest<Empty<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// There is no way to the machine.
    #[error("the machine cannot be reached")]
    Tunnel(#[from] TunnelError),
    /// The connection broke, or is no HTTP.
    #[error("the connection to the machine's kubelet failed: {0}")]
    Connection(String),
    /// Another status than 200.
    #[error("the machine's kubelet answered `{0}` with `{1}`, expected 200")]
    Status(&'static str, StatusCode),
    /// It took too long.
    #[error("the machine's kubelet did not answer within {0:?}")]
    Late(Duration),
    /// It cannot be read.
    #[error("the answer of the machine's kubelet cannot be read: {0}")]
    Answer(String),
}

impl FetchError {
    /// For the label of a metric.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Tunnel(_) => "unreachable",
            Self::Connection(_) => "broken",
            Self::Status(..) => "refused",
            Self::Late(_) => "late",
            Self::Answer(_) => "unreadable",
        }
    }

    /// With its cause.
    pub(super) fn chain(&self) -> String {
        match self {
            Self::Tunnel(cause) => format!("{self}: {cause}"),
            Self::Connection(_) | Self::Status(..) | Self::Late(_) | Self::Answer(_) => self.to_string(),
        }
    }

    fn connection(error: impl std::fmt::Display) -> Self {
        Self::Connection(error.to_string())
    }

    pub(super) fn answer(error: impl std::fmt::Display) -> Self {
        Self::Answer(error.to_string())
    }
}

impl Kubelet {
    /// Connects, within `deadline` for the way there; the handshakes are the caller's to bound.
    pub(super) async fn connect(
        links: &dyn Links,
        pod_uid: &str,
        deadline: Duration,
    ) -> Result<Self, FetchError> {
        let tls = links
            .kubelet_tls(pod_uid)
            .ok_or_else(|| TunnelError::NotYet(format!("pod `{pod_uid}` has no machine")))?;
        let stream = links.scrape_stream(pod_uid, deadline).await?;
        let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(FetchError::connection)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(FetchError::connection)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection to a machine's kubelet ended");
            }
        }));
        Ok(Self { sender, _driver: driver })
    }

    /// Whether it can be asked again.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Asks for a page. After an error other than [`FetchError::Status`] the connection is of no use.
    pub(super) async fn get(&mut self, page: Page) -> Result<String, FetchError> {
        self.sender.ready().await.map_err(FetchError::connection)?;
        let request = Request::get(page.path())
            .header(header::HOST, "127.0.0.1")
            .header(header::ACCEPT_ENCODING, "gzip")
            .body(Empty::new())
            .map_err(FetchError::connection)?;
        let answer = self.sender.send_request(request).await.map_err(FetchError::connection)?;
        let status = answer.status();
        let is_gzip = answer.headers().get(header::CONTENT_ENCODING).is_some_and(|it| it == "gzip");
        let body = Limited::new(answer.into_body(), SIZE).collect().await.map_err(FetchError::answer)?;
        if status != StatusCode::OK {
            return Err(FetchError::Status(page.path(), status));
        }
        let body = body.to_bytes();
        let body = if is_gzip { unpacked(&body)? } else { body.to_vec() };
        String::from_utf8(body).map_err(FetchError::answer)
    }
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, FetchError> {
    let mut plain = Vec::new();
    let mut limited = flate2::read::MultiGzDecoder::new(packed).take(SIZE as u64 + 1);
    limited.read_to_end(&mut plain).map_err(FetchError::answer)?;
    if plain.len() > SIZE {
        return Err(FetchError::Answer(format!("it is larger than {SIZE} bytes")));
    }
    Ok(plain)
}
