//! What can be bought: types, zones, subnets, images, prices and reservations.
//!
//! Answers are remembered here only where many pods would ask for the same at once; whoever wants the whole market
//! on a schedule keeps it (`capacity/market.rs`).

mod capacity;
mod images;
mod prices;
mod types;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use super::cache::Cached;
use super::{Ec2, decode};
use crate::capacity::money::MicroUsd;
use crate::cloud::{
    Block, CloudError, Image, ImageWish, InstanceType, Market, Reservation, SpotPrice, Subnet,
};
use crate::config::{Aws, ImageSource};

pub(super) use prices::client as pricing_client;

/// What is remembered, and the part of the configuration that is asked for.
#[derive(Debug)]
pub(super) struct Memory {
    region: String,
    subnet_ids: Vec<String>,
    image: ImageSource,
    minor: u32,
    types: Mutex<HashMap<String, (Instant, Option<InstanceType>)>>,
    zones: Cached<String, Vec<String>>,
    subnets: Cached<(), Vec<Subnet>>,
    images: Cached<images::Wanted, Image>,
    /// The number of our account.
    account: OnceCell<String>,
}

const HOUR: Duration = Duration::from_secs(3600);
/// Free addresses change with every launch; a burst of pods still needs one answer, not one each.
const KEPT_SUBNETS: Duration = Duration::from_secs(5);

impl Memory {
    pub(super) fn new(aws: &Aws, minor: u32) -> Self {
        Self {
            region: aws.region.clone(),
            subnet_ids: aws.subnet_ids.clone(),
            image: aws.image.clone(),
            minor,
            types: Mutex::default(),
            zones: Cached::new(HOUR),
            subnets: Cached::new(KEPT_SUBNETS),
            images: Cached::new(24 * HOUR),
            account: OnceCell::new(),
        }
    }
}

#[async_trait]
impl Market for Ec2 {
    async fn instance_types(&self, names: &[String]) -> Result<Vec<InstanceType>, CloudError> {
        types::named(self, names).await
    }

    async fn zones_of(&self, instance_type: &str) -> Result<Vec<String>, CloudError> {
        types::zones_of(self, instance_type).await
    }

    async fn subnets(&self) -> Result<Vec<Subnet>, CloudError> {
        let ids = &self.market.subnet_ids;
        let ask = async {
            let request = self.calls.client.describe_subnets().set_subnet_ids(Some(ids.clone()));
            let answer = self.calls.read("DescribeSubnets", || request.clone().send()).await?;
            let found: Vec<Subnet> = answer.subnets().iter().filter_map(decode::subnet).collect();
            Ok(ids.iter().filter_map(|id| found.iter().find(|subnet| subnet.id == *id).cloned()).collect())
        };
        self.market.subnets.get((), ask).await
    }

    async fn image_for(
        &self,
        instance_type: &InstanceType,
        wish: Option<&ImageWish>,
    ) -> Result<Image, CloudError> {
        images::image_for(self, instance_type, wish).await
    }

    async fn all_instance_types(&self) -> Result<Vec<InstanceType>, CloudError> {
        types::all(self).await
    }

    async fn all_offerings(&self) -> Result<BTreeMap<String, Vec<String>>, CloudError> {
        types::offerings(self).await
    }

    async fn on_demand_prices(&self) -> Result<BTreeMap<String, MicroUsd>, CloudError> {
        prices::on_demand(self).await
    }

    async fn spot_prices(&self) -> Result<Vec<SpotPrice>, CloudError> {
        prices::spot(self).await
    }

    async fn reservations(&self) -> Result<Vec<Reservation>, CloudError> {
        capacity::reservations(self).await
    }

    async fn blocks(&self) -> Result<Vec<Block>, CloudError> {
        capacity::blocks(self).await
    }
}

/// EC2 ends its pages with an empty token as often as with none.
fn next_page(token: Option<&str>) -> Option<String> {
    token.filter(|token| !token.is_empty()).map(str::to_owned)
}
