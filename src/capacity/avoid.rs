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
use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
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
    /// Every one.
    pub const ALL: [Self; 16] = [
        Self::Capacity,
        Self::Reservation,
        Self::ReservationId,
        Self::SpotPrice,
        Self::SpotRole,
        Self::Quota,
        Self::Subnet,
        Self::Volume,
        Self::Unsupported,
        Self::Throttled,
        Self::Transient,
        Self::Denied,
        Self::Operator,
        Self::Pod,
        Self::Token,
        Self::NotFound,
    ];

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

#[cfg(test)]
mod tests {
    mod docs;

    use super::*;

    fn attempt(purchase: &Purchase, selection: Selection) -> Attempt<'_> {
        Attempt {
            purchase,
            selection,
            instance_type: "g5.xlarge",
            zone: "a",
            subnet_id: "s-a",
            volume_kind: "gp3",
            placement_group: Some("pg-1"),
        }
    }

    /// `class next scope seconds`, or `class next` if nothing is avoided.
    fn show(answer: &Answer) -> String {
        let next = match answer.next {
            Next::Candidate => "next",
            Next::SameCall => "again",
            Next::FailPod => "fail",
            Next::Wait => "wait",
            Next::LookUp => "look-up",
        };
        let avoid = answer.avoid.as_ref().map(|avoid| {
            let (first, cap) = (avoid.first.as_secs(), avoid.cap.as_secs());
            let seconds = if first == cap { first.to_string() } else { format!("{first}..{cap}") };
            format!(": {} {seconds}s", avoid.scope)
        });
        format!("{} {next}{}", answer.class.name(), avoid.unwrap_or_default())
    }

    fn of(code: &str, purchase: &Purchase, selection: Selection) -> String {
        let (code, message) = code.split_once('~').unwrap_or((code, ""));
        let error = CloudError::Invalid { code: code.to_owned(), message: message.replace('_', " ") };
        show(&of_error(&error, &attempt(purchase, selection)))
    }

    const CAPACITY: &str = "InsufficientInstanceCapacity InsufficientCapacity UnfulfillableCapacity \
        InsufficientReservedInstanceCapacity InsufficientReservedInstancesCapacity InsufficientHostCapacity \
        InsufficientCapacityOnHost IncompatibleHostRequirements UnavailableHostRequirements \
        MaxScheduledInstanceCapacityExceeded";
    const CAPACITY_MEANS: &str = "capacity next: g5.xlarge in a, on-demand 180..900s";
    const PLACE: &str = "InvalidSubnetID.NotFound InvalidGroup.NotFound InvalidIamInstanceProfileArn.Malformed \
        InvalidKeyPair.NotFound InvalidPlacementGroup.Unknown InvalidLaunchTemplateId.NotFound VPCIdNotSpecified \
        DefaultVpcDoesNotExist VPCResourceNotSpecified InvalidUserData.Malformed InvalidParameter~They_belong_to_\
        different_networks InvalidParameterValue~Invalid_IAM_Instance_Profile_name SomethingThatNobodyListed";

    /// Every code of RunInstances, on demand, where ORCA chose the type.
    #[test]
    fn every_code_says_what_is_done_next_and_what_is_avoided_for_how_long() {
        for (codes, expected) in [
            (CAPACITY, CAPACITY_MEANS),
            (
                "InsufficientInstanceCapacity~the_limit_of_instances_in_this_Spread_Placement_Group",
                "capacity next: placement group pg-1 in a 180..900s",
            ),
            (
                "VcpuLimitExceeded InstanceLimitExceeded MaxSpotInstanceCountExceeded \
                 MaxSpotFleetRequestCountExceeded MaxFleetCountExceeded ResourceLimitExceeded ResourceCountExceeded \
                 HostLimitExceeded NetworkInterfaceLimitExceeded PrivateIpAddressLimitExceeded \
                 AttachmentLimitExceeded SecurityGroupsPerInstanceLimitExceeded TagLimitExceeded \
                 AddressLimitExceeded MaxTemplateLimitExceeded MaxTemplateVersionLimitExceeded",
                "quota next: quota of G and VT, on-demand 900s",
            ),
            ("InsufficientFreeAddressesInSubnet InsufficientAddressCapacity", "subnet next: s-a 180s"),
            (
                "InsufficientVolumeCapacity VolumeLimitExceeded VolumeIOPSLimit MaxIOPSLimitExceeded \
                 VolumeTypeNotAvailableInZone",
                "volume next: gp3 volumes in a 600s",
            ),
            (
                "Unsupported~in_your_requested_Availability_Zone UnsupportedOperation~this_availability_zone",
                "unsupported next: g5.xlarge in a 86400s",
            ),
            (
                "Unsupported UnsupportedOperation InvalidInstanceType UnsupportedTenancy \
                 UnsupportedInstanceTypeOnHost BootForVolumeTypeUnsupported UnsupportedHibernationConfiguration \
                 UnsupportedHostConfiguration",
                "unsupported next: g5.xlarge in a, on-demand 3600..86400s",
            ),
            (
                "RequestLimitExceeded Throttling ThrottlingException EC2ThrottledException ConcurrentTagAccess \
                 IncorrectInstanceState",
                "throttled again",
            ),
            (
                "InternalError InternalFailure ServerInternal ServiceUnavailable Unavailable RequestExpired Timeout \
                 Unreachable",
                "transient again",
            ),
            (
                "UnauthorizedOperation AccessDenied AuthFailure InvalidClientTokenId SignatureDoesNotMatch \
                 IncompleteSignature MissingAuthenticationToken ExpiredToken OptInRequired PendingVerification \
                 Blocked CustomerKeyHasBeenRevoked NoCredentials",
                "denied wait",
            ),
            (PLACE, "operator wait"),
            (
                "InvalidAMIID.Malformed InvalidAMIID.NotFound InvalidAMIID.Unavailable InvalidBlockDeviceMapping \
                 InvalidSnapshot.NotFound InvalidZone.NotFound InvalidAvailabilityZone InvalidParameterCombination \
                 InvalidParameterValue MissingParameter UnknownParameter InvalidVolume.ZoneMismatch \
                 EncryptedVolumesNotSupported",
                "pod next: g5.xlarge in a, on-demand 900s",
            ),
            ("IdempotentParameterMismatch IdempotentInstanceTerminated", "token look-up"),
            ("InvalidInstanceID.NotFound InvalidSpotInstanceRequestID.NotFound", "not_found again"),
        ] {
            for code in codes.split_whitespace() {
                assert_eq!(of(code, &Purchase::OnDemand, Selection::Cheapest), expected, "{code}");
            }
        }
    }

    #[test]
    fn how_it_was_bought_and_chosen_matters() {
        let spot = Purchase::Spot { max_price: None };
        let named = Purchase::Reservation { id: "cr-1".to_owned() };
        let block = Purchase::CapacityBlock { id: "cr-2".to_owned() };
        let group = Purchase::ReservationGroup { arn: "arn:g".to_owned() };
        use Selection::{Cheapest, Listed, Named};
        for (code, purchase, selection, expected) in [
            (
                "InsufficientInstanceCapacity",
                &spot,
                Cheapest,
                "capacity next: g5.xlarge in a, spot 180..900s",
            ),
            ("VcpuLimitExceeded", &spot, Cheapest, "quota next: quota of G and VT, spot 900s"),
            ("SpotMaxPriceTooLow", &spot, Listed, "spot_price next: spot price of g5.xlarge in a 900s"),
            (
                "InvalidParameterValue~Your_max_price_is_too_low",
                &spot,
                Listed,
                "spot_price next: spot price of g5.xlarge in a 900s",
            ),
            (
                "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
                &spot,
                Listed,
                "spot_role next: spot 3600s",
            ),
            (
                "InsufficientInstanceCapacity",
                &named,
                Named,
                "reservation next: reservation cr-1 of g5.xlarge in a 60s",
            ),
            (
                "ReservationCapacityExceeded",
                &block,
                Named,
                "reservation next: reservation cr-2 of g5.xlarge in a 60s",
            ),
            (
                "InsufficientInstanceCapacity",
                &group,
                Listed,
                "reservation next: reservation arn:g of g5.xlarge in a 60s",
            ),
            (
                "InsufficientInstanceCapacity",
                &Purchase::OpenReservation,
                Listed,
                "reservation next: reservation open of g5.xlarge in a 60s",
            ),
            // Who names a reservation is told that it is none; one that was discovered is left for the next.
            ("InvalidCapacityReservationId.NotFound", &named, Named, "reservation_id fail"),
            ("InvalidCapacityReservationIdMalformedException", &named, Named, "reservation_id fail"),
            ("UnsupportedException", &named, Named, "reservation_id fail"),
            (
                "InvalidCapacityReservationId.NotFound",
                &named,
                Cheapest,
                "reservation_id next: reservation cr-1 of g5.xlarge in a 60s",
            ),
            ("InvalidParameterCombination", &Purchase::OnDemand, Listed, "pod fail"),
            ("InvalidAMIID.NotFound", &Purchase::OnDemand, Named, "pod fail"),
        ] {
            assert_eq!(of(code, purchase, selection), expected, "{code} {purchase:?} {selection:?}");
        }
    }

    /// A code that is in no row is taken for what the adapter took it for.
    #[test]
    fn codes_that_nobody_listed_never_fail_a_pod() {
        let (code, message) = (|| "SomethingNew".to_owned(), String::new);
        for (error, expected) in [
            (CloudError::NoCapacity { code: code(), message: message() }, CAPACITY_MEANS),
            (
                CloudError::Quota { code: code(), message: message() },
                "quota next: quota of G and VT, on-demand 900s",
            ),
            (CloudError::Throttled { code: code(), message: String::new() }, "throttled again"),
            (CloudError::Transient { code: code(), message: message() }, "transient again"),
            (CloudError::Denied { code: code(), message: message() }, "denied wait"),
            (CloudError::NotFound { code: code(), message: message() }, "operator wait"),
            (CloudError::Invalid { code: code(), message: message() }, "operator wait"),
            (CloudError::TokenMismatch { message: message() }, "token look-up"),
            (CloudError::TokenSpent { message: message() }, "token look-up"),
        ] {
            let attempt = attempt(&Purchase::OnDemand, Selection::Listed);
            assert_eq!(show(&of_error(&error, &attempt)), expected, "{error:?}");
        }
    }

    #[test]
    fn a_launch_that_worked_and_then_died_means_what_a_refusal_means() {
        let spot = Purchase::Spot { max_price: None };
        for (code, expected) in [
            ("Server.InsufficientInstanceCapacity", Some("capacity next: g5.xlarge in a, spot 180..900s")),
            ("Server.SpotInstanceTermination", Some("capacity next: g5.xlarge in a, spot 180..900s")),
            ("Server.SpotInstanceShutdown", Some("capacity next: g5.xlarge in a, spot 180..900s")),
            ("Client.VolumeLimitExceeded", Some("volume next: gp3 volumes in a 600s")),
            // The same call would only find the dead machine again.
            ("Server.InternalError", Some("transient next")),
            ("Client.InternalError", Some("operator wait")),
            ("Client.InvalidSnapshot.NotFound", Some("pod fail")),
            ("Client.UserInitiatedShutdown", None),
            ("Client.InstanceInitiatedShutdown", None),
        ] {
            let answer = of_state_reason(code, "", &attempt(&spot, Selection::Listed));
            assert_eq!(answer.as_ref().map(show).as_deref(), expected, "{code}");
        }
    }
}
