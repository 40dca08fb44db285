//! Everything that changes: pods, volumes, credentials, stock, money. Pure; the time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use jiff::Timestamp;

use super::bank::Bank;
use super::catalog::{Cloud, DataCenter, Micros};
use super::container::{ContainerEvent, Disk, Mapping, Remap};
use super::history::Past;
use super::ids;
use super::keys::{Key, Keys, Scope};
use super::meter::Billed;
use super::order::{CPU_DISK, Compute, Order};
use super::pod::{Container, Ending, Placement, Pod};
use super::problem::Problem;
use super::rates::{Limits, documented};
use super::registries::Registry;
use super::scenario::{Point, Scenario, Scenarios};
use super::secrets::Secret;
use super::settings::{Settings, millis};
use super::status::Status;
use super::stock::{PHRASES, Place, Stock};
use super::volumes::Volume;
use crate::clock;

/// Characters of a pod's id.
const ID: usize = 14;

/// Ends of a container that are remembered of a pod.
const ENDINGS: usize = 1000;

/// Where the addresses of the network that spans data centers begin.
const GLOBAL: Ipv4Addr = Ipv4Addr::new(10, 65, 0, 0);

/// The account's changing part.
#[derive(Debug)]
pub struct Account {
    pub settings: Settings,
    pub keys: Keys,
    pub limits: Limits,
    pub stock: Stock,
    pub scenarios: Scenarios,
    pub bank: Bank,
    /// By id.
    pub pods: BTreeMap<String, Pod>,
    /// Those that nobody sees any more.
    pub past: Vec<Past>,
    pub volumes: BTreeMap<String, Volume>,
    pub registries: BTreeMap<String, Registry>,
    pub secrets: BTreeMap<String, Secret>,
    pub ssh_keys: Vec<String>,
    sequence: u32,
}

