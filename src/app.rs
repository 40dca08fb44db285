//! The only place that knows every part: wires the ports, owns the tasks and their end.

mod checks;
mod meters;
mod traced;

pub use meters::Meters;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::cloud::ec2::{Ec2, sdk_config};
use crate::config::{Config, Tls, TunnelKind};
use crate::controller::{Controller, Deps};
use crate::endpoint::authn::Authenticator;
use crate::endpoint::authz::Authorizer;
use crate::endpoint::{Endpoint, csr, server, tls};
use crate::gateway::{self, Gateway};
use crate::gpu::{self, Gpus};
use crate::informer::PodInformer;
use crate::keys::Keys;
use crate::link::{LinkDeps, LinkSettings, LiveLinks};
use crate::logs::archiver::{self, Archiver, Drain};
use crate::logs::store::Store;
use crate::logs::store::cloudwatch::{CloudWatch, Group};
use crate::logs::{answer, names};
use crate::market::MarketCache;
use crate::node;
use crate::stats::Stats;
use crate::stats::collect::Collector;
use crate::telemetry::{Probe, Telemetry};
use crate::tunnel::Transport;
use crate::tunnel::direct::DirectTransport;
use crate::tunnel::ssm::{SsmOptions, SsmTransport};

/// Name of the Secret with ORCA's own keys.
const KEYS: &str = "orca-keys";
/// How long the API server may take to answer at start.
const START: Duration = Duration::from_secs(30);

/// What is not in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppOptions {
    /// Else `$KUBECONFIG`, `~/.kube/config` or the service account.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace that ORCA keeps its Secret in.
    pub namespace: String,
}

/// Runs until a signal asks it to stop. Machines and their containers stay as they are: the next start finds them.
///
/// # Errors
/// When a part cannot start, or ends by itself.
pub async fn run(config: Config, options: AppOptions) -> Result<()> {
    let mut stop = Signals::new()?;
    let mut tasks = tokio::select! {
        started = start(config, options) => started?,
        name = stop.next() => {
            tracing::info!(signal = name, "stopped while starting");
            return Ok(());
        }
    };
    tokio::select! {
        ended = tasks.join_next() => match ended.context("nothing runs")?.context("a task failed")? {
            (name, Ok(())) => bail!("{name} ended by itself"),
            (name, Err(error)) => Err(error.context(name)),
        },
        name = stop.next() => {
            tracing::info!(signal = name, "stopping; machines and their pods go on");
            tasks.shutdown().await;
            Ok(())
        }
    }
}

