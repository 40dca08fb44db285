//! The links of all machines, for real: SSH over the configured transport.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::bootstrap::Plugins;
use super::health;
use super::pool::Pool;
use super::sessions::Sessions;
use super::side::Side;
use super::task::{Hub, Link, Upstream, run};
use super::wire::SshDial;
use super::{LinkStatus, Links, Machine, Metrics, Reach};
use crate::cloud::Cloud;
use crate::config::{Config, TunnelKind};
use crate::gateway::{Gateway, Guest, Session};
use crate::guest::{KeepLogs, Snat, capacity};
use crate::keys::{Keys, KeysError};
use crate::leader::Fence;
use crate::tunnel::{ByteStream, Transport, TunnelError};

/// Changes that a slow listener may be behind; after that it is told that it missed some.
const CHANGES: usize = 1024;
/// For a connection to say goodbye.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// What links stand on.
#[derive(Clone, Debug)]
pub struct LinkDeps {
    pub transport: Arc<dyn Transport>,
    pub cloud: Arc<dyn Cloud>,
    pub gateway: Arc<Gateway>,
    pub keys: Keys,
    pub settings: LinkSettings,
    /// Open while this process may act.
    pub fence: Fence,
}

/// What links need of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// Name of the virtual node.
    pub node: String,
    pub tunnel: TunnelKind,
    pub snat: Snat,
    pub root_volume_gib: u32,
    /// A machine ends itself when it was not contacted for so long.
    pub max_lost_contact: Duration,
    pub logs: KeepLogs,
    /// Folder of the CNI plugins that a machine may lack: `NAME`, or `ARCH/NAME`.
    pub cni_plugins_dir: PathBuf,
}

impl From<&Config> for LinkSettings {
    fn from(config: &Config) -> Self {
        Self {
            node: config.node.name.clone(),
            tunnel: config.aws.tunnel,
            snat: if config.network.external_snat { Snat::External } else { Snat::Machine },
            root_volume_gib: config.instances.root_volume.size_gib,
            max_lost_contact: config.limits.max_lost_contact,
            logs: if config.logs.is_some() { KeepLogs::Yes } else { KeepLogs::No },
            cni_plugins_dir: config.guest.cni_plugins_dir.clone(),
        }
    }
}

/// Links to real machines. All of its functions are called inside a tokio runtime.
pub struct LiveLinks {
    hub: Arc<Hub>,
    gateway: Arc<Gateway>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By pod UID.
    links: HashMap<String, Entry>,
    /// Connections that are saying goodbye.
    closing: JoinSet<()>,
}

struct Entry {
    link: Arc<Link>,
    session: Arc<Session>,
    pool: Arc<Pool>,
    side: Arc<Side>,
    /// Ends with the entry, and its connection with it.
    task: AbortOnDropHandle<()>,
}

impl LiveLinks {
    /// No links yet.
    ///
    /// # Errors
    /// The keys can't be used for TLS.
    pub fn new(deps: LinkDeps) -> Result<Arc<Self>, KeysError> {
        let LinkDeps { transport, cloud, gateway, keys, settings, fence } = deps;
        let metrics = Metrics::default();
        let private_key = keys.ssh_private.clone();
        let tls = keys.kubelet_client_tls()?;
        let hub = Hub {
            dial: Arc::new(SshDial { transport, private_key, metrics: metrics.clone() }),
            sessions: match settings.tunnel {
                TunnelKind::Ssm => Sessions::new(metrics.wait.clone()),
                TunnelKind::Direct => Sessions::direct(),
            },
            metrics,
            cloud,
            health: health::ask(tls.clone()),
            tls,
            keys,
            plugins: Arc::new(Plugins::new(&settings.cni_plugins_dir)),
            settings,
            fence,
            forwards: Arc::default(),
            changes: broadcast::Sender::new(CHANGES),
        };
        Ok(Arc::new(Self { hub: Arc::new(hub), gateway, state: Mutex::default() }))
    }

