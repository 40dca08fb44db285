//! The agent's part of a port session: handshake, then bytes between the data channel and one connection.
//!
//! Pure: frames, bytes and the time since the session's start go in, [`Action`]s come out.
//! What it does follows the real agent, its known faults included, because clients must live with them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::channel::{Arrival, Channel, RESEND_TICK, Resend};
use super::codec::{AgentMessage, DecodeError, MessageType, PayloadType};
use super::handshake::{Connection, Kind, Plan};
use super::payload::{Flag, HandshakeComplete};

/// Most payload of one message to the client.
pub const MAX_OUTPUT: usize = 1024;
/// How long the last messages may take to be acknowledged before the channel is closed over them.
const DRAIN: Duration = Duration::from_secs(2);
/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this frame, or lose it if there is no WebSocket.
    Send(Bytes),
    /// Connect to the port; answer with [`Agent::connected`] or [`Agent::refused`].
    Connect(Connection),
    /// Write these bytes to the connection, or keep them for the one that is being made.
    Deliver(Bytes),
    /// Drop the connection.
    Disconnect,
    /// The session is over, for this reason.
    Close(String),
}

/// Whether a frame counts as the client doing something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    AsInput,
    AsNothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Not running yet.
    Starting,
    /// The request is sent.
    Handshake {
        since: Duration,
    },
    /// `HandshakeComplete` is sent and not yet noted.
    Gap {
        until: Duration,
    },
    /// The connection is being made; stream messages are left unacknowledged.
    Connecting,
    Open,
    /// A raw forward between two connections: the next bytes connect again.
    Detached,
    /// The last messages wait for their acknowledgements.
    Draining {
        until: Duration,
        reason: String,
    },
    Ended,
    /// The machine lost its power: nobody answers any more.
    Vanished,
}

#[derive(Debug, PartialEq, Eq)]
enum Handled {
    Yes,
    /// Leave it unacknowledged.
    NotReady,
}

/// One session's agent.
#[derive(Debug)]
pub struct Agent {
    plan: Plan,
    channel: Channel,
    phase: Phase,
    /// What was chosen in the handshake.
    connection: Connection,
    ticked: Duration,
    actions: VecDeque<Action>,
}

impl Agent {
    /// An agent whose time 0 is `started_ms` after 1970.
    #[must_use]
    pub fn new(plan: Plan, started_ms: u64) -> Self {
        Self {
            plan,
            channel: Channel::new(started_ms),
            phase: Phase::Starting,
            connection: Connection::Raw,
            ticked: Duration::ZERO,
            actions: VecDeque::new(),
        }
    }

    /// Begins the handshake.
    pub fn start(&mut self, now: Duration) {
        self.phase = Phase::Handshake { since: now };
        let request = self.plan.request();
        self.send_json(now, PayloadType::HandshakeRequest, &request);
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes a binary frame of the client.
    pub fn frame(&mut self, now: Duration, frame: &Bytes) -> Result<Counts, DecodeError> {
        let message = AgentMessage::decode(frame)?;
        if matches!(self.phase, Phase::Vanished | Phase::Ended) {
            return Ok(Counts::AsNothing);
        }
        match message.message_type {
            MessageType::InputStreamData => {
                self.input(now, message);
                Ok(Counts::AsInput)
            }
            MessageType::Acknowledge => {
                match serde_json::from_slice::<super::payload::Acknowledge>(&message.payload) {
                    Ok(content) => self.channel.acknowledged(now, content.sequence),
                    Err(error) => tracing::warn!(%error, "acknowledgement that cannot be read"),
                }
                Ok(Counts::AsNothing)
            }
            // The client's to receive only.
            MessageType::OutputStreamData
            | MessageType::ChannelClosed
            | MessageType::StartPublication
            | MessageType::PausePublication => Ok(Counts::AsNothing),
        }
    }

    /// Bytes read from the connection, at most [`MAX_OUTPUT`].
    pub fn output(&mut self, now: Duration, bytes: Bytes) {
        self.send(now, PayloadType::Output, bytes);
    }

    /// A stream of the multiplexed session could not be connected.
    pub fn stream_refused(&mut self, now: Duration) {
        let flag = Flag::ConnectToPortError.to_bytes();
        self.send(now, PayloadType::Flag, Bytes::copy_from_slice(&flag));
    }

    /// The connection asked for stands.
    pub fn connected(&mut self, now: Duration) {
        if self.phase == Phase::Connecting {
            self.phase = Phase::Open;
            self.drain_early(now);
        }
    }

    /// The connection asked for was refused.
    pub fn refused(&mut self, now: Duration, why: &str) {
        self.finish(now, format!("Unable to connect to specified port: {why}"));
    }

    /// The connection ended by itself; `why` is empty at its end of file.
    pub fn disconnected(&mut self, now: Duration, why: &str) {
        match (&self.phase, self.plan.kind) {
            (Phase::Open, Kind::Forward) => self.phase = Phase::Detached,
            (Phase::Open, Kind::Ssh) => self.finish(now, why.to_owned()),
            // The flag was here first, or the end.
            (
                Phase::Starting
                | Phase::Handshake { .. }
                | Phase::Gap { .. }
                | Phase::Connecting
                | Phase::Detached
                | Phase::Draining { .. }
                | Phase::Ended
                | Phase::Vanished,
                _,
            ) => {}
        }
    }

    /// The multiplexed session broke or was ended by the client.
    pub fn mux_ended(&mut self, now: Duration, why: &str) {
        self.finish(now, why.to_owned());
    }

    /// The machine is gone without a word.
    pub fn vanish(&mut self) {
        self.phase = Phase::Vanished;
        self.actions.clear();
    }

    /// Whether the connection's bytes may be read: the agent reads ahead of nothing but its own link.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.phase == Phase::Open
    }

