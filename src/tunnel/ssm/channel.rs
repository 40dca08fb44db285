//! One port session as a state machine: fed with frames, bytes and the time, asked for frames, bytes and when to look
//! again.
//!
//! Messages are acknowledged one by one and put back into order; what is not acknowledged is sent again. All of it
//! lives on when the connection under it is replaced ([`Channel::reconnected`]), so that no byte is lost or doubled.
//! Memory is bounded: [`Channel::room`] is 0 while too much is unacknowledged, and [`Channel::wants_frames`] is false
//! while too much is unread. Nothing is ever dropped to stay within a bound that the agent would not send again.

mod receive;
mod send;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use uuid::Uuid;

use self::receive::{Receiver, Taken};
use self::send::Sender;
use super::codec::{FLAG_SYN_FIN, Flag, Message, MessageKind, Millis, PayloadKind};
use super::handshake::{Handshake, HandshakeError};
use super::wire::{Acknowledge, ChannelClosed};

/// Bounds of one session, in bytes unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one message; 1024 is what the vendor's client and agent send, so the service is known to carry it.
    pub payload: usize,
    /// Of frames sent and not acknowledged. 512 KiB at 50 ms of round trip is 10 MB/s.
    pub window: usize,
    /// Of messages that came before their turn: twenty seconds of the agent's 0.8 MB/s.
    pub reorder: usize,
    /// Of bytes that came and were not read.
    pub unread: usize,
    /// Milliseconds without one acknowledgement until the agent is given up: its own limit, 5 min.
    pub give_up: Millis,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload: 1024,
            window: 512 * 1024,
            reorder: 16 * 1024 * 1024,
            unread: 256 * 1024,
            give_up: 300_000,
        }
    }
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The other side's TCP connection ended, or the session was ended for it: an end of file.
    #[error("closed by the agent: {0}")]
    ByAgent(String),
    /// Closed while bytes that were sent before had not come.
    #[error("closed by the agent with bytes missing: {0}")]
    Incomplete(String),
    /// Nothing listens on the port.
    #[error("nothing listens on the port")]
    NothingListens,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("nothing was acknowledged for {0} ms")]
    Silent(Millis),
}

/// One session.
#[derive(Debug)]
pub struct Channel {
    limits: Limits,
    ids: u128,
    handshake: Handshake,
    sender: Sender,
    receiver: Receiver,
    acks: VecDeque<Bytes>,
    unread: VecDeque<Bytes>,
    unread_bytes: usize,
    finished: bool,
    closed: Option<Closed>,
    malformed: u64,
}

/// Acknowledgements that may wait to be sent before no more frames are taken.
const MAX_ACKS: usize = 256;

impl Channel {
    /// A session that begins now. `ids` is random: message ids count up from it.
    #[must_use]
    pub fn new(limits: Limits, ids: u128, now: Millis) -> Self {
        Self {
            limits,
            ids,
            handshake: Handshake::new(now),
            sender: Sender::new(limits, now),
            receiver: Receiver::new(limits),
            acks: VecDeque::new(),
            unread: VecDeque::new(),
            unread_bytes: 0,
            finished: false,
            closed: None,
            malformed: 0,
        }
    }

