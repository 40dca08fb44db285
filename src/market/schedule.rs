//! Which part of the market is read when. Pure; the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::Reads;

const HOUR: Duration = Duration::from_secs(3600);
/// After a reading that failed.
const AGAIN: Duration = Duration::from_secs(15);
/// Later than this nothing is ever due.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A part that is read by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Catalog,
    Prices,
    Subnets,
    Spot,
    Reservations,
}

impl Part {
    const ALL: [Self; 5] = [Self::Catalog, Self::Prices, Self::Subnets, Self::Spot, Self::Reservations];

    /// Types and prices change by the month, capacity by the minute.
    fn period(self) -> Duration {
        match self {
            Self::Catalog | Self::Prices => 12 * HOUR,
            Self::Subnets | Self::Reservations => Duration::from_secs(60),
            Self::Spot => Duration::from_secs(300),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Catalog => "instance types",
            Self::Prices => "prices",
            Self::Subnets => "subnets",
            Self::Spot => "spot prices",
            Self::Reservations => "reservations",
        }
    }

    pub(super) fn count(self, reads: &mut Reads) -> &mut u64 {
        match self {
            Self::Catalog => &mut reads.catalog,
            Self::Prices => &mut reads.prices,
            Self::Subnets => &mut reads.subnets,
            Self::Spot => &mut reads.spot,
            Self::Reservations => &mut reads.reservations,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Catalog => 0,
            Self::Prices => 1,
            Self::Subnets => 2,
            Self::Spot => 3,
            Self::Reservations => 4,
        }
    }
}

/// When each part is due; nothing is before it is wanted.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: [Option<Instant>; 5],
    /// When the last successful reading began.
    read: [Option<Instant>; 5],
}

impl Schedule {
    /// The part is to be fresh; whether it was not due before.
    pub(super) fn want(&mut self, part: Part, now: Instant) -> bool {
        let index = part.index();
        let due = &mut self.due[index];
        let is_new = due.is_none();
        due.get_or_insert(self.read[index].map_or(now, |read| now.max(read + part.period())));
        is_new
    }

    /// A part that is kept fresh is due now; whether that is new.
    pub(super) fn hasten(&mut self, part: Part, now: Instant) -> bool {
        match &mut self.due[part.index()] {
            Some(due) if *due > now => {
                *due = now;
                true
            }
            Some(_) | None => false,
        }
    }

    /// What is due next, and when.
    pub(super) fn next(&self) -> (Instant, Part) {
        let due = Part::ALL.into_iter().filter_map(|part| Some((self.due[part.index()]?, part)));
        due.min_by_key(|(at, _)| *at).unwrap_or_else(|| (Instant::now() + FAR, Part::Subnets))
    }

    /// Whether a successful reading began at or after `since`.
    pub(super) fn was_read_since(&self, part: Part, since: Instant) -> bool {
        self.read[part.index()].is_some_and(|read| read >= since)
    }

    /// A reading ended. `soon` is how far away the next known change of a reservation is.
    pub(super) fn was_read(&mut self, part: Part, began: Instant, is_ok: bool, soon: Option<Duration>) {
        let period = match part {
            Part::Reservations => soon.map_or_else(|| part.period(), |soon| part.period().min(soon)),
            Part::Catalog | Part::Prices | Part::Subnets | Part::Spot => part.period(),
        };
        let index = part.index();
        if is_ok {
            self.read[index] = Some(began);
        }
        self.due[index] = match part {
            // Only launches change what of them matters to us: at rest nobody asks.
            Part::Subnets if is_ok => None,
            Part::Catalog | Part::Prices | Part::Subnets | Part::Spot | Part::Reservations => {
                Some(began + if is_ok { period } else { AGAIN })
            }
        };
    }
}
