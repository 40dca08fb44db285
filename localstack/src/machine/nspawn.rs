//! Machines made of systemd-nspawn: each with its own systemd, network, control groups and disk on one shared image.
//!
//! Knows nothing of EC2's states; it boots, cuts and removes. Everything of a machine ends with its processes, or is
//! found again by name after this process was killed: see [`cleanup`].

mod disk;
mod forward;
mod host;
mod power;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;

use self::disk::Disk;
use self::host::Host;
use self::power::Panel;
use super::cgroup::Cgroups;
use super::host::{Kind, Lock, scope};
use super::imds::Imds;
use super::network::{self, Network};
use super::{Freeze, MachineEvent, MachineSpec, Machines, Notices, agent};

/// Events that a slow listener may be behind; it then sees `Lagged` and asks for each machine.
const EVENTS: usize = 1024;

/// What machines are made from.
#[derive(Clone, Debug)]
pub struct NspawnOptions {
    /// A folder of its own for the machines' files: an absolute path of at most 70 bytes, not on an overlay.
    pub dir: PathBuf,
    /// The folder that `localstack/image/build.sh` makes.
    pub image: PathBuf,
    /// Where the registry beside the cloud listens, as seen from the host.
    pub registry: SocketAddr,
    /// The program that is started as `PROGRAM agent --socket PATH` for every machine: this one.
    pub agent: PathBuf,
}

/// Machines on this host. End it with [`Nspawn::stop`]; what a killed one leaves is removed by the next.
#[derive(Debug)]
pub struct Nspawn {
    site: Arc<Site>,
    machines: Mutex<HashMap<String, Arc<Machine>>>,
    _registry: AbortOnDropHandle<()>,
}

/// What all machines share.
#[derive(Debug)]
struct Site {
    options: NspawnOptions,
    host: Host,
    network: Network,
    imds: Imds,
    events: broadcast::Sender<MachineEvent>,
}

