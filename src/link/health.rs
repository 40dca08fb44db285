//! Whether a kubelet answers.
//!
//! Its unit restarts it. One that does not answer for long is as good as none: its pod's status says nothing any more,
//! so the link counts as lost, is made again, and waits for the kubelet before it counts as attached.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::task::{Link, Setback};
use super::wire::Wire;
use crate::guest::KUBELET_PORT;
use crate::keys::SERVING_NAME;
use crate::tunnel::ByteStream;

/// From one look at a kubelet that is well to the next.
const PERIOD: Duration = Duration::from_secs(30);
/// The same, while it is not.
const AGAIN: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(15);
/// For so long a kubelet may be away: its unit starts it again at once, and it takes seconds to come up.
const PATIENCE: Duration = Duration::from_secs(40);

/// How a kubelet is asked, at the other end of a stream.
pub(super) type Ask = Arc<dyn Fn(ByteStream) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// By `/healthz`.
pub(super) fn ask(tls: Arc<ClientConfig>) -> Ask {
    Arc::new(move |stream| healthz(stream, Arc::clone(&tls)).boxed())
}

/// Asks again and again; ends when the kubelet has not answered for too long.
pub(super) async fn watch(link: &Link, wire: &dyn Wire) -> Result<Infallible, Setback> {
    let mut silent: Option<Instant> = None;
    loop {
        sleep(if silent.is_some() { AGAIN } else { PERIOD }).await;
        let (uid, id) = (&link.machine.pod_uid, &link.machine.instance_id);
        match check(link, wire).await {
            Ok(()) => {
                if silent.take().is_some() {
                    tracing::info!(pod.uid = uid, instance.id = id, "kubelet answers again");
                }
            }
            Err(error) => {
                if silent.is_none() {
                    tracing::warn!(pod.uid = uid, instance.id = id, error, "kubelet does not answer");
                }
                if silent.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                    return Err(Setback::Again(format!("its kubelet does not answer: {error}")));
                }
            }
        }
    }
}

/// Waits until it answers.
pub(super) async fn until_well(link: &Link, wire: &dyn Wire) {
    while check(link, wire).await.is_err() {
        sleep(AGAIN).await;
    }
}

async fn check(link: &Link, wire: &dyn Wire) -> Result<(), String> {
    let check = async {
        let stream = wire.open("127.0.0.1", KUBELET_PORT, DEADLINE).await?;
        (link.hub.health)(stream).await
    };
    match timeout(DEADLINE, check).await {
        Ok(found) => found.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("no answer within {DEADLINE:?}")),
    }
}

/// `GET /healthz` of the kubelet at the other end of `stream`; anything but 200 is an error.
async fn healthz(stream: ByteStream, tls: Arc<ClientConfig>) -> anyhow::Result<()> {
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
