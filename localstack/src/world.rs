//! The one account of the cloud, and everything in it. EC2, SSM and the control endpoint share it.
//!
//! Behind one short-lived lock lies pure state; machines follow it (`driver`), and what happens to machines
//! changes it. The services decide what callers may see of it.

pub mod addresses;
pub mod defaults;
pub mod devices;
mod driver;
pub mod estate;
pub mod events;
pub mod ids;
pub mod instance;
pub mod launch;
pub mod notices;
pub mod parameters;
pub mod past;
pub mod pools;
pub mod prices;
pub mod purchase;
pub mod quotas;
pub mod reservations;
pub mod source;
mod ssm;
pub mod state;
pub mod throttle;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::estate::Estate;
use self::instance::{Instance, Machine, State, Timing};
use self::parameters::Parameters;
use self::state::Cloud;
use self::throttle::{Rates, Throttle};
use crate::aws::sigv4::{self, AuthError, Keyring, Scope, Signed};
use crate::clock;
use crate::faults::{Calls, Faults};
use crate::logs::Logs;
use crate::machine::Machines;
use crate::pricing;
use crate::ssm::Cut;

/// How long the machines have to be gone when the cloud ends.
const END: Duration = Duration::from_secs(30);

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    pub estate: Estate,
    pub parameters: Vec<(String, String)>,
    pub region: String,
    pub account: String,
    pub keys: Keyring,
    pub timing: Timing,
    /// Without rates, no call is throttled.
    pub rates: Option<Rates>,
}

impl Default for WorldConfig {
    /// [`defaults`], with transitions of 200 ms.
    fn default() -> Self {
        let mut keys = Keyring::default();
        keys.add(defaults::ACCESS_KEY, defaults::SECRET_KEY, None);
        Self {
            estate: defaults::estate(),
            parameters: defaults::parameters(),
            region: defaults::REGION.to_owned(),
            account: defaults::ACCOUNT.to_owned(),
            keys,
            timing: Timing {
                transition: Duration::from_millis(200),
                terminated: Duration::from_secs(3600),
                describe_lag: Duration::ZERO,
                shutdown_grace: Duration::from_secs(5),
                spot_notice: notices::NOTICE,
            },
            rates: None,
        }
    }
}

/// What other services need to know of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    pub id: String,
    pub state: State,
    pub instance_type: String,
    pub image_id: String,
    pub zone: String,
    /// `None` when terminated.
    pub private_ip: Option<Ipv4Addr>,
    pub secondary_ips: Vec<Ipv4Addr>,
    /// Role behind the instance profile; without one no SSM agent gets credentials.
    pub role: Option<String>,
    pub launched_at: Timestamp,
    pub tags: BTreeMap<String, String>,
}

/// The account.
#[derive(Debug)]
pub struct World {
    pub region: String,
    pub account: String,
    pub estate: Estate,
    pub parameters: Parameters,
    pub logs: Logs,
    pub keys: Keyring,
    pub faults: Faults,
    pub calls: Calls,
    /// Whoever serves data channels subscribes.
    pub cuts: broadcast::Sender<Cut>,
    cloud: Mutex<Cloud>,
    machines: Arc<dyn Machines>,
    wake: Arc<Notify>,
    ending: CancellationToken,
    driver: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl World {
    /// A world without instances, whose machines are driven until it is dropped. Needs a tokio runtime.
    pub fn start(config: WorldConfig, machines: Arc<dyn Machines>) -> Arc<Self> {
        let parameters = Parameters::default();
        for (name, value) in &config.parameters {
            parameters.put(name, value, clock::now());
        }
        let events = machines.events();
        let mut cloud = Cloud::new(&config.estate, config.timing, &config.account, clock::now());
        cloud.throttle = Throttle::new(config.rates);
        let world = Arc::new(Self {
            cloud: Mutex::new(cloud),
            logs: Logs::new(&config.region, &config.account),
            region: config.region,
            account: config.account,
            estate: config.estate,
            parameters,
            keys: config.keys,
            faults: Faults::default(),
            calls: Calls::default(),
            cuts: broadcast::Sender::new(64),
            machines,
            wake: Arc::default(),
            ending: CancellationToken::new(),
            driver: Mutex::default(),
        });
        let driver = tokio::spawn(driver::run(Arc::downgrade(&world), events, world.ending.clone()));
        *world.driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDropHandle::new(driver));
        world
    }

