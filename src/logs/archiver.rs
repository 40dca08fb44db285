//! The archiver: reads the logs of every machine with a link, and files them in the store.
//!
//! One task a machine. It survives cut tunnels and restarts of ORCA, since it keeps nothing that is not in the archive or
//! on the machine; and it waits, for as long as it takes, where the store does not take what it has.

mod ends;
mod follow;
mod log;
mod metrics;
mod open;
mod outbox;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::follow::{Follow, Reach, Seen};
use self::outbox::Pause;
use super::store::{Store, StoreError};
use crate::informer::PodInformer;
use crate::link::{LinkState, Links};
pub use metrics::Metrics;

/// Everything is looked at this often, should a change have been missed.
const LOOK: Duration = Duration::from_secs(30);
/// Machines' last words that may wait.
const WORDS: usize = 256;
/// Changes that a slow listener may be behind.
const CHANGES: usize = 1_024;

/// How far the logs of a machine are archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Containers may still write, or what they wrote is not archived.
    Behind,
    /// The pod has ended and all of its logs are in the archive.
    Drained,
}

/// What whoever ends machines asks of the archive.
pub trait Drain: Send + Sync + std::fmt::Debug {
    /// How far the logs of this pod's machine are.
    fn progress(&self, pod_uid: &str) -> Progress;

    /// The machine is about to be ended although logs are missing: says so in them.
    fn give_up(&self, pod_uid: &str);

    /// Told whenever a pod's progress changed: its UID.
    fn subscribe(&self) -> broadcast::Receiver<String>;

    /// Archives what a machine said last, beside the logs of its containers.
    fn file(&self, words: Words);
}

/// What a machine said last, beside the logs of its containers.
#[derive(Clone, PartialEq, Eq)]
pub struct Words {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// [`super::names::KUBELET`] or [`super::names::CONSOLE`].
    pub source: &'static str,
    /// Tells the machines of one pod apart.
    pub number: u32,
    pub text: String,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Words").field("uid", &self.uid).field("source", &self.source).finish_non_exhaustive()
    }
}

/// Whether the store can be worked with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// There is no archive.
    Off,
    /// Nothing was sent yet.
    #[default]
    Unknown,
    Works,
    /// For the node's condition: a reason in one word, and a sentence.
    Fails {
        reason: &'static str,
        message: String,
    },
}

/// What archiving stands on.
#[derive(Clone, Debug)]
pub struct Deps {
    pub store: Arc<dyn Store>,
    pub links: Arc<dyn Links>,
    pub pods: Arc<PodInformer>,
    /// How long the group keeps its events; `None`: for ever.
    pub retention: Option<Duration>,
    pub metrics: Metrics,
}

/// Archives the logs of all machines.
#[derive(Debug)]
pub struct Archiver {
    shared: Arc<Shared>,
    pods: Arc<PodInformer>,
    /// To [`Archiver::run`].
    words: mpsc::Sender<Words>,
    to_file: Mutex<Option<mpsc::Receiver<Words>>>,
    /// By pod UID.
    follows: Mutex<HashMap<String, Entry>>,
}

/// What all machines' tasks share.
#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    links: Arc<dyn Links>,
    retention: Option<Duration>,
    metrics: Metrics,
    changes: broadcast::Sender<String>,
    health: watch::Sender<Health>,
    started: Instant,
    /// Nothing more is read; what is in hand is put.
    closing: CancellationToken,
    /// Told when that is done.
    closed: CancellationToken,
    /// Logs and last words that are still put, once it is closing.
    left: AtomicUsize,
}

/// Whose logs.
#[derive(Clone, Debug)]
struct Target {
    namespace: String,
    pod: String,
    uid: String,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    seen: watch::Sender<Seen>,
    progress: watch::Receiver<Progress>,
}

impl Shared {
    fn worked(&self) {
        self.tell(Health::Works);
    }

    fn failed(&self, error: &StoreError) {
        self.metrics.failures.inc();
        let reason = match error {
            // A call that is throttled is only late.
            StoreError::Throttled(_) => return,
            StoreError::Denied(_) => "Denied",
            StoreError::Unreachable(_) => "Unreachable",
            StoreError::NotFound => "NotFound",
            StoreError::Invalid(_) => "Refused",
        };
        self.tell(Health::Fails { reason, message: format!("container logs are not archived: {error}") });
    }

    fn tell(&self, health: Health) {
        self.health.send_if_modified(|told| {
            let is_news = *told != health;
            if is_news && let Health::Fails { message, .. } = &health {
                tracing::warn!("{message}");
            }
            *told = health;
            is_news
        });
    }
}

