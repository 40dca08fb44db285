//! The agent's part of a port session: handshake, then bytes between the data channel and one connection.
//!
//! Pure: frames, bytes and the time since the session's start go in, [`Action`]s come out.
//! What it does follows the real agent, its known faults included, because clients must live with them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::channel::{Arrival, Channel, RESEND_TICK, Resend};
use super::codec::{AgentMessage, DecodeError, MessageType, PayloadType};
use super::payload::{
    Flag, HandshakeComplete, HandshakeRequest, HandshakeResponse, RequestedAction, at_least,
};
use super::smux::KeepAlive;

/// Most payload of one message to the client.
pub const MAX_OUTPUT: usize = 1024;
/// How long the last messages may take to be acknowledged before the channel is closed over them.
const DRAIN: Duration = Duration::from_secs(2);
/// First client that speaks smux.
const MUX_SINCE: [u64; 3] = [1, 1, 70];
/// First client that does without smux keep-alives.
const QUIET_MUX_SINCE: [u64; 4] = [1, 2, 331, 1];

/// What a session is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub kind: Kind,
    /// As the client is told them in the handshake.
    pub properties: serde_json::Value,
    pub agent_version: String,
    pub handshake_timeout: Duration,
    /// Between sending `HandshakeComplete` and noting it; data that comes within is acknowledged and lost.
    pub handshake_gap: Duration,
}

/// What the document asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One raw stream; its end is the session's.
    Ssh,
    /// Many connections, by smux where the client can.
    Forward,
}

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

/// What carries the bytes on the machine's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// A TCP connection.
    Raw,
    /// An smux session.
    Mux(KeepAlive),
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
        let request = HandshakeRequest {
            agent_version: self.plan.agent_version.clone(),
            requested_client_actions: vec![RequestedAction {
                action_type: "SessionType".to_owned(),
                action_parameters: serde_json::json!({
                    "SessionType": "Port",
                    "Properties": self.plan.properties,
                }),
            }],
        };
        self.phase = Phase::Handshake { since: now };
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
        let response: HandshakeResponse = match serde_json::from_slice(payload) {
            Ok(response) => response,
            Err(error) => return self.finish(now, format!("Handshake response cannot be read: {error}")),
        };
        let session_type =
            response.processed_client_actions.iter().find(|action| action.action_type == "SessionType");
        match session_type {
            Some(action) if action.action_status == 1 => {}
            Some(action) => {
                return self.finish(now, format!("SessionType failed on the client: {}", action.error));
            }
            None => return self.finish(now, "The client did not process SessionType".to_owned()),
        }
        let version = &response.client_version;
        self.connection = if self.plan.kind == Kind::Forward && at_least(version, &MUX_SINCE) {
            let quiet = at_least(version, &QUIET_MUX_SINCE);
            Connection::Mux(if quiet { KeepAlive::Off } else { KeepAlive::On })
        } else {
            Connection::Raw
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
