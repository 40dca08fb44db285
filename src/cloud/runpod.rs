//! RunPod, by its REST API v2 (<https://api.runpod.io/v2>): what is asked of it and what it answers, in our words.
//!
//! RunPod has no tags, no tokens and no end of a log; nothing outside this module knows that, nor its JSON. It decides
//! nothing about pods of Kubernetes. Calls are made, counted and repeated in `client`; `errors` says what a refusal
//! means, `book` what is known of pods that are seen and of those that are not any more, `launch` how one token makes one
//! pod. There is no call that stops a pod: what runs no more is deleted.

mod balance;
mod book;
mod client;
mod errors;
mod funds;
mod governor;
mod http;
mod key;
mod launch;
mod logs;
mod markers;
mod metrics;
mod money;
mod types;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use super::{Cloud, CloudError, Instance, LaunchSpec, Leftover, LeftoverKind, ScheduledEvent};
use crate::config::RunPod;
use crate::leader::Fence;
use crate::telemetry::CloudCalls;
pub use balance::{Balance, BalanceSource, GraphQl};
use book::Book;
pub use client::{
    Bill, BillingQuery, Client, CpuOffer, DataCenter, GpuOffer, GpuQuery, Level, Listed, NetworkVolume,
    Place, Registry,
};
pub use errors::codes;
use errors::{Kind, Refusal};
use funds::Funds;
pub use key::{ApiKey, KeyError, KeyFile, KeySource};
pub use logs::{LogLine, LogQuery, MOST_TAIL, PodLog, Source, Until};
use markers::Owner;
pub use metrics::Metrics;
use money::Breaker;
pub use money::Thrift;
pub use types::{
    CloudTier, CudaVersion, Hardware, MARKER_PREFIX, Mapping, Order, Port, PortKind, Sighting, Status, Volume,
};

/// Lines of the system's log that are a pod's console.
const CONSOLE_LINES: u32 = 200;
/// It has no end: nothing more for so long is taken for it.
const CONSOLE_SILENCE: Duration = Duration::from_secs(2);
/// For the whole of it.
const CONSOLE_DEADLINE: Duration = Duration::from_secs(15);

/// The account at RunPod, as far as it concerns one virtual node of one cluster.
#[derive(Debug)]
pub struct RunPodCloud {
    client: Client,
    owner: Owner,
    thrift: Thrift,
    /// `None`: nobody knows the balance.
    funds: Option<Funds>,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    book: Book,
    asked: launch::Asked,
    breaker: Breaker,
    /// The key that the breaker opened with.
    refused_key: Option<ApiKey>,
}

