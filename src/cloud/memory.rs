//! A cloud that exists in memory alone, for tests: stateful, strict, and told which faults to have.
//!
//! It keeps EC2's rules where they hurt: a token binds its first request in its zone, whether that worked or not;
//! launches are not shown at once; what is not shown cannot be ended; the terminated are shown for an hour.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    Block, Bought, Cloud, CloudError, Gpus, Image, ImageWish, Instance, InstanceState, InstanceType,
    LaunchSpec, Market, Reservation, SpotPrice, StateReason, Subnet,
};
use crate::capacity::money::MicroUsd;
use crate::clock;

/// How long EC2 shows what is terminated.
const SHOWN_AFTER_END: Duration = Duration::from_secs(3600);

/// The cloud in memory. Two zones, `zone-a` and `zone-b`, with a subnet each: `subnet-a`, `subnet-b`.
#[derive(Debug)]
pub struct MemoryCloud {
    world: Mutex<World>,
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
}

#[derive(Debug)]
struct World {
    timing: Timing,
    machines: BTreeMap<String, Machine>,
    tokens: HashMap<(String, String), (LaunchSpec, Option<String>)>,
    types: Vec<InstanceType>,
    subnets: Vec<Subnet>,
    dry: HashSet<(String, String)>,
    errors: HashMap<Call, VecDeque<CloudError>>,
    dropped_answers: u32,
    hidden: HashSet<String>,
    calls: HashMap<Call, u64>,
    sent: Vec<(Timestamp, LaunchSpec)>,
}

#[derive(Debug)]
struct Machine {
    instance: Instance,
    launched_at: Timestamp,
    ended: Option<(Timestamp, StateReason)>,
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
    /// A cloud with `g5.xlarge` (one GPU), `g5.12xlarge` (four) and `t3.large` (none).
    #[must_use]
    pub fn new() -> Arc<Self> {
        let gpus = |count| {
            (count > 0).then(|| Gpus {
                count,
                share_of: 1,
                model: "A10G".to_owned(),
                manufacturer: "NVIDIA".to_owned(),
                memory_mib: 24 << 10,
            })
        };
        let type_ = |name: &str, vcpus, memory_gib: u64, count| InstanceType {
            name: name.to_owned(),
            vcpus,
            memory_mib: memory_gib << 10,
            arch: "amd64".to_owned(),
            gpus: gpus(count),
            nitro: true,
            ..InstanceType::default()
        };
        let subnet = |letter: char, third: u8| Subnet {
            id: format!("subnet-{letter}"),
            zone: format!("zone-{letter}"),
            zone_id: format!("z-{letter}"),
            cidr: format!("10.0.{third}.0/22"),
            free_addresses: 1019,
        };
        Arc::new(Self {
            world: Mutex::new(World {
                timing: Timing::default(),
                machines: BTreeMap::new(),
                tokens: HashMap::new(),
                types: vec![
                    type_("g5.xlarge", 4, 16, 1),
                    type_("g5.12xlarge", 48, 192, 4),
                    type_("t3.large", 2, 8, 0),
                ],
                subnets: vec![subnet('a', 0), subnet('b', 4)],
                dry: HashSet::new(),
                errors: HashMap::new(),
                dropped_answers: 0,
                hidden: HashSet::new(),
                calls: HashMap::new(),
                sent: Vec::new(),
            }),
        })
    }

    /// Sets how long things take from now on.
    pub fn set_timing(&self, timing: Timing) {
        self.world().timing = timing;
    }

    /// There is nothing of this type in this zone.
    pub fn dry_pool(&self, instance_type: &str, zone: &str) {
        self.world().dry.insert((instance_type.to_owned(), zone.to_owned()));
    }

    /// There is again.
    pub fn refill_pool(&self, instance_type: &str, zone: &str) {
        self.world().dry.remove(&(instance_type.to_owned(), zone.to_owned()));
    }

    /// The next call of this kind fails so, without having acted; several are told one after the other.
    pub fn next_error(&self, call: Call, error: CloudError) {
        self.world().errors.entry(call).or_default().push_back(error);
    }

    /// The next launch acts, and its answer is lost.
    pub fn drop_next_answer(&self) {
        self.world().dropped_answers += 1;
    }

    /// Lists lack this machine from now on, which they never should; reading it alone shows it.
    pub fn hide(&self, id: &str) {
        self.world().hidden.insert(id.to_owned());
    }

