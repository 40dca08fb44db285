//! Reliable delivery over data-channel frames, as the agent does it: numbered messages, one acknowledgement each,
//! a reorder buffer on one side and a list of unacknowledged messages on the other.
//!
//! Pure: time is an argument (since the start of the session), frames go in and come out.
//! It knows nothing of handshakes, ports or sockets. All of it outlives a WebSocket.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::codec::{AgentMessage, MessageType, PayloadType};
use super::payload::Acknowledge;

/// How often the agent looks for something to send again.
pub const RESEND_TICK: Duration = Duration::from_millis(100);
/// The agent's bound of both lists. What is sent beyond it is not remembered.
const CAPACITY: usize = 100_000;
const FIRST_TRIP: f64 = 0.1;
const FIRST_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_TIMEOUT: Duration = Duration::from_secs(1);
/// Seconds; the least that is added to the smoothed round trip.
const GRANULARITY: f64 = 0.01;
const SYN: u64 = 1;
const SYN_FIN: u64 = 3;

/// How many overdue messages one tick sends again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// The oldest alone, as the real agent: enough for a link that carries one message a millisecond.
    Oldest,
    /// Up to this many, for a link without a pace, where a cut loses hundreds at once.
    UpTo(usize),
}

/// What became of a stream message that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next in order. Handle it and call [`Channel::accept`], or leave it and it will be sent again.
    Next(AgentMessage),
    /// Too early, kept; send this acknowledgement.
    Early(Bytes),
    /// Seen before; send this acknowledgement again.
    Seen(Bytes),
    /// Too early, and there is no room.
    NoRoom,
}

/// One session's two streams of messages.
#[derive(Debug)]
pub struct Channel {
    started_ms: u64,
    next: i64,
    unacked: VecDeque<Sent>,
    /// Number after the newest acknowledged message.
    acked: i64,
    expected: i64,
    early: BTreeMap<i64, AgentMessage>,
    /// Seconds, smoothed.
    trip: f64,
    variation: f64,
    timeout: Duration,
}

#[derive(Debug)]
struct Sent {
    sequence: i64,
    frame: Bytes,
    at: Duration,
}

impl Channel {
    /// A channel whose time 0 is `started_ms` after 1970.
    #[must_use]
    pub fn new(started_ms: u64) -> Self {
        Self {
            started_ms,
            next: 0,
            unacked: VecDeque::new(),
            acked: 0,
            expected: 0,
            early: BTreeMap::new(),
            trip: FIRST_TRIP,
            variation: 0.0,
            timeout: FIRST_TIMEOUT,
        }
    }

    /// Numbers and remembers a message to the client; the frame is to be sent now, if there is a way.
    pub fn send(&mut self, now: Duration, payload_type: PayloadType, payload: Bytes) -> Bytes {
        let flags = if self.next == 0 { SYN } else { 0 };
        let frame = self
            .message(now, MessageType::OutputStreamData, self.next, flags, payload_type, payload)
            .encode();
        if self.unacked.len() < CAPACITY {
            self.unacked.push_back(Sent { sequence: self.next, frame: frame.clone(), at: now });
        }
        self.next += 1;
        frame
    }

    /// Takes a stream message of the client.
    pub fn arrive(&mut self, now: Duration, message: AgentMessage) -> Arrival {
        if message.sequence == self.expected {
            return Arrival::Next(message);
        }
        if message.sequence < self.expected {
            return Arrival::Seen(self.acknowledgement(now, &message));
        }
        if self.early.len() >= CAPACITY {
            return Arrival::NoRoom;
        }
        let acknowledgement = self.acknowledgement(now, &message);
        self.early.insert(message.sequence, message);
        Arrival::Early(acknowledgement)
    }

    /// Marks the message in order as handled; the frame is its acknowledgement.
    pub fn accept(&mut self, now: Duration, message: &AgentMessage) -> Bytes {
        self.expected += 1;
        self.acknowledgement(now, message)
    }

    /// The next message in order, if it came early. Handle it and call [`Channel::accept_early`].
    #[must_use]
    pub fn next_early(&self) -> Option<AgentMessage> {
        self.early.get(&self.expected).cloned()
    }

    /// Marks it as handled; it is acknowledged already.
    pub fn accept_early(&mut self) {
        if self.early.remove(&self.expected).is_some() {
            self.expected += 1;
        }
    }

