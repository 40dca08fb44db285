//! A token bucket.

use tokio::time::Instant;

/// How full the bucket is.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(burst: u32, now: Instant) -> Self {
        Self { tokens: f64::from(burst), at: now }
    }

    /// Takes a token if there is one.
    pub(super) fn take(&mut self, burst: u32, per_second: f64, now: Instant) -> Result<(), Empty> {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        self.tokens = (self.tokens + gained).min(f64::from(burst));
        self.at = now;
        if self.tokens < 1.0 {
            return Err(Empty);
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

/// There is no token now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Empty;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(2, start);
        assert_eq!(bucket.take(2, 4.0, start), Ok(()));
        assert_eq!(bucket.take(2, 4.0, start), Ok(()));
        assert_eq!(bucket.take(2, 4.0, start), Err(Empty));
        let later = start + Duration::from_millis(250);
        assert_eq!(bucket.take(2, 4.0, later), Ok(()));
        assert_eq!(bucket.take(2, 4.0, later), Err(Empty));
        let much_later = later + Duration::from_secs(60);
        assert_eq!((0..5).filter(|_| bucket.take(2, 4.0, much_later).is_ok()).count(), 2);
    }
}