    /// The machines behind the instances.
    #[must_use]
    pub fn machines(&self) -> &Arc<dyn Machines> {
        &self.machines
    }

    /// Looks at the state of now.
    pub fn view<T>(&self, look: impl FnOnce(&mut Cloud, Timestamp) -> T) -> T {
        let mut cloud = self.cloud.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        cloud.settle(now);
        look(&mut cloud, now)
    }

    /// Changes the state of now, and lets the machines follow.
    pub fn change<T>(&self, act: impl FnOnce(&mut Cloud, Timestamp) -> T) -> T {
        let result = self.view(act);
        self.wake.notify_one();
        result
    }

    /// One instance, also while descriptions do not show it yet.
    #[must_use]
    pub fn instance(&self, id: &str) -> Option<InstanceView> {
        self.view(|cloud, _| cloud.instances.get(id).map(view))
    }

    /// All instances, in the order of their launch.
    #[must_use]
    pub fn instances(&self) -> Vec<InstanceView> {
        self.view(|cloud, _| {
            let mut all: Vec<&Instance> = cloud.instances.values().collect();
            all.sort_by_key(|instance| instance.sequence);
            all.into_iter().map(view).collect()
        })
    }

    /// Verifies the signature of a request for a service, in a region where that has an endpoint.
    pub fn verify(
        &self,
        parts: &http::request::Parts,
        body: &[u8],
        service: &str,
    ) -> Result<Scope, AuthError> {
        let request = Signed {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or(""),
            headers: &parts.headers,
            body,
        };
        let own = [self.region.as_str()];
        let regions = if service == "pricing" { &pricing::REGIONS } else { &own[..] };
        sigv4::verify(&request, &self.keys, regions, &[service], clock::now())
    }

    /// Ends every machine, now. The world is of no use afterwards.
    pub async fn end(&self) {
        self.ending.cancel();
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver
            && timeout(END, driver).await.is_err()
        {
            tracing::error!("a machine's job did not stop in time");
        }
        let left: Vec<String> = self.view(|cloud, _| {
            let has_machine = |i: &&Instance| !matches!(i.machine, Machine::Gone | Machine::Waiting);
            cloud.instances.values().filter(has_machine).map(|instance| instance.id.clone()).collect()
        });
        let mut jobs = JoinSet::new();
        for id in left {
            let machines = self.machines.clone();
            jobs.spawn(async move { machines.destroy(&id).await });
        }
        if timeout(END, jobs.join_all()).await.is_err() {
            tracing::error!(seconds = END.as_secs(), "machines were not gone in time");
        }
    }
}

fn view(instance: &Instance) -> InstanceView {
    let mut addresses = instance.addresses();
    InstanceView {
        id: instance.id.clone(),
        state: instance.state,
        instance_type: instance.kind.name.to_owned(),
        image_id: instance.image.id.clone(),
        zone: instance.subnet.zone.clone(),
        private_ip: addresses.next(),
        secondary_ips: addresses.collect(),
        role: instance.profile.as_ref().map(|profile| profile.role.clone()),
        launched_at: instance.launched,
        tags: instance.tags.clone(),
    }
}

/// Such as `ip-10-88-1-4.ec2.internal`.
#[must_use]
pub fn host_name(address: Ipv4Addr) -> String {
    format!("ip-{}.ec2.internal", address.to_string().replace('.', "-"))
}
