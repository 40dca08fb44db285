//! EC2's error codes: what each says of the launch of one machine, what is done next, and what is better not tried
//! for a while. One table, read from the top: the first row that fits decides.
//!
//! Codes of RunInstances and of an instance's `StateReason` (`Server.…`, `Client.…`) are the same words.
//! This module must not know the cloud's adapter: it has [`CloudError`], whose code and message it reads.

mod family;
mod table;

use std::fmt;
use std::time::Duration;

pub use family::{Family, family_of};

use self::table::{Row, TABLE, Where};
use super::planner::Selection;
use crate::cloud::{CloudError, Purchase};
use crate::pod::wishes::CapacityType;

/// One call, as far as it matters for what its failure means.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub purchase: &'a Purchase,
    /// How the candidate came to be chosen.
    pub selection: Selection,
    pub instance_type: &'a str,
    /// Name of the zone.
    pub zone: &'a str,
    pub subnet_id: &'a str,
    /// EBS volume type of the root volume.
    pub volume_kind: &'a str,
    pub placement_group: Option<&'a str>,
}

impl Attempt<'_> {
    /// Whether the machine must be in a reservation.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        match self.purchase {
            Purchase::OnDemand | Purchase::Spot { .. } => false,
            Purchase::Reservation { .. }
            | Purchase::ReservationGroup { .. }
            | Purchase::OpenReservation
            | Purchase::CapacityBlock { .. }
            | Purchase::Interruptible { .. } => true,
        }
    }
}

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub class: Class,
    pub next: Next,
    /// To be noted in [`Blocked`](super::blocked::Blocked).
    pub avoid: Option<Avoid>,
}

/// What is better not tried, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avoid {
    pub scope: Scope,
    pub class: Class,
    /// EC2's own word.
    pub code: String,
    /// The first time.
    pub first: Duration,
    /// Doubled with every repetition, up to this.
    pub cap: Duration,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// No machine of the type there, in this market.
    Capacity,
    /// No room in the reservation.
    Reservation,
    /// There is no such reservation.
    ReservationId,
    /// Spot costs more than the limit.
    SpotPrice,
    /// This account may not use spot at all.
    SpotRole,
    /// A quota of the account.
    Quota,
    /// No address in the subnet.
    Subnet,
    /// No room for the volume.
    Volume,
    /// The zone, or the type, cannot do what is asked.
    Unsupported,
    /// Too many calls.
    Throttled,
    /// No definite answer.
    Transient,
    /// Credentials or permissions.
    Denied,
    /// The operator's configuration names what is not there, or cannot be.
    Operator,
    /// The pod's own wishes do so.
    Pod,
    /// The token was used before.
    Token,
    /// The instance is not known, or not yet.
    NotFound,
}

/// What the controller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// The next candidate of the plan, at once, with the next token.
    Candidate,
    /// The same call with the same token, after a pause.
    SameCall,
    /// The pod fails: nothing that time brings helps.
    FailPod,
    /// The pod waits until a person acted.
    Wait,
    /// What the token made is looked up and taken; if there is nothing, the next token.
    LookUp,
}

/// What is avoided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// A type in a zone and market.
    Pool {
        instance_type: String,
        zone: String,
        market: CapacityType,
    },
    /// A type in a zone, however it is bought.
    TypeInZone {
        instance_type: String,
        zone: String,
    },
    /// Every type that counts against a quota.
    Quota {
        family: Family,
        market: CapacityType,
    },
    Subnet(String),
    /// A volume type in a zone.
    Volume {
        zone: String,
        kind: String,
    },
    /// A reservation's id, a group's ARN or `open`, for a type in a zone.
    Reservation {
        target: String,
        instance_type: String,
        zone: String,
    },
    /// Spot of a type in a zone, until prices are read again.
    SpotPrice {
        instance_type: String,
        zone: String,
    },
    /// Spot altogether.
    Spot,
    /// A placement group in a zone.
    GroupInZone {
        group: String,
        zone: String,
    },
}

/// The market that a purchase is made in.
#[must_use]
pub fn market(purchase: &Purchase) -> CapacityType {
    match purchase {
        Purchase::OnDemand => CapacityType::OnDemand,
        Purchase::Spot { .. } => CapacityType::Spot,
        Purchase::Reservation { .. } | Purchase::ReservationGroup { .. } | Purchase::OpenReservation => {
            CapacityType::Reserved
        }
        Purchase::CapacityBlock { .. } => CapacityType::CapacityBlock,
        Purchase::Interruptible { .. } => CapacityType::Interruptible,
    }
}

/// What a refused or failed RunInstances means.
#[must_use]
pub fn of_error(error: &CloudError, attempt: &Attempt<'_>) -> Answer {
    let (code, message, unlisted) = match error {
        CloudError::NoCapacity { code, message } => (code.as_str(), message.as_str(), Class::Capacity),
        CloudError::Quota { code, message } => (code.as_str(), message.as_str(), Class::Quota),
        CloudError::Throttled { code, message } => (code.as_str(), message.as_str(), Class::Throttled),
        CloudError::Denied { code, message } => (code.as_str(), message.as_str(), Class::Denied),
        CloudError::NotFound { code, message } | CloudError::Invalid { code, message } => {
            (code.as_str(), message.as_str(), Class::Operator)
        }
        CloudError::TokenMismatch { message } => {
            ("IdempotentParameterMismatch", message.as_str(), Class::Token)
        }
        CloudError::TokenSpent { message } => {
            ("IdempotentInstanceTerminated", message.as_str(), Class::Token)
        }
        CloudError::Transient { code, message } => (code.as_str(), message.as_str(), Class::Transient),
    };
    let row = find(code, message).unwrap_or_else(|| table::unlisted(unlisted));
    answer(row, code, attempt)
}

