//! The link of one machine, with a machine that is told what to answer.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::bootstrap::Plugins;
use super::forward::Forwards;
use super::live::LinkSettings;
use super::sessions::Sessions;
use super::task::{Hub, Link, Upstream, note, run};
use super::wire::{Dial, Input, Purpose, Wire};
use super::{LinkState, Machine, Metrics};
use crate::clock;
use crate::cloud::{
    Cloud, CloudError, Instance, InstanceType, LaunchSpec, Leftover, LeftoverKind, ScheduledEvent,
};
use crate::config::TunnelKind;
use crate::gateway::Progress;
use crate::guest::{self, GATEWAY_PORT, Holder, Snat};
use crate::keys::Keys;
use crate::leader::Fence;
use crate::tunnel::ssh::ExecOutput;
use crate::tunnel::{ByteStream, TunnelError};

mod bootstrap;
mod forward;
mod health;
mod keys;
mod pool;
mod sessions;
mod side;

const TOKEN: &str = "the-machine's-token";
const KEY: &str = "ssh-ed25519 AAAAhost";
pub(super) const PROBE_OUTPUT: &str = "\
boot_id=boot-1
machine=x86_64
run_is=tmpfs
cgroup=v2
kubelet=/usr/bin/kubelet
containerd=/usr/bin/containerd
runc=/usr/sbin/runc
ctr=/usr/bin/ctr
iptables=/usr/sbin/iptables
kubelet_version=Kubernetes v1.36.3
containerd_version=containerd github.com/containerd/containerd 1.6.20 x
cni=/opt/cni/bin/ptp
cni=/opt/cni/bin/static
cni=/opt/cni/bin/portmap
cni=/opt/cni/bin/loopback
interface=ens5
mtu=9001
";

/// The machine, and the cloud that it is in.
#[derive(Debug)]
struct World {
    /// What was asked of both, in order.
    log: Mutex<Vec<String>>,
    /// Errors of the next dials.
    refusals: Mutex<VecDeque<TunnelError>>,
    host_key: Mutex<String>,
    console: Mutex<String>,
    probe: Mutex<String>,
    /// What the bootstrap says on standard error; empty is success.
    bootstrap: Mutex<String>,
    contact_works: AtomicBool,
    /// Whether the kubelet answers.
    is_well: AtomicBool,
    /// EC2's notice, once there is one.
    notice: Mutex<String>,
    /// What a look at who listens for the kubelet prints; empty: nobody does, and the port is free.
    holder: Mutex<String>,
    /// Whether this process may act.
    fence: Fence,
    forwards: Arc<Forwards>,
    /// What opened the last `listen`, to send streams through.
    gateway: Mutex<Option<mpsc::Sender<ByteStream>>>,
    /// Connections, each with the switch that cuts it.
    wires: Mutex<Vec<watch::Sender<bool>>>,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            log: Mutex::default(),
            refusals: Mutex::default(),
            host_key: Mutex::new(KEY.to_owned()),
            console: Mutex::default(),
            probe: Mutex::new(PROBE_OUTPUT.to_owned()),
            bootstrap: Mutex::default(),
            contact_works: AtomicBool::new(true),
            is_well: AtomicBool::new(true),
            notice: Mutex::default(),
            holder: Mutex::default(),
            fence: Fence::open(),
            forwards: Arc::default(),
            gateway: Mutex::default(),
            wires: Mutex::default(),
        })
    }

    fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
    }

    /// What was asked since the last time.
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn cut_all(&self) {
        for cut in self.wires.lock().unwrap().drain(..) {
            cut.send_replace(true);
        }
    }

    /// Connections that nobody has dropped, and that were not cut.
    fn open_wires(&self) -> usize {
        self.wires.lock().unwrap().iter().filter(|wire| wire.receiver_count() > 0).count()
    }
}

/// A connection to the one machine.
struct FakeWire {
    world: Arc<World>,
    cut: watch::Receiver<bool>,
}

#[async_trait]
impl Dial for Arc<World> {
    async fn dial(
        &self,
        _machine: &Machine,
        pin: Option<String>,
        purpose: Purpose,
    ) -> Result<Arc<dyn Wire>, TunnelError> {
        // A round trip.
        sleep(Duration::from_millis(10)).await;
        if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        let compressed = if purpose == Purpose::Side { ", compressed" } else { "" };
        self.note(format!("dial, pin {}{compressed}", pin.as_deref().unwrap_or("none")));
        let found = self.host_key.lock().unwrap().clone();
        if let Some(pinned) = pin.filter(|pin| *pin != found) {
            return Err(TunnelError::HostKey { found, pinned });
        }
        let (switch, cut) = watch::channel(false);
        self.wires.lock().unwrap().push(switch);
        Ok(Arc::new(FakeWire { world: Self::clone(self), cut }))
    }
}