    /// Whether bytes can flow: the handshake is over, and so is the pause after it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.handshake.is_done() && self.closed.is_none()
    }

    /// Why the session is over, if it is. What came before can still be read.
    #[must_use]
    pub fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// Frames that were not messages; they are ignored, and sent again by whoever meant something by them.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Whether frames should be fed now. When not, leave them unread in the connection.
    #[must_use]
    pub fn wants_frames(&self) -> bool {
        self.unread_bytes < self.limits.unread && self.acks.len() < MAX_ACKS
    }

    /// One frame from the other side. Returns whether it was a message.
    pub fn on_frame(&mut self, frame: &Bytes, now: Millis) -> bool {
        let Ok(message) = Message::decode(frame) else {
            self.malformed += 1;
            return false;
        };
        match message.kind {
            MessageKind::Output => self.on_output(message, now),
            MessageKind::Acknowledge => {
                self.sender.resume(now);
                if let Ok(ack) = serde_json::from_slice::<Acknowledge>(&message.payload) {
                    self.sender.acknowledged(ack.sequence, now);
                }
            }
            MessageKind::ChannelClosed => {
                let ChannelClosed { reason } = serde_json::from_slice(&message.payload).unwrap_or_default();
                self.close_by_agent(reason);
            }
            MessageKind::StartPublication => self.sender.resume(now),
            MessageKind::PausePublication => self.sender.pause(now),
            MessageKind::Input | MessageKind::Unknown => {}
        }
        true
    }

    /// The connection was replaced: everything unacknowledged is sent again, and nothing else changes.
    pub fn reconnected(&mut self, now: Millis) {
        self.sender.reconnected(now);
    }

    /// How many bytes [`Channel::write`] takes now; 0 before the session is open and while the window is full.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.is_open() && !self.finished { self.sender.room() } else { 0 }
    }

    /// Takes bytes to send, at most [`Channel::room`] of them, and says how many.
    pub fn write(&mut self, data: &[u8], now: Millis) -> usize {
        let taken = &data[..data.len().min(self.room())];
        for payload in taken.chunks(self.limits.payload) {
            let id = self.next_id();
            self.sender.push(PayloadKind::Output, payload, id, now);
        }
        taken.len()
    }

    /// No more bytes will be written: after those that were, the agent is told to end the session. A port session
    /// cannot be half-closed.
    pub fn finish(&mut self, now: Millis) {
        if !self.finished && self.is_open() {
            let id = self.next_id();
            self.sender.push(PayloadKind::Flag, &Flag::TerminateSession.payload(), id, now);
        }
        self.finished = true;
    }

    /// Whether everything written was acknowledged.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.sender.is_empty()
    }

    /// The next frame to send, if there is one now.
    pub fn poll_frame(&mut self, now: Millis) -> Option<Bytes> {
        self.acks.pop_front().or_else(|| self.sender.poll(now))
    }

    /// Time has passed; call it before [`Channel::poll_frame`].
    pub fn tick(&mut self, now: Millis) {
        if self.closed.is_some() {
            return;
        }
        let deaf = !self.wants_frames();
        self.sender.tick(now, deaf);
        if let Err(error) = self.handshake.tick(now) {
            self.closed = Some(error.into());
        } else if self.sender.silence(now) > self.limits.give_up {
            self.closed = Some(Closed::Silent(self.limits.give_up));
        }
    }

    /// When to call [`Channel::tick`] again, if nothing else happens before.
    #[must_use]
    pub fn wake(&self) -> Option<Millis> {
        match self.closed {
            Some(_) => None,
            None => self.handshake.wake().into_iter().chain(self.sender.wake()).min(),
        }
    }

    /// Bytes that came, in order; a part of them when there are many.
    #[must_use]
    pub fn readable(&self) -> &[u8] {
        self.unread.front().map_or(&[], |chunk| chunk)
    }

    /// The first `count` bytes of [`Channel::readable`] were read.
    ///
    /// # Panics
    /// If that is more than there were.
    pub fn consume(&mut self, count: usize) {
        if let Some(chunk) = self.unread.front_mut() {
            chunk.advance(count);
            self.unread_bytes -= count;
            if chunk.is_empty() {
                self.unread.pop_front();
            }
        }
    }

    fn on_output(&mut self, message: Message, now: Millis) {
        self.sender.resume(now);
        let (sequence, id) = (message.sequence, message.id);
        match self.receiver.take(message) {
            Taken::Yes => self.acknowledge(sequence, id, now),
            Taken::No => return,
        }
        while let Some(message) = self.receiver.next() {
            self.on_ordered(&message, now);
        }
    }

    fn on_ordered(&mut self, message: &Message, now: Millis) {
        let outcome = match message.payload_kind {
            PayloadKind::Output if self.handshake.is_complete() => {
                self.unread_bytes += message.payload.len();
                if !message.payload.is_empty() {
                    self.unread.push_back(message.payload.clone());
                }
                Ok(())
            }
            PayloadKind::Output => Err(HandshakeError::Early),
            PayloadKind::HandshakeRequest => self.answer(&message.payload, now),
            PayloadKind::HandshakeComplete => self.handshake.on_complete(now),
            PayloadKind::Flag => {
                self.on_flag(&message.payload);
                Ok(())
            }
            // Stderr, exit codes and encryption belong to other kinds of session.
            PayloadKind::HandshakeResponse | PayloadKind::Other(_) => Ok(()),
        };
        if let Err(error) = outcome {
            self.close(error.into());
        }
    }

    fn answer(&mut self, request: &[u8], now: Millis) -> Result<(), HandshakeError> {
        let answer = self.handshake.on_request(request)?;
        let id = self.next_id();
        self.sender.push(PayloadKind::HandshakeResponse, &answer.response, id, now);
        answer.refused.map_or(Ok(()), Err)
    }

    fn on_flag(&mut self, payload: &[u8]) {
        match Flag::parse(payload) {
            Some(Flag::ConnectToPortError) => self.close(Closed::NothingListens),
            Some(Flag::DisconnectToPort | Flag::TerminateSession) => {
                self.close_by_agent("end of file".to_owned())
            }
            None => {}
        }
    }

    fn close_by_agent(&mut self, reason: String) {
        let closed =
            if self.receiver.has_gap() { Closed::Incomplete(reason) } else { Closed::ByAgent(reason) };
        self.close(closed);
    }

    fn close(&mut self, closed: Closed) {
        self.closed.get_or_insert(closed);
    }

    fn acknowledge(&mut self, sequence: i64, id: Uuid, now: Millis) {
        let ack = Acknowledge {
            kind: MessageKind::Output.as_str().to_owned(),
            id: id.to_string(),
            sequence,
            sequential: true,
        };
        let payload = serde_json::to_vec(&ack).expect("a struct of strings and numbers is always JSON");
        let message = Message {
            kind: MessageKind::Acknowledge,
            created: now,
            sequence: 0,
            flags: FLAG_SYN_FIN,
            id: self.next_id(),
            payload_kind: PayloadKind::Other(0),
            payload: payload.into(),
        };
        self.acks.push_back(message.encode());
    }

    fn next_id(&mut self) -> Uuid {
        self.ids = self.ids.wrapping_add(1);
        uuid::Builder::from_random_bytes(self.ids.to_be_bytes()).into_uuid()
    }
}
