//! Whether the cloud can be worked with, for the Node's `CloudReachable` condition.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cloud::{CloudError, CloudHealth};

/// A refused launch is believed for so long after the last one, unless a launch works before.
const REFUSAL: Duration = Duration::from_secs(600);

/// Collects what calls answered.
#[derive(Debug)]
pub(super) struct Health {
    state: watch::Sender<CloudHealth>,
    refused: std::sync::Mutex<Option<Instant>>,
    /// 1 while it can.
    gauge: Gauge,
}

impl Health {
    pub(super) fn new(gauge: Gauge) -> Self {
        Self { state: watch::Sender::default(), refused: std::sync::Mutex::default(), gauge }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<CloudHealth> {
        self.state.subscribe()
    }

    /// A list of instances was answered.
    pub(super) fn listed(&self, answer: Result<(), &CloudError>) {
        let refused = self.refused().is_some_and(|at| at.elapsed() < REFUSAL);
        match answer {
            Ok(()) if refused => {}
            Ok(()) => self.set(CloudHealth::Reachable),
            Err(error) => self.set(unreachable(error)),
        }
    }

    /// A launch worked.
    pub(super) fn launched(&self) {
        *self.refused() = None;
        self.set(CloudHealth::Reachable);
    }

    /// A launch was refused for want of credentials or permissions.
    pub(super) fn denied(&self, error: &CloudError) {
        *self.refused() = Some(Instant::now());
        self.set(unreachable(error));
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
    async fn a_refused_launch_outlasts_lists_that_work_but_not_for_ever() {
        let health = Health::new(Gauge::default());
        let seen = health.subscribe();
        assert_eq!(*seen.borrow(), CloudHealth::Unknown);
        health.listed(Ok(()));
        assert_eq!(*seen.borrow(), CloudHealth::Reachable);
        let denied = CloudError::Denied { code: "c".to_owned(), message: "m".to_owned() };
        health.denied(&denied);
        health.listed(Ok(()));
        assert_eq!(*seen.borrow(), unreachable(&denied));
        tokio::time::sleep(REFUSAL).await;
        health.listed(Ok(()));
        assert_eq!(*seen.borrow(), CloudHealth::Reachable);
        health.listed(Err(&CloudError::Throttled { code: "slow".to_owned(), message: "down".to_owned() }));
        let throttled =
            CloudHealth::Unreachable { reason: "Throttled", message: "throttled (slow): down".to_owned() };
        assert_eq!(*seen.borrow(), throttled);
        health.denied(&denied);
        health.launched();
        assert_eq!(*seen.borrow(), CloudHealth::Reachable);
    }
}
