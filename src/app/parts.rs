//! What is ready before this process leads: clients, keys, certificates, and views of the cluster and the market that are
//! kept warm. Nothing here changes anything but what is the process's own: its Lease, its certificate, and the keys,
//! which whoever comes first makes.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use kube::Client;
use tokio::net::TcpSocket;
use tokio::sync::watch;

use super::cluster::{Cluster, kube_config};
use super::tasks::Tasks;
use super::{AppOptions, Meters, checks};
use crate::cloud::Cloud;
use crate::cloud::both::Clouds;
use crate::cloud::ec2::{Ec2, sdk_config};
use crate::cloud::fenced::Fenced;
use crate::cloud::runpod::RunPodCloud;
use crate::config::{Config, Tls, TunnelKind};
use crate::endpoint::{csr, server, tls};
use crate::gateway::{self, Gateway};
use crate::gpu::Gpus;
use crate::informer::PodInformer;
use crate::keys::Keys;
use crate::leader::{Candidate, Election, Fence, guarded};
use crate::link::{LinkDeps, LinkSettings, LiveLinks};
use crate::market::MarketCache;
use crate::telemetry::{Probe, Telemetry};
use crate::tunnel::Transport;
use crate::tunnel::direct::DirectTransport;
use crate::tunnel::ssm::{SsmOptions, SsmTransport};

/// Name of the Secret with ORCA's own keys.
const KEYS: &str = "orca-keys";

/// Pages of the process that leads.
#[derive(Clone, Default)]
pub(super) struct Pages {
    /// `/capacity`.
    pub(super) capacity: Page,
    /// `/stuck`.
    pub(super) stuck: Page,
}

type Page = Arc<OnceLock<Box<dyn Fn() -> serde_json::Value + Send + Sync>>>;

/// What acting stands on.
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) cluster: Cluster,
    pub(super) keys: Keys,
    pub(super) fence: Fence,
    /// Changes nothing while the fence is closed.
    pub(super) client: Client,
    /// For what is this process's own.
    own: Client,
    pub(super) identity: String,
    namespace: String,
    pub(super) sdk: aws_config::SdkConfig,
    pub(super) cloud: Arc<dyn Cloud>,
    /// To end its sessions; `None` with another transport.
    pub(super) sessions: Option<Arc<SsmTransport>>,
    pub(super) pods: Arc<PodInformer>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) links: Arc<LiveLinks>,
    pub(super) market: Arc<MarketCache>,
    pub(super) meters: Meters,
    pub(super) telemetry: Telemetry,
    pub(super) pages: Pages,
    pub(super) tls: watch::Receiver<Arc<rustls::ServerConfig>>,
}

impl Parts {
    /// Makes them, and starts what keeps them warm.
    pub(super) async fn prepare(
        config: Config,
        options: AppOptions,
        tasks: &mut Tasks,
    ) -> Result<(Self, TcpSocket)> {
        let config = Arc::new(config);
        let mut kube = kube_config(options.kubeconfig.as_deref()).await?;
        kube.headers.push(user_agent(&options.identity)?);
        let own = Client::try_from(kube.clone()).context("preparing the client of the API server")?;
        let fence = if config.leader_election.is_some() { Fence::closed() } else { Fence::open() };
        let client = guarded(kube.clone(), &fence).context("preparing the client of the API server")?;
        // Before anything else: what is wrong with it is to be told now, and not when this process is needed.
        let socket = server::reserve(config.kubelet.listen)?;
        let cluster = Cluster::find(&own).await?;
        let keys = Keys::load_or_create(&own, &options.namespace, KEYS).await?;
        tracing::info!(
            node = config.node.name,
            cluster = cluster.id,
            server = cluster.version,
            identity = options.identity,
            "orca {} starts",
            env!("CARGO_PKG_VERSION")
        );

        let mut meters = Meters::new(Gpus::new(&config.node.name), &fence);
        let sdk = sdk_config(&config.aws).await;
        let ec2 = Ec2::new(&sdk, &config, &cluster.id, cluster.minor, meters.cloud.clone()).behind(&fence);
        let ec2 = Arc::new(ec2);
        let cloud = clouds(&config, &cluster.id, ec2.clone(), &fence, &meters);
        let sessions = match config.aws.tunnel {
            TunnelKind::Ssm => Some(Arc::new(SsmTransport::new(&sdk, SsmOptions::default()).behind(&fence))),
            TunnelKind::Direct => None,
        };
        let transport: Arc<dyn Transport> = match &sessions {
            Some(sessions) => sessions.clone(),
            None => Arc::new(DirectTransport),
        };
        let pods = PodInformer::new();
        let gateway = Gateway::new(gateway::Settings {
            node: config.node.name.clone(),
            kube: kube.clone(),
            pods: pods.clone(),
            keys: keys.clone(),
            gpu_resource: config.node.gpu.resource.clone(),
            fence: fence.clone(),
        })?;
        let links = LiveLinks::new(LinkDeps {
            transport,
            cloud: cloud.clone(),
            gateway: gateway.clone(),
            keys: keys.clone(),
            settings: LinkSettings::from(config.as_ref()),
            fence: fence.clone(),
        })?;
        let market = Arc::new(MarketCache::new(ec2));
        meters.gateway = gateway.metrics();
        meters.market = market.metrics();
        meters.links = links.metrics();
        meters.pod_watch_errors = pods.watch_errors();
        let (telemetry, pages) = telemetry(&meters);
        let tls = certificates(tasks, &config, &own, &kube, meters.certificate.clone()).await?;
        let parts = Self {
            config,
            cluster,
            keys,
            fence,
            client,
            own,
            identity: options.identity,
            namespace: options.namespace,
            sdk,
            cloud,
            sessions,
            pods,
            gateway,
            links,
            market,
            meters,
            telemetry,
            pages,
            tls,
        };
        parts.serve(tasks);
        Ok((parts, socket))
    }