    /// How far it is ahead of the client, in messages.
    #[must_use]
    pub fn ahead(&self) -> usize {
        self.channel.ahead()
    }

    /// A frame outside the streams, such as `channel_closed`.
    #[must_use]
    pub fn notice(&self, now: Duration, message_type: MessageType, payload: Bytes) -> Bytes {
        self.channel.notice(now, message_type, payload)
    }

    /// Does what time asks for.
    pub fn tick(&mut self, now: Duration, resend: Resend) {
        if matches!(self.phase, Phase::Vanished | Phase::Ended) {
            return;
        }
        self.ticked = now;
        self.actions.extend(self.channel.overdue(now, resend).into_iter().map(Action::Send));
        match &self.phase {
            Phase::Handshake { since } if now >= *since + self.plan.handshake_timeout => {
                self.finish(now, "The client did not complete the handshake in time".to_owned());
            }
            Phase::Gap { until } if now >= *until => {
                self.actions.push_back(Action::Connect(self.connection));
                self.phase = Phase::Connecting;
            }
            Phase::Draining { until, reason } if now >= *until || self.channel.in_flight() == 0 => {
                self.actions.push_back(Action::Close(reason.clone()));
                self.phase = Phase::Ended;
            }
            Phase::Starting
            | Phase::Handshake { .. }
            | Phase::Gap { .. }
            | Phase::Connecting
            | Phase::Open
            | Phase::Detached
            | Phase::Draining { .. }
            | Phase::Ended
            | Phase::Vanished => {}
        }
    }

