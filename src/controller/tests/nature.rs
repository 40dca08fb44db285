//! What happens by itself: time, kubelets, people, faults and kills, between any two calls of a pass.

use std::time::Duration;

use jiff::SignedDuration;

use super::process::{Process, Stop};
use super::world::{Kubelet, World};
use crate::capacity::candidate::Candidate;
use crate::clock::after;
use crate::cloud::InstanceState;
use crate::link::LinkState;
use crate::pod::decide::{Drain, Ending, Logs};
use crate::pod::intent::{ANNOTATION_LAUNCH, Intent};

/// Something may happen before the next call.
pub(super) fn interfere(world: &mut World) -> Result<(), Stop> {
    if !world.is_calm() && world.dice.chance(12) {
        happen(world);
    }
    if world.process.is_some() { Ok(()) } else { Err(Stop::Killed) }
}

/// One thing happens.
pub(super) fn happen(world: &mut World) {
    world.storm = world.storm.saturating_sub(1);
    world.settle_machines();
    match world.dice.below(40) {
        0..=7 => {
            let seconds = world.dice.pick(&[0.2, 1.0, 5.0, 5.0, 20.0, 62.0, 130.0, 700.0]);
            world.tell(|_| format!("{seconds} s pass"));
            world.pass_time(Duration::from_secs_f64(seconds));
        }
        8..=10 => boot(world),
        11..=14 => dial(world),
        15..=18 => world.kubelet_looks(),
        19..=21 => tell_of_pod(world),
        22..=24 => list(world),
        25..=26 => exit(world),
        27..=28 => die(world),
        29 => delete(world),
        30..=31 => kill(world),
        32 => land(world),
        33 => {
            world.is_cut = !world.is_cut;
            world.tell(|world| format!("tunnels are cut: {}", world.is_cut));
            dial(world);
        }
        34 => hide(world),
        35 => world.is_dry = world.dice.chance(30),
        36 => copy(world),
        37 => meddle(world),
        38 => trouble(world),
        _ => announce(world),
    }
    world.settle_machines();
}

/// Faults are over: whatever is to come comes.
pub(super) fn calm(world: &mut World) {
    world.storm = 0;
    world.is_cut = false;
    world.is_dry = false;
    world.tell(|_| "calm".to_owned());
    for machine in &mut world.machines {
        machine.is_hidden = false;
        if let InstanceState::Stopping | InstanceState::Stopped = machine.instance.state {
            machine.instance.state = InstanceState::Running;
        }
    }
    for call in std::mem::take(&mut world.late) {
        world.carry_out(call, true);
    }
    world.change(|pod| pod.metadata.finalizers = None);
    let released =
        world.pod.as_ref().is_some_and(|pod| pod.metadata.deletion_grace_period_seconds == Some(0));
    if released {
        world.delete(0);
    }
    if world.process.is_none() {
        start(world);
    }
    let now = world.now;
    if let Some(process) = &mut world.process {
        process.logs = Logs::Archived;
        // What can never be used ends by itself one day; that is not waited for here.
        let since = process.clock(now);
        process.set_link(now, LinkState::Dialing { since, error: None, was_attached: false });
    }
}

/// Whatever can happen without a fault, happens; and nobody wakes the process, unless it has forgotten the pod.
pub(super) fn progress(world: &mut World) {
    let due = world.process.as_ref().and_then(|process| process.due);
    world.settle_machines();
    boot(world);
    for _ in 0..2 {
        dial(world);
        world.kubelet_looks();
        tell_of_pod(world);
        list(world);
        list(world);
    }
    if let Some(process) = &mut world.process {
        process.due = due.or(process.due);
    }
}

pub(super) fn start(world: &mut World) {
    let off = world.dice.pick(&[0, 0, 0, 0, 0, 3, -3, 70, -70, 3600, -3600, 864_000, -864_000]);
    world.tell(|_| format!("a process starts, its clock is {off} s off"));
    world.process = Some(Process::start(world.now, SignedDuration::from_secs(off)));
    // Mostly both lists are read soon.
    if world.dice.chance(70) {
        tell_of_pod(world);
        list(world);
        list(world);
    }
}

fn kill(world: &mut World) {
    world.tell(|_| "the process is killed".to_owned());
    world.process = None;
}

fn boot(world: &mut World) {
    for machine in world.machines.iter_mut().filter(|one| one.instance.state == InstanceState::Pending) {
        machine.instance.state = InstanceState::Running;
    }
}

fn dial(world: &mut World) {
    let Some(id) = world.process.as_ref().and_then(Process::linked) else { return };
    let (now, is_cut) = (world.now, world.is_cut);
    let running = world.machine(&id).is_some_and(|one| one.instance.state == InstanceState::Running);
    let attached = world.process.as_mut().and_then(|process| process.dial(now, running && !is_cut));
    if let Some(machine) = attached.and_then(|id| world.machine(&id)) {
        machine.pin();
        world.tell(|_| format!("attached to {id}"));
    }
}

