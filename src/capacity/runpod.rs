//! Ask × RunPod's offers → candidates in order, explained. Pure, as the plan for EC2 is.
//!
//! RunPod sells GPUs by type, tier and number; where in the world it is, and how many vCPUs and how much memory come
//! with it, is asked for as a floor and not chosen. Tiers come in the operator's order, then the cheaper offer, then the
//! one of which there is more.

mod models;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::money::MicroUsd;
use super::spend::Budget;
use crate::clock::after;
use crate::cloud::runpod::{CloudTier, GpuOffer, Level};
use crate::config::RunPod;
use crate::pod::ask::{Ask, Rejection};
use crate::pod::reasons;

pub use models::model_of;

/// What had no room is passed over for so long.
const AVOIDED: Duration = Duration::from_secs(180);
/// A tier that the account may not use.
const FORBIDDEN: Duration = Duration::from_secs(3600);
/// RunPod counts memory in decimal gigabytes.
const GB: u64 = 1_000_000_000;

/// What is known of RunPod at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    pub now: Timestamp,
    pub rules: &'a RunPod,
    pub market: &'a Offers,
    pub avoided: &'a Avoided,
    /// `None` sets no bound.
    pub budget: Option<Budget>,
}

/// The catalog, by tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    pub gpus: BTreeMap<CloudTier, Vec<GpuOffer>>,
    /// `None` while it was never read.
    pub as_of: Option<Timestamp>,
}

/// What had no room a moment ago.
#[derive(Clone, Debug, Default)]
pub struct Avoided(BTreeMap<(String, CloudTier), Timestamp>);

impl Avoided {
    /// There was no room.
    pub fn no_room(&mut self, gpu_id: &str, tier: CloudTier, now: Timestamp) {
        self.until(gpu_id, tier, after(now, AVOIDED), now);
    }

    /// The account may not use it.
    pub fn forbidden(&mut self, gpu_id: &str, tier: CloudTier, now: Timestamp) {
        self.until(gpu_id, tier, after(now, FORBIDDEN), now);
    }

    /// It was to be had.
    pub fn clear(&mut self, gpu_id: &str, tier: CloudTier) {
        self.0.remove(&(gpu_id.to_owned(), tier));
    }

    fn until(&mut self, gpu_id: &str, tier: CloudTier, until: Timestamp, now: Timestamp) {
        self.0.retain(|_, at| *at > now);
        self.0.insert((gpu_id.to_owned(), tier), until);
    }

    fn of(&self, gpu_id: &str, tier: CloudTier, now: Timestamp) -> Option<Timestamp> {
        self.0.get(&(gpu_id.to_owned(), tier)).copied().filter(|at| *at > now)
    }
}

/// What is to be tried for a pod, and what not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Best first.
    pub choices: Vec<Choice>,
    /// By rule, with the first offer that it took out.
    pub rejected: BTreeMap<Rule, (usize, String)>,
    pub verdict: Verdict,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is at least one choice.
    Launch,
    /// Never, as the pod and the configuration stand.
    Refuse(Rejection),
    /// Time can help.
    Wait {
        /// One of [`reasons`].
        reason: &'static str,
        message: String,
        /// The first known moment at which the plan may be another.
        until: Option<Timestamp>,
    },
}

/// One order that may be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub gpu_id: String,
    pub count: u32,
    pub tier: CloudTier,
    /// Of all its GPUs per hour.
    pub price: Option<MicroUsd>,
    pub level: Level,
    /// Of system memory for each GPU, at least.
    pub min_memory_per_gpu_gb: Option<u32>,
    pub min_vcpus_per_gpu: Option<u32>,
}

/// Why an offer was not chosen, in the order in which it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `runpod.allowedGPUs`.
    NotAllowed,
    Model,
    Memory,
    /// Fewer GPUs in one pod than are asked for.
    Count,
    /// Not offered in this tier.
    NotSold,
    PriceUnknown,
    PriceLimit,
    /// None of them is in a data center that may be used.
    DataCenter,
    /// There is none now.
    Stock,
    /// It had no room a moment ago.
    Avoided,
    /// `limits.maxHourlyCost`, or `runpod.spendLimit`.
    Budget,
}

