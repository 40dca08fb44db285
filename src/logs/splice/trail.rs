//! The last lines of an answer, as far as is needed to find them again.

use std::collections::VecDeque;

use jiff::Timestamp;

/// Lines that are kept.
const LINES: usize = 16;

/// The end of what was read so far.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// The last of them is under way: more text may come.
    lines: VecDeque<Line>,
    /// Lines in all.
    count: u64,
    /// Lines at the end that have the same time, as many as there are.
    run: u64,
}

/// What follows one time, up to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    at: Timestamp,
    bytes: u64,
    hash: u64,
}

impl Trail {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn stamp(&mut self, at: Timestamp) {
        let is_same = self.lines.back().is_some_and(|line| line.at == at);
        self.run = if is_same { self.run + 1 } else { 1 };
        self.count += 1;
        self.lines.push_back(Line { at, bytes: 0, hash: OFFSET });
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    pub(super) fn text(&mut self, text: &[u8]) {
        if self.lines.is_empty() && !text.is_empty() {
            self.stamp(Timestamp::MIN);
        }
        if let Some(line) = self.lines.back_mut() {
            line.bytes += text.len() as u64;
            line.hash = hash(line.hash, text);
        }
    }

    /// The earliest time of the lines that are kept. Text without one, at the very beginning, says nothing.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.times().min()
    }

    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.times().max()
    }

    fn times(&self) -> impl Iterator<Item = Timestamp> {
        self.lines.iter().map(|line| line.at).filter(|at| *at > Timestamp::MIN)
    }

    /// Bytes that are still to come until the line under way is as long as the last one of `other`; `None` if it is
    /// another line.
    pub(super) fn left_to(&self, other: &Self) -> Option<u64> {
        let others = other.lines.back()?;
        let (at, bytes) = self.lines.back().map_or((Timestamp::MIN, 0), |own| (own.at, own.bytes));
        (at == others.at).then(|| others.bytes.checked_sub(bytes)).flatten()
    }

    /// Whether this ends with the lines that `other` ends with; it has to have begun with the first of these, or before.
    ///
    /// The very first line of `other` may have begun in the middle of one of these, so it does not count as long as
    /// there is another.
    pub(super) fn is_at_end_of(&self, other: &Self) -> bool {
        if other.is_empty() {
            return false;
        }
        let first = usize::from(other.lines.len() as u64 == other.count);
        let lines = (other.lines.len() - first).max(1);
        let own = self.lines.iter().rev().take(lines);
        own.eq(other.lines.iter().rev().take(lines)) && self.counts_as(other)
    }

    /// Whether as many lines share the last time, as far as `other` saw the first of these.
    fn counts_as(&self, other: &Self) -> bool {
        if other.run == other.count { self.run >= other.run } else { self.run == other.run }
    }
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: it does not matter in which pieces a text comes.
fn hash(hash: u64, text: &[u8]) -> u64 {
    text.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
