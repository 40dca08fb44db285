//! A cloud that exists in memory alone, for tests: stateful, strict, and told which faults to have.
//!
//! It keeps EC2's rules where they hurt: a token binds its first request in its zone, whether that worked or not;
//! launches are not shown at once; what is not shown cannot be ended; the terminated are shown for an hour; a launch
//! is bought exactly as it says, or not at all.

mod leftovers;
mod machine;
mod market;
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Cloud, CloudError, EventKind, Instance, InstanceState, LaunchSpec, Leftover, LeftoverKind, ScheduledEvent,
};
use crate::clock;
use world::World;

/// The cloud in memory. Two zones, `zone-a` and `zone-b`, with a subnet each: `subnet-a`, `subnet-b`.
#[derive(Debug)]
pub struct MemoryCloud {
    world: Mutex<World>,
    held: watch::Sender<bool>,
    /// Between two launches that are admitted, and when the next one is.
    pace: Mutex<(Duration, Option<tokio::time::Instant>)>,
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From pending to running.
    pub boot: Duration,
    /// From shutting-down to terminated.
    pub shutdown: Duration,
    /// From a launch until it is shown.
    pub describe_lag: Duration,
    /// Of every call.
    pub latency: Duration,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Launch,
    List,
    Get,
    Terminate,
    Events,
    Read(Book),
    Leftovers(LeftoverKind),
    Discard(LeftoverKind),
}

/// What is read of the market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Book {
    Types,
    Offerings,
    Subnets,
    OnDemandPrices,
    SpotPrices,
    Reservations,
    Blocks,
}

/// Capacity that nobody reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pool {
    OnDemand,
    Spot,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(5),
            shutdown: Duration::from_secs(5),
            describe_lag: Duration::from_secs(2),
            latency: Duration::ZERO,
        }
    }
}

