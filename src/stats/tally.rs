//! A counter of the node: the sum of its machines' counters, which come and go. Pure.
//!
//! Readers take the difference of two readings and divide it by the time between them, so a sum may neither fall when a
//! machine leaves nor jump when one comes, and it needs a time at which it was true. A machine counts from its first
//! sample on; what it has used stays in the sum when it goes; and the sum is told for the latest time that every
//! machine has reached, in between its samples by a straight line.

use std::collections::{HashMap, VecDeque};

use super::page::Point;

/// Samples kept of a machine: more than the slowest one can be behind.
const SAMPLES: usize = 16;

/// The sum.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// No machine's counter grows faster, per second.
    limit: f64,
    /// Of machines that are gone.
    retired: f64,
    machines: HashMap<String, Series>,
    /// What was told last.
    told: Option<Point>,
}

/// A machine's counter, since its first sample.
#[derive(Clone, Debug)]
struct Series {
    /// The last reading, as the machine counts.
    raw: f64,
    /// Times and what was counted until then, in order; never empty.
    points: VecDeque<Point>,
}

impl Tally {
    /// Nothing yet. What grows by more than `limit` in a second is not believed.
    pub(super) fn new(limit: f64) -> Self {
        Self { limit, retired: 0.0, machines: HashMap::new(), told: None }
    }

    /// A machine's counter as it was at a time.
    pub(super) fn add(&mut self, machine: &str, sample: Point) {
        let Some(series) = self.machines.get_mut(machine) else {
            self.machines.insert(machine.to_owned(), Series::new(sample));
            return;
        };
        if sample.at < series.last().at {
            // Its clock was set back.
            self.remove(machine);
            self.machines.insert(machine.to_owned(), Series::new(sample));
        } else if sample.at > series.last().at {
            series.add(sample, self.limit);
        }
    }

    /// The machine is gone, or is not heard of.
    pub(super) fn remove(&mut self, machine: &str) {
        if let Some(series) = self.machines.remove(machine) {
            self.retired += series.last().value;
        }
    }

    /// The sum, and when it was that; `None` while there is no machine, and before anything was counted, since readers
    /// take a zero for a mistake.
    pub(super) fn read(&mut self) -> Option<Point> {
        let reached = self.machines.values().map(|series| series.last().at).min()?;
        let point = match self.told {
            // One time has one sum, whatever was learned since.
            Some(told) if told.at >= reached => told,
            Some(told) => Point { value: self.sum(reached).max(told.value), at: reached },
            None => Point { value: self.sum(reached), at: reached },
        };
        self.told = Some(point);
        (point.value > 0.0).then_some(point)
    }

    fn sum(&self, at: i64) -> f64 {
        self.retired + self.machines.values().map(|series| series.at(at)).sum::<f64>()
    }
}

impl Series {
    fn new(sample: Point) -> Self {
        Self { raw: sample.value, points: VecDeque::from([Point { value: 0.0, at: sample.at }]) }
    }

    fn last(&self) -> Point {
        *self.points.back().expect("a series begins with a point")
    }

    /// A reading that is lower than the one before is a counter that began anew.
    fn add(&mut self, sample: Point, limit: f64) {
        let last = self.last();
        let grown = if sample.value >= self.raw { sample.value - self.raw } else { sample.value };
        let grown = grown.min(seconds(sample.at - last.at) * limit);
        self.raw = sample.value;
        self.points.push_back(Point { value: last.value + grown, at: sample.at });
        if self.points.len() > SAMPLES {
            self.points.pop_front();
        }
    }

