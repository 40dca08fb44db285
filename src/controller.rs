//! The thin shell around [`crate::pod::decide`]: look, decide, act, look again.
//!
//! Level-triggered: whatever happens only says which pod to look at. One pass at a time works on a pod, up to
//! `PASSES` work on different ones; a pass that would destroy something reads everything live first.
//! Nothing here is durable: a restart is one more pass.

mod act;
mod answer;
mod breaker;
mod ceiling;
mod changes;
mod deadline;
mod drain;
mod fleet;
mod gate;
mod health;
mod journey;
mod kubelet;
mod lanes;
mod launch;
pub(crate) mod leftovers;
mod live;
mod maintenance;
mod metrics;
mod observe;
mod owners;
mod plan;
mod queue;
mod reach;
mod story;
mod stuck;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod trace;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use rand::RngExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::capacity::blocked::Blocked;
use crate::capacity::money::MicroUsd;
use crate::clock;
use crate::cloud::{Cloud, CloudHealth, LeftoverKind};
use crate::config::{Config, TunnelKind};
use crate::guest::{Listen, UserData, user_data};
use crate::informer::PodInformer;
use crate::link::Links;
use crate::logs::archiver::Drain;
use crate::market::MarketCache;
use crate::pod::decide::{AbsentEnd, Lists, Note, NoteKind, Rules, decide};
use crate::pod::reasons;
use crate::pod::state::State;
use crate::telemetry::Traces;

use deadline::deadline;
pub use drain::{Draining, Left};
pub use metrics::Metrics;
pub(crate) use owners::Owners;
use queue::{Queue, Urgency};

/// Pods that are worked on at once. A pass that waits for RunInstances does not count: see [`LAUNCHES`].
const PASSES: usize = 16;
/// Launches that are under way at once: a burst of 200 pods and some.
const LAUNCHES: usize = 256;
/// After a pass that failed; doubled with each, up to [`BACK_OFF_CAP`].
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_CAP: Duration = Duration::from_secs(120);
/// So many passes may fail in a row before the pod hears of it: one error in between is nobody's business.
const TOLD_FAILURES: u32 = 3;
/// A pass that asks for another one sooner than this is in a hurry; so many in a row are a bug that must not burn.
const RUSH: Duration = Duration::from_millis(100);
const MAX_RUSHES: u32 = 32;
/// A pass that died is repeated after this.
const AFTER_PANIC: Duration = Duration::from_secs(30);

/// What the controller stands on.
pub struct Deps {
    pub client: kube::Client,
    /// Run by somebody else.
    pub pods: Arc<PodInformer>,
    pub cloud: Arc<dyn Cloud>,
    /// Run by somebody else.
    pub market: Arc<MarketCache>,
    pub links: Arc<dyn Links>,
    /// `None`: logs are not archived.
    pub logs: Option<Arc<dyn Drain>>,
    /// ORCA's public SSH key, for user data.
    pub ssh_public: String,
    pub config: Arc<Config>,
    /// UID of the `kube-system` namespace.
    pub cluster_id: String,
    pub metrics: Metrics,
    pub traces: Traces,
}

/// The controller.
#[derive(Debug)]
pub struct Controller {
    core: Arc<Core>,
    lines: story::Lines,
}

struct Core {
    client: kube::Client,
    pods: Arc<PodInformer>,
    cloud: Arc<dyn Cloud>,
    links: Arc<dyn Links>,
    logs: Option<Arc<dyn Drain>>,
    config: Arc<Config>,
    cluster_id: String,
    metrics: Metrics,
    traces: Traces,
    ssh_public: String,
    owners: owners::Owners,
    rules: Rules,
    queue: Queue,
    table: table::Table,
    fleet: fleet::Fleet,
    market: Arc<MarketCache>,
    blocked: Mutex<Blocked>,
    story: story::Story,
    health: health::Health,
    sight: reach::Sight,
    calendar: maintenance::Calendar,
    /// Before `launches`, since the cloud's rate admits one after the other.
    gates: gate::Gates,
    launches: Semaphore,
    draining: Draining,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps").field("cluster_id", &self.cluster_id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("cluster_id", &self.cluster_id).finish_non_exhaustive()
    }
}

