//! A token bucket for calls whose quota is small and not published.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets one call pass every so often, a few at once after a rest.
#[derive(Debug)]
pub(super) struct Bucket {
    every: Duration,
    burst: u32,
    /// When the bucket will be full again.
    full_at: Mutex<Instant>,
}

impl Bucket {
    pub(super) fn new(every: Duration, burst: u32) -> Self {
        Self { every, burst, full_at: Mutex::new(Instant::now()) }
    }

    /// Waits for its turn. Whoever would have to wait past `until` is told so at once and takes no place in the queue.
    pub(super) async fn take(&self, until: Instant) -> Result<(), Duration> {
        let turn = self.reserve(until)?;
        sleep_until(turn).await;
        Ok(())
    }

    /// The other side said "slow down": nobody passes for `pause`, at most ten seconds from now.
    pub(super) fn penalize(&self, pause: Duration) {
        let now = Instant::now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let worst = now + Duration::from_secs(10) + self.every * self.burst;
        *full_at = (*full_at).max((now + self.every * self.burst + pause).min(worst));
    }

    fn reserve(&self, until: Instant) -> Result<Instant, Duration> {
        let now = Instant::now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full = (*full_at).max(now) + self.every;
        let turn = full.checked_sub(self.every * self.burst).map_or(now, |turn| turn.max(now));
        if turn > until {
            return Err(turn - now);
        }
        *full_at = full;
        Ok(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_the_rest_comes_at_the_rate() {
        let bucket = Bucket::new(SECOND / 2, 3);
        let start = Instant::now();
        let until = start + SECOND * 60;
        let mut waits = Vec::new();
        for _ in 0..6 {
            bucket.take(until).await.unwrap();
            waits.push((start.elapsed().as_secs_f64() * 2.0).round());
        }
        assert_eq!(waits, [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_pass_in_time_is_told_at_once_and_takes_no_place() {
        let bucket = Bucket::new(SECOND, 1);
        let until = Instant::now() + SECOND * 2;
        let passed = (0..100).filter(|_| bucket.reserve(until).is_ok()).count();
        assert_eq!(passed, 3);
        assert_eq!(bucket.reserve(until), Err(SECOND * 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_penalty_holds_everyone_back_but_never_for_long() {
        let bucket = Bucket::new(SECOND / 3, 3);
        bucket.penalize(SECOND * 2);
        let start = Instant::now();
        bucket.take(start + SECOND * 9).await.unwrap();
        assert!((SECOND * 2..SECOND * 3).contains(&start.elapsed()), "{:?}", start.elapsed());
        for _ in 0..50 {
            bucket.penalize(SECOND * 600);
        }
        assert!(bucket.take(Instant::now() + SECOND * 12).await.is_ok());
    }
}