/// Everything that runs, each under the name that an early end is told with.
type Tasks = JoinSet<(&'static str, Result<()>)>;

async fn start(config: Config, options: AppOptions) -> Result<Tasks> {
    let config = Arc::new(config);
    let kube = kube_config(options.kubeconfig.as_deref()).await?;
    let client = Client::try_from(kube.clone()).context("preparing the client of the API server")?;
    let cluster = Cluster::ask(&client).await?;
    let keys = Keys::load_or_create(&client, &options.namespace, KEYS).await?;
    tracing::info!(
        node = config.node.name,
        cluster = cluster.id,
        server = cluster.version,
        "orca {} starts",
        env!("CARGO_PKG_VERSION")
    );

    let sdk = sdk_config(&config.aws).await;
    let mut meters = Meters { gpus: Gpus::new(&config.node.name), ..Meters::default() };
    let ec2 = Arc::new(Ec2::new(&sdk, &config, &cluster.id, cluster.minor, meters.cloud.clone()));
    let transport: Arc<dyn Transport> = match config.aws.tunnel {
        TunnelKind::Ssm => Arc::new(SsmTransport::new(&sdk, SsmOptions::default())),
        TunnelKind::Direct => Arc::new(DirectTransport),
    };
    let pods = PodInformer::new();
    let gateway = Gateway::new(gateway::Settings {
        node: config.node.name.clone(),
        kube: kube.clone(),
        pods: pods.clone(),
        keys: keys.clone(),
        gpu_resource: config.node.gpu.resource.clone(),
    })?;
    let links = LiveLinks::new(LinkDeps {
        transport,
        cloud: ec2.clone(),
        gateway: gateway.clone(),
        keys: keys.clone(),
        settings: LinkSettings::from(config.as_ref()),
    })?;
    let archive = Archive::new(&config, &sdk, &cluster.id, &links, &pods)?;
    let market = Arc::new(MarketCache::new(ec2.clone()));
    let (traces, exporter) = traced::traces(&config, &cluster.id, meters.traces.clone())?;
    let controller = Controller::new(Deps {
        client: client.clone(),
        pods: pods.clone(),
        cloud: ec2.clone(),
        market: market.clone(),
        links: links.clone(),
        logs: archive.archiver.clone().map(|archiver| -> Arc<dyn Drain> { archiver }),
        ssh_public: keys.ssh_public.clone(),
        config: config.clone(),
        cluster_id: cluster.id.clone(),
        metrics: meters.controller.clone(),
        traces,
    });
    meters.gateway = gateway.metrics();
    meters.market = market.metrics();
    meters.links = links.metrics();
    meters.pod_watch_errors = pods.watch_errors();
    meters.logs = archive.metrics.clone();
    let telemetry = Telemetry::new(|registry| meters.register(registry));
    checks::add(&telemetry.health, &meters);
    let watch = gpu::Watch {
        gpus: meters.gpus.clone(),
        links: links.clone(),
        pods: pods.clone(),
        tell: controller.teller(),
        gpu_resource: config.node.gpu.resource.clone(),
    };
    let live = controller.live();
    let telemetry = telemetry
        .with_capacity(move || serde_json::to_value(live()).expect("a page has only texts and numbers"));
    let node = node::Deps {
        client: client.clone(),
        settings: node::Settings::new(&config, &cluster.id, &cluster.version),
        cloud: controller.cloud_health(),
        logs: archive.health(),
        features: Arc::new(move || gateway.declared_features()),
        ceilings: controller.ceilings(),
        metrics: meters.node.clone(),
    };

    let mut tasks = Tasks::new();
    let serving = serving(&mut tasks, &config, &client, &kube, meters.certificate.clone())?;
    if let Some(address) = config.metrics.listen {
        let telemetry = telemetry.clone();
        spawn(&mut tasks, "the metrics server", async move { telemetry.serve(address).await });
    }
    let stats = Arc::new(Stats::new(config.node.name.clone(), Arc::new(meters.gpus.clone())));
    let collector = Collector { stats: stats.clone(), links: links.clone(), metrics: meters.scrapes.clone() };
    spawn(&mut tasks, "the collector of numbers", async move {
        collector.run().await;
        Ok(())
    });
    let endpoint = Endpoint {
        pods: pods.clone(),
        links,
        archive: archive.store.map(answer::Archive::new),
        authenticator: Authenticator::new(client.clone()),
        authorizer: Authorizer::new(client.clone(), config.node.name.clone()),
        stats,
        telemetry: telemetry.clone(),
        streams: TaskTracker::new(),
        metrics: meters.endpoint.clone(),
    };
    serve_endpoint(&mut tasks, &config, &client, serving, endpoint).await?;
    let ready = telemetry.health.check("pods", Probe::Ready, "the pods of this node were not read yet");
    let (watched, synced) = (pods.clone(), pods);
    let (watch_client, watch_node) = (client, config.node.name.clone());
    spawn(&mut tasks, "the watch of pods", async move {
        watched.run(watch_client, watch_node).await;
        Ok(())
    });
    spawn(&mut tasks, "the node", node::run(node));
    if let Some(archiver) = archive.archiver {
        spawn(&mut tasks, "the archive of logs", async move {
            archiver.run().await;
            Ok(())
        });
    }
    if let Some(exporter) = exporter {
        // It ends with the controller, which tells it what to send.
        spawn(&mut tasks, "the export of traces", async move {
            exporter.run().await;
            Ok(())
        });
    }
    spawn(&mut tasks, "the watch of GPUs", async move {
        watch.run().await;
        Ok(())
    });
    spawn(&mut tasks, "the market", async move {
        market.run().await;
        Ok(())
    });
    spawn(&mut tasks, "the controller", async move {
        synced.wait_synced().await;
        ready.pass();
        controller.run().await;
        Ok(())
    });
    Ok(tasks)
}

/// The archive of logs, if there is one.
struct Archive {
    store: Option<Arc<dyn Store>>,
    archiver: Option<Arc<Archiver>>,
    metrics: archiver::Metrics,
}

impl Archive {
    fn new(
        config: &Config,
        sdk: &aws_config::SdkConfig,
        cluster_id: &str,
        links: &Arc<LiveLinks>,
        pods: &Arc<PodInformer>,
    ) -> Result<Self> {
        let metrics = archiver::Metrics::default();
        let Some(logs) = &config.logs else {
            return Ok(Self { store: None, archiver: None, metrics });
        };
        let group = Group {
            name: logs.group.clone().map_or_else(|| names::group(cluster_id), Ok)?,
            retention_days: logs.retention_days,
            kms_key: logs.kms_key_id.clone(),
            tags: config.aws.tags.clone(),
        };
        let store: Arc<dyn Store> = Arc::new(CloudWatch::new(sdk, group));
        let archiver = Archiver::new(archiver::Deps {
            store: store.clone(),
            links: links.clone(),
            pods: pods.clone(),
            retention: logs.retention_days.map(|days| Duration::from_hours(24 * u64::from(days))),
            metrics: metrics.clone(),
        });
        Ok(Self { store: Some(store), archiver: Some(archiver), metrics })
    }

    fn health(&self) -> watch::Receiver<archiver::Health> {
        let off = || watch::channel(archiver::Health::Off).1;
        self.archiver.as_ref().map_or_else(off, |archiver| archiver.health())
    }
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
            spawn(tasks, "the requests for a certificate", async move {
                requester.run(&sender).await;
                Ok(())
            });
            Ok(tls::Serving::Issued(issued))
        }
    }
}

