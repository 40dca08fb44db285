//! A stream's two directions, to be read and written by whoever runs what it belongs to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::mux::{Read, Written};
use super::Connection;

/// What a reader makes of a stream that the client resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtReset {
    Ends,
    Fails,
}

/// What a client sends in one stream. Once it is dropped, what comes is thrown away.
#[derive(Debug)]
pub(in crate::streams) struct StreamReader {
    connection: Connection,
    id: u32,
    at_reset: AtReset,
    /// Our side of the stream ends with it.
    ends: bool,
}

impl StreamReader {
    pub(super) fn new(connection: Connection, id: u32) -> Self {
        Self { connection, id, at_reset: AtReset::Fails, ends: false }
    }

    /// To it a reset is an end like any other. When it is dropped the client is told that nobody reads any more.
    #[must_use]
    pub(in crate::streams) fn for_input(mut self) -> Self {
        (self.at_reset, self.ends) = (AtReset::Ends, true);
        self
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        let (id, ends) = (self.id, self.ends);
        self.connection.lock().readers.remove(&id);
        self.connection.change(|mux| {
            mux.abandon(id);
            if ends {
                mux.end(id);
            }
        });
    }
}

impl AsyncRead for StreamReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.connection.lock();
        match state.mux.read(self.id, buf.initialize_unfilled()) {
            Read::Bytes(count) => {
                drop(state);
                buf.advance(count);
                // There may be room for more now.
                self.connection.shared.stirred.notify_one();
                Poll::Ready(Ok(()))
            }
            Read::Ended => Poll::Ready(Ok(())),
            Read::Reset if self.at_reset == AtReset::Ends && !state.is_over => Poll::Ready(Ok(())),
            Read::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Read::Nothing if state.is_over => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Read::Nothing => {
                state.readers.insert(self.id, cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What is sent to a client in one stream. Flushing does not wait until it has gone.
#[derive(Debug)]
pub(in crate::streams) struct StreamWriter {
    connection: Connection,
    id: u32,
}

impl StreamWriter {
    pub(super) fn new(connection: Connection, id: u32) -> Self {
        Self { connection, id }
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.connection.lock().writers.remove(&self.id);
    }
}

impl AsyncWrite for StreamWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.connection.lock();
        if state.is_over {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match state.mux.write(self.id, buf) {
            Written::Bytes(count) => {
                drop(state);
                self.connection.shared.stirred.notify_one();
                Poll::Ready(Ok(count))
            }
            Written::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Written::Full => {
                state.writers.insert(self.id, cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.change(|mux| mux.end(self.id));
        Poll::Ready(Ok(()))
    }
}
