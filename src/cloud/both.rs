//! Two clouds as one: EC2 and RunPod behind one [`Cloud`].
//!
//! A launch goes where its spec says, everything about one instance where its id says: EC2's begin with `i-`.
//!
//! Of lists, a provider's absence must neither hide what the other shows nor look as if its own instances were gone.
//! So a list of both is what each shows now, or, of one that does not answer in time, what it showed last:
//!
//! - EC2 must have answered once, or there is no list: nothing is decided before that.
//! - RunPod need not have: its outage must not keep EC2's pods from being looked after when ORCA starts. Until it answers
//!   none of its instances are in the list, and none is lost by that: whoever would destroy something reads the
//!   instances that the pod names live first, and a read of RunPod's fails then; a launch that may have been made there
//!   is looked for there before it is made again.
//!
//! That a provider does not answer is told by [`Cloud::trouble`] and [`Clouds::troubles`], since the list itself does not
//! say so. One alone is as it is: its list or its error.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Cloud, CloudError, Instance, LaunchSpec, Leftover, LeftoverKind, ScheduledEvent};

/// RunPod counts requests by the minute and the day, and EC2 is listed far more often while its machines boot: what
/// RunPod showed is good for so long.
const PACE: Duration = Duration::from_secs(8);
/// RunPod answers in a second or two; when it does not, EC2's list comes without it.
const RUNPOD_PATIENCE: Duration = Duration::from_secs(3);
/// Half of what whoever lists has. EC2's calls are repeated and wait for their rate.
const EC2_PATIENCE: Duration = Duration::from_secs(30);

/// Whose machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    Ec2,
    RunPod,
}

impl Provider {
    /// Whose instance that is, by the form of its id.
    #[must_use]
    pub fn of_id(id: &str) -> Self {
        if id.starts_with("i-") { Self::Ec2 } else { Self::RunPod }
    }

    /// Whose launch that is.
    #[must_use]
    pub fn of_spec(spec: &LaunchSpec) -> Self {
        if spec.runpod.is_some() { Self::RunPod } else { Self::Ec2 }
    }

    /// For people and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::RunPod => "runpod",
        }
    }
}

/// What there is of the two.
#[derive(Debug)]
pub struct Clouds {
    ec2: Option<Part>,
    runpod: Option<Part>,
}

#[derive(Debug)]
struct Part {
    cloud: Arc<dyn Cloud>,
    provider: Provider,
    /// What it showed is good for so long.
    pace: Duration,
    /// The other's list waits for this one's for so long; it then goes on by itself.
    patience: Duration,
    /// The list that is being read.
    under_way: tokio::sync::Mutex<Option<AbortOnDropHandle<()>>>,
    shown: Arc<Mutex<Shown>>,
}

/// What a provider showed last.
#[derive(Debug, Default)]
struct Shown {
    list: Option<Vec<Instance>>,
    /// Why it was not shown when it was asked for last.
    trouble: Option<CloudError>,
    /// When that was answered.
    at: Option<Instant>,
}

impl Clouds {
    /// Of those that are configured.
    #[must_use]
    pub fn new(ec2: Option<Arc<dyn Cloud>>, runpod: Option<Arc<dyn Cloud>>) -> Self {
        Self {
            ec2: ec2.map(|cloud| Part::new(cloud, Provider::Ec2, Duration::ZERO, EC2_PATIENCE)),
            runpod: runpod.map(|cloud| Part::new(cloud, Provider::RunPod, PACE, RUNPOD_PATIENCE)),
        }
    }

    /// Whose last list failed, and why.
    #[must_use]
    pub fn troubles(&self) -> Vec<(Provider, CloudError)> {
        let trouble = |part: &Part| Some((part.provider, part.shown().trouble.clone()?));
        self.ec2.iter().chain(&self.runpod).filter_map(trouble).collect()
    }

    /// Whether this provider was ever listed in whole. One that is not configured has nothing to list.
    #[must_use]
    pub fn is_read(&self, provider: Provider) -> bool {
        self.part(provider).is_none_or(|part| part.shown().list.is_some())
    }

    fn part(&self, provider: Provider) -> Option<&Part> {
        match provider {
            Provider::Ec2 => self.ec2.as_ref(),
            Provider::RunPod => self.runpod.as_ref(),
        }
    }

    fn of(&self, provider: Provider) -> Result<&dyn Cloud, CloudError> {
        let part = self.part(provider).ok_or_else(|| CloudError::Invalid {
            code: "NotConfigured".to_owned(),
            message: format!("the configuration has no section for {}", provider.name()),
        })?;
        Ok(&*part.cloud)
    }
}

impl Part {
    fn new(cloud: Arc<dyn Cloud>, provider: Provider, pace: Duration, patience: Duration) -> Self {
        Self {
            cloud,
            provider,
            pace,
            patience,
            under_way: tokio::sync::Mutex::default(),
            shown: Arc::default(),
        }
    }

