//! A world for the controller: an API server, a cloud, machines with kubelets; all in memory, on a paused clock.

pub(crate) mod api;
pub(crate) mod guests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use orca::capacity::live::Live;
use orca::cloud::CloudHealth;
use orca::cloud::Instance;
use orca::cloud::fenced::Fenced;
use orca::cloud::memory::MemoryCloud;
use orca::config::{
    Aws, Config, DaemonSetPolicy, Guest, ImageSource, Instances, Kubelet, LaunchRate, Limits, LogFormat,
    Logging, Metrics, Network, Node, NodeGpu, Shutdown, Tls, Tracing, TunnelKind,
};
use orca::controller::{self, Controller, Deps, Draining};
use orca::informer::PodInformer;
use orca::leader::Fence;
use orca::market::{MarketCache, Snapshot};
use orca::pod::layers::Layer;
use orca::pod::stuck::Page;
use orca::telemetry::{Registry, Traces};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use api::ApiServer;
use guests::{FakeLinks, Guests};

pub(crate) const NODE: &str = "orca";
pub(crate) const NAMESPACE: &str = "default";

/// Everything, with one ORCA process or none.
pub(crate) struct World {
    pub(crate) api: Arc<ApiServer>,
    pub(crate) cloud: Arc<MemoryCloud>,
    pub(crate) guests: Arc<Guests>,
    pub(crate) config: Config,
    /// Where launches are traced.
    pub(crate) traces: Traces,
    /// What the next ORCA asks before it changes anything; open.
    pub(crate) fence: Fence,
    orca: Option<Orca>,
    _ticker: JoinSet<()>,
}

/// One ORCA process; it dies with this.
struct Orca {
    pods: Arc<PodInformer>,
    health: watch::Receiver<CloudHealth>,
    market: Arc<MarketCache>,
    registry: Registry,
    live: Arc<dyn Fn() -> Live + Send + Sync>,
    draining: Draining,
    stuck: Arc<dyn Fn() -> Page + Send + Sync>,
    _tasks: JoinSet<()>,
}

impl World {
    /// A world in which ORCA runs.
    pub(crate) fn start() -> Self {
        let mut world = Self::without_orca();
        world.start_orca();
        world
    }

    pub(crate) fn without_orca() -> Self {
        let api = ApiServer::new();
        let cloud = MemoryCloud::new();
        let guests = Guests::new(api.clone(), cloud.clone());
        let mut ticker = JoinSet::new();
        ticker.spawn(guests.clone().run());
        Self {
            api,
            cloud,
            guests,
            config: mk_config(),
            traces: Traces::default(),
            fence: Fence::open(),
            orca: None,
            _ticker: ticker,
        }
    }

    pub(crate) fn start_orca(&mut self) {
        let client = self.api.client(&self.fence);
        let links = FakeLinks::new(self.guests.clone());
        let pods = PodInformer::new();
        let metrics = controller::Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let market = Arc::new(MarketCache::new(self.cloud.clone()));
        let controller = Controller::new(Deps {
            client: client.clone(),
            pods: pods.clone(),
            cloud: Arc::new(Fenced::new(self.cloud.clone(), &self.fence)),
            market: market.clone(),
            links,
            logs: None,
            ssh_public: "ssh-ed25519 AAAA".to_owned(),
            config: Arc::new(self.config.clone()),
            cluster_id: "cluster".to_owned(),
            metrics,
            traces: self.traces.clone(),
        });
        let (health, live) = (controller.cloud_health(), controller.live());
        let (draining, stuck) = (controller.draining(), controller.stuck());
        let mut tasks = JoinSet::new();
        tasks.spawn(pods.clone().run(client, NODE.to_owned()));
        tasks.spawn(controller.run());
        let running = market.clone();
        tasks.spawn(async move { running.run().await });
        self.orca = Some(Orca { pods, health, market, registry, live, draining, stuck, _tasks: tasks });
    }

    /// The process is killed: nothing of it is left.
    pub(crate) fn kill_orca(&mut self) {
        self.check_transitions();
        self.orca = None;
        self.guests.forget_links();
    }

    /// The process sees a list of pods that has none.
    pub(crate) fn empty_list_of_pods(&self) {
        self.orca.as_ref().unwrap().pods.replace(std::collections::HashMap::new());
    }

    pub(crate) fn cloud_health(&self) -> CloudHealth {
        self.orca.as_ref().map(|orca| orca.health.borrow().clone()).unwrap_or_default()
    }

    /// What only the process knows.
    pub(crate) fn live(&self) -> Live {
        (self.orca.as_ref().unwrap().live)()
    }

    /// How the process is asked to stop.
    pub(crate) fn draining(&self) -> Draining {
        self.orca.as_ref().unwrap().draining.clone()
    }

    /// What fails again and again.
    pub(crate) fn stuck(&self) -> Page {
        (self.orca.as_ref().unwrap().stuck)()
    }

    /// What is known of the market.
    pub(crate) fn market(&self) -> Arc<Snapshot> {
        self.orca.as_ref().unwrap().market.snapshot()
    }

    /// The machines of a pod that are neither ended nor ending.
    pub(crate) fn alive(&self, uid: &str) -> Vec<Instance> {
        self.cloud.alive().into_iter().filter(|one| one.pod_uid() == Some(uid)).collect()
    }

