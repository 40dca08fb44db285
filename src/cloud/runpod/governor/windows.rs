//! The windows in which RunPod counts requests, and when the next one may go. Arithmetic alone; the time is an argument.
//!
//! Windows are fixed: when one ends, all of its quota is there again. Where exactly it ends is told; until it is, a
//! window is taken to begin with the process.

use std::time::Duration;

use tokio::time::Instant;

use super::headers::Told;

/// Documented for every account, and all that is assumed until something is told.
const PER_MINUTE: u32 = 60;

/// What a request is for, by its precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Class {
    Delete,
    Create,
    Read,
}

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) enum Span {
    Minute,
    Hour,
    Day,
}

/// What is left of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Standing {
    pub(in super::super) span: Span,
    /// Requests.
    pub(in super::super) left: u32,
}

/// All windows that are known.
#[derive(Debug)]
pub(super) struct Windows {
    windows: [Option<Window>; 3],
    /// Somebody was refused: nobody calls before.
    closed_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    quota: u32,
    length: Duration,
    left: u32,
    ends: Instant,
}

impl Class {
    pub(super) fn index(self) -> usize {
        match self {
            Self::Delete => 0,
            Self::Create => 1,
            Self::Read => 2,
        }
    }

    /// Requests of a window that are not this kind's: a tenth is for deletions alone, and as much more for creations,
    /// so that lists never keep a machine alive that nobody wants.
    fn reserve(self, quota: u32) -> u32 {
        let tenth = (quota / 10).max(1).min(quota.saturating_sub(1) / 2);
        match self {
            Self::Delete => 0,
            Self::Create => tenth,
            Self::Read => tenth.saturating_mul(2),
        }
    }
}

impl Span {
    pub(super) const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Minute => 0,
            Self::Hour => 1,
            Self::Day => 2,
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|span| span.name() == name)
    }

    /// As RunPod calls it.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        })
    }
}

impl Windows {
    pub(super) fn new(now: Instant) -> Self {
        let length = Span::Minute.length();
        let minute = Window { quota: PER_MINUTE, length, left: PER_MINUTE, ends: now + length };
        Self { windows: [Some(minute), None, None], closed_until: None }
    }

    /// How long until a request of this kind may go; zero if it may now.
    pub(super) fn wait(&mut self, class: Class, now: Instant) -> Duration {
        self.turn_over(now);
        let closed = self.closed_until.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let full = |window: &Window| {
            let is_free = window.left > class.reserve(window.quota);
            if is_free { Duration::ZERO } else { window.ends.saturating_duration_since(now) }
        };
        self.windows.iter().flatten().map(full).max().unwrap_or_default().max(closed)
    }

    /// Takes what [`Windows::wait`] said is there.
    pub(super) fn take(&mut self) {
        for window in self.windows.iter_mut().flatten() {
            window.left = window.left.saturating_sub(1);
        }
    }

    /// Takes over what an answer says; `others` requests are under way, and may not be counted in it.
    pub(super) fn told(&mut self, told: &[Told; 3], others: u32, now: Instant) {
        self.turn_over(now);
        for span in Span::ALL {
            let (told, window) = (told[span.index()], &mut self.windows[span.index()]);
            if told == Told::default() {
                continue;
            }
            let before = window.unwrap_or_else(|| {
                let quota = told.quota.or(told.left).unwrap_or(PER_MINUTE);
                Window { quota, length: span.length(), left: quota, ends: now + span.length() }
            });
            let length = told.length.filter(|length| !length.is_zero()).unwrap_or(before.length);
            // Without a policy, the most that was ever left is the least that a window has.
            let quota = told.quota.unwrap_or(before.quota).max(told.left.unwrap_or(0)).max(1);
            *window = Some(Window {
                quota,
                length,
                left: told.left.map_or(before.left, |left| left.saturating_sub(others)).min(quota),
                ends: told.resets.map_or(before.ends, |resets| now + resets.min(length)),
            });
        }
    }

    /// A request was refused for its rate.
    pub(super) fn refused(&mut self, after: Duration, now: Instant) {
        let until = now + after;
        self.closed_until = Some(self.closed_until.map_or(until, |at| at.max(until)));
    }

