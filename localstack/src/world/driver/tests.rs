use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

use crate::aws::query::Params;
use crate::ec2;
use crate::machine::{Freeze, MachineEvent, MachineSpec, Machines, Notices};
use crate::testing::{form, mk_launch};
use crate::world::events::{Event, EventCode, Progress};
use crate::world::instance::State;
use crate::world::{World, WorldConfig};

/// Machines that take their time and remember what was asked of them.
#[derive(Debug)]
struct Slow {
    asked: Mutex<Vec<String>>,
    specs: Mutex<Vec<MachineSpec>>,
    boot: Duration,
    /// `Err` when boots fail.
    boots: Result<(), &'static str>,
    /// Whether they power off when asked to.
    obedient: bool,
    events: broadcast::Sender<MachineEvent>,
}

impl Slow {
    fn new() -> Self {
        Self {
            asked: Mutex::default(),
            specs: Mutex::default(),
            boot: Duration::from_secs(2),
            boots: Ok(()),
            obedient: true,
            events: broadcast::Sender::new(64),
        }
    }

    fn note(&self, what: &str) {
        self.asked.lock().unwrap().push(what.to_owned());
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Machines for Slow {
    async fn boot(&self, spec: MachineSpec) -> anyhow::Result<()> {
        self.note("boot");
        self.specs.lock().unwrap().push(spec);
        sleep(self.boot).await;
        self.note("booted");
        self.boots.map_err(anyhow::Error::msg)
    }
    async fn shut_down(&self, id: &str) {
        self.note("shut down");
        if self.obedient {
            self.events.send(MachineEvent::PoweredOff { id: id.to_owned() }).unwrap();
        }
    }
    async fn destroy(&self, _id: &str) {
        self.note("destroy");
        sleep(Duration::from_secs(1)).await;
        self.note("destroyed");
    }
    async fn power_cycle(&self, _id: &str) -> anyhow::Result<()> {
        self.note("power cycle");
        Ok(())
    }
    async fn freeze(&self, _id: &str, _state: Freeze) -> anyhow::Result<()> {
        Ok(())
    }
    fn console(&self, _id: &str) -> String {
        if self.asked().contains(&"destroyed".to_owned()) { String::new() } else { "Welcome".to_owned() }
    }
    fn agent_online(&self, _id: &str) -> bool {
        true
    }
    async fn dial(&self, _id: &str, _port: u16) -> io::Result<UnixStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
    fn notify(&self, _id: &str, notices: Notices) {
        let told = [("interruption", notices.interruption), ("rebalance", notices.rebalance)];
        told.iter().filter(|(_, at)| at.is_some()).for_each(|(what, _)| self.note(what));
    }
    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.events.subscribe()
    }
}

fn call(world: &World, pairs: &[(&str, &str)]) -> String {
    let params = Params::parse(&format!("Version=2016-11-15&{}", form(pairs))).unwrap();
    ec2::call(world, &params, None, "id").unwrap()
}

fn launch(world: &World) -> String {
    let pairs = mk_launch();
    let mut pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    pairs.push(("NetworkInterface.1.SecondaryPrivateIpAddressCount", "1"));
    pairs.push(("IamInstanceProfile.Name", "orca-machine"));
    pairs.push(("UserData", "aGVsbG8="));
    call(world, &pairs);
    world.instances().pop().unwrap().id
}

fn terminate(world: &World, id: &str, more: &[(&str, &str)]) {
    call(world, &[&[("Action", "TerminateInstances"), ("InstanceId.1", id)], more].concat());
}

async fn until(world: &World, id: &str, state: State) {
    let reached = async {
        while world.instance(id).unwrap().state != state {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), reached).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_instance_runs_when_its_machine_was_booted_from_what_the_launch_said() {
    let machines = Arc::new(Slow::new());
    let world = World::start(WorldConfig::default(), machines.clone());
    let id = launch(&world);
    sleep(Duration::from_millis(1900)).await;
    assert_eq!(world.instance(&id).unwrap().state, State::Pending);
    until(&world, &id, State::Running).await;
    let spec = machines.specs.lock().unwrap()[0].clone();
    assert_eq!((spec.id.as_str(), spec.user_data.as_slice()), (id.as_str(), &b"hello"[..]));
    assert_eq!((spec.private_ip, spec.secondary_ips), ([10, 88, 1, 4].into(), vec![[10, 88, 1, 5].into()]));
    assert_eq!((spec.vcpus, spec.memory_mib, spec.gpus), (2, 4096, 0));
    assert_eq!(spec.role.as_deref(), Some("orca-machine"));
    assert_eq!(spec.vpc_cidr, ([10, 88, 0, 0].into(), 16));
}

#[tokio::test(start_paused = true)]
async fn a_terminated_machine_is_shut_down_then_destroyed_and_its_console_kept() {
    let machines = Arc::new(Slow::new());
    let world = World::start(WorldConfig::default(), machines.clone());
    let id = launch(&world);
    until(&world, &id, State::Running).await;
    terminate(&world, &id, &[]);
    until(&world, &id, State::Terminated).await;
    assert_eq!(machines.asked(), ["boot", "booted", "shut down", "destroy", "destroyed"]);
    let console = call(&world, &[("Action", "GetConsoleOutput"), ("InstanceId", &id)]);
    assert!(console.contains("<output>V2VsY29tZQ==</output>"), "{console}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_shut_down_has_its_power_cut_after_the_grace() {
    let machines = Arc::new(Slow { obedient: false, ..Slow::new() });
    let world = World::start(WorldConfig::default(), machines.clone());
    let id = launch(&world);
    until(&world, &id, State::Running).await;
    let start = tokio::time::Instant::now();
    terminate(&world, &id, &[]);
    until(&world, &id, State::Terminated).await;
    let seconds = start.elapsed().as_secs();
    assert!((6..8).contains(&seconds), "5 s of grace and 1 s of destroying took {seconds} s");
}

/// Schedules an event that begins at once.
fn begins(world: &World, id: &str, code: EventCode) {
    world.change(|cloud, now| {
        cloud.instances.get_mut(id).unwrap().events.push(Event {
            id: "instance-event-1".to_owned(),
            code,
            words: code.words().to_owned(),
            not_before: now,
            not_after: None,
            progress: Progress::Scheduled,
        });
        cloud.settle(now);
    });
}

#[tokio::test(start_paused = true)]
async fn scheduled_events_reboot_machines_or_take_their_power_obedient_or_not() {
    for (obedient, seconds) in [(true, 0..2), (false, 5..8)] {
        let machines = Arc::new(Slow { obedient, ..Slow::new() });
        let world = World::start(WorldConfig::default(), machines.clone());
        let id = launch(&world);
        until(&world, &id, State::Running).await;
        begins(&world, &id, EventCode::SystemReboot);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(machines.asked(), ["boot", "booted", "power cycle"]);
        let start = tokio::time::Instant::now();
        begins(&world, &id, EventCode::InstanceRetirement);
        until(&world, &id, State::Stopped).await;
        assert!(seconds.contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        terminate(&world, &id, &[]);
        until(&world, &id, State::Terminated).await;
        let asked = machines.asked();
        assert_eq!(asked[3..], ["shut down", "destroy", "destroyed"], "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn skipping_the_shutdown_destroys_at_once() {
    let machines = Arc::new(Slow::new());
    let world = World::start(WorldConfig::default(), machines.clone());
    let id = launch(&world);
    until(&world, &id, State::Running).await;
    terminate(&world, &id, &[("SkipOsShutdown", "true")]);
    until(&world, &id, State::Terminated).await;
    assert!(!machines.asked().contains(&"shut down".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_terminated_while_it_boots_is_destroyed_afterwards() {
    let machines = Arc::new(Slow::new());
    let world = World::start(WorldConfig::default(), machines.clone());
    let id = launch(&world);
    sleep(Duration::from_secs(1)).await;
    terminate(&world, &id, &[]);
    until(&world, &id, State::Terminated).await;
    assert_eq!(machines.asked(), ["boot", "booted", "shut down", "destroy", "destroyed"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_boot_ends_the_instance_and_removes_what_was_begun() {
    let machines = Arc::new(Slow { boots: Err("no image"), ..Slow::new() });
    let world = World::start(WorldConfig::default(), machines.clone());
    let id = launch(&world);
    until(&world, &id, State::Terminated).await;
    assert_eq!(machines.asked(), ["boot", "booted", "destroy", "destroyed"]);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_boot_at_once_and_all_do() {
    let machines = Arc::new(Slow::new());
    let world = World::start(WorldConfig::default(), machines.clone());
    for _ in 0..20 {
        launch(&world);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(machines.asked().len(), 8);
    for instance in world.instances() {
        until(&world, &instance.id, State::Running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_cloud_destroys_every_machine_also_those_that_boot() {
    let machines = Arc::new(Slow::new());
    let world = World::start(WorldConfig::default(), machines.clone());
    let running = launch(&world);
    until(&world, &running, State::Running).await;
    launch(&world);
    sleep(Duration::from_secs(1)).await;
    world.end().await;
    assert_eq!(machines.asked(), ["boot", "booted", "boot", "destroy", "destroy", "destroyed", "destroyed"]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_told_once_of_what_was_announced_while_it_booted() {
    let machines = Arc::new(Slow::new());
    let world = World::start(WorldConfig::default(), machines.clone());
    let pairs = mk_launch();
    let mut pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    pairs.push(("InstanceMarketOptions.MarketType", "spot"));
    call(&world, &pairs);
    let id = world.instances().pop().unwrap().id;
    sleep(Duration::from_secs(1)).await;
    let at = crate::clock::after(crate::clock::now(), Duration::from_secs(10));
    world.change(|cloud, _| cloud.instances.get_mut(&id).unwrap().interrupt(at));
    until(&world, &id, State::Running).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(machines.asked(), ["boot", "booted", "interruption"]);
    assert_eq!(machines.specs.lock().unwrap()[0].life_cycle, "spot");
    until(&world, &id, State::Terminated).await;
}
