//! AWS's error codes, sorted by what the caller does next. One table.
//!
//! Configuration that names something which is not there (a subnet, an image) is [`CloudError::NotFound`]: a
//! person can bring it into being, so pods wait. A request that can never work is [`CloudError::Invalid`].

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use crate::cloud::CloudError;

/// What a failed call means.
pub(super) fn translate<E>(error: &SdkError<E, HttpResponse>) -> CloudError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    if let Some(code) = error.code() {
        return classify(code, error.message().unwrap_or_default(), status.unwrap_or_default());
    }
    let message = || chain(error);
    match error {
        SdkError::TimeoutError(_) => {
            CloudError::Transient { code: "Timeout".to_owned(), message: "no answer in time".to_owned() }
        }
        _ if is_about_credentials(error) => {
            CloudError::Denied { code: "NoCredentials".to_owned(), message: message() }
        }
        SdkError::ConstructionFailure(_) => {
            CloudError::Invalid { code: "InvalidRequest".to_owned(), message: message() }
        }
        _ => match status {
            Some(429) => CloudError::Throttled { code: "HTTP429".to_owned(), message: message() },
            Some(status @ (401 | 403)) => {
                CloudError::Denied { code: format!("HTTP{status}"), message: message() }
            }
            Some(status @ 400..500) => {
                CloudError::Invalid { code: format!("HTTP{status}"), message: message() }
            }
            Some(status) => CloudError::Transient { code: format!("HTTP{status}"), message: message() },
            None => CloudError::Transient { code: "Unreachable".to_owned(), message: message() },
        },
    }
}