impl Rule {
    /// A bounded name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotAllowed => "not-allowed",
            Self::Model => "gpu-model",
            Self::Memory => "gpu-memory",
            Self::Count => "gpus",
            Self::NotSold => "not-sold",
            Self::PriceUnknown => "price-unknown",
            Self::PriceLimit => "price-limit",
            Self::DataCenter => "data-center",
            Self::Stock => "no-stock",
            Self::Avoided => "avoided",
            Self::Budget => "budget",
        }
    }

    /// Whether time can help.
    fn may_pass(self) -> bool {
        match self {
            Self::PriceUnknown
            | Self::PriceLimit
            | Self::DataCenter
            | Self::Stock
            | Self::Avoided
            | Self::Budget => true,
            Self::NotAllowed | Self::Model | Self::Memory | Self::Count | Self::NotSold => false,
        }
    }

    /// The pod's reason while it waits.
    fn reason(self) -> &'static str {
        match self {
            Self::PriceUnknown | Self::PriceLimit => reasons::PRICE_LIMIT,
            Self::Budget => reasons::BUDGET,
            Self::NotAllowed
            | Self::Model
            | Self::Memory
            | Self::Count
            | Self::NotSold
            | Self::DataCenter
            | Self::Stock
            | Self::Avoided => reasons::NO_CAPACITY,
        }
    }
}

/// The plan for a pod.
#[must_use]
pub fn plan(ask: &Ask, scene: &Scene<'_>) -> Planned {
    let mut planned = Planned { choices: Vec::new(), rejected: BTreeMap::new(), verdict: Verdict::Launch };
    if let Err(rejection) = asked(ask) {
        return Planned { verdict: Verdict::Refuse(rejection), ..planned };
    }
    let mut until: Option<Timestamp> = None;
    for (tier, offer) in scene.offers() {
        match scene.check(ask, tier, offer) {
            Ok(choice) => planned.choices.push(choice),
            Err(rule) => {
                let entry = planned.rejected.entry(rule).or_insert_with(|| (0, offer.id.clone()));
                entry.0 += 1;
                let free = scene.avoided.of(&offer.id, tier, scene.now).filter(|_| rule == Rule::Avoided);
                until = until.into_iter().chain(free).min();
            }
        }
    }
    let rank = |tier| scene.rules.cloud_types.iter().position(|one| *one == tier);
    planned.choices.sort_by(|a, b| {
        let key =
            |one: &Choice| (rank(one.tier), one.price.is_none(), one.price, std::cmp::Reverse(one.level));
        key(a).cmp(&key(b)).then_with(|| a.gpu_id.cmp(&b.gpu_id))
    });
    if planned.choices.is_empty() {
        planned.verdict = scene.verdict(&planned.rejected, until);
    }
    planned
}

/// What no offer of RunPod's could give.
fn asked(ask: &Ask) -> Result<(), Rejection> {
    let refuse =
        |path: &str, message: &str| Err(Rejection::single(reasons::UNSUPPORTED_ON_RUNPOD, path, message));
    if ask.gpus == 0 {
        let path = format!("spec.containers[0].resources.limits[{}]", ask.gpu_resource);
        return refuse(&path, "expected at least 1 on RunPod");
    }
    if !ask.gpu_resource.starts_with("nvidia.com/") {
        return refuse("node.gpu.resource", "RunPod has GPUs of NVIDIA's alone");
    }
    if ask.arch.as_deref().is_some_and(|arch| arch != "amd64") {
        return refuse("spec.nodeSelector[kubernetes.io/arch]", "RunPod has amd64 alone");
    }
    if !ask.wishes.instance_types.is_empty() || !ask.wishes.type_patterns.is_empty() {
        let path = "metadata.annotations[orca.research/instance-types]";
        return refuse(path, "instance types are EC2's; `gpu-models` names GPUs on RunPod");
    }
    Ok(())
}

impl<'a> Scene<'a> {
    fn offers(&self) -> impl Iterator<Item = (CloudTier, &'a GpuOffer)> {
        let tiers = self.rules.cloud_types.iter().copied();
        tiers.flat_map(|tier| self.market.gpus.get(&tier).into_iter().flatten().map(move |one| (tier, one)))
    }

