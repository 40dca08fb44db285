//! One guest's session: who it is, what it may see, and how far it has come.
//!
//! It outlives the connections of its tunnel, and belongs to one machine and one pod for ever.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::Refusal;
use super::bucket::Bucket;
use super::denied::{Denied, Rule};
use super::events;
use super::node::{PrivateNode, Real, Reported};
use super::pods::{Live, Sight};
use super::route::{Object, Slot};
use super::snapshot::Snapshot;
use super::upstream::Upstream;
use super::{Guest, Settings};
use crate::capacity::world::Usable;
use crate::informer::PodInformer;

/// One guest's session: it outlives the connections of its tunnel.
#[derive(Debug)]
pub struct Session {
    pub(crate) guest: Guest,
    gpu_resource: String,
    token: String,
    progress: watch::Sender<Progress>,
    prepared: watch::Sender<bool>,
    reported: watch::Sender<Reported>,
    /// Microseconds since 1970; 0 is never.
    contact: AtomicI64,
    /// Streams end here, by [`Session::revoke`] or because the session is dismissed.
    pub(crate) closed: CancellationToken,
    /// Connections end here.
    pub(crate) dismissed: CancellationToken,
    pub(crate) connections: Semaphore,
    pub(crate) watches: Arc<Semaphore>,
    pub(crate) bodies: Semaphore,
    sight: Mutex<Sight>,
    pod: watch::Sender<Option<Arc<Snapshot>>>,
    /// One proof at a time.
    proving: tokio::sync::Mutex<()>,
    node: Mutex<PrivateNode>,
    node_view: watch::Sender<Option<Arc<Snapshot>>>,
    pub(crate) kept: Mutex<Kept>,
    pub(crate) events: Mutex<events::Log>,
    /// Requests that may reach the API server.
    rate: Mutex<Bucket>,
}

/// How far a guest has come, for the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The pod was shown to the kubelet at least once: it may run there.
    pub shown: bool,
    /// The guest is answered 403 from now on, and is never shown its pod again.
    pub revoked: bool,
    /// The kubelet was told that its pod is gone (a forced deletion): it ends the containers within the last
    /// grace period that it saw.
    pub told_gone: bool,
    /// The kubelet has ended the containers and deleted the pod object itself.
    pub deleted: bool,
    /// What the kubelet would give to pods of its machine, once it has said so.
    pub usable: Option<Usable>,
}

/// What the shared watch says about the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It has not read a full list yet.
    Unsynced,
    /// The pod is there, and its sight is up to date.
    Seen,
    /// It is not there. That proves nothing.
    Missing,
    /// It was proven gone before.
    Gone,
}

/// Objects that never leave the gateway.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    lease: Option<Value>,
    csi_node: Option<Value>,
    pub version: u64,
}

/// How long a list of the pods waits for the machine; the kubelet then asks again.
const PREPARATION: Duration = Duration::from_secs(60);
/// Connections of one guest at a time; client-go uses one or two.
const CONNECTIONS: usize = 16;
/// Watches of one guest at a time: a handful, and one for each Secret and ConfigMap.
const WATCHES: usize = 512;
/// Request bodies of one guest that are in memory at a time.
const BODIES: usize = 8;
/// Requests of one guest that may reach the API server, where all nodes of the cluster share their turns: twice
/// what a kubelet allows itself (`kubeAPIQPS` 50, `kubeAPIBurst` 100).
const BURST: u32 = 200;
const PER_SECOND: u32 = 100;

impl Session {
    pub(crate) fn new(guest: Guest, settings: &Settings, real: Option<&Real>, now: Timestamp) -> Self {
        let mut node =
            PrivateNode::new(&settings.node, guest.private_ip, &guest.capacity, &settings.gpu_resource, now);
        if let Some(real) = real {
            node.adopt(real);
        }
        let node_view = watch::Sender::new(node.snapshot());
        let version = u64::try_from(now.as_microsecond()).unwrap_or(1);
        Self {
            token: token(&settings.keys.token_key, &guest),
            guest,
            gpu_resource: settings.gpu_resource.clone(),
            progress: watch::Sender::default(),
            prepared: watch::Sender::new(true),
            reported: watch::Sender::default(),
            contact: AtomicI64::new(0),
            closed: CancellationToken::new(),
            dismissed: CancellationToken::new(),
            connections: Semaphore::new(CONNECTIONS),
            watches: Arc::new(Semaphore::new(WATCHES)),
            bodies: Semaphore::new(BODIES),
            sight: Mutex::new(Sight::Unknown),
            pod: watch::Sender::new(None),
            proving: tokio::sync::Mutex::default(),
            node: Mutex::new(node),
            node_view,
            kept: Mutex::new(Kept { version, ..Kept::default() }),
            events: Mutex::new(events::Log::new(now)),
            rate: Mutex::new(Bucket::new(BURST, PER_SECOND, now)),
        }
    }