    /// Takes an acknowledgement. The round trip counts from the last sending, as the agent's does (no Karn's rule).
    pub fn acknowledged(&mut self, now: Duration, sequence: i64) {
        let Some(index) = self.unacked.iter().position(|sent| sent.sequence == sequence) else { return };
        if let Some(sent) = self.unacked.remove(index) {
            self.acked = self.acked.max(sequence + 1);
            let trip = now.saturating_sub(sent.at).as_secs_f64();
            self.variation = self.variation * 0.75 + (self.trip - trip).abs() * 0.25;
            self.trip = self.trip * 0.875 + trip * 0.125;
            let timeout = self.trip + (4.0 * self.variation).max(GRANULARITY);
            self.timeout = Duration::from_secs_f64(timeout).min(MAX_TIMEOUT);
        }
    }

    /// The frames that are due to be sent again.
    pub fn overdue(&mut self, now: Duration, resend: Resend) -> Vec<Bytes> {
        let most = match resend {
            Resend::Oldest => 1,
            Resend::UpTo(most) => most,
        };
        let timeout = self.timeout;
        self.unacked
            .iter_mut()
            .take(most)
            .filter(|sent| now.saturating_sub(sent.at) > timeout)
            .map(|sent| {
                sent.at = now;
                sent.frame.clone()
            })
            .collect()
    }