impl Controller {
    /// A controller; nothing happens before [`Controller::run`].
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        let Deps {
            client,
            pods,
            cloud,
            market,
            links,
            logs,
            ssh_public,
            config,
            cluster_id,
            metrics,
            traces,
        } = deps;
        let (story, lines) = story::Story::new();
        metrics.max_instances.set(config.limits.max_concurrent_instances.into());
        metrics.max_hourly_cost.set(config.limits.max_hourly_cost.map_or(f64::INFINITY, MicroUsd::dollars));
        let rules = Rules {
            gpu_resource: config.node.gpu.resource.clone(),
            daemon_sets: config.node.daemon_sets,
            keep_finished: config.limits.keep_finished,
            drain_logs: config.logs.as_ref().map_or(Duration::ZERO, |logs| logs.drain_deadline),
            boot_deadline: config.limits.boot_deadline,
            started: clock::steady(),
        };
        let core = Arc::new(Core {
            client,
            pods,
            cloud,
            logs,
            config,
            cluster_id,
            table: table::Table::new(metrics.clone()),
            health: health::Health::new(metrics.cloud_reachable.clone(), metrics.launches_wait.clone()),
            metrics,
            traces,
            sight: reach::Sight::new(links.reach()),
            calendar: maintenance::Calendar::default(),
            links,
            ssh_public,
            owners: owners::Owners::default(),
            rules,
            queue: Queue::default(),
            fleet: fleet::Fleet::new(),
            market,
            blocked: Mutex::default(),
            story,
            gates: gate::Gates::default(),
            launches: Semaphore::new(LAUNCHES),
            draining: Draining::default(),
        });
        Self { core, lines }
    }

    /// How the cloud answers, with changes.
    #[must_use]
    pub fn cloud_health(&self) -> watch::Receiver<CloudHealth> {
        self.core.health.subscribe()
    }

    /// How it is stopped.
    #[must_use]
    pub fn draining(&self) -> Draining {
        self.core.draining.clone()
    }

    /// Tells a pod something, as an event.
    #[must_use]
    pub fn teller(&self) -> Arc<dyn Fn(ObjectReference, Note) + Send + Sync> {
        let core = self.core.clone();
        Arc::new(move |about, note| core.story.tell(about, note))
    }

    /// What the node should offer at most, by resource, as it is when it is called.
    #[must_use]
    pub fn ceilings(&self) -> Arc<dyn Fn() -> BTreeMap<String, u64> + Send + Sync> {
        let core = self.core.clone();
        Arc::new(move || core.ceilings())
    }

    /// Works until it is dropped, or has drained. It only returns when a part of it died, which is a bug: the process
    /// should end.
    pub async fn run(self) {
        let Self { core, lines } = self;
        let mut parts = JoinSet::new();
        parts.spawn(story::write(core.client.clone(), core.config.node.name.clone(), lines));
        parts.spawn(core.clone().watch_pods());
        parts.spawn(core.clone().watch_links());
        parts.spawn(core.clone().watch_reach());
        if let Some(logs) = core.logs.clone() {
            parts.spawn(core.clone().watch_logs(logs));
        }
        parts.spawn(core.clone().watch_instances());
        for kind in LeftoverKind::ALL {
            parts.spawn(core.clone().watch_leftovers(kind));
        }
        parts.spawn(core.clone().watch_market());
        parts.spawn(core.clone().watch_maintenance());
        let slots = Arc::new(Semaphore::new(PASSES));
        let mut passes = JoinSet::new();
        loop {
            tokio::select! {
                ended = parts.join_next() => {
                    tracing::error!(?ended, "a part of the controller ended");
                    return;
                }
                Some(ended) = passes.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a pass died");
                    }
                }
                () = core.draining.asked(), if !core.draining.is_asked() || passes.is_empty() => {
                    if passes.is_empty() {
                        core.story.told().await;
                        core.draining.is_done();
                        return std::future::pending().await;
                    }
                }
                (slot, uid) = next(&core.queue, &slots), if !core.draining.is_asked() => {
                    core.metrics.queue.set(i64::try_from(core.queue.depth()).unwrap_or(i64::MAX));
                    passes.spawn(core.clone().pass(uid, slot));
                }
            }
            core.draining.under_way(passes.len());
        }
    }
}

impl Core {
    /// What a machine is started with. Equal arguments give equal texts.
    fn user_data(&self, max_lifetime: Option<Duration>) -> String {
        user_data(&UserData {
            ssh_public: self.ssh_public.clone(),
            listen: match self.config.aws.tunnel {
                TunnelKind::Ssm => Listen::Loopback,
                TunnelKind::Direct => Listen::AllAddresses,
            },
            max_lifetime: max_lifetime.unwrap_or(self.config.limits.max_instance_lifetime),
            max_lost_contact: self.config.limits.max_lost_contact,
        })
    }
}

/// The next key, once there is a slot for it.
async fn next(queue: &Queue, slots: &Arc<Semaphore>) -> (Slot, String) {
    let permit = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
    let uid = queue.next().await;
    (Slot { permit: Some(permit), slots: slots.clone() }, uid)
}

/// One of [`PASSES`].
#[derive(Debug)]
struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    slots: Arc<Semaphore>,
}

impl Slot {
    /// Lets others work while this pass waits for somebody far away.
    async fn lend<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.permit = None;
        let done = work.await;
        self.permit = self.slots.clone().acquire_owned().await.ok();
        done
    }
}

