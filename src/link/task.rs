//! The task of one machine: dial, pin, bootstrap, serve its gateway, keep in contact; and again when that ends.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::backoff::Backoff;
use super::bootstrap::{self, Plugins};
use super::forward::{self, Forwards};
use super::health;
use super::live::LinkSettings;
use super::notice;
use super::pin::pin;
use super::sessions::{Down, Sessions};
use super::wire::{Dial, Purpose, Wire, input};
use super::{LinkState, LinkStatus, Machine, Metrics};
use crate::cloud::Cloud;
use crate::gateway::Progress;
use crate::guest::FactsError;
use crate::keys::Keys;
use crate::leader::Fence;
use crate::tunnel::{ByteStream, TunnelError};
use crate::{clock, guest};

/// How often a machine is told that somebody looks after it, unless its patience is short; and how often its kubelet is
/// asked how it is.
const CONTACT_PERIOD: Duration = Duration::from_secs(30);
/// For contact, and again for the kubelet's answer. A tunnel that is slower than this is no tunnel.
const CONTACT_DEADLINE: Duration = Duration::from_secs(15);
/// A machine that never ran its pod is given up when its bootstrap has failed for so long.
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(300);
/// Connections of one kubelet to its gateway. It has one with HTTP/2, or a handful.
const MAX_GATEWAY_STREAMS: usize = 64;

/// What all links share.
pub(super) struct Hub {
    pub(super) metrics: Metrics,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) sessions: Sessions,
    pub(super) cloud: Arc<dyn Cloud>,
    pub(super) keys: Keys,
    pub(super) settings: LinkSettings,
    /// Asked before another's session on a machine is ended.
    pub(super) fence: Fence,
    pub(super) forwards: Arc<Forwards>,
    pub(super) plugins: Arc<Plugins>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) health: health::Ask,
    pub(super) changes: broadcast::Sender<String>,
}

impl Hub {
    /// A new connection, once sessions are given.
    async fn dial(
        &self,
        machine: &Machine,
        pin: Option<String>,
        purpose: Purpose,
    ) -> Result<Arc<dyn Wire>, TunnelError> {
        let pass = self.sessions.pass(&machine.instance_id, purpose).await?;
        let dialed = self.dial.dial(machine, pin, purpose).await;
        pass.note(&dialed);
        dialed
    }
}

/// A machine's session with the gateway, as far as a link needs it.
pub(super) struct Upstream {
    pub(super) token: String,
    pub(super) progress: watch::Receiver<Progress>,
    /// Whether the kubelet may list its pod: not before the machine has all that the pod needs.
    pub(super) prepared: watch::Sender<bool>,
    /// Serves one connection of the machine's kubelet.
    pub(super) serve: Box<dyn Fn(ByteStream) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// One link, without its connections.
pub(super) struct Link {
    pub(super) hub: Arc<Hub>,
    pub(super) machine: Machine,
    pub(super) upstream: Upstream,
    /// Whether the machine is to be switched off.
    pub(super) shut_down: watch::Sender<bool>,
    status: Mutex<LinkStatus>,
    pin: Mutex<Option<String>>,
}

/// Why an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setback {
    /// The next one may succeed.
    Again(String),
    /// None will.
    Broken(String),
}

impl From<TunnelError> for Setback {
    fn from(error: TunnelError) -> Self {
        match error {
            TunnelError::HostKey { .. } => Self::Broken(error.to_string()),
            TunnelError::NotYet(_)
            | TunnelError::Throttled(_)
            | TunnelError::Denied(_)
            | TunnelError::Refused(_)
            | TunnelError::Timeout(..)
            | TunnelError::Lost(_) => Self::Again(error.to_string()),
        }
    }
}

impl Link {
    pub(super) fn new(hub: Arc<Hub>, machine: Machine, upstream: Upstream) -> Self {
        let status = LinkStatus {
            instance_id: machine.instance_id.clone(),
            state: LinkState::Dialing { since: clock::now(), error: None, was_attached: false },
            shown: upstream.progress.borrow().shown,
            reached: None,
            attached: None,
            notice: None,
            usable: None,
            has_nvidia: machine.nvidia().is_some(),
        };
        let pin = Mutex::new(machine.host_key.clone());
        Self { hub, machine, upstream, shut_down: watch::Sender::new(false), status: Mutex::new(status), pin }
    }

    pub(super) fn status(&self) -> LinkStatus {
        self.lock().clone()
    }

