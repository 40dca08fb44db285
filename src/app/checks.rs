//! What `/livez` and `/readyz` look at. Each check reads what its part noted last and waits for nobody.
//!
//! A process that does not lead is ready when it could: it hears of the election, and what only a leader does is not
//! asked of it.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;

use super::Meters;
use crate::clock;
use crate::telemetry::{Health, Probe};

/// The Lease is renewed every ten seconds, and the cluster gives the node up after forty.
const LEASE: Duration = Duration::from_secs(40);
/// Its watch tells of each renewal, and is begun anew every four minutes where there are none.
const HEARD: Duration = Duration::from_secs(300);
/// The cloud is listed every ten seconds.
const LIST: Duration = Duration::from_secs(300);

/// Adds the checks that follow from what is measured.
pub(super) fn add(health: &Health, meters: &Meters) {
    health.check("ping", Probe::Live, "").pass();
    // The process does not come so far without them.
    health.check("keys", Probe::Ready, "").pass();
    let (leader, heard, renewed) = (meters.election.leader(), meters.election.heard(), meters.node.renewed());
    health.ask("api-server", Probe::Ready, move || match leader.get() {
        0 => fresh(heard.get(), HEARD, clock::now(), "the Lease of the election was seen"),
        _ => fresh(renewed.get(), LEASE, clock::now(), "the node's lease was renewed"),
    });
    let (leader, listed) = (meters.election.leader(), meters.controller.listed());
    health.ask("instances", Probe::Ready, move || match leader.get() {
        0 => Ok(()),
        _ => fresh(listed.get(), LIST, clock::now(), "the cloud last told of its machines"),
    });
    let expiry: Gauge = meters.certificate.expiry();
    health.ask("certificate", Probe::Ready, move || valid(expiry.get(), clock::now()));
}

/// `at` is in seconds since 1970; 0 is never.
fn fresh(at: i64, limit: Duration, now: Timestamp, what: &str) -> Result<(), String> {
    if at == 0 {
        return Err(format!("not yet: {what}"));
    }
    let age = now.as_second() - at;
    if age <= i64::try_from(limit.as_secs()).unwrap_or(i64::MAX) {
        Ok(())
    } else {
        Err(format!("{what} {age}s ago"))
    }
}

/// 0 is a certificate that the cluster did not issue, or not yet.
fn valid(expiry: i64, now: Timestamp) -> Result<(), String> {
    if expiry == 0 || now.as_second() < expiry {
        Ok(())
    } else {
        Err("the endpoint's certificate has ended".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_or_never_was_fails() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let look = |at: i64| fresh(at, LEASE, now, "the lease was renewed");
        assert_eq!(look(0), Err("not yet: the lease was renewed".to_owned()));
        assert_eq!(look(1_800_000_000 - 40), Ok(()));
        assert_eq!(look(1_800_000_000 - 41), Err("the lease was renewed 41s ago".to_owned()));
        assert_eq!([valid(0, now), valid(1_800_000_001, now)], [Ok(()), Ok(())]);
        assert!(valid(1_800_000_000, now).is_err());
    }

    #[test]
    fn a_process_that_has_just_started_lives_and_is_not_ready() {
        let health = Health::default();
        let meters = Meters::default();
        add(&health, &meters);
        let shown = || format!("{health:?}");
        assert!(
            shown().contains("\"ping\"): None") && shown().contains("\"api-server\"): Some"),
            "{}",
            shown()
        );
        // What only a leader does is asked of none other.
        assert!(shown().contains("\"instances\"): None"), "{}", shown());
        meters.election.heard().set(clock::now().as_second());
        assert!(shown().contains("\"api-server\"): None"), "{}", shown());
        meters.election.leader().set(1);
        assert!(
            shown().contains("\"instances\"): Some") && shown().contains("\"api-server\"): Some"),
            "{}",
            shown()
        );
    }
}
