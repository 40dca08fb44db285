//! `leaderElection` and `shutdown`: who acts, and how it stops.

use std::time::Duration;

use super::raw::Reader;
use super::{LeaderElection, Shutdown, values};

const LEASE: &str = "leaderElection.leaseDuration";
const RENEW: &str = "leaderElection.renewDeadline";
const RETRY: &str = "leaderElection.retryPeriod";
/// What a change that was sent at the last moment may take to arrive, at least.
const MARGIN: Duration = Duration::from_secs(1);
/// Nobody waits longer for a leader that is gone, and the API server takes no more.
const LONGEST: Duration = Duration::from_hours(1);
/// The API server is not asked more often.
const SHORTEST: Duration = Duration::from_millis(100);

/// `None` where it is switched off; its other keys are checked all the same.
pub(super) fn leader_election(read: &mut Reader) -> Option<LeaderElection> {
    let enabled = read.flag("leaderElection.enabled").unwrap_or_default();
    let whole = |duration: &Duration| duration.subsec_nanos() == 0 && *duration >= MARGIN;
    let lease = read.text(LEASE, |text| values::duration(text).filter(whole).filter(|it| *it <= LONGEST));
    let renew = read.text(RENEW, values::duration);
    let retry = read.text(RETRY, |text| values::duration(text).filter(|period| *period >= SHORTEST));
    // What could not be read has been told.
    if let (Some(lease), Some(renew)) = (lease, renew)
        && renew.checked_add(MARGIN).is_none_or(|least| least > lease)
    {
        read.problem(
            RENEW,
            format!("{RENEW} is {renew:?}, expected at least {MARGIN:?} less than {LEASE} ({lease:?})"),
        );
    }
    if let (Some(renew), Some(retry)) = (renew, retry)
        && retry > renew / 2
    {
        read.problem(RETRY, format!("{RETRY} is {retry:?}, expected at most half of {RENEW} ({renew:?})"));
    }
    let election = LeaderElection {
        lease_duration: lease.unwrap_or_default(),
        renew_deadline: renew.unwrap_or_default(),
        retry_period: retry.unwrap_or_default(),
    };
    enabled.then_some(election)
}

pub(super) fn shutdown(read: &mut Reader) -> Shutdown {
    let some = |text: &str| values::duration(text).filter(|deadline| *deadline >= Duration::from_secs(1));
    Shutdown { deadline: read.text("shutdown.deadline", some).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve::tests::MINIMAL;
    use crate::config::{Config, Facts};

    fn resolve(more: &str) -> Result<Config, Vec<String>> {
        let facts = Facts { pod_ip: Some([10, 0, 0, 7].into()), outward_ip: None };
        Config::resolve(&format!("{MINIMAL}{more}"), &facts)
            .map(|(config, _)| config)
            .map_err(|problems| problems.0.into_iter().map(|problem| problem.text).collect())
    }

    #[test]
    fn takeover_after_a_crash_is_within_fifteen_seconds_by_default() {
        let config = resolve("").unwrap();
        let election = config.leader_election.unwrap();
        assert!(election.lease_duration + election.retry_period < Duration::from_secs(15), "{election:?}");
        assert!(election.renew_deadline < election.lease_duration);
        assert_eq!(config.shutdown.deadline, Duration::from_secs(20));
        assert_eq!(resolve("leaderElection: { enabled: false }").unwrap().leader_election, None);
    }

    #[test]
    fn times_that_would_let_two_act_are_told_together_with_their_paths() {
        let told = resolve("leaderElection: { leaseDuration: 10s, renewDeadline: 10s, retryPeriod: 6s }");
        assert_eq!(
            told.unwrap_err(),
            [
                "leaderElection.renewDeadline is 10s, expected at least 1s less than leaderElection.leaseDuration (10s)",
                "leaderElection.retryPeriod is 6s, expected at most half of leaderElection.renewDeadline (10s)",
            ]
        );
        for wrong in ["leaseDuration: 1500ms", "leaseDuration: 2h", "retryPeriod: 0s", "renewDeadline: soon"]
        {
            assert!(resolve(&format!("leaderElection: {{ {wrong} }}")).is_err(), "{wrong}");
        }
        assert!(resolve("shutdown: { deadline: 0s }").is_err());
    }
}
