//! One running session: joins its agent, its WebSocket of the moment and the connection inside the machine.
//!
//! The deciding is [`Agent`]'s; here are sockets, timers and the service's own part: publication messages,
//! `channel_closed`, the idle timeout, the hourly close, and faults.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::pending;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use super::SsmWorld;
use super::agent::{Action, Agent, Counts, MAX_OUTPUT};
use super::book::Book;
use super::clock;
use super::codec::MessageType;
use super::faults::{Dice, Fate};
use super::handshake::Plan;
use super::link::{Happened, Link, Reading};
use super::payload::ChannelClosed;
use super::settings::{Settings, millis};
use super::smux::Port;
use super::socket::{Incoming, Socket};

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
    link: Link,
    /// When the agent has slept enough after its last message.
    rested: Instant,
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
        starts: Some(now + millis(settings.agent_start_ms)),
        socket: None,
        attached: now,
        last_input: now,
        last_look: now,
        link: Link::new(seat.port.clone()),
        rested: now,
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
            let has_room = self.socket.as_ref().is_some_and(|socket| socket.has_room());
            let drained = self.socket.as_ref().filter(|_| !has_room).map(|socket| socket.drained());
            let reads =
                self.agent.reads() && has_room && self.agent.ahead() < pace.window() && now >= self.rested;
            let reading = if reads { Reading::Yes } else { Reading::No };
            let takes = self.link.takes();
            let wake = self.wake(now);
            tokio::select! {
                command = self.seat.commands.recv() => match command {
                    Some(Command::Attach(socket)) => self.attach(socket),
                    Some(Command::Cut) => self.socket = None,
                    Some(Command::Terminate) | None => break String::new(),
                },
                incoming = next_frame(&mut self.socket), if takes => self.incoming(incoming),
                happened = self.link.happens(&mut buffer[..chunk], reading) => {
                    self.happened(happened, &buffer);
                }
                () = notified(drained) => {}
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
                Action::Connect(connection) => self.link.connect(connection),
                Action::Deliver(bytes) => self.link.write(&bytes),
                Action::Disconnect => self.link.drop_connection(),
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
            && now >= self.attached + millis(self.limits.recycle_after_ms)
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
        self.last_input + millis(self.limits.idle_timeout_ms)
    }

    fn oldest_at(&self) -> Option<Instant> {
        self.limits.max_duration_ms.map(|most| self.born + millis(most))
    }

    /// When there is something to do without being asked.
    fn wake(&self, now: Instant) -> Instant {
        let recycle = self.attached + millis(self.limits.recycle_after_ms);
        let resting = self.rested > now && self.agent.reads();
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

    fn happened(&mut self, happened: Happened, buffer: &[u8]) {
        let since = self.born.elapsed();
        match happened {
            Happened::Read(count) => {
                for part in buffer[..count].chunks(MAX_OUTPUT) {
                    self.agent.output(since, Bytes::copy_from_slice(part));
                }
                self.rested = Instant::now() + self.seat.settings.borrow().rest(count);
            }
            Happened::Wrote => {}
            Happened::Connected => self.agent.connected(since),
            Happened::Refused(why) => self.agent.refused(since, &why),
            Happened::StreamRefused => self.agent.stream_refused(since),
            Happened::MuxEnded(why) => self.agent.mux_ended(since, &why),
            Happened::Ended(why) => {
                let port = &self.seat.port;
                let up = self.seat.world.instance(&port.instance_id).is_some();
                if up && port.machines.agent_online(&port.instance_id) {
                    self.agent.disconnected(since, &why);
                } else {
                    self.vanish();
                }
            }
        }
    }

    /// A machine without power says nothing more; the service tells the client that nobody publishes.
    fn vanish(&mut self) {
        self.agent.vanish();
        self.link.drop_connection();
        let pause = self.agent.notice(self.born.elapsed(), MessageType::PausePublication, Bytes::new());
        if let Some(socket) = &self.socket {
            socket.send(pause);
        }
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
        self.link.drop_connection();
        while self.closing.join_next().await.is_some() {}
    }
}

async fn notified(notify: Option<Arc<Notify>>) {
    match notify {
        Some(notify) => notify.notified().await,
        None => pending().await,
    }
}

async fn next_frame(socket: &mut Option<Box<Socket>>) -> Incoming {
    match socket {
        Some(socket) => socket.next().await,
        None => pending().await,
    }
}
