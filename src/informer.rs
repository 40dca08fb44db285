//! One watch of this node's pods, shared by the controller, the gateway and the endpoint.
//!
//! What it holds may be stale; whoever destroys something, or says that a pod is gone, reads live first.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{broadcast, watch};

/// Told to subscribers: something about this pod changed, look again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Changed {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// A cached view of the pods of one node.
#[derive(Debug)]
pub struct PodInformer {
    pods: RwLock<HashMap<(String, String), Arc<Pod>>>,
    changes: broadcast::Sender<Changed>,
    synced: watch::Sender<bool>,
    /// How often a new list was asked for, and which of these was answered last.
    asked: watch::Sender<u64>,
    answered: watch::Sender<u64>,
    watch_errors: Counter,
}

/// Changes a subscriber may lag behind before it is told [`broadcast::error::RecvError::Lagged`] and must
/// look at everything again. A burst of 2000 pods fits.
const QUEUE: usize = 4096;

impl PodInformer {
    /// An empty, unsynced cache: [`PodInformer::run`] fills it.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let (changes, _) = broadcast::channel(QUEUE);
        Arc::new(Self {
            pods: RwLock::default(),
            changes,
            synced: watch::Sender::new(false),
            asked: watch::Sender::new(0),
            answered: watch::Sender::new(0),
            watch_errors: Counter::default(),
        })
    }

    /// Watches the pods of `node` until the watch itself gives up, which it never does: errors back off.
    pub async fn run(self: Arc<Self>, client: Client, node: String) {
        let api: Api<DeserializeGuard<Pod>> = Api::all(client);
        let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let mut asked = self.asked.subscribe();
        loop {
            let turn = *asked.borrow_and_update();
            let events = watcher::watcher(api.clone(), config.clone()).default_backoff().boxed();
            tokio::select! {
                () = self.take(events, turn) => return,
                // Never an error: the sender is a field of `self`.
                _ = asked.changed() => {}
            }
        }
    }

    /// Takes in what a watch tells. `turn` is how often a list had been asked for when it began.
    async fn take(
        &self,
        mut events: BoxStream<'static, Result<watcher::Event<DeserializeGuard<Pod>>, watcher::Error>>,
        turn: u64,
    ) {
        let mut listed: HashMap<(String, String), Arc<Pod>> = HashMap::new();
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::Init)) => listed.clear(),
                Ok(Some(watcher::Event::InitApply(pod))) => {
                    if let Some(pod) = parsed(pod) {
                        listed.insert(key(&pod), pod);
                    }
                }
                Ok(Some(watcher::Event::InitDone)) => {
                    self.replace(std::mem::take(&mut listed));
                    self.answered.send_replace(turn);
                }
                Ok(Some(watcher::Event::Apply(pod))) => {
                    if let Some(pod) = parsed(pod) {
                        self.apply(&pod);
                    }
                }
                Ok(Some(watcher::Event::Delete(pod))) => self.remove(&pod.name_any(), pod.namespace()),
                Ok(None) => return,
                Err(error) => {
                    self.watch_errors.inc();
                    tracing::warn!(error = %error, "watching pods failed, trying again");
                }
            }
        }
    }

    /// How often the watch failed and was begun again.
    #[must_use]
    pub fn watch_errors(&self) -> Counter {
        self.watch_errors.clone()
    }

    /// The pod of that name, as last seen.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.read().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The pod with that UID, as last seen.
    #[must_use]
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.read().values().find(|pod| pod.metadata.uid.as_deref() == Some(uid)).cloned()
    }

    /// All pods of the node, as last seen.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.read().values().cloned().collect()
    }

    /// Whether a full list has been read at least once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits for the first full list.
    pub async fn wait_synced(&self) {
        let mut synced = self.synced.subscribe();
        // An error means that the sender is gone, and the sender is a field of `self`.
        drop(synced.wait_for(|done| *done).await);
    }

    /// Reads everything anew and waits for it: what is known then is no older than this call. Whoever did not act until
    /// now needs it, since a watch may be silent long before it ends.
    pub async fn refresh(&self) {
        let mut turn = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            turn = *asked;
        });
        let mut answered = self.answered.subscribe();
        // As above.
        drop(answered.wait_for(|answered| *answered >= turn).await);
    }

    /// Changes from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    /// Puts one pod in, as a watch event would. Public for tests.
    pub fn apply(&self, pod: &Arc<Pod>) {
        let before = self.write().insert(key(pod), Arc::clone(pod));
        if let Some(before) = before
            && before.metadata.uid != pod.metadata.uid
        {
            self.tell(&before);
        }
        self.tell(pod);
    }

    /// Replaces everything, as a list would, and marks the cache synced. Public for tests.
    pub fn replace(&self, pods: HashMap<(String, String), Arc<Pod>>) {
        let before = std::mem::replace(&mut *self.write(), pods);
        self.synced.send_replace(true);
        for (key, old) in &before {
            if self.get(&key.0, &key.1).is_none_or(|now| now.metadata.uid != old.metadata.uid) {
                self.tell(old);
            }
        }
        for pod in self.all() {
            self.tell(&pod);
        }
    }

    fn remove(&self, name: &str, namespace: Option<String>) {
        let gone = self.write().remove(&(namespace.unwrap_or_default(), name.to_owned()));
        if let Some(gone) = gone {
            self.tell(&gone);
        }
    }

    fn tell(&self, pod: &Pod) {
        // An error only says that nobody listens.
        drop(self.changes.send(Changed {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        }));
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<(String, String), Arc<Pod>>> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<(String, String), Arc<Pod>>> {
        self.pods.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(pod: &Pod) -> (String, String) {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

/// One object that does not parse must not stop the watch.
fn parsed(pod: DeserializeGuard<Pod>) -> Option<Arc<Pod>> {
    match pod.0 {
        Ok(pod) => Some(Arc::new(pod)),
        Err(error) => {
            tracing::error!(pod.namespace = ?error.metadata.namespace, pod.name = ?error.metadata.name, error = %error.error, "a pod does not parse and is left out");
            None
        }
    }
}
