//! The table itself. Rows that look at the text stand before those that do not.

use std::time::Duration;

use super::{Class, Next};
use crate::cloud::Purchase;

const SECOND: u64 = 1;
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// What is avoided, without names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Nowhere,
    Pool,
    TypeInZone,
    Quota,
    Subnet,
    Volume,
    Reservation,
    SpotPrice,
    Spot,
    GroupInZone,
}

#[derive(Debug)]
pub(super) struct Row {
    /// One that ends in `*` stands for all that begin so.
    pub(super) codes: &'static [&'static str],
    /// In lower case: must be part of the message.
    pub(super) text: Option<&'static str>,
    pub(super) class: Class,
    pub(super) next: Next,
    pub(super) scope: Where,
    pub(super) first: Duration,
    pub(super) cap: Duration,
}

impl Row {
    pub(super) fn has(&self, code: &str) -> bool {
        self.codes.iter().any(|entry| match entry.strip_suffix('*') {
            Some(start) => code.starts_with(start),
            None => *entry == code,
        })
    }
}

const fn row(class: Class, codes: &'static [&'static str]) -> Row {
    let next = match class {
        Class::Capacity
        | Class::Reservation
        | Class::SpotPrice
        | Class::SpotRole
        | Class::Quota
        | Class::Subnet
        | Class::Volume
        | Class::Unsupported => Next::Candidate,
        Class::Throttled | Class::Transient | Class::NotFound => Next::SameCall,
        Class::Denied | Class::Operator => Next::Wait,
        Class::Pod | Class::ReservationId => Next::FailPod,
        Class::Token => Next::LookUp,
    };
    let (scope, first, cap) = match class {
        Class::Capacity => (Where::Pool, 3 * MINUTE, 15 * MINUTE),
        // Reservations are read every minute, which says more than any guess.
        Class::Reservation | Class::ReservationId => (Where::Reservation, 60 * SECOND, 60 * SECOND),
        // Ends when prices are read.
        Class::SpotPrice => (Where::SpotPrice, 15 * MINUTE, 15 * MINUTE),
        // Somebody has to make a role.
        Class::SpotRole => (Where::Spot, HOUR, HOUR),
        Class::Quota => (Where::Quota, 15 * MINUTE, 15 * MINUTE),
        // Pods end all the time.
        Class::Subnet => (Where::Subnet, 3 * MINUTE, 3 * MINUTE),
        Class::Volume => (Where::Volume, 10 * MINUTE, 10 * MINUTE),
        Class::Unsupported => (Where::Pool, HOUR, 24 * HOUR),
        // A request that EC2 refuses for this type, where another type may do.
        Class::Pod => (Where::Pool, 15 * MINUTE, 15 * MINUTE),
        Class::Throttled
        | Class::Transient
        | Class::Denied
        | Class::Operator
        | Class::Token
        | Class::NotFound => (Where::Nowhere, 0, 0),
    };
    Row {
        codes,
        text: None,
        class,
        next,
        scope,
        first: Duration::from_secs(first),
        cap: Duration::from_secs(cap),
    }
}

impl Row {
    const fn says(self, text: &'static str) -> Self {
        Self { text: Some(text), ..self }
    }

    const fn at(self, scope: Where) -> Self {
        Self { scope, ..self }
    }

    const fn lasting(self, seconds: u64) -> Self {
        let time = Duration::from_secs(seconds);
        Self { first: time, cap: time, ..self }
    }
}

