//! How a launch wants to be bought: `InstanceMarketOptions` and `CapacityReservationSpecification`.

use std::collections::BTreeMap;

use super::not_played;
use crate::aws::Refusal;
use crate::aws::query::Scope;
use crate::ec2::catalog::micros;
use crate::ec2::ids::Kind;
use crate::world::purchase::{Lifecycle, Preference, Purchase, Specification, Spot, Target};

/// A Spot Instance has to be worth more than this, in millionths of a dollar an hour.
const LOWEST_PRICE: u64 = 1000;

/// What ARNs of resource groups begin with, in every partition.
const GROUP: &str = ":resource-groups:";

/// The market, and which reservations it may use. Tenancy is a matter of placement; `tags` are the spot request's.
pub(super) fn parse(scope: &Scope<'_>, tags: Option<&BTreeMap<String, String>>) -> Result<Purchase, Refusal> {
    let options = scope.scope("InstanceMarketOptions");
    let lifecycle = lifecycle(&options)?;
    let asked = specification(scope)?;
    let (only, by_id) =
        (asked.preference == Some(Preference::Only), matches!(asked.target, Some(Target::Id(_))));
    let combination = |message: &str| Err(Refusal::new("InvalidParameterCombination", message));
    let spot = match lifecycle {
        Lifecycle::OnDemand => None,
        Lifecycle::Spot if only || asked.target.is_some() => {
            return combination("Spot Instances cannot be launched into Capacity Reservations.");
        }
        Lifecycle::Spot => {
            let max_price = spot(&options.scope("SpotOptions"))?;
            Some(Spot { id: String::new(), max_price, tags: tags.cloned().unwrap_or_default() })
        }
        Lifecycle::CapacityBlock | Lifecycle::Interruptible if !by_id => {
            return combination(
                "This market type requires the ID of a Capacity Reservation as CapacityReservationTarget.",
            );
        }
        Lifecycle::CapacityBlock | Lifecycle::Interruptible => None,
    };
    if spot.is_none() && options.given("SpotOptions") {
        return combination("SpotOptions can be specified only if the market type is 'spot'.");
    }
    if spot.is_none() && tags.is_some() {
        let message = "'spot-instances-request' is not a valid taggable resource type for this operation.";
        return Err(Refusal::new("InvalidParameterValue", message));
    }
    Ok(Purchase { lifecycle, asked, spot, ..Purchase::default() })
}

fn lifecycle(options: &Scope<'_>) -> Result<Lifecycle, Refusal> {
    match options.text("MarketType") {
        None if options.given("SpotOptions") => Err(Refusal::missing(&options.name("MarketType"))),
        None | Some("on-demand") => Ok(Lifecycle::OnDemand),
        Some("spot") => Ok(Lifecycle::Spot),
        Some("capacity-block") => Ok(Lifecycle::CapacityBlock),
        Some("interruptible-capacity-reservation") => Ok(Lifecycle::Interruptible),
        Some(other) => {
            let expected =
                "Expected 'spot', 'capacity-block', 'interruptible-capacity-reservation' or 'on-demand'.";
            Err(Refusal::value("marketType", other, expected))
        }
    }
}

/// The highest price, of a request that is made once and ends with its instance.
fn spot(options: &Scope<'_>) -> Result<Option<u64>, Refusal> {
    if options.given("BlockDurationMinutes") {
        return Err(not_played(&options.name("BlockDurationMinutes")));
    }
    match options.text("SpotInstanceType") {
        None | Some("one-time") => {}
        Some("persistent") => {
            return Err(not_played("InstanceMarketOptions.SpotOptions.SpotInstanceType=persistent"));
        }
        Some(other) => {
            return Err(Refusal::value("spotInstanceType", other, "Expected 'one-time' or 'persistent'."));
        }
    }
    match options.text("InstanceInterruptionBehavior") {
        None | Some("terminate") => {}
        Some(other @ ("stop" | "hibernate")) => {
            let message = format!(
                "The interruption behavior '{other}' is not supported for one-time Spot Instance requests."
            );
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        Some(other) => {
            let expected = "Expected 'hibernate', 'stop' or 'terminate'.";
            return Err(Refusal::value("instanceInterruptionBehavior", other, expected));
        }
    }
    if options.text("ValidUntil").is_some() {
        let message = "ValidUntil is not supported for one-time Spot Instance requests.";
        return Err(Refusal::new("InvalidParameterCombination", message));
    }
    let parse = |text: &str| {
        let price = micros(text).filter(|price| *price > LOWEST_PRICE);
        price.ok_or_else(|| Refusal::value("maxPrice", text, "Expected a price of more than 0.001 USD."))
    };
    options.text("MaxPrice").map(parse).transpose()
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