    /// What goes over the links.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.hub.metrics.clone()
    }

    /// Says goodbye to every machine, so that nothing of this process is in the next one's way there.
    pub async fn close(&self, deadline: Duration) {
        let mut closing = {
            let mut state = self.lock();
            let entries: Vec<_> = state.links.drain().map(|(_, entry)| entry).collect();
            for entry in entries {
                self.end(&mut state, entry);
            }
            std::mem::take(&mut state.closing)
        };
        // A machine that is not reached ends the connection itself.
        drop(timeout(deadline, async { while closing.join_next().await.is_some() {} }).await);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, machine: Machine) -> Entry {
        let session = self.gateway.admit(Guest {
            pod_uid: machine.pod_uid.clone(),
            pod_namespace: machine.pod_namespace.clone(),
            pod_name: machine.pod_name.clone(),
            instance_id: machine.instance_id.clone(),
            private_ip: machine.private_ip,
            pod_ip: machine.pod_ip,
            capacity: capacity(&machine.instance_type, self.hub.settings.root_volume_gib),
        });
        let (gateway, served) = (Arc::clone(&self.gateway), Arc::clone(&session));
        let upstream = Upstream {
            token: session.token(),
            progress: session.progress(),
            prepared: session.prepared(),
            serve: Box::new(move |stream| Box::pin(Arc::clone(&gateway).serve(Arc::clone(&served), stream))),
        };
        let link = Arc::new(Link::new(Arc::clone(&self.hub), machine, upstream));
        let task = AbortOnDropHandle::new(tokio::spawn(run(Arc::clone(&link))));
        Entry {
            pool: Pool::new(Arc::clone(&link)),
            side: Arc::new(Side::new(Arc::clone(&link))),
            link,
            session,
            task,
        }
    }

    /// Ends what is left of an entry.
    fn end(&self, state: &mut State, entry: Entry) {
        let Entry { link, pool, side, task, session: _ } = entry;
        drop(task);
        self.gateway.dismiss(&link.machine.pod_uid);
        while state.closing.try_join_next().is_some() {}
        for wire in pool.close().into_iter().chain(side.close()) {
            state.closing.spawn(async move {
                // The machine ends the connection itself if it is not heard.
                drop(timeout(CLOSE_DEADLINE, wire.close()).await);
            });
        }
    }

    fn side(&self, pod_uid: &str) -> Result<Arc<Side>, TunnelError> {
        let state = self.lock();
        let entry = state.links.get(pod_uid);
        entry.map(|entry| Arc::clone(&entry.side)).ok_or_else(|| no_machine(pod_uid))
    }

    fn changed(&self, pod_uid: &str) {
        // Nobody may be listening.
        drop(self.hub.changes.send(pod_uid.to_owned()));
    }
}

impl std::fmt::Debug for LiveLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveLinks").field("uids", &self.uids()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Links for LiveLinks {
    fn ensure(&self, machine: Machine) {
        let uid = machine.pod_uid.clone();
        let mut state = self.lock();
        if state.links.get(&uid).is_some_and(|entry| entry.link.machine.instance_id == machine.instance_id) {
            return;
        }
        if let Some(old) = state.links.remove(&uid) {
            self.end(&mut state, old);
        }
        let entry = self.start(machine);
        state.links.insert(uid.clone(), entry);
        drop(state);
        self.changed(&uid);
    }

    fn status(&self, pod_uid: &str) -> Option<LinkStatus> {
        self.lock().links.get(pod_uid).map(|entry| entry.link.status())
    }

    fn revoke(&self, pod_uid: &str) -> bool {
        self.lock().links.get(pod_uid).is_some_and(|entry| entry.session.revoke())
    }

    fn shut_down(&self, pod_uid: &str) {
        if let Some(entry) = self.lock().links.get(pod_uid) {
            entry.link.shut_down.send_replace(true);
        }
    }

    fn is_ending(&self, pod_uid: &str) -> bool {
        let is_ending = |entry: &Entry| entry.session.is_revoked() || *entry.link.shut_down.borrow();
        self.lock().links.get(pod_uid).is_some_and(is_ending)
    }

    fn remove(&self, pod_uid: &str) {
        let mut state = self.lock();
        let Some(entry) = state.links.remove(pod_uid) else { return };
        self.end(&mut state, entry);
        drop(state);
        self.changed(pod_uid);
    }

    fn uids(&self) -> Vec<String> {
        self.lock().links.keys().cloned().collect()
    }

    fn pod(&self, pod_uid: &str) -> Option<(String, String)> {
        let state = self.lock();
        let machine = &state.links.get(pod_uid)?.link.machine;
        Some((machine.pod_namespace.clone(), machine.pod_name.clone()))
    }

    fn reach(&self) -> watch::Receiver<Reach> {
        self.hub.sessions.reach()
    }

    fn subscribe(&self) -> broadcast::Receiver<String> {
        self.hub.changes.subscribe()
    }

    async fn kubelet_stream(&self, pod_uid: &str, deadline: Duration) -> Result<ByteStream, TunnelError> {
        let pool = self.lock().links.get(pod_uid).map(|entry| Arc::clone(&entry.pool));
        match pool {
            Some(pool) => pool.stream(deadline).await,
            None => Err(no_machine(pod_uid)),
        }
    }

    async fn command(
        &self,
        pod_uid: &str,
        command: &str,
        deadline: Duration,
    ) -> Result<ByteStream, TunnelError> {
        self.side(pod_uid)?.command(command, deadline).await
    }

    async fn scrape_stream(&self, pod_uid: &str, deadline: Duration) -> Result<ByteStream, TunnelError> {
        self.side(pod_uid)?.kubelet(deadline).await
    }

    fn kubelet_tls(&self, pod_uid: &str) -> Option<Arc<rustls::ClientConfig>> {
        self.lock().links.contains_key(pod_uid).then(|| Arc::clone(&self.hub.tls))
    }
}

fn no_machine(pod_uid: &str) -> TunnelError {
    TunnelError::NotYet(format!("pod `{pod_uid}` has no machine"))
}