/// What a code of AWS means. `status` is the HTTP status, or 0.
#[must_use]
#[rustfmt::skip] // one code a line would be four screens
pub fn classify(code: &str, message: &str, status: u16) -> CloudError {
    let says = |words: &str| message.to_ascii_lowercase().contains(words);
    let kind = match code {
        // Nothing to be had there now, so elsewhere.
        "InsufficientInstanceCapacity" | "InsufficientCapacity" | "UnfulfillableCapacity"
        | "InsufficientReservedInstanceCapacity" | "InsufficientReservedInstancesCapacity"
        | "InsufficientHostCapacity" | "InsufficientCapacityOnHost" | "IncompatibleHostRequirements"
        | "UnavailableHostRequirements" | "MaxScheduledInstanceCapacityExceeded"
        | "ReservationCapacityExceeded" | "SpotMaxPriceTooLow"
        | "InsufficientFreeAddressesInSubnet" | "InsufficientAddressCapacity"
        | "InsufficientVolumeCapacity" | "VolumeTypeNotAvailableInZone" => Kind::NoCapacity,
        // Not offered in that zone; a type that is unsupported for another reason is a wrong request.
        "Unsupported" | "UnsupportedOperation" if says("availability zone") => Kind::NoCapacity,
        "InvalidParameterValue" if says("max price") || says("maximum price") => Kind::NoCapacity,
        // `.PendingActivation`: a Capacity Block that has not begun.
        _ if code.starts_with("InvalidCapacityReservationState") => Kind::NoCapacity,

        "VcpuLimitExceeded" | "InstanceLimitExceeded" | "MaxSpotInstanceCountExceeded"
        | "MaxSpotFleetRequestCountExceeded" | "MaxFleetCountExceeded" | "ResourceLimitExceeded"
        | "ResourceCountExceeded" | "HostLimitExceeded" | "NetworkInterfaceLimitExceeded"
        | "PrivateIpAddressLimitExceeded" | "AttachmentLimitExceeded" | "TagLimitExceeded"
        | "SecurityGroupsPerInstanceLimitExceeded" | "SecurityGroupsPerInterfaceLimitExceeded"
        | "AddressLimitExceeded" | "MaxTemplateLimitExceeded" | "MaxTemplateVersionLimitExceeded"
        | "VolumeLimitExceeded" | "VolumeIOPSLimit" | "MaxIOPSLimitExceeded" => Kind::Quota,

        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "ThrottledException"
        | "EC2ThrottledException" | "RequestThrottled" | "RequestThrottledException" | "SlowDown"
        | "TooManyRequestsException" | "TooManyUpdates" | "PriorRequestNotComplete"
        | "ConcurrentTagAccess" => Kind::Throttled,

        "InternalError" | "InternalFailure" | "InternalServerError" | "ServerInternal"
        | "ServiceUnavailable" | "ServiceUnavailableException" | "Unavailable" | "RequestTimeout"
        | "RequestExpired" | "IncorrectInstanceState" | "IncorrectState" => Kind::Transient,

        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" | "AuthFailure"
        | "AuthFailure.ServiceLinkedRoleCreationNotPermitted" | "InvalidClientTokenId"
        | "UnrecognizedClientException" | "SignatureDoesNotMatch" | "InvalidSignatureException"
        | "IncompleteSignature" | "MissingAuthenticationToken" | "MissingAuthenticationTokenException"
        | "ExpiredToken" | "ExpiredTokenException" | "OptInRequired" | "PendingVerification" | "Blocked"
        | "CustomerKeyHasBeenRevoked" => Kind::Denied,

        "IdempotentParameterMismatch" => Kind::TokenMismatch,
        "IdempotentInstanceTerminated" => Kind::TokenSpent,

        "InvalidInstanceID.NotFound" | "InvalidInstanceID.Malformed" | "InvalidSpotInstanceRequestID.NotFound"
        | "InvalidSubnetID.NotFound" | "InvalidGroup.NotFound" | "InvalidVpcID.NotFound"
        | "InvalidAMIID.NotFound" | "InvalidAMIID.Unavailable" | "InvalidSnapshot.NotFound"
        | "InvalidKeyPair.NotFound" | "InvalidPlacementGroup.Unknown" | "ParameterNotFound"
        | "InvalidCapacityReservationId" | "InvalidCapacityReservationId.NotFound"
        | "InvalidCapacityReservationIdNotFoundException"
        | "InvalidVolume.NotFound" | "InvalidNetworkInterfaceID.NotFound" => Kind::NotFound,
        "InvalidParameterValue" if says("iam instance profile") => Kind::NotFound,

        // Known to be wrong requests; here so that no rule below takes them for anything else.
        "Unsupported" | "UnsupportedOperation" | "UnsupportedTenancy" | "UnsupportedInstanceTypeOnHost"
        | "UnsupportedHibernationConfiguration" | "UnsupportedHostConfiguration" | "UnsupportedException"
        | "BootForVolumeTypeUnsupported" | "EncryptedVolumesNotSupported" | "InvalidInstanceType"
        | "InvalidAMIID.Malformed" | "InvalidBlockDeviceMapping" | "InvalidUserData.Malformed"
        | "InvalidZone.NotFound" | "InvalidAvailabilityZone" | "InvalidVolume.ZoneMismatch"
        | "InvalidParameter" | "InvalidParameterValue" | "InvalidParameterCombination" | "MissingParameter"
        | "UnknownParameter" | "ValidationError" | "ValidationException" | "DryRunOperation"
        | "VPCIdNotSpecified" | "DefaultVpcDoesNotExist" | "VPCResourceNotSpecified"
        // Something has it: DeleteNetworkInterface says so with `InvalidParameterValue`, too.
        | "VolumeInUse" | "InvalidNetworkInterface.InUse" => Kind::Invalid,

        // Codes that nobody listed.
        _ if status == 429 => Kind::Throttled,
        _ if status >= 500 || status == 0 => Kind::Transient,
        _ if code.ends_with("LimitExceeded") => Kind::Quota,
        _ if code.ends_with(".NotFound") => Kind::NotFound,
        _ if code.starts_with("InvalidIamInstanceProfile") => Kind::NotFound,
        _ if matches!(status, 401 | 403) => Kind::Denied,
        _ => Kind::Invalid,
    };
    kind.with(code.to_owned(), message.to_owned())
}

