//! Where the archive is kept: log streams of one group, as CloudWatch Logs has them.

pub mod cloudwatch;
pub mod memory;

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;

use super::batch::{Event, Refused};
use super::record::Record;

/// The streams of one group. Every call has a deadline of its own and is tried once: whoever calls knows what may wait.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Makes the group as the configuration wants it, if it is not so.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Makes a stream. One that is there is as good.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the group.
    async fn create_stream(&self, stream: &str) -> Result<(), StoreError>;

    /// Files the events of one [`super::batch::Batch`]; the answer says which were not taken. A call that failed may
    /// have filed them all the same: they may come twice.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the stream.
    async fn put(&self, stream: &str, events: &[Event]) -> Result<Refused, StoreError>;

    /// A page of a stream, oldest event first. It may be empty though more follows; the end in a direction is
    /// where its token comes back as it was sent.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the stream.
    async fn page(&self, stream: &str, from: &From) -> Result<Page, StoreError>;

    /// Names of all streams that begin with `prefix`, sorted.
    ///
    /// # Errors
    /// [`StoreError`]; none where the group is missing.
    async fn streams(&self, prefix: &str) -> Result<Vec<String>, StoreError>;
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// The first event filed at this millisecond or later.
    Head { since: Option<Timestamp> },
    /// The last events.
    Tail,
    /// Behind or before a page.
    Token(String),
}

/// Events of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub events: Vec<Found>,
    pub forward: String,
    pub backward: String,
}

impl Page {
    /// Its records in the order of their numbers, each with the time under which it is filed. What others wrote there
    /// is passed over.
    #[must_use]
    pub fn records(&self) -> Vec<(Record, Timestamp)> {
        let decode = |event: &Found| {
            let record = Record::decode(&event.message).inspect_err(
                |error| tracing::debug!(error = %error, "an event of the log archive is none of ours"),
            );
            Some((record.ok()?, Timestamp::from_millisecond(event.timestamp_ms).unwrap_or(Timestamp::MIN)))
        };
        let mut records: Vec<_> = self.events.iter().filter_map(decode).collect();
        records.sort_by_key(|(record, _)| record.seq);
        records
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub message: String,
    /// Under which it is filed, since 1970.
    pub timestamp_ms: i64,
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("there is no such log stream")]
    NotFound,
    /// More calls than the account may make.
    #[error("throttled: {0}")]
    Throttled(String),
    /// Somebody has to grant something.
    #[error("denied: {0}")]
    Denied(String),
    /// No answer, or one that says to try again.
    #[error("CloudWatch Logs cannot be reached: {0}")]
    Unreachable(String),
    /// A call that can never succeed.
    #[error("refused: {0}")]
    Invalid(String),
}

impl StoreError {
    /// Whether the same call may succeed a little later, with nobody doing anything.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Throttled(_) | Self::Unreachable(_) => true,
            Self::NotFound | Self::Denied(_) | Self::Invalid(_) => false,
        }
    }
}
