//! The way of one stream's batches into the store: one at a time, in order, for as long as it takes.
//!
//! Whoever stops waiting here loses nothing: what was handed over stays, and goes on with the next call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::Shared;
use crate::clock;
use crate::logs::batch::Batch;
use crate::logs::store::StoreError;

/// After a call that may succeed a little later; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause; also after a call that somebody has to make possible.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The batches of one stream.
#[derive(Debug)]
pub(super) struct Outbox {
    shared: Arc<Shared>,
    stream: String,
    under_way: Option<AbortOnDropHandle<()>>,
    /// Behind it. More than one only where somebody stopped waiting.
    waiting: VecDeque<Batch>,
}

impl Outbox {
    pub(super) fn new(shared: Arc<Shared>, stream: String) -> Self {
        Self { shared, stream, under_way: None, waiting: VecDeque::new() }
    }

    /// Takes a batch, and waits until it is under way: once those before it have arrived.
    pub(super) async fn send(&mut self, batch: Batch) {
        self.waiting.push_back(batch);
        while !self.waiting.is_empty() {
            self.arrive().await;
            self.start();
        }
    }

    /// Waits until all has arrived.
    pub(super) async fn settle(&mut self) {
        self.arrive().await;
        while self.start() {
            self.arrive().await;
        }
    }

    /// Waits until what is under way has arrived.
    async fn arrive(&mut self) {
        if let Some(under_way) = &mut self.under_way {
            if let Err(error) = under_way.await {
                tracing::error!(stream = self.stream, %error, "a call of PutLogEvents was abandoned");
            }
            self.under_way = None;
        }
    }

    /// Starts the next, if there is one.
    fn start(&mut self) -> bool {
        let Some(batch) = self.waiting.pop_front() else { return false };
        let delivery = deliver(Arc::clone(&self.shared), self.stream.clone(), batch);
        self.under_way = Some(AbortOnDropHandle::new(tokio::spawn(delivery)));
        true
    }

    /// Whether all has arrived.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.as_ref().is_none_or(AbortOnDropHandle::is_finished)
    }
}

async fn deliver(shared: Arc<Shared>, stream: String, mut batch: Batch) {
    let mut pause = Pause::new();
    let mut is_restamped = false;
    loop {
        match shared.store.put(&stream, batch.events()).await {
            Ok(answer) => {
                shared.worked();
                let rest = batch.again(answer, clock::now());
                shared.metrics.put(&batch, rest.as_ref());
                match rest {
                    None => return,
                    Some(rest) if !is_restamped => (batch, is_restamped) = (rest, true),
                    Some(rest) => {
                        let events = rest.events().len();
                        shared.metrics.refused.inc_by(events as u64);
                        tracing::error!(stream, events, "CloudWatch Logs refuses events of a container log");
                        return;
                    }
                }
            }
            Err(StoreError::NotFound) => create(&shared, &stream, &mut pause).await,
            Err(error) => pause.after(&shared, &error).await,
        }
    }
}

async fn create(shared: &Shared, stream: &str, pause: &mut Pause) {
    let created = match shared.store.create_stream(stream).await {
        Err(StoreError::NotFound) => shared.store.prepare().await,
        other => other,
    };
    if let Err(error) = created {
        pause.after(shared, &error).await;
    }
}

/// Pauses between calls that fail.
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// Notes the failure, and waits.
    pub(super) async fn after(&mut self, shared: &Shared, error: &StoreError) {
        shared.failed(error);
        let wait = if error.passes() { self.0 } else { LONGEST_PAUSE };
        self.0 = LONGEST_PAUSE.min(self.0 * 2);
        // All streams were refused together; they are not to come back together.
        let wait = wait.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        shared.metrics.waited.inc_by(wait.as_secs_f64());
        sleep(wait).await;
    }
}
