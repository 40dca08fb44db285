//! How an instance is bought: its market, its tenancy, and whose reserved capacity it may use.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The purchasing option, which EC2 calls an instance's lifecycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifecycle {
    #[default]
    OnDemand,
    Spot,
    CapacityBlock,
    /// In an interruptible reservation.
    Interruptible,
}

impl Lifecycle {
    /// As DescribeInstances has it; nothing for on-demand.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::OnDemand => None,
            Self::Spot => Some("spot"),
            Self::CapacityBlock => Some("capacity-block"),
            Self::Interruptible => Some("interruptible-capacity-reservation"),
        }
    }
}

/// On hardware shared with other accounts or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tenancy {
    #[default]
    Default,
    Dedicated,
}

impl Tenancy {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Dedicated => "dedicated",
        }
    }
}

/// `CapacityReservationPreference`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// Any open reservation that matches, else on demand.
    Open,
    /// Never a reservation.
    None,
    /// A reservation or nothing.
    Only,
}

impl Preference {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::None => "none",
            Self::Only => "capacity-reservations-only",
        }
    }
}

/// `CapacityReservationTarget`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Id(String),
    /// The ARN of a resource group of reservations.
    Group(String),
}

/// `CapacityReservationSpecification`, as a launch gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specification {
    pub preference: Option<Preference>,
    pub target: Option<Target>,
}

/// A Spot Instance request, of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// `sir-` and 8 hexadecimal digits.
    pub id: String,
    /// In millionths of a dollar an hour, if the launch said so.
    pub max_price: Option<u64>,
    pub tags: BTreeMap<String, String>,
}

/// How an instance was bought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purchase {
    pub lifecycle: Lifecycle,
    pub tenancy: Tenancy,
    pub asked: Specification,
    /// The Capacity Reservation that it runs in; none once that has ended.
    pub reservation: Option<String>,
    /// The Capacity Block of that reservation.
    pub block: Option<String>,
    /// Set for Spot Instances.
    pub spot: Option<Spot>,
}