#[derive(Debug)]
struct Machine {
    spec: MachineSpec,
    disk: Disk,
    /// Where its requests for metadata are sent.
    metadata: SocketAddrV4,
    panel: Panel,
    /// Held while its power is switched, one way or the other.
    power: tokio::sync::Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Nspawn {
    /// Checks that machines can be booted here, removes what an earlier one left, and is ready to boot.
    /// The error names everything that is missing.
    pub async fn start(mut options: NspawnOptions) -> anyhow::Result<Arc<Self>> {
        std::fs::create_dir_all(&options.dir)
            .with_context(|| format!("cannot make `{}`", options.dir.display()))?;
        // A newer image may be put in the place of this one while its machines run.
        if let Ok(image) = options.image.canonicalize() {
            options.image = image;
        }
        let host = Host::claim(&options.dir, &options.image, &options.agent).await?;
        remove_leftovers(&host.cgroups, &options.dir).await?;
        let network = Network::create().await?;
        let listener = TcpListener::bind((network::SERVICES, network::REGISTRY_PORT))
            .await
            .with_context(|| format!("listening on `{}:{}`", network::SERVICES, network::REGISTRY_PORT))?;
        let registry = AbortOnDropHandle::new(tokio::spawn(forward::forward(listener, options.registry)));
        let (events, _) = broadcast::channel(EVENTS);
        let imds = Imds::new(network::SERVICES);
        Ok(Arc::new(Self {
            site: Arc::new(Site { options, host, network, imds, events }),
            machines: Mutex::default(),
            _registry: registry,
        }))
    }

    /// Destroys all machines and removes what they shared. Nothing of them is left on the host.
    pub async fn stop(&self) -> anyhow::Result<()> {
        let ids: Vec<_> = self.lock().keys().cloned().collect();
        futures::future::join_all(ids.iter().map(|id| self.destroy(id))).await;
        remove_leftovers(&self.site.host.cgroups, &self.site.options.dir).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Machine>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Option<Arc<Machine>> {
        self.lock().get(id).cloned()
    }

    fn expect(&self, id: &str) -> anyhow::Result<Arc<Machine>> {
        self.find(id).with_context(|| format!("there is no machine `{id}`"))
    }

    async fn switch_on(&self, machine: &Arc<Machine>) -> anyhow::Result<()> {
        let mut power = machine.power.lock().await;
        self.switch_off(machine, power.take()).await?;
        let running = power::start(&self.site, machine).await?;
        let supervised = power::supervise(Arc::clone(&self.site), Arc::clone(machine), running);
        *power = Some(AbortOnDropHandle::new(tokio::spawn(supervised)));
        Ok(())
    }

    async fn switch_off(
        &self,
        machine: &Machine,
        supervisor: Option<AbortOnDropHandle<()>>,
    ) -> anyhow::Result<()> {
        if let Some(supervisor) = supervisor {
            supervisor.abort();
            // It is over when this returns, by itself or by us.
            drop(supervisor.await);
        }
        // A button that was pressed while it was off does nothing later.
        drop(tokio::time::timeout(Duration::ZERO, machine.panel.button.notified()).await);
        machine.panel.up.store(false, Ordering::Relaxed);
        machine.panel.frozen.store(false, Ordering::Relaxed);
        power::clear(&self.site, machine).await
    }

    async fn remove(&self, machine: &Machine) -> anyhow::Result<()> {
        let mut power = machine.power.lock().await;
        self.switch_off(machine, power.take()).await?;
        self.site.imds.forget(&machine.spec);
        machine.disk.remove()
    }
}

#[async_trait]
impl Machines for Nspawn {
    async fn boot(&self, spec: MachineSpec) -> anyhow::Result<()> {
        let id = spec.id.clone();
        if !is_id(&id) {
            bail!("machine id is `{id}`, expected i- and hexadecimal digits");
        }
        let disk = Disk { dir: machines_dir(&self.site.options.dir).join(&id) };
        let metadata = self.site.imds.register(&spec).await?;
        let machine = Arc::new(Machine {
            spec,
            disk,
            metadata,
            panel: Panel::default(),
            power: tokio::sync::Mutex::default(),
        });
        match self.lock().entry(id.clone()) {
            std::collections::hash_map::Entry::Occupied(_) => bail!("machine `{id}` exists already"),
            std::collections::hash_map::Entry::Vacant(place) => place.insert(Arc::clone(&machine)),
        };
        let booted = async {
            machine.disk.create(&machine.spec, &self.site.options.image).await?;
            self.switch_on(&machine).await
        };
        if let Err(error) = booted.await {
            self.destroy(&id).await;
            return Err(error.context(format!("booting `{id}`")));
        }
        Ok(())
    }

    async fn shut_down(&self, id: &str) {
        if let Some(machine) = self.find(id) {
            machine.panel.button.notify_one();
        }
    }

    async fn destroy(&self, id: &str) {
        let Some(machine) = self.find(id) else { return };
        match self.remove(&machine).await {
            Ok(()) => drop(self.lock().remove(id)),
            // It stays known, so that it can be tried again.
            Err(error) => tracing::error!(id, "machine cannot be removed: {error:#}"),
        }
    }

    async fn power_cycle(&self, id: &str) -> anyhow::Result<()> {
        let machine = self.expect(id)?;
        self.switch_on(&machine).await.with_context(|| format!("power cycle of `{id}`"))
    }

    async fn freeze(&self, id: &str, state: Freeze) -> anyhow::Result<()> {
        let machine = self.expect(id)?;
        let power = machine.power.lock().await;
        if power.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            bail!("machine `{id}` is off");
        }
        self.site.host.cgroups.freeze(id, state).await?;
        machine.panel.frozen.store(state == Freeze::Frozen, Ordering::Relaxed);
        Ok(())
    }

    fn console(&self, id: &str) -> String {
        self.find(id).map(|machine| machine.disk.console_text()).unwrap_or_default()
    }

    fn agent_online(&self, id: &str) -> bool {
        self.find(id).is_some_and(|machine| machine.is_online())
    }

    async fn dial(&self, id: &str, port: u16) -> io::Result<UnixStream> {
        let machine = self.find(id).filter(|machine| machine.is_online());
        let Some(machine) = machine else {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                format!("the agent of `{id}` is not online"),
            ));
        };
        agent::connect(&machine.disk.agent_socket(), port).await
    }

    fn notify(&self, id: &str, notices: Notices) {
        if let Some(machine) = self.find(id) {
            self.site.imds.notify(&machine.spec, notices);
        }
    }

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.site.events.subscribe()
    }
}

impl Machine {
    fn is_online(&self) -> bool {
        self.panel.up.load(Ordering::Relaxed) && !self.panel.frozen.load(Ordering::Relaxed)
    }
}

/// Removes everything that a killed local cloud left on this host: processes, network, control groups, and the
/// machines' files in `dir`. Refused while a local cloud runs.
pub async fn cleanup(dir: &Path) -> anyhow::Result<()> {
    let lock = Lock::take(Kind::Machines, dir)?;
    remove_leftovers(&Cgroups::of_this_host(Kind::Machines, &scope()?)?, dir).await?;
    drop(lock);
    Ok(())
}

async fn remove_leftovers(cgroups: &Cgroups, dir: &Path) -> anyhow::Result<()> {
    let own = scope()?;
    // Of a local cloud that was killed in another network namespace, only the processes and their groups are left.
    for scope in
        cgroups.scopes().iter().filter(|scope| **scope == own || !Lock::is_held(Kind::Machines, scope))
    {
        let cgroups = cgroups.in_scope(scope);
        for id in cgroups.machines() {
            cgroups.destroy(&id).await?;
        }
        cgroups.remove_parent();
    }
    Network::remove().await?;
    Disk { dir: machines_dir(dir) }.remove()
}

fn machines_dir(dir: &Path) -> PathBuf {
    dir.join("machines")
}

/// It becomes a part of paths and of link names.
fn is_id(id: &str) -> bool {
    id.strip_prefix("i-").is_some_and(|digits| {
        (1..=17).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}
