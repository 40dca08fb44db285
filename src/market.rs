//! The market as it was last read: what a plan needs, without waiting for the cloud.
//!
//! One task reads each part on its own schedule; what fails to be read stays as it was, and its age shows. Spot prices
//! and reservations are only read once somebody's wishes concern them. What our own launches took is subtracted until
//! the next reading.

mod metrics;
mod schedule;
mod snapshot;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

pub use self::metrics::Metrics;
use self::schedule::{Part, Schedule};
pub use self::snapshot::Snapshot;
use crate::capacity::shipped::shipped;
use crate::capacity::world::{Source, Usable};
use crate::clock;
use crate::cloud::{CloudError, Image, ImageWish, InstanceType, Market};
use crate::pod::ask::Ask;
use crate::pod::wishes::{CapacityType, Preference};

/// For one reading; the whole catalog has ten pages.
const DEADLINE: Duration = Duration::from_secs(60);

/// An image is looked up again after this.
const IMAGES: Duration = Duration::from_secs(600);

/// How often parts were read, so that whoever waits knows what is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub catalog: u64,
    pub prices: u64,
    pub subnets: u64,
    pub spot: u64,
    pub reservations: u64,
}

type Images = HashMap<(String, Option<ImageWish>), (Instant, Image)>;

/// The place of a launch that is being asked for. Dropped without [`Place::landed`], it is free again.
#[derive(Debug)]
#[must_use = "dropped, the place is free again"]
pub struct Place<'a> {
    cache: &'a MarketCache,
    subnet_id: String,
    ticket: u64,
    is_landed: bool,
}

impl Place<'_> {
    /// The machine is there: the place stays taken until a reading counts it.
    pub fn landed(mut self) {
        self.is_landed = true;
        self.cache.change(|snapshot| snapshot.landed(self.ticket, Instant::now()));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_landed {
            self.cache.change(|snapshot| snapshot.give_back(self.ticket, &self.subnet_id));
        }
    }
}

/// The market, kept fresh by [`MarketCache::run`].
#[derive(Debug)]
pub struct MarketCache {
    market: Arc<dyn Market>,
    snapshot: Mutex<Arc<Snapshot>>,
    schedule: Mutex<Schedule>,
    /// By instance type and wish.
    images: Mutex<Images>,
    /// One reading of a part at a time: a burst of pods asks once.
    reading: tokio::sync::Mutex<()>,
    reads: watch::Sender<Reads>,
    /// Told when a part became due that was not before.
    due: tokio::sync::Notify,
    metrics: Metrics,
}

impl MarketCache {
    /// Nothing is read yet; the shipped catalog and prices stand in.
    #[must_use]
    pub fn new(market: Arc<dyn Market>) -> Self {
        let mut snapshot = Snapshot::default();
        (snapshot.catalog, snapshot.prices) = shipped();
        Self {
            market,
            snapshot: Mutex::new(Arc::new(snapshot)),
            schedule: Mutex::default(),
            images: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            reads: watch::Sender::new(Reads::default()),
            due: tokio::sync::Notify::new(),
            metrics: Metrics::default(),
        }
    }

