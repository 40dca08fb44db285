//! The streams of users, as a whole: who ends the process tells them, and waits until they have heard it.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::Body;

/// All spliced streams, which outlive the requests that upgraded them, and all answers with a container's log. Clones share
/// them.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    tracker: TaskTracker,
    closing: CancellationToken,
}

impl Streams {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Ends all of them, each with a word where its protocol has one; how many have not ended by the deadline.
    pub async fn close(&self, deadline: Duration) -> usize {
        self.closing.cancel();
        self.tracker.close();
        // What is left is told.
        drop(tokio::time::timeout(deadline, self.tracker.wait()).await);
        self.len()
    }

    /// Told when they are to end; no new one begins then.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Counts an answer among them until its body has ended. One that never ends by itself has to look at
    /// [`Streams::closing`].
    pub(super) fn hold(&self, answer: Response<Body>) -> Response<Body> {
        let held = self.tracker.token();
        answer.map(|body| {
            let body = body.map_frame(move |frame| {
                let _held = &held;
                frame
            });
            body.boxed_unsync()
        })
    }

    pub(super) fn spawn(&self, stream: impl Future<Output = ()> + Send + 'static) {
        // Owned by the tracker's shutdown, and by the connections that it splices: it ends with either.
        drop(self.tracker.spawn(stream));
    }
}