#[async_trait]
impl Wire for FakeWire {
    fn host_key(&self) -> String {
        self.world.host_key.lock().unwrap().clone()
    }

    async fn exec(&self, command: &str, input: Input, _: Duration) -> Result<ExecOutput, TunnelError> {
        sleep(Duration::from_millis(10)).await;
        let done = |stdout: String, stderr: String, code| ExecOutput {
            stdout: stdout.into_bytes(),
            stderr: stderr.into_bytes(),
            code: Some(code),
        };
        let input = input.collect::<Vec<Bytes>>().await.concat();
        let mut files = Vec::new();
        // What is no archive is looked at as it is.
        if MultiGzDecoder::new(&input[..]).read_to_end(&mut files).is_err() {
            files = input;
        }
        let secret = String::from_utf8_lossy(&files).contains(TOKEN);
        let with = if secret { " with secrets" } else { "" };
        match command {
            "sh -s" => {
                self.world.note(format!("probe{with}"));
                Ok(done(self.world.probe.lock().unwrap().clone(), String::new(), 0))
            }
            command if command.starts_with("umask 077") => {
                self.world.note(format!("bootstrap{with}"));
                // Longer than the kubelet takes to ask for its pod.
                sleep(Duration::from_secs(1)).await;
                let error = self.world.bootstrap.lock().unwrap().clone();
                let code = u32::from(!error.is_empty());
                Ok(done(String::new(), error, code))
            }
            guest::CONTACT => {
                self.world.note("contact");
                if self.world.contact_works.load(Ordering::Relaxed) {
                    return Ok(done(String::new(), String::new(), 0));
                }
                Err(TunnelError::Timeout(Duration::from_secs(15), "running a command"))
            }
            guest::AWAIT_NOTICE => {
                sleep(Duration::from_secs(30)).await;
                Ok(done(self.world.notice.lock().unwrap().clone(), String::new(), 0))
            }
            guest::SHUT_DOWN => {
                self.world.note("shut down");
                Ok(done(String::new(), String::new(), 0))
            }
            command if command == Holder::find(GATEWAY_PORT) => self.world.find(),
            command if command.contains("kill") => self.world.end(command),
            other => panic!("unexpected command `{other}`"),
        }
    }

    async fn begin(&self, command: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        if *self.cut.borrow() {
            return Err(TunnelError::Lost("cut".to_owned()));
        }
        self.world.note(format!("begin {command}"));
        let (near, mut far) = tokio::io::duplex(64);
        drop(tokio::spawn(async move { far.write_all(b"hello").await }));
        Ok(Box::new(near))
    }

    async fn open(&self, host: &str, port: u16, _: Duration) -> Result<ByteStream, TunnelError> {
        if *self.cut.borrow() {
            return Err(TunnelError::Lost("cut".to_owned()));
        }
        self.world.note(format!("open {host}:{port}"));
        let (near, mut far) = tokio::io::duplex(64);
        drop(tokio::spawn(async move { far.write_all(b"hello").await }));
        Ok(Box::new(near))
    }

    async fn listen(&self, address: &str, port: u16) -> Result<mpsc::Receiver<ByteStream>, TunnelError> {
        self.world.note(format!("listen {address}:{port}"));
        if !self.world.holder.lock().unwrap().is_empty() {
            return Err(TunnelError::NotYet("in use".to_owned()));
        }
        let (sender, receiver) = mpsc::channel(4);
        *self.world.gateway.lock().unwrap() = Some(sender);
        Ok(receiver)
    }

    async fn closed(&self) -> String {
        let ended = self.cut.clone().wait_for(|cut| *cut).await.map(|_| ());
        drop(ended);
        "cut".to_owned()
    }

    fn is_open(&self) -> bool {
        !*self.cut.borrow()
    }

    async fn close(&self) {
        self.world.note("close");
    }
}

/// The cloud, as far as a link asks it.
#[derive(Debug)]
struct FakeCloud(Arc<World>);

