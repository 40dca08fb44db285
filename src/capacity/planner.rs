//! Ask × world → candidates in order, explained. Pure: no clock, no call, the same answer for the same world.
//!
//! A pod that lists types gets one of them, in its order, and never another. For one that does not, the cheapest
//! machine that fits is looked for. How machines may be bought is ranked first, then what they cost; a reservation
//! that must be used is never left. What is not chosen is counted by the [`Rule`] that took it out.
//!
//! `types` finds the types, `pools` and `reservations` the candidates, `order` compares them, `verdict` says what
//! follows if there are none.

mod against;
mod explain;
mod ledger;
mod limits;
mod markets;
mod order;
mod pass;
mod pools;
mod reservations;
mod rule;
mod shape;
mod types;
mod verdict;

#[cfg(test)]
pub(super) mod tests;

use jiff::Timestamp;

pub use order::RankedBy;
pub use reservations::drain_time;
pub use rule::Rule;
pub use shape::usable;

use self::order::{Draft, How};
use self::pass::Pass;
use super::money::MicroUsd;
use super::world::{Offer, Source, World};
use crate::cloud::{Placement, Purchase, Subnet};
use crate::pod::ask::{Ask, Rejection};
use crate::pod::wishes::CapacityType;

/// What is to be tried for a pod, and what not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned<'a> {
    /// Best first.
    pub choices: Vec<Choice<'a>>,
    /// By rule.
    pub rejected: Vec<Rejected>,
    pub verdict: Verdict,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The choices are tried in their order; there is at least one.
    Launch,
    /// The pod can never have a machine as it and the configuration stand.
    Refuse(Rejection),
    /// Time can help.
    Wait {
        /// One of [`reasons`](crate::pod::reasons).
        reason: &'static str,
        message: String,
        /// The first known moment at which the plan may be another.
        until: Option<Timestamp>,
    },
}

/// One machine that may be launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    pub offer: &'a Offer,
    pub subnet: &'a Subnet,
    pub purchase: Purchase,
    pub placement: Placement,
    pub price: Price,
    pub why: Why,
}

/// Per hour. `None` is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// On demand.
    pub list: Option<MicroUsd>,
    /// What this machine adds to the bill: next to nothing in a reservation that is paid for anyway.
    pub marginal: Option<MicroUsd>,
    pub source: Source,
}

/// Why a choice stands where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    pub selection: Selection,
    pub market: CapacityType,
    pub ranked_by: RankedBy,
}

/// How a type came to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selection {
    /// The pod, its template or the configuration lists it.
    Listed,
    /// It is the type of a reservation that is named.
    Named,
    /// It fits.
    Cheapest,
}

/// What one rule took out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub rule: Rule,
    pub count: usize,
    /// The first few.
    pub example: String,
}

/// The plan for a pod.
#[must_use]
pub fn plan<'a>(ask: &Ask, world: &World<'a>) -> Planned<'a> {
    let mut pass = Pass::new(ask, world);
    let types = pass.find_types();
    pass.search_named();
    pass.search_discovered(&types);
    pass.search_pools(&types.fits);
    let verdict = pass.verdict(&types);
    let mut drafts = std::mem::take(&mut pass.drafts);
    if verdict != Verdict::Launch {
        drafts.clear();
    }
    drafts.sort_unstable_by(Draft::compare);
    let firsts = std::iter::once(None).chain(drafts.iter().map(Some));
    let choices = drafts.iter().zip(firsts).map(|(draft, before)| pass.choice(draft, before)).collect();
    Planned { choices, rejected: pass.ledger.into_rejected(), verdict }
}

impl<'a> Pass<'a, '_> {
    fn choice(&self, draft: &Draft<'a>, before: Option<&Draft<'a>>) -> Choice<'a> {
        let wishes = &self.ask.wishes;
        let (purchase, group) = match draft.how {
            How::OnDemand => (Purchase::OnDemand, None),
            How::Spot => (Purchase::Spot { max_price: self.limit(CapacityType::Spot) }, None),
            How::Open => (Purchase::OpenReservation, None),
            How::Group => {
                let arn = wishes.reservation.group_arn.clone().unwrap_or_default();
                (Purchase::ReservationGroup { arn }, None)
            }
            How::Reserved(one) => (reservations::purchase(one), one.placement_group_arn.clone()),
        };
        Choice {
            offer: draft.offer,
            subnet: draft.subnet,
            purchase,
            placement: Placement {
                tenancy: wishes.tenancy,
                group: group.or_else(|| wishes.placement_group.clone()),
            },
            price: self.price(draft),
            why: Why {
                selection: draft.selection,
                market: draft.market(),
                ranked_by: before
                    .map_or(RankedBy::First, |before| RankedBy::between(&before.key, &draft.key)),
            },
        }
    }

    fn price(&self, draft: &Draft<'_>) -> Price {
        let source = match draft.how {
            // There is no shipped table of spot prices.
            How::Spot => Source::Api,
            How::OnDemand | How::Group | How::Open | How::Reserved(_) => self.world.prices.on_demand_source,
        };
        Price { list: draft.list, marginal: draft.marginal, source }
    }
}

impl Selection {
    /// A bounded name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Named => "reservation named",
            Self::Cheapest => "cheapest that fits",
        }
    }
}
