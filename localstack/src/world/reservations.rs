//! Capacity Reservations: capacity that is kept for matching launches. Pure; the time is an argument.
//!
//! What is left of one is not stored: it is its size less the instances that run in it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::purchase::Tenancy;
use crate::clock;
use crate::ec2::catalog::InstanceType;

/// A Capacity Reservation.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// `cr-` and 17 hexadecimal digits.
    pub id: String,
    pub kind: &'static InstanceType,
    pub zone: String,
    pub zone_id: String,
    /// Account id; another's is shared with us.
    pub owner: String,
    /// Such as `Linux/UNIX`.
    pub platform: String,
    pub tenancy: Tenancy,
    pub total: u32,
    /// Slots that other accounts use.
    pub used_elsewhere: u32,
    pub matching: Matching,
    pub created: Timestamp,
    pub start: Timestamp,
    /// `None`: until it is cancelled.
    pub end: Option<Timestamp>,
    /// A state that a test gave it, whatever the time.
    pub fixed: Option<State>,
    pub tags: BTreeMap<String, String>,
    pub placement_group: Option<String>,
    /// ARNs of the resource groups that it is in.
    pub groups: Vec<String>,
    pub ebs_optimized: bool,
    /// Account that pays for what is unused, if not the owner.
    pub billing_owner: Option<String>,
    /// Of a future-dated one: instances committed to, and until when.
    pub commitment: Option<(u32, Timestamp)>,
    pub nature: Nature,
}

/// What kind of reservation it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nature {
    /// On demand: its end leaves instances running.
    #[default]
    OnDemand,
    /// Bought for a time; EC2 ends its instances before it ends.
    Block(Block),
    /// Lent by its owner, who may take it back.
    Interruptible { source: Option<String> },
}

/// What only a Capacity Block has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `cb-` and hexadecimal digits.
    pub id: String,
    /// Set if it consists of UltraServers.
    pub ultraserver: Option<String>,
    /// How long before its end EC2 begins to end its instances.
    pub drain: Duration,
}

/// `InstanceMatchCriteria`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matching {
    #[default]
    Open,
    Targeted,
}

impl Matching {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Targeted => "targeted",
        }
    }
}

/// EC2's states of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Active,
    Expired,
    Cancelled,
    Pending,
    Failed,
    Scheduled,
    PaymentPending,
    PaymentFailed,
    Assessing,
    Delayed,
    Unsupported,
    Cancelling,
    Unavailable,
}

impl State {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Scheduled => "scheduled",
            Self::PaymentPending => "payment-pending",
            Self::PaymentFailed => "payment-failed",
            Self::Assessing => "assessing",
            Self::Delayed => "delayed",
            Self::Unsupported => "unsupported",
            Self::Cancelling => "cancelling",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What a launch must have in common with a reservation.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    pub kind: &'static InstanceType,
    pub zone: &'a str,
    pub tenancy: Tenancy,
    pub platform: &'a str,
}

impl Reservation {
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match self.fixed {
            Some(state) => state,
            None if now < self.start => State::Scheduled,
            None if self.end.is_some_and(|end| end <= now) => State::Expired,
            None => State::Active,
        }
    }

    /// Whether launches may use it now.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.state(now) == State::Active && self.drains_at().is_none_or(|at| now < at)
    }

    /// When EC2 begins to end the instances in it: of a Capacity Block only.
    #[must_use]
    pub fn drains_at(&self) -> Option<Timestamp> {
        match (&self.nature, self.end) {
            (Nature::Block(block), Some(end)) => Some(clock::before(end, block.drain)),
            (Nature::Block(_), None) | (Nature::OnDemand | Nature::Interruptible { .. }, _) => None,
        }
    }

    #[must_use]
    pub fn block(&self) -> Option<&Block> {
        match &self.nature {
            Nature::Block(block) => Some(block),
            Nature::OnDemand | Nature::Interruptible { .. } => None,
        }
    }

    /// Whether the attributes of a launch are its own. One in a placement group takes only launches into that
    /// group, which this cloud does not play.
    #[must_use]
    pub fn fits(&self, shape: &Shape<'_>) -> bool {
        self.kind == shape.kind
            && self.zone == shape.zone
            && self.tenancy == shape.tenancy
            && self.platform == shape.platform
            && self.placement_group.is_none()
    }

    /// `unlimited` or `limited`.
    #[must_use]
    pub fn end_type(&self) -> &'static str {
        if self.end.is_some() { "limited" } else { "unlimited" }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::ec2::catalog;

    pub fn mk_reservation(id: &str, total: u32) -> Reservation {
        Reservation {
            id: id.to_owned(),
            kind: catalog::find("t3.medium").unwrap(),
            zone: "us-east-1a".to_owned(),
            zone_id: "use1-az1".to_owned(),
            owner: "000000000000".to_owned(),
            platform: "Linux/UNIX".to_owned(),
            tenancy: Tenancy::Default,
            total,
            used_elsewhere: 0,
            matching: Matching::Open,
            created: Timestamp::UNIX_EPOCH,
            start: Timestamp::UNIX_EPOCH,
            end: None,
            fixed: None,
            tags: BTreeMap::new(),
            placement_group: None,
            groups: Vec::new(),
            ebs_optimized: false,
            billing_owner: None,
            commitment: None,
            nature: Nature::OnDemand,
        }
    }

    #[test]
    fn a_block_takes_no_launch_once_its_instances_are_being_ended() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let block = Block { id: "cb-1".to_owned(), ultraserver: None, drain: Duration::from_secs(5) };
        let block = Reservation {
            start: at(10),
            end: Some(at(20)),
            nature: Nature::Block(block),
            ..mk_reservation("cr-1", 1)
        };
        assert_eq!(block.drains_at(), Some(at(15)));
        assert_eq!([9, 10, 14, 15].map(|s| block.is_usable(at(s))), [false, true, true, false]);
        assert_eq!(block.state(at(19)), State::Active);
    }

    #[test]
    fn time_moves_a_reservation_from_scheduled_over_active_to_expired() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut reservation = mk_reservation("cr-1", 1);
        assert_eq!(reservation.state(at(1_000_000)), State::Active);
        (reservation.start, reservation.end) = (at(10), Some(at(20)));
        let states = [9, 10, 19, 20].map(|second| reservation.state(at(second)));
        assert_eq!(states, [State::Scheduled, State::Active, State::Active, State::Expired]);
        reservation.fixed = Some(State::Delayed);
        assert_eq!(reservation.state(at(15)), State::Delayed);
        assert!(!reservation.is_usable(at(15)));
    }

    #[test]
    fn every_attribute_must_match() {
        let reservation = mk_reservation("cr-1", 1);
        let good = Shape {
            kind: reservation.kind,
            zone: "us-east-1a",
            tenancy: Tenancy::Default,
            platform: "Linux/UNIX",
        };
        assert!(reservation.fits(&good));
        for bad in [
            Shape { kind: catalog::find("t3.micro").unwrap(), ..good },
            Shape { zone: "us-east-1b", ..good },
            Shape { tenancy: Tenancy::Dedicated, ..good },
            Shape { platform: "Red Hat Enterprise Linux", ..good },
        ] {
            assert!(!reservation.fits(&bad), "{bad:?}");
        }
        let grouped = Reservation { placement_group: Some("arn".to_owned()), ..reservation };
        assert!(!grouped.fits(&good));
    }
}