#[async_trait]
impl Cloud for FakeCloud {
    async fn launch(&self, _: &LaunchSpec) -> Result<Instance, CloudError> {
        panic!("a link launches nothing")
    }
    async fn instances(&self) -> Result<Vec<Instance>, CloudError> {
        panic!("a link lists nothing")
    }
    async fn instance(&self, _: &str) -> Result<Option<Instance>, CloudError> {
        panic!("a link looks nothing up")
    }
    async fn scheduled_events(&self) -> Result<Vec<ScheduledEvent>, CloudError> {
        panic!("a link knows no calendar")
    }
    async fn terminate(&self, _: &str) -> Result<(), CloudError> {
        panic!("a link ends nothing")
    }
    async fn tag(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        // Slower than the probe.
        sleep(Duration::from_millis(100)).await;
        self.0.note(format!("tag {id} {tags:?}"));
        Ok(())
    }
    async fn console(&self, id: &str) -> Result<String, CloudError> {
        self.0.note(format!("console {id}"));
        Ok(self.0.console.lock().unwrap().clone())
    }
    async fn leftovers(&self, _: LeftoverKind) -> Result<Vec<Leftover>, CloudError> {
        panic!("a link looks for no leftovers")
    }
    async fn discard(&self, _: LeftoverKind, _: &str) -> Result<(), CloudError> {
        panic!("a link deletes nothing")
    }
}

/// The kubelet gets its pod.
fn shown(progress: &mut Progress) {
    progress.shown = true;
}

/// A link and everything around it.
struct Bench {
    world: Arc<World>,
    link: Arc<Link>,
    progress: watch::Sender<Progress>,
    prepared: watch::Sender<bool>,
    changes: broadcast::Receiver<String>,
    _task: AbortOnDropHandle<()>,
}

fn mk_machine() -> Machine {
    Machine {
        pod_uid: "uid-1".to_owned(),
        pod_namespace: "default".to_owned(),
        pod_name: "web".to_owned(),
        instance_id: "i-1".to_owned(),
        instance_type: InstanceType {
            name: "m7i.large".to_owned(),
            vcpus: 2,
            memory_mib: 8192,
            arch: "amd64".to_owned(),
            gpus: None,
            nitro: true,
            ..InstanceType::default()
        },
        private_ip: [10, 0, 1, 10].into(),
        pod_ip: [10, 0, 1, 11].into(),
        subnet_bits: 24,
        host_key: None,
        lifecycle: crate::cloud::Lifecycle::OnDemand,
        grace: Duration::from_secs(30),
    }
}

/// What the links of a world share.
fn mk_hub(world: &Arc<World>, dial: Arc<dyn Dial>, tunnel: TunnelKind) -> Arc<Hub> {
    let keys = Keys::generate().unwrap();
    let settings = LinkSettings {
        node: "orca".to_owned(),
        tunnel,
        snat: Snat::Machine,
        logs: guest::KeepLogs::Yes,
        root_volume_gib: 100,
        max_lost_contact: Duration::from_secs(900),
        cni_plugins_dir: "/nowhere".into(),
    };
    let metrics = Metrics::default();
    Arc::new(Hub {
        dial,
        sessions: match tunnel {
            TunnelKind::Ssm => Sessions::new(metrics.wait.clone()),
            TunnelKind::Direct => Sessions::direct(),
        },
        metrics,
        cloud: Arc::new(FakeCloud(Arc::clone(world))),
        tls: keys.kubelet_client_tls().unwrap(),
        health: {
            let world = Arc::clone(world);
            Arc::new(move |_| {
                let is_well = world.is_well.load(Ordering::Relaxed);
                Box::pin(async move { is_well.then_some(()).ok_or_else(|| anyhow::anyhow!("ill")) })
            })
        },
        keys,
        plugins: Arc::new(Plugins::new(&settings.cni_plugins_dir)),
        settings,
        fence: world.fence.clone(),
        forwards: Arc::clone(&world.forwards),
        changes: broadcast::Sender::new(64),
    })
}

impl Bench {
    fn start(world: &Arc<World>, machine: Machine, tunnel: TunnelKind) -> Self {
        Self::on(world, &mk_hub(world, Arc::new(Arc::clone(world)), tunnel), machine)
    }

    fn on(world: &Arc<World>, hub: &Arc<Hub>, machine: Machine) -> Self {
        let changes = hub.changes.subscribe();
        let progress = watch::Sender::new(Progress::default());
        let prepared = watch::Sender::new(true);
        let upstream = Upstream {
            token: TOKEN.to_owned(),
            progress: progress.subscribe(),
            prepared: prepared.clone(),
            serve: Box::new(|mut stream| {
                Box::pin(async move {
                    let mut rest = Vec::new();
                    drop(stream.read_to_end(&mut rest).await);
                })
            }),
        };
        let link = Arc::new(Link::new(Arc::clone(hub), machine, upstream));
        let task = AbortOnDropHandle::new(tokio::spawn(run(Arc::clone(&link))));
        Self { world: Arc::clone(world), link, progress, prepared, changes, _task: task }
    }

