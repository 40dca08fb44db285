//! One running session: joins its agent, its WebSocket of the moment and the connection inside the machine.
//!
//! The deciding is [`Agent`]'s; here are sockets, timers and the service's own part: publication messages,
//! `channel_closed`, the idle timeout, the hourly close, and faults.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::{BoxFuture, pending};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use super::SsmWorld;
use super::agent::{Action, Agent, Connection, Counts, MAX_OUTPUT, Plan};
use super::book::Book;
use super::clock;
use super::codec::MessageType;
use super::faults::{Dice, Fate};
use super::payload::ChannelClosed;
use super::settings::Settings;
use super::smux::{self, Port};
use super::socket::{Incoming, Socket};

/// Bytes for the connection that may wait before no more frames are read.
const MAX_PENDING: usize = 256 << 10;
/// How often a session looks whether its machine is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a running session is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Here is a WebSocket that has shown its token; it takes the place of the one before.
    Attach(Box<Socket>),
    /// `TerminateSession`.
    Terminate,
    /// The connection breaks, without a close frame.
    Cut,
}

/// What a session is started with.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) id: String,
    pub(super) plan: Plan,
    pub(super) port: Port,
    pub(super) world: Arc<dyn SsmWorld>,
    pub(super) book: Arc<Book>,
    pub(super) settings: watch::Receiver<Settings>,
    pub(super) commands: mpsc::Receiver<Command>,
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

struct Session {
    seat: Seat,
    agent: Agent,
    born: Instant,
    /// When the agent process is up; `None` once it is.
    starts: Option<Instant>,
    /// Idle timeout, maximum duration and hourly close, as they were when it began.
    limits: Settings,
    socket: Option<Box<Socket>>,
    attached: Instant,
    last_input: Instant,
    last_look: Instant,
    mode: Connection,
    dialing: Option<BoxFuture<'static, io::Result<(Reader, Writer)>>>,
    reader: Option<Reader>,
    writer: Option<Writer>,
    to_port: BytesMut,
    rested: Instant,
    mux: JoinSet<io::Result<()>>,
    refusals: (mpsc::Sender<()>, mpsc::Receiver<()>),
    dice: Dice,
    late: Vec<(Instant, Way, Bytes)>,
    closing: JoinSet<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// Runs a session to its end.
pub(super) async fn run(seat: Seat) {
    let now = Instant::now();
    let settings = seat.settings.borrow().clone();
    let session = Session {
        agent: Agent::new(seat.plan.clone(), clock::now_ms()),
        born: now,
        starts: Some(now + Duration::from_millis(settings.agent_start_ms)),
        socket: None,
        attached: now,
        last_input: now,
        last_look: now,
        mode: Connection::Raw,
        dialing: None,
        reader: None,
        writer: None,
        to_port: BytesMut::new(),
        rested: now,
        mux: JoinSet::new(),
        refusals: mpsc::channel(64),
        dice: Dice::new(&settings.faults),
        late: Vec::new(),
        closing: JoinSet::new(),
        limits: settings,
        seat,
    };
    session.run().await;
}

impl Session {
    async fn run(mut self) {
        let mut buffer = vec![0; 16 * MAX_OUTPUT];
        let why = loop {
            if let Some(why) = self.act() {
                break why;
            }
            if let Some(why) = self.expired(Instant::now()) {
                break why;
            }
            let now = Instant::now();
            let pace = self.seat.settings.borrow().pace;
            let chunk = if pace.rest().is_zero() { buffer.len() } else { MAX_OUTPUT };
            let reads = self.agent.reads()
                && self.socket.as_ref().is_some_and(|socket| socket.has_room())
                && self.agent.ahead() < pace.window()
                && now >= self.rested;
            let takes = self.to_port.len() < MAX_PENDING;
            let wake = self.wake(now);
            tokio::select! {
                command = self.seat.commands.recv() => match command {
                    Some(Command::Attach(socket)) => self.attach(socket),
                    Some(Command::Cut) => self.socket = None,
                    Some(Command::Terminate) | None => break String::new(),
                },
                incoming = next_frame(&mut self.socket), if takes => self.incoming(incoming),
                read = read_some(&mut self.reader, &mut buffer[..chunk]), if reads => match read {
                    Ok(0) => self.lost(""),
                    Ok(count) => self.output(&buffer[..count], pace.rest()),
                    Err(error) => self.lost(&error.to_string()),
                },
                written = write_some(&mut self.writer, &self.to_port), if !self.to_port.is_empty() => {
                    match written {
                        Ok(count) => self.to_port.advance(count),
                        // The reading side will say why.
                        Err(_) => {
                            self.writer = None;
                            self.to_port.clear();
                        }
                    }
                }
                dialed = dial_done(&mut self.dialing) => self.dialed(dialed),
                Some(()) = self.refusals.1.recv() => self.agent.stream_refused(self.born.elapsed()),
                Some(ended) = self.mux.join_next() => {
                    let why = ended.map_err(io::Error::other).flatten().err();
                    let why = why.map_or_else(String::new, |error| error.to_string());
                    self.agent.mux_ended(self.born.elapsed(), &why);
                }
                Some(_) = self.closing.join_next() => {}
                () = sleep_until(wake) => {}
            }
        };
        self.end(&why).await;
    }

