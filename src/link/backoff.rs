//! How long to wait before the next attempt. Pure.

use std::time::Duration;

/// Short, since a machine that boots is awaited by somebody.
const FIRST: Duration = Duration::from_millis(200);
/// Each attempt may be a call to a cloud API, for each machine.
const LAST: Duration = Duration::from_secs(5);

/// Pauses that grow by a quarter each, so that one is about a quarter of what was waited before it: a machine that
/// becomes reachable is found soon, in proportion, with 16 attempts in its first 25 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next pause; `jitter`, of 0 to 1, spreads machines that lost their tunnels together.
    pub(super) fn pause(&mut self, jitter: f64) -> Duration {
        let pause = self.next;
        self.next = pause.mul_f64(1.25).min(LAST);
        pause.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..18).map(|_| backoff.pause(0.5)).collect();
        let millis: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis[..6], [200, 250, 312, 390, 488, 610]);
        assert_eq!(millis[15..], [5000, 5000, 5000]);
        let first: Duration = pauses[..16].iter().sum();
        assert!((23..28).contains(&first.as_secs()), "{first:?}");
        assert_eq!(Backoff::new().pause(0.0), Duration::from_millis(160));
        assert_eq!(Backoff::new().pause(1.0), Duration::from_millis(240));
    }
}