    /// Waits for the state that `wanted` accepts.
    async fn until(&mut self, wanted: impl Fn(&LinkState) -> bool) -> LinkState {
        let seen = timeout(Duration::from_secs(900), async {
            loop {
                let state = self.link.status().state;
                if wanted(&state) {
                    return state;
                }
                // Of several links there may be more changes than are kept.
                let changed = self.changes.recv().await;
                assert!(!matches!(changed, Err(broadcast::error::RecvError::Closed)));
            }
        });
        seen.await.unwrap_or_else(|_| panic!("still {:?}", self.link.status()))
    }

    async fn until_waiting_for_the_pod(&mut self) {
        let step = "waiting for the kubelet to list its pod";
        self.until(|state| matches!(state, LinkState::Bootstrapping { step: now, .. } if *now == step)).await;
    }

    /// As the kubelet does it: connects, and lists its pods, which is progress.
    async fn kubelet_comes(&self, told: impl FnOnce(&mut Progress)) {
        let (near, far) = tokio::io::duplex(64);
        let gateway = self.world.gateway.lock().unwrap().clone().unwrap();
        gateway.send(Box::new(near)).await.unwrap_or_else(|_| panic!("nobody listens"));
        self.progress.send_modify(told);
        drop(far);
    }

    async fn attached(world: &Arc<World>) -> Self {
        let mut bench = Self::start(world, mk_machine(), TunnelKind::Ssm);
        bench.until_waiting_for_the_pod().await;
        bench.kubelet_comes(shown).await;
        bench.until(|state| matches!(state, LinkState::Attached { .. })).await;
        world.log();
        bench
    }
}

fn broken(state: &LinkState) -> bool {
    matches!(state, LinkState::Broken { .. })
}

