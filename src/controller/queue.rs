//! What to look at next: a level-triggered work queue, keyed by pod UID.
//!
//! A key is queued at most once and worked on by one pass at a time; what happens meanwhile makes it due again.
//! Deletions go first; among equals, namespaces take turns. Its size is bounded by the number of pods and machines.
//! Nothing here knows what a pass does.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::lanes::Lanes;

/// What goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    Normal,
    /// Deletions go before launches: they free what launches need.
    Urgent,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    urgent: Lanes<String>,
    /// With keys that have become urgent since, or were taken up: `queued` has the last word.
    normal: Lanes<String>,
    /// The namespace of every key that is queued, running or timed.
    groups: HashMap<String, Arc<str>>,
    queued: HashMap<String, Urgency>,
    running: HashSet<String>,
    /// Asked for while running.
    dirty: HashMap<String, Urgency>,
    timers: BTreeSet<(Instant, String)>,
    due: HashMap<String, Instant>,
}

/// A key that is being worked on; when it is dropped, in whatever way, the key is free again.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    queue: &'a Queue,
    key: String,
    again: Option<Duration>,
}

impl Queue {
    /// Makes a key due now. `group` is its namespace, as far as that is known; what was known before stays.
    pub(super) fn add(&self, key: &str, group: Option<&str>, urgency: Urgency) {
        let mut inner = self.lock();
        match group {
            Some(group) if inner.groups.get(key).is_none_or(|known| **known != *group) => {
                inner.groups.insert(key.to_owned(), group.into());
            }
            Some(_) | None => {}
        }
        inner.add(key, urgency);
        drop(inner);
        self.changed.notify_one();
    }

    /// The next key that is due and not being worked on; it must be taken up with [`Queue::turn`].
    pub(super) async fn next(&self) -> String {
        loop {
            let timer = {
                let mut inner = self.lock();
                inner.expire(Instant::now());
                if let Some(key) = inner.pop() {
                    return key;
                }
                inner.timers.first().map(|(at, _)| *at)
            };
            match timer {
                Some(at) => {
                    // Whichever comes first: both only mean "look again".
                    drop(tokio::time::timeout_at(at, self.changed.notified()).await);
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Takes up a key. It is looked at again after `otherwise`, unless the turn says something else.
    pub(super) fn turn(&self, key: String, otherwise: Duration) -> Turn<'_> {
        Turn { queue: self, key, again: Some(otherwise) }
    }

    /// Keys that are due now and wait.
    pub(super) fn depth(&self) -> usize {
        self.lock().queued.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// When to look again; `None` forgets the key until somebody adds it.
    pub(super) fn again(&mut self, again: Option<Duration>) {
        self.again = again;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.queue.lock().done(&self.key, self.again);
        self.queue.changed.notify_one();
    }
}

impl Inner {
    fn add(&mut self, key: &str, urgency: Urgency) {
        if self.running.contains(key) {
            let dirty = self.dirty.entry(key.to_owned()).or_insert(urgency);
            *dirty = (*dirty).max(urgency);
            return;
        }
        if let Some(at) = self.due.remove(key) {
            self.timers.remove(&(at, key.to_owned()));
        }
        match (self.queued.get(key), urgency) {
            (Some(Urgency::Urgent), _) | (Some(Urgency::Normal), Urgency::Normal) => return,
            (Some(Urgency::Normal), Urgency::Urgent) | (None, _) => {}
        }
        self.queued.insert(key.to_owned(), urgency);
        let group = self.groups.entry(key.to_owned()).or_insert_with(|| "".into());
        match urgency {
            Urgency::Urgent => self.urgent.push(group, key.to_owned()),
            Urgency::Normal => self.normal.push(group, key.to_owned()),
        }
    }

    fn expire(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.timers.pop_first() {
                self.due.remove(&key);
                self.add(&key, Urgency::Normal);
            }
        }
    }

    fn pop(&mut self) -> Option<String> {
        let key = self.urgent.pop().or_else(|| {
            let queued = &self.queued;
            std::iter::from_fn(|| self.normal.pop()).find(|key| queued.contains_key(key))
        })?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    fn done(&mut self, key: &str, again: Option<Duration>) {
        self.running.remove(key);
        if let Some(urgency) = self.dirty.remove(key) {
            self.add(key, urgency);
        } else if let Some(again) = again {
            let at = Instant::now() + again;
            self.due.insert(key.to_owned(), at);
            self.timers.insert((at, key.to_owned()));
        } else {
            self.groups.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_are_queued_once_and_urgent_ones_go_first() {
        let queue = Queue::default();
        for key in ["a", "b", "a", "c"] {
            queue.add(key, None, Urgency::Normal);
        }
        queue.add("c", None, Urgency::Urgent);
        assert_eq!(queue.depth(), 3);
        assert_eq!([queue.next().await, queue.next().await, queue.next().await], ["c", "a", "b"]);
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_has_one_turn_at_a_time_and_another_if_it_was_added_meanwhile() {
        let queue = Queue::default();
        queue.add("a", None, Urgency::Normal);
        let turn = queue.turn(queue.next().await, Duration::from_secs(9));
        queue.add("a", None, Urgency::Normal);
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
        drop(turn);
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_died_is_repeated() {
        let queue = Queue::default();
        queue.add("a", None, Urgency::Normal);
        let start = Instant::now();
        // As a panic has it: nobody said when to look again.
        drop(queue.turn(queue.next().await, Duration::from_secs(30)));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_comes_back_when_it_said_so_or_earlier_if_added() {
        let queue = Queue::default();
        let round = async |again| {
            let mut turn = queue.turn(queue.next().await, Duration::from_secs(1));
            turn.again(again);
        };
        queue.add("a", None, Urgency::Normal);
        round(Some(Duration::from_secs(30))).await;
        let start = Instant::now();
        round(Some(Duration::from_secs(30))).await;
        assert_eq!(start.elapsed(), Duration::from_secs(30));
        queue.add("a", None, Urgency::Normal);
        round(None).await;
        assert_eq!(start.elapsed(), Duration::from_secs(30));
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err(), "forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_one_namespace_holds_up_neither_another_nor_a_deletion() {
        let queue = Queue::default();
        for i in 0..2000 {
            queue.add(&format!("burst-{i}"), Some("many"), Urgency::Normal);
        }
        queue.add("other", Some("few"), Urgency::Normal);
        queue.add("burst-1999", None, Urgency::Urgent);
        let mut first = Vec::new();
        for _ in 0..3 {
            first.push(queue.next().await);
        }
        assert_eq!(first, ["burst-1999", "burst-0", "other"]);
        let mut left = 0;
        while let Ok(key) = tokio::time::timeout(Duration::from_secs(1), queue.next()).await {
            queue.turn(key, Duration::ZERO).again(None);
            left += 1;
        }
        assert_eq!((left, queue.depth()), (1998, 0), "none is lost, and none comes twice");
        assert_eq!(queue.lock().groups.len(), first.len(), "only of what is worked on anything is kept");
    }
}
