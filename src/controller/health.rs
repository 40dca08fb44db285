//! Whether the cloud can be worked with, for the Node's `CloudReachable` condition.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::{Breaker, Open, RULES, sign};
use crate::cloud::{CloudError, CloudHealth};
use crate::pod::reasons;

/// Collects what calls answered.
#[derive(Debug)]
pub(super) struct Health {
    state: watch::Sender<CloudHealth>,
    launches: Mutex<Breaker>,
    /// 1 while it can.
    gauge: Gauge,
    /// 1 while launches wait for all pods.
    open: Gauge,
}

/// Why no pod's launch is tried now.
#[derive(Debug)]
pub(super) struct Wait {
    /// One of [`reasons`].
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) delay: Duration,
}

impl Health {
    pub(super) fn new(gauge: Gauge, open: Gauge) -> Self {
        Self { state: watch::Sender::default(), launches: Mutex::new(Breaker::new(RULES)), gauge, open }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<CloudHealth> {
        self.state.subscribe()
    }

    /// A list of instances was answered. What is wrong with launches outlasts a list that works.
    pub(super) fn listed(&self, answer: Result<(), &CloudError>) {
        let launches = self.launches().trouble().map(unreachable);
        self.set(match answer {
            Ok(()) => launches.unwrap_or(CloudHealth::Reachable),
            Err(error) => unreachable(error),
        });
    }

    /// Why a launch would not be let through now.
    pub(super) fn waits(&self) -> Option<Wait> {
        self.launches().waits(Instant::now()).map(wait)
    }

    /// Lets a pod's launch through, or says why not.
    pub(super) fn admit(&self, pod_uid: &str) -> Result<(), Wait> {
        self.launches().admit(pod_uid, Instant::now()).map_err(|open| wait(&open))
    }

    /// The cloud's answer to a launch. Whether others need not wait for it any more.
    pub(super) fn launched(&self, pod_uid: &str, error: Option<&CloudError>) -> bool {
        let mut launches = self.launches();
        let has_closed = launches.note(pod_uid, sign(error), Instant::now());
        let trouble = launches.trouble().map(unreachable);
        drop(launches);
        self.open.set(i64::from(trouble.is_some()));
        match trouble {
            Some(trouble) => self.set(trouble),
            None if has_closed || error.is_none() => self.set(CloudHealth::Reachable),
            None => {}
        }
        has_closed
    }

    fn launches(&self) -> MutexGuard<'_, Breaker> {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, health: CloudHealth) {
        self.gauge.set(i64::from(health == CloudHealth::Reachable));
        self.state.send_if_modified(|state| {
            let changed = *state != health;
            *state = health;
            changed
        });
    }
}

fn wait(open: &Open) -> Wait {
    let reason = if matches!(open.error, CloudError::Denied { .. }) {
        reasons::CLOUD_DENIED
    } else {
        reasons::CLOUD_UNAVAILABLE
    };
    Wait {
        reason,
        message: format!("launches of all pods wait, {}", open.error),
        delay: open.next_probe.saturating_duration_since(Instant::now()),
    }
}

fn unreachable(error: &CloudError) -> CloudHealth {
    let reason = match error {
        CloudError::Denied { .. } => "AccessDenied",
        CloudError::Throttled { .. } => "Throttled",
        CloudError::NoCapacity { .. }
        | CloudError::Quota { .. }
        | CloudError::NotFound { .. }
        | CloudError::Invalid { .. }
        | CloudError::TokenMismatch { .. }
        | CloudError::TokenSpent { .. }
        | CloudError::Transient { .. } => "CallsFail",
    };
    CloudHealth::Unreachable { reason, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refused_launches_outlast_lists_that_work_until_a_launch_is_answered() {
        let health = Health::new(Gauge::default(), Gauge::default());
        let seen = health.subscribe();
        assert_eq!(*seen.borrow(), CloudHealth::Unknown);
        health.listed(Ok(()));
        assert_eq!(*seen.borrow(), CloudHealth::Reachable);
        let denied = CloudError::Denied { code: "AuthFailure".to_owned(), message: "m".to_owned() };
        assert!(!health.launched("one", Some(&denied)));
        health.listed(Ok(()));
        assert_eq!(*seen.borrow(), unreachable(&denied));
        let wait = health.admit("two").unwrap_err();
        assert_eq!((wait.reason, wait.delay), (reasons::CLOUD_DENIED, Duration::from_secs(30)));
        tokio::time::sleep(wait.delay).await;
        assert!(health.waits().is_none() && health.admit("two").is_ok() && health.admit("one").is_err());
        let full = CloudError::NoCapacity { code: "c".to_owned(), message: "m".to_owned() };
        assert!(health.launched("two", Some(&full)), "the cloud answers again");
        assert_eq!(*seen.borrow(), CloudHealth::Reachable);
        health.listed(Err(&CloudError::Throttled { code: "slow".to_owned(), message: "down".to_owned() }));
        let throttled =
            CloudHealth::Unreachable { reason: "Throttled", message: "throttled (slow): down".to_owned() };
        assert_eq!(*seen.borrow(), throttled);
        health.launched("one", None);
        assert_eq!(*seen.borrow(), CloudHealth::Reachable);
    }
}
