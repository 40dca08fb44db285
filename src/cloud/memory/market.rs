//! What can be bought there, and how a test changes it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Book, Call, MemoryCloud};
use crate::capacity::money::MicroUsd;
use crate::clock;
use crate::cloud::{
    Block, CloudError, Image, ImageWish, InstanceType, Market, Reservation, SpotPrice, Subnet,
};

impl MemoryCloud {
    /// These are the types from now on, offered in every zone.
    pub fn set_types(&self, types: Vec<InstanceType>) {
        let mut world = self.world();
        world.types = types;
        world.offered.clear();
    }

    /// The type is offered in these zones alone.
    pub fn set_zones(&self, instance_type: &str, zones: &[&str]) {
        let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
        self.world().offered.insert(instance_type.to_owned(), zones);
    }

    /// These are the subnets from now on, with as many free addresses as if no machine ran there.
    pub fn set_subnets(&self, subnets: Vec<Subnet>) {
        self.world().subnets = subnets;
    }

    /// What the price list says.
    pub fn set_price(&self, instance_type: &str, price: MicroUsd) {
        self.world().on_demand.insert(instance_type.to_owned(), price);
    }

    /// What spot costs there from now on.
    pub fn set_spot_price(&self, instance_type: &str, zone: &str, price: MicroUsd) {
        let mut world = self.world();
        world.spot.retain(|one| one.instance_type != instance_type || one.zone != zone);
        let (instance_type, zone) = (instance_type.to_owned(), zone.to_owned());
        world.spot.push(SpotPrice { instance_type, zone, price, since: clock::now() });
    }

    /// Adds a reservation, or replaces the one of that id. `available` is what it has left for us as if no machine of
    /// ours ran in it; its times move it from scheduled to active, and to its end.
    pub fn set_reservation(&self, reservation: Reservation) {
        self.world().reservations.insert(reservation.id.clone(), reservation);
    }

    /// It is not shown any more.
    pub fn remove_reservation(&self, id: &str) {
        self.world().reservations.remove(id);
    }

    /// A resource group of reservations.
    pub fn set_group(&self, arn: &str, reservation_ids: &[&str]) {
        let ids = reservation_ids.iter().map(|id| (*id).to_owned()).collect();
        self.world().groups.insert(arn.to_owned(), ids);
    }

    /// Adds a Capacity Block, or replaces the one of that id. Its reservations are set on their own.
    pub fn set_block(&self, block: Block) {
        self.world().blocks.insert(block.id.clone(), block);
    }

    /// One reading of the market.
    async fn read<T>(&self, book: Book, read: impl FnOnce(&super::World) -> T) -> Result<T, CloudError> {
        self.begin(Call::Read(book)).await?;
        Ok(read(&self.world()))
    }
}

#[async_trait]
impl Market for MemoryCloud {
    async fn instance_types(&self, names: &[String]) -> Result<Vec<InstanceType>, CloudError> {
        Ok(self.world().types.iter().filter(|one| names.contains(&one.name)).cloned().collect())
    }

    async fn zones_of(&self, instance_type: &str) -> Result<Vec<String>, CloudError> {
        Ok(self.world().zones_of(instance_type))
    }

    async fn subnets(&self) -> Result<Vec<Subnet>, CloudError> {
        self.read(Book::Subnets, |world| {
            let free = |subnet: &Subnet| subnet.free_addresses.saturating_sub(world.used(&subnet.id));
            let now = |subnet: &Subnet| Subnet { free_addresses: free(subnet), ..subnet.clone() };
            world.subnets.iter().map(now).collect()
        })
        .await
    }

    async fn image_for(
        &self,
        _instance_type: &InstanceType,
        wish: Option<&ImageWish>,
    ) -> Result<Image, CloudError> {
        let id = match wish {
            Some(ImageWish::Id(id)) => id,
            Some(ImageWish::Parameter(_)) | None => "ami-1",
        };
        Ok(Image { id: id.to_owned(), root_device_name: "/dev/xvda".to_owned() })
    }

    async fn all_instance_types(&self) -> Result<Vec<InstanceType>, CloudError> {
        self.read(Book::Types, |world| world.types.clone()).await
    }

    async fn all_offerings(&self) -> Result<BTreeMap<String, Vec<String>>, CloudError> {
        self.read(Book::Offerings, |world| {
            world.types.iter().map(|kind| (kind.name.clone(), world.zones_of(&kind.name))).collect()
        })
        .await
    }

    async fn on_demand_prices(&self) -> Result<BTreeMap<String, MicroUsd>, CloudError> {
        self.read(Book::OnDemandPrices, |world| world.on_demand.clone()).await
    }

    async fn spot_prices(&self) -> Result<Vec<SpotPrice>, CloudError> {
        self.read(Book::SpotPrices, |world| world.spot.clone()).await
    }

    async fn reservations(&self) -> Result<Vec<Reservation>, CloudError> {
        self.read(Book::Reservations, |world| {
            world.reservations.keys().filter_map(|id| world.reservation(id)).collect()
        })
        .await
    }

    async fn blocks(&self) -> Result<Vec<Block>, CloudError> {
        self.read(Book::Blocks, |world| world.blocks.values().cloned().collect()).await
    }
}
