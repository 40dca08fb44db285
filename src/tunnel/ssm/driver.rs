//! Moves one session's frames and bytes: between the [`Channel`] state machine, the WebSocket and the stream that was
//! handed out.
//!
//! All decisions of the protocol are the channel's; here are the tasks, the timers and the reconnecting.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::SplitSink;
use futures::{Sink, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use uuid::Uuid;

use super::super::TunnelError;
use super::channel::{Channel, Closed};
use super::codec::Millis;
use super::session::{Grant, Service, WebSocket};
use super::task::{Order, tell};
use crate::clock;

/// Keeps proxies from closing an idle connection, and shows that it is alive.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Without a sign of life, pongs included. Early enough to resume before SSH gives up at 60 s.
const SILENCE: Duration = Duration::from_secs(40);
/// sshd speaks first: how long after the handshake its first byte is waited for, so that a port on which nothing
/// listens is an error of opening and not of reading.
const FIRST_BYTE: Duration = Duration::from_secs(2);
/// After our side is closed: for what it wrote last to arrive.
const LINGER: Duration = Duration::from_secs(2);
/// A connection that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(30);
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Of one read from the stream that was handed out.
const READ_SIZE: usize = 16 * 1024;

/// One session's task.
pub(super) struct Driver {
    service: Arc<Service>,
    resume_deadline: Duration,
    client_id: Uuid,
    grant: Grant,
    channel: Channel,
    read: ReadHalf<DuplexStream>,
    write: WriteHalf<DuplexStream>,
    /// Told once, when the stream is usable or never will be.
    ready: Option<oneshot::Sender<Result<(), TunnelError>>>,
    /// Resolves when nobody holds the stream any more.
    gone: oneshot::Receiver<()>,
    fate: Arc<OnceLock<String>>,
    /// Set when our side is closed: when to stop waiting for the rest to be acknowledged.
    leaving: Option<Instant>,
    /// Our side will write no more.
    ended: bool,
    /// The machine has sent something.
    spoke: bool,
    /// Until when that is waited for.
    first_byte: Option<Instant>,
    /// Since when there is no good connection.
    broken: Option<Instant>,
    retry: Duration,
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// Our side is closed and everything it wrote has arrived, or had its time to.
    Finished,
    /// The session is over.
    Closed(Closed),
    /// The connection is; the session may go on.
    Broken(String),
}

impl Driver {
    pub(super) fn new(order: Order, grant: Grant, client_id: Uuid) -> Self {
        let (read, write) = tokio::io::split(order.local);
        Self {
            service: order.service,
            resume_deadline: order.resume_deadline,
            client_id,
            grant,
            channel: Channel::new(order.limits, Uuid::new_v4().as_u128(), millis()),
            read,
            write,
            ready: Some(order.ready),
            gone: order.gone,
            fate: order.fate,
            leaving: None,
            ended: false,
            spoke: false,
            first_byte: None,
            broken: None,
            retry: RETRY_FIRST,
        }
    }

    /// Serves until the end and says why it ended.
    pub(super) async fn serve(mut self, mut socket: WebSocket) -> String {
        loop {
            let began = Instant::now();
            let why = match self.pump(socket).await {
                End::Finished if self.channel.is_drained() => return "closed by us".to_owned(),
                End::Finished => {
                    self.doom("closed before everything written had arrived");
                    return "closed by us, with bytes unacknowledged".to_owned();
                }
                End::Closed(closed) => return self.on_closed(&closed),
                End::Broken(why) => why,
            };
            if self.leaving.is_some() || self.ready.is_some() {
                self.announce(Err(TunnelError::Lost(why.clone())));
                self.doom(&why);
                return why;
            }
            if began.elapsed() > GOOD {
                self.is_good();
            }
            tracing::debug!(session.id = self.grant.session_id, why, "data channel broke, resuming");
            socket = match self.reconnect(why).await {
                Ok(socket) => socket,
                Err(why) => {
                    self.doom(&why);
                    return why;
                }
            };
            self.channel.reconnected(millis());
        }
    }

    /// Moves frames and bytes until the connection, the session or our side ends.
    async fn pump(&mut self, socket: WebSocket) -> End {
        let (mut sink, mut source) = socket.split();
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        let mut heard = Instant::now();
        let mut next: Option<Message> = None;
        let mut ping = false;
        let mut unflushed = false;
        let mut buffer = vec![0; READ_SIZE];
        loop {
            let now = millis();
            if let Some(end) = self.look(now) {
                self.say_last(&mut sink, next).await;
                return end;
            }
            if !self.channel.wants_frames() {
                // Signs of life lie unread.
                heard = Instant::now();
            }
            if heard.elapsed() >= SILENCE {
                return End::Broken(format!("nothing was heard for {SILENCE:?}"));
            }
            if next.is_none() {
                next = if std::mem::take(&mut ping) {
                    Some(Message::Ping(Bytes::new()))
                } else {
                    self.channel.poll_frame(now).map(Message::Binary)
                };
            }
            let room = if self.ended { 0 } else { self.channel.room().min(READ_SIZE) };
            let wake = self.wake().min(heard + SILENCE);
            tokio::select! {
                frame = source.next(), if self.channel.wants_frames() => {
                    heard = Instant::now();
                    if let Some(end) = self.on_message(frame) {
                        return end;
                    }
                }
                sent = feed_or_flush(&mut sink, &mut next), if next.is_some() || unflushed => {
                    match sent {
                        Ok(Sent::Fed) => unflushed = true,
                        Ok(Sent::Flushed) => unflushed = false,
                        Err(error) => return End::Broken(error.to_string()),
                    }
                }
                count = self.read.read(&mut buffer[..room]), if room > 0 => {
                    self.on_written(&buffer[..count.unwrap_or(0)]);
                }
                count = self.write.write(self.channel.readable()), if !self.channel.readable().is_empty() => {
                    // Who no longer reads shall not keep the rest from arriving.
                    let count = count.unwrap_or_else(|_| self.channel.readable().len());
                    self.channel.consume(count);
                }
                _ = &mut self.gone, if self.leaving.is_none() => {
                    self.leaving = Some(Instant::now() + LINGER);
                    if !self.channel.is_open() {
                        return End::Finished;
                    }
                }
                _ = pings.tick() => ping = true,
                () = sleep_until(wake) => {
                    if self.leaving.is_some_and(|until| Instant::now() >= until) {
                        return End::Finished;
                    }
                }
            }
        }
    }

    /// Lets the time pass, says when the stream is usable, and notices the end of the session or of our side.
    fn look(&mut self, now: Millis) -> Option<End> {
        self.channel.tick(now);
        self.spoke |= !self.channel.readable().is_empty();
        if self.channel.is_open() && self.ready.is_some() {
            let until = *self.first_byte.get_or_insert_with(|| Instant::now() + FIRST_BYTE);
            if self.spoke || Instant::now() >= until {
                self.announce(Ok(()));
            }
        }
        match self.channel.closed() {
            Some(closed) if self.channel.readable().is_empty() => return Some(End::Closed(closed.clone())),
            Some(_) | None => {}
        }
        (self.leaving.is_some() && self.ended && self.channel.is_drained()).then_some(End::Finished)
    }

    fn on_message(&mut self, message: Option<Result<Message, WsError>>) -> Option<End> {
        match message {
            Some(Ok(Message::Binary(frame))) => {
                if self.channel.on_frame(&frame, millis()) {
                    self.is_good();
                } else {
                    tracing::debug!(session.id = self.grant.session_id, bytes = frame.len(), "frame ignored");
                }
                None
            }
            Some(Ok(Message::Close(frame))) => Some(End::Broken(
                frame.map_or_else(|| "closed by the service".to_owned(), |frame| frame.to_string()),
            )),
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => None,
            Some(Err(error)) => Some(End::Broken(error.to_string())),
            None => Some(End::Broken("closed by the service".to_owned())),
        }
    }

    /// Our side wrote `data`, or closed when that is empty.
    fn on_written(&mut self, data: &[u8]) {
        let now = millis();
        if data.is_empty() {
            self.ended = true;
            self.channel.finish(now);
            self.leaving.get_or_insert_with(|| Instant::now() + LINGER);
        } else {
            let taken = self.channel.write(data, now);
            debug_assert_eq!(taken, data.len(), "no more was read than there was room for");
        }
    }

    /// When to look again if nothing happens.
    fn wake(&self) -> Instant {
        let now = millis();
        let channel =
            self.channel.wake().map(|at| Instant::now() + Duration::from_millis(at.saturating_sub(now)));
        let first_byte = self.first_byte.filter(|_| self.ready.is_some());
        let latest = Instant::now() + PING_EVERY;
        channel.into_iter().chain(first_byte).chain(self.leaving).fold(latest, Instant::min)
    }

    /// Sends what is left to be said, as far as it goes at once.
    async fn say_last(&mut self, sink: &mut SplitSink<WebSocket, Message>, next: Option<Message>) {
        let rest = async {
            if let Some(message) = next {
                sink.feed(message).await?;
            }
            while let Some(frame) = self.channel.poll_frame(millis()) {
                sink.feed(Message::Binary(frame)).await?;
            }
            sink.send(Message::Close(None)).await
        };
        if !matches!(timeout(LINGER, rest).await, Ok(Ok(()))) {
            tracing::debug!(session.id = self.grant.session_id, "the last frames were not sent");
        }
    }

    /// A new connection for the same session, or why there is none. Tries until the deadline has passed without a
    /// good connection.
    async fn reconnect(&mut self, why: String) -> Result<WebSocket, String> {
        let until = *self.broken.get_or_insert_with(Instant::now) + self.resume_deadline;
        let mut last = why;
        loop {
            // The first try is at once; when it does not lead to a good connection, the next ones come later.
            let pause = if self.retry == RETRY_FIRST { Duration::ZERO } else { self.retry };
            let pause = pause.mul_f64(rand::random_range(0.5..=1.0));
            self.retry = (self.retry * 2).min(RETRY_MAX);
            if Instant::now() + pause > until {
                return Err(format!("not resumed within {:?}: {last}", self.resume_deadline));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = &mut self.gone => return Err("closed by us while resuming".to_owned()),
            }
            let attempt = async {
                match self.service.resume(&self.grant, until).await? {
                    Some(grant) => Ok(Some((self.service.connect(&grant, self.client_id).await?, grant))),
                    None => Ok::<_, TunnelError>(None),
                }
            };
            let attempt = tokio::select! {
                attempt = attempt => attempt,
                _ = &mut self.gone => return Err("closed by us while resuming".to_owned()),
            };
            match attempt {
                Ok(Some((socket, grant))) => {
                    self.grant = grant;
                    return Ok(socket);
                }
                Ok(None) => return Err("the session is gone".to_owned()),
                Err(error) => last = error.to_string(),
            }
        }
    }

    fn is_good(&mut self) {
        self.broken = None;
        self.retry = RETRY_FIRST;
    }

    fn on_closed(&mut self, closed: &Closed) -> String {
        let why = closed.to_string();
        self.announce(Err(match closed {
            Closed::ByAgent(_) | Closed::Incomplete(_) | Closed::NothingListens => {
                TunnelError::NotYet(why.clone())
            }
            Closed::Handshake(_) | Closed::Silent(_) => TunnelError::Lost(why.clone()),
        }));
        match closed {
            Closed::ByAgent(_) => {}
            Closed::Incomplete(_) | Closed::NothingListens | Closed::Handshake(_) | Closed::Silent(_) => {
                self.doom(&why);
            }
        }
        why
    }

    /// What is read after the rest is an error, not an end of file.
    fn doom(&mut self, why: &str) {
        self.fate.get_or_init(|| why.to_owned());
    }

    fn announce(&mut self, result: Result<(), TunnelError>) {
        if let Some(ready) = self.ready.take() {
            tell(ready, result);
        }
    }
}

enum Sent {
    Fed,
    Flushed,
}

/// Hands over `next` as soon as there is room, or flushes when there is none; whoever stops waiting still has it.
async fn feed_or_flush(
    sink: &mut SplitSink<WebSocket, Message>,
    next: &mut Option<Message>,
) -> Result<Sent, WsError> {
    if next.is_none() {
        return sink.flush().await.map(|()| Sent::Flushed);
    }
    poll_fn(|cx| Pin::new(&mut *sink).poll_ready(cx)).await?;
    match next.take() {
        Some(message) => Pin::new(sink).start_send(message).map(|()| Sent::Fed),
        None => Ok(Sent::Fed),
    }
}

fn millis() -> Millis {
    u64::try_from(clock::steady().as_millisecond()).unwrap_or(1).max(1)
}
