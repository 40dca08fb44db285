//! What links count: connections to machines, and what goes over them.

use std::pin::Pin;
use std::task::{Context, Poll};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::Purpose;
use crate::telemetry::Registry;
use crate::tunnel::{ByteStream, Refusal, TunnelError};

/// The links' metrics. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    open: Family<For, Gauge>,
    dials: Family<Dialed, Counter>,
    bytes: Family<Way, Counter>,
    pub(super) lost: Counter,
    /// 1 while all links wait.
    pub(super) wait: Gauge,
    pub(super) evicted: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct For {
    purpose: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Dialed {
    purpose: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Way {
    purpose: &'static str,
    direction: &'static str,
}

impl Metrics {
    /// Adds them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "tunnels_open",
            "Connections to machines that are open, by purpose",
            self.open.clone(),
        );
        registry.register(
            "tunnel_dials",
            "Attempts to connect to a machine, by purpose and result",
            self.dials.clone(),
        );
        registry.register(
            "tunnel_bytes",
            "Bytes to (sent) and from (received) machines, as the tunnel carries them, by purpose and direction",
            self.bytes.clone(),
        );
        registry.register(
            "link_lost",
            "Control connections to attached machines that broke, after each of which the machine is dialed again",
            self.lost.clone(),
        );
        registry.register(
            "sessions_wait",
            "Whether all links to machines wait, but for a probe now and then, because sessions are refused to everybody: the Node's condition MachinesReachable",
            self.wait.clone(),
        );
        registry.register(
            "link_evictions",
            "SSH sessions of earlier connections that were ended on machines since they held the kubelet's way to the gateway",
            self.evicted.clone(),
        );
    }

    /// An attempt to connect has ended.
    pub(super) fn dialed<T>(&self, purpose: Purpose, result: &Result<T, TunnelError>) {
        let result = result.as_ref().map_or_else(kind, |_| "ok");
        self.dials.get_or_create(&Dialed { purpose: purpose.name(), result }).inc();
    }

    /// Counts what goes over a connection, and that it is open until it is dropped.
    pub(super) fn count(&self, purpose: Purpose, inner: ByteStream) -> ByteStream {
        let purpose = purpose.name();
        let bytes = |direction| self.bytes.get_or_create(&Way { purpose, direction }).clone();
        let (sent, received) = (bytes("sent"), bytes("received"));
        let open = self.open.get_or_create(&For { purpose }).clone();
        open.inc();
        Box::new(Counted { inner, sent, received, open })
    }
}

/// A bounded name.
fn kind(error: &TunnelError) -> &'static str {
    match error {
        TunnelError::NotYet(_) => "not_yet",
        TunnelError::Throttled(_) => "throttled",
        TunnelError::Denied(_) => "denied",
        TunnelError::HostKey { .. } => "host_key",
        TunnelError::Timeout(..) => "timeout",
        TunnelError::Lost(_) => "lost",
        TunnelError::Refused(Refusal::Throttled(_)) => "throttled",
        TunnelError::Refused(Refusal::Credentials(_) | Refusal::Denied(_)) => "denied",
        TunnelError::Refused(Refusal::Unavailable(_)) => "unavailable",
    }
}

struct Counted {
    inner: ByteStream,
    sent: Counter,
    received: Counter,
    open: Gauge,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.received.inc_by(u64::try_from(buf.filled().len() - before).unwrap_or(0));
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &polled {
            self.sent.inc_by(u64::try_from(*count).unwrap_or(0));
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_goes_over_a_connection_is_counted_both_ways_and_so_is_its_end() {
        let metrics = Metrics::default();
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = metrics.count(Purpose::User, Box::new(ours));
        stream.write_all(b"hello").await.unwrap();
        theirs.write_all(b"hi").await.unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.unwrap();
        metrics.dialed(Purpose::Control, &Err::<(), _>(TunnelError::NotYet(String::new())));
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let text = registry.encode().unwrap();
        for line in [
            "orca_tunnels_open{purpose=\"user\"} 1",
            "orca_tunnel_bytes_total{purpose=\"user\",direction=\"sent\"} 5",
            "orca_tunnel_bytes_total{purpose=\"user\",direction=\"received\"} 2",
            "orca_tunnel_dials_total{purpose=\"control\",result=\"not_yet\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in:\n{text}");
        }
        drop(stream);
        assert!(registry.encode().unwrap().contains("orca_tunnels_open{purpose=\"user\"} 0"));
    }
}