    fn check(&self, ask: &Ask, tier: CloudTier, offer: &GpuOffer) -> Result<Choice, Rule> {
        let wishes = &ask.wishes;
        if !self.rules.allows_gpu(&offer.id) {
            return Err(Rule::NotAllowed);
        }
        if !wishes.gpu_models.is_empty()
            && !wishes.gpu_models.iter().any(|wish| models::is_model(&offer.id, wish))
        {
            return Err(Rule::Model);
        }
        // Both sides round: the 80 GB that everybody knows it by.
        let memory_mib = u64::from(offer.memory_gb) << 10;
        if wishes.gpu_memory_min_mib.is_some_and(|least| memory_mib < least) {
            return Err(Rule::Memory);
        }
        let (price, most) = match tier {
            CloudTier::Secure => (offer.price_secure, offer.most_secure),
            CloudTier::Community => (offer.price_community, offer.most_community),
        };
        let count = u32::try_from(ask.gpus).ok().filter(|count| *count <= most);
        let Some(count) = count else {
            return Err(if most == 0 { Rule::NotSold } else { Rule::Count });
        };
        let price = price.map(|one| MicroUsd(one.0.saturating_mul(u64::from(count))));
        let has_bound = wishes.max_price.is_some() || self.budget.is_some();
        match price {
            None if has_bound => return Err(Rule::PriceUnknown),
            Some(price) if wishes.max_price.is_some_and(|limit| price > limit) => {
                return Err(Rule::PriceLimit);
            }
            Some(_) | None => {}
        }
        let allowed = &self.rules.data_center_ids;
        let here = |id: &String| allowed.is_empty() || allowed.contains(id);
        if !offer.places.is_empty()
            && !offer.places.iter().any(|place| here(&place.data_center_id) && place.level != Level::None)
        {
            return Err(if allowed.is_empty() { Rule::Stock } else { Rule::DataCenter });
        }
        if offer.level == Level::None {
            return Err(Rule::Stock);
        }
        if self.avoided.of(&offer.id, tier, self.now).is_some() {
            return Err(Rule::Avoided);
        }
        if let (Some(budget), Some(price)) = (self.budget, price)
            && price > budget.left()
        {
            return Err(Rule::Budget);
        }
        Ok(Choice {
            gpu_id: offer.id.clone(),
            count,
            tier,
            price,
            level: offer.level,
            min_memory_per_gpu_gb: per_gpu(ask.memory_bytes.div_ceil(GB), count),
            min_vcpus_per_gpu: per_gpu(ask.cpu_milli.div_ceil(1000), count),
        })
    }

    fn verdict(&self, rejected: &BTreeMap<Rule, (usize, String)>, until: Option<Timestamp>) -> Verdict {
        if self.market.as_of.is_none() {
            return Verdict::Wait {
                reason: reasons::CLOUD_UNAVAILABLE,
                message: "RunPod's catalog was not read yet".to_owned(),
                until: None,
            };
        }
        let mut told = String::new();
        for (rule, (count, example)) in rejected {
            let separator = if told.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            write!(told, "{separator}{count} {} ({example})", rule.name()).ok();
        }
        // What came furthest says what is missing.
        match rejected.keys().rev().find(|rule| rule.may_pass()) {
            Some(rule) => Verdict::Wait {
                reason: rule.reason(),
                message: format!("RunPod has no GPU for the pod now: {told}"),
                until,
            },
            None => Verdict::Refuse(Rejection::single(
                reasons::NO_INSTANCE_TYPE,
                "spec.containers[0].resources",
                format!("RunPod has no GPU that is what the pod asks for: {told}"),
            )),
        }
    }
}

/// `None` asks for no floor.
fn per_gpu(amount: u64, count: u32) -> Option<u32> {
    u32::try_from(amount.div_ceil(u64::from(count.max(1)))).ok().filter(|amount| *amount > 0)
}

/// A mebibyte count as RunPod's gigabytes, rounded up: the container's disk.
#[must_use]
pub fn disk_gb(ephemeral_bytes: u64) -> u32 {
    /// RunPod's own default, which images need (docs.runpod.io, "Container disk").
    const LEAST: u64 = 20;
    let asked = ephemeral_bytes.saturating_add(10 * GB).div_ceil(GB);
    u32::try_from(asked.max(LEAST)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
