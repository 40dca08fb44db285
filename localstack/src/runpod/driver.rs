//! Lets the containers follow the pods: one loop that asks every pod what its container needs.
//!
//! Level-triggered, as the machines' driver is: nothing is queued, so nothing can be lost or done twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::RunPod;
use super::account::Account;
use super::container::{ContainerEvent, ContainerSpec, Containers, Mapping, Mount};
use super::order::{Compute, PortKind};
use super::pod::{Container, Job, Pod};
use super::secrets;
use super::settings::millis;

/// How long without news before looking again anyway.
const IDLE: Duration = Duration::from_secs(5);

/// Events that are taken in at once.
const BATCH: usize = 256;

/// What became of a job.
enum Done {
    Pulled(Result<(), String>),
    Created(Result<Vec<Mapping>, String>),
    Killed,
    Halted,
    Removed,
}

/// Everything that a job needs of the account.
enum Work {
    Pull { image: String },
    Create(Box<ContainerSpec>),
    Kill { run: u32, code: i32 },
    Halt { grace: Duration },
    Remove { grace: Duration },
}

/// Runs until the account is gone or `ending` is cancelled; then no job is under way any more.
pub(super) async fn run(
    runpod: Weak<RunPod>,
    mut events: mpsc::Receiver<ContainerEvent>,
    ending: CancellationToken,
) {
    let mut jobs: JoinSet<(String, Done)> = JoinSet::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let Some(strong) = runpod.upgrade() else { return };
        let (work, wait) = strong.view(collect);
        for (id, work) in work {
            jobs.spawn(perform(strong.containers.clone(), id, work));
        }
        let wake = strong.wake.clone();
        drop(strong);
        tokio::select! {
            () = ending.cancelled() => return jobs.shutdown().await,
            () = wake.notified() => {}
            () = sleep(wait) => {}
            count = events.recv_many(&mut batch, BATCH) => {
                let Some(runpod) = runpod.upgrade().filter(|_| count > 0) else { return };
                runpod.view(|account, now| {
                    batch.drain(..).for_each(|event| account.happened(event, now));
                });
            }
            Some(done) = jobs.join_next() => {
                let Some(runpod) = runpod.upgrade() else { return };
                match done {
                    Ok((id, done)) => runpod.view(|account, now| finished(account, &id, done, now)),
                    Err(error) => tracing::error!(%error, "a container's job panicked"),
                }
            }
        }
    }
}

/// Jobs that are due, marked as begun, and how long until something may be due again.
fn collect(account: &mut Account, now: Timestamp) -> (Vec<(String, Work)>, Duration) {
    let mut begun = Vec::new();
    for pod in account.pods.values_mut() {
        let Some(job) = pod.job(now, &account.settings) else { continue };
        pod.container = match job {
            Job::Pull => Container::Pulling,
            Job::Create => Container::Creating,
            Job::Kill { .. } => Container::Dying,
            Job::Halt => Container::Halting,
            Job::Remove => Container::Removing,
        };
        if job == Job::Create {
            pod.made = true;
            pod.run += 1;
        }
        begun.push((pod.id.clone(), job));
    }
    let grace = millis(account.settings.stop_grace_ms);
    let work = |(id, job): (String, Job)| {
        let pod = account.pods.get(&id)?;
        let work = match job {
            Job::Pull => Work::Pull { image: pod.order.image.clone() },
            Job::Create => Work::Create(Box::new(spec(account, pod))),
            Job::Kill { code } => Work::Kill { run: pod.run, code },
            Job::Halt => Work::Halt { grace },
            Job::Remove => Work::Remove { grace },
        };
        Some((id, work))
    };
    let work = begun.into_iter().filter_map(work).collect();
    let wait = Duration::try_from(account.next_due().duration_since(now)).unwrap_or_default();
    (work, wait.clamp(Duration::from_millis(1), IDLE))
}

async fn perform(containers: Arc<dyn Containers>, id: String, work: Work) -> (String, Done) {
    let told = |error: anyhow::Error| format!("{error:#}");
    let done = match work {
        Work::Pull { image } => Done::Pulled(containers.pull(&id, &image).await.map_err(told)),
        Work::Create(spec) => Done::Created(containers.start(*spec).await.map_err(told)),
        Work::Kill { run, code } => {
            containers.kill(&id, run, code).await;
            Done::Killed
        }
        Work::Halt { grace } => {
            containers.stop(&id, grace).await;
            Done::Halted
        }
        Work::Remove { grace } => {
            containers.remove(&id, grace).await;
            Done::Removed
        }
    };
    (id, done)
}

fn finished(account: &mut Account, id: &str, done: Done, now: Timestamp) {
    match done {
        Done::Pulled(result) => account.pulled(id, result, now),
        Done::Created(result) => account.created(id, result, now),
        // Its exit is an event.
        Done::Killed => {}
        Done::Halted => account.halted(id),
        Done::Removed => account.removed(id),
    }
}

fn spec(account: &Account, pod: &Pod) -> ContainerSpec {
    let order = &pod.order;
    let persistent = order.mounts.persistent.iter().map(|mount| (Mount::Persistent, mount.path.clone()));
    let network =
        order.mounts.volume().map(|mount| (Mount::Volume(mount.volume_id.clone()), mount.path.clone()));
    ContainerSpec {
        id: pod.id.clone(),
        run: pod.run,
        image: order.image.clone(),
        command: order.command.clone(),
        env: environment(account, pod),
        disk: pod.disk,
        mounts: persistent.chain(network).collect(),
        ports: order.ports.iter().copied().filter(|port| port.kind == PortKind::Tcp).collect(),
        mapping: pod.remap,
    }
}

/// The pod's own variables, and those that RunPod adds where the pod has none of the name. What depends on how its
/// ports are reached is added by whoever maps them.
pub(super) fn environment(account: &Account, pod: &Pod) -> BTreeMap<String, String> {
    let order = &pod.order;
    let mut env: BTreeMap<String, String> = order
        .env
        .iter()
        .map(|(name, value)| (name.clone(), secrets::resolved(value, &account.secrets)))
        .collect();
    let mut add = |name: &str, value: String| {
        env.entry(name.to_owned()).or_insert(value);
    };
    add("RUNPOD_POD_ID", pod.id.clone());
    add("RUNPOD_POD_HOSTNAME", format!("{}-{:08x}", pod.id, pod.sequence));
    add("RUNPOD_API_KEY", pod.key.clone());
    add("RUNPOD_DC_ID", pod.placement.data_center.to_owned());
    add("RUNPOD_CPU_COUNT", pod.placement.vcpus.to_string());
    add("RUNPOD_MEM_GB", pod.placement.memory.to_string());
    if let Compute::Gpu { gpu, count, .. } = &order.compute {
        add("RUNPOD_GPU_COUNT", count.to_string());
        add("RUNPOD_GPU_NAME", gpu.name.to_owned());
    }
    if let Some(cuda) = pod.placement.cuda {
        add("CUDA_VERSION", cuda.to_owned());
    }
    if let Some(mount) = order.mounts.volume() {
        add("RUNPOD_VOLUME_ID", mount.volume_id.clone());
    }
    if order.start_ssh && !account.ssh_keys.is_empty() {
        add("PUBLIC_KEY", account.ssh_keys.join("\n"));
    }
    if order.start_jupyter {
        add("JUPYTER_PASSWORD", super::ids::fresh(20));
    }
    env
}
