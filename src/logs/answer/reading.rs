//! The records of one stream, in order, each once, as the caller asks for them.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use super::{Archive, Start};
use crate::clock;
use crate::logs::cri::Stream;
use crate::logs::merge::{Merge, Pulled};
use crate::logs::record::{Body, Cut, Record};
use crate::logs::stamp::Stamp;
use crate::logs::store::{From, StoreError};

/// A stream that is being read.
#[derive(Debug)]
pub struct Reading {
    archive: Arc<Archive>,
    stream: String,
    /// The next page.
    from: From,
    /// The same, asked for already.
    ahead: Option<Ahead>,
    /// `None` before the first event.
    merge: Option<Merge>,
    /// The number of the first event, where that is known.
    first: Option<u64>,
    /// Numbers that were missing before the first event.
    before: Option<Range<u64>>,
    /// Under which the last event is filed before which nothing is missing.
    filed: Timestamp,
    /// Of the last record.
    stamp: Option<Stamp>,
    state: State,
}

/// A page that is read while the one before it is sent.
type Ahead = AbortOnDropHandle<Result<Turned, StoreError>>;

/// What a page holds, and the tokens of its neighbours.
#[derive(Debug)]
struct Turned {
    records: Vec<(Record, Timestamp)>,
    forward: String,
    backward: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More may be there.
    Open,
    /// All that is there was read.
    AtEnd,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next record. Where numbers are missing for good, one that says so.
    Record(Record),
    /// The present end. Asked again, it is looked for more.
    Idle,
    /// As [`Next::Idle`], and something before what was read already has to come.
    Missing,
    /// The container's end was read.
    End,
}

impl Reading {
    pub(super) async fn open(
        archive: Arc<Archive>,
        stream: String,
        start: Start,
    ) -> Result<Self, StoreError> {
        let (filed, merge, first) = match start {
            Start::Head => (None, None, Some(0)),
            Start::Since(since) => (Some(since), None, None),
            Start::At { seq, filed } => (Some(filed), Some(Merge::from(seq)), None),
        };
        let (from, filed) = (From::Head { since: filed }, filed.unwrap_or(Timestamp::UNIX_EPOCH));
        let (before, stamp, state) = (None, None, State::Open);
        let ahead = None;
        let mut reading = Self { archive, stream, from, ahead, merge, first, before, filed, stamp, state };
        let Turned { mut records, backward, .. } = reading.turn().await?;
        if let Start::Since(_) = start {
            let before = reading.archive.page(&reading.stream, &From::Token(backward)).await?;
            records.extend(before.records());
            records.sort_by_key(|(record, _)| record.seq);
        }
        reading.take(records);
        Ok(reading)
    }

    /// What comes next; of the archive no more is read than that takes.
    ///
    /// # Errors
    /// [`StoreError`] that lasts. It may be asked again.
    pub async fn next(&mut self) -> Result<Next, StoreError> {
        loop {
            if let Some(numbers) = self.before.take() {
                return Ok(Next::Record(self.missing(&numbers)));
            }
            let idle = match self.merge.as_mut().map(|merge| merge.pull(clock::steady())) {
                Some(Pulled::Record(record)) => {
                    self.stamp = Some(record.stamp);
                    return Ok(Next::Record(record));
                }
                Some(Pulled::Gap(numbers)) => return Ok(Next::Record(self.missing(&numbers))),
                Some(Pulled::End) => return Ok(Next::End),
                Some(Pulled::Wait(Some(_))) => Next::Missing,
                Some(Pulled::Wait(None)) | None => Next::Idle,
            };
            if self.state == State::AtEnd {
                self.state = State::Open;
                if idle == Next::Missing {
                    // CloudWatch may show it at a place that was passed already.
                    self.from = From::Head { since: Some(self.filed) };
                }
                return Ok(idle);
            }
            let records = self.turn().await?.records;
            // Whoever wants a second page will want a third.
            if self.state == State::Open {
                self.ahead = Some(self.ask());
            }
            self.take(records);
        }
    }

    /// Reads a page, and turns to the next one.
    async fn turn(&mut self) -> Result<Turned, StoreError> {
        let asked = self.ahead.take().unwrap_or_else(|| self.ask());
        let turned = asked.await.map_err(|died| StoreError::Invalid(died.to_string()))??;
        let next = From::Token(turned.forward.clone());
        if next == self.from {
            self.state = State::AtEnd;
        }
        self.from = next;
        Ok(turned)
    }

    /// Has the next page read, and understood.
    fn ask(&self) -> Ahead {
        let (archive, stream, from) = (Arc::clone(&self.archive), self.stream.clone(), self.from.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            let page = archive.page(&stream, &from).await?;
            Ok(Turned { records: page.records(), forward: page.forward, backward: page.backward })
        }))
    }

    fn take(&mut self, records: impl IntoIterator<Item = (Record, Timestamp)>) {
        let mut records = records.into_iter().peekable();
        let Some((first, _)) = records.peek() else { return };
        let merge = self.merge.get_or_insert_with(|| {
            // Older events may be gone: CloudWatch Logs keeps them for a time.
            let missing = self.first.unwrap_or(first.seq)..first.seq;
            self.before = Some(missing).filter(|numbers| !numbers.is_empty());
            Merge::from(first.seq)
        });
        let mut next = merge.next();
        for (record, filed) in records {
            if record.seq == next {
                next += 1;
                self.filed = self.filed.max(filed);
            }
            merge.push(record);
        }
    }

    /// Stands for events that the archive does not have.
    fn missing(&self, numbers: &Range<u64>) -> Record {
        let message = match numbers.end - numbers.start {
            1 => "CloudWatch Logs does not have 1 event of it".to_owned(),
            count => format!("CloudWatch Logs does not have {count} events of it"),
        };
        let body = Body::Cut(Cut { reason: "NotStored".to_owned(), message, bytes: None });
        let stamp = self.stamp.unwrap_or_else(|| Stamp::utc(self.filed));
        Record { seq: numbers.start, stamp, stream: Stream::Stderr, body, origin: None }
    }
}
