//! What the archive has of a log already: where reading goes on.

use crate::logs::record::Record;
use crate::logs::recover::{Recovered, Resume, recover};
use crate::logs::store::{From, Store, StoreError};

/// Pages looked at, at most. Every batch begins with a checkpoint, and a page holds what a call carries.
const MAX_PAGES: usize = 50;

/// Where a log is gone on with.
#[derive(Debug)]
pub(super) enum Opened {
    /// Its end is there.
    Ended,
    Begins {
        /// `None`: at its beginning.
        resume: Option<Resume>,
        /// The number of the next record, should nothing be resumed.
        next: u64,
        /// Under which the last event is filed, in milliseconds since 1970.
        millisecond: i64,
    },
}

/// Reads the stream from its end, as far back as is needed.
///
/// # Errors
/// [`StoreError`] other than [`StoreError::NotFound`], which is an empty stream.
pub(super) async fn open(store: &dyn Store, stream: &str) -> Result<Opened, StoreError> {
    let mut records: Vec<Record> = Vec::new();
    let mut millisecond = 0;
    let mut from = From::Tail;
    for _ in 0..MAX_PAGES {
        let page = match store.page(stream, &from).await {
            Err(StoreError::NotFound) => break,
            page => page?,
        };
        records.extend(page.records().into_iter().map(|(record, _)| record));
        millisecond = page.events.iter().map(|event| event.timestamp_ms).max().unwrap_or(0).max(millisecond);
        let is_beginning = from == From::Token(page.backward.clone());
        match recover(&records) {
            Recovered::Ended => return Ok(Opened::Ended),
            Recovered::Resume(resume) => {
                let next = resume.next();
                return Ok(Opened::Begins { resume: Some(resume), next, millisecond });
            }
            Recovered::Empty | Recovered::NeedEarlier if is_beginning => break,
            Recovered::Empty | Recovered::NeedEarlier => from = From::Token(page.backward),
        }
    }
    let next = records.iter().map(|record| record.seq + 1).max().unwrap_or(0);
    Ok(Opened::Begins { resume: None, next, millisecond })
}