/// What an instance's `StateReason` means that ended before it was reached; `None` if somebody ended it on purpose.
#[must_use]
pub fn of_state_reason(code: &str, message: &str, attempt: &Attempt<'_>) -> Option<Answer> {
    let bare = code.strip_prefix("Server.").or_else(|| code.strip_prefix("Client.")).unwrap_or(code);
    let row = find(code, message).or_else(|| find(bare, message))?;
    let mut answer = answer(row, bare, attempt);
    if answer.next == Next::SameCall {
        // The token's machine is gone, so the same call would not make another.
        answer.next = Next::Candidate;
    }
    Some(answer)
}

fn find(code: &str, message: &str) -> Option<&'static Row> {
    let message = message.to_ascii_lowercase();
    TABLE.iter().find(|row| row.has(code) && row.text.is_none_or(|words| message.contains(words)))
}

fn answer(row: &Row, code: &str, attempt: &Attempt<'_>) -> Answer {
    let row = table::for_purchase(row, code, attempt.purchase);
    let next = match (row.class, attempt.selection) {
        // Another choice of ours may do; what somebody named is never replaced.
        (Class::Pod, Selection::Cheapest)
        | (Class::ReservationId, Selection::Cheapest | Selection::Listed) => Next::Candidate,
        (
            Class::Capacity
            | Class::Reservation
            | Class::ReservationId
            | Class::SpotPrice
            | Class::SpotRole
            | Class::Quota
            | Class::Subnet
            | Class::Volume
            | Class::Unsupported
            | Class::Throttled
            | Class::Transient
            | Class::Denied
            | Class::Operator
            | Class::Pod
            | Class::Token
            | Class::NotFound,
            _,
        ) => row.next,
    };
    let avoid = scope(row.scope, attempt).map(|scope| Avoid {
        scope,
        class: row.class,
        code: code.to_owned(),
        first: row.first,
        cap: row.cap,
    });
    Answer { class: row.class, next, avoid: avoid.filter(|_| next == Next::Candidate) }
}

fn scope(place: Where, at: &Attempt<'_>) -> Option<Scope> {
    let (instance_type, zone) = (|| at.instance_type.to_owned(), || at.zone.to_owned());
    Some(match place {
        Where::Nowhere => return None,
        Where::Pool => {
            Scope::Pool { instance_type: instance_type(), zone: zone(), market: market(at.purchase) }
        }
        Where::TypeInZone => Scope::TypeInZone { instance_type: instance_type(), zone: zone() },
        Where::Quota => Scope::Quota { family: family_of(at.instance_type), market: market(at.purchase) },
        Where::Subnet => Scope::Subnet(at.subnet_id.to_owned()),
        Where::Volume => Scope::Volume { zone: zone(), kind: at.volume_kind.to_owned() },
        Where::Reservation => Scope::Reservation {
            target: reservation_target(at.purchase).to_owned(),
            instance_type: instance_type(),
            zone: zone(),
        },
        Where::SpotPrice => Scope::SpotPrice { instance_type: instance_type(), zone: zone() },
        Where::Spot => Scope::Spot,
        Where::GroupInZone => {
            Scope::GroupInZone { group: at.placement_group.unwrap_or_default().to_owned(), zone: zone() }
        }
    })
}

/// The reservation's id, the group's ARN, or `open`.
pub(super) fn reservation_target(purchase: &Purchase) -> &str {
    match purchase {
        Purchase::Reservation { id } | Purchase::CapacityBlock { id } | Purchase::Interruptible { id } => id,
        Purchase::ReservationGroup { arn } => arn,
        Purchase::OpenReservation | Purchase::OnDemand | Purchase::Spot { .. } => "open",
    }
}

impl Class {
    /// A bounded name for metrics and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Reservation => "reservation",
            Self::ReservationId => "reservation_id",
            Self::SpotPrice => "spot_price",
            Self::SpotRole => "spot_role",
            Self::Quota => "quota",
            Self::Subnet => "subnet",
            Self::Volume => "volume",
            Self::Unsupported => "unsupported",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Denied => "denied",
            Self::Operator => "operator",
            Self::Pod => "pod",
            Self::Token => "token",
            Self::NotFound => "not_found",
        }
    }
}

impl fmt::Display for Scope {
    /// As a table of avoided pools shows it: `g5.xlarge in us-east-1a, spot`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool { instance_type, zone, market } => {
                write!(f, "{instance_type} in {zone}, {}", market.name())
            }
            Self::TypeInZone { instance_type, zone } => write!(f, "{instance_type} in {zone}"),
            Self::Quota { family, market } => write!(f, "quota of {family}, {}", market.name()),
            Self::Subnet(id) => f.write_str(id),
            Self::Volume { zone, kind } => write!(f, "{kind} volumes in {zone}"),
            Self::Reservation { target, instance_type, zone } => {
                write!(f, "reservation {target} of {instance_type} in {zone}")
            }
            Self::SpotPrice { instance_type, zone } => write!(f, "spot price of {instance_type} in {zone}"),
            Self::Spot => f.write_str("spot"),
            Self::GroupInZone { group, zone } => write!(f, "placement group {group} in {zone}"),
        }
    }
}