impl RunPodCloud {
    /// The account of this client, as it concerns the node of this name in the cluster of this identity (see
    /// [`super::TAG_CLUSTER`]).
    #[must_use]
    pub fn new(
        client: Client,
        cluster_id: &str,
        node: &str,
        thrift: Thrift,
        balance: Option<Arc<dyn BalanceSource>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            owner: Owner { cluster_id: cluster_id.to_owned(), node: node.to_owned() },
            thrift,
            funds: balance.map(|source| Funds::new(source, metrics.clone())),
            metrics,
            state: Mutex::default(),
        }
    }

    /// The same, as the configuration has it; what changes something is not sent while the fence is closed.
    #[must_use]
    pub fn of_config(
        config: &RunPod,
        cluster_id: &str,
        node: &str,
        fence: &Fence,
        calls: &CloudCalls,
        metrics: Metrics,
    ) -> Self {
        let key = || KeySource::file(&config.api_key_file);
        let client = Client::new(&config.endpoint, key(), calls.clone()).behind(fence);
        let balance = GraphQl::new(&config.graphql_endpoint, key(), calls.clone());
        let thrift = Thrift { min_runway: config.min_runway, spend_limit: config.spend_limit };
        Self::new(client, cluster_id, node, thrift, Some(Arc::new(balance)), metrics)
    }

    /// The client, for what is no machine: the catalog, logs, bills.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Deletes what can never run again and is still there after ten minutes: a pod in the state ERROR, which others take
    /// for gone, keeps its disk and costs it. To be called now and then by whoever leads. Answers how many were deleted.
    pub async fn bury(&self) -> usize {
        let all = self.state().book.unburied(Instant::now());
        let mut count = 0;
        for one in &all {
            count += usize::from(self.end(one, "it can never run again").await);
        }
        count
    }

    /// Reads one list of everything, and takes it over.
    async fn read_list(&self) -> Result<(), Refusal> {
        let began = Instant::now();
        let listed = self.client.list_pods().await?;
        let ours = self.ours(listed).await?;
        self.state().book.list(ours, began, Instant::now());
        self.metrics.standing(&self.client.governor().standing());
        Ok(())
    }

    /// Those of a list that are this node's. Where it does not tell whose a pod is, that pod is read alone: to miss one
    /// is to take it for gone.
    async fn ours(&self, listed: Listed) -> Result<Vec<Sighting>, Refusal> {
        let Listed { pods, without_env } = listed;
        let mut ours = Vec::new();
        for pod in pods {
            let is_dark = without_env.contains(&pod.id) && self.owner.may_own(&pod);
            if self.owner.owns(&pod) || is_dark && self.state().book.knows(&pod.id) {
                ours.push(pod);
            } else if is_dark && let Some(read) = self.client.get_pod(&pod.id).await? {
                ours.extend(self.whose(read)?);
            }
        }
        Ok(ours)
    }

    /// A pod that was read alone, if it is this node's.
    fn whose(&self, read: client::Read) -> Result<Option<Sighting>, Refusal> {
        let client::Read { seen, tells_env } = read;
        if self.owner.owns(&seen) || !tells_env && self.state().book.knows(&seen.id) {
            return Ok(Some(seen));
        }
        if !tells_env && self.owner.may_own(&seen) {
            let text = format!("nobody knows whose pod {} is: its environment is not told", seen.id);
            return Err(Refusal::new(Kind::Unreadable, text));
        }
        Ok(None)
    }

    /// Reads one pod, and takes it over; `None` if it is not there, or another's.
    async fn read_one(&self, id: &str) -> Result<Option<Sighting>, Refusal> {
        let began = Instant::now();
        let Some(read) = self.client.get_pod(id).await? else {
            self.state().book.missed(id, began, Instant::now());
            return Ok(None);
        };
        let ours = self.whose(read)?;
        if let Some(seen) = &ours {
            self.state().book.put(seen.clone(), began, Instant::now());
        }
        Ok(ours)
    }

    /// Deletes a pod of this node's.
    async fn delete(&self, id: &str) -> Result<(), CloudError> {
        if !self.state().book.knows(id) {
            let began = Instant::now();
            match self.client.get_pod(id).await.map_err(Refusal::into_error)? {
                None => return Ok(()),
                Some(read) => match self.whose(read).map_err(Refusal::into_error)? {
                    Some(seen) => self.state().book.put(seen, began, Instant::now()),
                    None => return Err(not_ours(id)),
                },
            }
        }
        let refusal = match self.client.delete(id).await {
            Ok(()) => {
                self.state().book.deleted(id);
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        // Something else is being done to it, or was.
        if refusal.kind == Kind::Conflict {
            let now = self.read_one(id).await.map_err(Refusal::into_error)?;
            if now.is_none_or(|seen| seen.status == Status::Terminated) {
                self.state().book.deleted(id);
                return Ok(());
            }
        }
        Err(refusal.into_error())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Cloud for RunPodCloud {
    async fn admit(&self, _spec: &LaunchSpec) -> Result<(), CloudError> {
        self.wait_for_turn().await.map_err(Refusal::into_error)
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance, CloudError> {
        let order = spec.runpod.as_deref().filter(|_| !spec.token.is_empty());
        let order = order.ok_or_else(|| CloudError::Invalid {
            code: codes::SCHEMA.to_owned(),
            message: "the launch has no order for RunPod, or no token".to_owned(),
        })?;
        self.launch_once(spec, order).await
    }

    async fn instances(&self) -> Result<Vec<Instance>, CloudError> {
        self.read_list().await.map_err(Refusal::into_error)?;
        Ok(self.state().book.instances(Instant::now()))
    }

    async fn instance(&self, id: &str) -> Result<Option<Instance>, CloudError> {
        self.read_one(id).await.map_err(Refusal::into_error)?;
        // One that is not there is as it was seen last, or gone, or was never known.
        Ok(self.state().book.instance(id))
    }

    async fn terminate(&self, id: &str) -> Result<(), CloudError> {
        self.delete(id).await
    }

    /// RunPod has no tags that belong to a pod, and a pod there has no sshd whose key would be pinned.
    async fn tag(&self, id: &str, _tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        let message = format!("pod {id} is RunPod's, and has no tags");
        Err(CloudError::Invalid { code: codes::NO_TAGS.to_owned(), message })
    }

    /// The end of the system's log: pulls, starts, and errors of the host. Nothing once the pod is deleted.
    async fn console(&self, id: &str) -> Result<String, CloudError> {
        let is_known = self.state().book.knows(id);
        if !is_known && self.read_one(id).await.map_err(Refusal::into_error)?.is_none() {
            return Err(not_ours(id));
        }
        let query = LogQuery {
            source: Some(Source::System),
            tail: Some(CONSOLE_LINES),
            since: None,
            until: Until::Silent(CONSOLE_SILENCE),
        };
        let (mut log, mut text) = (self.client.logs(id, query), String::new());
        let reading = async {
            while let Some(line) = log.next().await? {
                if let Some(at) = line.at {
                    text += &format!("{at} ");
                }
                text += &line.text;
                text.push('\n');
            }
            Ok(())
        };
        let ended: Result<Result<(), CloudError>, _> = timeout(CONSOLE_DEADLINE, reading).await;
        match ended {
            // What came before is worth having.
            Ok(Err(error)) if text.is_empty() => Err(error),
            Ok(_) | Err(_) => Ok(text),
        }
    }

    /// RunPod announces nothing.
    async fn scheduled_events(&self) -> Result<Vec<ScheduledEvent>, CloudError> {
        Ok(Vec::new())
    }

    /// What a pod has goes with it; network volumes are the users' own.
    async fn leftovers(&self, _kind: LeftoverKind) -> Result<Vec<Leftover>, CloudError> {
        Ok(Vec::new())
    }

    async fn discard(&self, kind: LeftoverKind, _id: &str) -> Result<(), CloudError> {
        let message = format!("RunPod has no {} of its own", kind.noun());
        Err(CloudError::Invalid { code: codes::SCHEMA.to_owned(), message })
    }
}

fn not_ours(id: &str) -> CloudError {
    CloudError::NotFound {
        code: codes::NOT_OURS.to_owned(),
        message: format!("pod {id} is not there, or is not this node's"),
    }
}

/// Orders and pods for tests.
#[cfg(test)]
mod testing {
    use super::*;
    use crate::capacity::money::MicroUsd;
    use crate::cloud::{TAG_EPOCH, TAG_POD_NAME, TAG_POD_NAMESPACE, TAG_POD_UID};

    pub(super) fn mk_order() -> Order {
        Order {
            name: "orca-cluster1-uid1-0".to_owned(),
            image: "busybox:1.37".to_owned(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            env: [("MODEL".to_owned(), "llama".to_owned())].into(),
            hardware: Hardware::Gpu {
                id: "NVIDIA L4".to_owned(),
                count: 1,
                min_memory_per_gpu_gb: None,
                min_vcpus_per_gpu: None,
                min_cuda: None,
            },
            cloud: CloudTier::Secure,
            data_center_ids: Vec::new(),
            disk_gb: 20,
            ports: Vec::new(),
            registry_id: None,
            network_volume: None,
        }
    }

    pub(super) fn mk_owner() -> Owner {
        Owner { cluster_id: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".to_owned(), node: "burst".to_owned() }
    }

    pub(super) fn mk_tags() -> BTreeMap<String, String> {
        let tags = [
            (TAG_POD_UID, "7f00aa11-bb22-cc33-dd44-ee55ff667788"),
            (TAG_POD_NAMESPACE, "ml"),
            (TAG_POD_NAME, "train"),
            (TAG_EPOCH, "3"),
        ];
        tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    /// One that runs, of nobody.
    pub(super) fn mk_seen(id: &str) -> Sighting {
        Sighting {
            id: id.to_owned(),
            name: String::new(),
            status: Status::Running,
            markers: BTreeMap::new(),
            hardware_id: "NVIDIA L4".to_owned(),
            gpu_count: 1,
            vcpus: None,
            memory_gb: None,
            image: "busybox:1.37".to_owned(),
            cloud: Some(CloudTier::Secure),
            data_center_id: Some("EU-RO-1".to_owned()),
            cost: MicroUsd(440_000),
            uptime: None,
            ports: Vec::new(),
            created_at: None,
            started_at: None,
        }
    }
}
