//! One WebSocket of a data channel: frames out through a bounded queue, frames in one by one.
//!
//! Dropping it cuts the connection without a word; [`Socket::close`] says goodbye.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

pub(super) type Wire = WebSocketStream<TokioIo<Upgraded>>;

/// Frames that wait for the connection. Beyond [`ROOM`] nothing new is read for it, so the rest is for
/// acknowledgements and what is sent again.
const QUEUE: usize = 1024;
const ROOM: usize = 256;
/// How long the other side may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// An attached WebSocket.
#[derive(Debug)]
pub(super) struct Socket {
    reader: SplitStream<Wire>,
    queue: mpsc::Sender<Message>,
    /// Told whenever there is room again.
    drained: Arc<Notify>,
    writer: JoinSet<()>,
}

/// What came in.
#[derive(Debug)]
pub(super) enum Incoming {
    Frame(Bytes),
    /// Not a binary frame, or one too large.
    Wrong(CloseCode, &'static str),
    /// The connection is over.
    Gone,
}

impl Socket {
    pub(super) fn new(wire: Wire) -> Self {
        let (mut sink, reader) = wire.split();
        let (queue, mut frames) = mpsc::channel::<Message>(QUEUE);
        let drained = Arc::new(Notify::new());
        let told = Arc::clone(&drained);
        let mut writer = JoinSet::new();
        writer.spawn(async move {
            while let Some(message) = frames.recv().await {
                if frames.len() < ROOM {
                    told.notify_one();
                }
                let last = message.is_close();
                if sink.feed(message).await.is_err() {
                    return;
                }
                if (last || frames.is_empty()) && sink.flush().await.is_err() {
                    return;
                }
                if last {
                    return;
                }
            }
        });
        Self { reader, queue, drained, writer }
    }

    /// The next frame. Cancel safe.
    pub(super) async fn next(&mut self) -> Incoming {
        use tokio_tungstenite::tungstenite::Error;
        loop {
            match self.reader.next().await {
                Some(Ok(Message::Binary(frame))) => return Incoming::Frame(frame),
                Some(Ok(Message::Text(_))) => {
                    return Incoming::Wrong(CloseCode::Unsupported, "only the first frame is text");
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(Error::Capacity(_))) => {
                    return Incoming::Wrong(CloseCode::Size, "message too large");
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Incoming::Gone,
            }
        }
    }

    /// Whether there is room for data; acknowledgements are sent in any case.
    pub(super) fn has_room(&self) -> bool {
        self.queue.capacity() > QUEUE - ROOM
    }

    /// What tells when there may be room again.
    pub(super) fn drained(&self) -> Arc<Notify> {
        Arc::clone(&self.drained)
    }

    /// Sends a frame, or loses it when even the reserve is full: it will be sent again.
    pub(super) fn send(&self, frame: Bytes) {
        if self.queue.try_send(Message::Binary(frame)).is_err() {
            tracing::debug!("frame lost: the websocket does not take it");
        }
    }

    /// Sends what waits and a close frame, and waits a little for the other side to close, because
    /// a connection closed with bytes unread is reset, and the last frames are lost with it.
    pub(super) async fn close(mut self, last: Option<Bytes>, code: CloseCode, reason: &'static str) {
        let goodbye = async {
            if let Some(last) = last
                && self.queue.send(Message::Binary(last)).await.is_err()
            {
                return;
            }
            let frame = CloseFrame { code, reason: reason.into() };
            if self.queue.send(Message::Close(Some(frame))).await.is_err() {
                return;
            }
            while let Some(Ok(_)) = self.reader.next().await {}
            while self.writer.join_next().await.is_some() {}
        };
        if timeout(GOODBYE, goodbye).await.is_err() {
            tracing::debug!("websocket not closed by the client in time");
        }
    }
}
