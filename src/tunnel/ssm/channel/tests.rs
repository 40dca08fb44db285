//! The channel against a small model of the agent, over a network that loses, doubles, reorders and breaks.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::codec::HEADER_LEN;
use super::super::handshake::{HANDSHAKE_TIMEOUT, SETTLE};
use super::*;

/// The agent as its source describes it: selective acknowledgements, a reorder buffer, only the oldest message resent.
struct Agent {
    to_send: VecDeque<u8>,
    received: Vec<u8>,
    responses: Vec<Value>,
    flags: Vec<Flag>,
    expected: i64,
    waiting: BTreeMap<i64, Message>,
    next_sequence: i64,
    unacked: BTreeMap<i64, (Bytes, Millis)>,
    out: VecDeque<Bytes>,
    /// Until then, input is acknowledged and dropped: the agent's own race.
    deaf_until: Option<Millis>,
}

impl Agent {
    fn new(to_send: &[u8]) -> Self {
        let mut agent = Self {
            to_send: to_send.iter().copied().collect(),
            received: Vec::new(),
            responses: Vec::new(),
            flags: Vec::new(),
            expected: 0,
            waiting: BTreeMap::new(),
            next_sequence: 0,
            unacked: BTreeMap::new(),
            out: VecDeque::new(),
            deaf_until: None,
        };
        let request = json!({"AgentVersion": "3.3.987.0", "RequestedClientActions": [
            {"ActionType": "SessionType", "ActionParameters": {"SessionType": "Port"}}]});
        agent.push(PayloadKind::HandshakeRequest, request.to_string().into_bytes(), 1);
        agent
    }

    fn push(&mut self, payload_kind: PayloadKind, payload: Vec<u8>, now: Millis) {
        let frame = output(self.next_sequence, payload_kind, payload);
        self.unacked.insert(self.next_sequence, (frame.clone(), now));
        self.next_sequence += 1;
        self.out.push_back(frame);
    }

    fn on_frame(&mut self, frame: &Bytes, now: Millis) {
        let message = Message::decode(frame).unwrap();
        if message.kind == MessageKind::Acknowledge {
            let ack: Acknowledge = serde_json::from_slice(&message.payload).unwrap();
            self.unacked.remove(&ack.sequence);
            return;
        }
        assert_eq!(message.kind, MessageKind::Input);
        self.out.push_back(acknowledgement(message.sequence));
        if message.sequence >= self.expected {
            self.waiting.insert(message.sequence, message);
        }
        while let Some(message) = self.waiting.remove(&self.expected) {
            self.expected += 1;
            self.on_ordered(&message, now);
        }
    }

    fn on_ordered(&mut self, message: &Message, now: Millis) {
        match message.payload_kind {
            PayloadKind::HandshakeResponse => {
                self.responses.push(serde_json::from_slice(&message.payload).unwrap());
                self.push(PayloadKind::HandshakeComplete, b"{}".to_vec(), now);
                self.deaf_until = Some(now + 50);
            }
            _ if self.deaf_until.is_none_or(|until| now < until) => {}
            PayloadKind::Output => self.received.extend_from_slice(&message.payload),
            PayloadKind::Flag => self.flags.push(Flag::parse(&message.payload).unwrap()),
            other => panic!("agent got {other:?}"),
        }
    }

    fn tick(&mut self, now: Millis) {
        if self.deaf_until.is_some() && !self.to_send.is_empty() {
            let count = self.to_send.len().min(7);
            let payload = self.to_send.drain(..count).collect();
            self.push(PayloadKind::Output, payload, now);
        }
        if let Some((frame, sent)) = self.unacked.values_mut().next()
            && now >= *sent + 200
        {
            *sent = now;
            self.out.push_back(frame.clone());
        }
    }
}

fn output(sequence: i64, payload_kind: PayloadKind, payload: Vec<u8>) -> Bytes {
    message(MessageKind::Output, sequence, payload_kind, payload)
}

