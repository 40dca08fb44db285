//! Work that fails again and again: remembered, told once, shown at `/stuck`, and tried at once when a person says so.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::table::Tracked;
use super::{Controller, Core};
use crate::clock;
use crate::pod::decide::{Note, NoteKind};
use crate::pod::reasons;
use crate::pod::stuck::{self, Entry, MOST, Page, STUCK_AFTER};

/// What failed last for a pod.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// Bounded: one of [`reasons`], or the kind of an error.
    reason: &'static str,
    message: String,
    since: Timestamp,
    attempts: u32,
    next: Timestamp,
}

impl Tracked {
    /// Something failed and is tried again after `delay`; answers how often it has, once that is often.
    pub(super) fn failed(&mut self, reason: &'static str, message: String, delay: Duration) -> Option<u32> {
        let now = clock::now();
        let (since, attempts) = self.trouble.as_ref().map_or((now, 0), |old| (old.since, old.attempts));
        let attempts = attempts.saturating_add(1);
        self.trouble = Some(Trouble { reason, message, since, attempts, next: clock::after(now, delay) });
        (attempts == STUCK_AFTER).then_some(attempts)
    }

    /// Why it is stuck, if it is.
    pub(super) fn stuck(&self) -> Option<&'static str> {
        self.trouble.as_ref().filter(|trouble| trouble.attempts >= STUCK_AFTER).map(|trouble| trouble.reason)
    }

    /// Forgets what keeps the pod from being tried again, if somebody asks for that and did not before this process
    /// first saw it. Whether they did.
    pub(super) fn asked_again(&mut self, pod: &Pod) -> bool {
        let asked = stuck::asked_again(pod).map(str::to_owned);
        let is_news = self.asked.as_ref().is_some_and(|before| *before != asked) && asked.is_some();
        self.asked = Some(asked);
        if is_news {
            self.memory.hold = None;
            self.holds = 0;
            self.failures = 0;
        }
        is_news
    }

    fn entry(&self, uid: &str) -> Option<Entry> {
        let (trouble, pod) = (self.trouble.as_ref()?, self.latest.as_ref()?);
        Some(Entry {
            namespace: pod.metadata.namespace.clone()?,
            name: pod.metadata.name.clone()?,
            uid: uid.to_owned(),
            state: self.memory.previous.map_or("unread", |state| state.name()).to_owned(),
            reason: trouble.reason.to_owned(),
            message: trouble.message.clone(),
            since: trouble.since,
            attempts: trouble.attempts,
            next_try: trouble.next,
            is_stuck: self.stuck().is_some(),
        })
    }
}

impl Controller {
    /// What fails again and again, at the moment it is called.
    #[must_use]
    pub fn stuck(&self) -> Arc<dyn Fn() -> Page + Send + Sync> {
        let core = self.core.clone();
        Arc::new(move || core.stuck())
    }
}

impl Core {
    fn stuck(&self) -> Page {
        let mut pods = self.table.collect(|uid, row| row.entry(uid));
        pods.sort_by(|a, b| (a.since, &a.uid).cmp(&(b.since, &b.uid)));
        let more = pods.len().saturating_sub(MOST);
        pods.truncate(MOST);
        Page {
            node: self.config.node.name.clone(),
            as_of: clock::now(),
            launches: self.health.waits().map(|wait| wait.message).or_else(|| self.sight.waits()),
            pods,
            more,
        }
    }

    /// Something failed for a pod; it is told once that it is stuck.
    pub(super) fn struggles(&self, uid: &str, reason: &'static str, message: &str, delay: Duration) {
        let often = self.table.update(uid, |row| row.failed(reason, message.to_owned(), delay));
        let Some(attempts) = often else { return };
        let Some(about) = self.observe(uid).reference(uid) else { return };
        let (namespace, name) =
            (about.namespace.as_deref().unwrap_or_default(), about.name.as_deref().unwrap_or_default());
        let text = format!(
            "{attempts} attempts failed, the last one: {message}; it is tried again for as long as the pod is there, \
             and at once after `orca stuck --retry {namespace}/{name}`"
        );
        self.story.tell(about, Note { kind: NoteKind::Warning, reason: reasons::STUCK, text });
    }

    /// Looks whether somebody wants what failed to be tried again now.
    pub(super) fn mind_retry(&self, uid: &str, pod: &Pod) {
        if self.table.update(uid, |row| row.asked_again(pod)) {
            tracing::info!(pod.uid = uid, "somebody asks for another attempt at once");
        }
    }
}
