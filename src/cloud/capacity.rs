//! How machines are bought, and what is reserved: EC2's purchasing options in our words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Bought, Lifecycle};
use crate::capacity::money::MicroUsd;

/// How one machine is paid for. Each says exactly what EC2 may do; nothing here lets it fall back to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "market", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Purchase {
    /// On demand, in no reservation (`CapacityReservationPreference=none`).
    #[default]
    OnDemand,
    /// One-time spot, terminated when interrupted.
    Spot {
        /// Sent only if somebody set a limit: EC2 interrupts more when there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_price: Option<MicroUsd>,
    },
    /// In this On-Demand Capacity Reservation, or not at all.
    Reservation { id: String },
    /// In a reservation of this resource group, or not at all.
    ReservationGroup { arn: String },
    /// In any open reservation that matches, or not at all.
    OpenReservation,
    /// In this Capacity Block; the id is the reservation's (`cr-…`).
    CapacityBlock { id: String },
    /// In this interruptible capacity reservation.
    Interruptible { id: String },
}

impl Purchase {
    /// As far as an instance tells it.
    #[must_use]
    pub fn of(bought: &Bought) -> Self {
        let reservation = bought.reservation_id.clone();
        match (bought.lifecycle, reservation) {
            (Lifecycle::Spot, _) => Self::Spot { max_price: None },
            (Lifecycle::CapacityBlock, Some(id)) => Self::CapacityBlock { id },
            (Lifecycle::InterruptibleReservation, Some(id)) => Self::Interruptible { id },
            (Lifecycle::OnDemand | Lifecycle::Other, Some(id)) => Self::Reservation { id },
            (_, None) => Self::OnDemand,
        }
    }

    /// The word for it in `orca.research/capacity-type`.
    #[must_use]
    pub fn market(&self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::Spot { .. } => "spot",
            Self::Reservation { .. } | Self::ReservationGroup { .. } | Self::OpenReservation => "reserved",
            Self::CapacityBlock { .. } => "capacity-block",
            Self::Interruptible { .. } => "interruptible",
        }
    }

    /// The one reservation that the machine must be in.
    #[must_use]
    pub fn reservation_id(&self) -> Option<&str> {
        match self {
            Self::Reservation { id } | Self::CapacityBlock { id } | Self::Interruptible { id } => Some(id),
            Self::OnDemand | Self::Spot { .. } | Self::ReservationGroup { .. } | Self::OpenReservation => {
                None
            }
        }
    }
}

/// Where on EC2's hosts a machine is put.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Placement {
    #[serde(skip_serializing_if = "Tenancy::is_shared")]
    pub tenancy: Tenancy,
    /// Name or ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// EC2's `Tenancy`, less dedicated hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tenancy {
    /// EC2 calls it `default`.
    #[default]
    Shared,
    Dedicated,
}

impl Tenancy {
    /// Whether this is EC2's default.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        *self == Self::Shared
    }
}

/// A capacity reservation, Capacity Blocks included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// `cr-…`.
    pub id: String,
    pub owner_id: String,
    /// Whether this account owns it; another's is charged to whoever uses it.
    pub ours: bool,
    pub kind: ReservationKind,
    pub instance_type: String,
    /// Such as `Linux/UNIX`.
    pub platform: String,
    pub tenancy: Tenancy,
    /// Name of the zone in this account.
    pub zone: String,
    pub zone_id: String,
    pub total: u32,
    /// As EC2 said when it was read; what was launched since is the caller's to subtract.
    pub available: u32,
    pub state: ReservationState,
    pub matches: ReservationMatch,
    pub starts_at: Option<Timestamp>,
    /// `None` without an end.
    pub ends_at: Option<Timestamp>,
    pub placement_group_arn: Option<String>,
    /// `cb-…`, of a Capacity Block.
    pub block_id: Option<String>,
    pub tags: BTreeMap<String, String>,
}

/// What kind of reservation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationKind {
    OnDemand,
    CapacityBlock,
    Interruptible,
}

/// EC2's `InstanceMatchCriteria`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationMatch {
    Open,
    Targeted,
}

/// EC2's states of a reservation, as far as they differ for a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationState {
    Active,
    /// Will become active: `scheduled`, and `assessing`, `pending`, `payment-pending`, `delayed` before that.
    Scheduled,
    /// Never (again): expired, cancelled, failed, unsupported, unavailable.
    Over,
}

/// A Capacity Block for ML, by its own id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `cb-…`.
    pub id: String,
    /// The reservations that machines are launched into.
    pub reservation_ids: Vec<String>,
    pub state: BlockState,
    pub starts_at: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
}

/// EC2's states of a block, as far as they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    Scheduled,
    Active,
    Over,
}

/// The price of spot in one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpotPrice {
    pub instance_type: String,
    pub zone: String,
    /// Per hour.
    pub price: MicroUsd,
    pub since: Timestamp,
}