    /// The one machine of a pod.
    pub(crate) fn machine(&self, uid: &str) -> Instance {
        let all = self.alive(uid);
        assert_eq!(all.len(), 1, "machines of {uid}: {all:#?}");
        all.into_iter().next().unwrap()
    }

    /// Waits, for at most a day, until it is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl FnMut(&Self) -> bool) {
        self.within(Duration::from_secs(86400), what, is_so).await;
    }

    /// Waits for at most `limit` until it is so.
    pub(crate) async fn within(&self, limit: Duration, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let waited = tokio::time::timeout(limit, async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        if waited.await.is_err() {
            panic!("not within {limit:?}: {what}\n{}", self.dump());
        }
    }

    pub(crate) async fn until_running(&self, name: &str) {
        self.until(&format!("{name} runs"), |world| phase(&world.api.pod(name)) == "Running").await;
    }

    pub(crate) async fn pass_time(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// What must hold whenever nothing is under way any more.
    pub(crate) fn check(&self) {
        assert_eq!(self.api.violations(), Vec::<String>::new(), "{}", self.dump());
        assert_eq!(self.guests.violations(), Vec::<String>::new(), "{}", self.dump());
        self.check_transitions();
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        for one in self.cloud.alive() {
            *owners.entry(one.pod_uid().unwrap_or_default().to_owned()).or_default() += 1;
        }
        assert!(
            owners.values().all(|count| *count == 1),
            "two machines for one pod: {owners:?}\n{}",
            self.dump()
        );
    }

    /// The process's page of metrics.
    pub(crate) fn metrics(&self) -> String {
        self.orca.as_ref().unwrap().registry.encode().unwrap()
    }

    fn check_transitions(&self) {
        if self.orca.is_none() {
            return;
        }
        let text = self.metrics();
        let illegal: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("orca_controller_illegal_transitions_total"))
            .collect();
        assert_eq!(illegal, Vec::<&str>::new());
    }

    pub(crate) fn dump(&self) -> String {
        let pods = serde_json::to_string_pretty(&self.api.pods()).unwrap();
        let events = self.api.stories();
        format!(
            "pods: {pods}\nevents: {events:#?}\nmachines: {:#?}\nguests: {:#?}",
            self.cloud.alive(),
            self.guests
        )
    }
}

/// A pod on our node, with one container.
pub(crate) fn mk_pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "nodeName": NODE, "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "c", "image": "busybox"}]
        },
        "status": {"phase": "Pending"}
    })
}

pub(crate) fn phase(pod: &Option<Pod>) -> String {
    let phase = pod.as_ref().and_then(|pod| pod.status.as_ref()?.phase.clone());
    phase.unwrap_or_else(|| "gone".to_owned())
}

pub(crate) fn reason(pod: &Option<Pod>) -> String {
    pod.as_ref().and_then(|pod| pod.status.as_ref()?.reason.clone()).unwrap_or_default()
}

pub(crate) fn mk_config() -> Config {
    Config {
        aws: Aws {
            region: "region".to_owned(),
            vpc_id: "vpc-1".to_owned(),
            subnet_ids: vec!["subnet-a".to_owned(), "subnet-b".to_owned()],
            security_group_ids: vec!["sg-1".to_owned()],
            image: ImageSource::Id("ami-1".to_owned()),
            instance_profile: None,
            endpoint: None,
            tunnel: TunnelKind::Ssm,
            tags: BTreeMap::new(),
        },
        runpod: None,
        node: Node {
            name: NODE.to_owned(),
            labels: BTreeMap::new(),
            taints: vec![],
            cpu: "1000".to_owned(),
            memory: "4Ti".to_owned(),
            ephemeral_storage: "100Ti".to_owned(),
            pods: 500,
            gpu: NodeGpu { resource: "nvidia.com/gpu".to_owned(), count: 100 },
            daemon_sets: DaemonSetPolicy::Pending,
        },
        instances: Instances {
            allowed_instance_types: Some(vec!["g5.*".to_owned()]),
            defaults: Layer::of_settings("instances.defaults", &[("instance-type", "g5.xlarge")]),
            ..Instances::default()
        },
        network: Network { external_snat: false },
        guest: Guest { cni_plugins_dir: "/cni".into() },
        limits: Limits {
            max_concurrent_instances: 500,
            max_hourly_cost: None,
            launch_rate: LaunchRate::default(),
            max_instance_lifetime: Duration::from_secs(86400),
            max_lost_contact: Duration::from_secs(3600),
            keep_finished: Duration::from_secs(300),
            boot_deadline: Duration::from_secs(600),
            capacity_wait: None,
        },
        kubelet: Kubelet {
            listen: "127.0.0.1:10250".parse().unwrap(),
            address: "127.0.0.1".parse().unwrap(),
            tls: Tls::SelfSigned,
        },
        leader_election: None,
        shutdown: Shutdown { deadline: Duration::from_secs(20) },
        logs: None,
        logging: Logging { level: "info".to_owned(), format: LogFormat::Text },
        metrics: Metrics { listen: None },
        tracing: Tracing::default(),
    }
}
