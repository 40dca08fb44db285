//! Many who ask for one thing each, answered by one call for all of them.
//!
//! The window stays open while more come, up to a limit; calls overlap. When a call fails as a whole, or leaves
//! somebody out, each is asked for alone: one bad id, or one zone in trouble, must not fail the others.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::cloud::CloudError;

/// When a batch is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// After nobody came for so long.
    pub(super) idle: Duration,
    /// At this age.
    pub(super) longest: Duration,
    /// With so many keys.
    pub(super) most: usize,
}

/// Those who wait to be taken into a batch; beyond it, askers wait for room.
const QUEUE: usize = 4096;
/// Batches that are being called at once.
const OVERLAP: usize = 8;

/// Answers by key. A key that was asked for and is missing is asked for again, alone.
pub(super) type Answers<K, V> = HashMap<K, Result<V, CloudError>>;

/// Collects questions. Its task ends when this is dropped.
pub(super) struct Batch<K, V> {
    queue: mpsc::Sender<Question<K, V>>,
    _task: JoinSet<()>,
}

struct Question<K, V> {
    key: K,
    answer: oneshot::Sender<Result<V, CloudError>>,
}

type Waiting<K, V> = HashMap<K, Vec<oneshot::Sender<Result<V, CloudError>>>>;
type CallFn<K, V> = dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Answers<K, V>, CloudError>> + Send + Sync;

impl<K, V> fmt::Debug for Batch<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("room", &self.queue.capacity()).finish_non_exhaustive()
    }
}

impl<K, V> Batch<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Starts the task that collects; needs a runtime.
    pub(super) fn new(
        window: Window,
        call: impl Fn(Vec<K>) -> BoxFuture<'static, Result<Answers<K, V>, CloudError>> + Send + Sync + 'static,
    ) -> Self {
        let (queue, questions) = mpsc::channel(QUEUE);
        let mut task = JoinSet::new();
        task.spawn(collect(window, questions, Arc::new(call)));
        Self { queue, _task: task }
    }

    /// The answer for one key. Giving up takes nothing from others.
    pub(super) async fn ask(&self, key: K) -> Result<V, CloudError> {
        let (answer, answered) = oneshot::channel();
        let stopped = || CloudError::Transient {
            code: "Stopped".to_owned(),
            message: "the call was given up with everything else".to_owned(),
        };
        self.queue.send(Question { key, answer }).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

async fn collect<K, V>(window: Window, mut questions: mpsc::Receiver<Question<K, V>>, call: Arc<CallFn<K, V>>)
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(OVERLAP));
    let mut calls = JoinSet::new();
    while let Some(first) = questions.recv().await {
        let mut batch = Waiting::new();
        batch.entry(first.key).or_default().push(first.answer);
        let end = Instant::now() + window.longest;
        while batch.len() < window.most {
            match timeout_at(end.min(Instant::now() + window.idle), questions.recv()).await {
                Ok(Some(next)) => batch.entry(next.key).or_default().push(next.answer),
                Ok(None) | Err(_) => break,
            }
        }
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let call = call.clone();
        calls.spawn(async move {
            answer(batch, &*call).await;
            drop(place);
        });
        while calls.try_join_next().is_some() {}
    }
}

async fn answer<K, V>(mut waiting: Waiting<K, V>, call: &CallFn<K, V>)
where
    K: Clone + Eq + Hash,
    V: Clone,
{
    waiting.retain(|_, askers| askers.iter().any(|asker| !asker.is_closed()));
    if waiting.is_empty() {
        return;
    }
    let keys: Vec<K> = waiting.keys().cloned().collect();
    let is_alone = keys.len() == 1;
    let mut answers = match call(keys).await {
        Ok(answers) => answers,
        // Asking one by one would be refused the same way, and make it worse.
        Err(error) if is_alone || matches!(error, CloudError::Throttled { .. }) => {
            waiting.drain().for_each(|(_, askers)| tell(askers, &Err(error.clone())));
            return;
        }
        Err(_) => Answers::new(),
    };
    for (key, askers) in waiting {
        let answer = match answers.remove(&key) {
            Some(answer) => answer,
            None if is_alone => Err(left_out()),
            None if askers.iter().all(oneshot::Sender::is_closed) => continue,
            None => call(vec![key.clone()])
                .await
                .and_then(|mut answers| answers.remove(&key).unwrap_or_else(|| Err(left_out()))),
        };
        tell(askers, &answer);
    }
}

fn left_out() -> CloudError {
    CloudError::Transient {
        code: "EmptyAnswer".to_owned(),
        message: "the answer does not mention what was asked for".to_owned(),
    }
}

fn tell<V: Clone>(askers: Vec<oneshot::Sender<Result<V, CloudError>>>, answer: &Result<V, CloudError>) {
    for asker in askers {
        // Who gave up meanwhile needs no answer.
        drop(asker.send(answer.clone()));
    }
}

#[cfg(test)]
mod tests;
