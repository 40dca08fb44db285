//! How a launch wants to be bought: `InstanceMarketOptions` and `CapacityReservationSpecification`.

use super::not_played;
use crate::aws::Refusal;
use crate::aws::query::Scope;
use crate::ec2::ids::Kind;
use crate::world::purchase::{Lifecycle, Preference, Purchase, Specification, Target};

/// What ARNs of resource groups begin with, in every partition.
const GROUP: &str = ":resource-groups:";

/// The market, and which reservations it may use. Tenancy is a matter of placement.
pub(super) fn parse(scope: &Scope<'_>) -> Result<Purchase, Refusal> {
    let lifecycle = lifecycle(&scope.scope("InstanceMarketOptions"))?;
    let asked = specification(scope)?;
    if lifecycle == Lifecycle::CapacityBlock && !matches!(asked.target, Some(Target::Id(_))) {
        let message = "The market type 'capacity-block' requires the ID of a Capacity Block reservation as \
                       CapacityReservationTarget.";
        return Err(Refusal::new("InvalidParameterCombination", message));
    }
    Ok(Purchase { lifecycle, asked, ..Purchase::default() })
}

fn lifecycle(options: &Scope<'_>) -> Result<Lifecycle, Refusal> {
    let lifecycle = match options.text("MarketType") {
        None if options.given("SpotOptions") => return Err(Refusal::missing(&options.name("MarketType"))),
        None | Some("on-demand") => Lifecycle::OnDemand,
        Some("capacity-block") => Lifecycle::CapacityBlock,
        Some(other @ ("spot" | "interruptible-capacity-reservation")) => {
            return Err(not_played(&format!("InstanceMarketOptions.MarketType={other}")));
        }
        Some(other) => {
            let expected =
                "Expected 'spot', 'capacity-block', 'interruptible-capacity-reservation' or 'on-demand'.";
            return Err(Refusal::value("marketType", other, expected));
        }
    };
    if options.given("SpotOptions") {
        let message = "SpotOptions can be specified only if the market type is 'spot'.";
        return Err(Refusal::new("InvalidParameterCombination", message));
    }
    Ok(lifecycle)
}

/// Which reservations it may use.
fn specification(scope: &Scope<'_>) -> Result<Specification, Refusal> {
    let specification = scope.scope("CapacityReservationSpecification");
    let preference = match specification.text("CapacityReservationPreference") {
        None => None,
        Some("open") => Some(Preference::Open),
        Some("none") => Some(Preference::None),
        Some("capacity-reservations-only") => Some(Preference::Only),
        Some(other) => {
            let expected = "Expected 'open', 'none' or 'capacity-reservations-only'.";
            return Err(Refusal::value("capacityReservationPreference", other, expected));
        }
    };
    let target = target(&specification.scope("CapacityReservationTarget"))?;
    if target.is_some() && preference.is_some_and(|preference| preference != Preference::Only) {
        let message = "CapacityReservationPreference and CapacityReservationTarget can be specified together only if \
                       the preference is 'capacity-reservations-only'.";
        return Err(Refusal::new("InvalidParameterCombination", message));
    }
    Ok(Specification { preference, target })
}

fn target(target: &Scope<'_>) -> Result<Option<Target>, Refusal> {
    match (target.text("CapacityReservationId"), target.text("CapacityReservationResourceGroupArn")) {
        (None, None) => Ok(None),
        (Some(id), None) => {
            Kind::Reservation.check(id)?;
            Ok(Some(Target::Id(id.to_owned())))
        }
        (None, Some(arn)) => {
            if !arn.starts_with("arn:") || !arn.contains(GROUP) {
                let expected = "Expected the ARN of a resource group.";
                return Err(Refusal::value("capacityReservationResourceGroupArn", arn, expected));
            }
            Ok(Some(Target::Group(arn.to_owned())))
        }
        (Some(_), Some(_)) => {
            let message =
                "CapacityReservationId and CapacityReservationResourceGroupArn cannot be specified together.";
            Err(Refusal::new("InvalidParameterCombination", message))
        }
    }
}