fn tell_of_pod(world: &mut World) {
    let (now, pod) = (world.now, world.pod.clone());
    if let Some(process) = &mut world.process {
        process.watch(now, pod);
    }
}

/// A list takes its time: what it says was so when it was asked for.
fn list(world: &mut World) {
    let (now, list) = (world.now, world.listed());
    let Some(process) = &mut world.process else { return };
    match process.listing.take() {
        // Nobody waits longer for an answer.
        Some((asked, list)) if now < after(asked, Duration::from_secs(60)) => process.take_list(now, list),
        Some(_) => {}
        None => process.listing = Some((now, list)),
    }
}

fn exit(world: &mut World) {
    let code = world.dice.pick(&[0, 0, 1]);
    let running = world
        .machines
        .iter_mut()
        .find(|one| one.kubelet == Kubelet::Runs && one.instance.state == InstanceState::Running);
    if let Some(machine) = running {
        machine.kubelet = Kubelet::Ended(code);
        world.tell(|_| format!("the container exits with {code}"));
    }
}

fn die(world: &mut World) {
    let Some(id) = any_machine(world) else { return };
    let code = world.dice.pick(&[
        "Server.SpotInstanceTermination",
        "Server.InternalError",
        "Client.UserInitiatedShutdown",
    ]);
    world.tell(|_| format!("{id} dies: {code}"));
    world.end(&id, code);
}

fn any_machine(world: &mut World) -> Option<String> {
    let count = world.machines.len();
    (count > 0).then(|| world.machines[world.dice.below(count)].instance.id.clone())
}

fn delete(world: &mut World) {
    let grace = world.dice.pick(&[0, 1, 30, 30, 30]);
    world.tell(|_| format!("somebody deletes the pod with {grace} s"));
    world.delete(grace);
}

fn land(world: &mut World) {
    if !world.late.is_empty() {
        let call = world.late.remove(0);
        world.carry_out(call, true);
    }
}

fn hide(world: &mut World) {
    let Some(id) = any_machine(world) else { return };
    if let Some(machine) = world.machine(&id) {
        machine.is_hidden = !machine.is_hidden;
        (machine.was_hidden, machine.was_denied) = (true, true);
        let hidden = machine.is_hidden;
        world.tell(|_| format!("the cloud denies {id}: {hidden}"));
    }
}

/// Somebody launches a machine for the pod beside ORCA.
fn copy(world: &mut World) {
    let candidate = Candidate { zone: "c".to_owned(), ..Candidate::default() };
    let intent = Intent::new("another", 0, 0, &candidate, world.now);
    if world.dice.chance(50) {
        world.tell(|_| "somebody launches a machine with the pod's tags".to_owned());
        world.make(&intent, true);
    }
}

/// Somebody takes away or breaks what ORCA wrote, or writes what it does not mind.
fn meddle(world: &mut World) {
    let how = world.dice.below(4);
    world.tell(|_| format!("somebody changes annotations ({how})"));
    if how < 2 {
        // Who is not shown yet, and whose intent is gone, cannot be known of.
        world.machines.iter_mut().for_each(|one| one.was_hidden = true);
        world.is_meddled = true;
    }
    world.change(|pod| {
        let all = pod.metadata.annotations.get_or_insert_default();
        match how {
            0 => drop(all.remove(ANNOTATION_LAUNCH)),
            1 => drop(all.insert(ANNOTATION_LAUNCH.to_owned(), "{".to_owned())),
            _ => drop(all.insert("example.com/note".to_owned(), "x".to_owned())),
        }
    });
}

/// The machine reboots, can never be used, or is stopped.
fn trouble(world: &mut World) {
    let now = world.now;
    let how = world.dice.below(3);
    if how == 2 {
        let Some(id) = any_machine(world) else { return };
        if let Some(machine) = world.machine(&id).filter(|one| one.instance.state == InstanceState::Running) {
            machine.instance.state = InstanceState::Stopped;
            world.tell(|_| format!("{id} is stopped"));
        }
        return;
    }
    let Some(process) = &mut world.process else { return };
    let since = process.clock(now);
    let state = if how == 0 {
        LinkState::Bootstrapping { since, step: "kubelet" }
    } else {
        LinkState::Broken { since, error: "wrong host key".to_owned() }
    };
    process.set_link(now, state);
    world.tell(|_| format!("the link says {how}"));
}

/// The cloud tells that a machine ends soon, or logs are behind.
fn announce(world: &mut World) {
    let Some(id) = any_machine(world) else { return };
    let (now, ends) = (world.now, world.dice.chance(50));
    let Some(process) = &mut world.process else { return };
    if ends {
        let at = process.clock(now);
        let ends_at = after(at, Duration::from_secs(600));
        let why = Ending::Purchase("Capacity Block cr-1".to_owned());
        process.drain = Some(Drain { instance_id: id, at, ends_at, why });
    } else {
        process.logs = Logs::Behind;
    }
}
