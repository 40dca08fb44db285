//! Real containers: an image's files under an overlay, namespaces, control groups, a network interface.
//!
//! Knows nothing of pods' states; it pulls, starts, stops and removes. Everything of a container ends with its
//! processes, or is found again by name after this process was killed: see [`cleanup`].

mod address;
mod image;
mod network;
mod process;
mod publish;
mod user;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use tokio::sync::mpsc;

use self::address::Addresses;
use self::image::Images;
use self::process::{Host, Running};
use self::publish::Published;
use super::{ContainerEvent, ContainerSpec, Containers, Disk, EVENTS, Mapping, Mount, Remap, VolumeState};
use crate::machine::cgroup::Cgroups;
use crate::machine::command::run;
use crate::machine::host::{Kind, Lock, effective_user, missing_tools, scope, try_overlay, unusable_path};
use crate::runpod::log::Source;

/// Program, and Debian's package of it.
const TOOLS: [(&str, &str); 6] = [
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("env", "coreutils"),
    ("tar", "tar"),
];

/// What containers are made from.
#[derive(Clone, Debug)]
pub struct LinuxOptions {
    /// A folder of its own: an absolute path of at most 70 bytes, not on an overlay.
    pub dir: PathBuf,
    /// The program of that name, which pulls images.
    pub crane: PathBuf,
    /// The image registry that is asked first, whatever registry an image's name has.
    pub registry: SocketAddr,
    /// Where ports are published.
    pub public_ip: Ipv4Addr,
}

/// Containers on this host. End it with [`LinuxContainers::stop_all`]; what a killed one leaves is removed by the next.
#[derive(Debug)]
pub struct LinuxContainers {
    options: LinuxOptions,
    host: Arc<Host>,
    images: Images,
    addresses: Addresses,
    /// By the pod's id.
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// What an id's image is, once it was pulled.
    pulled: Mutex<HashMap<String, Arc<image::Image>>>,
    events: mpsc::Sender<ContainerEvent>,
    receiver: Mutex<Option<mpsc::Receiver<ContainerEvent>>>,
    _lock: Lock,
}

/// What one pod has on the host.
#[derive(Debug)]
struct Slot {
    dir: PathBuf,
    address: address::Lease,
    /// Held while it is started or stopped.
    running: tokio::sync::Mutex<Option<Running>>,
    published: Mutex<Option<Published>>,
}

impl LinuxContainers {
    /// Checks that containers can be started here, removes what an earlier one left, and is ready.
    /// The error names everything that is missing.
    pub async fn start(options: LinuxOptions) -> anyhow::Result<Arc<Self>> {
        std::fs::create_dir_all(&options.dir)
            .with_context(|| format!("cannot make `{}`", options.dir.display()))?;
        let mut missing = Vec::new();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if effective_user(&status) != Some(0) {
            missing.push("root".to_owned());
        }
        missing.extend(missing_tools(&TOOLS).await?);
        if !options.crane.is_file() {
            missing.push(format!("the program `{}`", options.crane.display()));
        }
        missing.extend(unusable_path(&options.dir));
        let cgroups = scope().and_then(|scope| Cgroups::of_this_host(Kind::Pods, &scope));
        if let Err(error) = &cgroups {
            missing.push(format!("cgroups ({error})"));
        }
        if missing.is_empty()
            && let Err(error) = try_overlay(&options.dir, &options.dir).await
        {
            missing.push(format!("overlay mounts in `{}` ({error:#})", options.dir.display()));
        }
        if !missing.is_empty() {
            bail!("containers cannot be started here; missing: {}", missing.join("; "));
        }
        let lock = Lock::take(Kind::Pods, &options.dir)?;
        let cgroups = cgroups?;
        remove_leftovers(&cgroups, &options.dir).await?;
        network::create().await?;
        let (events, receiver) = mpsc::channel(EVENTS);
        let images = Images::new(options.dir.join("images"), options.crane.clone(), options.registry);
        Ok(Arc::new(Self {
            host: Arc::new(Host { cgroups, tools: tools().await?, events: events.clone() }),
            options,
            images,
            addresses: Addresses::default(),
            slots: Mutex::default(),
            pulled: Mutex::default(),
            events,
            receiver: Mutex::new(Some(receiver)),
            _lock: lock,
        }))
    }