    pub(super) fn standing(&mut self, now: Instant) -> Vec<Standing> {
        self.turn_over(now);
        let known = Span::ALL.into_iter().filter_map(|span| Some((span, self.windows[span.index()]?)));
        known.map(|(span, window)| Standing { span, left: window.left }).collect()
    }

    fn turn_over(&mut self, now: Instant) {
        for window in self.windows.iter_mut().flatten().filter(|window| window.ends <= now) {
            window.left = window.quota;
            window.ends = now + window.length;
        }
        self.closed_until = self.closed_until.filter(|at| *at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(left: u32, resets: u64) -> Told {
        Told { left: Some(left), resets: Some(Duration::from_secs(resets)), ..Told::default() }
    }

    fn seconds(windows: &mut Windows, class: Class, now: Instant) -> u64 {
        windows.wait(class, now).as_secs()
    }

    #[test]
    fn sixty_a_minute_hold_until_something_else_is_told() {
        let start = Instant::now();
        let mut windows = Windows::new(start);
        for class in [Class::Read, Class::Create, Class::Delete] {
            while windows.wait(class, start).is_zero() {
                windows.take();
            }
            let left = windows.standing(start)[0].left;
            assert_eq!(left, class.reserve(60), "{class:?}");
        }
        assert_eq!(seconds(&mut windows, Class::Delete, start + Duration::from_secs(20)), 40);
        assert_eq!(seconds(&mut windows, Class::Read, start + Duration::from_secs(60)), 0);
        assert_eq!(windows.standing(start + Duration::from_secs(60))[0].left, 60);
    }

    #[test]
    fn the_emptiest_window_decides_and_who_waits_longest_is_who_is_least_urgent() {
        let now = Instant::now();
        let mut windows = Windows::new(now);
        let policy = Told { quota: Some(3000), length: Some(Duration::from_secs(3600)), ..told(400, 1812) };
        windows.told(&[told(50, 12), policy, Told::default()], 0, now);
        let waits = [Class::Delete, Class::Create, Class::Read].map(|it| seconds(&mut windows, it, now));
        assert_eq!(waits, [0, 0, 1812], "a fifth of the hour is not for reads");
        windows.told(&[told(6, 12), Told::default(), Told::default()], 0, now);
        let waits = [Class::Delete, Class::Create, Class::Read].map(|it| seconds(&mut windows, it, now));
        assert_eq!(waits, [0, 12, 1812]);
        windows.told(&[told(0, 12), told(300, 1812), Told::default()], 0, now);
        let waits = [Class::Delete, Class::Create, Class::Read].map(|it| seconds(&mut windows, it, now));
        assert_eq!(waits, [12, 1812, 1812]);
    }

    #[test]
    fn a_window_of_a_few_requests_still_lets_everybody_through() {
        let now = Instant::now();
        let mut windows = Windows::new(now);
        for quota in 1..10 {
            let policy = Told { quota: Some(quota), ..told(quota, 60) };
            windows.told(&[policy, Told::default(), Told::default()], 0, now);
            assert_eq!(seconds(&mut windows, Class::Read, now), 0, "{quota}");
        }
    }

    #[test]
    fn a_refusal_is_kept_to_and_a_shorter_one_does_not_end_it() {
        let now = Instant::now();
        let mut windows = Windows::new(now);
        windows.refused(Duration::from_secs(30), now);
        windows.refused(Duration::from_secs(5), now);
        assert_eq!(seconds(&mut windows, Class::Delete, now), 30);
        assert_eq!(seconds(&mut windows, Class::Delete, now + Duration::from_secs(30)), 0);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_told_everybody_goes_in_the_end(
            answers in proptest::collection::vec((0..100_u32, 0..100_u64, 0..50_u32, proptest::option::of(0..100_u32)), 0..40),
        ) {
            let mut now = Instant::now();
            let mut windows = Windows::new(now);
            for (left, resets, others, quota) in answers {
                let minute = Told { quota, ..told(left, resets) };
                windows.told(&[minute, told(left, resets), Told::default()], others, now);
                now += Duration::from_secs(1);
            }
            let mut waited = 0;
            loop {
                let wait = windows.wait(Class::Read, now);
                if wait.is_zero() {
                    break;
                }
                now += wait;
                waited += 1;
                proptest::prop_assert!(waited < 4, "{windows:?}");
            }
        }
    }
}
