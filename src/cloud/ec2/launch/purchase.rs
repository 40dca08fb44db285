//! How a [`Purchase`] and a [`Placement`] are said to EC2.
//!
//! Every launch says both what it wants and what it does not: an unset preference would take any open reservation
//! of the account, and a resource group without `capacity-reservations-only` would quietly fall back to on demand.

use aws_sdk_ec2::types::{
    CapacityReservationPreference, CapacityReservationSpecification, CapacityReservationTarget,
    InstanceInterruptionBehavior, InstanceMarketOptionsRequest, MarketType, Placement as SdkPlacement,
    SpotInstanceType, SpotMarketOptions, Tenancy as SdkTenancy,
};

use crate::capacity::money::MicroUsd;
use crate::cloud::{CloudError, Placement, Purchase, Tenancy};

/// EC2 takes a maximum price only if it is more than this.
const LEAST_PRICE: MicroUsd = MicroUsd(1_000);

/// What EC2 would refuse after it has bound the token.
pub(super) fn check(purchase: &Purchase) -> Result<(), CloudError> {
    match purchase {
        Purchase::Spot { max_price: Some(price) } if *price <= LEAST_PRICE => Err(CloudError::Invalid {
            code: "InvalidParameterValue".to_owned(),
            message: format!("the maximum spot price is `{price}`, expected more than {LEAST_PRICE}"),
        }),
        Purchase::OnDemand
        | Purchase::Spot { .. }
        | Purchase::Reservation { .. }
        | Purchase::ReservationGroup { .. }
        | Purchase::OpenReservation
        | Purchase::CapacityBlock { .. }
        | Purchase::Interruptible { .. } => Ok(()),
    }
}

/// In which reservation, or that in none.
pub(super) fn reservation(purchase: &Purchase) -> CapacityReservationSpecification {
    let target = match purchase {
        // Spot cannot be in a reservation, and says so like on demand.
        Purchase::OnDemand | Purchase::Spot { .. } => {
            return CapacityReservationSpecification::builder()
                .capacity_reservation_preference(CapacityReservationPreference::None)
                .build();
        }
        Purchase::OpenReservation => None,
        Purchase::Reservation { id } | Purchase::CapacityBlock { id } | Purchase::Interruptible { id } => {
            Some(CapacityReservationTarget::builder().capacity_reservation_id(id).build())
        }
        Purchase::ReservationGroup { arn } => {
            Some(CapacityReservationTarget::builder().capacity_reservation_resource_group_arn(arn).build())
        }
    };
    CapacityReservationSpecification::builder()
        .capacity_reservation_preference(CapacityReservationPreference::CapacityReservationsOnly)
        .set_capacity_reservation_target(target)
        .build()
}

/// The market, where it is not on demand.
pub(super) fn market(purchase: &Purchase) -> Option<InstanceMarketOptionsRequest> {
    let options = InstanceMarketOptionsRequest::builder();
    Some(match purchase {
        Purchase::OnDemand
        | Purchase::Reservation { .. }
        | Purchase::ReservationGroup { .. }
        | Purchase::OpenReservation => return None,
        Purchase::Spot { max_price } => options
            .market_type(MarketType::Spot)
            .spot_options(
                SpotMarketOptions::builder()
                    .spot_instance_type(SpotInstanceType::OneTime)
                    .instance_interruption_behavior(InstanceInterruptionBehavior::Terminate)
                    .set_max_price(max_price.map(|price| price.to_string()))
                    .build(),
            )
            .build(),
        Purchase::CapacityBlock { .. } => options.market_type(MarketType::CapacityBlock).build(),
        Purchase::Interruptible { .. } => {
            options.market_type(MarketType::InterruptibleCapacityReservation).build()
        }
    })
}

/// Tenancy and placement group; `None` leaves EC2's defaults.
pub(super) fn placement(placement: &Placement) -> Option<SdkPlacement> {
    if *placement == Placement::default() {
        return None;
    }
    let tenancy = match placement.tenancy {
        Tenancy::Shared => None,
        Tenancy::Dedicated => Some(SdkTenancy::Dedicated),
    };
    let request = SdkPlacement::builder().set_tenancy(tenancy);
    let Some(group) = &placement.group else {
        return Some(request.build());
    };
    // An ARN ends in `placement-group/<name>`. A group that another account shares is known here by its id alone.
    let name = group.rsplit('/').next().unwrap_or(group);
    Some(if is_group_id(name) { request.group_id(name) } else { request.group_name(name) }.build())
}

/// `pg-` and 17 hexadecimal digits; names may begin with `pg-`, too.
fn is_group_id(text: &str) -> bool {
    text.strip_prefix("pg-")
        .is_some_and(|rest| rest.len() == 17 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether the launch makes a spot request beside the instance, which is tagged, too.
pub(super) fn makes_spot_request(purchase: &Purchase) -> bool {
    matches!(purchase, Purchase::Spot { .. })
}
