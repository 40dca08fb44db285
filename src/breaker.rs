//! What waits for everybody at once, because it fails for everybody: a circuit breaker.
//!
//! Pure, time is an argument. It opens when whoever is not to blame alone fails: at once where that is certain, else when
//! several in a row do and nobody succeeds in between. While it is open one at a time is let through, now and then: the
//! probe, and ever more seldom. Any good answer closes it. What a good answer is, its user says.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// When it opens, and how it is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// So many that fail in a row open it.
    pub(crate) many: usize,
    /// Fewer do, when they have failed for so long; `None`: never.
    pub(crate) few: Option<Duration>,
    /// A probe that has not answered for so long is no obstacle to the next.
    pub(crate) probe: Duration,
}

/// What an answer says of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sign<E> {
    /// It works, or fails for a reason of its own.
    Good,
    /// Nothing.
    Nothing,
    /// Others would probably fail likewise.
    Bad(Bad<E>),
}

/// A failure that is not one asker's alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad<E> {
    pub(crate) error: E,
    pub(crate) weight: Weight,
    /// From one probe to the next: at first, and at most.
    pub(crate) pauses: (Duration, Duration),
}

/// How much a failure says of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Others fail likewise for sure.
    Certain,
    /// Several are needed for that.
    Likely,
}

/// Closed at first.
#[derive(Debug)]
pub(crate) struct Breaker<E> {
    rules: Rules,
    /// Who failed since the last good answer.
    failed: BTreeSet<String>,
    /// Since when.
    since: Option<Instant>,
    open: Option<Open<E>>,
}

/// Why nobody is let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open<E> {
    pub(crate) error: E,
    pub(crate) next_probe: Instant,
    pauses: (Duration, Duration),
    /// Probes that failed.
    probes: u32,
    /// Who probes just now.
    prober: Option<String>,
    is_certain: bool,
}

impl<E: Clone> Breaker<E> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, failed: BTreeSet::new(), since: None, open: None }
    }

    /// Why nobody would be let through now.
    pub(crate) fn waits(&self, now: Instant) -> Option<&Open<E>> {
        self.open.as_ref().filter(|open| now < open.next_probe)
    }

    /// Lets `who` through, as the probe if it is open.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn admit(&mut self, who: &str, now: Instant) -> Result<(), Open<E>> {
        match &mut self.open {
            Some(open) if now < open.next_probe => Err(open.clone()),
            Some(open) => {
                open.next_probe = now + self.rules.probe;
                open.prober = Some(who.to_owned());
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes the answer to one that was let through. Whether it has closed with that.
    pub(crate) fn note(&mut self, who: &str, sign: Sign<E>, now: Instant) -> bool {
        match sign {
            Sign::Good => {
                self.failed.clear();
                self.since = None;
                self.open.take().is_some()
            }
            Sign::Nothing => {
                if let Some(open) = &mut self.open {
                    open.answered(who, now);
                }
                false
            }
            Sign::Bad(bad) => {
                self.fails(who, bad, now);
                false
            }
        }
    }

    /// Why it is open, if it is.
    pub(crate) fn trouble(&self) -> Option<&E> {
        self.open.as_ref().map(|open| &open.error)
    }

    /// Whether it is open for what one asker alone met, whose own fault it may be after all.
    pub(crate) fn is_ones(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.is_certain) && self.failed.len() < 2
    }

    fn fails(&mut self, who: &str, bad: Bad<E>, now: Instant) {
        if self.failed.len() < self.rules.many {
            self.failed.insert(who.to_owned());
        }
        let since = *self.since.get_or_insert(now);
        let is_certain = bad.weight == Weight::Certain;
        let Some(open) = &mut self.open else {
            let is_long = self.rules.few.is_some_and(|few| now >= since + few);
            if is_certain || self.failed.len() >= self.rules.many || is_long {
                let mut open = Open {
                    error: bad.error,
                    next_probe: now,
                    pauses: bad.pauses,
                    probes: 0,
                    prober: None,
                    is_certain,
                };
                open.next_probe = now + open.pause();
                self.open = Some(open);
            }
            return;
        };
        // What was under way when it opened, or asks beside the probe, puts no probe off.
        let is_probe = open.prober.as_deref() == Some(who);
        open.error = bad.error;
        open.pauses = bad.pauses;
        open.is_certain |= is_certain;
        if is_probe {
            open.probes = open.probes.saturating_add(1);
            open.answered(who, now);
        }
    }
}

impl<E> Open<E> {
    /// The next probe follows after a pause, if this was one.
    fn answered(&mut self, who: &str, now: Instant) {
        if self.prober.take_if(|prober| prober == who).is_some() {
            self.next_probe = now + self.pause();
        }
    }