    /// What was counted until then.
    fn at(&self, at: i64) -> f64 {
        let after = self.points.partition_point(|point| point.at <= at);
        match (after.checked_sub(1).and_then(|before| self.points.get(before)), self.points.get(after)) {
            (Some(before), Some(next)) => {
                let share = seconds(at - before.at) / seconds(next.at - before.at);
                before.value + (next.value - before.value) * share
            }
            (Some(only), None) | (None, Some(only)) => only.value,
            (None, None) => 0.0,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few minutes, in milliseconds")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(value: f64, seconds: i64) -> Point {
        Point { value, at: seconds * 1000 }
    }

    fn tally() -> Tally {
        Tally::new(100.0)
    }

    #[test]
    fn one_machine_counts_as_itself_at_the_times_of_its_own_samples() {
        let mut tally = tally();
        assert_eq!(tally.read(), None);
        tally.add("a", point(500.0, 0));
        assert_eq!(tally.read(), None, "nothing was counted yet, and zeros are not told");
        tally.add("a", point(507.0, 10));
        assert_eq!(tally.read(), Some(point(7.0, 10)));
        tally.add("a", point(507.0, 10));
        tally.add("a", point(508.0, 20));
        assert_eq!(tally.read(), Some(point(8.0, 20)));
    }

    #[test]
    fn the_rate_is_that_of_all_machines_whenever_each_is_sampled() {
        let mut tally = tally();
        tally.add("a", point(0.0, 0));
        tally.add("b", point(0.0, 3));
        tally.add("a", point(10.0, 10));
        tally.add("b", point(20.0, 13));
        let first = tally.read().unwrap();
        assert_eq!(first, point(10.0 + 14.0, 10));
        tally.add("a", point(20.0, 20));
        assert_eq!(tally.read().unwrap(), point(13.0 + 20.0, 13), "`b` has come no further");
        tally.add("b", point(40.0, 23));
        assert_eq!(tally.read().unwrap(), point(20.0 + 34.0, 20), "3 a second, in all");
    }

    #[test]
    fn a_machine_that_comes_or_goes_makes_no_jump() {
        let mut tally = tally();
        tally.add("a", point(100.0, 0));
        tally.add("a", point(110.0, 10));
        tally.add("b", point(9_000.0, 11));
        assert_eq!(tally.read(), Some(point(10.0, 10)));
        tally.add("a", point(120.0, 20));
        tally.add("b", point(9_005.0, 21));
        let before = tally.read().unwrap();
        tally.remove("a");
        let after = tally.read().unwrap();
        assert_eq!((before.at, after), (20_000, point(25.0, 21)));
        tally.remove("b");
        assert_eq!(tally.read(), None, "without a machine there is nothing to tell");
        tally.add("c", point(1.0, 60));
        assert_eq!(tally.read(), Some(point(25.0, 60)));
    }

    #[test]
    fn a_counter_that_began_anew_counts_on() {
        let mut tally = tally();
        tally.add("a", point(1_000.0, 0));
        tally.add("a", point(1_010.0, 10));
        tally.add("a", point(4.0, 20));
        assert_eq!(tally.read(), Some(point(14.0, 20)));
    }

    #[test]
    fn what_no_machine_can_count_is_not_believed() {
        let mut tally = tally();
        tally.add("a", point(0.0, 0));
        tally.add("a", point(1e14, 10));
        assert_eq!(tally.read(), Some(point(1_000.0, 10)));
        tally.add("a", point(1e14 + 5.0, 20));
        assert_eq!(tally.read(), Some(point(1_005.0, 20)));
    }

    #[test]
    fn a_clock_that_is_set_back_takes_nothing_away() {
        let mut tally = tally();
        tally.add("a", point(0.0, 1_000));
        tally.add("a", point(10.0, 1_010));
        assert_eq!(tally.read(), Some(point(10.0, 1_010)));
        tally.add("a", point(20.0, 500));
        tally.add("a", point(25.0, 510));
        assert_eq!(tally.read(), Some(point(10.0, 1_010)), "until it has caught up");
        tally.add("a", point(30.0, 1_020));
        assert_eq!(tally.read(), Some(point(20.0, 1_020)));
    }

    proptest! {
        /// Machines come, are sampled late, early or twice, begin anew and go, in any order.
        #[test]
        fn the_sum_and_its_time_never_go_back(
            steps in proptest::collection::vec((0_u8..4, 0_u8..10, 0.0..1e6_f64, -30_i64..60), 1..200)
        ) {
            let (mut tally, mut now, mut last) = (tally(), 0, point(0.0, 0));
            for (machine, what, value, ahead) in steps {
                now += 1;
                let machine = machine.to_string();
                match what {
                    0 => tally.remove(&machine),
                    _ => tally.add(&machine, point(value, (now + ahead).max(0))),
                }
                if let Some(told) = tally.read() {
                    prop_assert!(told.value >= last.value && told.at >= last.at, "{last:?} {told:?}");
                    prop_assert!(told.at > last.at || told == last || last.value == 0.0, "{last:?} {told:?}");
                    last = told;
                }
            }
        }
    }
}
