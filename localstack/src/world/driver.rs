//! Lets the machines follow the instances: one loop that asks every instance what its machine needs.
//!
//! Level-triggered: nothing is queued, so nothing can be lost or done twice.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::World;
use super::instance::{Instance, Job, Machine, Power, Reason};
use crate::clock;
use crate::machine::{ImdsOptions, MachineEvent, MachineSpec, Notices};

/// Boots at the same time. More only slow each other down.
const BOOTS: usize = 8;
/// How long without news before looking again anyway.
const IDLE: Duration = Duration::from_secs(5);

/// What became of a job.
enum Done {
    Booted(Result<(), String>),
    AskedToShutDown,
    Rebooted(Result<(), String>),
    Destroyed { console: String },
}

/// Runs until the world is gone or `ending` is cancelled; then no job is under way any more.
pub(super) async fn run(world: Weak<World>, mut events: Receiver<MachineEvent>, ending: CancellationToken) {
    let mut jobs: JoinSet<(String, Done)> = JoinSet::new();
    let mut boots = 0;
    loop {
        let Some(strong) = world.upgrade() else { return };
        let Due { work, told, wait } = collect(&strong, BOOTS - boots);
        for (id, notices) in told {
            strong.machines().notify(&id, notices);
        }
        for (id, job, spec) in work {
            boots += usize::from(matches!(job, Job::Boot));
            jobs.spawn(perform(strong.clone(), id, job, spec));
        }
        let wake = strong.wake.clone();
        drop(strong);
        tokio::select! {
            () = ending.cancelled() => return jobs.shutdown().await,
            () = wake.notified() => {}
            () = sleep(wait) => {}
            event = events.recv() => {
                let Some(world) = world.upgrade() else { return };
                match event {
                    Ok(event) => happened(&world, &event),
                    Err(RecvError::Lagged(lost)) => tracing::error!(lost, "machine events were lost"),
                    Err(RecvError::Closed) => return,
                }
            }
            Some(done) = jobs.join_next() => {
                let Some(world) = world.upgrade() else { return };
                match done {
                    Ok((id, done)) => {
                        boots -= usize::from(matches!(done, Done::Booted(_)));
                        finished(&world, &id, done);
                    }
                    Err(error) => tracing::error!(%error, "a machine's job panicked"),
                }
            }
        }
    }
}

type Work = (String, Job, Option<Box<MachineSpec>>);

/// What is due.
struct Due {
    /// Jobs, marked as begun.
    work: Vec<Work>,
    /// What instances have to be told, marked as told.
    told: Vec<(String, Notices)>,
    /// How long until something may be due again.
    wait: Duration,
}

fn collect(world: &World, boots: usize) -> Due {
    let mut left = boots;
    world.view(|cloud, now| {
        let timing = cloud.timing;
        let (mut work, mut told) = (Vec::new(), Vec::new());
        let until = |at: jiff::Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let mut wait = cloud.next_due().map_or(IDLE, |at| IDLE.min(until(at)));
        let mut waiting: Vec<&mut Instance> = cloud.instances.values_mut().collect();
        waiting.sort_by_key(|instance| instance.sequence);
        for instance in waiting {
            if let Machine::Halting { until } = instance.machine {
                wait = wait.min(Duration::try_from(until.duration_since(now)).unwrap_or_default());
            }
            if instance.machine == Machine::Up && instance.told != instance.notices {
                instance.told = instance.notices;
                told.push((instance.id.clone(), instance.notices));
            }
            let Some(job) = instance.job(now, &timing) else { continue };
            let spec = match job {
                Job::Boot if left == 0 => continue,
                Job::Boot => {
                    left -= 1;
                    instance.machine_is(Machine::Booting, now);
                    Some(Box::new(spec(world, instance)))
                }
                Job::ShutDown => {
                    let until = clock::after(now, timing.shutdown_grace);
                    instance.machine_is(Machine::Halting { until }, now);
                    None
                }
                Job::Reboot => {
                    instance.reboots = false;
                    None
                }
                Job::Destroy => {
                    instance.machine_is(Machine::Destroying, now);
                    None
                }
            };
            work.push((instance.id.clone(), job, spec));
        }
        Due { work, told, wait: wait.max(Duration::from_millis(1)) }
    })
}

