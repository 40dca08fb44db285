//! A forwarded connection as a byte stream that tells an end of file from a broken connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use russh::ChannelStream;
use russh::client::Msg;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::Shared;

/// One channel; dropping it closes the channel.
pub(super) struct SshStream {
    channel: ChannelStream<Msg>,
    shared: Arc<Shared>,
}

impl SshStream {
    pub(super) fn new(channel: ChannelStream<Msg>, shared: &Arc<Shared>) -> Self {
        Self { channel, shared: Arc::clone(shared) }
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.channel).poll_read(cx, buf))?;
        // russh ends all channels when the connection breaks, which then looks like their own end.
        if buf.filled().len() == before && buf.remaining() > 0 && !self.shared.is_open() {
            let error = io::Error::new(io::ErrorKind::ConnectionReset, "the SSH connection ended");
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.channel).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_flush(cx)
    }

    /// Half-closes it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_shutdown(cx)
    }
}