    /// Ends all containers and removes what they shared, images excepted. Nothing of them is left on the host.
    pub async fn stop_all(&self) -> anyhow::Result<()> {
        let ids: Vec<_> = self.lock().keys().cloned().collect();
        futures::future::join_all(ids.iter().map(|id| self.remove(id, Duration::ZERO))).await;
        remove_leftovers(&self.host.cgroups, &self.options.dir).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Option<Arc<Slot>> {
        self.lock().get(id).cloned()
    }

    /// What a pod has on the host, made where it is not there yet.
    fn slot(&self, id: &str) -> anyhow::Result<Arc<Slot>> {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            bail!("pod id is `{id}`, expected lower-case letters and digits");
        }
        let mut slots = self.lock();
        if let Some(slot) = slots.get(id) {
            return Ok(Arc::clone(slot));
        }
        let slot = Arc::new(Slot {
            dir: containers_dir(&self.options.dir).join(id),
            address: self.addresses.lease()?,
            running: tokio::sync::Mutex::default(),
            published: Mutex::default(),
        });
        slots.insert(id.to_owned(), Arc::clone(&slot));
        Ok(slot)
    }

    async fn tell(&self, id: &str, text: String) {
        let line = ContainerEvent::Line { id: id.to_owned(), source: Source::System, text };
        // Nobody listens in a cloud that is ending.
        drop(self.events.send(line).await);
    }

    /// Makes its ports reachable, as they were or anew.
    async fn publish(&self, slot: &Slot, spec: &ContainerSpec) -> anyhow::Result<Vec<Mapping>> {
        let old = {
            let mut published = slot.published.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = |old: &&Published| spec.mapping == Remap::Keep && old.is_of(&spec.ports);
            if let Some(old) = published.as_ref().filter(kept) {
                return Ok(old.mappings.clone());
            }
            published.take()
        };
        // While the old listeners are there, no new one has a port of theirs.
        let new = Published::bind(&spec.ports, self.options.public_ip, slot.address.ip()).await?;
        drop(old);
        let mappings = new.mappings.clone();
        *slot.published.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
        Ok(mappings)
    }

    fn source(&self, slot: &Slot, mount: &Mount) -> PathBuf {
        match mount {
            Mount::Persistent => slot.dir.join("persistent"),
            Mount::Volume(id) => volumes_dir(&self.options.dir).join(id),
        }
    }
}

