//! The retransmission timer (RFC 6298, with the agent's constants).
//!
//! Fed only with messages that were sent once (Karn's rule): an acknowledgement of a resent message does not tell
//! which copy it is for.

use std::time::Duration;

const INITIAL_SRTT: Duration = Duration::from_millis(100);
const INITIAL_VARIATION: Duration = Duration::from_millis(25);
/// The least that is added to the round trip.
const GRANULARITY: Duration = Duration::from_millis(10);
/// The agent never waits longer before it resends, and so its peers answer within it.
const MAX_TIMEOUT: Duration = Duration::from_secs(1);
/// Each resend of the same message doubles its wait, up to this: an agent that is swamped gets air.
const MAX_BACKOFF: Duration = Duration::from_secs(4);

/// Smoothed round-trip time.
#[derive(Debug)]
pub(super) struct Rtt {
    smoothed: Duration,
    variation: Duration,
}

impl Rtt {
    pub(super) fn new() -> Self {
        Self { smoothed: INITIAL_SRTT, variation: INITIAL_VARIATION }
    }

    /// One measured round trip.
    pub(super) fn sample(&mut self, round_trip: Duration) {
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(round_trip)) / 4;
        self.smoothed = (self.smoothed * 7 + round_trip) / 8;
    }

    /// How long to wait for the acknowledgement of a message that was resent `resends` times.
    pub(super) fn timeout(&self, resends: u32) -> Duration {
        let once = (self.smoothed + (self.variation * 4).max(GRANULARITY)).min(MAX_TIMEOUT);
        once.saturating_mul(1 << resends.min(8)).min(MAX_BACKOFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_200_ms() {
        assert_eq!(Rtt::new().timeout(0), Duration::from_millis(200));
    }

    #[test]
    fn it_follows_a_steady_round_trip_down_to_the_granularity() {
        let mut rtt = Rtt::new();
        for _ in 0..100 {
            rtt.sample(Duration::from_millis(20));
        }
        let timeout = rtt.timeout(0);
        assert!((Duration::from_millis(29)..Duration::from_millis(32)).contains(&timeout), "{timeout:?}");
    }

    #[test]
    fn it_never_exceeds_a_second_but_backs_off_further_for_the_same_message() {
        let mut rtt = Rtt::new();
        for _ in 0..50 {
            rtt.sample(Duration::from_secs(30));
        }
        assert_eq!(rtt.timeout(0), Duration::from_secs(1));
        assert_eq!(rtt.timeout(1), Duration::from_secs(2));
        assert_eq!(rtt.timeout(u32::MAX), Duration::from_secs(4));
    }
}