    /// The bearer token of this machine: HMAC of instance id and pod UID.
    #[must_use]
    pub fn token(&self) -> String {
        self.token.clone()
    }

    /// Progress, with changes.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Whether the machine has what its pod needs, to be set by who brings it there: while it is false, a list of the
    /// pods waits.
    #[must_use]
    pub fn prepared(&self) -> watch::Sender<bool> {
        self.prepared.clone()
    }

    /// Waits until the machine is [`Session::prepared`].
    pub(crate) async fn preparation(&self) -> Result<(), Refusal> {
        let mut prepared = self.prepared.subscribe();
        let waited = timeout(PREPARATION, prepared.wait_for(|prepared| *prepared)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Refusal::NotNow("the machine is being prepared for its pod")),
        }
    }

    /// What the kubelet says about itself (features, versions), with changes.
    #[must_use]
    pub fn reported(&self) -> watch::Receiver<Reported> {
        self.reported.subscribe()
    }

    /// When the kubelet last asked for something with its token.
    #[must_use]
    pub fn last_contact(&self) -> Option<Timestamp> {
        let micros = self.contact.load(Ordering::Relaxed);
        if micros == 0 { None } else { Timestamp::from_microsecond(micros).ok() }
    }

    /// From now on 403, and the pod is never shown (again). If [`Progress::shown`] is false after this returned,
    /// the pod was never shown.
    pub fn revoke(&self) -> bool {
        let mut shown = false;
        self.progress.send_if_modified(|progress| {
            shown = progress.shown;
            !std::mem::replace(&mut progress.revoked, true)
        });
        self.closed.cancel();
        shown
    }

    /// Ends the session and its connections.
    pub(crate) fn dismiss(&self) {
        self.revoke();
        self.dismissed.cancel();
    }

    pub(crate) fn touch(&self, now: Timestamp) {
        self.contact.store(now.as_microsecond(), Ordering::Relaxed);
    }

    /// Whether `presented` is this machine's token, without telling by the time taken how much of it is right.
    pub(crate) fn is_token(&self, presented: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(presented, self.token.as_bytes()).is_ok()
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.progress.borrow().revoked
    }

    /// Notes that the pod is about to be shown. Atomic with [`Session::revoke`]: one of the two comes first.
    pub(crate) fn show(&self) -> bool {
        let mut allowed = false;
        self.progress.send_if_modified(|progress| {
            allowed = !progress.revoked;
            allowed && !std::mem::replace(&mut progress.shown, true)
        });
        allowed
    }

    pub(crate) fn note_told_gone(&self) {
        self.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.told_gone, true));
    }

    pub(crate) fn note_deleted(&self) {
        self.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.deleted, true));
    }

    /// Takes this guest's turn at the API server.
    pub(crate) fn take_turn(&self, now: Timestamp) -> Result<(), Refusal> {
        if lock(&self.rate).take(now) { Ok(()) } else { Err(Refusal::TooMany("requests")) }
    }

    /// The pod's place.
    pub(crate) fn place(&self) -> Object {
        Object { namespace: self.guest.pod_namespace.clone(), name: self.guest.pod_name.clone() }
    }

    /// Brings the sight of the pod up to date with the shared watch.
    pub(crate) fn look(&self, informer: &PodInformer) -> Look {
        if !informer.is_synced() {
            return Look::Unsynced;
        }
        let found = informer.get(&self.guest.pod_namespace, &self.guest.pod_name);
        match found.filter(|pod| pod.metadata.uid.as_deref() == Some(&self.guest.pod_uid)) {
            Some(pod) => {
                self.see(&pod);
                Look::Seen
            }
            None if matches!(*lock(&self.sight), Sight::Gone(_)) => Look::Gone,
            None => Look::Missing,
        }
    }

    /// Proves whether the pod still exists, by a live read.
    pub(crate) async fn prove(&self, upstream: &Upstream) -> Result<(), Refusal> {
        let _one_at_a_time = self.proving.lock().await;
        if matches!(*lock(&self.sight), Sight::Gone(_)) {
            return Ok(());
        }
        match upstream.prove(&self.place(), &self.guest.pod_uid).await? {
            Live::Present(pod) => {
                let pod = serde_json::from_value(pod)
                    .map_err(|_unreadable| Refusal::NotNow("the API server's pod does not parse"))?;
                self.see(&Arc::new(pod));
            }
            Live::Absent => self.update(|sight| Some(sight.after_proof())),
        }
        Ok(())
    }

    /// What may be told about the pod, after a look and, where that is not enough, a proof.
    pub(crate) async fn settle(
        &self,
        informer: &PodInformer,
        upstream: &Upstream,
    ) -> Result<Arc<Snapshot>, Refusal> {
        match self.look(informer) {
            Look::Unsynced => return Err(Refusal::NotNow("the pods of this node were not read yet")),
            Look::Missing => self.prove(upstream).await?,
            Look::Seen | Look::Gone => {}
        }
        lock(&self.sight).snapshot().ok_or(Refusal::NotNow("nothing is known of the pod yet"))
    }

    /// The pod as the API server has it; none if it is gone.
    pub(crate) async fn pod(&self, informer: &PodInformer, upstream: &Upstream) -> Result<Arc<Pod>, Refusal> {
        self.settle(informer, upstream).await?;
        match &*lock(&self.sight) {
            Sight::Present(pod, _) => Ok(pod.clone()),
            Sight::Unknown | Sight::Gone(_) => {
                Err(Denied::new(Rule::Foreign, "the guest's pod does not exist any more").into())
            }
        }
    }

    /// Snapshots of the pod.
    pub(crate) fn pod_view(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.pod.subscribe()
    }

    /// A gone pod's version follows what the guest has seen, see [`Sight::after_asking`].
    pub(crate) fn asked(&self, version: Option<u64>) {
        if let Some(version) = version {
            self.update(|sight| sight.after_asking(version));
        }
    }

    fn see(&self, pod: &Arc<Pod>) {
        self.update(|sight| sight.after_seeing(pod, &self.gpu_resource));
    }

    fn update(&self, next: impl FnOnce(&Sight) -> Option<Sight>) {
        let mut sight = lock(&self.sight);
        if let Some(next) = next(&sight) {
            *sight = next;
            // Under the lock, so that two of these cannot overtake each other.
            self.pod.send_replace(sight.snapshot());
        }
    }

    /// Snapshots of the private Node.
    pub(crate) fn node_view(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.node_view.subscribe()
    }

    /// The private Node.
    pub(crate) fn node(&self) -> Option<Value> {
        lock(&self.node).object()
    }

    /// Takes over what the real Node says.
    pub(crate) fn adopt(&self, real: &Real) {
        let mut node = lock(&self.node);
        if node.adopt(real) {
            self.node_view.send_replace(node.snapshot());
        }
    }

    /// Takes the kubelet's report of its node.
    pub(crate) fn patch_node(&self, patch: &Value) -> Result<Option<Value>, Denied> {
        let mut node = lock(&self.node);
        node.patch(patch)?;
        self.node_view.send_replace(node.snapshot());
        let reported = node.reported();
        let usable = reported.usable;
        self.progress.send_if_modified(|progress| {
            let changed = progress.usable != usable;
            progress.usable = usable;
            changed
        });
        self.reported.send_if_modified(|before| {
            let changed = *before != reported;
            *before = reported;
            changed
        });
        Ok(node.object())
    }
}

impl Kept {
    /// The object in `slot`.
    pub(crate) fn slot(&mut self, slot: Slot) -> &mut Option<Value> {
        match slot {
            Slot::Lease => &mut self.lease,
            Slot::CsiNode => &mut self.csi_node,
        }
    }
}

/// The lock of something that is whole between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// HMAC-SHA256 of instance and pod, in hexadecimal. The parts are ended, so that no two pairs read the same.
fn token(key: &[u8; 32], guest: &Guest) -> String {
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in ["orca machine token", &guest.instance_id, &guest.pod_uid] {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    mac.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
