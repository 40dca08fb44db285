//! Launches that wait for all pods at once, because RunInstances fails for everybody: a circuit breaker.
//!
//! Pure, time is an argument. It opens at once where AWS does not know or does not admit the caller, and otherwise when
//! several pods in a row get no answer, are throttled or denied: one pod's annotations must not stop the others. While
//! it is open one launch at a time is let through, now and then: the probe. Any answer to the request itself closes it,
//! a want of capacity included.
//! Account limits are not its business: quotas are of a family and a market, and [`crate::capacity::blocked`] knows them.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::cloud::CloudError;

/// So many pods in a row.
const PODS: usize = 3;
/// From one probe to the next: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// The same, where somebody has to grant something.
const DENIED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));
/// A probe that has not answered for so long is no obstacle to the next.
const PROBE: Duration = Duration::from_secs(120);
/// Codes that are about the caller and not about what is asked for (EC2 API reference, common errors).
const OF_THE_CALLER: [&str; 13] = [
    "AuthFailure",
    "Blocked",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "NoCredentials",
    "OptInRequired",
    "PendingVerification",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// Closed at first.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Whose launches failed in a row, while it is closed.
    failed: BTreeSet<String>,
    open: Option<Open>,
}

/// Why nobody launches.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) error: CloudError,
    pub(super) next_probe: Instant,
    /// Probes that failed.
    probes: u32,
}

impl Breaker {
    /// Why a launch would not be let through now.
    pub(super) fn waits(&self, now: Instant) -> Option<&Open> {
        self.open.as_ref().filter(|open| now < open.next_probe)
    }

    /// Lets a launch through, as the probe if it is open.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Open> {
        match &mut self.open {
            Some(open) if now < open.next_probe => Err(open.clone()),
            Some(open) => {
                open.next_probe = now + PROBE;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes the answer to a launch that was let through. Whether it has closed with that.
    pub(super) fn note(&mut self, pod_uid: &str, error: Option<&CloudError>, now: Instant) -> bool {
        let Some(error) = error.filter(|error| is_everybodys(error)) else {
            self.failed.clear();
            return self.open.take().is_some();
        };
        if let Some(open) = &mut self.open {
            open.probes = open.probes.saturating_add(1);
            open.error = error.clone();
            open.next_probe = now + pause(error, open.probes);
        } else {
            self.failed.insert(pod_uid.to_owned());
            if self.failed.len() >= PODS || OF_THE_CALLER.contains(&error.code()) {
                self.failed.clear();
                self.open = Some(Open { error: error.clone(), next_probe: now + pause(error, 0), probes: 0 });
            }
        }
        false
    }

    /// Why it is open, if it is.
    pub(super) fn trouble(&self) -> Option<&CloudError> {
        self.open.as_ref().map(|open| &open.error)
    }
}

/// Whether another pod's launch would probably fail likewise.
fn is_everybodys(error: &CloudError) -> bool {
    match error {
        // `AuthFailure.ServiceLinkedRoleCreationNotPermitted` is about spot alone.
        CloudError::Denied { code, .. } => !code.starts_with("AuthFailure."),
        CloudError::Throttled { .. } | CloudError::Transient { .. } => true,
        CloudError::NoCapacity { .. }
        | CloudError::Quota { .. }
        | CloudError::NotFound { .. }
        | CloudError::Invalid { .. }
        | CloudError::TokenMismatch { .. }
        | CloudError::TokenSpent { .. } => false,
    }
}

fn pause(error: &CloudError, probes: u32) -> Duration {
    let (first, longest) = if matches!(error, CloudError::Denied { .. }) { DENIED } else { PAUSES };
    first.saturating_mul(1 << probes.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(code: &str) -> CloudError {
        CloudError::Denied { code: code.to_owned(), message: String::new() }
    }

    fn outage() -> CloudError {
        CloudError::Transient { code: "InternalError".to_owned(), message: String::new() }
    }

    #[test]
    fn credentials_that_are_not_taken_open_it_at_once_and_one_pods_own_denial_does_not() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            breaker.note("one", Some(&denied("UnauthorizedOperation")), now);
        }
        assert!(breaker.waits(now).is_none());
        breaker.note("two", Some(&denied("UnauthorizedOperation")), now);
        breaker.note("three", Some(&denied("UnauthorizedOperation")), now);
        assert!(breaker.waits(now).is_some());

        let mut breaker = Breaker::default();
        breaker.note("one", Some(&denied("AuthFailure")), now);
        assert_eq!(breaker.trouble(), Some(&denied("AuthFailure")));
        assert_eq!(breaker.admit(now).unwrap_err().next_probe, now + DENIED.0);
    }

    #[test]
    fn what_works_in_between_keeps_it_closed() {
        let now = Instant::now();
        let full = CloudError::NoCapacity { code: "c".to_owned(), message: String::new() };
        let mut breaker = Breaker::default();
        for between in [None, Some(&full)] {
            for uid in ["one", "two"] {
                assert!(!breaker.note(uid, Some(&outage()), now));
            }
            assert!(!breaker.note("three", between, now));
            assert!(breaker.trouble().is_none());
        }
    }

    #[test]
    fn one_launch_at_a_time_probes_and_ever_more_seldom_until_one_is_answered() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        for uid in ["one", "two", "three"] {
            breaker.note(uid, Some(&outage()), now);
        }
        for seconds in [10, 20, 40, 60, 60] {
            let open = breaker.admit(now).unwrap_err();
            assert_eq!(open.next_probe, now + Duration::from_secs(seconds));
            now = open.next_probe;
            assert!(breaker.waits(now).is_none());
            assert!(breaker.admit(now).is_ok());
            assert!(breaker.admit(now).is_err(), "a second one beside the probe");
            assert!(!breaker.note("four", Some(&outage()), now));
        }
        now += Duration::from_secs(60);
        assert!(breaker.admit(now).is_ok());
        // A probe that never answers, its pod being deleted, holds nobody up.
        now += PROBE;
        assert!(breaker.admit(now).is_ok());
        assert!(breaker.note("five", None, now));
        assert!(breaker.admit(now).is_ok() && breaker.trouble().is_none());
    }
}
