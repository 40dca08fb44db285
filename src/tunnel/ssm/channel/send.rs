//! The sending half: what was sent and not yet acknowledged, and when to send it again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::super::codec::{HEADER_LEN, Message, MessageKind, Millis, PayloadKind};
use super::super::rtt::Rtt;
use super::Limits;

/// How often overdue messages are looked for; the agent's own rhythm.
const SCAN_EVERY: Millis = 100;
/// Overdue messages resent at each look, oldest first.
const RESEND_BURST: usize = 16;

/// The vendor's client does not heed pauses at all, so nobody can rely on more.
const MAX_PAUSE: Millis = 5_000;

#[derive(Debug)]
pub(super) struct Sender {
    limits: Limits,
    next_sequence: i64,
    next_unsent: i64,
    unacked: BTreeMap<i64, Unacked>,
    /// Bytes of frames in `unacked`.
    held: usize,
    resend: VecDeque<i64>,
    next_scan: Millis,
    rtt: Rtt,
    /// Until when we were asked to be silent.
    paused: Option<Millis>,
    /// The last time an acknowledgement came, or could not have come.
    progress: Millis,
}

#[derive(Debug)]
struct Unacked {
    frame: Bytes,
    sent: Millis,
    resends: u32,
}

impl Sender {
    pub(super) fn new(limits: Limits, now: Millis) -> Self {
        Self {
            limits,
            next_sequence: 0,
            next_unsent: 0,
            unacked: BTreeMap::new(),
            held: 0,
            resend: VecDeque::new(),
            next_scan: 0,
            rtt: Rtt::new(),
            paused: None,
            progress: now,
        }
    }

    /// Bytes of payload that are taken now.
    pub(super) fn room(&self) -> usize {
        match self.limits.window.saturating_sub(self.held) {
            0 => 0,
            free => (free / (HEADER_LEN + self.limits.payload)).max(1) * self.limits.payload,
        }
    }

    /// Takes one message, whatever the room.
    pub(super) fn push(&mut self, payload_kind: PayloadKind, payload: &[u8], id: Uuid, now: Millis) {
        let message = Message {
            kind: MessageKind::Input,
            created: now,
            sequence: self.next_sequence,
            flags: 0,
            id,
            payload_kind,
            payload: Bytes::copy_from_slice(payload),
        };
        if self.unacked.is_empty() {
            self.progress = now;
        }
        let frame = message.encode();
        self.held += frame.len();
        self.unacked.insert(self.next_sequence, Unacked { frame, sent: now, resends: 0 });
        self.next_sequence += 1;
    }

    /// The next frame to send, if any is due.
    pub(super) fn poll(&mut self, now: Millis) -> Option<Bytes> {
        if self.paused.is_some() {
            return None;
        }
        while let Some(sequence) = self.resend.pop_front() {
            if let Some(entry) = self.unacked.get_mut(&sequence) {
                entry.sent = now;
                entry.resends += 1;
                return Some(entry.frame.clone());
            }
        }
        let entry = self.unacked.get_mut(&self.next_unsent)?;
        self.next_unsent += 1;
        entry.sent = now;
        Some(entry.frame.clone())
    }

    pub(super) fn acknowledged(&mut self, sequence: i64, now: Millis) {
        // What was never sent cannot have been received.
        if sequence >= self.next_unsent {
            return;
        }
        if let Some(entry) = self.unacked.remove(&sequence) {
            self.held -= entry.frame.len();
            self.progress = now;
            if entry.resends == 0 {
                self.rtt.sample(Duration::from_millis(now.saturating_sub(entry.sent)));
            }
        }
    }

    /// Marks overdue messages for another try. While we are `deaf`, acknowledgements may lie unread, so nothing is.
    pub(super) fn tick(&mut self, now: Millis, deaf: bool) {
        if self.paused.is_some_and(|until| now >= until) {
            self.resume(now);
        }
        let silent = deaf || self.paused.is_some();
        if silent {
            self.progress = now;
        }
        if now < self.next_scan || !self.resend.is_empty() {
            return;
        }
        self.next_scan = now + SCAN_EVERY;
        if silent {
            return;
        }
        let overdue = self
            .unacked
            .range(..self.next_unsent)
            .filter(|(_, entry)| {
                let waited = Duration::from_millis(now.saturating_sub(entry.sent));
                waited >= self.rtt.timeout(entry.resends)
            })
            .map(|(sequence, _)| *sequence)
            .take(RESEND_BURST);
        self.resend.extend(overdue);
    }

    /// The other side asks for silence; acknowledgements are not ours to hold back.
    pub(super) fn pause(&mut self, now: Millis) {
        self.paused = Some(now + MAX_PAUSE);
    }

    /// Any sign that the other side listens ends a pause.
    pub(super) fn resume(&mut self, now: Millis) {
        if self.paused.take().is_some() {
            self.progress = now;
        }
    }

    /// A new connection: whatever was under way on the old one may be lost.
    pub(super) fn reconnected(&mut self, now: Millis) {
        self.paused = None;
        self.progress = now;
        self.resend.clear();
        self.resend.extend(self.unacked.range(..self.next_unsent).map(|(sequence, _)| *sequence));
    }

    /// When [`Sender::tick`] has something to do.
    pub(super) fn wake(&self) -> Option<Millis> {
        if let Some(until) = self.paused {
            return Some(until);
        }
        let waiting = self.unacked.range(..self.next_unsent).next().is_some() && self.resend.is_empty();
        waiting.then_some(self.next_scan)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    /// How long nothing was acknowledged although something should have been.
    pub(super) fn silence(&self, now: Millis) -> Millis {
        if self.is_empty() { 0 } else { now.saturating_sub(self.progress) }
    }
}