    /// What it shows.
    ///
    /// # Errors
    /// It does not.
    async fn list_alone(&self) -> Result<Vec<Instance>, CloudError> {
        let list = self.cloud.instances().await?;
        // Nobody asks for the old one.
        self.shown().list = Some(Vec::new());
        Ok(list)
    }

    /// What it shows beside another, or showed last.
    ///
    /// # Errors
    /// It never showed anything.
    async fn list(&self) -> Result<Vec<Instance>, CloudError> {
        self.refresh().await;
        let shown = self.shown();
        shown.list.clone().ok_or_else(|| shown.trouble.clone().unwrap_or_else(|| self.late()))
    }

    /// Reads the list anew if that is due. Whoever gives up waiting takes nothing away: the list is read on.
    async fn refresh(&self) {
        let mut under_way = self.under_way.lock().await;
        if self.shown().at.is_some_and(|at| at.elapsed() < self.pace) {
            return;
        }
        let reading = under_way.get_or_insert_with(|| {
            let (cloud, shown, provider) = (self.cloud.clone(), self.shown.clone(), self.provider);
            AbortOnDropHandle::new(tokio::spawn(async move {
                let answer = cloud.instances().await;
                lock(&shown).take(provider, answer);
            }))
        });
        match timeout(self.patience, reading).await {
            Ok(_) => *under_way = None,
            Err(_) => {
                let late = self.late();
                self.shown().trouble.get_or_insert(late);
            }
        }
    }

    fn late(&self) -> CloudError {
        CloudError::Transient {
            code: "Timeout".to_owned(),
            message: format!(
                "{} did not list its instances within {:?}",
                self.provider.name(),
                self.patience
            ),
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        lock(&self.shown)
    }
}

impl Shown {
    fn take(&mut self, provider: Provider, answer: Result<Vec<Instance>, CloudError>) {
        self.at = Some(Instant::now());
        let provider = provider.name();
        match answer {
            Ok(list) => {
                if self.trouble.take().is_some() {
                    tracing::info!(provider, "the list of instances is whole again");
                }
                self.list = Some(list);
            }
            Err(error) => {
                if self.trouble.as_ref() != Some(&error) {
                    let is_known = self.list.is_some();
                    tracing::warn!(provider, %error, is_known, "listing one provider's instances failed");
                }
                self.trouble = Some(error);
            }
        }
    }
}

fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Cloud for Clouds {
    async fn admit(&self, spec: &LaunchSpec) -> Result<(), CloudError> {
        self.of(Provider::of_spec(spec))?.admit(spec).await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance, CloudError> {
        self.of(Provider::of_spec(spec))?.launch(spec).await
    }

    async fn instances(&self) -> Result<Vec<Instance>, CloudError> {
        match (&self.ec2, &self.runpod) {
            (Some(ec2), Some(runpod)) => {
                let (ec2, runpod) = tokio::join!(ec2.list(), runpod.list());
                let mut all = ec2?;
                // Never read: it has nothing to add, and its trouble is told.
                all.extend(runpod.unwrap_or_default());
                Ok(all)
            }
            (Some(part), None) | (None, Some(part)) => part.list_alone().await,
            (None, None) => Ok(Vec::new()),
        }
    }

    fn trouble(&self) -> Option<CloudError> {
        self.troubles().into_iter().map(|(_, error)| error).next()
    }

    async fn instance(&self, id: &str) -> Result<Option<Instance>, CloudError> {
        self.of(Provider::of_id(id))?.instance(id).await
    }

    async fn terminate(&self, id: &str) -> Result<(), CloudError> {
        self.of(Provider::of_id(id))?.terminate(id).await
    }

    async fn tag(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        self.of(Provider::of_id(id))?.tag(id, tags).await
    }

    async fn console(&self, id: &str) -> Result<String, CloudError> {
        self.of(Provider::of_id(id))?.console(id).await
    }

    /// Only EC2 announces anything.
    async fn scheduled_events(&self) -> Result<Vec<ScheduledEvent>, CloudError> {
        if self.ec2.is_none() {
            return Ok(Vec::new());
        }
        self.of(Provider::Ec2)?.scheduled_events().await
    }

    /// Only EC2 has volumes and network interfaces of their own.
    async fn leftovers(&self, kind: LeftoverKind) -> Result<Vec<Leftover>, CloudError> {
        if self.ec2.is_none() {
            return Ok(Vec::new());
        }
        self.of(Provider::Ec2)?.leftovers(kind).await
    }

    async fn discard(&self, kind: LeftoverKind, id: &str) -> Result<(), CloudError> {
        self.of(Provider::Ec2)?.discard(kind, id).await
    }
}

#[cfg(test)]
mod tests;
