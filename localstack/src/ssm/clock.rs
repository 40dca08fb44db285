//! The one place of the service that reads the wall clock. It advances with tokio's clock.

use std::sync::OnceLock;

use jiff::Timestamp;
use tokio::time::Instant;

/// The current time.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(super) fn now() -> Timestamp {
    static START: OnceLock<(Timestamp, Instant)> = OnceLock::new();
    let (wall, tick) = START.get_or_init(|| (Timestamp::now(), Instant::now()));
    wall.checked_add(tick.elapsed()).unwrap_or(*wall)
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    u64::try_from(now().as_millisecond()).unwrap_or_default()
}
