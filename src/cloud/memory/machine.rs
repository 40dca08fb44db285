//! One machine, and how it changes in time.

use std::time::Duration;

use jiff::Timestamp;

use super::Timing;
use crate::clock;
use crate::cloud::{Instance, InstanceState, StateReason};

/// How long EC2 shows what is terminated.
const SHOWN_AFTER_END: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// As it was launched.
    pub(super) instance: Instance,
    pub(super) launched_at: Timestamp,
    pub(super) ended: Option<(Timestamp, StateReason)>,
}

impl Machine {
    pub(super) fn end(&mut self, code: &str, now: Timestamp) {
        let reason = StateReason { code: code.to_owned(), message: format!("{code}: ended") };
        self.ended.get_or_insert((now, reason));
    }

    /// As it is now.
    pub(super) fn seen(&self, timing: &Timing) -> Instance {
        let mut instance = self.instance.clone();
        let now = clock::now();
        let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        instance.state = match &self.ended {
            Some((at, _)) if since(*at) < timing.shutdown => InstanceState::ShuttingDown,
            Some(_) => InstanceState::Terminated,
            None if since(self.launched_at) < timing.boot => InstanceState::Pending,
            None => InstanceState::Running,
        };
        if let Some((_, reason)) = &self.ended {
            instance.state_reason = Some(reason.clone());
        }
        instance
    }

    /// As a describe call shows it, if it does.
    pub(super) fn shown(&self, timing: &Timing) -> Option<Instance> {
        let now = clock::now();
        let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        let too_new = since(self.launched_at) < timing.describe_lag;
        let too_old = self.ended.as_ref().is_some_and(|(at, _)| since(*at) > SHOWN_AFTER_END);
        (!too_new && !too_old).then(|| self.seen(timing))
    }
}
