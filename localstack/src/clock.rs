//! The one place that reads the wall clock. Pure code takes the time as an argument.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The current time. It advances with tokio's clock, so a test with a paused clock sees the cloud's
/// transitions exactly when its timers fire.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Timestamp {
    static START: OnceLock<(Timestamp, Instant)> = OnceLock::new();
    let (wall, tick) = START.get_or_init(|| (Timestamp::now(), Instant::now()));
    after(*wall, tick.elapsed())
}

/// `at` and a while. Saturates at the end of time.
#[must_use]
pub fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// `at` less a while. Saturates at the beginning of time.
#[must_use]
pub fn before(at: Timestamp, lead: Duration) -> Timestamp {
    at.checked_sub(lead).unwrap_or(Timestamp::MIN)
}

/// In the form of EC2's XML: `2026-01-31T12:00:00.000Z`.
#[must_use]
pub fn iso(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
