//! One token bucket that slows down when it was refused, and recovers. Arithmetic alone.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket that starts full.
#[derive(Debug)]
pub(super) struct Bucket {
    size: f64,
    per_second: f64,
    level: f64,
    /// The part of `per_second` that it is refilled with now.
    share: f64,
    at: Instant,
    refused_at: Option<Instant>,
}

/// By so much a second a slowed bucket recovers: from a half to the whole in half a minute.
const RECOVERY: f64 = 1.0 / 60.0;
/// It is never slowed further than to this share.
const LEAST: f64 = 1.0 / 16.0;
/// Calls that were on the way together are refused together: that is one sign, not many.
const ONE_SIGN: Duration = Duration::from_secs(1);

impl Bucket {
    pub(super) fn new(size: u32, per_second: f64) -> Self {
        let size = f64::from(size);
        Self { size, per_second, level: size, share: 1.0, at: Instant::now(), refused_at: None }
    }

    /// How long until it has so many tokens, or is full; zero if it has them now.
    pub(super) fn wait(&mut self, tokens: u32, now: Instant) -> Duration {
        self.refill(now);
        let missing = (self.wanted(tokens) - self.level) / self.per_second;
        // A billionth less than a token is a token.
        if missing <= 1e-9 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(self.time_for(missing)).max(Duration::from_millis(1))
    }

    /// Takes what [`Bucket::wait`] said is there.
    pub(super) fn take(&mut self, tokens: u32) {
        self.level -= self.wanted(tokens);
    }

    /// EC2 had no token where we thought there was one.
    pub(super) fn throttled(&mut self, now: Instant) {
        self.refill(now);
        self.level = 0.0;
        if self.refused_at.is_none_or(|at| now.saturating_duration_since(at) >= ONE_SIGN) {
            self.refused_at = Some(now);
            self.share = (self.share / 2.0).max(LEAST);
        }
    }

    /// Nobody waits for more than the bucket can hold.
    fn wanted(&self, tokens: u32) -> f64 {
        f64::from(tokens).min(self.size)
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let recovering = passed.min((1.0 - self.share) / RECOVERY);
        let gained = recovering * (self.share + RECOVERY * recovering / 2.0) + (passed - recovering);
        self.level = (self.level + gained * self.per_second).min(self.size);
        self.share = (self.share + RECOVERY * recovering).min(1.0);
        self.at = now;
    }

    /// Seconds in which as much is gained as in `full` seconds at full speed: the inverse of what `refill` adds.
    fn time_for(&self, full: f64) -> f64 {
        let recovery = (1.0 - self.share) / RECOVERY;
        let while_recovering = recovery * f64::midpoint(self.share, 1.0);
        if full > while_recovering {
            return recovery + (full - while_recovering);
        }
        (2.0f64.mul_add(RECOVERY * full, self.share * self.share).sqrt() - self.share) / RECOVERY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_that_is_waited_is_the_time_that_it_takes() {
        for refusals in 0..6 {
            let mut bucket = Bucket::new(100, 2.0);
            for _ in 0..=refusals {
                tokio::time::advance(ONE_SIGN).await;
                bucket.throttled(Instant::now());
            }
            for tokens in [1, 3, 60, 100] {
                let wait = bucket.wait(tokens, Instant::now());
                tokio::time::advance(wait + Duration::from_micros(1)).await;
                assert_eq!(bucket.wait(tokens, Instant::now()), Duration::ZERO, "{tokens} after {refusals}");
                bucket.take(tokens);
                assert!(bucket.level >= -1e-6 && bucket.level < 0.02, "{bucket:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_that_come_together_are_one_sign() {
        let mut bucket = Bucket::new(5, 2.0);
        for _ in 0..100 {
            bucket.throttled(Instant::now());
        }
        assert!((bucket.share - 0.5).abs() < 1e-9, "{bucket:?}");
        for _ in 0..100 {
            tokio::time::advance(ONE_SIGN).await;
            bucket.throttled(Instant::now());
        }
        assert!(bucket.share >= LEAST, "{bucket:?}");
    }
}