async fn perform(
    world: std::sync::Arc<World>,
    id: String,
    job: Job,
    spec: Option<Box<MachineSpec>>,
) -> (String, Done) {
    let machines = world.machines().clone();
    // The world may go while a machine is busy.
    drop(world);
    let done = match (job, spec) {
        (Job::Boot, Some(spec)) => {
            Done::Booted(machines.boot(*spec).await.map_err(|error| format!("{error:#}")))
        }
        (Job::ShutDown | Job::Boot, _) => {
            machines.shut_down(&id).await;
            Done::AskedToShutDown
        }
        (Job::Reboot, _) => {
            Done::Rebooted(machines.power_cycle(&id).await.map_err(|error| format!("{error:#}")))
        }
        (Job::Destroy, _) => {
            let console = machines.console(&id);
            machines.destroy(&id).await;
            Done::Destroyed { console }
        }
    };
    (id, done)
}

fn finished(world: &World, id: &str, done: Done) {
    world.view(|cloud, now| {
        let Some(instance) = cloud.instances.get_mut(id) else { return };
        match done {
            Done::Booted(Ok(())) => {
                if instance.machine == Machine::Booting {
                    instance.machine_is(Machine::Up, now);
                }
            }
            Done::Booted(Err(message)) => failed(instance, &message, now),
            Done::AskedToShutDown | Done::Rebooted(Ok(())) => {}
            Done::Rebooted(Err(message)) => {
                tracing::warn!(instance.id = %id, error = message, "a machine was not booted anew");
            }
            Done::Destroyed { console } => {
                instance.console = console;
                instance.machine_is(Machine::Gone, now);
            }
        }
    });
}

fn happened(world: &World, event: &MachineEvent) {
    world.view(|cloud, now| match event {
        MachineEvent::PoweredOff { id } => {
            if let Some(instance) = cloud.instances.get_mut(id) {
                tracing::info!(instance.id = %id, "machine powered off");
                instance.powered_off(now);
            }
        }
        MachineEvent::Failed { id, message } => {
            if let Some(instance) = cloud.instances.get_mut(id) {
                failed(instance, message, now);
            }
        }
    });
}

fn failed(instance: &mut Instance, message: &str, now: jiff::Timestamp) {
    tracing::error!(instance.id = %instance.id, error = message, "machine failed");
    instance.end(Reason::new("Server.InternalError"), String::new(), Power::Cut, now);
    instance.powered_off(now);
}

fn spec(world: &World, instance: &Instance) -> MachineSpec {
    let (subnet, vpc, kind) = (&instance.subnet, &world.estate.vpc, instance.kind);
    MachineSpec {
        id: instance.id.clone(),
        instance_type: kind.name.to_owned(),
        vcpus: kind.vcpus,
        memory_mib: kind.memory_mib,
        gpus: kind.gpus().map_or(0, |(count, _)| count),
        gpu_model: kind.gpus().map_or_else(String::new, |(_, model)| model.to_owned()),
        image_id: instance.image.id.clone(),
        region: world.region.clone(),
        zone: subnet.zone.clone(),
        zone_id: subnet.zone_id.clone(),
        account: world.account.clone(),
        private_ip: instance.interface.primary,
        secondary_ips: instance.interface.secondary.clone(),
        subnet_id: subnet.id.clone(),
        subnet_cidr: (subnet.cidr.address, subnet.cidr.bits),
        vpc_cidr: (vpc.cidr.address, vpc.cidr.bits),
        mac: instance.interface.mac.clone(),
        security_group_ids: instance.groups.clone(),
        user_data: instance.user_data.clone(),
        role: instance.profile.as_ref().map(|profile| profile.role.clone()),
        life_cycle: instance.purchase.lifecycle.name().unwrap_or("on-demand"),
        imds: ImdsOptions {
            tokens_required: instance.metadata.tokens_required,
            hop_limit: instance.metadata.hop_limit,
        },
    }
}

#[cfg(test)]
mod tests;
