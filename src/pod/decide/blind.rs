//! Time in which no machine could be reached, whichever it was: no machine is given up for that.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::{Observed, after};

/// After a restart of this process, and after no machine could be reached, every link gets this long before a boot
/// deadline counts.
const LINK_GRACE: Duration = Duration::from_secs(120);
/// Spans that are remembered one by one. Of more, the oldest become one, with what lies between them.
const SPANS: usize = 32;

/// When no machine could be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blind {
    /// Since when it is so, and why.
    now: Option<(Timestamp, String)>,
    /// From when to when it was so before, in order.
    past: VecDeque<(Timestamp, Timestamp)>,
}

impl Blind {
    /// It is so from now on, if it is not already.
    pub fn begin(&mut self, now: Timestamp, why: impl Into<String>) {
        self.now.get_or_insert_with(|| (now, why.into()));
    }

    /// It is so no more.
    pub fn end(&mut self, now: Timestamp) {
        let Some((since, _)) = self.now.take() else { return };
        self.past.push_back((since, now.max(since)));
        if self.past.len() > SPANS
            && let (Some((from, _)), Some((_, to))) = (self.past.pop_front(), self.past.pop_front())
        {
            self.past.push_front((from, to));
        }
    }

    /// Why it is so now, if it is.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.now.as_ref().map(|(_, why)| why.as_str())
    }

    /// How much of the time since `from` it was so.
    fn since(&self, from: Timestamp) -> Duration {
        let seen = |(began, ended): &(Timestamp, Timestamp)| {
            Duration::try_from(ended.duration_since((*began).max(from))).unwrap_or_default()
        };
        self.past.iter().map(seen).fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// Until when a machine that was launched then must be reachable; `None` while none is.
pub(super) fn boot_deadline(seen: &Observed<'_>, launched: Timestamp) -> Option<Timestamp> {
    let Blind { now: None, past } = seen.blind else { return None };
    let limit = seen.rules.boot_deadline;
    let grace = limit.min(LINK_GRACE);
    let passed = |from, limit: Duration| after(from, limit.saturating_add(seen.blind.since(from)));
    let deadline = passed(launched, limit).max(passed(seen.rules.started, grace));
    Some(past.back().map_or(deadline, |(_, ended)| deadline.max(after(*ended, grace))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn blind(spans: &[(i64, i64)]) -> Blind {
        let mut blind = Blind::default();
        for (from, to) in spans {
            blind.begin(at(*from), "why");
            blind.end(at(*to));
        }
        blind
    }

    #[test]
    fn what_counts_is_what_lies_after_the_launch() {
        let blind = blind(&[(0, 10), (20, 50), (60, 61)]);
        for (from, seconds) in [(-5, 41), (0, 41), (5, 36), (10, 31), (30, 21), (55, 1), (61, 0), (99, 0)] {
            assert_eq!(blind.since(at(from)).as_secs(), seconds, "since {from}");
        }
    }

    #[test]
    fn it_begins_once_and_ends_once_whatever_the_clock_does() {
        let mut blind = Blind::default();
        blind.end(at(5));
        blind.begin(at(10), "first");
        blind.begin(at(20), "second");
        assert_eq!(blind.why(), Some("first"));
        blind.end(at(5));
        blind.end(at(30));
        assert_eq!((blind.why(), blind.since(at(0))), (None, Duration::ZERO));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_errs_towards_patience() {
        let spans: Vec<(i64, i64)> = (0..100).map(|n| (n * 10, n * 10 + 4)).collect();
        let blind = blind(&spans);
        assert_eq!(blind.past.len(), SPANS);
        assert!(blind.since(at(0)) >= Duration::from_secs(400));
        assert_eq!(blind.since(at(900)).as_secs(), 40);
    }
}