async fn serve_endpoint(
    tasks: &mut Tasks,
    config: &Config,
    client: &Client,
    serving: tls::Serving,
    endpoint: Endpoint,
) -> Result<()> {
    let kubelet = &config.kubelet;
    let source = tls::Source::new(client.clone(), serving, &config.node.name, kubelet.address)?;
    let (current, tls) = watch::channel(source.load().await?);
    let endpoint = Arc::new(endpoint);
    let listener = server::bind(kubelet.listen).await?;
    spawn(tasks, "the endpoint", async move {
        server::serve(endpoint, listener, tls).await;
        Ok(())
    });
    spawn(tasks, "the endpoint's certificates", async move {
        source.refresh(&current).await;
        Ok(())
    });
    Ok(())
}

fn spawn(tasks: &mut Tasks, name: &'static str, task: impl Future<Output = Result<()>> + Send + 'static) {
    tasks.spawn(async move { (name, task.await) });
}

/// What is asked of the cluster once.
struct Cluster {
    /// The UID of the namespace `kube-system`: the one thing that every cluster has and keeps.
    id: String,
    /// Such as `v1.36.3`.
    version: String,
    minor: u32,
}

impl Cluster {
    async fn ask(client: &Client) -> Result<Self> {
        let info = tokio::time::timeout(START, client.apiserver_version())
            .await
            .context("asking the API server for its version")?
            .context("asking the API server for its version")?;
        // Managed clusters report `36+`.
        let minor = info
            .minor
            .trim_end_matches('+')
            .parse()
            .with_context(|| format!("minor version `{}`", info.minor))?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let system = namespaces.get("kube-system").await.context("reading namespace `kube-system`")?;
        let id = system.metadata.uid.context("namespace `kube-system` has no uid")?;
        Ok(Self { id, version: info.git_version, minor })
    }
}

/// How to reach the API server: by the file, else by `$KUBECONFIG`, `~/.kube/config` or the service account.
///
/// # Errors
/// When there is no configuration, or it does not parse.
pub async fn kube_config(kubeconfig: Option<&std::path::Path>) -> Result<kube::Config> {
    let Some(file) = kubeconfig else {
        return kube::Config::infer().await.context("no kubeconfig, and not in a cluster");
    };
    let read = || format!("reading the kubeconfig `{}`", file.display());
    let parsed = Kubeconfig::read_from(file).with_context(read)?;
    kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.with_context(read)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
