//! EC2's token buckets: how many calls it takes of an action at once, and how many a second after that. Pure.
//!
//! Every action has its own bucket of its category's size, as EC2 has it per account and region. Launching and
//! terminating have a second one, for instances.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A bucket's size and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub size: u32,
    pub per_second: f64,
}

const fn rate(size: u32, per_second: f64) -> Rate {
    Rate { size, per_second }
}

/// The buckets of every category.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Calls of RunInstances.
    pub run_request: Rate,
    /// Instances that RunInstances is asked for.
    pub run_resource: Rate,
    /// Instances that TerminateInstances is asked for.
    pub terminate_resource: Rate,
    /// Calls of other actions that change something.
    pub mutating: Rate,
    /// Calls of descriptions with ids, filters or pages.
    pub describe: Rate,
    /// Calls of descriptions without any.
    pub describe_unfiltered: Rate,
}

impl Default for Rates {
    /// EC2's own, as its API's throttling page has them.
    fn default() -> Self {
        Self {
            run_request: rate(5, 2.0),
            run_resource: rate(1000, 2.0),
            terminate_resource: rate(1000, 20.0),
            mutating: rate(50, 5.0),
            describe: rate(100, 20.0),
            describe_unfiltered: rate(50, 10.0),
        }
    }
}

/// How a description was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Narrowed,
    Everything,
}

/// There are not enough tokens now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled;

/// Buckets by name; a new one is full.
#[derive(Debug, Default)]
pub struct Buckets(BTreeMap<String, Bucket>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Buckets {
    /// Takes so many tokens, or none.
    pub fn take(&mut self, name: String, rate: Rate, count: u32, now: Timestamp) -> Result<(), Throttled> {
        let full = f64::from(rate.size);
        let bucket = self.0.entry(name).or_insert(Bucket { tokens: full, at: now });
        let gained = now.duration_since(bucket.at).as_secs_f64().max(0.0) * rate.per_second;
        bucket.tokens = (bucket.tokens + gained).min(full);
        bucket.at = now;
        if bucket.tokens < f64::from(count) {
            return Err(Throttled);
        }
        bucket.tokens -= f64::from(count);
        Ok(())
    }
}

/// All buckets; without rates nothing is throttled.
#[derive(Debug, Default)]
pub struct Throttle {
    rates: Option<Rates>,
    buckets: Buckets,
}

impl Throttle {
    #[must_use]
    pub fn new(rates: Option<Rates>) -> Self {
        Self { rates, buckets: Buckets::default() }
    }

    #[must_use]
    pub fn rates(&self) -> Option<Rates> {
        self.rates
    }

    /// Takes a token for a call. One that is refused takes none.
    pub fn request(&mut self, action: &str, scope: Scope, now: Timestamp) -> Result<(), Throttled> {
        let Some(rates) = self.rates else { return Ok(()) };
        let describes = action.starts_with("Describe") || action.starts_with("Get");
        let rate = match (action, scope) {
            ("RunInstances", _) => rates.run_request,
            (_, Scope::Everything) if describes => rates.describe_unfiltered,
            (_, Scope::Narrowed) if describes => rates.describe,
            _ => rates.mutating,
        };
        // Both scopes of a description have a bucket.
        let name = match scope {
            Scope::Everything if describes => format!("{action} unfiltered"),
            Scope::Everything | Scope::Narrowed => action.to_owned(),
        };
        self.buckets.take(name, rate, 1, now)
    }

    /// Takes tokens for the instances of a launch.
    pub fn launch(&mut self, count: u32, now: Timestamp) -> Result<(), Throttled> {
        let Some(rates) = self.rates else { return Ok(()) };
        self.buckets.take("RunInstances instances".to_owned(), rates.run_resource, count, now)
    }

    /// Takes tokens for the instances that are to be terminated.
    pub fn terminate(&mut self, count: u32, now: Timestamp) -> Result<(), Throttled> {
        let Some(rates) = self.rates else { return Ok(()) };
        self.buckets.take("TerminateInstances instances".to_owned(), rates.terminate_resource, count, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    fn allowed(throttle: &mut Throttle, action: &str, scope: Scope, calls: usize, now: Timestamp) -> usize {
        (0..calls).filter(|_| throttle.request(action, scope, now).is_ok()).count()
    }

    #[test]
    fn launches_burst_to_five_and_go_on_at_two_a_second() {
        let mut throttle = Throttle::new(Some(Rates::default()));
        let start = Timestamp::UNIX_EPOCH;
        let mut calls = |seconds: f64| {
            let now = clock::after(start, Duration::from_secs_f64(seconds));
            allowed(&mut throttle, "RunInstances", Scope::Narrowed, 10, now)
        };
        assert_eq!([calls(0.0), calls(0.0), calls(0.5), calls(3.0), calls(1000.0)], [5, 0, 1, 5, 5]);
    }

    #[test]
    fn every_action_has_a_bucket_of_its_categorys_size() {
        let mut throttle = Throttle::new(Some(Rates::default()));
        for (action, scope, burst) in [
            ("CreateTags", Scope::Narrowed, 50),
            ("TerminateInstances", Scope::Narrowed, 50),
            ("DescribeInstances", Scope::Narrowed, 100),
            ("DescribeInstances", Scope::Everything, 50),
            ("DescribeSubnets", Scope::Everything, 50),
        ] {
            let now = Timestamp::UNIX_EPOCH;
            assert_eq!(allowed(&mut throttle, action, scope, 200, now), burst, "{action} {scope:?}");
        }
    }

    #[test]
    fn instances_are_counted_beside_calls() {
        let mut throttle = Throttle::new(Some(Rates::default()));
        let start = Timestamp::UNIX_EPOCH;
        assert_eq!(throttle.launch(1000, start), Ok(()));
        assert_eq!(throttle.launch(1, start), Err(Throttled));
        assert_eq!(throttle.launch(2, clock::after(start, Duration::from_secs(1))), Ok(()));
        assert_eq!(throttle.terminate(1001, start), Err(Throttled));
        assert_eq!(throttle.terminate(1000, start), Ok(()));
    }

    #[test]
    fn without_rates_everything_goes() {
        let mut throttle = Throttle::default();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(allowed(&mut throttle, "RunInstances", Scope::Narrowed, 5000, now), 5000);
    }
}