impl Archiver {
    /// Does nothing until [`Archiver::run`].
    #[must_use]
    pub fn new(deps: Deps) -> Arc<Self> {
        let Deps { store, links, pods, retention, metrics } = deps;
        let shared = Shared {
            store,
            links,
            retention,
            metrics,
            changes: broadcast::Sender::new(CHANGES),
            health: watch::Sender::default(),
            started: Instant::now(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            left: AtomicUsize::new(0),
        };
        let (words, to_file) = mpsc::channel(WORDS);
        let to_file = Mutex::new(Some(to_file));
        Arc::new(Self { shared: Arc::new(shared), pods, words, to_file, follows: Mutex::default() })
    }

    /// Whether the store takes what is sent.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Follows the machines as they come and go; for ever.
    pub async fn run(self: Arc<Self>) {
        let (mut links, mut pods) = (self.shared.links.subscribe(), self.pods.subscribe());
        let mut tasks = JoinSet::new();
        tasks.spawn(prepare(Arc::clone(&self.shared)));
        let to_file = self.to_file.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut to_file = to_file.expect("it is run once");
        let mut all = interval(LOOK);
        all.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let uid = tokio::select! {
                () = self.shared.closing.cancelled() => break,
                changed = links.recv() => changed.ok(),
                changed = pods.recv() => changed.ok().map(|changed| changed.uid),
                _ = all.tick() => None,
                Some(words) = to_file.recv() => {
                    tasks.spawn(words::file(Arc::clone(&self.shared), words));
                    continue;
                }
                Some(ended) = tasks.join_next() => {
                    match ended {
                        Ok(Some(uid)) => drop(self.lock().remove(&uid)),
                        Ok(None) => {}
                        Err(error) => tracing::error!(%error, "archiving the logs of a machine failed"),
                    }
                    continue;
                }
            };
            // A change that was missed may be any.
            let uids = uid.map_or_else(|| self.uids(), |uid| vec![uid]);
            for uid in uids {
                self.look(&uid, &mut tasks);
            }
        }
        while let Ok(words) = to_file.try_recv() {
            tasks.spawn(words::file(Arc::clone(&self.shared), words));
        }
        while !tasks.is_empty() {
            self.shared.left.store(tasks.len(), Ordering::Relaxed);
            drop(tasks.join_next().await);
        }
        self.shared.closed.cancel();
        std::future::pending().await
    }

    /// Reads no more, and puts what is in hand; how many machines' logs were not put by the deadline. Those of machines
    /// that live are read again by the next start.
    pub async fn close(&self, deadline: Duration) -> usize {
        self.shared.closing.cancel();
        match timeout(deadline, self.shared.closed.cancelled()).await {
            Ok(()) => 0,
            Err(_) => self.shared.left.load(Ordering::Relaxed),
        }
    }

    fn uids(&self) -> Vec<String> {
        let mut uids = self.shared.links.uids();
        uids.extend(self.lock().keys().cloned());
        uids.sort();
        uids.dedup();
        uids
    }

    /// Brings what is known of a pod and its machine to whoever follows its logs.
    fn look(&self, uid: &str, tasks: &mut JoinSet<Option<String>>) {
        let link = self.shared.links.status(uid);
        let mut follows = self.lock();
        if !follows.contains_key(uid) {
            let Some((namespace, pod)) = self.shared.links.pod(uid).filter(|_| link.is_some()) else {
                return;
            };
            let target = Target { namespace, pod, uid: uid.to_owned() };
            let (seen, seen_by_task) = watch::channel(Seen::default());
            let (progress_of_task, progress) = watch::channel(Progress::Behind);
            let follow =
                Follow::new(Arc::clone(&self.shared), target.clone(), seen_by_task, progress_of_task);
            tasks.spawn(async move {
                let uid = follow.target.uid.clone();
                follow.run().await;
                Some(uid)
            });
            follows.insert(uid.to_owned(), Entry { target, seen, progress });
        }
        let Some(entry) = follows.get(uid) else { return };
        let Target { namespace, pod, .. } = &entry.target;
        let pod = self.pods.get(namespace, pod).filter(|pod| pod.metadata.uid.as_deref() == Some(uid));
        let reach = match link.map(|link| link.state) {
            None => Reach::Removed,
            Some(LinkState::Attached { .. }) => Reach::Attached,
            Some(LinkState::Dialing { .. } | LinkState::Bootstrapping { .. } | LinkState::Broken { .. }) => {
                Reach::Away
            }
        };
        let is_synced = self.pods.is_synced();
        entry.seen.send_if_modified(|seen| seen.update(pod, is_synced, reach));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.follows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drain for Archiver {
    fn progress(&self, pod_uid: &str) -> Progress {
        self.lock().get(pod_uid).map_or(Progress::Behind, |entry| *entry.progress.borrow())
    }

    fn give_up(&self, pod_uid: &str) {
        if let Some(entry) = self.lock().get(pod_uid) {
            entry.seen.send_modify(|seen| seen.reach = Reach::GivenUp);
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<String> {
        self.shared.changes.subscribe()
    }

    fn file(&self, words: Words) {
        if words.text.is_empty() {
            return;
        }
        if let Err(error) = self.words.try_send(words) {
            tracing::warn!(%error, "a machine's last words are not archived");
        }
    }
}

/// Sees to it that the group is there and keeps events as long as it should.
async fn prepare(shared: Arc<Shared>) -> Option<String> {
    let mut pause = Pause::new();
    loop {
        match shared.store.prepare().await {
            Ok(()) => {
                shared.worked();
                return None;
            }
            Err(error) => pause.after(&shared, &error).await,
        }
    }
}
