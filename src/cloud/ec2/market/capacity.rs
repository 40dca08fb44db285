//! Capacity reservations and Capacity Blocks.

use super::super::calls::call;
use super::super::{Ec2, decode};
use super::next_page;
use crate::cloud::{Block, CloudError, Market as _, Reservation};

/// EC2's most for a page of reservations, and of blocks.
const PAGE: i32 = 1000;

/// All that this account may use, in every state: one that is over explains itself better than one that is missing.
pub(super) async fn reservations(ec2: &Ec2) -> Result<Vec<Reservation>, CloudError> {
    let account = account(ec2).await?;
    let mut found = Vec::new();
    let mut token = None;
    loop {
        let request =
            ec2.calls.client.describe_capacity_reservations().max_results(PAGE).set_next_token(token);
        let page = ec2.calls.read("DescribeCapacityReservations", || request.clone().send()).await?;
        let read = page.capacity_reservations().iter();
        found.extend(read.filter_map(|reservation| decode::reservation(reservation, account)));
        token = next_page(page.next_token());
        if token.is_none() {
            break;
        }
    }
    name_zones(ec2, &mut found).await?;
    Ok(found)
}

/// Zones have other names in every account, and a shared reservation may come with its zone's id alone.
async fn name_zones(ec2: &Ec2, found: &mut [Reservation]) -> Result<(), CloudError> {
    if found.iter().all(|reservation| !reservation.zone.is_empty()) {
        return Ok(());
    }
    let subnets = ec2.subnets().await?;
    for reservation in found.iter_mut().filter(|reservation| reservation.zone.is_empty()) {
        if let Some(subnet) = subnets.iter().find(|subnet| subnet.zone_id == reservation.zone_id) {
            reservation.zone = subnet.zone.clone();
        }
    }
    Ok(())
}

pub(super) async fn blocks(ec2: &Ec2) -> Result<Vec<Block>, CloudError> {
    let mut found = Vec::new();
    let mut token = None;
    loop {
        let request = ec2.calls.client.describe_capacity_blocks().max_results(PAGE).set_next_token(token);
        let page = ec2.calls.read("DescribeCapacityBlocks", || request.clone().send()).await?;
        found.extend(page.capacity_blocks().iter().filter_map(decode::block));
        token = next_page(page.next_token());
        if token.is_none() {
            return Ok(found);
        }
    }
}

/// The number of the account that we call with; it does not change.
async fn account(ec2: &Ec2) -> Result<&str, CloudError> {
    let ask = async || {
        let request = ec2.sts.get_caller_identity().send();
        let identity = call(&ec2.calls.counted, "GetCallerIdentity", request).await?;
        identity.account().map(str::to_owned).ok_or_else(|| CloudError::Transient {
            code: "EmptyAnswer".to_owned(),
            message: "GetCallerIdentity answered without an account".to_owned(),
        })
    };
    ec2.market.account.get_or_try_init(ask).await.map(String::as_str)
}
