//! In which markets a pod's machine may be bought, and in which order.

use super::limits;
use crate::config::Instances;
use crate::pod::ask::Ask;
use crate::pod::wishes::{CapacityType, Preference, Wishes};

/// The markets, best first.
#[derive(Debug)]
pub(super) struct Markets {
    ranked: Vec<CapacityType>,
    /// Wished, and not allowed by the operator.
    pub(super) not_allowed: Vec<CapacityType>,
}

impl Markets {
    pub(super) fn of(ask: &Ask, rules: &Instances) -> Self {
        let mut ranked: Vec<CapacityType> = Vec::with_capacity(CapacityType::ALL.len());
        for market in wished(&ask.wishes) {
            if !ranked.contains(&market) {
                ranked.push(market);
            }
        }
        let (ranked, not_allowed) =
            ranked.into_iter().partition(|market| limits::allows_market(rules, *market));
        Self { ranked, not_allowed }
    }

    /// 0 is the best; `None` if nothing may be bought there.
    pub(super) fn rank(&self, market: CapacityType) -> Option<u8> {
        let at = self.ranked.iter().position(|one| *one == market)?;
        u8::try_from(at).ok()
    }

    /// The rank of a reservation that somebody named: of its own market, else of the first that is of reservations.
    pub(super) fn rank_of_named(&self, market: CapacityType) -> Option<u8> {
        self.rank(market).or_else(|| {
            let at = self.ranked.iter().position(|one| is_reserved(*one))?;
            u8::try_from(at).ok()
        })
    }

    /// Whether a machine of a type that nobody reserved may be chosen.
    pub(super) fn has_open_market(&self) -> bool {
        self.ranked.iter().any(|market| !is_reserved(*market))
    }
}

/// Whether machines of this market are in a reservation.
pub(super) fn is_reserved(market: CapacityType) -> bool {
    match market {
        CapacityType::Reserved | CapacityType::CapacityBlock | CapacityType::Interruptible => true,
        CapacityType::Spot | CapacityType::OnDemand => false,
    }
}

/// Whether a reservation is named, by id or by its group.
pub(super) fn names_reservation(wishes: &Wishes) -> bool {
    !wishes.reservation.ids.is_empty() || wishes.reservation.group_arn.is_some() || wishes.block_id.is_some()
}

fn wished(wishes: &Wishes) -> Vec<CapacityType> {
    let preference = wishes.reservation.preference;
    let mut markets = wishes.capacity_types.clone();
    let has = |markets: &[CapacityType], market| markets.contains(&market);
    if wishes.block_id.is_some() && !has(&markets, CapacityType::CapacityBlock) {
        markets.insert(0, CapacityType::CapacityBlock);
    }
    let is_block_alone = wishes.block_id.is_some() && !names_other_than_block(wishes);
    if preference != Preference::None && !is_block_alone && !markets.iter().any(|one| is_reserved_pool(*one))
    {
        markets.push(CapacityType::Reserved);
        markets.sort_by_key(|market| !is_reserved(*market));
    }
    let is_open = wishes.capacity_types.is_empty()
        && (preference == Preference::Prefer
            || (preference == Preference::None && wishes.block_id.is_none()));
    if is_open {
        markets.push(CapacityType::OnDemand);
    }
    // A spot machine is never in a reservation, and one that must be in a reservation is never elsewhere.
    let is_bound = preference == Preference::Required;
    let is_meant = names_reservation(wishes) || wishes.reservation.selector.is_some();
    markets.retain(|market| match market {
        CapacityType::Spot => !is_bound && !is_meant,
        CapacityType::OnDemand => !is_bound,
        CapacityType::Reserved | CapacityType::CapacityBlock | CapacityType::Interruptible => true,
    });
    markets
}

fn is_reserved_pool(market: CapacityType) -> bool {
    matches!(market, CapacityType::Reserved | CapacityType::Interruptible)
}

fn names_other_than_block(wishes: &Wishes) -> bool {
    let reservation = &wishes.reservation;
    !reservation.ids.is_empty() || reservation.group_arn.is_some() || reservation.selector.is_some()
}
