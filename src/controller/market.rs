//! What can be bought, from a cache: a launch must not wait for what was known a moment ago.
//!
//! The cache is filled when a type is first asked for and kept fresh by one task; addresses that our own launches
//! took are subtracted until the next reading.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::deadline;
use crate::cloud::{CloudError, Image, InstanceType, Market, Subnet};

/// Subnets are read again this often, and at once after one of them had no address left.
const SUBNETS: Duration = Duration::from_secs(60);
/// Types, zones and images are read again this often.
const TYPES: Duration = Duration::from_secs(600);
/// An unknown type stays unknown for so long.
const UNKNOWN: Duration = Duration::from_secs(60);
/// Addresses of a subnet that one machine takes.
const ADDRESSES: u32 = 2;

/// Everything about one type.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    pub(super) instance_type: InstanceType,
    pub(super) zones: Vec<String>,
    pub(super) image: Image,
}

/// The cache.
#[derive(Debug)]
pub(super) struct Cache {
    market: Arc<dyn Market>,
    /// The outer lock is never held over a call, the inner one makes concurrent pods ask once.
    shelves: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Slot>>>>>,
    subnets: Mutex<Option<Vec<Subnet>>>,
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Slot {
    /// `None` for a type that the cloud does not know.
    shelf: Option<Arc<Shelf>>,
    read: Instant,
}

impl Cache {
    pub(super) fn new(market: Arc<dyn Market>) -> Self {
        Self {
            market,
            shelves: Mutex::default(),
            subnets: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// What there is of a type; `None` if the cloud knows no such type.
    pub(super) async fn shelf(&self, name: &str) -> Result<Option<Arc<Shelf>>, CloudError> {
        let cell = lock(&self.shelves).entry(name.to_owned()).or_default().clone();
        let mut slot = cell.lock().await;
        if let Some(slot) = slot.as_ref()
            && (slot.shelf.is_some() || slot.read.elapsed() < UNKNOWN)
        {
            return Ok(slot.shelf.clone());
        }
        let shelf = self.read_shelf(name).await?.map(Arc::new);
        *slot = Some(Slot { shelf: shelf.clone(), read: Instant::now() });
        Ok(shelf)
    }

    /// The configured subnets, in their order, less what our launches took since they were read.
    pub(super) async fn subnets(&self) -> Result<Vec<Subnet>, CloudError> {
        if let Some(subnets) = lock(&self.subnets).clone() {
            return Ok(subnets);
        }
        let reading = self.reading.lock().await;
        if let Some(subnets) = lock(&self.subnets).clone() {
            return Ok(subnets);
        }
        let subnets = deadline("reading the subnets", self.market.subnets()).await?;
        *lock(&self.subnets) = Some(subnets.clone());
        drop(reading);
        Ok(subnets)
    }

    /// A machine was launched there.
    pub(super) fn took(&self, subnet_id: &str) {
        if let Some(one) = lock(&self.subnets).iter_mut().flatten().find(|one| one.id == subnet_id) {
            one.free_addresses = one.free_addresses.saturating_sub(ADDRESSES);
        }
    }

    /// Keeps what was asked for fresh; `first` is asked for at once. Never ends.
    pub(super) async fn refresh(&self, first: Option<&str>) {
        if let Some(first) = first
            && let Err(error) = self.shelf(first).await
        {
            tracing::warn!(instance.type = first, %error, "reading the default instance type failed");
        }
        let mut types_read = Instant::now();
        loop {
            match deadline("reading the subnets", self.market.subnets()).await {
                Ok(subnets) => *lock(&self.subnets) = Some(subnets),
                Err(error) => tracing::warn!(%error, "reading the subnets failed"),
            }
            tokio::time::sleep(SUBNETS).await;
            if types_read.elapsed() >= TYPES {
                types_read = Instant::now();
                self.refresh_shelves().await;
            }
        }
    }

    async fn refresh_shelves(&self) {
        let names: BTreeSet<String> = lock(&self.shelves).keys().cloned().collect();
        for name in names {
            match self.read_shelf(&name).await {
                Ok(shelf) => {
                    let cell = lock(&self.shelves).entry(name).or_default().clone();
                    *cell.lock().await = Some(Slot { shelf: shelf.map(Arc::new), read: Instant::now() });
                }
                Err(error) => tracing::warn!(instance.type = name, %error, "reading an instance type failed"),
            }
        }
    }

    async fn read_shelf(&self, name: &str) -> Result<Option<Shelf>, CloudError> {
        let names = [name.to_owned()];
        let types = deadline("reading the instance type", self.market.instance_types(&names));
        let zones = deadline("reading the zones of the type", self.market.zones_of(name));
        let (types, zones) = tokio::join!(types, zones);
        let Some(instance_type) = types?.into_iter().find(|one| one.name == name) else {
            return Ok(None);
        };
        let image = deadline("reading the image", self.market.image_for(&instance_type, None)).await?;
        Ok(Some(Shelf { instance_type, zones: zones?, image }))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::memory::MemoryCloud;

    #[tokio::test(start_paused = true)]
    async fn addresses_that_we_took_are_gone_until_the_next_reading() {
        let cache = Cache::new(MemoryCloud::new());
        let free = async || cache.subnets().await.unwrap()[0].free_addresses;
        assert_eq!(free().await, 1019);
        cache.took("subnet-a");
        assert_eq!(free().await, 1017);
        // Never ends by itself; long enough for one more reading.
        drop(tokio::time::timeout(SUBNETS / 2, cache.refresh(Some("g5.xlarge"))).await);
        assert_eq!(free().await, 1019);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_type_is_asked_for_again_after_a_while() {
        let cache = Cache::new(MemoryCloud::new());
        assert!(cache.shelf("g5.xlarge").await.unwrap().is_some());
        assert!(cache.shelf("x9.huge").await.unwrap().is_none());
    }
}
