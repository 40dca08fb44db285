//! What a pod, its owner, its namespace, its template and the node's configuration want of a machine.
//!
//! `keys` is the table of everything that can be said, `parse` reads one value, `guard` asks whether the operator
//! allows it, `collect` finds for each field the nearest layer that speaks of it, `settle` lets give way what does
//! not go together, `fill` makes [`Wishes`] of the rest. `docs/annotations.md` tells the same to people.

mod collect;
mod fill;
mod guard;
mod keys;
mod parse;
mod read;
mod settle;
mod template;
mod volume;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ask::Rejection;
use super::layers::Layer;
use crate::capacity::money::MicroUsd;
use crate::cloud::{ImageWish, RootVolume, Tenancy};
use crate::config::Instances;

pub(crate) use keys::older_spelling;
pub(crate) use template::flatten;

/// The wishes of all layers, merged: for each field the first layer that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Exactly these, in this order; empty leaves the choice to ORCA.
    pub instance_types: Vec<String>,
    /// Patterns such as `g6e.*` that a chosen type must match; empty allows all.
    pub type_patterns: Vec<String>,
    /// The template that was named.
    pub template: Option<String>,
    /// Models in lower case, such as `h100`; empty allows all.
    pub gpu_models: Vec<String>,
    /// Per GPU.
    pub gpu_memory_min_mib: Option<u64>,
    /// A share of a GPU may stand for one.
    pub gpu_share: GpuShare,
    /// In order of preference; empty stands for what [`ReservationWish`] and the operator leave.
    pub capacity_types: Vec<CapacityType>,
    pub reservation: ReservationWish,
    /// `cr-…` or `cb-…`.
    pub block_id: Option<String>,
    /// Of the machine per hour, whatever the market.
    pub max_price: Option<MicroUsd>,
    /// Of a spot machine per hour.
    pub max_spot_price: Option<MicroUsd>,
    /// Names or ids; empty allows all.
    pub zones: Vec<String>,
    /// Of the configured ones; empty allows all.
    pub subnet_ids: Vec<String>,
    pub placement_group: Option<String>,
    pub tenancy: Tenancy,
    /// EFA interfaces; 0 asks for none.
    pub efa: u32,
    pub image: Option<ImageWish>,
    pub instance_profile: Option<String>,
    /// Empty stands for the configured ones.
    pub security_group_ids: Vec<String>,
    /// The configuration's, with what the wishes change; `None` changes nothing.
    pub root_volume: Option<RootVolume>,
    /// The machine ends itself at this age.
    pub max_lifetime: Option<Duration>,
    /// A reservation must last at least so long.
    pub min_runtime: Option<Duration>,
    pub estimated_duration: Option<Duration>,
    /// After waiting so long for capacity the pod fails; `None` waits for ever.
    pub capacity_wait: Option<Duration>,
}

impl Wishes {
    /// Reads what the layers of a pod, its owner and its namespace say, nearest first; the layers of the template
    /// that one of them names, and of the node's defaults, are added here.
    ///
    /// # Errors
    /// Everything at once that is unknown, does not parse, is not allowed or does not go together, each with the
    /// path of its key.
    pub fn read(layers: &[Layer], rules: &Instances) -> Result<Self, Rejection> {
        read::read(layers, rules, None)
    }

    /// The same for a pod that itself ends after `deadline`.
    ///
    /// # Errors
    /// As [`Wishes::read`].
    pub fn read_until(
        layers: &[Layer],
        rules: &Instances,
        deadline: Option<Duration>,
    ) -> Result<Self, Rejection> {
        read::read(layers, rules, deadline)
    }
}

/// Whether a share of a GPU may stand for a whole one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuShare {
    #[default]
    Whole,
    Allowed,
}

/// How capacity is bought: `orca.research/capacity-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityType {
    Reserved,
    CapacityBlock,
    Interruptible,
    Spot,
    OnDemand,
}

/// Which reservations may, or must, be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservationWish {
    pub preference: Preference,
    /// `cr-…`, in order.
    pub ids: Vec<String>,
    /// ARN of a resource group.
    pub group_arn: Option<String>,
    pub selector: Option<ReservationSelector>,
}

/// `orca.research/capacity-reservation-preference`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// Never in a reservation.
    #[default]
    None,
    /// In one if there is room, else as `capacity_types` say.
    Prefer,
    /// In one, or not at all.
    Required,
}

/// Which of the visible reservations are meant. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservationSelector {
    pub owner_id: Option<String>,
    /// Key and value; without a value the key must be there.
    pub tags: Vec<(String, Option<String>)>,
}

impl CapacityType {
    /// Every one, in the order in which they are preferred when nothing else is said.
    pub const ALL: [Self; 5] =
        [Self::Reserved, Self::CapacityBlock, Self::Interruptible, Self::Spot, Self::OnDemand];

    /// The annotation's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::CapacityBlock => "capacity-block",
            Self::Interruptible => "interruptible",
            Self::Spot => "spot",
            Self::OnDemand => "on-demand",
        }
    }

    /// The capacity type of the annotation's word.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

#[cfg(test)]
mod tests;
