//! The one place that reads the wall clock. Pure code takes the time as an argument.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The current time. It advances with tokio's clock, so a test with a paused clock sees time pass
/// exactly as fast as its timers do.
///
/// # Panics
/// Never in practice: the sum stays within the range of [`Timestamp`] for thousands of years.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Timestamp {
    static START: OnceLock<(Timestamp, Instant)> = OnceLock::new();
    let (wall, tick) = START.get_or_init(|| (Timestamp::now(), Instant::now()));
    wall.checked_add(tick.elapsed()).unwrap_or(*wall)
}

/// `at + by`, or the end of time. Pure.
#[must_use]
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