fn acknowledgement(sequence: i64) -> Bytes {
    let payload = json!({"AcknowledgedMessageType": "input_stream_data", "AcknowledgedMessageId": "",
        "AcknowledgedMessageSequenceNumber": sequence, "IsSequentialMessage": true});
    message(MessageKind::Acknowledge, 0, PayloadKind::Other(0), payload.to_string().into_bytes())
}

fn message(kind: MessageKind, sequence: i64, payload_kind: PayloadKind, payload: Vec<u8>) -> Bytes {
    let id = Uuid::from_u128(1);
    Message { kind, created: 1, sequence, flags: 0, id, payload_kind, payload: payload.into() }.encode()
}

/// What the network does with the next frame.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Deliver,
    Lose,
    Double,
    /// Overtaken by those behind it.
    Late,
    /// Arrives with one byte changed.
    Corrupt,
    /// The connection breaks; everything under way is lost.
    Break,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        8 => Just(Fate::Deliver),
        3 => Just(Fate::Lose),
        2 => Just(Fate::Double),
        3 => Just(Fate::Late),
        1 => Just(Fate::Corrupt),
        1 => Just(Fate::Break),
    ];
    prop::collection::vec(fate, 0..300).prop_map(with_luck)
}

/// Lets every fifth frame of a bad run through: what loses more than that has no handshake in time, rightly.
fn with_luck(fates: Vec<Fate>) -> Vec<Fate> {
    let mut run = 0;
    let lucky = fates.into_iter().map(|fate| {
        let is_bad = matches!(fate, Fate::Lose | Fate::Corrupt | Fate::Break) && run < 4;
        run = if is_bad { run + 1 } else { 0 };
        if is_bad || matches!(fate, Fate::Double | Fate::Late) { fate } else { Fate::Deliver }
    });
    lucky.collect()
}

/// Passes on what is in `wire` as the next fates have it; a perfect network when there are none left.
fn pass(wire: &mut VecDeque<Bytes>, fates: &mut impl Iterator<Item = Fate>) -> (Vec<Bytes>, bool) {
    let mut arrived = Vec::new();
    let mut late = Vec::new();
    while let Some(frame) = wire.pop_front() {
        match fates.next().unwrap_or(Fate::Deliver) {
            Fate::Deliver => arrived.push(frame),
            Fate::Lose => {}
            Fate::Double => arrived.extend([frame.clone(), frame]),
            Fate::Late => late.push(frame),
            Fate::Corrupt => {
                let mut bytes = frame.to_vec();
                bytes[HEADER_LEN - 30] ^= 0x10;
                arrived.push(bytes.into());
            }
            Fate::Break => {
                wire.clear();
                return (Vec::new(), true);
            }
        }
    }
    arrived.extend(late);
    (arrived, false)
}

const SMALL: Limits = Limits { payload: 5, window: 1000, reorder: 2000, unread: 40, give_up: 300_000 };

/// Runs both sides until all is said, and checks the bounds on the way.
fn converse(up: &[u8], down: &[u8], up_fates: Vec<Fate>, down_fates: Vec<Fate>) -> (Vec<u8>, Agent) {
    let (mut up_fates, mut down_fates) = (up_fates.into_iter(), down_fates.into_iter());
    let mut now = 1;
    let mut channel = Channel::new(SMALL, 42, now);
    let mut agent = Agent::new(down);
    let (mut to_agent, mut to_client) = (VecDeque::new(), VecDeque::new());
    let (mut written, mut read, mut unread) = (0, Vec::new(), VecDeque::new());
    for _ in 0..20_000 {
        now += 10;
        channel.tick(now);
        assert_eq!(channel.closed(), None);
        written += channel.write(&up[written..], now);
        while let Some(frame) = channel.poll_frame(now) {
            to_agent.push_back(frame);
        }
        agent.tick(now);
        let (arrived, broke) = pass(&mut to_agent, &mut up_fates);
        for frame in arrived {
            if Message::decode(&frame).is_ok() {
                agent.on_frame(&frame, now);
            }
        }
        to_client.append(&mut agent.out);
        let (arrived, broke_too) = pass(&mut to_client, &mut down_fates);
        unread.extend(arrived);
        while channel.wants_frames()
            && let Some(frame) = unread.pop_front()
        {
            channel.on_frame(&frame, now);
            assert!(channel.unread_bytes < 2000 + SMALL.unread, "bounded by what the reorder buffer held");
        }
        // A slow reader: one piece at a time.
        let piece = channel.readable().to_vec();
        read.extend_from_slice(&piece);
        channel.consume(piece.len());
        if broke || broke_too {
            to_agent.clear();
            to_client.clear();
            unread.clear();
            channel.reconnected(now);
        }
        if written == up.len()
            && channel.is_drained()
            && agent.received.len() >= up.len()
            && read.len() >= down.len()
        {
            break;
        }
    }
    (read, agent)
}