    /// The host key that every connection to the machine must prove.
    pub(super) fn pin(&self) -> Option<String> {
        self.pin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_pin(&self, key: String) {
        *self.pin.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// One more connection, to a machine that has proved its key before.
    pub(super) async fn dial(&self, purpose: Purpose) -> Result<Arc<dyn Wire>, TunnelError> {
        let Some(pin) = self.pin() else {
            return Err(TunnelError::NotYet("the machine's host key is not known yet".to_owned()));
        };
        self.hub.dial(&self.machine, Some(pin), purpose).await
    }

    fn lock(&self) -> MutexGuard<'_, LinkStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the status, and tells if it did.
    pub(super) fn update(&self, change: impl FnOnce(&mut LinkStatus)) {
        let mut status = self.lock();
        let before = status.clone();
        change(&mut status);
        if *status != before {
            drop(status);
            // Nobody may be listening.
            drop(self.hub.changes.send(self.machine.pod_uid.clone()));
        }
    }

    fn step(&self, step: &'static str) {
        self.update(|status| {
            status.state = LinkState::Bootstrapping { since: unattached_since(&status.state), step };
        });
    }

    /// The last attempt ended.
    fn dialing(&self, error: String, was_attached: bool) {
        let progress = *self.upstream.progress.borrow();
        self.update(|status| {
            let since = unattached_since(&status.state);
            status.state = LinkState::Dialing { since, error: Some(error), was_attached };
            note(status, progress);
        });
    }
}

/// Since when the link has not been attached, however many attempts were made.
fn unattached_since(state: &LinkState) -> Timestamp {
    match state {
        LinkState::Dialing { since, .. }
        | LinkState::Bootstrapping { since, .. }
        | LinkState::Broken { since, .. } => *since,
        LinkState::Attached { .. } => clock::now(),
    }
}

/// What outlives an attempt.
#[derive(Default)]
struct Past<'a> {
    /// While there is no connection.
    down: Option<Down<'a>>,
    /// Boot id of the last attachment.
    attached: Option<String>,
    /// Whether the last attempt got as far as that.
    succeeded: bool,
    /// The kubelet did not answer, and nobody has heard of it since.
    sick: bool,
    /// Since when looks and bootstraps have failed.
    fails_since: Option<Instant>,
}

impl Past<'_> {
    /// What failed again and again for long enough will fail for ever.
    fn lose_patience(&mut self, setback: Setback) -> Setback {
        let since = *self.fails_since.get_or_insert_with(Instant::now);
        match setback {
            Setback::Again(error) if since.elapsed() >= BOOTSTRAP_PATIENCE => Setback::Broken(error),
            other => other,
        }
    }
}

/// Keeps the link until it is dropped, or broken.
pub(super) async fn run(link: Arc<Link>) {
    tokio::join!(
        keep(&link),
        follow_progress(&link),
        link.hub.plugins.prepare(&link.machine.instance_type.arch)
    );
}

async fn follow_progress(link: &Link) {
    let mut progress = link.upstream.progress.clone();
    loop {
        let now = *progress.borrow_and_update();
        link.update(|status| note(status, now));
        // An error means that the gateway has forgotten the guest: it will never be shown.
        if progress.changed().await.is_err() {
            return;
        }
    }
}

/// A first attachment is one change: a pod that was shown by a machine that is not attached looks as after a reboot. So
/// what is shown during a bootstrap is noted with what the bootstrap leads to.
pub(super) fn note(status: &mut LinkStatus, progress: Progress) {
    status.usable = progress.usable;
    let is_under_way = matches!(status.state, LinkState::Bootstrapping { .. });
    if progress.shown && !status.shown && !is_under_way {
        status.shown = true;
        status.attached = Some(clock::now());
    }
}

async fn keep(link: &Link) {
    let machine = &link.machine;
    let mut past = Past::default();
    let mut backoff = Backoff::new();
    let mut told = String::new();
    loop {
        past.succeeded = false;
        let setback = match attempt(link, &mut past).await {
            Ok(never) => match never {},
            Err(setback) => setback,
        };
        let error = match setback {
            Setback::Again(error) => error,
            Setback::Broken(error) => {
                tracing::error!(
                    pod.uid = machine.pod_uid,
                    instance.id = machine.instance_id,
                    error,
                    "link is broken"
                );
                let progress = *link.upstream.progress.borrow();
                link.update(|status| {
                    status.state = LinkState::Broken { since: clock::now(), error };
                    note(status, progress);
                });
                return;
            }
        };
        if past.succeeded {
            link.hub.metrics.lost.inc();
            backoff = Backoff::new();
        }
        if past.succeeded || told != error {
            tracing::info!(
                pod.uid = machine.pod_uid,
                instance.id = machine.instance_id,
                error,
                "link is down, dialing"
            );
            told.clone_from(&error);
        }
        link.dialing(error, past.attached.is_some());
        sleep(backoff.pause(rand::random())).await;
    }
}

