//! Streams: a watch of snapshots, or one passed through from the API server.
//!
//! Each is pumped by a task of its connection into a short queue. A guest that does not read is cut.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::snapshot::{Kind, Mark, Snapshot};

/// Chunks that may wait for the guest.
pub(crate) const QUEUE: usize = 8;
/// A guest that takes nothing for so long is cut; it then watches anew.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between bookmarks, as the API server does it.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// What is to be streamed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub kind: Kind,
    /// Mark the end of the initial events.
    pub mark_initial: bool,
    pub bookmarks: bool,
    pub lasts: Duration,
}

/// Told of every state before the guest is told of it; may end the stream.
pub(crate) trait Gate: Send {
    /// Whether the guest may see `now`.
    fn open(&self, now: &Snapshot) -> bool;
}

/// Lets everything pass.
pub(crate) struct Open;
impl Gate for Open {
    fn open(&self, _now: &Snapshot) -> bool {
        true
    }
}

/// Why a stream ended; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    TimedOut,
    Slow,
    Closed,
    SourceEnded,
}

/// Streams what follows `before` until the plan's time is over.
pub(crate) async fn pump(
    mut source: watch::Receiver<Option<std::sync::Arc<Snapshot>>>,
    mut before: std::sync::Arc<Snapshot>,
    plan: Plan,
    gate: impl Gate,
    out: mpsc::Sender<Bytes>,
    closed: CancellationToken,
) -> End {
    let end = Instant::now() + plan.lasts;
    let mut initial = plan.mark_initial;
    let mut next_bookmark = Instant::now() + BOOKMARKS;
    loop {
        let now = source.borrow_and_update().clone();
        if let Some(now) = now {
            if closed.is_cancelled() || !gate.open(&now) {
                return End::Closed;
            }
            for event in now.since(&before) {
                if let Err(end) = send(&out, event.to_line()).await {
                    return end;
                }
            }
            before = now;
        }
        if std::mem::take(&mut initial)
            && let Err(end) = send(&out, before.bookmark(plan.kind, Mark::InitialEventsEnd)).await
        {
            return end;
        }
        let wake = next_bookmark.min(end);
        tokio::select! {
            () = closed.cancelled() => return End::Closed,
            () = out.closed() => return End::Closed,
            changed = source.changed() => if changed.is_err() { return End::SourceEnded },
            () = tokio::time::sleep_until(wake) => {
                let over = Instant::now() >= end;
                // The last one lets the client go on from exactly here.
                if plan.bookmarks
                    && let Err(end) = send(&out, before.bookmark(plan.kind, Mark::Progress)).await
                {
                    return end;
                }
                if over {
                    return End::TimedOut;
                }
                next_bookmark = Instant::now() + BOOKMARKS;
            }
        }
    }
}

/// Passes a watch of the API server on.
pub(crate) async fn pass(
    mut body: kube::client::Body,
    lasts: Duration,
    out: mpsc::Sender<Bytes>,
    closed: CancellationToken,
) -> End {
    // The API server ends it in time; this is for one that does not.
    let end = Instant::now() + lasts + PATIENCE;
    loop {
        let frame = tokio::select! {
            () = closed.cancelled() => return End::Closed,
            () = out.closed() => return End::Closed,
            () = tokio::time::sleep_until(end) => return End::TimedOut,
            frame = body.frame() => frame,
        };
        let Some(Ok(frame)) = frame else { return End::SourceEnded };
        if let Ok(data) = frame.into_data()
            && let Err(end) = send(&out, data).await
        {
            return end;
        }
    }
}

async fn send(out: &mpsc::Sender<Bytes>, chunk: Bytes) -> Result<(), End> {
    match timeout(PATIENCE, out.send(chunk)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_closed)) => Err(End::Closed),
        Err(_elapsed) => Err(End::Slow),
    }
}

#[cfg(test)]
mod tests;
