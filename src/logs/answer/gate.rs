//! How often the archive is read. CloudWatch Logs allows 25 calls of GetLogEvents a second in an account and region,
//! to whoever else reads there too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Between two calls, when many are made.
const INTERVAL: Duration = Duration::from_millis(50);
/// Calls at once, after a rest.
const BURST: u32 = 20;

/// Lets callers through in the order in which they come.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// When all calls so far are paid for.
    paid: Mutex<Option<Instant>>,
}

impl Gate {
    pub(super) async fn pass(&self) {
        let now = Instant::now();
        let at = {
            let mut paid = self.lock();
            let from = paid.map_or(now, |paid| paid.max(now));
            *paid = Some(from + INTERVAL);
            from
        };
        sleep_until(at.checked_sub(INTERVAL * (BURST - 1)).unwrap_or(now)).await;
    }

    /// Nobody gets through for this long.
    pub(super) fn close(&self, pause: Duration) {
        let open = Instant::now() + pause + INTERVAL * (BURST - 1);
        let mut paid = self.lock();
        *paid = Some(paid.map_or(open, |paid| paid.max(open)));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_through_at_once_and_then_twenty_a_second() {
        let (gate, start) = (Gate::default(), Instant::now());
        for _ in 0..BURST {
            gate.pass().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..40 {
            gate.pass().await;
        }
        assert!((1_900..2_100).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_opens_for_all_one_by_one() {
        let (gate, start) = (Gate::default(), Instant::now());
        gate.close(Duration::from_secs(3));
        gate.pass().await;
        assert!((2_990..3_100).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        gate.pass().await;
        assert!(start.elapsed() > Duration::from_secs(3));
    }
}
