//! Launches that wait for all pods at once, because RunInstances fails for everybody.
//!
//! What that is, of all answers: see [`sign`]. One pod's annotations must not stop the others, so several pods must have
//! failed, but for what is about the caller. Any answer to the request itself is a good one, a want of capacity included.
//! Account limits are not its business: quotas are of a family and a market, and [`crate::capacity::blocked`] knows them.

use std::time::Duration;

use crate::breaker::{self, Bad, Rules, Sign, Weight};
use crate::cloud::CloudError;

/// Of launches, by pod UID.
pub(super) type Breaker = breaker::Breaker<CloudError>;
/// Why nobody launches.
pub(super) type Open = breaker::Open<CloudError>;

/// Three pods in a row. A launch takes a minute at most.
pub(super) const RULES: Rules = Rules { many: 3, few: None, probe: Duration::from_secs(120) };
/// From one probe to the next: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// The same, where somebody has to grant something.
const DENIED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));
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

/// What the answer to a launch says of other pods' launches.
pub(super) fn sign(error: Option<&CloudError>) -> Sign<CloudError> {
    let Some(error) = error.filter(|error| is_everybodys(error)) else { return Sign::Good };
    let is_callers = OF_THE_CALLER.contains(&error.code());
    Sign::Bad(Bad {
        error: error.clone(),
        weight: if is_callers { Weight::Certain } else { Weight::Likely },
        pauses: if matches!(error, CloudError::Denied { .. }) { DENIED } else { PAUSES },
    })
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

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn denied(code: &str) -> CloudError {
        CloudError::Denied { code: code.to_owned(), message: String::new() }
    }

    fn after(answers: &[(&str, Option<&CloudError>)]) -> Breaker {
        let mut breaker = Breaker::new(RULES);
        for (uid, error) in answers {
            breaker.note(uid, sign(*error), Instant::now());
        }
        breaker
    }

    #[test]
    fn credentials_that_are_not_taken_open_it_at_once_and_one_pods_own_denial_does_not() {
        let (own, callers) = (denied("UnauthorizedOperation"), denied("AuthFailure"));
        let own = Some(&own);
        assert_eq!(after(&[("one", own); 10]).trouble(), None);
        assert_eq!(after(&[("one", own), ("two", own), ("three", own)]).trouble(), own);
        let now = Instant::now();
        let mut breaker = after(&[("one", Some(&callers))]);
        assert_eq!(breaker.trouble(), Some(&callers));
        let next = breaker.admit("two", now).unwrap_err().next_probe;
        assert!(next <= Instant::now() + DENIED.0 && next >= now + DENIED.0 - Duration::from_secs(1));
        let of_spot = denied("AuthFailure.ServiceLinkedRoleCreationNotPermitted");
        assert_eq!(sign(Some(&of_spot)), Sign::Good);
    }

    #[test]
    fn an_outage_is_everybodys_and_a_want_of_capacity_ends_it() {
        let full = CloudError::NoCapacity { code: "c".to_owned(), message: String::new() };
        let outage = CloudError::Transient { code: "InternalError".to_owned(), message: String::new() };
        let outage = Some(&outage);
        assert_eq!(after(&[("one", outage), ("two", outage), ("three", outage)]).trouble(), outage);
        for between in [None, Some(&full)] {
            let answers = [("one", outage), ("two", outage), ("three", between), ("four", outage)];
            assert_eq!(after(&answers).trouble(), None);
        }
    }
}