impl MemoryCloud {
    /// A cloud with `g5.xlarge` (one GPU), `g5.12xlarge` (four) and `t3.large` (none), each with a price on demand.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            world: Mutex::new(World::new()),
            held: watch::Sender::new(false),
            pace: Mutex::default(),
        })
    }

    /// Sets how long things take from now on.
    pub fn set_timing(&self, timing: Timing) {
        self.world().timing = timing;
    }

    /// There is nothing of this type in this zone, neither on demand nor on spot; reservations still have theirs.
    pub fn dry_pool(&self, instance_type: &str, zone: &str) {
        [Pool::OnDemand, Pool::Spot].into_iter().for_each(|pool| self.dry_one(pool, instance_type, zone));
    }

    /// There is nothing of this type in this zone in one of the pools.
    pub fn dry_one(&self, pool: Pool, instance_type: &str, zone: &str) {
        self.world().dry.insert((pool, instance_type.to_owned(), zone.to_owned()));
    }

    /// There is again.
    pub fn refill_pool(&self, instance_type: &str, zone: &str) {
        self.world().dry.retain(|(_, kind, place)| (kind.as_str(), place.as_str()) != (instance_type, zone));
    }

    /// The next call of this kind fails so, without having acted; several are told one after the other.
    pub fn next_error(&self, call: Call, error: CloudError) {
        self.world().errors.entry(call).or_default().push_back(error);
    }

    /// No launch is admitted for its rate, until [`MemoryCloud::admit_launches`].
    pub fn hold_launches(&self) {
        self.held.send_replace(true);
    }

    /// Launches are admitted at once, as they are in the beginning.
    pub fn admit_launches(&self) {
        self.held.send_replace(false);
    }

    /// Every subnet has room for so many addresses.
    pub fn set_free_addresses(&self, addresses: u32) {
        self.world().subnets.iter_mut().for_each(|subnet| subnet.free_addresses = addresses);
    }

    /// Somebody launches another machine like this one, tags and all; answers its id.
    pub fn copy(&self, id: &str) -> String {
        let mut world = self.world();
        let number = world.machines.len() + 1;
        let mut machine = world.machines.get(id).cloned().expect("the machine is there");
        machine.instance.id = format!("i-copy{number}");
        machine.instance.client_token = None;
        machine.instance.tags.remove(crate::cloud::TAG_HOST_KEY);
        let copy = machine.instance.id.clone();
        world.machines.insert(copy.clone(), machine);
        copy
    }

    /// So much time passes between two launches that are admitted: the cloud's rate.
    pub fn pace_launches(&self, pause: Duration) {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).0 = pause;
    }

    /// The next launch acts, and its answer is lost.
    pub fn drop_next_answer(&self) {
        self.world().dropped_answers += 1;
    }

    /// Lists lack this machine from now on, which they never should; reading it alone shows it.
    pub fn hide(&self, id: &str) {
        self.world().hidden.insert(id.to_owned());
    }

    /// A machine's volume and its network interface outlive it.
    pub fn leave(&self, id: &str) {
        self.world().leave(id);
    }

    /// Somebody makes a thing that nothing has.
    pub fn put_leftover(&self, leftover: Leftover) {
        self.world().put(leftover);
    }

    /// Every one that nothing has, whosever it is.
    #[must_use]
    pub fn left(&self, kind: LeftoverKind) -> Vec<Leftover> {
        self.world().leftovers(kind)
    }

    /// What was deleted of them, and when.
    #[must_use]
    pub fn discarded(&self) -> Vec<(Timestamp, String)> {
        self.world().discarded.clone()
    }

    /// Ends a machine from outside, with this `StateReason` code.
    pub fn end(&self, id: &str, code: &str) {
        let now = clock::now();
        if let Some(machine) = self.world().machines.get_mut(id) {
            machine.end(code, now);
        }
    }

    /// Announces something for a machine, or another time for what was announced under this id.
    pub fn schedule(&self, event_id: &str, id: &str, kind: EventKind, not_before: Timestamp) {
        if let Some(machine) = self.world().machines.get_mut(id) {
            machine.schedule(event_id, kind, not_before);
        }
    }

    /// What was announced under this id will not be, if it was not yet.
    pub fn cancel(&self, event_id: &str) {
        self.world().machines.values_mut().for_each(|machine| machine.cancel(event_id, clock::now()));
    }

    /// All machines that are neither ended nor ending, whether they are shown or not.
    #[must_use]
    pub fn alive(&self) -> Vec<Instance> {
        let world = self.world();
        world.machines.values().filter(|one| one.ended.is_none()).map(|one| one.seen(&world.timing)).collect()
    }

    /// How often this was called.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.world().calls.get(&call).copied().unwrap_or(0)
    }

    /// Every launch that was asked for, and when.
    #[must_use]
    pub fn sent(&self) -> Vec<(Timestamp, LaunchSpec)> {
        self.world().sent.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call, takes its time, and fails it if that was asked for.
    async fn begin(&self, call: Call) -> Result<(), CloudError> {
        let latency = self.world().timing.latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let mut world = self.world();
        *world.calls.entry(call).or_default() += 1;
        world.errors.get_mut(&call).and_then(VecDeque::pop_front).map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Cloud for MemoryCloud {
    async fn admit(&self, _spec: &LaunchSpec) -> Result<(), CloudError> {
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.map(drop).expect("the sender lives as long as the cloud");
        let at = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            let now = tokio::time::Instant::now();
            let at = pace.1.map_or(now, |at| at.max(now));
            pace.1 = Some(at + pace.0);
            at
        };
        tokio::time::sleep_until(at).await;
        Ok(())
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance, CloudError> {
        self.world().sent.push((clock::now(), spec.clone()));
        self.begin(Call::Launch).await?;
        let mut world = self.world();
        let answer = world.launch(spec);
        if answer.is_ok() && world.dropped_answers > 0 {
            world.dropped_answers -= 1;
            let message = "the connection was closed".to_owned();
            return Err(CloudError::Transient { code: "ResponseLost".to_owned(), message });
        }
        answer
    }

    async fn instances(&self) -> Result<Vec<Instance>, CloudError> {
        self.begin(Call::List).await?;
        let world = self.world();
        let listed = world.machines.values().filter(|one| !world.hidden.contains(&one.instance.id));
        Ok(listed.filter_map(|one| one.shown(&world.timing)).collect())
    }

    async fn instance(&self, id: &str) -> Result<Option<Instance>, CloudError> {
        self.begin(Call::Get).await?;
        let world = self.world();
        Ok(world.machines.get(id).and_then(|one| one.shown(&world.timing)))
    }

    async fn scheduled_events(&self) -> Result<Vec<ScheduledEvent>, CloudError> {
        self.begin(Call::Events).await?;
        let world = self.world();
        let now = clock::now();
        let running = world.machines.values().filter(|one| {
            one.shown(&world.timing).is_some_and(|shown| shown.state == InstanceState::Running)
        });
        Ok(running.flat_map(|one| one.events(now)).collect())
    }

    async fn terminate(&self, id: &str) -> Result<(), CloudError> {
        self.begin(Call::Terminate).await?;
        let mut world = self.world();
        let timing = world.timing;
        let Some(machine) = world.machines.get_mut(id).filter(|one| one.shown(&timing).is_some()) else {
            let code = "InvalidInstanceID.NotFound".to_owned();
            return Err(CloudError::NotFound { code, message: id.to_owned() });
        };
        machine.end("Client.UserInitiatedShutdown", clock::now());
        Ok(())
    }

    async fn tag(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        let mut world = self.world();
        let Some(machine) = world.machines.get_mut(id) else {
            let code = "InvalidInstanceID.NotFound".to_owned();
            return Err(CloudError::NotFound { code, message: id.to_owned() });
        };
        machine.instance.tags.extend(tags.clone());
        Ok(())
    }

    async fn console(&self, _id: &str) -> Result<String, CloudError> {
        Ok(String::new())
    }

    async fn leftovers(&self, kind: LeftoverKind) -> Result<Vec<Leftover>, CloudError> {
        self.begin(Call::Leftovers(kind)).await?;
        Ok(self.left(kind))
    }

    async fn discard(&self, kind: LeftoverKind, id: &str) -> Result<(), CloudError> {
        self.begin(Call::Discard(kind)).await?;
        self.world().discard(id)
    }
}

#[cfg(test)]
mod tests;