    /// Ends a machine from outside, with this `StateReason` code.
    pub fn end(&self, id: &str, code: &str) {
        let now = clock::now();
        if let Some(machine) = self.world().machines.get_mut(id) {
            machine.end(code, now);
        }
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

    async fn terminate(&self, id: &str) -> Result<(), CloudError> {
        self.begin(Call::Terminate).await?;
        let mut world = self.world();
        let timing = world.timing;
        if let Some(machine) = world.machines.get_mut(id).filter(|one| one.shown(&timing).is_some()) {
            machine.end("Client.UserInitiatedShutdown", clock::now());
        }
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
}

#[async_trait]
impl Market for MemoryCloud {
    async fn instance_types(&self, names: &[String]) -> Result<Vec<InstanceType>, CloudError> {
        Ok(self.world().types.iter().filter(|one| names.contains(&one.name)).cloned().collect())
    }

    async fn zones_of(&self, _instance_type: &str) -> Result<Vec<String>, CloudError> {
        Ok(self.world().subnets.iter().map(|subnet| subnet.zone.clone()).collect())
    }

    async fn subnets(&self) -> Result<Vec<Subnet>, CloudError> {
        let world = self.world();
        let free = |subnet: &Subnet| subnet.free_addresses.saturating_sub(world.used(&subnet.id));
        Ok(world
            .subnets
            .iter()
            .map(|subnet| Subnet { free_addresses: free(subnet), ..subnet.clone() })
            .collect())
    }

    async fn image_for(
        &self,
        _instance_type: &InstanceType,
        _wish: Option<&ImageWish>,
    ) -> Result<Image, CloudError> {
        Ok(Image { id: "ami-1".to_owned(), root_device_name: "/dev/xvda".to_owned() })
    }

    async fn all_instance_types(&self) -> Result<Vec<InstanceType>, CloudError> {
        Ok(Vec::new())
    }

    async fn all_offerings(&self) -> Result<BTreeMap<String, Vec<String>>, CloudError> {
        Ok(BTreeMap::new())
    }

    async fn on_demand_prices(&self) -> Result<BTreeMap<String, MicroUsd>, CloudError> {
        Ok(BTreeMap::new())
    }

    async fn spot_prices(&self) -> Result<Vec<SpotPrice>, CloudError> {
        Ok(Vec::new())
    }

    async fn reservations(&self) -> Result<Vec<Reservation>, CloudError> {
        Ok(Vec::new())
    }

    async fn blocks(&self) -> Result<Vec<Block>, CloudError> {
        Ok(Vec::new())
    }
}

impl World {
    fn used(&self, subnet_id: &str) -> u32 {
        let here = |one: &&Machine| one.instance.subnet_id == subnet_id && one.ended.is_none();
        u32::try_from(self.machines.values().filter(here).count() * 2).unwrap_or(u32::MAX)
    }

    fn launch(&mut self, spec: &LaunchSpec) -> Result<Instance, CloudError> {
        let Some(subnet) = self.subnets.iter().find(|subnet| subnet.id == spec.subnet_id).cloned() else {
            let code = "InvalidSubnetID.NotFound".to_owned();
            return Err(CloudError::NotFound { code, message: spec.subnet_id.clone() });
        };
        if spec.token.len() > 64 || !spec.token.is_ascii() || spec.user_data.len() > 16384 {
            let code = "InvalidParameterValue".to_owned();
            return Err(CloudError::Invalid { code, message: "token or user data".to_owned() });
        }
        let key = (subnet.zone.clone(), spec.token.clone());
        if let Some((first, id)) = self.tokens.get(&key) {
            if first != spec {
                return Err(CloudError::TokenMismatch { message: spec.token.clone() });
            }
            if let Some(machine) = id.as_ref().and_then(|id| self.machines.get(id)) {
                if machine.ended.is_some() {
                    return Err(CloudError::TokenSpent { message: machine.instance.id.clone() });
                }
                return Ok(machine.seen(&self.timing));
            }
        }
        let made = self.make(spec, &subnet);
        let id = made.as_ref().ok().map(|instance| instance.id.clone());
        self.tokens.insert(key, (spec.clone(), id));
        made
    }

    fn make(&mut self, spec: &LaunchSpec, subnet: &Subnet) -> Result<Instance, CloudError> {
        if !self.types.iter().any(|one| one.name == spec.instance_type) {
            let code = "InvalidInstanceType".to_owned();
            return Err(CloudError::Invalid { code, message: spec.instance_type.clone() });
        }
        let lacks = |code: &str| CloudError::NoCapacity { code: code.to_owned(), message: subnet.id.clone() };
        if self.dry.contains(&(spec.instance_type.clone(), subnet.zone.clone())) {
            return Err(lacks("InsufficientInstanceCapacity"));
        }
        if subnet.free_addresses < self.used(&subnet.id) + 2 {
            return Err(lacks("InsufficientFreeAddressesInSubnet"));
        }
        let now = clock::now();
        let number = u32::try_from(self.machines.len() + 1).unwrap_or(u32::MAX);
        let address = |offset| Some(IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + number * 2 + offset)));
        let instance = Instance {
            id: format!("i-{number:08x}"),
            state: InstanceState::Pending,
            state_reason: None,
            instance_type: spec.instance_type.clone(),
            image_id: spec.image.id.clone(),
            zone: subnet.zone.clone(),
            subnet_id: subnet.id.clone(),
            private_ip: address(0),
            pod_ip: address(1),
            launched_at: Some(now),
            client_token: Some(spec.token.clone()),
            bought: Bought::default(),
            tags: spec.tags.clone(),
        };
        let machine = Machine { instance: instance.clone(), launched_at: now, ended: None };
        self.machines.insert(instance.id.clone(), machine);
        Ok(instance)
    }
}

