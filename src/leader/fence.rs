//! The fence: whether this process may change anything, asked synchronously before each change is sent.
//!
//! It is a time on the clock that counts suspension, so a process that was frozen, or whose runtime stalled, finds it
//! closed without anybody having told it so.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use crate::clock;

/// Open until a time since boot that is moved on with each renewal. Clones share it.
#[derive(Clone)]
pub struct Fence(Arc<Inner>);

struct Inner {
    /// Nanoseconds since boot.
    until: AtomicU64,
    now: fn() -> Duration,
    refused: Counter,
}

/// A change was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sent: this process does not lead, or could not renew its Lease in time")]
pub struct Fenced;

/// No time is beyond it.
const FOR_EVER: u64 = u64::MAX;
const NEVER: u64 = 0;

impl Fence {
    /// Always open: nobody else may act.
    #[must_use]
    pub fn open() -> Self {
        Self::new(FOR_EVER, clock::since_boot)
    }

    /// Closed until it is extended.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(NEVER, clock::since_boot)
    }

    /// Closed, on another clock.
    #[cfg(test)]
    pub(crate) fn on(now: fn() -> Duration) -> Self {
        Self::new(NEVER, now)
    }

    fn new(until: u64, now: fn() -> Duration) -> Self {
        Self(Arc::new(Inner { until: AtomicU64::new(until), now, refused: Counter::default() }))
    }

    /// Opens it until this time since boot.
    pub fn extend(&self, until: Duration) {
        self.0.until.store(u64::try_from(until.as_nanos()).unwrap_or(FOR_EVER), Ordering::SeqCst);
    }

    /// Closes it at once.
    pub fn close(&self) {
        self.0.until.store(NEVER, Ordering::SeqCst);
    }

    /// Whether it is open now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let until = self.0.until.load(Ordering::SeqCst);
        until == FOR_EVER || (self.0.now)().as_nanos() < u128::from(until)
    }

    /// Asked right before a change is sent.
    ///
    /// # Errors
    /// It must not be sent.
    pub fn check(&self) -> Result<(), Fenced> {
        if self.is_open() {
            return Ok(());
        }
        self.0.refused.inc();
        Err(Fenced)
    }

    /// Goes on with a change only while the fence is open: between its beginning and its sending may lie a wait for its
    /// turn, a token that is fetched, or a connection that is made. What was sent already is not waited for any more.
    ///
    /// # Errors
    /// The fence closed before there was an answer.
    pub async fn guard<T>(self, change: impl Future<Output = T>) -> Result<T, Fenced> {
        let mut change = pin!(change);
        std::future::poll_fn(move |cx| match self.check() {
            Err(fenced) => Poll::Ready(Err(fenced)),
            Ok(()) => change.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// Changes that were not sent.
    #[must_use]
    pub fn refused(&self) -> Counter {
        self.0.refused.clone()
    }
}

impl Default for Fence {
    /// Open.
    fn default() -> Self {
        Self::open()
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_open_exactly_until_its_time() {
        let fence = Fence::on(|| Duration::from_secs(100));
        assert_eq!(fence.check(), Err(Fenced));
        fence.extend(Duration::from_nanos(100_000_000_001));
        assert_eq!(fence.check(), Ok(()));
        fence.extend(Duration::from_secs(100));
        assert_eq!(fence.check(), Err(Fenced));
        assert_eq!(fence.refused().get(), 2);
    }

    #[tokio::test]
    async fn what_waited_for_its_turn_is_not_begun_after_the_fence_has_closed() {
        let fence = Fence::closed();
        fence.extend(clock::since_boot() + Duration::from_hours(1));
        let (turn, waits) = tokio::sync::oneshot::channel::<()>();
        let mut sent = false;
        let change = fence.clone().guard(async {
            waits.await.unwrap();
            sent = true;
        });
        let close = async {
            fence.close();
            turn.send(()).unwrap();
        };
        assert_eq!(tokio::join!(change, close).0, Err(Fenced));
        assert!(!sent);
        fence.extend(clock::since_boot() + Duration::from_hours(1));
        assert_eq!(fence.guard(async { 7 }).await, Ok(7));
    }

    #[test]
    fn closed_once_it_refuses_whatever_time_was_left() {
        let fence = Fence::closed();
        fence.extend(clock::since_boot() + Duration::from_hours(1));
        assert_eq!(fence.check(), Ok(()));
        fence.clone().close();
        assert_eq!(fence.check(), Err(Fenced));
        assert_eq!(Fence::open().check(), Ok(()));
    }
}