/// A channel past its handshake, and the time.
fn open() -> (Channel, Millis) {
    let mut channel = Channel::new(Limits { window: 3000, ..Limits::default() }, 7, 1);
    let request = json!({"RequestedClientActions": [
        {"ActionType": "SessionType", "ActionParameters": {"SessionType": "Port"}}]});
    channel.on_frame(&output(0, PayloadKind::HandshakeRequest, request.to_string().into_bytes()), 1);
    channel.on_frame(&output(1, PayloadKind::HandshakeComplete, b"{}".to_vec()), 1);
    channel.on_frame(&acknowledgement(0), 1);
    channel.tick(1 + SETTLE);
    while channel.poll_frame(1 + SETTLE).is_some() {}
    channel.on_frame(&acknowledgement(0), 1 + SETTLE);
    assert!(channel.is_open() && channel.is_drained());
    (channel, 1 + SETTLE)
}

fn frames(channel: &mut Channel, now: Millis) -> Vec<Message> {
    channel.tick(now);
    std::iter::from_fn(|| channel.poll_frame(now)).map(|frame| Message::decode(&frame).unwrap()).collect()
}

fn sequences(channel: &mut Channel, now: Millis) -> Vec<i64> {
    frames(channel, now).into_iter().filter(|m| m.kind == MessageKind::Input).map(|m| m.sequence).collect()
}

proptest! {
    #[test]
    fn both_streams_arrive_exactly_whatever_the_network_does(
        up in prop::collection::vec(any::<u8>(), 0..600),
        down in prop::collection::vec(any::<u8>(), 0..600),
        up_fates in fates(),
        down_fates in fates(),
    ) {
        let (read, agent) = converse(&up, &down, up_fates, down_fates);
        prop_assert_eq!(read, down);
        prop_assert_eq!(agent.received, up);
    }

    #[test]
    fn a_connection_that_breaks_at_any_point_costs_nothing(at in 0..120_usize, again in 0..60_usize) {
        let stream: Vec<u8> = (0..=255).collect();
        let fates: Vec<_> = (0..at).map(|_| Fate::Deliver).chain([Fate::Break])
            .chain((0..again).map(|_| Fate::Deliver)).chain([Fate::Break]).collect();
        let (read, agent) = converse(&stream, &stream, fates.clone(), Vec::new());
        prop_assert_eq!((read, agent.received), (stream.clone(), stream.clone()));
        let (read, agent) = converse(&stream, &stream, Vec::new(), fates);
        prop_assert_eq!((read, agent.received), (stream.clone(), stream.clone()));
    }

    #[test]
    fn frames_of_any_content_never_panic(
        steps in prop::collection::vec((0..8_u8, -2..6_i64, 0..12_u32, prop::collection::vec(any::<u8>(), 0..40)), 0..60)
    ) {
        let (mut channel, mut now) = open();
        for (kind, sequence, payload_code, payload) in steps {
            let kind = [MessageKind::Input, MessageKind::Output, MessageKind::Acknowledge, MessageKind::ChannelClosed,
                MessageKind::StartPublication, MessageKind::PausePublication, MessageKind::Unknown,
                MessageKind::Output][usize::from(kind)];
            let frame = message(kind, sequence, PayloadKind::Other(payload_code), payload.clone());
            channel.on_frame(&frame, now);
            channel.on_frame(&payload.into(), now);
            channel.write(b"xyz", now);
            now += 50;
            channel.tick(now);
            while channel.poll_frame(now).is_some() {}
            let held = channel.readable().len();
            channel.consume(held);
        }
    }
}

