//! The order of candidates: total, the same for the same world, and never against a lower price.

use std::cmp::Ordering;

use super::Selection;
use crate::capacity::money::MicroUsd;
use crate::capacity::world::Offer;
use crate::cloud::{Reservation, Subnet};
use crate::pod::wishes::CapacityType;

/// A machine in a reservation that is paid for anyway costs its price divided by this: next to nothing, and still
/// less for a smaller machine.
pub(super) const PAID_DIVISOR: u64 = 10_000_000;

/// A candidate, without anything that would have to be allocated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft<'a> {
    pub(super) key: Key,
    pub(super) offer: &'a Offer,
    pub(super) subnet: &'a Subnet,
    pub(super) how: How<'a>,
    pub(super) selection: Selection,
    pub(super) list: Option<MicroUsd>,
    pub(super) marginal: Option<MicroUsd>,
}

/// How it is bought.
#[derive(Clone, Copy, Debug)]
pub(super) enum How<'a> {
    OnDemand,
    Spot,
    Group,
    Open,
    Reserved(&'a Reservation),
}

/// What is compared, in this order; lower is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Place in the list of types; 0 where ORCA chooses.
    pub(super) type_rank: u16,
    pub(super) market_rank: u8,
    /// Place in the list of reservations.
    pub(super) named_rank: u16,
    /// Scaled by [`PAID_DIVISOR`]; unknown is the highest.
    pub(super) price: u64,
    pub(super) surplus_gpus: u32,
    pub(super) surplus_cpu_milli: u64,
    pub(super) surplus_memory: u64,
    /// Place of the subnet; 0 where ORCA chooses.
    pub(super) subnet_rank: u16,
    /// Spreads pods over what is otherwise equal.
    pub(super) spread: u64,
}

/// By which part of the order a candidate stands behind the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RankedBy {
    /// It is the first.
    First,
    TypeOrder,
    MarketOrder,
    ReservationOrder,
    Price,
    SurplusGpus,
    SurplusCpu,
    SurplusMemory,
    SubnetOrder,
    /// Nothing distinguishes them: the pod's UID decides.
    Spread,
}

impl RankedBy {
    /// A bounded name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::TypeOrder => "type order",
            Self::MarketOrder => "market order",
            Self::ReservationOrder => "reservation order",
            Self::Price => "price",
            Self::SurplusGpus => "surplus GPUs",
            Self::SurplusCpu => "surplus CPU",
            Self::SurplusMemory => "surplus memory",
            Self::SubnetOrder => "subnet order",
            Self::Spread => "spread",
        }
    }

    pub(super) fn between(before: &Key, this: &Key) -> Self {
        if before.type_rank != this.type_rank {
            Self::TypeOrder
        } else if before.market_rank != this.market_rank {
            Self::MarketOrder
        } else if before.named_rank != this.named_rank {
            Self::ReservationOrder
        } else if before.price != this.price {
            Self::Price
        } else if before.surplus_gpus != this.surplus_gpus {
            Self::SurplusGpus
        } else if before.surplus_cpu_milli != this.surplus_cpu_milli {
            Self::SurplusCpu
        } else if before.surplus_memory != this.surplus_memory {
            Self::SurplusMemory
        } else if before.subnet_rank != this.subnet_rank {
            Self::SubnetOrder
        } else {
            Self::Spread
        }
    }
}

impl Draft<'_> {
    /// The key, and where even that is equal, the names.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| self.name().cmp(&other.name()))
    }

    fn name(&self) -> (&str, &str, CapacityType, &str) {
        (&self.offer.shape.name, &self.subnet.id, self.market(), self.reservation_id())
    }

    pub(super) fn market(&self) -> CapacityType {
        self.how.market()
    }

    fn reservation_id(&self) -> &str {
        match self.how {
            How::Reserved(reservation) => &reservation.id,
            How::OnDemand | How::Spot | How::Group | How::Open => "",
        }
    }
}

impl How<'_> {
    pub(super) fn market(self) -> CapacityType {
        match self {
            How::OnDemand => CapacityType::OnDemand,
            How::Spot => CapacityType::Spot,
            How::Group | How::Open => CapacityType::Reserved,
            How::Reserved(reservation) => super::reservations::market(reservation),
        }
    }
}

/// What is compared of a price: of one that is paid anyway its list price, of others so much more.
pub(super) fn price_key(paid: Paid, price: Option<MicroUsd>) -> u64 {
    match (paid, price) {
        (_, None) => u64::MAX,
        (Paid::Already, Some(list)) => list.0,
        (Paid::ByUse, Some(price)) => price.0.saturating_mul(PAID_DIVISOR),
    }
}

/// Whether the machine costs more when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paid {
    Already,
    ByUse,
}

/// FNV-1a: the same in every process and on every machine.
pub(super) fn stable_hash(start: u64, text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().chain([0xff]).fold(start, step)
}

/// Where [`stable_hash`] begins.
pub(super) const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Two hashes as one that depends on every bit of both.
pub(super) fn mix(one: u64, other: u64) -> u64 {
    let mut hash = one ^ other.rotate_left(32);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}