impl Core {
    /// One look at one pod.
    async fn pass(self: Arc<Self>, uid: String, mut slot: Slot) {
        let mut turn = self.queue.turn(uid.clone(), AFTER_PANIC);
        let span = tracing::debug_span!("pass", pod.uid = uid);
        let result = self.look(&uid, &mut slot).instrument(span).await;
        let kind = result.as_ref().map_or_else(act::Failure::kind, |_| "ok");
        self.metrics.passes.get_or_create(&metrics::Result_ { result: kind }).inc();
        match result {
            Ok(None) => turn.again(None),
            Ok(Some(again)) => {
                let rushes = self.table.update(&uid, |row| {
                    row.failures = 0;
                    if row.memory.hold.is_none() {
                        row.trouble = None;
                    }
                    row.rushes = if again < RUSH { row.rushes.saturating_add(1) } else { 0 };
                    row.rushes
                });
                let again = if rushes > MAX_RUSHES {
                    tracing::error!(pod.uid = uid, rushes, "this pod is looked at again and again");
                    back_off(BACK_OFF, BACK_OFF_CAP, rushes - MAX_RUSHES)
                } else {
                    again
                };
                turn.again(Some(again));
            }
            // It is known as it is now, so the next look is another one.
            Err(act::Failure::Changed) => turn.again(Some(act::SOON)),
            Err(error) => {
                let failures = self.table.update(&uid, |row| {
                    row.failures = row.failures.saturating_add(1);
                    row.failures
                });
                let again = back_off(BACK_OFF, BACK_OFF_CAP, failures);
                tracing::warn!(pod.uid = uid, failures, retry_ms = again.as_millis(), %error, "a pass failed");
                self.struggles(&uid, error.kind(), &error.to_string(), again);
                self.failed_sync(&uid, failures, again, &error);
                turn.again(Some(again));
            }
        }
    }

    /// Tells the pod of an error that does not pass by itself.
    fn failed_sync(&self, uid: &str, failures: u32, again: Duration, error: &act::Failure) {
        if failures < TOLD_FAILURES {
            return;
        }
        if let Some(about) = self.observe(uid).reference(uid) {
            let text =
                format!("{error}; {failures} attempts failed, the next one is in {}s", again.as_secs());
            self.story.tell(about, Note { kind: NoteKind::Warning, reason: reasons::FAILED_SYNC, text });
        }
    }

    /// Observe, decide, act; says when to look again, `None` for a pod of which nothing is left.
    async fn look(&self, uid: &str, slot: &mut Slot) -> Result<Option<Duration>, act::Failure> {
        let mut seen = self.observe(uid);
        if let Some(pod) = seen.pod.clone() {
            self.mind_retry(uid, &pod);
            seen = self.observe(uid);
        }
        self.follow(uid, &seen);
        let mut decision = decide(&seen.observed(uid, &self.rules));
        if decision.wants_proof(self.table.get(uid).gone) {
            seen = self.observe_live(uid, seen).await?;
            decision = decide(&seen.observed(uid, &self.rules));
        }
        let (state, is_true_now) = (decision.state, !decision.is_true_once_written());
        if is_true_now {
            self.note(uid, state);
        }
        self.metrics
            .waits(uid, seen.pod.as_deref().and_then(journey::bound).filter(|_| decision.state.is_waiting()));
        if decision.state == State::Vanished
            && decision.actions.is_empty()
            && self.has_ended(uid, &seen).await
        {
            return Ok(Some(Duration::ZERO));
        }
        let again = self.act(uid, &seen, decision, slot).await?;
        if !is_true_now {
            self.note(uid, state);
        }
        Ok(again)
    }

    /// Asks the kubelet of a pod whose object is gone whether it is done.
    async fn has_ended(&self, uid: &str, seen: &observe::Seen) -> bool {
        if !seen.is_attached() {
            return false;
        }
        match kubelet::runs(&self.links, uid).await {
            Ok(true) => false,
            Ok(false) => {
                self.table.update(uid, |row| row.absent(clock::steady()).end = AbsentEnd::Ended);
                true
            }
            Err(error) => {
                tracing::debug!(
                    pod.uid = uid,
                    error = format!("{error:#}"),
                    "the kubelet could not be asked"
                );
                false
            }
        }
    }

    /// Remembers the state, and minds the table of legal transitions.
    fn note(&self, uid: &str, next: State) {
        let before = self.table.update(uid, |row| row.memory.previous.replace(next));
        let Some(before) = before.filter(|before| *before != next) else { return };
        tracing::info!(pod.uid = uid, from = before.name(), to = next.name(), "state changed");
        let transition = metrics::Transition { from: before.name(), to: next.name() };
        if !before.may_become(next) {
            tracing::error!(pod.uid = uid, from = before.name(), to = next.name(), "an illegal transition");
            self.metrics.illegal_transitions.get_or_create(&transition).inc();
        }
        self.metrics.transitions.get_or_create(&transition).inc();
        let latest = self.table.get(uid).latest;
        if let Some(pod) = latest.filter(|_| next.is_terminal() && before.is_waiting()) {
            self.trace_end(uid, &pod, clock::now());
        }
    }

    fn lists(&self) -> Lists {
        if self.fleet.is_read() && self.pods.is_synced() { Lists::Read } else { Lists::NotYet }
    }

    fn blocked(&self) -> std::sync::MutexGuard<'_, Blocked> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Exponential, capped, with full jitter in its upper half.
fn back_off(first: Duration, cap: Duration, failures: u32) -> Duration {
    let exponent = failures.saturating_sub(1).min(16);
    let whole = first.saturating_mul(1 << exponent).min(cap);
    whole.mul_f64(rand::rng().random_range(0.5..=1.0))
}
