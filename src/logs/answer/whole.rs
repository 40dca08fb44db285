//! The answer to a request that does not follow, out of the archive alone.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{Archive, Next, Reading};
use crate::logs::names::StreamName;
use crate::logs::query::Options;
use crate::logs::render::{Flow, Render};
use crate::logs::store::StoreError;
use std::sync::Arc;

/// Bytes that are sent at once.
pub const CHUNK: usize = 64 * 1024;
/// How long the end of a container that has ended is waited for: CloudWatch shows events late.
const SETTLE: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether more may be written to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The container has ended: its end is in the archive, or will soon be.
    Whole,
    /// It may run.
    SoFar,
}

/// One answer.
#[derive(Debug)]
pub struct Whole {
    reading: Reading,
    render: Render,
    written: Written,
    /// Since when nothing came.
    idle: Option<Instant>,
}

impl Whole {
    /// The answer to a request that came at `now`. Its first page is read here.
    ///
    /// # Errors
    /// [`StoreError`] that lasts, or [`StoreError::NotFound`].
    pub async fn open(
        archive: &Arc<Archive>,
        stream: &StreamName,
        options: &Options,
        written: Written,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let start = archive.start(stream, options, now).await?;
        let reading = archive.read(stream, start).await?;
        Ok(Self { reading, render: Render::new(options, now), written, idle: None })
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// [`StoreError`] that lasts.
    pub async fn next(&mut self) -> Result<Vec<u8>, StoreError> {
        let mut out = Vec::new();
        while self.render.flow() == Flow::More && out.len() < CHUNK {
            match self.reading.next().await? {
                Next::Record(record) => {
                    self.render.write(&record, &mut out);
                    self.idle = None;
                }
                Next::End => break,
                Next::Missing | Next::Idle if !out.is_empty() => break,
                Next::Missing => sleep(PAUSE).await,
                Next::Idle if self.is_late() => sleep(PAUSE).await,
                Next::Idle => break,
            }
        }
        Ok(out)
    }

    fn is_late(&mut self) -> bool {
        let since = *self.idle.get_or_insert_with(Instant::now);
        self.written == Written::Whole && since.elapsed() < SETTLE
    }
}