/// The first row that has the code, and whose text is part of the message.
#[rustfmt::skip] // one code a line would be four screens
pub(super) const TABLE: &[Row] = &[
    // Seven machines of a spread placement group in a zone, and no more.
    row(Class::Capacity, &["InsufficientInstanceCapacity"]).says("spread placement group").at(Where::GroupInZone),
    row(Class::Capacity, &[
        "InsufficientInstanceCapacity", "InsufficientCapacity", "UnfulfillableCapacity",
        "InsufficientReservedInstanceCapacity", "InsufficientReservedInstancesCapacity",
        "InsufficientHostCapacity", "InsufficientCapacityOnHost", "IncompatibleHostRequirements",
        "UnavailableHostRequirements", "MaxScheduledInstanceCapacityExceeded",
        // Of an instance that ran.
        "SpotInstanceTermination", "SpotInstanceShutdown",
    ]),
    row(Class::Reservation, &["ReservationCapacityExceeded"]),
    row(Class::ReservationId, &["InvalidCapacityReservationId*"]),
    row(Class::SpotPrice, &["SpotMaxPriceTooLow"]),
    row(Class::SpotPrice, &["InvalidParameterValue"]).says("max price"),
    row(Class::SpotPrice, &["InvalidParameterValue"]).says("maximum price"),
    row(Class::SpotRole, &["AuthFailure.ServiceLinkedRoleCreationNotPermitted"]),
    row(Class::Volume, &[
        "InsufficientVolumeCapacity", "VolumeLimitExceeded", "VolumeIOPSLimit", "MaxIOPSLimitExceeded",
        "VolumeTypeNotAvailableInZone",
    ]),
    row(Class::Quota, &[
        "VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded",
        "MaxSpotFleetRequestCountExceeded", "MaxFleetCountExceeded", "ResourceLimitExceeded",
        "ResourceCountExceeded", "HostLimitExceeded", "NetworkInterfaceLimitExceeded",
        "PrivateIpAddressLimitExceeded", "AttachmentLimitExceeded", "SecurityGroupsPer*",
        "TagLimitExceeded", "AddressLimitExceeded", "MaxTemplateLimitExceeded", "MaxTemplateVersionLimitExceeded",
    ]),
    row(Class::Subnet, &["InsufficientFreeAddressesInSubnet", "InsufficientAddressCapacity"]),
    row(Class::Unsupported, &["Unsupported", "UnsupportedOperation", "InvalidInstanceType"])
        .says("availability zone").at(Where::TypeInZone).lasting(24 * HOUR),
    row(Class::Unsupported, &[
        "Unsupported", "UnsupportedOperation", "UnsupportedException", "InvalidInstanceType",
        "UnsupportedTenancy", "UnsupportedInstanceTypeOnHost", "BootForVolumeTypeUnsupported",
        "UnsupportedHibernationConfiguration", "UnsupportedHostConfiguration",
    ]),
    row(Class::Throttled, &[
        "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException",
        "EC2ThrottledException", "RequestThrottled", "RequestThrottledException", "SlowDown",
        "TooManyRequestsException", "TooManyUpdates", "PriorRequestNotComplete", "ConcurrentTagAccess",
        "IncorrectInstanceState", "IncorrectState",
    ]),
    // Of an instance: its key or its network interface is not what it should be.
    row(Class::Operator, &["Client.InternalError"]),
    row(Class::Transient, &[
        "InternalError", "InternalFailure", "InternalServerError", "ServerInternal",
        "ServiceUnavailable", "ServiceUnavailableException", "Unavailable", "RequestTimeout", "RequestExpired",
        "Timeout", "Unreachable",
    ]),
    row(Class::Denied, &[
        "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthFailure", "InvalidClientTokenId",
        "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSignatureException",
        "IncompleteSignature", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
        "ExpiredToken", "ExpiredTokenException", "OptInRequired", "PendingVerification", "Blocked",
        "CustomerKeyHasBeenRevoked", "NoCredentials",
    ]),
    row(Class::Operator, &[
        "InvalidSubnetID.NotFound", "InvalidGroup.NotFound", "InvalidVpcID.NotFound", "InvalidIamInstanceProfile*",
        "InvalidKeyPair.NotFound", "InvalidPlacementGroup.Unknown", "InvalidLaunchTemplate*",
        "VPCIdNotSpecified", "DefaultVpcDoesNotExist", "VPCResourceNotSpecified", "ParameterNotFound",
        // What we wrote ourselves.
        "InvalidUserData.Malformed",
    ]),
    row(Class::Operator, &["InvalidParameterValue"]).says("iam instance profile"),
    row(Class::Operator, &["InvalidParameter"]).says("belong to different networks"),
    row(Class::Pod, &[
        "InvalidAMIID.Malformed", "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable",
        "InvalidBlockDeviceMapping", "InvalidSnapshot.NotFound", "InvalidZone.NotFound", "InvalidAvailabilityZone",
        "InvalidParameter", "InvalidParameterCombination", "InvalidParameterValue", "MissingParameter",
        "UnknownParameter", "InvalidVolume.ZoneMismatch", "EncryptedVolumesNotSupported",
    ]),
    row(Class::Token, &["IdempotentParameterMismatch", "IdempotentInstanceTerminated"]),
    row(Class::NotFound, &[
        "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "InvalidSpotInstanceRequestID.NotFound",
    ]),
];

const UNLISTED_CAPACITY: &Row = &row(Class::Capacity, &[]);
const UNLISTED_QUOTA: &Row = &row(Class::Quota, &[]);
const UNLISTED_THROTTLED: &Row = &row(Class::Throttled, &[]);
const UNLISTED_TRANSIENT: &Row = &row(Class::Transient, &[]);
const UNLISTED_DENIED: &Row = &row(Class::Denied, &[]);
const UNLISTED: &Row = &row(Class::Operator, &[]);
const RESERVATION: &Row = &row(Class::Reservation, &[]);
const RESERVATION_ID: &Row = &row(Class::ReservationId, &[]);

/// For a code that nobody listed: by the kind of error that the adapter took it for.
/// What is neither of these makes pods wait, never fail.
pub(super) fn unlisted(class: Class) -> &'static Row {
    match class {
        Class::Capacity => UNLISTED_CAPACITY,
        Class::Quota => UNLISTED_QUOTA,
        Class::Throttled => UNLISTED_THROTTLED,
        Class::Transient => UNLISTED_TRANSIENT,
        Class::Denied => UNLISTED_DENIED,
        Class::Reservation
        | Class::ReservationId
        | Class::SpotPrice
        | Class::SpotRole
        | Class::Subnet
        | Class::Volume
        | Class::Unsupported
        | Class::Operator
        | Class::Pod
        | Class::Token
        | Class::NotFound => UNLISTED,
    }
}

/// In a reservation, a lack of capacity is the reservation's, and what is not supported is the reservation.
pub(super) fn for_purchase<'r>(row: &'r Row, code: &str, purchase: &Purchase) -> &'r Row {
    match purchase {
        Purchase::OnDemand | Purchase::Spot { .. } => row,
        Purchase::Reservation { .. }
        | Purchase::ReservationGroup { .. }
        | Purchase::OpenReservation
        | Purchase::CapacityBlock { .. }
        | Purchase::Interruptible { .. } => {
            if row.class == Class::Capacity && row.scope == Where::Pool {
                RESERVATION
            } else if code == "UnsupportedException" {
                RESERVATION_ID
            } else {
                row
            }
        }
    }
}
