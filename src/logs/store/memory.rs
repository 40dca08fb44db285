//! A store in memory, for tests: events become visible after a delay, calls fail when told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Found, From, Page, Store, StoreError};
use crate::logs::batch::{Event, MAX_BYTES, MAX_EVENTS, Refused};

/// A group of streams.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By name. Each event with the time from which on it is seen.
    streams: BTreeMap<String, Vec<(Instant, Event)>>,
    /// Answers of the next calls, instead of doing anything.
    failures: VecDeque<StoreError>,
    /// Of the next puts: filed, though the caller learns of this error.
    ambiguous: VecDeque<StoreError>,
    delay: Duration,
    page: Option<usize>,
    calls: BTreeMap<&'static str, usize>,
}

impl MemoryStore {
    /// An empty group.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long events are not seen once they are filed.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Events of a page, at most.
    pub fn set_page(&self, events: usize) {
        self.lock().page = Some(events);
    }

    /// The next calls fail like this, whichever they are.
    pub fn fail(&self, errors: impl IntoIterator<Item = StoreError>) {
        self.lock().failures.extend(errors);
    }

    /// The next puts are done, but answered like this.
    pub fn lose_answers(&self, errors: impl IntoIterator<Item = StoreError>) {
        self.lock().ambiguous.extend(errors);
    }

    /// Calls so far: `prepare`, `create`, `put`, `page`, `streams`.
    #[must_use]
    pub fn calls(&self, name: &str) -> usize {
        self.lock().calls.get(name).copied().unwrap_or(0)
    }

    /// Every message of a stream, also those that are not seen yet.
    #[must_use]
    pub fn messages(&self, stream: &str) -> Vec<String> {
        let state = self.lock();
        let events = state.streams.get(stream).into_iter().flatten();
        events.map(|(_, event)| event.message.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn call(&mut self, name: &'static str) -> Result<(), StoreError> {
        *self.calls.entry(name).or_default() += 1;
        self.failures.pop_front().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.lock().call("prepare")
    }

    async fn create_stream(&self, stream: &str) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.call("create")?;
        state.streams.entry(stream.to_owned()).or_default();
        Ok(())
    }

    async fn put(&self, stream: &str, events: &[Event]) -> Result<Refused, StoreError> {
        let mut state = self.lock();
        state.call("put")?;
        let bytes: usize = events.iter().map(|event| event.message.len() + 26).sum();
        let rises = events.is_sorted_by_key(|event| event.millisecond);
        if events.is_empty() || events.len() > MAX_EVENTS || bytes > MAX_BYTES || !rises {
            return Err(StoreError::Invalid("not a batch".to_owned()));
        }
        let seen = Instant::now() + state.delay;
        let Some(filed) = state.streams.get_mut(stream) else { return Err(StoreError::NotFound) };
        filed.extend(events.iter().map(|event| (seen, event.clone())));
        // As CloudWatch sorts them: by time, and what came first before what came later.
        filed.sort_by_key(|(_, event)| event.millisecond);
        state.ambiguous.pop_front().map_or_else(|| Ok(Refused::default()), Err)
    }

    async fn page(&self, stream: &str, from: &From) -> Result<Page, StoreError> {
        let mut state = self.lock();
        state.call("page")?;
        let Some(filed) = state.streams.get(stream) else { return Err(StoreError::NotFound) };
        let now = Instant::now();
        let seen: Vec<_> = filed.iter().filter(|(from, _)| *from <= now).map(|(_, event)| event).collect();
        let size = state.page.unwrap_or(MAX_EVENTS);
        let (begin, end) = match from {
            From::Head { since } => {
                let since = since.map_or(i64::MIN, jiff::Timestamp::as_millisecond);
                let begin = seen.partition_point(|event| event.millisecond < since);
                (begin, seen.len().min(begin + size))
            }
            From::Tail => (seen.len().saturating_sub(size), seen.len()),
            From::Token(token) => {
                let bad = || StoreError::Invalid(format!("token `{token}`"));
                let (direction, at) = token.split_at_checked(1).ok_or_else(bad)?;
                let at: usize = at.parse().map_err(|_| bad())?;
                if direction == "f" { (at, seen.len().min(at + size)) } else { (at.saturating_sub(size), at) }
            }
        };
        let found =
            |event: &&Event| Found { message: event.message.clone(), timestamp_ms: event.millisecond };
        Ok(Page {
            events: seen[begin..end].iter().map(found).collect(),
            forward: format!("f{end}"),
            backward: format!("b{begin}"),
        })
    }

    async fn streams(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut state = self.lock();
        state.call("streams")?;
        Ok(state.streams.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }
}