    fn pause(&self) -> Duration {
        let (first, longest) = self.pauses;
        first.saturating_mul(1 << self.probes.min(16)).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RULES: Rules =
        Rules { many: 3, few: Some(Duration::from_secs(60)), probe: Duration::from_secs(120) };

    fn bad(weight: Weight) -> Sign<&'static str> {
        Sign::Bad(Bad { error: "no", weight, pauses: (SECOND * 10, SECOND * 40) })
    }

    fn likely() -> Sign<&'static str> {
        bad(Weight::Likely)
    }

    /// Breaker and clock, after `who` failed one after the other, a second each.
    fn after(who: &[&str]) -> (Breaker<&'static str>, Instant) {
        let (mut breaker, mut now) = (Breaker::new(RULES), Instant::now());
        for one in who {
            now += SECOND;
            breaker.note(one, likely(), now);
        }
        (breaker, now)
    }

    #[test]
    fn it_opens_for_several_in_a_row_and_for_few_only_when_they_fail_for_long() {
        let one_for = |seconds: usize| vec!["a"; seconds + 1];
        for (failed, is_open, is_ones) in [
            (vec!["a", "b"], false, false),
            (vec!["a", "b", "c"], true, false),
            (one_for(59), false, false),
            (one_for(60), true, true),
        ] {
            let (breaker, _) = after(&failed);
            assert_eq!((breaker.trouble().is_some(), breaker.is_ones()), (is_open, is_ones), "{failed:?}");
        }
        let never = Rules { few: None, ..RULES };
        let (mut breaker, now) = (Breaker::new(never), Instant::now());
        for minutes in 0..10 {
            breaker.note("a", likely(), now + SECOND * 60 * minutes);
        }
        assert_eq!(breaker.trouble(), None);
    }

    #[test]
    fn it_opens_at_once_for_what_is_certain() {
        let (mut breaker, now) = after(&[]);
        assert!(!breaker.note("a", bad(Weight::Certain), now));
        assert!(breaker.trouble().is_some() && !breaker.is_ones());
    }

    #[test]
    fn a_good_answer_in_between_keeps_it_closed_and_what_says_nothing_does_not() {
        let (mut breaker, now) = after(&["a", "b"]);
        assert!(!breaker.note("c", Sign::Good, now));
        breaker.note("c", likely(), now);
        assert_eq!(breaker.trouble(), None);
        let (mut breaker, now) = after(&["a", "b"]);
        assert!(!breaker.note("c", Sign::Nothing, now));
        breaker.note("c", likely(), now);
        assert_eq!(breaker.trouble(), Some(&"no"));
    }

    #[test]
    fn one_at_a_time_probes_and_ever_more_seldom_until_an_answer_is_good() {
        let (mut breaker, mut now) = after(&["a", "b", "c"]);
        for seconds in [10, 20, 40, 40] {
            let open = breaker.admit("d", now).unwrap_err();
            assert_eq!(open.next_probe, now + SECOND * seconds);
            now = open.next_probe;
            assert!(breaker.waits(now).is_none());
            assert!(breaker.admit("d", now).is_ok());
            assert!(breaker.admit("e", now).is_err(), "a second one beside the probe");
            assert!(!breaker.note("d", likely(), now));
        }
        now += SECOND * 40;
        assert!(breaker.admit("d", now).is_ok());
        assert!(breaker.note("d", Sign::Good, now));
        assert!(breaker.admit("e", now).is_ok() && breaker.trouble().is_none());
    }

    #[test]
    fn only_the_probes_own_answer_moves_the_next_probe() {
        let (mut breaker, mut now) = after(&["a", "b", "c"]);
        let next = breaker.admit("d", now).unwrap_err().next_probe;
        for _ in 0..5 {
            now += SECOND;
            breaker.note("a", likely(), now);
            breaker.note("b", Sign::Nothing, now);
        }
        assert_eq!(breaker.admit("d", now).unwrap_err().next_probe, next);
        assert!(breaker.admit("d", next).is_ok());
        breaker.note("a", likely(), next);
        assert_eq!(breaker.waits(next).map(|open| open.next_probe), Some(next + RULES.probe));
        // A probe that says nothing is followed by another, no later than it would have been.
        breaker.note("d", Sign::Nothing, next + SECOND);
        assert_eq!(breaker.waits(next + SECOND).map(|open| open.next_probe), Some(next + SECOND * 11));
        // One that never answers holds nobody up.
        assert!(breaker.admit("d", next + SECOND * 11).is_ok());
        assert!(breaker.admit("e", next + SECOND * 11 + RULES.probe).is_ok());
    }

    #[test]
    fn what_one_alone_met_is_everybodys_once_another_meets_it() {
        let (mut breaker, now) = after(&["a"; 61]);
        assert!(breaker.is_ones());
        let next = breaker.admit("b", now).unwrap_err().next_probe;
        breaker.admit("b", next).unwrap();
        breaker.note("b", likely(), next);
        assert!(!breaker.is_ones() && breaker.trouble().is_some());
    }
}
