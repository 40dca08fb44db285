//! Answers that are kept for a while, asked for once however many wait for them.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::cloud::CloudError;

/// Answers by key. A refusal is kept, too, for a short time: a burst of pods must not repeat it one by one.
#[derive(Debug)]
pub(super) struct Cached<K, V> {
    kept: Duration,
    entries: Mutex<HashMap<K, Kept<V>>>,
}

/// An answer, and until when it is good.
type Kept<V> = (Instant, Result<V, CloudError>);

const KEPT_REFUSAL: Duration = Duration::from_secs(2);
/// Keys can come from what users write on pods; beyond this many all are forgotten.
const MOST: usize = 4096;

impl<K: Eq + Hash + Clone, V: Clone> Cached<K, V> {
    pub(super) fn new(kept: Duration) -> Self {
        Self { kept, entries: Mutex::default() }
    }

    /// The kept answer, or that of `ask`. Others who ask meanwhile wait for the same answer.
    pub(super) async fn get(
        &self,
        key: K,
        ask: impl Future<Output = Result<V, CloudError>>,
    ) -> Result<V, CloudError> {
        // Held while asking, on purpose: `ask` has a deadline of its own (the SDK's).
        let mut entries = self.entries.lock().await;
        if let Some((until, answer)) = entries.get(&key)
            && Instant::now() < *until
        {
            return answer.clone();
        }
        let answer = ask.await;
        let kept = if answer.is_ok() { self.kept } else { self.kept.min(KEPT_REFUSAL) };
        if entries.len() >= MOST {
            entries.clear();
        }
        entries.insert(key, (Instant::now() + kept, answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_get_one_answer_until_it_is_old() {
        let cache = Cached::new(Duration::from_secs(60));
        let asked = AtomicU32::new(0);
        let ask = || async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(asked.fetch_add(1, Ordering::Relaxed))
        };
        let answers = futures::future::join_all((0..10).map(|_| cache.get("key", ask()))).await;
        assert!(answers.iter().all(|answer| *answer == Ok(0)), "{answers:?}");
        assert_eq!(cache.get("other", ask()).await, Ok(1));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(cache.get("key", ask()).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_kept_for_two_seconds_only() {
        let cache = Cached::new(Duration::from_secs(60));
        let refusal =
            CloudError::Throttled { code: "RequestLimitExceeded".into(), message: "slow down".into() };
        assert_eq!(cache.get("key", async { Err(refusal.clone()) }).await, Err(refusal.clone()));
        assert_eq!(cache.get("key", async { Ok(1) }).await, Err(refusal));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(cache.get("key", async { Ok(1) }).await, Ok(1));
    }
}