    /// The ages of prices and the state of reservations.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// What is known now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        lock(&self.snapshot).clone()
    }

    /// Tells whenever a part was read.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<Reads> {
        self.reads.subscribe()
    }

    /// Waits until types, zones and subnets were read once.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn ready(&self) -> Result<(), CloudError> {
        self.first(Part::Catalog).await?;
        self.first(Part::Subnets).await
    }

    /// Waits until everything was read once that bears on what the pod wants.
    ///
    /// # Errors
    /// Something of it cannot be read.
    pub async fn want(&self, ask: &Ask) -> Result<(), CloudError> {
        let wishes = &ask.wishes;
        self.ready().await?;
        let buys = |market: CapacityType| wishes.capacity_types.contains(&market);
        if buys(CapacityType::Spot) || wishes.max_spot_price.is_some() {
            self.first(Part::Spot).await?;
        }
        let reserved = buys(CapacityType::Reserved)
            || buys(CapacityType::CapacityBlock)
            || buys(CapacityType::Interruptible)
            || wishes.block_id.is_some()
            || wishes.reservation.preference != Preference::None
            || !wishes.reservation.ids.is_empty();
        if reserved {
            self.first(Part::Reservations).await?;
        }
        if wishes.max_price.is_some() || wishes.instance_types.is_empty() {
            // A region without a price list still has the shipped prices.
            drop(self.first(Part::Prices).await);
        }
        Ok(())
    }

    /// Reads reservations from now on: a machine runs in one.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn want_reservations(&self) -> Result<(), CloudError> {
        self.first(Part::Reservations).await
    }

    /// Reads spot prices from now on: somebody looks at them.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn want_spot(&self) -> Result<(), CloudError> {
        self.first(Part::Spot).await
    }

    /// Reads the price list from now on; the shipped prices stand in where there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn want_prices(&self) -> Result<(), CloudError> {
        self.first(Part::Prices).await
    }

    /// The image for a type.
    ///
    /// # Errors
    /// It is not there, or cannot be read now.
    pub async fn image(
        &self,
        instance_type: &InstanceType,
        wish: Option<&ImageWish>,
    ) -> Result<Image, CloudError> {
        let key = (instance_type.name.clone(), wish.cloned());
        if let Some((read, image)) = lock(&self.images).get(&key)
            && read.elapsed() < IMAGES
        {
            return Ok(image.clone());
        }
        let image = within(self.market.image_for(instance_type, wish)).await?;
        lock(&self.images).insert(key, (Instant::now(), image.clone()));
        Ok(image)
    }

    /// A machine in a reservation is gone: there is room for whoever waits for that.
    pub fn freed(&self) {
        if lock(&self.schedule).hasten(Part::Reservations, Instant::now()) {
            self.due.notify_one();
        }
    }

    /// Takes a place for a launch. `None` if others took the last one of its reservation since the plan was made.
    #[must_use]
    pub fn take(&self, subnet_id: &str, reservation_id: Option<&str>) -> Option<Place<'_>> {
        // Held from the look to the taking, so that two cannot take the last place.
        let mut current = lock(&self.snapshot);
        if reservation_id.is_some_and(|id| !current.has_room(id)) {
            return None;
        }
        let ticket = Arc::make_mut(&mut current).take(subnet_id, reservation_id);
        Some(Place { cache: self, subnet_id: subnet_id.to_owned(), ticket, is_landed: false })
    }

    /// Takes the place of a launch that is repeated: it may have it already.
    pub fn take_again(&self, subnet_id: &str, reservation_id: Option<&str>) -> Place<'_> {
        let ticket = Arc::make_mut(&mut lock(&self.snapshot)).take(subnet_id, reservation_id);
        Place { cache: self, subnet_id: subnet_id.to_owned(), ticket, is_landed: false }
    }

    /// The kubelet of a machine said what it gives to pods.
    pub fn learn(&self, instance_type: &str, usable: Usable) {
        let known = self.snapshot().catalog.types.get(instance_type).is_none_or(|offer| {
            offer.learned == Some(usable) || !snapshot::is_plausible(&offer.shape, usable)
        });
        if !known {
            tracing::info!(
                instance.type = instance_type,
                cpu_milli = usable.cpu_milli,
                memory_bytes = usable.memory_bytes,
                "learned what a type gives to pods"
            );
            self.change(|snapshot| snapshot.learn(instance_type, usable));
        }
    }

    /// Keeps what is wanted fresh. Never ends.
    pub async fn run(&self) {
        {
            let mut schedule = lock(&self.schedule);
            schedule.want(Part::Catalog, Instant::now());
            schedule.want(Part::Subnets, Instant::now());
            schedule.want(Part::Prices, Instant::now());
        }
        loop {
            let next = lock(&self.schedule).next();
            tokio::select! {
                () = sleep_until(next.0) => {}
                () = self.due.notified() => continue,
            }
            // A failure is told of where it happens, and the part is due again.
            drop(self.read(next.1, next.0).await);
        }
    }

    /// Reads the reservations again if the pod names one that the last reading did not have: it may be newer. For the
    /// first look at a pod alone: a reading wakes everybody who waits for one.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn look_for_named(&self, ask: &Ask) -> Result<(), CloudError> {
        let snapshot = self.snapshot();
        let mut named = ask.wishes.reservation.ids.iter().chain(&ask.wishes.block_id);
        if named.any(|id| !snapshot.knows(id)) {
            self.read(Part::Reservations, Instant::now()).await?;
        }
        Ok(())
    }

    /// Waits for the first reading of a part; later ones go on beside whoever asks.
    async fn first(&self, part: Part) -> Result<(), CloudError> {
        if lock(&self.schedule).want(part, Instant::now()) {
            self.due.notify_one();
        }
        if self.was_read(part) {
            return Ok(());
        }
        self.read(part, Instant::now()).await
    }

    fn was_read(&self, part: Part) -> bool {
        part.count(&mut self.reads.borrow().to_owned()) > &mut 0
    }

    /// Reads a part, unless somebody did since `since`.
    async fn read(&self, part: Part, since: Instant) -> Result<(), CloudError> {
        let one = self.reading.lock().await;
        if lock(&self.schedule).was_read_since(part, since) {
            return Ok(());
        }
        let began = Instant::now();
        let result = self.take_over(part, began).await;
        let snapshot = self.snapshot();
        let soon = snapshot.next_turn(clock::now());
        lock(&self.schedule).was_read(part, began, result.is_ok(), soon);
        drop(one);
        match &result {
            Ok(()) => {
                self.metrics.show(&snapshot, clock::now());
                self.reads.send_modify(|reads| *part.count(reads) += 1);
            }
            Err(error) => tracing::warn!(part = part.name(), %error, "reading the market failed"),
        }
        result
    }

    async fn take_over(&self, part: Part, began: Instant) -> Result<(), CloudError> {
        let now = clock::now();
        match part {
            Part::Catalog => {
                let (types, zones) = tokio::try_join!(
                    within(self.market.all_instance_types()),
                    within(self.market.all_offerings())
                )?;
                self.change(|snapshot| snapshot.offer(types, &zones, now));
            }
            Part::Subnets => {
                let subnets = within(self.market.subnets()).await?;
                self.change(|snapshot| snapshot.subnets = subnets);
            }
            Part::Prices => {
                let prices = within(self.market.on_demand_prices()).await?;
                self.change(|snapshot| {
                    snapshot.prices.on_demand = prices.into_iter().collect();
                    snapshot.prices.on_demand_source = Source::Api;
                    snapshot.prices.on_demand_as_of = Some(now);
                });
            }
            Part::Spot => {
                let spot = within(self.market.spot_prices()).await?;
                self.change(|snapshot| snapshot.quote(spot, now));
            }
            Part::Reservations => {
                let (reservations, blocks) =
                    tokio::try_join!(within(self.market.reservations()), within(self.market.blocks()))?;
                self.change(|snapshot| snapshot.reserve(reservations, blocks, began));
            }
        }
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut current = lock(&self.snapshot);
        change(Arc::make_mut(&mut current));
    }
}

async fn within<T>(call: impl Future<Output = Result<T, CloudError>>) -> Result<T, CloudError> {
    timeout(DEADLINE, call).await.unwrap_or_else(|_| {
        let message = format!("no answer within {DEADLINE:?}");
        Err(CloudError::Transient { code: "Timeout".to_owned(), message })
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
