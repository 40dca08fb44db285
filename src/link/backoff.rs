//! How long to wait before the next attempt. Pure.

use std::time::Duration;

/// Short, since a machine that boots is awaited by somebody.
const FIRST: Duration = Duration::from_millis(200);
/// Each attempt may be a call to a cloud API, for each machine.
const LAST: Duration = Duration::from_secs(5);

/// Pauses that grow by half each, so that one is about half of what was waited before it: a machine that becomes
/// reachable is found soon, in proportion.
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
        self.next = pause.mul_f64(1.5).min(LAST);
        pause.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..12).map(|_| backoff.pause(0.5).as_millis()).collect();
        assert_eq!(pauses, [200, 300, 450, 675, 1012, 1518, 2278, 3417, 5000, 5000, 5000, 5000]);
        assert_eq!(Backoff::new().pause(0.0), Duration::from_millis(160));
        assert_eq!(Backoff::new().pause(1.0), Duration::from_millis(240));
    }
}