/// [`CloudError`] without its contents.
#[derive(Clone, Copy)]
enum Kind {
    NoCapacity,
    Quota,
    Throttled,
    Denied,
    NotFound,
    Invalid,
    TokenMismatch,
    TokenSpent,
    Transient,
}

impl Kind {
    fn with(self, code: String, message: String) -> CloudError {
        match self {
            Self::NoCapacity => CloudError::NoCapacity { code, message },
            Self::Quota => CloudError::Quota { code, message },
            Self::Throttled => CloudError::Throttled { code, message },
            Self::Denied => CloudError::Denied { code, message },
            Self::NotFound => CloudError::NotFound { code, message },
            Self::Invalid => CloudError::Invalid { code, message },
            Self::TokenMismatch => CloudError::TokenMismatch { message },
            Self::TokenSpent => CloudError::TokenSpent { message },
            Self::Transient => CloudError::Transient { code, message },
        }
    }
}

/// The error and its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    causes.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the SDK found no usable credentials: nothing was sent then.
pub(crate) fn is_about_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| error.is::<aws_credential_types::provider::error::CredentialsError>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str, message: &str, status: u16) -> &'static str {
        classify(code, message, status).kind()
    }

    /// Every code of the table, with the HTTP status that EC2 sends it with.
    #[test]
    fn each_code_says_what_the_caller_does_next() {
        let table = [
            (
                "no_capacity",
                500,
                "InsufficientInstanceCapacity InsufficientCapacity UnfulfillableCapacity \
                 InsufficientReservedInstanceCapacity InsufficientReservedInstancesCapacity \
                 InsufficientHostCapacity InsufficientCapacityOnHost IncompatibleHostRequirements \
                 UnavailableHostRequirements InsufficientAddressCapacity InsufficientVolumeCapacity",
            ),
            (
                "no_capacity",
                400,
                "MaxScheduledInstanceCapacityExceeded ReservationCapacityExceeded SpotMaxPriceTooLow \
                 InvalidCapacityReservationState InvalidCapacityReservationState.PendingActivation \
                 InsufficientFreeAddressesInSubnet VolumeTypeNotAvailableInZone",
            ),
            (
                "quota",
                400,
                "VcpuLimitExceeded InstanceLimitExceeded MaxSpotInstanceCountExceeded \
                 MaxSpotFleetRequestCountExceeded MaxFleetCountExceeded ResourceLimitExceeded \
                 ResourceCountExceeded HostLimitExceeded NetworkInterfaceLimitExceeded \
                 PrivateIpAddressLimitExceeded AttachmentLimitExceeded TagLimitExceeded \
                 SecurityGroupsPerInstanceLimitExceeded SecurityGroupsPerInterfaceLimitExceeded \
                 AddressLimitExceeded MaxTemplateLimitExceeded MaxTemplateVersionLimitExceeded \
                 VolumeLimitExceeded VolumeIOPSLimit MaxIOPSLimitExceeded NewThingLimitExceeded",
            ),
            (
                "throttled",
                503,
                "RequestLimitExceeded Throttling ThrottlingException ThrottledException \
                 EC2ThrottledException RequestThrottled RequestThrottledException SlowDown \
                 TooManyRequestsException TooManyUpdates PriorRequestNotComplete ConcurrentTagAccess",
            ),
            (
                "transient",
                500,
                "InternalError InternalFailure InternalServerError ServerInternal ServiceUnavailable \
                 ServiceUnavailableException Unavailable RequestTimeout SomethingNew",
            ),
            ("transient", 400, "RequestExpired IncorrectInstanceState IncorrectState"),
            (
                "denied",
                403,
                "UnauthorizedOperation AccessDenied AccessDeniedException AuthFailure \
                 AuthFailure.ServiceLinkedRoleCreationNotPermitted InvalidClientTokenId \
                 UnrecognizedClientException SignatureDoesNotMatch InvalidSignatureException \
                 IncompleteSignature MissingAuthenticationToken MissingAuthenticationTokenException \
                 ExpiredToken ExpiredTokenException OptInRequired PendingVerification Blocked \
                 CustomerKeyHasBeenRevoked SomethingNew",
            ),
            (
                "not_found",
                400,
                "InvalidInstanceID.NotFound InvalidInstanceID.Malformed \
                 InvalidSpotInstanceRequestID.NotFound InvalidSubnetID.NotFound InvalidGroup.NotFound \
                 InvalidVpcID.NotFound InvalidAMIID.NotFound InvalidAMIID.Unavailable \
                 InvalidSnapshot.NotFound InvalidKeyPair.NotFound InvalidPlacementGroup.Unknown \
                 ParameterNotFound InvalidCapacityReservationId InvalidCapacityReservationId.NotFound \
                 InvalidCapacityReservationIdNotFoundException InvalidIamInstanceProfileArn.Malformed \
                 InvalidVolume.NotFound InvalidNetworkInterfaceID.NotFound InvalidNewThing.NotFound",
            ),
            (
                "invalid",
                400,
                "Unsupported UnsupportedOperation UnsupportedTenancy UnsupportedInstanceTypeOnHost \
                 UnsupportedHibernationConfiguration UnsupportedHostConfiguration UnsupportedException \
                 BootForVolumeTypeUnsupported EncryptedVolumesNotSupported InvalidInstanceType \
                 InvalidAMIID.Malformed InvalidBlockDeviceMapping InvalidUserData.Malformed \
                 InvalidZone.NotFound InvalidAvailabilityZone InvalidVolume.ZoneMismatch InvalidParameter \
                 InvalidParameterValue InvalidParameterCombination MissingParameter UnknownParameter \
                 ValidationError ValidationException VPCIdNotSpecified DefaultVpcDoesNotExist \
                 VPCResourceNotSpecified VolumeInUse InvalidNetworkInterface.InUse SomethingNew",
            ),
            ("token_mismatch", 400, "IdempotentParameterMismatch"),
            ("token_spent", 400, "IdempotentInstanceTerminated"),
            ("invalid", 412, "DryRunOperation"),
        ];
        for (expected, status, codes) in table {
            for code in codes.split_whitespace() {
                assert_eq!(kind(code, "", status), expected, "{code} with {status}");
            }
        }
    }

    #[test]
    fn the_text_decides_where_one_code_stands_for_several_things() {
        let zone = "Your requested instance type (p5.48xlarge) is not supported in your requested \
                    Availability Zone (us-east-1e).";
        assert_eq!(kind("Unsupported", zone, 400), "no_capacity");
        assert_eq!(
            kind("InvalidParameterValue", "Your Spot request max price is too low", 400),
            "no_capacity"
        );
        let profile = "Value (nobody) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance \
                       Profile name";
        assert_eq!(kind("InvalidParameterValue", profile, 400), "not_found");
    }

    #[test]
    fn code_and_words_travel_with_every_kind() {
        for code in [
            "InsufficientInstanceCapacity",
            "VcpuLimitExceeded",
            "RequestLimitExceeded",
            "AccessDenied",
            "InvalidSubnetID.NotFound",
            "InvalidParameterValue",
            "InternalError",
            "IdempotentParameterMismatch",
            "IdempotentInstanceTerminated",
        ] {
            let error = classify(code, "in EC2's own words", 400);
            assert_eq!((error.code(), error.message()), (code, "in EC2's own words"));
        }
    }

    #[test]
    fn a_server_error_that_means_no_capacity_is_not_taken_for_an_outage() {
        assert_eq!(kind("InsufficientInstanceCapacity", "", 500), "no_capacity");
        assert_eq!(kind("NobodyKnows", "", 503), "transient");
    }
}