/// One connection, from its first byte to its end.
async fn attempt<'a>(link: &'a Link, past: &mut Past<'a>) -> Result<Infallible, Setback> {
    let sessions = &link.hub.sessions;
    past.down.get_or_insert_with(|| sessions.down());
    if let Some(refusal) = sessions.refusal() {
        link.dialing(format!("no machine can be reached: {refusal}"), past.attached.is_some());
    }
    let wire = link.hub.dial(&link.machine, link.pin(), Purpose::Control).await?;
    past.down = None;
    let wire = wire.as_ref();
    link.update(|status| {
        status.reached.get_or_insert_with(clock::now);
    });
    link.step("learning what the machine is");
    // The probe holds nothing secret, so it need not wait for the pin.
    let ((), probed) = tokio::try_join!(pin(link, wire.host_key()), bootstrap::probe(wire))?;
    let facts = match probed.facts {
        Ok(facts) => facts,
        Err(error) => {
            let setback = match error {
                FactsError::Missing(_) | FactsError::Unusable { .. } => Setback::Broken(error.to_string()),
                FactsError::Unknown { .. } => Setback::Again(error.to_string()),
            };
            // A pod that runs there is not to die of a look that failed.
            let keep = probed.bootstrapped || past.attached.is_some();
            return Err(if keep { Setback::Again(error.to_string()) } else { past.lose_patience(setback) });
        }
    };
    let streams = watch::Sender::new(0_usize);
    // The kubelet comes up while the rest still goes over.
    link.upstream.prepared.send_replace(false);
    let work = async {
        link.step("sending files and starting the kubelet");
        if let Err(setback) = bootstrap::apply(link, wire, &facts).await {
            // A pod that runs there is not to die of it.
            return Err(if facts.bootstrapped { setback } else { past.lose_patience(setback) });
        }
        past.fails_since = None;
        link.upstream.prepared.send_replace(true);
        link.step("waiting for the kubelet to list its pod");
        let attached = async {
            // After a reboot the pod was shown before; then the new kubelet must have come, too. A pod that was
            // deleted by force while ORCA was away is never shown again: that its kubelet knows must do.
            let mut served = streams.subscribe();
            let enough = usize::from(past.attached.as_ref() != Some(&facts.boot_id));
            let mut progress = link.upstream.progress.clone();
            if served.wait_for(|served| *served >= enough).await.is_err()
                || progress.wait_for(|progress| progress.shown || progress.told_gone).await.is_err()
            {
                return Err(Setback::Again("the gateway has forgotten this machine".to_owned()));
            }
            if past.sick {
                link.step("waiting for the kubelet to answer");
                health::until_well(link, wire).await;
                past.sick = false;
            }
            past.attached = Some(facts.boot_id.clone());
            past.succeeded = true;
            let boot_id = facts.boot_id.clone();
            let now = *progress.borrow();
            link.update(|status| {
                status.state = LinkState::Attached { since: clock::now(), boot_id };
                note(status, now);
            });
            tracing::info!(
                pod.uid = link.machine.pod_uid,
                instance.id = link.machine.instance_id,
                kubelet = facts.kubelet_version,
                "link is attached"
            );
            let ended = health::watch(link, wire).await;
            past.sick = true;
            ended
        };
        tokio::try_join!(attached, keep_contact(link, wire)).map(|(never, _)| never)
    };
    tokio::select! {
        reason = wire.closed() => Err(Setback::Again(format!("connection lost: {reason}"))),
        ended = serve_gateway(link, wire, &streams) => ended,
        ended = work => ended,
        ended = notice::watch(link, wire) => ended,
        ended = notice::shut_down(link, wire) => ended,
    }
}

/// Hands what the machine's kubelet sends to the gateway.
async fn serve_gateway(
    link: &Link,
    wire: &dyn Wire,
    served: &watch::Sender<usize>,
) -> Result<Infallible, Setback> {
    let forward = link.hub.forwards.enter(&link.machine.instance_id);
    let mut streams = forward::listen(link, wire, &forward).await?;
    // Ends with this function, and what it serves with it.
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            stream = streams.recv(), if serving.len() < MAX_GATEWAY_STREAMS => {
                let stream = stream.ok_or_else(|| Setback::Again("the forwarding ended".to_owned()))?;
                serving.spawn((link.upstream.serve)(stream));
                served.send_modify(|served| *served += 1);
            }
            Some(ended) = serving.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(instance.id = link.machine.instance_id, %error, "gateway connection");
                }
            }
        }
    }
}

/// Puts off the machine's own end, four times in its patience.
async fn keep_contact(link: &Link, wire: &dyn Wire) -> Result<Infallible, Setback> {
    let period = (link.hub.settings.max_lost_contact / 4).clamp(Duration::from_secs(1), CONTACT_PERIOD);
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let done = wire.exec(guest::CONTACT, input(""), CONTACT_DEADLINE).await?;
        if done.code != Some(0) {
            let text = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            return Err(Setback::Again(format!("contact failed: {text}")));
        }
    }
}
