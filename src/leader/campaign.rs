//! The thin shell of the election: reads, watches and writes the Lease as the elector says.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::{Client, Error};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::elector::{Elector, Lost, Step};
use super::record::Record;
use super::{Fence, Metrics};
use crate::clock;
use crate::config::LeaderElection;
use crate::failpoint::{self, Write};

/// One answer of the API server, where nothing else bounds it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A watch ends after this, and is begun again.
const WATCH: u32 = 240;

/// Who stands for election, and where.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// No two processes that live at one time may have the same.
    pub identity: String,
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    pub settings: LeaderElection,
    pub fence: Fence,
    pub metrics: Metrics,
}

/// What this process is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It does not know yet.
    Stands,
    /// It is ready to act, and somebody else does, if anybody.
    Follows { holder: Option<String> },
    /// It acts; the one before was this.
    Leads { before: Option<String> },
    /// It has led, and must not act any more.
    Lost(Lost),
}

/// An election that goes on. Dropped, it renews no more, and the Lease runs out.
#[derive(Debug)]
pub struct Election {
    role: watch::Receiver<Role>,
    resign: Option<oneshot::Sender<()>>,
    task: Option<AbortOnDropHandle<Result<(), Error>>>,
}

impl Election {
    /// This process leads, because nobody else ever does.
    #[must_use]
    pub fn unopposed(metrics: &Metrics) -> Self {
        metrics.leader.set(1);
        let (_, role) = watch::channel(Role::Leads { before: None });
        Self { role, resign: None, task: None }
    }

    /// Stands for election, within a tokio runtime. The client must not be guarded by the candidate's own fence.
    #[must_use]
    pub fn start(client: Client, candidate: Candidate) -> Self {
        let (role, told) = watch::channel(Role::Stands);
        let (resign, resigned) = oneshot::channel();
        let campaign = Campaign {
            api: Api::namespaced(client, &candidate.namespace),
            elector: Elector::new(&candidate.identity, candidate.settings),
            candidate,
            latest: None,
            changes: None,
            role,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(campaign.run(resigned)));
        Self { role: told, resign: Some(resign), task: Some(task) }
    }

    /// What this process is, with changes.
    #[must_use]
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Gives the Lease up, if this process has it, so that nobody has to wait. Nothing may be changed any more.
    ///
    /// # Errors
    /// The API server does not take it: the Lease runs out by itself.
    pub async fn resign(self, deadline: Duration) -> anyhow::Result<()> {
        let Self { role: _, resign, task } = self;
        if let Some(resign) = resign
            && resign.send(()).is_err()
        {
            tracing::debug!("the election has ended by itself");
        }
        match task {
            Some(task) => Ok(timeout(deadline, task).await???),
            None => Ok(()),
        }
    }
}

type Changes = Pin<Box<dyn Stream<Item = Result<WatchEvent<Lease>, Error>> + Send>>;

struct Campaign {
    candidate: Candidate,
    api: Api<Lease>,
    elector: Elector,
    /// As it was last seen, for its version.
    latest: Option<Lease>,
    changes: Option<Changes>,
    role: watch::Sender<Role>,
}

impl Campaign {
    async fn run(mut self, mut resigned: oneshot::Receiver<()>) -> Result<(), Error> {
        loop {
            let ended = tokio::select! {
                biased;
                // Dropped without a word, it has nobody to answer to.
                _ = &mut resigned => return self.resign().await,
                ended = self.step() => ended,
            };
            if let Some(lost) = ended {
                self.candidate.fence.close();
                self.candidate.metrics.leader.set(0);
                self.role.send_replace(Role::Lost(lost));
                return Ok(());
            }
        }
    }

    /// One step; the reason when it was the last.
    async fn step(&mut self) -> Option<Lost> {
        match self.elector.next(clock::since_boot()) {
            Step::Wait(until) => self.wait(until).await,
            Step::Read => self.read().await,
            Step::Write => self.write().await,
            Step::StandDown(lost) => return Some(lost),
        }
        None
    }