impl Account {
    #[must_use]
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        Self {
            bank: Bank::new(clock::after(now, settings.billing_tick())),
            settings,
            keys: Keys::default(),
            limits: Limits::new(documented()),
            stock: Stock::default(),
            scenarios: Scenarios::default(),
            pods: BTreeMap::new(),
            past: Vec::new(),
            volumes: BTreeMap::new(),
            registries: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ssh_keys: Vec::new(),
            sequence: 0,
        }
    }

    /// A number that is like no other of this account.
    pub fn number(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }

    /// Brings everything up to date.
    pub fn settle(&mut self, now: Timestamp) {
        while self.bank.next_tick <= now {
            let at = self.bank.next_tick;
            self.bank.next_tick = clock::after(at, self.settings.billing_tick());
            self.advance(at);
            self.tick(at);
        }
        self.advance(now);
        let mut given_back = Vec::new();
        for pod in self.pods.values_mut() {
            if pod.holds && (pod.ended.is_some() || !pod.status.holds()) {
                pod.holds = false;
                given_back.push(taken(pod));
            }
        }
        given_back.iter().for_each(|(place, count)| self.stock.give_back(place, *count));
        for (_, pod) in self.pods.extract_if(.., |_, pod| pod.is_past()) {
            self.keys.remove(&pod.key);
            self.past.push(Past::of(&pod));
        }
    }

    fn advance(&mut self, now: Timestamp) {
        self.pods.values_mut().for_each(|pod| pod.advance(now, &self.settings));
    }

    /// Other settings. What was billed until now stays billed.
    pub fn set(&mut self, settings: Settings, now: Timestamp) {
        if settings.billing_tick_ms != self.settings.billing_tick_ms {
            self.bank.next_tick = clock::after(now, settings.billing_tick());
        }
        if settings.time_scale != self.settings.time_scale {
            for pod in self.pods.values_mut().filter(|pod| pod.ended.is_none()) {
                pod.scale = settings.time_scale;
                pod.bill(now);
            }
        }
        self.settings = settings;
    }

    /// A bill: money is taken, and where none is left everything stops.
    pub fn tick(&mut self, now: Timestamp) {
        let spent = self.spent(now).total();
        self.bank.bill(spent);
        let is_broke = self.bank.funds.balance <= 0.0;
        for pod in self.pods.values_mut().filter(|pod| pod.ended.is_none()) {
            if pod.fate == Some(Scenario::ExitAtTick {}) && pod.status == Status::Provisioning {
                pod.exit("stopped while it was billed", now);
            }
            if !is_broke {
                continue;
            }
            match (pod.order.mounts.volume(), pod.status) {
                (_, Status::Terminated) | (Some(_), Status::Exited) => {}
                (Some(_), _) => pod.exit("insufficient balance", now),
                (None, _) => pod.terminate("insufficient balance", now),
            }
        }
    }

    /// All that was ever billed.
    #[must_use]
    pub fn spent(&self, now: Timestamp) -> Billed {
        let past = self.past.iter().map(|past| &past.meter);
        let meters = past.chain(self.pods.values().map(|pod| &pod.meter));
        let sum = |sum: Billed, one: Billed| sum.plus(one);
        meters.map(|meter| meter.billed(Timestamp::MIN, now)).fold(Billed::default(), sum)
    }

    /// What is spent an hour now.
    #[must_use]
    pub fn spend(&self) -> Micros {
        self.pods.values().map(|pod| pod.meter.rate()).map(|rate| rate.compute + rate.disk).sum()
    }

    /// A pod that anyone sees.
    pub fn pod(&mut self, id: &str) -> Result<&mut Pod, Problem> {
        self.pods.get_mut(id).filter(|pod| pod.is_visible()).ok_or_else(|| Problem::not_found("pod"))
    }

    /// Counts a read of a pod that only lingers.
    pub fn seen(&mut self, id: &str) {
        if let Some(pod) = self.pods.get_mut(id).filter(|pod| pod.ended.is_some()) {
            pod.lingers = pod.lingers.saturating_sub(1);
        }
    }

    /// Accepts a pod, or says why not; its id.
    pub fn create(&mut self, order: Order, call: &str, now: Timestamp) -> Result<String, Problem> {
        match self.scenarios.draw(Point::Create, Some(&order.name), call) {
            Some(Scenario::NoCapacity { phrase }) => {
                return Err(Problem::rule(PHRASES.get(phrase).copied().unwrap_or(PHRASES[0])));
            }
            Some(Scenario::Refuse { status, detail }) => return Err(Problem::new(status, detail)),
            Some(_) | None => {}
        }
        if let Some(id) = &order.registry
            && !self.registries.contains_key(id)
        {
            return Err(Problem::not_found("registry"));
        }
        let volume = match order.mounts.volume() {
            Some(mount) => {
                let volume = self.volumes.get(&mount.volume_id);
                Some(volume.ok_or_else(|| Problem::not_found("network volume"))?.data_center)
            }
            None => None,
        };
        let cost = order.compute.price(order.cloud);
        let (kind, _) = order.compute.takes();
        if self.stock.is_denied(kind) {
            return Err(Problem::new(403, "access denied to the requested pool"));
        }
        if let Some(refusal) = self.bank.refuses(cost, self.spend()) {
            return Err(Problem::new(402, refusal));
        }
        let sequence = self.number();
        let placement = self.place(&order, volume, cost, sequence)?;
        let id = ids::fresh(ID);
        let mut pod = Pod::new(id.clone(), u64::from(sequence), order, placement, now);
        pod.scale = self.settings.time_scale;
        pod.bill(now);
        pod.fate = self.scenarios.draw(Point::Fate, Some(&pod.order.name), call);
        pod.say("create pod", now);
        self.keys.put(&pod.key, Key { scope: Scope::Pod(id.clone()), revoked: false });
        self.pods.insert(id.clone(), pod);
        Ok(id)
    }

    /// Finds room for an order, and takes it.
    fn place(
        &mut self,
        order: &Order,
        volume: Option<&'static str>,
        cost: Micros,
        sequence: u32,
    ) -> Result<Placement, Problem> {
        if let Some(unknown) = order.data_centers.iter().find(|id| DataCenter::find(id).is_none()) {
            return Err(Problem::rule(format!("data center '{unknown}' does not exist")));
        }
        let wished: BTreeSet<&str> = order.data_centers.iter().map(String::as_str).collect();
        if let Some(volume) = volume.filter(|center| !wished.is_empty() && !wished.contains(center)) {
            return Err(Problem::rule(format!("the network volume is in data center '{volume}'")));
        }
        if matches!(order.compute, Compute::Cpu { .. }) && order.disk < CPU_DISK {
            return Err(Problem::rule(PHRASES[2]));
        }
        if !order.compute.exists(order.cloud) {
            return Err(Problem::rule(PHRASES[0]));
        }
        let (id, count) = order.compute.takes();
        // In the order of the wishes, where there are some.
        let all = order.compute.data_centers().iter().copied();
        let candidates: Vec<&'static str> = if order.data_centers.is_empty() {
            all.collect()
        } else {
            order.data_centers.iter().filter_map(|wish| all.clone().find(|center| center == wish)).collect()
        };
        let fits = |center: &str| {
            volume.is_none_or(|volume| volume == center)
                && (!order.global_networking || DataCenter::find(center).is_some_and(|it| it.global_network))
        };
        for data_center in candidates.into_iter().filter(|center| fits(center)) {
            if !self.stock.take(&place(id, order.cloud, data_center), count) {
                continue;
            }
            let (vcpus, memory) = match &order.compute {
                Compute::Gpu { gpu, count, .. } => (gpu.vcpus * count, gpu.ram * count),
                Compute::Cpu { cpu, vcpus } => (*vcpus, cpu.ram * vcpus),
            };
            let global =
                order.global_networking.then(|| Ipv4Addr::from(u32::from(GLOBAL) + sequence % 65_000 + 2));
            let cuda = order.compute.cuda().flatten();
            return Ok(Placement { data_center, cuda, vcpus, memory, cost, global_ip: global });
        }
        Err(Problem::rule(PHRASES[0]))
    }

    /// Starts a stopped pod again, if its host has room.
    pub fn start(&mut self, id: &str, now: Timestamp) -> Result<(), Problem> {
        let running = self.spend();
        let pod = self.pod(id)?;
        let (place, count) = taken(pod);
        let cost = pod.placement.cost;
        let holds = pod.holds;
        if let Some(refusal) = self.bank.refuses(cost, running) {
            return Err(Problem::new(402, refusal));
        }
        if !holds && !self.stock.take(&place, count) {
            return Err(Problem::rule(PHRASES[4]));
        }
        let pod = self.pod(id)?;
        pod.holds = true;
        pod.start(now);
        Ok(())
    }

    /// What a pod is told by its container.
    pub fn happened(&mut self, event: ContainerEvent, now: Timestamp) {
        match event {
            ContainerEvent::Line { id, source, text } => {
                if let Some(pod) = self.pods.get(&id) {
                    pod.log.add(source, text, now);
                }
            }
            ContainerEvent::Exited { id, run, exit } => {
                let Some(pod) = self.pods.get_mut(&id) else { return };
                if pod.endings.len() == ENDINGS {
                    pod.endings.remove(0);
                }
                pod.endings.push(Ending { at: now, exit });
                match pod.container {
                    _ if pod.run != run => {}
                    Container::Up { .. } | Container::Dying => pod.container = Container::Down { at: now },
                    Container::Creating => pod.ended_early = true,
                    Container::Absent
                    | Container::Pulling
                    | Container::Down { .. }
                    | Container::Halting
                    | Container::Halted
                    | Container::Removing => {}
                }
            }
        }
    }

    /// An image is there, or not.
    pub fn pulled(&mut self, id: &str, result: Result<(), String>, now: Timestamp) {
        let again = clock::after(now, millis(self.settings.restart_ms));
        let Some(pod) = self.pods.get_mut(id) else { return };
        pod.container = Container::Absent;
        match result {
            Ok(()) => pod.has_image = true,
            Err(error) => {
                pod.say(&format!("error pulling image: {error}"), now);
                pod.pull_at = again;
            }
        }
    }

    /// A container runs, or could not be started.
    pub fn created(&mut self, id: &str, result: Result<Vec<Mapping>, String>, now: Timestamp) {
        let Some(pod) = self.pods.get_mut(id) else { return };
        match result {
            Ok(mappings) => {
                pod.say("start container", now);
                pod.mappings = mappings;
                (pod.disk, pod.remap) = (Disk::Kept, Remap::Keep);
                if pod.fate == Some(Scenario::RemapPorts {}) {
                    pod.remap = Remap::Anew;
                }
                pod.started = Some(now);
                let is_up = !std::mem::take(&mut pod.ended_early);
                pod.container =
                    if is_up { Container::Up { since: now } } else { Container::Down { at: now } };
            }
            Err(error) => {
                pod.say(&format!("error starting container: {error}"), now);
                pod.ended_early = false;
                pod.container = Container::Down { at: now };
            }
        }
    }

    /// A container was stopped, for a restart or for longer.
    pub fn halted(&mut self, id: &str) {
        let Some(pod) = self.pods.get_mut(id) else { return };
        pod.container = Container::Halted;
        if std::mem::take(&mut pod.restart) {
            pod.disk = Disk::Fresh;
        }
    }

    /// Nothing is left of a container.
    pub fn removed(&mut self, id: &str) {
        if let Some(pod) = self.pods.get_mut(id) {
            pod.container = Container::Absent;
            pod.made = false;
            pod.mappings.clear();
        }
    }

    /// When something is due next.
    #[must_use]
    pub fn next_due(&self) -> Timestamp {
        let pods = self.pods.values().filter_map(|pod| pod.next_due(&self.settings));
        pods.min().map_or(self.bank.next_tick, |at| at.min(self.bank.next_tick))
    }
}

/// The stock that a pod takes.
fn taken(pod: &Pod) -> (Place, u32) {
    let (id, count) = pod.order.compute.takes();
    (place(id, pod.order.cloud, pod.placement.data_center), count)
}

fn place(id: &str, cloud: Cloud, data_center: &str) -> Place {
    Place { id: id.to_owned(), cloud, data_center: data_center.to_owned() }
}

#[cfg(test)]
mod tests;