    /// Messages sent and not acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.unacked.len()
    }

    /// Messages sent after the newest acknowledged one. Older ones do not count: the vendor's client never
    /// repeats a lost acknowledgement, so some stay unacknowledged for ever.
    #[must_use]
    pub fn ahead(&self) -> usize {
        usize::try_from(self.next - self.acked).unwrap_or(usize::MAX)
    }

    /// A message outside the streams, such as `channel_closed`.
    #[must_use]
    pub fn notice(&self, now: Duration, message_type: MessageType, payload: Bytes) -> Bytes {
        self.message(now, message_type, 0, SYN_FIN, PayloadType::None, payload).encode()
    }

    fn acknowledgement(&self, now: Duration, message: &AgentMessage) -> Bytes {
        let content = Acknowledge {
            message_type: message.message_type.as_str().to_owned(),
            message_id: message.id.to_string(),
            sequence: message.sequence,
            sequential: true,
        };
        let payload = serde_json::to_vec(&content).expect("four plain fields are JSON");
        self.notice(now, MessageType::Acknowledge, payload.into())
    }

    fn message(
        &self,
        now: Duration,
        message_type: MessageType,
        sequence: i64,
        flags: u64,
        payload_type: PayloadType,
        payload: Bytes,
    ) -> AgentMessage {
        let since = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        AgentMessage {
            message_type,
            created_ms: self.started_ms.saturating_add(since),
            sequence,
            flags,
            id: Uuid::new_v4(),
            payload_type,
            payload,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn input(sequence: i64, payload: u8) -> AgentMessage {
        AgentMessage {
            message_type: MessageType::InputStreamData,
            created_ms: 1,
            sequence,
            flags: 0,
            id: Uuid::from_u128(u128::from(sequence.unsigned_abs())),
            payload_type: PayloadType::Output,
            payload: Bytes::copy_from_slice(&[payload]),
        }
    }

    fn acknowledged(frame: &Bytes) -> Acknowledge {
        let message = AgentMessage::decode(frame).unwrap();
        assert_eq!((message.message_type, message.sequence, message.flags), (MessageType::Acknowledge, 0, 3));
        serde_json::from_slice(&message.payload).unwrap()
    }

    #[test]
    fn only_the_first_message_carries_syn() {
        let mut channel = Channel::new(1000);
        let first = AgentMessage::decode(&channel.send(MS, PayloadType::Output, Bytes::new())).unwrap();
        let second = AgentMessage::decode(&channel.send(MS, PayloadType::Output, Bytes::new())).unwrap();
        assert_eq!((first.sequence, first.flags, first.created_ms), (0, 1, 1001));
        assert_eq!((second.sequence, second.flags), (1, 0));
    }

    #[test]
    fn a_message_seen_before_is_acknowledged_again() {
        let mut channel = Channel::new(1);
        let Arrival::Next(message) = channel.arrive(MS, input(0, 9)) else { panic!("in order") };
        let ack = acknowledged(&channel.accept(MS, &message));
        assert_eq!((ack.sequence, ack.message_type.as_str()), (0, "input_stream_data"));
        let Arrival::Seen(frame) = channel.arrive(MS, input(0, 9)) else { panic!("seen") };
        assert_eq!(acknowledged(&frame), ack);
    }

    #[test]
    fn a_message_that_nobody_was_ready_for_is_taken_when_it_comes_again() {
        let mut channel = Channel::new(1);
        assert_eq!(channel.arrive(MS, input(0, 9)), Arrival::Next(input(0, 9)));
        assert_eq!(channel.arrive(MS, input(0, 9)), Arrival::Next(input(0, 9)));
    }

    #[test]
    fn only_the_oldest_is_sent_again_and_only_after_the_timeout() {
        let mut channel = Channel::new(1);
        let first = channel.send(Duration::ZERO, PayloadType::Output, Bytes::from_static(b"a"));
        let second = channel.send(Duration::ZERO, PayloadType::Output, Bytes::from_static(b"b"));
        assert!(channel.overdue(200 * MS, Resend::Oldest).is_empty());
        assert_eq!(channel.overdue(201 * MS, Resend::Oldest), std::slice::from_ref(&first));
        assert!(channel.overdue(301 * MS, Resend::Oldest).is_empty());
        assert_eq!(channel.overdue(402 * MS, Resend::UpTo(9)), [first, second]);
    }

    #[test]
    fn a_hole_does_not_count_as_ahead() {
        let mut channel = Channel::new(1);
        for _ in 0..5 {
            channel.send(Duration::ZERO, PayloadType::Output, Bytes::new());
        }
        assert_eq!(channel.ahead(), 5);
        channel.acknowledged(MS, 3);
        assert_eq!((channel.ahead(), channel.in_flight()), (1, 4));
    }

    #[test]
    fn the_timeout_follows_the_round_trip_up_to_a_second() {
        let mut channel = Channel::new(1);
        for _ in 0..50 {
            channel.send(Duration::ZERO, PayloadType::Output, Bytes::new());
            let sequence = channel.next - 1;
            channel.acknowledged(MS, sequence);
        }
        assert!(channel.timeout < 20 * MS, "{:?}", channel.timeout);
        for _ in 0..50 {
            channel.send(Duration::ZERO, PayloadType::Output, Bytes::new());
            let sequence = channel.next - 1;
            channel.acknowledged(9000 * MS, sequence);
        }
        assert_eq!(channel.timeout, MAX_TIMEOUT);
    }

    proptest! {
        /// Any order, any duplicates: every payload is handled once, in order.
        #[test]
        fn order_is_restored(order in Just((0..40i64).collect::<Vec<_>>()).prop_shuffle(), twice in 0..40usize) {
            let mut channel = Channel::new(1);
            let mut handled = Vec::new();
            let again = order.iter().copied().cycle().skip(twice);
            for sequence in order.iter().copied().zip(again).flat_map(|(one, other)| [one, other]) {
                if let Arrival::Next(message) = channel.arrive(MS, input(sequence, 0)) {
                    channel.accept(MS, &message);
                    handled.push(message.sequence);
                    while let Some(early) = channel.next_early() {
                        handled.push(early.sequence);
                        channel.accept_early();
                    }
                }
            }
            prop_assert_eq!(handled, (0..40).collect::<Vec<_>>());
        }

        /// A link that loses frames and acknowledgements: all arrive in the end.
        #[test]
        fn what_is_lost_is_sent_again(losses in proptest::collection::vec(0..3u8, 200)) {
            let mut channel = Channel::new(1);
            let mut losses = losses.into_iter();
            let mut got = std::collections::BTreeSet::new();
            let mut wire: Vec<Bytes> =
                (0..20u8).map(|n| channel.send(Duration::ZERO, PayloadType::Output, Bytes::copy_from_slice(&[n]))).collect();
            let mut now = Duration::ZERO;
            for _ in 0..2000 {
                for frame in wire.drain(..) {
                    let fate = losses.next().unwrap_or(0);
                    let message = AgentMessage::decode(&frame).unwrap();
                    if fate != 1 {
                        got.insert(message.sequence);
                    }
                    if fate == 0 {
                        channel.acknowledged(now, message.sequence);
                    }
                }
                now += RESEND_TICK;
                wire = channel.overdue(now, Resend::Oldest);
            }
            prop_assert_eq!(got.len(), 20);
            prop_assert_eq!(channel.in_flight(), 0);
        }
    }
}
