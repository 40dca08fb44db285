//! A token bucket: so many at once, so many per second after that. Pure; the time is an argument.

use jiff::{SignedDuration, Timestamp};

/// A clock that is so far behind was set back: else nothing would come in until it is where it was.
const SET_BACK: SignedDuration = SignedDuration::from_secs(60);

/// What a guest may do at which rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    burst: f64,
    per_second: f64,
    tokens: f64,
    refilled: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(burst: u32, per_second: u32, now: Timestamp) -> Self {
        let burst = f64::from(burst);
        Self { burst, per_second: f64::from(per_second), tokens: burst, refilled: now }
    }

    /// Takes one out; `false` if there is none.
    pub(crate) fn take(&mut self, now: Timestamp) -> bool {
        let passed = now.duration_since(self.refilled).as_secs_f64().max(0.0);
        self.tokens = passed.mul_add(self.per_second, self.tokens).min(self.burst);
        self.refilled =
            if self.refilled.duration_since(now) > SET_BACK { now } else { self.refilled.max(now) };
        let some = self.tokens >= 1.0;
        if some {
            self.tokens -= 1.0;
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan as _;

    #[test]
    fn is_emptied_refilled_and_never_overfull() {
        let now: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        let mut bucket = Bucket::new(3, 2, now);
        let mut taken = |now| (0..10).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(now), 3);
        assert_eq!(taken(now + 1.second()), 2);
        assert_eq!(taken(now - 1.hour()), 0, "a clock that is set back gives nothing");
        assert_eq!(taken(now - 1.hour() + 1.second()), 2, "and takes nothing");
        assert_eq!(taken(now), 3);
        assert_eq!(taken(now - 1.second()), 0);
        assert_eq!(taken(now), 0);
    }
}
