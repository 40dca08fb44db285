//! Reservations, Capacity Blocks and spot prices.

use aws_sdk_ec2::types::{
    self as sdk, CapacityBlockResourceState, CapacityReservationState, CapacityReservationTenancy,
    CapacityReservationType, InstanceMatchCriteria,
};

use super::{named, owned, tags, timestamp, unsigned};
use crate::cloud::{
    Block, BlockState, Reservation, ReservationKind, ReservationMatch, ReservationState, SpotPrice, Tenancy,
};

/// `None` for a reservation without id or type, which EC2 never sends. `account` is ours.
pub(in super::super) fn reservation(found: &sdk::CapacityReservation, account: &str) -> Option<Reservation> {
    let owner_id = owned(found.owner_id());
    Some(Reservation {
        id: named(found.capacity_reservation_id())?,
        ours: owner_id == account,
        owner_id,
        kind: kind(found),
        instance_type: named(found.instance_type())?,
        platform: owned(found.instance_platform().map(sdk::CapacityReservationInstancePlatform::as_str)),
        tenancy: match found.tenancy() {
            Some(CapacityReservationTenancy::Dedicated) => Tenancy::Dedicated,
            Some(_) | None => Tenancy::Shared,
        },
        zone: owned(found.availability_zone()),
        zone_id: owned(found.availability_zone_id()),
        total: unsigned(found.total_instance_count()),
        available: unsigned(found.available_instance_count()),
        state: state(found.state()),
        matches: match found.instance_match_criteria() {
            Some(InstanceMatchCriteria::Targeted) => ReservationMatch::Targeted,
            Some(_) | None => ReservationMatch::Open,
        },
        starts_at: found.start_date().and_then(timestamp),
        ends_at: found.end_date().and_then(timestamp),
        placement_group_arn: named(found.placement_group_arn()),
        block_id: named(found.capacity_block_id()),
        tags: tags(found.tags()),
    })
}

fn kind(found: &sdk::CapacityReservation) -> ReservationKind {
    if found.reservation_type() == Some(&CapacityReservationType::CapacityBlock) {
        ReservationKind::CapacityBlock
    } else if found.interruptible() == Some(true) {
        ReservationKind::Interruptible
    } else {
        ReservationKind::OnDemand
    }
}

fn state(state: Option<&CapacityReservationState>) -> ReservationState {
    use CapacityReservationState as Ec2;
    match state {
        Some(Ec2::Active) => ReservationState::Active,
        Some(Ec2::Scheduled | Ec2::Assessing | Ec2::Pending | Ec2::PaymentPending | Ec2::Delayed) => {
            ReservationState::Scheduled
        }
        // `cancelling` and every word that is new: nothing that a launch should count on.
        Some(_) | None => ReservationState::Over,
    }
}

/// `None` for a block without an id, which EC2 never sends.
pub(in super::super) fn block(found: &sdk::CapacityBlock) -> Option<Block> {
    use CapacityBlockResourceState as Ec2;
    Some(Block {
        id: named(found.capacity_block_id())?,
        reservation_ids: found.capacity_reservation_ids().to_vec(),
        state: match found.state() {
            Some(Ec2::Active) => BlockState::Active,
            Some(Ec2::Scheduled | Ec2::PaymentPending) => BlockState::Scheduled,
            Some(_) | None => BlockState::Over,
        },
        starts_at: found.start_date().and_then(timestamp),
        ends_at: found.end_date().and_then(timestamp),
    })
}

/// `None` for a price that is none, or without its type, zone or time.
pub(in super::super) fn spot_price(found: &sdk::SpotPrice) -> Option<SpotPrice> {
    Some(SpotPrice {
        instance_type: found.instance_type()?.as_str().to_owned(),
        zone: named(found.availability_zone())?,
        price: found.spot_price()?.parse().ok()?,
        since: found.timestamp().and_then(timestamp)?,
    })
}