    /// When [`Agent::tick`] is due at the latest.
    #[must_use]
    pub fn due(&self, now: Duration) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Handshake { since } => Some(*since + self.plan.handshake_timeout),
            Phase::Gap { until } => Some(*until),
            Phase::Draining { until, .. } => Some(if self.channel.in_flight() == 0 { now } else { *until }),
            Phase::Ended | Phase::Vanished => return None,
            Phase::Starting | Phase::Connecting | Phase::Open | Phase::Detached => None,
        };
        let resend = (self.channel.in_flight() > 0).then_some(self.ticked + RESEND_TICK);
        phase.into_iter().chain(resend).min()
    }

    fn input(&mut self, now: Duration, message: AgentMessage) {
        match self.channel.arrive(now, message) {
            Arrival::Next(message) => {
                if self.handle(now, &message) == Handled::Yes {
                    let acknowledgement = self.channel.accept(now, &message);
                    self.actions.push_back(Action::Send(acknowledgement));
                    self.drain_early(now);
                }
            }
            Arrival::Early(acknowledgement) | Arrival::Seen(acknowledgement) => {
                self.actions.push_back(Action::Send(acknowledgement));
            }
            Arrival::NoRoom => {}
        }
    }

    fn drain_early(&mut self, now: Duration) {
        while let Some(message) = self.channel.next_early() {
            if self.handle(now, &message) == Handled::NotReady {
                return;
            }
            self.channel.accept_early();
        }
    }

    fn handle(&mut self, now: Duration, message: &AgentMessage) -> Handled {
        let payload = &message.payload;
        match (&self.phase, message.payload_type) {
            (Phase::Handshake { since }, PayloadType::HandshakeResponse) => {
                let since = *since;
                self.handshake_response(now, since, payload);
                Handled::Yes
            }
            (Phase::Starting | Phase::Connecting, _) => Handled::NotReady,
            (Phase::Open, PayloadType::Output) => {
                self.actions.push_back(Action::Deliver(payload.clone()));
                Handled::Yes
            }
            (Phase::Detached, PayloadType::Output) => {
                self.phase = Phase::Connecting;
                self.actions.push_back(Action::Connect(Connection::Raw));
                self.actions.push_back(Action::Deliver(payload.clone()));
                Handled::Yes
            }
            (Phase::Open | Phase::Detached, PayloadType::Flag) => {
                self.flag(now, payload);
                Handled::Yes
            }
            // Acknowledged and dropped: data within the handshake and its gap, late data, other payloads.
            (
                Phase::Handshake { .. }
                | Phase::Gap { .. }
                | Phase::Open
                | Phase::Detached
                | Phase::Draining { .. }
                | Phase::Ended
                | Phase::Vanished,
                _,
            ) => Handled::Yes,
        }
    }

    fn handshake_response(&mut self, now: Duration, since: Duration, payload: &[u8]) {
        self.connection = match self.plan.accept(payload) {
            Ok(connection) => connection,
            Err(why) => return self.finish(now, why),
        };
        let complete = HandshakeComplete {
            handshake_time_to_complete: u64::try_from((now - since).as_nanos()).unwrap_or(u64::MAX),
            customer_message: String::new(),
        };
        self.phase = Phase::Gap { until: now + self.plan.handshake_gap };
        self.send_json(now, PayloadType::HandshakeComplete, &complete);
    }

    fn flag(&mut self, now: Duration, payload: &[u8]) {
        match Flag::from_bytes(payload) {
            Some(Flag::TerminateSession) => self.finish(now, String::new()),
            Some(Flag::DisconnectToPort) if self.connection == Connection::Raw => {
                self.actions.push_back(Action::Disconnect);
                match self.plan.kind {
                    Kind::Forward => self.phase = Phase::Detached,
                    Kind::Ssh => self.finish(now, "Connection to the port was closed".to_owned()),
                }
            }
            Some(Flag::DisconnectToPort | Flag::ConnectToPortError) | None => {}
        }
    }

    fn finish(&mut self, now: Duration, reason: String) {
        if !matches!(self.phase, Phase::Draining { .. } | Phase::Ended | Phase::Vanished) {
            self.phase = Phase::Draining { until: now + DRAIN, reason };
        }
    }

    fn send(&mut self, now: Duration, payload_type: PayloadType, payload: Bytes) {
        let frame = self.channel.send(now, payload_type, payload);
        self.actions.push_back(Action::Send(frame));
    }

    fn send_json(&mut self, now: Duration, payload_type: PayloadType, content: &impl serde::Serialize) {
        let payload = serde_json::to_vec(content).expect("plain structures are JSON");
        self.send(now, payload_type, payload.into());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::payload::Acknowledge;
    use super::*;

    const STEP: Duration = Duration::from_millis(10);

    fn agent(kind: Kind) -> Agent {
        let plan = Plan {
            kind,
            properties: serde_json::json!({ "portNumber": "22" }),
            agent_version: "3.3.0.0".to_owned(),
            handshake_timeout: Duration::from_secs(15),
            handshake_gap: Duration::ZERO,
        };
        let mut agent = Agent::new(plan, 1);
        agent.start(Duration::ZERO);
        agent
    }

    fn frame(message_type: MessageType, sequence: i64, payload_type: PayloadType, payload: Bytes) -> Bytes {
        let id = Uuid::from_u128(1);
        AgentMessage { message_type, created_ms: 1, sequence, flags: 0, id, payload_type, payload }.encode()
    }

    fn response() -> Bytes {
        let actions = serde_json::json!([{ "ActionType": "SessionType", "ActionStatus": 1 }]);
        let response = serde_json::json!({ "ClientVersion": "1.1.0", "ProcessedClientActions": actions });
        response.to_string().into_bytes().into()
    }

    /// The least that a client must do.
    #[derive(Default)]
    struct Peer {
        expected: i64,
        early: BTreeMap<i64, AgentMessage>,
        next: i64,
        unacked: BTreeMap<i64, Bytes>,
        received: Vec<u8>,
        ready: bool,
    }

    impl Peer {
        fn send(&mut self, payload_type: PayloadType, payload: Bytes) {
            let sent = frame(MessageType::InputStreamData, self.next, payload_type, payload);
            self.unacked.insert(self.next, sent);
            self.next += 1;
        }

        /// Takes a frame; the answer, if it wants one.
        fn take(&mut self, bytes: &Bytes) -> Option<Bytes> {
            let message = AgentMessage::decode(bytes).unwrap();
            if message.message_type == MessageType::Acknowledge {
                let content: Acknowledge = serde_json::from_slice(&message.payload).unwrap();
                self.unacked.remove(&content.sequence);
                return None;
            }
            let content = Acknowledge {
                message_type: "output_stream_data".to_owned(),
                message_id: message.id.to_string(),
                sequence: message.sequence,
                sequential: true,
            };
            if message.sequence >= self.expected {
                self.early.insert(message.sequence, message);
            }
            while let Some(message) = self.early.remove(&self.expected) {
                self.expected += 1;
                match message.payload_type {
                    PayloadType::Output => self.received.extend_from_slice(&message.payload),
                    PayloadType::HandshakeRequest => self.send(PayloadType::HandshakeResponse, response()),
                    _ => self.ready = true,
                }
            }
            let payload = serde_json::to_vec(&content).unwrap().into();
            Some(frame(MessageType::Acknowledge, 0, PayloadType::None, payload))
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Pass,
        Lost,
        Twice,
        /// Behind the frames of the next step.
        Late,
    }

    fn fates() -> impl Strategy<Value = Vec<Fate>> {
        let fate = prop_oneof![
            6 => Just(Fate::Pass), 1 => Just(Fate::Lost), 1 => Just(Fate::Twice), 1 => Just(Fate::Late)
        ];
        proptest::collection::vec(fate, 400)
    }

    /// What the network makes of the frames of one step.
    fn carry(
        frames: Vec<Bytes>,
        late: &mut Vec<Bytes>,
        fates: &mut impl Iterator<Item = Fate>,
        cut: bool,
    ) -> Vec<Bytes> {
        let before = std::mem::take(late);
        let mut out = Vec::new();
        for frame in frames {
            match fates.next().unwrap_or(Fate::Pass) {
                _ if cut => {}
                Fate::Pass => out.push(frame),
                Fate::Lost => {}
                Fate::Twice => out.extend([frame.clone(), frame]),
                Fate::Late => late.push(frame),
            }
        }
        out.extend(before);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// An echo through a network that loses, doubles, reorders, and is cut at any point for any time.
        #[test]
        fn an_echo_comes_back_whole(fates in fates(), cut_at in 0..120u32, cut_for in 0..200u32, all in 0..2usize) {
            let mut fates = fates.into_iter();
            let mut agent = agent(Kind::Ssh);
            let mut peer = Peer::default();
            let sent: Vec<u8> = (0..6000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let mut parts = sent.chunks(100);
            let (mut up, mut down) = (Vec::new(), Vec::new());
            let resend = [Resend::Oldest, Resend::UpTo(50)][all];
            let mut now = Duration::ZERO;
            for step in 0..30_000 {
                now += STEP;
                let cut = (cut_at..cut_at + cut_for).contains(&step);
                if step % 10 == 0 {
                    agent.tick(now, resend);
                } else if agent.due(now).is_some_and(|due| now >= due) {
                    agent.tick(now, Resend::UpTo(0));
                }
                let mut to_client = Vec::new();
                while let Some(action) = agent.next_action() {
                    match action {
                        Action::Send(frame) => to_client.push(frame),
                        Action::Connect(_) => agent.connected(now),
                        Action::Deliver(bytes) => agent.output(now, bytes),
                        Action::Disconnect | Action::Close(_) => prop_assert!(false, "{action:?}"),
                    }
                }
                let mut to_agent = Vec::new();
                for frame in carry(to_client, &mut down, &mut fates, cut) {
                    to_agent.extend(peer.take(&frame));
                }
                if peer.ready && let Some(part) = parts.next() {
                    peer.send(PayloadType::Output, Bytes::copy_from_slice(part));
                }
                if step % 10 == 0 {
                    to_agent.extend(peer.unacked.values().cloned());
                }
                for frame in carry(to_agent, &mut up, &mut fates, cut) {
                    agent.frame(now, &frame).unwrap();
                }
                if peer.received.len() >= sent.len() && peer.unacked.is_empty() && agent.channel.in_flight() == 0 {
                    break;
                }
            }
            prop_assert_eq!(peer.received, sent);
            prop_assert_eq!(agent.channel.in_flight(), 0);
        }
    }

    fn opened(kind: Kind) -> Agent {
        let mut agent = agent(kind);
        let response = frame(MessageType::InputStreamData, 0, PayloadType::HandshakeResponse, response());
        agent.frame(STEP, &response).unwrap();
        agent.tick(STEP, Resend::Oldest);
        agent.connected(STEP);
        while agent.next_action().is_some() {}
        agent
    }

    fn acknowledge(agent: &mut Agent, now: Duration, sequence: i64) {
        let content = serde_json::json!({
            "AcknowledgedMessageType": "output_stream_data", "AcknowledgedMessageId": "",
            "AcknowledgedMessageSequenceNumber": sequence, "IsSequentialMessage": true,
        });
        let payload = content.to_string().into_bytes().into();
        agent.frame(now, &frame(MessageType::Acknowledge, 0, PayloadType::None, payload)).unwrap();
    }

    #[test]
    fn data_before_the_connection_stands_is_left_unacknowledged() {
        let mut agent = agent(Kind::Ssh);
        let response = frame(MessageType::InputStreamData, 0, PayloadType::HandshakeResponse, response());
        agent.frame(STEP, &response).unwrap();
        agent.tick(STEP, Resend::UpTo(0));
        while agent.next_action().is_some() {}
        let data = frame(MessageType::InputStreamData, 1, PayloadType::Output, Bytes::from_static(b"x"));
        agent.frame(STEP, &data).unwrap();
        assert_eq!(agent.next_action(), None);
        agent.connected(STEP);
        agent.frame(STEP, &data).unwrap();
        assert_eq!(agent.next_action(), Some(Action::Deliver(Bytes::from_static(b"x"))));
    }

    #[test]
    fn the_channel_closes_when_the_last_byte_is_acknowledged_or_after_two_seconds() {
        let closed = Some(Action::Close(String::new()));
        for acknowledged in [true, false] {
            let mut agent = opened(Kind::Ssh);
            agent.output(STEP, Bytes::from_static(b"last"));
            agent.disconnected(STEP, "");
            agent.tick(2 * STEP, Resend::UpTo(0));
            assert_ne!(agent.actions.back(), closed.as_ref());
            if acknowledged {
                for sequence in 0..3 {
                    acknowledge(&mut agent, 2 * STEP, sequence);
                }
                assert_eq!(agent.due(2 * STEP), Some(2 * STEP));
                agent.tick(2 * STEP, Resend::UpTo(0));
            } else {
                agent.tick(DRAIN + STEP, Resend::UpTo(0));
            }
            assert_eq!(agent.actions.back(), closed.as_ref());
        }
    }

    #[test]
    fn a_machine_without_power_neither_answers_nor_asks_for_time() {
        let mut agent = opened(Kind::Ssh);
        agent.vanish();
        let data = frame(MessageType::InputStreamData, 1, PayloadType::Output, Bytes::from_static(b"x"));
        assert_eq!(agent.frame(STEP, &data), Ok(Counts::AsNothing));
        agent.tick(100 * STEP, Resend::Oldest);
        assert_eq!((agent.next_action(), agent.due(100 * STEP)), (None, None));
    }
}