    /// Until then, or until the Lease is seen to change. A leader has nothing to see: its next write tells it.
    async fn wait(&mut self, until: Duration) {
        let pause = until.saturating_sub(clock::since_boot());
        if self.elector.leads_until().is_some() {
            return sleep(pause).await;
        }
        match timeout(pause, next_change(&mut self.changes)).await {
            Err(_) => {}
            Ok(Some(Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease)))) => self.looked(Some(lease)),
            Ok(Some(Ok(WatchEvent::Deleted(_)))) => self.looked(None),
            Ok(Some(Ok(WatchEvent::Bookmark(_)))) => {}
            Ok(ended @ (None | Some(Ok(WatchEvent::Error(_)) | Err(_)))) => {
                tracing::debug!(?ended, "the watch of the Lease ended");
                self.changes = None;
                // In a pause, not at once: an API server that goes away ends watches as soon as they are begun.
                sleep(self.candidate.settings.retry_period / 2).await;
                self.elector.overtaken();
            }
        }
    }

    async fn read(&mut self) {
        let began = clock::since_boot();
        match timeout(self.patience(), self.api.get_opt(&self.candidate.name)).await {
            Ok(Ok(lease)) => {
                self.looked(lease);
                if self.elector.leads_until().is_none() {
                    self.watch().await;
                }
            }
            Ok(Err(error)) => self.failed("reading", began, &error),
            Err(_) => self.failed("reading", began, &"no answer in time"),
        }
    }

    async fn watch(&mut self) {
        let Some(version) = self.latest.as_ref().and_then(|it| it.metadata.resource_version.clone()) else {
            self.changes = None;
            return;
        };
        let which =
            WatchParams::default().fields(&format!("metadata.name={}", self.candidate.name)).timeout(WATCH);
        self.changes = match timeout(PATIENCE, self.api.watch(&which, &version)).await {
            Ok(Ok(changes)) => Some(changes.boxed()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the Lease cannot be watched now");
                None
            }
            Err(_) => None,
        };
    }

    async fn write(&mut self) {
        let began = clock::since_boot();
        let claim = self.elector.claim(clock::now());
        let before = self.elector.holder().map(str::to_owned);
        let written = self.put(claim);
        match timeout(self.patience(), written).await {
            Ok(Ok(lease)) => self.wrote(lease, began, before),
            Ok(Err(Error::Api(status)))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                // Who wrote in between is read at once.
                self.elector.overtaken();
                if status.is_not_found() {
                    self.latest = None;
                }
            }
            Ok(Err(error)) => self.failed("writing", began, &error),
            Err(_) => self.failed("writing", began, &"no answer in time"),
        }
    }

    /// Writes it over the Lease as it was last seen, and over no other.
    fn put(&self, record: Record) -> impl Future<Output = Result<Lease, Error>> + Send + use<> {
        let (api, name, is_there) = (self.api.clone(), self.candidate.name.clone(), self.latest.is_some());
        let lease = record.into_lease(&name, &self.candidate.namespace, self.latest.clone());
        failpoint::around(Write::LeaderLease, async move {
            match is_there {
                true => api.replace(&name, &PostParams::default(), &lease).await,
                false => api.create(&PostParams::default(), &lease).await,
            }
        })
    }

    fn wrote(&mut self, lease: Lease, began: Duration, before: Option<String>) {
        let is_new = self.elector.leads_until().is_none();
        self.elector.wrote(Record::of(&lease), began);
        self.latest = Some(lease);
        self.heard();
        if let Some(until) = self.elector.leads_until() {
            self.candidate.fence.extend(until);
        }
        if is_new {
            self.changes = None;
            self.candidate.metrics.elections.inc();
            self.candidate.metrics.leader.set(1);
            self.role.send_replace(Role::Leads { before });
        }
    }

    fn looked(&mut self, lease: Option<Lease>) {
        self.elector.looked(lease.as_ref().map(Record::of), clock::since_boot());
        self.latest = lease;
        self.heard();
        if self.elector.leads_until().is_none() {
            let holder = self.elector.holder().map(str::to_owned);
            self.role.send_if_modified(|role| {
                let now = Role::Follows { holder };
                let is_news = *role != now;
                *role = now;
                is_news
            });
        }
    }

    fn failed(&mut self, what: &'static str, began: Duration, error: &dyn std::fmt::Display) {
        self.candidate.metrics.failures.inc();
        self.elector.failed(began);
        let Candidate { namespace, name, .. } = &self.candidate;
        let leads = self.elector.leads_until().is_some();
        tracing::warn!(lease = format!("{namespace}/{name}"), leads, %error, "{what} the Lease of the election failed");
    }

    fn heard(&self) {
        self.candidate.metrics.heard.set(clock::now().as_second());
    }

    /// For one request: half of what is left, so that another can be made.
    fn patience(&self) -> Duration {
        let Some(until) = self.elector.leads_until() else { return PATIENCE };
        let left = until.saturating_sub(clock::since_boot());
        (left / 2).max(Duration::from_millis(500)).min(left)
    }

    /// Everything of this process has ended: nobody has to wait for its Lease.
    async fn resign(mut self) -> Result<(), Error> {
        let led = self.elector.leads_until().is_some();
        self.candidate.fence.close();
        self.candidate.metrics.leader.set(0);
        if !led {
            return Ok(());
        }
        // A renewal that was cut off may have been made: what is there now is written over, if it is ours.
        let lease = self.api.get_opt(&self.candidate.name).await?;
        self.looked(lease);
        if self.elector.holder() == Some(&self.candidate.identity) {
            let given_up = self.put(self.elector.resignation(clock::now()));
            given_up.await?;
            tracing::info!(identity = self.candidate.identity, "gave the Lease up");
        }
        Ok(())
    }
}

/// The next change; never, where nothing is watched.
async fn next_change(changes: &mut Option<Changes>) -> Option<Result<WatchEvent<Lease>, Error>> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