    fn serve(&self, tasks: &mut Tasks) {
        if let Some(address) = self.config.metrics.listen {
            let telemetry = self.telemetry.clone();
            tasks.spawn("the metrics server", async move { telemetry.serve(address).await });
        }
        let market = self.market.clone();
        tasks.keep("the market", async move { market.run().await });
    }

    /// Stands for election, if there is one.
    pub(super) fn stand(&self) -> Election {
        let Some(settings) = self.config.leader_election else {
            return Election::unopposed(&self.meters.election);
        };
        let candidate = Candidate {
            identity: self.identity.clone(),
            namespace: self.namespace.clone(),
            name: self.config.node.name.clone(),
            settings,
            fence: self.fence.clone(),
            metrics: self.meters.election.clone(),
        };
        Election::start(self.own.clone(), candidate)
    }

    /// Watches the pods of the node from now on.
    pub(super) fn watch_pods(&self, tasks: &mut Tasks) {
        let (pods, client, node) = (self.pods.clone(), self.own.clone(), self.config.node.name.clone());
        tasks.keep("the watch of pods", async move { pods.run(client, node).await });
        let ready =
            self.telemetry.health.check("pods", Probe::Ready, "the pods of this node were not read yet");
        let pods = self.pods.clone();
        tasks.keep("the look at the pods", async move {
            pods.wait_synced().await;
            ready.pass();
            std::future::pending().await
        });
    }
}

/// EC2, and RunPod beside it where it is configured; nothing is changed behind a closed fence.
fn clouds(
    config: &Config,
    cluster_id: &str,
    ec2: Arc<Ec2>,
    fence: &Fence,
    meters: &Meters,
) -> Arc<dyn Cloud> {
    let Some(runpod) = &config.runpod else { return Arc::new(Fenced::new(ec2, fence)) };
    let (node, metrics) = (&config.node.name, meters.runpod.clone());
    let runpod = RunPodCloud::of_config(runpod, cluster_id, node, fence, &meters.cloud, metrics);
    Arc::new(Fenced::new(Arc::new(Clouds::new(Some(ec2), Some(Arc::new(runpod)))), fence))
}

/// By it the API server's record tells replicas apart.
fn user_agent(identity: &str) -> Result<(http::HeaderName, http::HeaderValue)> {
    let agent = format!("orca/{} ({identity})", env!("CARGO_PKG_VERSION"));
    let agent = agent.parse().with_context(|| format!("the name of this process is `{identity}`"))?;
    Ok((http::header::USER_AGENT, agent))
}

fn telemetry(meters: &Meters) -> (Telemetry, Pages) {
    let pages = Pages::default();
    let Pages { capacity, stuck } = pages.clone();
    let telemetry = Telemetry::new(|registry| meters.register(registry))
        .with_capacity(move || capacity.get().map(|page| page()))
        .with_stuck(move || stuck.get().map(|page| page()));
    checks::add(&telemetry.health, meters);
    (telemetry, pages)
}

/// The endpoint's certificates, kept fresh.
async fn certificates(
    tasks: &mut Tasks,
    config: &Config,
    own: &Client,
    kube: &kube::Config,
    metrics: csr::Metrics,
) -> Result<watch::Receiver<Arc<rustls::ServerConfig>>> {
    let serving = serving(tasks, config, own, kube, metrics)?;
    let source = tls::Source::new(own.clone(), serving, &config.node.name, config.kubelet.address)?;
    let (current, tls) = watch::channel(source.load().await?);
    tasks.keep("the endpoint's certificates", async move { source.refresh(&current).await });
    Ok(tls)
}

/// Where the endpoint's certificate comes from; the task that asks the cluster for one, if it is the cluster.
fn serving(
    tasks: &mut Tasks,
    config: &Config,
    client: &Client,
    kube: &kube::Config,
    metrics: csr::Metrics,
) -> Result<tls::Serving> {
    let kubelet = &config.kubelet;
    match &kubelet.tls {
        Tls::Files(files) => Ok(tls::Serving::Files(files.clone())),
        Tls::SelfSigned => {
            tracing::warn!(
                "the endpoint's certificate is self-signed, and an API server with --kubelet-certificate-authority will refuse it: see kubelet.tls.mode"
            );
            Ok(tls::Serving::SelfSigned)
        }
        Tls::Csr { signer } => {
            let node = &config.node.name;
            let requester = csr::Requester {
                node: Client::try_from(gateway::as_node(kube, node))
                    .context("preparing the client that asks for a certificate")?,
                own: client.clone(),
                subject: csr::Subject {
                    node: node.clone(),
                    address: kubelet.address,
                    signer: signer.clone(),
                },
                metrics,
            };
            let (sender, issued) = watch::channel(None);
            tasks.keep("the requests for a certificate", async move { requester.run(&sender).await });
            Ok(tls::Serving::Issued(issued))
        }
    }
}