impl Machine {
    fn end(&mut self, code: &str, now: Timestamp) {
        let reason = StateReason { code: code.to_owned(), message: format!("{code}: ended") };
        self.ended.get_or_insert((now, reason));
    }

    /// As it is now.
    fn seen(&self, timing: &Timing) -> Instance {
        let mut instance = self.instance.clone();
        let now = clock::now();
        let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        instance.state = match &self.ended {
            Some((at, _)) if since(*at) < timing.shutdown => InstanceState::ShuttingDown,
            Some(_) => InstanceState::Terminated,
            None if since(self.launched_at) < timing.boot => InstanceState::Pending,
            None => InstanceState::Running,
        };
        if let Some((_, reason)) = &self.ended {
            instance.state_reason = Some(reason.clone());
        }
        instance
    }

    /// As a describe call shows it, if it does.
    fn shown(&self, timing: &Timing) -> Option<Instance> {
        let now = clock::now();
        let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        let too_new = since(self.launched_at) < timing.describe_lag;
        let too_old = self.ended.as_ref().is_some_and(|(at, _)| since(*at) > SHOWN_AFTER_END);
        (!too_new && !too_old).then(|| self.seen(timing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::RootVolume;

    fn mk_spec(token: &str, subnet: &str) -> LaunchSpec {
        LaunchSpec {
            token: token.to_owned(),
            instance_type: "g5.xlarge".to_owned(),
            image: Image { id: "ami-1".to_owned(), root_device_name: "/dev/xvda".to_owned() },
            subnet_id: subnet.to_owned(),
            purchase: crate::cloud::Purchase::default(),
            placement: crate::cloud::Placement::default(),
            security_group_ids: vec![],
            instance_profile: None,
            user_data: String::new(),
            root_volume: RootVolume {
                size_gib: 100,
                kind: "gp3".to_owned(),
                iops: None,
                throughput: None,
                encrypted: true,
                kms_key_id: None,
            },
            tags: BTreeMap::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_makes_one_machine_in_its_zone() {
        let cloud = MemoryCloud::new();
        let first = cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap();
        assert_eq!(cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap().id, first.id);
        let other = LaunchSpec { user_data: "x".to_owned(), ..mk_spec("t", "subnet-a") };
        assert_eq!(cloud.launch(&other).await.unwrap_err().kind(), "token_mismatch");
        assert_ne!(cloud.launch(&mk_spec("t", "subnet-b")).await.unwrap().id, first.id);
        cloud.end(&first.id, "Server.InternalError");
        assert_eq!(cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap_err().kind(), "token_spent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_launch_binds_its_token_too() {
        let cloud = MemoryCloud::new();
        cloud.dry_pool("g5.xlarge", "zone-a");
        assert_eq!(cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap_err().kind(), "no_capacity");
        let other = LaunchSpec { instance_type: "t3.large".to_owned(), ..mk_spec("t", "subnet-a") };
        assert_eq!(cloud.launch(&other).await.unwrap_err().kind(), "token_mismatch");
        cloud.refill_pool("g5.xlarge", "zone-a");
        cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn machines_are_shown_late_and_change_in_time() {
        let cloud = MemoryCloud::new();
        let id = cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap().id;
        assert_eq!(cloud.instance(&id).await, Ok(None));
        cloud.terminate(&id).await.unwrap();
        assert_eq!(cloud.alive().len(), 1, "what is not shown cannot be ended");
        let state = async |after: u64| {
            tokio::time::sleep(Duration::from_secs(after)).await;
            cloud.instance(&id).await.unwrap().map(|one| one.state)
        };
        assert_eq!(state(2).await, Some(InstanceState::Pending));
        assert_eq!(state(3).await, Some(InstanceState::Running));
        cloud.terminate(&id).await.unwrap();
        assert_eq!(state(0).await, Some(InstanceState::ShuttingDown));
        assert_eq!(state(5).await, Some(InstanceState::Terminated));
        assert_eq!(state(3600).await, None);
        assert_eq!(cloud.subnets().await.unwrap()[0].free_addresses, 1019);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_is_a_machine_all_the_same() {
        let cloud = MemoryCloud::new();
        cloud.drop_next_answer();
        assert_eq!(cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap_err().kind(), "transient");
        cloud.launch(&mk_spec("t", "subnet-a")).await.unwrap();
        assert_eq!(cloud.alive().len(), 1);
    }
}
