//! The rate limit of an API key: windows of a minute, an hour and a day, told with every answer to a known key in the
//! fields of the IETF's draft on rate-limit headers. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;

/// So many requests in so many seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// As the headers call it, such as `minute`.
    pub name: String,
    pub quota: u32,
    pub seconds: u32,
}

/// What RunPod documents as its example: 60 a minute, 3000 an hour, 50,000 a day.
#[must_use]
pub fn documented() -> Vec<Window> {
    [("minute", 60, 60), ("hour", 3000, 3600), ("day", 50_000, 86_400)]
        .map(|(name, quota, seconds)| Window { name: name.to_owned(), quota, seconds })
        .to_vec()
}

/// The windows of every key.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    windows: Vec<Window>,
    /// By key; one for each window.
    used: BTreeMap<String, Vec<Used>>,
}

/// A window that began with its first request.
#[derive(Clone, Copy, Debug)]
struct Used {
    began: Timestamp,
    count: u32,
}

/// What the headers of an answer say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// `RateLimit`: requests and seconds that are left of each window.
    pub limit: String,
    /// `RateLimit-Policy`: what each window allows.
    pub policy: String,
}

/// A request came too soon, and counts for no window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    pub window: String,
    /// Seconds until it may be sent again.
    pub retry_after: u64,
}

impl Limits {
    #[must_use]
    pub fn new(windows: Vec<Window>) -> Self {
        Self { windows, used: BTreeMap::new() }
    }

    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Counts a request, if every window has room for it.
    pub fn take(&mut self, key: &str, now: Timestamp) -> Result<(), Exceeded> {
        let fresh = || self.windows.iter().map(|_| Used { began: now, count: 0 }).collect();
        let used = self.used.entry(key.to_owned()).or_insert_with(fresh);
        for (window, used) in self.windows.iter().zip(used.iter_mut()) {
            if left(window, used, now).is_zero() {
                *used = Used { began: now, count: 0 };
            }
        }
        let full = self.windows.iter().zip(used.iter()).filter(|(window, used)| used.count >= window.quota);
        let longest = full.max_by_key(|(window, used)| left(window, used, now));
        if let Some((window, used)) = longest {
            return Err(Exceeded {
                window: window.name.clone(),
                retry_after: seconds(left(window, used, now)).max(1),
            });
        }
        used.iter_mut().for_each(|used| used.count += 1);
        Ok(())
    }

    /// What a key has left. `None` where nothing is limited.
    #[must_use]
    pub fn quota(&self, key: &str, now: Timestamp) -> Option<Quota> {
        if self.windows.is_empty() {
            return None;
        }
        let used = self.used.get(key).map_or(&[][..], Vec::as_slice);
        let mut limit = Vec::new();
        let mut policy = Vec::new();
        for (index, window) in self.windows.iter().enumerate() {
            let fresh = Used { began: now, count: 0 };
            let used = used.get(index).filter(|used| !left(window, used, now).is_zero()).unwrap_or(&fresh);
            let remaining = window.quota.saturating_sub(used.count);
            limit.push(format!("\"{}\";r={remaining};t={}", window.name, seconds(left(window, used, now))));
            policy.push(format!("\"{}\";q={};w={}", window.name, window.quota, window.seconds));
        }
        Some(Quota { limit: limit.join(", "), policy: policy.join(", ") })
    }
}

fn left(window: &Window, used: &Used, now: Timestamp) -> Duration {
    let end = clock::after(used.began, Duration::from_secs(u64::from(window.seconds)));
    Duration::try_from(end.duration_since(now)).unwrap_or_default()
}

/// Rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Timestamp {
        clock::after(Timestamp::UNIX_EPOCH, Duration::from_secs_f64(seconds))
    }

    #[test]
    fn the_request_after_the_last_of_a_window_waits_for_its_end() {
        let mut limits = Limits::new(documented());
        for n in 0..60 {
            assert_eq!(limits.take("a", at(f64::from(n) / 10.0)), Ok(()));
        }
        let full = limits.take("a", at(47.5)).unwrap_err();
        assert_eq!(full, Exceeded { window: "minute".to_owned(), retry_after: 13 });
        // Refused ones count for nothing, other keys have windows of their own, and the minute ends.
        let quota = limits.quota("a", at(47.5)).unwrap();
        assert_eq!(quota.limit, "\"minute\";r=0;t=13, \"hour\";r=2940;t=3553, \"day\";r=49940;t=86353");
        assert_eq!(quota.policy, "\"minute\";q=60;w=60, \"hour\";q=3000;w=3600, \"day\";q=50000;w=86400");
        assert_eq!(limits.take("b", at(47.5)), Ok(()));
        assert_eq!(limits.take("a", at(60.0)), Ok(()));
        assert!(
            limits.quota("a", at(60.0)).unwrap().limit.starts_with("\"minute\";r=59;t=60, \"hour\";r=2939;")
        );
    }

    #[test]
    fn of_two_full_windows_the_one_that_lasts_longer_is_told() {
        let window = |name: &str, seconds| Window { name: name.to_owned(), quota: 1, seconds };
        let mut limits = Limits::new(vec![window("minute", 60), window("hour", 3600)]);
        assert_eq!(limits.take("a", at(0.0)), Ok(()));
        assert_eq!(limits.take("a", at(1.0)).unwrap_err().window, "hour");
        assert_eq!(Limits::default().take("a", at(0.0)), Ok(()));
        assert_eq!(Limits::default().quota("a", at(0.0)), None);
    }
}
