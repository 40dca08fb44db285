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
    let tock = Instant::now();
    // Each test's paused clock starts for itself, and one of them may be behind the one that began.
    match tock.checked_duration_since(*tick) {
        Some(since) => wall.checked_add(since),
        None => wall.checked_sub(tick.duration_since(tock)),
    }
    .unwrap_or(*wall)
}

/// `at + by`, or the end of time. Pure.
#[must_use]
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_passes_in_every_runtime_also_in_one_whose_clock_is_behind() {
        for ahead in [86_400, 0] {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(async {
                tokio::time::sleep(Duration::from_secs(ahead)).await;
                let before = now();
                tokio::time::sleep(Duration::from_secs(60)).await;
                assert_eq!(now().duration_since(before).as_secs(), 60);
            });
        }
    }
}
