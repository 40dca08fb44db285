//! How the controller stops: nobody's turn comes any more, and what is under way is finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Asks the controller to stop, and waits for it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Draining {
    asked: CancellationToken,
    drained: CancellationToken,
    passes: Arc<AtomicUsize>,
    launches: Arc<AtomicUsize>,
}

/// What was under way when nobody waited any more. The next start finds all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Looks at pods.
    pub passes: usize,
    /// Calls of RunInstances without an answer, among them.
    pub launches: usize,
}

/// A call of RunInstances, until it is dropped.
#[derive(Debug)]
pub(super) struct Launching<'a>(&'a Draining);

impl Draining {
    /// Has no new launch begun, and waits for those under way and whatever else is.
    pub async fn drain(&self, deadline: Duration) -> Left {
        self.asked.cancel();
        if timeout(deadline, self.drained.cancelled()).await.is_ok() {
            return Left::default();
        }
        Left { passes: self.passes.load(Ordering::Relaxed), launches: self.launches.load(Ordering::Relaxed) }
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Once it is asked for.
    pub(super) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    pub(super) fn under_way(&self, passes: usize) {
        self.passes.store(passes, Ordering::Relaxed);
    }

    pub(super) fn is_done(&self) {
        self.drained.cancel();
    }

    pub(super) fn launching(&self) -> Launching<'_> {
        self.launches.fetch_add(1, Ordering::Relaxed);
        Launching(self)
    }
}

impl Drop for Launching<'_> {
    fn drop(&mut self) {
        self.0.launches.fetch_sub(1, Ordering::Relaxed);
    }
}