#[test]
fn the_first_bytes_survive_the_agents_race_after_the_handshake() {
    let (read, agent) = converse(b"first", b"banner", Vec::new(), Vec::new());
    assert_eq!(agent.received, b"first");
    assert_eq!(read, b"banner");
    assert_eq!(agent.responses.len(), 1);
}

#[test]
fn nothing_is_taken_before_the_session_is_open() {
    let mut channel = Channel::new(Limits::default(), 1, 1);
    assert_eq!(channel.room(), 0);
    assert_eq!(channel.write(b"early", 1), 0);
    assert_eq!(channel.wake(), Some(1 + HANDSHAKE_TIMEOUT));
    channel.tick(1 + HANDSHAKE_TIMEOUT);
    assert_eq!(channel.closed(), Some(&Closed::Handshake(HandshakeError::Timeout)));
}

#[test]
fn a_full_window_takes_no_more_until_something_is_acknowledged() {
    let (mut channel, now) = open();
    let taken = channel.write(&[1; 10_000], now);
    assert_eq!((taken, channel.room()), (2 * 1024, 1024));
    channel.write(&[1; 1024], now);
    assert_eq!(channel.write(&[1; 1024], now), 0);
    assert_eq!(sequences(&mut channel, now), [1, 2, 3]);
    channel.on_frame(&acknowledgement(2), now);
    assert_eq!(channel.write(&[1; 10_000], now), 1024);
}

#[test]
fn an_unread_stream_asks_for_no_more_frames_and_loses_none() {
    let (mut channel, now) = open();
    let mut sequence = 2;
    while channel.wants_frames() {
        channel.on_frame(&output(sequence, PayloadKind::Output, vec![0; 1024]), now);
        while channel.poll_frame(now).is_some() {}
        sequence += 1;
    }
    assert_eq!(sequence, 2 + 256);
    channel.consume(1024);
    assert!(channel.wants_frames());
}

#[test]
fn only_what_is_overdue_is_resent_and_each_time_later() {
    let (mut channel, now) = open();
    channel.write(&[1; 1024], now);
    channel.write(&[2; 1024], now);
    assert_eq!(sequences(&mut channel, now), [1, 2]);
    channel.on_frame(&acknowledgement(1), now + 20);
    let mut resent = Vec::new();
    for later in (now..now + 5000).step_by(10) {
        resent.extend(sequences(&mut channel, later).into_iter().map(|sequence| (sequence, later - now)));
    }
    assert!(resent.iter().all(|(sequence, _)| *sequence == 2), "{resent:?}");
    assert!((3..=6).contains(&resent.len()), "{resent:?}");
    assert!(resent.is_sorted_by_key(|(_, at)| *at) && resent[0].1 >= 100, "{resent:?}");
}

#[test]
fn a_duplicate_is_acknowledged_again_and_not_delivered_again() {
    let (mut channel, now) = open();
    let frame = output(2, PayloadKind::Output, b"x".to_vec());
    channel.on_frame(&frame, now);
    channel.on_frame(&frame, now);
    let acks = frames(&mut channel, now);
    assert_eq!(acks.iter().filter(|m| m.kind == MessageKind::Acknowledge).count(), 2);
    assert_eq!((acks[0].sequence, acks[0].flags), (0, FLAG_SYN_FIN));
    channel.consume(1);
    assert_eq!(channel.readable(), b"");
}

#[test]
fn a_pause_holds_back_data_but_not_acknowledgements_and_ends_with_any_message() {
    let (mut channel, now) = open();
    channel.on_frame(&message(MessageKind::PausePublication, 0, PayloadKind::Other(0), Vec::new()), now);
    channel.write(b"later", now);
    assert_eq!(frames(&mut channel, now), []);
    channel.on_frame(&output(2, PayloadKind::Output, b"x".to_vec()), now + 10);
    let sent: Vec<_> = frames(&mut channel, now + 10).into_iter().map(|m| m.kind).collect();
    assert_eq!(sent, [MessageKind::Acknowledge, MessageKind::Input]);
}

