//! Answers out of the archive: which runs it has, and their records in order, page by page.
//!
//! All answers share one `Gate`, since CloudWatch Logs counts reads per account and region.
//! One page is read ahead of whoever is answered: a slow client costs two, whatever the size of the log.

mod gate;
mod reading;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::names::StreamName;
use super::query::Options;
use super::store::{From, Page, Store, StoreError};
use gate::Gate;
pub use reading::{Next, Reading};
pub use whole::{CHUNK, Whole, Written};

/// How long a call is tried again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before it is tried again: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// The archive as its readers see it.
#[derive(Debug)]
pub struct Archive {
    store: Arc<dyn Store>,
    gate: Gate,
}

/// Where in a stream an answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With its first event.
    Head,
    /// With what is filed from this time on, and some of what is before: what a line begins with may be in it.
    Since(Timestamp),
    /// With this number, filed at this time or later.
    At { seq: u64, filed: Timestamp },
}

impl Archive {
    /// Answers from this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, gate: Gate::default() })
    }

    /// The runs of a stream's container that are archived, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] that lasts.
    pub async fn restarts(&self, any: &StreamName) -> Result<Vec<u32>, StoreError> {
        let prefix = any.prefix_of_container();
        let names = self.call(|| self.store.streams(&prefix)).await?;
        let mut restarts: Vec<u32> = names
            .iter()
            .filter_map(|name| name.parse::<StreamName>().ok())
            .map(|name| name.restart)
            .collect();
        restarts.sort_unstable();
        Ok(restarts)
    }

    /// Where the answer to a request that came at `now` begins.
    ///
    /// # Errors
    /// [`StoreError`] that lasts, or [`StoreError::NotFound`].
    pub async fn start(
        &self,
        stream: &StreamName,
        options: &Options,
        now: Timestamp,
    ) -> Result<Start, StoreError> {
        match (options.tail_lines, options.since(now)) {
            (Some(lines), _) => self.tail(&stream.to_string(), lines).await,
            (None, Some(since)) => Ok(Start::Since(since)),
            (None, None) => Ok(Start::Head),
        }
    }

    /// Reads a stream. Its first page is read here.
    ///
    /// # Errors
    /// [`StoreError`] that lasts, or [`StoreError::NotFound`].
    pub async fn read(self: &Arc<Self>, stream: &StreamName, start: Start) -> Result<Reading, StoreError> {
        Reading::open(Arc::clone(self), stream.to_string(), start).await
    }

    /// Where the last lines begin. Counted from the end backwards, and not kept: they may be many.
    async fn tail(&self, stream: &str, lines: u64) -> Result<Start, StoreError> {
        let (mut from, mut before, mut left) = (From::Tail, u64::MAX, lines);
        loop {
            let page = self.page(stream, &from).await?;
            for (record, filed) in page.records().into_iter().rev() {
                if record.seq >= before {
                    continue;
                }
                before = record.seq;
                if record.ends_line() {
                    if left == 0 {
                        return Ok(Start::At { seq: record.seq + 1, filed });
                    }
                    left -= 1;
                }
            }
            let next = From::Token(page.backward);
            if next == from {
                return Ok(Start::Head);
            }
            from = next;
        }
    }

    async fn page(&self, stream: &str, from: &From) -> Result<Page, StoreError> {
        self.call(|| self.store.page(stream, from)).await
    }

    async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let until = tokio::time::Instant::now() + PATIENCE;
        let (mut pause, longest) = PAUSES;
        loop {
            self.gate.pass().await;
            match call().await {
                Err(error) if error.passes() && tokio::time::Instant::now() < until => {
                    tracing::debug!(error = %error, "reading the log archive waits");
                    // The limit is everybody's.
                    if matches!(error, StoreError::Throttled(_)) {
                        self.gate.close(pause);
                    } else {
                        tokio::time::sleep(pause).await;
                    }
                    pause = longest.min(pause * 2);
                }
                answered => return answered,
            }
        }
    }
}

#[cfg(test)]
mod tests;
