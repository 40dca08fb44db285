//! Whether the cloud can be worked with, for the Node's `CloudReachable` condition.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::cloud::CloudError;

/// A refused launch is believed for so long after the last one, unless a launch works before.
const REFUSAL: Duration = Duration::from_secs(600);

/// How the cloud answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CloudHealth {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// It answers.
    Reachable,
    /// It answers that we may not: a person must act.
    Denied(String),
    /// It does not answer, or with errors of its own.
    Unreachable(String),
}

/// Collects what calls answered.
#[derive(Debug)]
pub(super) struct Health {
    state: watch::Sender<CloudHealth>,
    refused: std::sync::Mutex<Option<Instant>>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { state: watch::Sender::default(), refused: std::sync::Mutex::default() }
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
            Err(CloudError::Denied { .. }) => self.set(CloudHealth::Denied(text(answer))),
            Err(
                CloudError::NoCapacity { .. }
                | CloudError::Quota { .. }
                | CloudError::Throttled { .. }
                | CloudError::NotFound { .. }
                | CloudError::Invalid { .. }
                | CloudError::TokenMismatch { .. }
                | CloudError::TokenSpent { .. }
                | CloudError::Transient { .. },
            ) => self.set(CloudHealth::Unreachable(text(answer))),
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
        self.set(CloudHealth::Denied(error.to_string()));
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set(&self, health: CloudHealth) {
        self.state.send_if_modified(|state| {
            let changed = *state != health;
            *state = health;
            changed
        });
    }
}

fn text(answer: Result<(), &CloudError>) -> String {
    answer.err().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_launch_outlasts_lists_that_work_but_not_for_ever() {
        let health = Health::new();
        let seen = health.subscribe();
        assert_eq!(*seen.borrow(), CloudHealth::Unknown);
        health.listed(Ok(()));
        assert_eq!(*seen.borrow(), CloudHealth::Reachable);
        let denied = CloudError::Denied { code: "c".to_owned(), message: "m".to_owned() };
        health.denied(&denied);
        health.listed(Ok(()));
        assert_eq!(*seen.borrow(), CloudHealth::Denied("access denied (c): m".to_owned()));
        tokio::time::sleep(REFUSAL).await;
        health.listed(Ok(()));
        assert_eq!(*seen.borrow(), CloudHealth::Reachable);
        health.listed(Err(&CloudError::Throttled { code: "slow".to_owned() }));
        assert_eq!(*seen.borrow(), CloudHealth::Unreachable("throttled (slow)".to_owned()));
        health.denied(&denied);
        health.launched();
        assert_eq!(*seen.borrow(), CloudHealth::Reachable);
    }
}
