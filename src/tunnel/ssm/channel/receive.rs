//! The receiving half: messages put back into order.

use std::collections::BTreeMap;

use super::super::codec::{HEADER_LEN, Message};
use super::Limits;

#[derive(Debug)]
pub(super) struct Receiver {
    limits: Limits,
    expected: i64,
    waiting: BTreeMap<i64, Message>,
    /// Bytes in `waiting`.
    held: usize,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Ours now, or was already: acknowledge it.
    Yes,
    /// No room for more out of order: the agent has to send it again.
    No,
}

impl Receiver {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, expected: 0, waiting: BTreeMap::new(), held: 0 }
    }

    pub(super) fn take(&mut self, message: Message) -> Taken {
        if message.sequence < self.expected || self.waiting.contains_key(&message.sequence) {
            return Taken::Yes;
        }
        let size = message.payload.len() + HEADER_LEN;
        if message.sequence > self.expected && self.held + size > self.limits.reorder {
            return Taken::No;
        }
        self.held += size;
        self.waiting.insert(message.sequence, message);
        Taken::Yes
    }

    /// The next message in order.
    pub(super) fn next(&mut self) -> Option<Message> {
        let message = self.waiting.remove(&self.expected)?;
        self.expected += 1;
        self.held -= message.payload.len() + HEADER_LEN;
        Some(message)
    }

    /// Whether something came that still waits for what was sent before it.
    pub(super) fn has_gap(&self) -> bool {
        !self.waiting.is_empty()
    }
}
