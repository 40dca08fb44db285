//! A stream that can be taken away from whoever reads and writes it.
//!
//! russh's task cannot be aborted from outside, and does not end while a channel lives. Without its stream it does.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::super::ByteStream;

/// Cuts the stream when dropped.
pub(super) struct Cut {
    slot: Arc<Slot>,
}

/// The stream to cut.
pub(super) struct Cuttable {
    slot: Arc<Slot>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

struct Slot {
    stream: Mutex<Option<ByteStream>>,
    cut: CancellationToken,
    /// The reader and writer has dropped it.
    released: CancellationToken,
}

/// `stream`, and what cuts it.
pub(super) fn cuttable(stream: ByteStream) -> (Cuttable, Cut) {
    let slot = Arc::new(Slot {
        stream: Mutex::new(Some(stream)),
        cut: CancellationToken::new(),
        released: CancellationToken::new(),
    });
    let cut = Box::pin(slot.cut.clone().cancelled_owned());
    (Cuttable { slot: Arc::clone(&slot), cut }, Cut { slot })
}

impl Cut {
    /// Cuts it unless it is released within `patience`.
    pub(super) async fn after(&self, patience: Duration) {
        if timeout(patience, self.slot.released.cancelled()).await.is_err() {
            self.now();
        }
    }

    fn now(&self) {
        drop(self.slot.lock().take());
        self.slot.cut.cancel();
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.now();
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<ByteStream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cuttable {
    /// Polls the stream if it is still there.
    fn with<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut ByteStream>, &mut Context<'_>) -> Poll<T>,
        cut: T,
    ) -> Poll<T> {
        // Before the stream, so that a cut in between wakes us.
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(cut);
        }
        match self.slot.lock().as_mut() {
            Some(stream) => poll(Pin::new(stream), cx),
            None => Poll::Ready(cut),
        }
    }
}

impl Drop for Cuttable {
    fn drop(&mut self) {
        drop(self.slot.lock().take());
        self.slot.released.cancel();
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(cx, |stream, cx| stream.poll_read(cx, buf), Ok(()))
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(cx, |stream, cx| stream.poll_write(cx, buf), Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |stream, cx| stream.poll_flush(cx), Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |stream, cx| stream.poll_shutdown(cx), Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_cut_ends_reader_and_writer_and_frees_the_stream_at_once() {
        let (ours, mut theirs) = duplex(8);
        let (stream, cut) = cuttable(Box::new(ours));
        let (mut read, mut write) = tokio::io::split(stream);
        write.write_all(b"12345678").await.unwrap();
        let mut byte = [0];
        let reading = read.read(&mut byte);
        let writing = write.write(b"9");
        let cutting = async {
            tokio::task::yield_now().await;
            drop(cut);
            let mut rest = Vec::new();
            theirs.read_to_end(&mut rest).await.unwrap();
            rest
        };
        let (read, written, rest) = tokio::join!(reading, writing, cutting);
        assert_eq!(read.unwrap(), 0);
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(rest, b"12345678");
    }
}