/// The error of a state.
fn error(state: &LinkState) -> &str {
    match state {
        LinkState::Broken { error, .. } => error,
        LinkState::Dialing { error, .. } => error.as_deref().unwrap_or_default(),
        LinkState::Bootstrapping { .. } | LinkState::Attached { .. } => "",
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_is_attached_when_the_kubelet_was_shown_its_pod() {
    let world = World::new();
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    bench.until_waiting_for_the_pod().await;
    assert!(bench.link.status().reached.is_some());
    assert_eq!((bench.link.status().shown, bench.link.status().attached), (false, None));
    bench.kubelet_comes(shown).await;
    let state = bench.until(|state| matches!(state, LinkState::Attached { .. })).await;
    assert!(matches!(state, LinkState::Attached { boot_id, .. } if boot_id == "boot-1"));
    assert!(bench.link.status().shown && bench.link.status().attached.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_link_is_attached_when_the_kubelet_was_told_that_its_pod_is_gone() {
    let mut bench = Bench::start(&World::new(), mk_machine(), TunnelKind::Ssm);
    bench.until_waiting_for_the_pod().await;
    bench.kubelet_comes(|progress| progress.told_gone = true).await;
    bench.until(|state| matches!(state, LinkState::Attached { .. })).await;
    let status = bench.link.status();
    assert!(!status.shown && status.attached.is_none(), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn the_kubelet_may_list_its_pod_when_all_files_are_there_and_not_before() {
    let world = World::new();
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    let step = "sending files and starting the kubelet";
    bench.until(|state| matches!(state, LinkState::Bootstrapping { step: now, .. } if *now == step)).await;
    assert!(!*bench.prepared.borrow());
    bench.until_waiting_for_the_pod().await;
    assert!(*bench.prepared.borrow());
    bench.kubelet_comes(shown).await;
    bench.until(|state| matches!(state, LinkState::Attached { .. })).await;
    // The next connection may find that something is missing.
    *world.bootstrap.lock().unwrap() = "no".to_owned();
    world.cut_all();
    bench.until(|state| error(state).starts_with("bootstrap")).await;
    assert!(!*bench.prepared.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_first_attachment_is_one_change() {
    let world = World::new();
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    bench.until_waiting_for_the_pod().await;
    let seen = async {
        loop {
            let status = bench.link.status();
            let attached = matches!(status.state, LinkState::Attached { .. });
            assert_eq!((status.shown, status.attached.is_some()), (attached, attached), "{status:?}");
            if attached {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(seen, bench.kubelet_comes(shown));
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_during_a_bootstrap_is_told_with_what_that_leads_to() {
    let mut bench = Bench::start(&World::new(), mk_machine(), TunnelKind::Ssm);
    bench.until_waiting_for_the_pod().await;
    let mut status = bench.link.status();
    let progress = Progress { shown: true, ..Progress::default() };
    note(&mut status, progress);
    assert_eq!((status.shown, status.attached), (false, None), "the attachment is not noted yet");
    // The connection breaks before anything else is seen.
    status.state = LinkState::Dialing { since: clock::now(), error: None, was_attached: false };
    note(&mut status, progress);
    assert!(status.shown && status.attached.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_boots_is_dialed_until_it_answers() {
    let world = World::new();
    for _ in 0..20 {
        world.refusals.lock().unwrap().push_back(TunnelError::NotYet("no agent".to_owned()));
    }
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    let state = bench.until(|state| !error(state).is_empty()).await;
    let LinkState::Dialing { since, error, was_attached: false } = state else { panic!("{state:?}") };
    assert_eq!(error.as_deref(), Some("not reachable yet: no agent"));
    sleep(Duration::from_secs(20)).await;
    let state = bench.link.status().state;
    assert!(matches!(state, LinkState::Dialing { since: still, .. } if still == since), "{state:?}");
    bench.until_waiting_for_the_pod().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_again_with_the_pin_and_the_same_files() {
    let world = World::new();
    let mut bench = Bench::attached(&world).await;
    let attached = bench.link.status().attached;
    world.cut_all();
    let state = bench.until(|state| matches!(state, LinkState::Dialing { .. })).await;
    assert!(matches!(&state, LinkState::Dialing { was_attached: true, .. }), "{state:?}");
    assert_eq!(error(&state), "connection lost: cut");
    // In the same boot the kubelet need not be seen again.
    bench.until(|state| matches!(state, LinkState::Attached { .. })).await;
    assert_eq!(
        world.log(),
        ["dial, pin ssh-ed25519 AAAAhost", "probe", "listen 127.0.0.1:6443", "bootstrap with secrets"]
    );
    assert_eq!(bench.link.status().attached, attached);
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_the_new_kubelet_must_come() {
    let world = World::new();
    let mut bench = Bench::attached(&world).await;
    *world.probe.lock().unwrap() = PROBE_OUTPUT.replace("boot-1", "boot-2");
    world.cut_all();
    bench.until(|state| matches!(state, LinkState::Dialing { .. })).await;
    bench.until_waiting_for_the_pod().await;
    sleep(Duration::from_secs(10)).await;
    assert!(matches!(bench.link.status().state, LinkState::Bootstrapping { .. }));
    bench.kubelet_comes(shown).await;
    let state = bench.until(|state| matches!(state, LinkState::Attached { .. })).await;
    assert!(matches!(state, LinkState::Attached { boot_id, .. } if boot_id == "boot-2"));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_link_leaves_no_connection() {
    let world = World::new();
    let bench = Bench::attached(&world).await;
    assert_eq!(world.open_wires(), 1);
    drop(bench);
    // The runtime drops an aborted task when it comes to it.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(world.open_wires(), 0);
}

const DEADLINE: Duration = Duration::from_secs(10);

async fn hello(stream: &mut ByteStream) {
    let mut got = [0; 5];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
}

#[tokio::test(start_paused = true)]
async fn a_spot_machine_is_asked_for_its_notice_and_switched_off_when_told() {
    let world = World::new();
    let machine = Machine { lifecycle: crate::cloud::Lifecycle::Spot, ..mk_machine() };
    let mut bench = Bench::start(&world, machine, TunnelKind::Ssm);
    bench.until_waiting_for_the_pod().await;
    sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.link.status().notice, None);
    *world.notice.lock().unwrap() = r#"{"action": "terminate", "time": "2026-11-21T08:22:00Z"}"#.to_owned();
    sleep(Duration::from_secs(40)).await;
    assert_eq!(bench.link.status().notice.map(|notice| notice.action).as_deref(), Some("terminate"));

    // Also where the connection breaks before the machine was told.
    world.cut_all();
    bench.link.shut_down.send_replace(true);
    bench.until(|state| matches!(state, LinkState::Dialing { .. })).await;
    bench.until_waiting_for_the_pod().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.log().iter().filter(|line| *line == "shut down").count(), 1);
}
