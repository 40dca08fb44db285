//! The one place that reads clocks. Pure code takes the time as an argument.
//!
//! What is compared with the times of others (the API server's, EC2's, a signature's) is [`now`]; what is compared
//! only with itself is [`steady`], or tokio's `Instant`; who has to know how long it was frozen asks [`since_boot`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Whether corrections of the wall clock count.
static FOLLOWED: AtomicBool = AtomicBool::new(false);

/// From now on [`now`] is what the system says, whenever it is asked: a clock that was wrong when the process started
/// may be set right later. For the program; without it, [`now`] is [`steady`], as tests with a paused clock need it.
pub fn follow_the_wall() {
    FOLLOWED.store(true, Ordering::Relaxed);
}

/// The current time.
#[must_use]
pub fn now() -> Timestamp {
    read(FOLLOWED.load(Ordering::Relaxed))
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn read(is_followed: bool) -> Timestamp {
    if is_followed { Timestamp::now() } else { steady() }
}

/// The time when the process first asked, and what has passed since: it never jumps. It advances with tokio's clock, so
/// a test with a paused clock sees time pass exactly as fast as its timers do.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn steady() -> Timestamp {
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

/// How long ago the machine was booted, the time that it or this process was suspended included: only this clock tells a
/// process that was frozen how late it is.
#[must_use]
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither is negative: the clock began with the boot.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
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
    fn the_wall_clock_is_read_anew_and_the_steady_one_is_tokios() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let before = [read(true), read(false)];
            tokio::time::sleep(Duration::from_secs(3600)).await;
            let passed = |at: usize| read(at == 0).duration_since(before[at]).as_secs();
            assert!(passed(0) < 600, "an hour of a paused clock is none of the wall's");
            assert_eq!(passed(1), 3600);
        });
    }

    #[test]
    fn the_time_since_boot_goes_on_beside_any_paused_clock() {
        let before = since_boot();
        assert!(before > Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        assert!(since_boot() >= before + Duration::from_millis(2));
    }

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
