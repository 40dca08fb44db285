//! What is known of the market at one moment: the second argument of a plan. Data alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::blocked::Blocked;
use super::money::MicroUsd;
use super::spend::Budget;
use crate::cloud::{Block, InstanceType, Reservation, Subnet};
use crate::config::Instances;

/// Everything that a plan is made from, beside the pod's own ask.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    pub now: Timestamp,
    pub rules: &'a Instances,
    pub catalog: &'a Catalog,
    pub prices: &'a Prices,
    /// The configured subnets, in their order, with the addresses that are free.
    pub subnets: &'a [Subnet],
    /// All of them, whatever their state.
    pub reservations: &'a [Reservation],
    pub blocks: &'a [Block],
    /// Launches into a reservation that its `available` does not count yet, by reservation id.
    pub in_flight: &'a HashMap<String, u32>,
    pub blocked: &'a Blocked,
    /// `None` sets no bound.
    pub budget: Option<Budget>,
}

/// The instance types of the region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// By name.
    pub types: BTreeMap<String, Offer>,
    pub source: Source,
    pub as_of: Option<Timestamp>,
}

/// A type, and where it is to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub shape: InstanceType,
    /// Names of the zones that offer it.
    pub zones: BTreeSet<String>,
    /// What the kubelet of such a machine said a pod can have; `None` until one ran.
    pub learned: Option<Usable>,
}

/// What a pod can have of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usable {
    pub cpu_milli: u64,
    pub memory_bytes: u64,
}

/// Prices per hour, Linux, in the region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// By instance type.
    pub on_demand: HashMap<String, MicroUsd>,
    pub on_demand_source: Source,
    pub on_demand_as_of: Option<Timestamp>,
    /// By instance type, then zone.
    pub spot: HashMap<String, BTreeMap<String, MicroUsd>>,
    /// `None` while spot prices were never read: there is no shipped table of them.
    pub spot_as_of: Option<Timestamp>,
}

/// Where a figure comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// The table in this program, with its own date.
    #[default]
    Shipped,
    /// The cloud's own answer.
    Api,
}

impl Source {
    /// As metrics and tables show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shipped => "static",
            Self::Api => "api",
        }
    }
}