#[test]
fn a_pause_that_nobody_ends_ends_by_itself() {
    let (mut channel, now) = open();
    channel.on_frame(&message(MessageKind::PausePublication, 0, PayloadKind::Other(0), Vec::new()), now);
    channel.write(b"later", now);
    let until = channel.wake().unwrap();
    assert_eq!(frames(&mut channel, until - 1), []);
    assert_eq!(sequences(&mut channel, until), [1]);
    assert_eq!(channel.closed(), None);
}

#[test]
fn the_agents_end_leaves_what_came_before_readable() {
    let (mut channel, now) = open();
    channel.on_frame(&output(2, PayloadKind::Output, b"bye".to_vec()), now);
    let closed = json!({"Output": "session ended", "SessionId": "s"}).to_string().into_bytes();
    channel.on_frame(&message(MessageKind::ChannelClosed, 0, PayloadKind::Other(0), closed), now);
    assert_eq!(channel.closed(), Some(&Closed::ByAgent("session ended".to_owned())));
    assert_eq!(channel.readable(), b"bye");
    assert_eq!((channel.room(), channel.wake()), (0, None));
}

#[test]
fn an_end_with_a_gap_before_it_is_not_an_end_of_file() {
    let (mut channel, now) = open();
    channel.on_frame(&output(3, PayloadKind::Output, b"b".to_vec()), now);
    channel.on_frame(&message(MessageKind::ChannelClosed, 0, PayloadKind::Other(0), Vec::new()), now);
    assert_eq!(channel.closed(), Some(&Closed::Incomplete(String::new())));
}

#[test]
fn a_refused_port_is_told_apart() {
    let (mut channel, now) = open();
    channel.on_frame(&output(2, PayloadKind::Flag, Flag::ConnectToPortError.payload().to_vec()), now);
    assert_eq!(channel.closed(), Some(&Closed::NothingListens));
}

#[test]
fn a_shell_session_is_answered_and_closed() {
    let mut channel = Channel::new(Limits::default(), 1, 1);
    let request = json!({"RequestedClientActions": [
        {"ActionType": "SessionType", "ActionParameters": {"SessionType": "Standard_Stream"}}]});
    channel.on_frame(&output(0, PayloadKind::HandshakeRequest, request.to_string().into_bytes()), 1);
    assert!(matches!(channel.closed(), Some(Closed::Handshake(HandshakeError::SessionType(_)))));
    let sent: Vec<_> = frames(&mut channel, 1).into_iter().map(|m| m.payload_kind).collect();
    assert_eq!(sent, [PayloadKind::Other(0), PayloadKind::HandshakeResponse]);
}

#[test]
fn finishing_sends_the_rest_and_then_the_flag() {
    let (mut channel, now) = open();
    channel.write(b"rest", now);
    channel.finish(now);
    assert_eq!((channel.room(), channel.write(b"more", now)), (0, 0));
    let sent: Vec<_> = frames(&mut channel, now).into_iter().map(|m| (m.payload_kind, m.payload)).collect();
    let flag = Bytes::copy_from_slice(&Flag::TerminateSession.payload());
    assert_eq!(sent, [(PayloadKind::Output, Bytes::from_static(b"rest")), (PayloadKind::Flag, flag)]);
}

#[test]
fn an_agent_that_acknowledges_nothing_is_given_up_but_not_while_we_do_not_listen() {
    let (mut channel, now) = open();
    channel.write(b"hello?", now);
    channel.tick(now + 300_000);
    assert_eq!(channel.closed(), None);
    channel.reconnected(now + 300_000);
    channel.tick(now + 600_000);
    assert_eq!(channel.closed(), None);
    channel.tick(now + 600_001);
    assert_eq!(channel.closed(), Some(&Closed::Silent(300_000)));
}