#[async_trait]
impl Containers for LinuxContainers {
    async fn pull(&self, id: &str, image: &str) -> anyhow::Result<()> {
        self.tell(id, format!("pulling {image}")).await;
        let pulled = self.images.pull(image).await?;
        self.tell(id, format!("Digest: {}", pulled.digest)).await;
        self.tell(id, format!("Status: image is ready for {image}")).await;
        self.pulled.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), pulled);
        Ok(())
    }

    async fn start(&self, spec: ContainerSpec) -> anyhow::Result<Vec<Mapping>> {
        let image = self.pulled.lock().unwrap_or_else(PoisonError::into_inner).get(&spec.id).cloned();
        let image = image.with_context(|| format!("the image `{}` was not pulled", spec.image))?;
        let slot = self.slot(&spec.id)?;
        let mut running = slot.running.lock().await;
        if let Some(running) = running.take() {
            running.stop(&self.host, Duration::ZERO).await?;
        }
        if spec.disk == Disk::Fresh {
            process::wipe(&slot.dir).await?;
        }
        let mounts: Vec<_> =
            spec.mounts.iter().map(|(mount, target)| (self.source(&slot, mount), target.clone())).collect();
        let mappings = self.publish(&slot, &spec).await?;
        let mut env = spec.env.clone();
        env.entry("RUNPOD_PUBLIC_IP".to_owned()).or_insert_with(|| self.options.public_ip.to_string());
        for mapping in &mappings {
            let name = format!("RUNPOD_TCP_PORT_{}", mapping.port.number);
            env.entry(name).or_insert_with(|| mapping.public.to_string());
        }
        let start = process::Start {
            id: &spec.id,
            run: spec.run,
            dir: &slot.dir,
            image: &image,
            argv: spec.command.argv(&image.config.entrypoint, &image.config.cmd),
            env,
            mounts,
            address: slot.address.ip(),
        };
        *running = Some(process::start(&self.host, start).await?);
        Ok(mappings)
    }

    async fn kill(&self, id: &str, _run: u32, _code: i32) {
        let Some(slot) = self.find(id) else { return };
        let running = slot.running.lock().await;
        if let Some(running) = running.as_ref()
            && let Err(error) = running.kill(&self.host).await
        {
            tracing::warn!(id, "the container cannot be killed: {error:#}");
        }
    }

    async fn stop(&self, id: &str, grace: Duration) {
        let Some(slot) = self.find(id) else { return };
        let running = slot.running.lock().await.take();
        if let Some(running) = running
            && let Err(error) = running.stop(&self.host, grace).await
        {
            tracing::error!(id, "the container cannot be stopped: {error:#}");
        }
    }

    async fn remove(&self, id: &str, grace: Duration) {
        self.stop(id, grace).await;
        self.pulled.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let Some(slot) = self.lock().remove(id) else { return };
        let cleared = async {
            // Also of a start that failed half-way.
            self.host.clear(id).await?;
            process::remove(&slot.dir).await
        };
        if let Err(error) = cleared.await {
            tracing::error!(id, "the container cannot be removed: {error:#}");
        }
    }

    async fn volume(&self, id: &str, state: VolumeState) -> anyhow::Result<()> {
        let dir = volumes_dir(&self.options.dir).join(id);
        match state {
            VolumeState::Present => {
                std::fs::create_dir_all(&dir).with_context(|| format!("cannot make `{}`", dir.display()))
            }
            VolumeState::Absent => process::remove(&dir).await,
        }
    }

    fn events(&self) -> Option<mpsc::Receiver<ContainerEvent>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn play(&self, _event: ContainerEvent) -> bool {
        false
    }
}

/// Where the host has the programs that a container is entered with: its own `PATH` must not matter.
async fn tools() -> anyhow::Result<process::Tools> {
    let find = async |tool: &str| {
        let found = run("sh", &["-c", "command -v \"$1\"", "sh", tool]).await?;
        anyhow::Ok(found.trim_end().to_owned())
    };
    Ok(process::Tools {
        env: find("env").await?,
        setpriv: find("setpriv").await?,
        unshare: find("unshare").await?,
    })
}

/// Removes everything that a killed local cloud left of its pods on this host: processes, network, control groups, and
/// the containers' and volumes' files in `dir`. Refused while a local cloud with containers runs.
pub async fn cleanup(dir: &Path) -> anyhow::Result<()> {
    let lock = Lock::take(Kind::Pods, dir)?;
    remove_leftovers(&Cgroups::of_this_host(Kind::Pods, &scope()?)?, dir).await?;
    drop(lock);
    Ok(())
}

async fn remove_leftovers(cgroups: &Cgroups, dir: &Path) -> anyhow::Result<()> {
    let own = scope()?;
    // Of a local cloud that was killed in another network namespace, only the processes and their groups are left.
    for scope in cgroups.scopes().iter().filter(|scope| **scope == own || !Lock::is_held(Kind::Pods, scope)) {
        let cgroups = cgroups.in_scope(scope);
        for id in cgroups.machines() {
            cgroups.destroy(&id).await?;
        }
        cgroups.remove_parent();
    }
    network::remove().await?;
    process::remove(&containers_dir(dir)).await?;
    // Their accounts are forgotten.
    process::remove(&volumes_dir(dir)).await
}

fn containers_dir(dir: &Path) -> PathBuf {
    dir.join("containers")
}

fn volumes_dir(dir: &Path) -> PathBuf {
    dir.join("volumes")
}