    /// Does what the agent wants done; the reason if that is to end.
    fn act(&mut self) -> Option<String> {
        while let Some(action) = self.agent.next_action() {
            match action {
                Action::Send(frame) => self.pass(Way::Out, frame),
                Action::Connect(Connection::Raw) => {
                    self.mode = Connection::Raw;
                    let port = self.seat.port.clone();
                    self.dialing = Some(Box::pin(async move {
                        let (reader, writer) = port.dial().await?.into_split();
                        Ok((Box::new(reader) as Reader, Box::new(writer) as Writer))
                    }));
                }
                Action::Connect(mode @ Connection::Mux(keep_alive)) => {
                    self.mode = mode;
                    let (ours, theirs) = tokio::io::duplex(64 << 10);
                    let (reader, writer) = tokio::io::split(ours);
                    self.reader = Some(Box::new(reader));
                    self.writer = Some(Box::new(writer));
                    let refused = self.refusals.0.clone();
                    self.mux.spawn(smux::serve(theirs, self.seat.port.clone(), keep_alive, refused));
                    self.agent.connected(self.born.elapsed());
                }
                Action::Deliver(bytes) if self.writer.is_some() || self.dialing.is_some() => {
                    self.to_port.extend_from_slice(&bytes);
                }
                Action::Deliver(_) => {}
                Action::Disconnect => self.drop_connection(),
                Action::Close(why) => return Some(why),
            }
        }
        None
    }

    /// Does what time asks for; the reason if that is to end.
    fn expired(&mut self, now: Instant) -> Option<String> {
        let since = now - self.born;
        if self.starts.is_some_and(|starts| now >= starts) {
            self.starts = None;
            self.agent.start(since);
        }
        if self.agent.due(since).is_some_and(|due| since >= due) {
            let resend = self.seat.settings.borrow().resend();
            self.agent.tick(since, resend);
        }
        while let Some(index) = self.late.iter().position(|(at, ..)| *at <= now) {
            let (_, way, frame) = self.late.remove(index);
            self.deliver(way, frame);
        }
        if self.socket.is_some()
            && now >= self.attached + Duration::from_millis(self.limits.recycle_after_ms)
            && let Some(socket) = self.socket.take()
        {
            self.closing.spawn(socket.close(None, CloseCode::Normal, "Bye"));
        }
        if now >= self.idle_at() {
            return Some("The session ended because nothing was sent for too long".to_owned());
        }
        if self.oldest_at().is_some_and(|at| now >= at) {
            return Some("The session reached its maximum duration".to_owned());
        }
        // What this brought about is acted on first.
        self.act()
    }

    fn idle_at(&self) -> Instant {
        self.last_input + Duration::from_millis(self.limits.idle_timeout_ms)
    }

    fn oldest_at(&self) -> Option<Instant> {
        self.limits.max_duration_ms.map(|most| self.born + Duration::from_millis(most))
    }

    /// When there is something to do without being asked.
    fn wake(&self, now: Instant) -> Instant {
        let recycle = self.attached + Duration::from_millis(self.limits.recycle_after_ms);
        let resting = self.rested > now && self.reader.is_some();
        let times = [
            Some(self.idle_at()),
            self.oldest_at(),
            self.starts,
            self.agent.due(now - self.born).map(|due| self.born + due),
            self.socket.is_some().then_some(recycle),
            resting.then_some(self.rested),
            self.late.iter().map(|(at, ..)| *at).min(),
        ];
        times.into_iter().flatten().min().unwrap_or(now)
    }

    fn attach(&mut self, socket: Box<Socket>) {
        if let Some(before) = self.socket.take() {
            self.closing.spawn(before.close(None, CloseCode::Normal, "another connection took its place"));
        }
        let since = self.born.elapsed();
        socket.send(self.agent.notice(since, MessageType::StartPublication, Bytes::new()));
        self.attached = Instant::now();
        self.socket = Some(socket);
        let resend = self.seat.settings.borrow().resend();
        self.agent.tick(since, resend);
    }

    fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Frame(frame) => self.pass(Way::In, frame),
            Incoming::Gone => self.socket = None,
            Incoming::Wrong(code, why) => {
                tracing::warn!(session.id = self.seat.id, why, "websocket closed");
                if let Some(socket) = self.socket.take() {
                    self.closing.spawn(socket.close(None, code, why));
                }
            }
        }
    }

    /// Lets a frame suffer its fate.
    fn pass(&mut self, way: Way, frame: Bytes) {
        let fate = self.dice.roll(&self.seat.settings.borrow().faults);
        match fate {
            Fate::Pass => self.deliver(way, frame),
            Fate::Lost => {}
            Fate::Twice => {
                self.deliver(way, frame.clone());
                self.deliver(way, frame);
            }
            Fate::Late(delay) => self.late.push((Instant::now() + delay, way, frame)),
        }
    }

    fn deliver(&mut self, way: Way, frame: Bytes) {
        match way {
            Way::Out => {
                if let Some(socket) = &self.socket {
                    socket.send(frame);
                }
            }
            Way::In => {
                let now = Instant::now();
                if now >= self.last_look + LOOK_EVERY {
                    self.last_look = now;
                    if self.seat.world.instance(&self.seat.port.instance_id).is_none() {
                        self.vanish();
                    }
                }
                match self.agent.frame(now - self.born, &frame) {
                    Ok(Counts::AsInput) => self.last_input = now,
                    Ok(Counts::AsNothing) => {}
                    Err(error) => tracing::warn!(session.id = self.seat.id, %error, "frame ignored"),
                }
            }
        }
    }

    fn output(&mut self, bytes: &[u8], rest: Duration) {
        let since = self.born.elapsed();
        for part in bytes.chunks(MAX_OUTPUT) {
            self.agent.output(since, Bytes::copy_from_slice(part));
        }
        self.rested = Instant::now() + rest;
    }

    fn dialed(&mut self, dialed: io::Result<(Reader, Writer)>) {
        self.dialing = None;
        let since = self.born.elapsed();
        match dialed {
            Ok((reader, writer)) => {
                self.reader = Some(reader);
                self.writer = Some(writer);
                self.agent.connected(since);
            }
            Err(error) => {
                let target = format!("dial tcp 127.0.0.1:{}: {error}", self.seat.port.port);
                self.agent.refused(since, &target);
            }
        }
    }

    /// The connection ended. A machine without power says nothing more; the service tells the client
    /// that nobody publishes.
    fn lost(&mut self, why: &str) {
        self.drop_connection();
        let port = &self.seat.port;
        if self.seat.world.instance(&port.instance_id).is_none()
            || !port.machines.agent_online(&port.instance_id)
        {
            self.vanish();
        } else if self.mode == Connection::Raw {
            self.agent.disconnected(self.born.elapsed(), why);
        }
    }

    fn vanish(&mut self) {
        self.agent.vanish();
        self.drop_connection();
        self.mux.abort_all();
        let pause = self.agent.notice(self.born.elapsed(), MessageType::PausePublication, Bytes::new());
        if let Some(socket) = &self.socket {
            socket.send(pause);
        }
    }

    fn drop_connection(&mut self) {
        self.dialing = None;
        self.reader = None;
        self.writer = None;
        self.to_port.clear();
    }

    /// The last word, then the WebSocket's end.
    async fn end(&mut self, why: &str) {
        tracing::debug!(session.id = self.seat.id, why, "session over");
        self.seat.book.ended(&self.seat.id, why.to_owned(), clock::now());
        if let Some(socket) = self.socket.take() {
            let content = ChannelClosed {
                message_id: Uuid::new_v4().to_string(),
                created_date: clock::now().to_string(),
                destination_id: self.seat.id.clone(),
                session_id: self.seat.id.clone(),
                message_type: MessageType::ChannelClosed.as_str().to_owned(),
                schema_version: 1,
                output: why.to_owned(),
            };
            let payload = serde_json::to_vec(&content).expect("plain fields are JSON");
            let frame = self.agent.notice(self.born.elapsed(), MessageType::ChannelClosed, payload.into());
            self.closing.spawn(socket.close(Some(frame), CloseCode::Normal, ""));
        }
        self.drop_connection();
        while self.closing.join_next().await.is_some() {}
    }
}

// What is not there never comes; each is cancel safe.

async fn next_frame(socket: &mut Option<Box<Socket>>) -> Incoming {
    match socket {
        Some(socket) => socket.next().await,
        None => pending().await,
    }
}

async fn read_some(reader: &mut Option<Reader>, buffer: &mut [u8]) -> io::Result<usize> {
    match reader {
        Some(reader) => reader.read(buffer).await,
        None => pending().await,
    }
}

async fn write_some(writer: &mut Option<Writer>, bytes: &[u8]) -> io::Result<usize> {
    match writer {
        Some(writer) => writer.write(bytes).await,
        None => pending().await,
    }
}

async fn dial_done(
    dialing: &mut Option<BoxFuture<'static, io::Result<(Reader, Writer)>>>,
) -> io::Result<(Reader, Writer)> {
    match dialing {
        Some(dialing) => dialing.await,
        None => pending().await,
    }
}
