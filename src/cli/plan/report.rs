//! A plan as `orca plan` tells it: the schema of `-o json`, and what the table is made from. Pure.
//!
//! Fields are never renamed or taken away; amounts of money are decimal texts, so that nobody rounds them.

use jiff::Timestamp;
use serde::Serialize;

use super::summary::summary;
use crate::capacity::planner::{self, Choice, Planned};
use crate::capacity::shipped;
use crate::capacity::world::{Source, World};
use crate::cloud::Purchase;
use crate::config::DaemonSetPolicy;
use crate::pod::ask::{Ask, Rejection};
use crate::pod::reasons;

/// Stands for a zone that is not known.
pub(super) const ANY_ZONE: &str = "any zone";
/// Stands for a subnet that is not known.
pub(super) const ANY_SUBNET: &str = "any subnet";

/// One pod and its plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Best first.
    pub(super) candidates: Vec<Candidate>,
    pub(super) pod: Subject,
    /// What it asks for; `None` if that could not be read.
    pub(super) asks: Option<String>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) verdict: Verdict,
    pub(super) region: String,
    /// `None` where nothing of the market had to be known.
    pub(super) market: Option<Market>,
    /// What else should be known of this plan.
    pub(super) notes: Vec<String>,
}

/// The pod, or the object that makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Subject {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    pub(super) instance_type: String,
    /// 1 is tried first.
    pub(super) rank: usize,
    /// As in `orca.research/capacity-type`.
    pub(super) market: &'static str,
    pub(super) zone: Option<String>,
    pub(super) subnet_id: Option<String>,
    pub(super) reservation_id: Option<String>,
    /// ARN.
    pub(super) reservation_group: Option<String>,
    /// Dollars: the spot price of spot, the price on demand of everything else.
    pub(super) price_per_hour: Option<String>,
    /// Dollars that it adds to the bill: next to nothing in a reservation that is paid for anyway.
    pub(super) added_per_hour: Option<String>,
    /// `api` or `static`; `None` without a price.
    pub(super) source: Option<&'static str>,
    /// How its type was chosen, and what put it here.
    pub(super) why: String,
    pub(super) vcpus: u32,
    pub(super) memory_mib: u64,
    pub(super) gpus: u32,
    pub(super) gpu_model: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Rejected {
    pub(super) rule: &'static str,
    /// The rule in words.
    pub(super) what: &'static str,
    pub(super) count: usize,
    /// The first few.
    pub(super) example: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub(super) enum Verdict {
    /// The first candidate is tried first.
    Launch,
    /// The pod fails.
    Refuse { reason: &'static str, problems: Vec<Problem> },
    /// The pod stays Pending.
    Wait {
        reason: &'static str,
        message: String,
        /// When the plan may be another, if that is known.
        until: Option<Timestamp>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    pub(super) reason: &'static str,
    pub(super) path: String,
    pub(super) message: String,
}

/// Where types and prices come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Market {
    pub(super) catalog: Origin,
    pub(super) prices: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Origin {
    /// `api` or `static`.
    pub(super) source: &'static str,
    pub(super) region: String,
    pub(super) as_of: Option<Timestamp>,
}

impl Report {
    /// Of a pod that cannot be asked about.
    pub(super) fn refused(pod: Subject, region: &str, rejection: &Rejection) -> Self {
        Self {
            pod,
            asks: None,
            candidates: Vec::new(),
            rejected: Vec::new(),
            verdict: refusal(rejection),
            region: region.to_owned(),
            market: None,
            notes: Vec::new(),
        }
    }

    /// Of a DaemonSet's pod, which never has a machine.
    pub(super) fn of_daemon_set(pod: Subject, region: &str, policy: DaemonSetPolicy) -> Self {
        let message = "pods of DaemonSets get no machine (`node.daemonSets`)";
        let rejection = Rejection::single(reasons::DAEMON_SET, "metadata.ownerReferences", message);
        let report = Self::refused(pod, region, &rejection);
        match policy {
            DaemonSetPolicy::Reject => report,
            DaemonSetPolicy::Pending => {
                let message = message.to_owned();
                let verdict = Verdict::Wait { reason: reasons::DAEMON_SET, message, until: None };
                Self { verdict, ..report }
            }
        }
    }

    /// Of a plan over a world.
    pub(super) fn planned(pod: Subject, ask: &Ask, planned: &Planned<'_>, world: &World<'_>) -> Self {
        let candidates = planned.choices.iter().zip(1..);
        Self {
            pod,
            asks: Some(summary(ask)),
            candidates: candidates.map(|(choice, rank)| candidate(rank, choice)).collect(),
            rejected: planned.rejected.iter().map(rejected).collect(),
            verdict: verdict(&planned.verdict),
            region: world.rules.region.clone(),
            market: Some(Market::of(world)),
            notes: Vec::new(),
        }
    }

    /// With more to be known of it.
    pub(super) fn noting(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }
}

impl Market {
    fn of(world: &World<'_>) -> Self {
        let here = world.rules.region.as_str();
        let origin = |source: Source, shipped_region: &str, as_of| Origin {
            source: source.name(),
            region: if source == Source::Shipped { shipped_region } else { here }.to_owned(),
            as_of,
        };
        let (catalog, prices) = (world.catalog, world.prices);
        Self {
            catalog: origin(catalog.source, here, catalog.as_of),
            prices: origin(prices.on_demand_source, shipped::REGION, prices.on_demand_as_of),
        }
    }
}

fn candidate(rank: usize, choice: &Choice<'_>) -> Candidate {
    let Choice { offer, subnet, purchase, price, why, .. } = choice;
    let per_hour = if matches!(purchase, Purchase::Spot { .. }) { price.marginal } else { price.list };
    let known = |text: &str| (text != ANY_ZONE && text != ANY_SUBNET).then(|| text.to_owned());
    let gpus = offer.shape.gpus.as_ref();
    Candidate {
        instance_type: offer.shape.name.clone(),
        rank,
        market: purchase.market(),
        zone: known(&subnet.zone),
        subnet_id: known(&subnet.id),
        reservation_id: purchase.reservation_id().map(str::to_owned),
        reservation_group: match purchase {
            Purchase::ReservationGroup { arn } => Some(arn.clone()),
            Purchase::OnDemand
            | Purchase::Spot { .. }
            | Purchase::Reservation { .. }
            | Purchase::OpenReservation
            | Purchase::CapacityBlock { .. }
            | Purchase::Interruptible { .. } => None,
        },
        price_per_hour: per_hour.map(|price| price.to_string()),
        added_per_hour: price.marginal.map(|price| price.to_string()),
        source: per_hour.map(|_| price.source.name()),
        why: format!("{}, {}", why.selection.name(), why.ranked_by.name()),
        vcpus: offer.shape.vcpus,
        memory_mib: offer.shape.memory_mib,
        gpus: gpus.map_or(0, |gpus| gpus.count),
        gpu_model: gpus.map(|gpus| gpus.model.clone()),
    }
}

fn rejected(one: &planner::Rejected) -> Rejected {
    let what = one.rule.phrase();
    Rejected { rule: one.rule.name(), what, count: one.count, example: one.example.clone() }
}

fn verdict(verdict: &planner::Verdict) -> Verdict {
    match verdict {
        planner::Verdict::Launch => Verdict::Launch,
        planner::Verdict::Refuse(rejection) => refusal(rejection),
        planner::Verdict::Wait { reason, message, until } => {
            Verdict::Wait { reason, message: message.clone(), until: *until }
        }
    }
}

fn refusal(rejection: &Rejection) -> Verdict {
    let problem = |one: &crate::pod::ask::Problem| Problem {
        reason: one.reason,
        path: one.path.clone(),
        message: one.message.clone(),
    };
    Verdict::Refuse {
        reason: rejection.reason(),
        problems: rejection.problems().iter().map(problem).collect(),
    }
}
