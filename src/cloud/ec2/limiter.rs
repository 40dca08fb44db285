//! A token bucket in front of RunInstances, of the size that EC2 documents for its own.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::cloud::CloudError;

/// A bucket that starts full.
#[derive(Debug)]
pub(super) struct Bucket {
    size: f64,
    per_second: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// May be negative: that much is already promised to those who wait.
    level: f64,
    at: Instant,
}

/// Longer than this nobody waits in here: the caller has a pod's whole situation to look at again.
const PATIENCE: Duration = Duration::from_secs(10);

impl Bucket {
    pub(super) fn new(size: u32, per_second: f64) -> Self {
        let size = f64::from(size);
        Self { size, per_second, state: Mutex::new(State { level: size, at: Instant::now() }) }
    }

    /// Takes one token, waiting for it at most ten seconds.
    ///
    /// # Errors
    /// [`CloudError::Throttled`] when it would take longer.
    pub(super) async fn take(&self) -> Result<(), CloudError> {
        let wait = self.reserve(Instant::now())?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    fn reserve(&self, now: Instant) -> Result<Duration, CloudError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let refill = now.saturating_duration_since(state.at).as_secs_f64() * self.per_second;
        state.level = (state.level + refill).min(self.size);
        state.at = now;
        let wait = Duration::from_secs_f64(((1.0 - state.level) / self.per_second).max(0.0));
        if wait > PATIENCE {
            return Err(CloudError::Throttled { code: "OwnRateLimit".to_owned(), message: String::new() });
        }
        state.level -= 1.0;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_the_rest_is_spread_until_nobody_waits_any_more() {
        let bucket = Bucket::new(200, 2.0);
        let start = Instant::now();
        for _ in 0..200 {
            bucket.take().await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        bucket.take().await.unwrap();
        bucket.take().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 1);

        let now = Instant::now();
        let served = (0..100).filter(|_| bucket.reserve(now).is_ok()).count();
        assert_eq!(served, 20, "ten seconds at two a second");
        assert_eq!(bucket.reserve(now), Err(CloudError::Throttled { code: "OwnRateLimit".into(), message: String::new() }));
    }
}
