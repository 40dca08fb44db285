//! A [`LaunchSpec`] as a RunInstances request. Equal specs make equal requests, byte for byte: EC2 compares them
//! when a token is used again.

mod purchase;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification,
    InstanceMetadataEndpointState, InstanceMetadataOptionsRequest, InstanceMetadataTagsState,
    InstanceNetworkInterfaceSpecification, InstanceType, ResourceType, ShutdownBehavior, Tag,
    TagSpecification, VolumeType,
};
use base64::Engine as _;

use crate::cloud::{CloudError, LaunchSpec, RootVolume};

/// EC2's limit for user data before it is encoded.
const USER_DATA_LIMIT: usize = 16 * 1024;

/// The request for one machine.
///
/// # Errors
/// [`CloudError::Invalid`] for what EC2 would refuse after it has bound the token.
pub(super) fn request(
    client: &aws_sdk_ec2::Client,
    spec: &LaunchSpec,
) -> Result<RunInstancesFluentBuilder, CloudError> {
    check(spec)?;
    let mut request = client
        .run_instances()
        .min_count(1)
        .max_count(1)
        .client_token(&spec.token)
        .instance_type(InstanceType::from(spec.instance_type.as_str()))
        .image_id(&spec.image.id)
        .user_data(base64::engine::general_purpose::STANDARD.encode(&spec.user_data))
        // A machine that shuts itself down must not stay behind as a stopped one with a volume.
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
        .set_network_interfaces(Some(network_interfaces(spec)?))
        .block_device_mappings(
            BlockDeviceMapping::builder()
                .device_name(&spec.image.root_device_name)
                .ebs(root_volume(&spec.root_volume)?)
                .build(),
        )
        .metadata_options(
            InstanceMetadataOptionsRequest::builder()
                .http_endpoint(InstanceMetadataEndpointState::Enabled)
                .http_tokens(HttpTokensState::Required)
                // One hop: pods behind the machine's own routing get no answer, so not its role either.
                .http_put_response_hop_limit(1)
                // Our tag keys contain `/`, which IMDS refuses.
                .instance_metadata_tags(InstanceMetadataTagsState::Disabled)
                .build(),
        )
        .capacity_reservation_specification(purchase::reservation(&spec.purchase))
        .set_instance_market_options(purchase::market(&spec.purchase))
        .set_placement(purchase::placement(&spec.placement));
    let mut tagged = vec![ResourceType::Instance, ResourceType::Volume, ResourceType::NetworkInterface];
    if purchase::makes_spot_request(&spec.purchase) {
        tagged.push(ResourceType::SpotInstancesRequest);
    }
    for resource in tagged {
        request = request.tag_specifications(
            TagSpecification::builder().resource_type(resource).set_tags(Some(tags(&spec.tags))).build(),
        );
    }
    if let Some(profile) = &spec.instance_profile {
        let specification = IamInstanceProfileSpecification::builder();
        let specification = if profile.starts_with("arn:") {
            specification.arn(profile)
        } else {
            specification.name(profile)
        };
        request = request.iam_instance_profile(specification.build());
    }
    Ok(request)
}

/// The deadlines of one call: a launch takes longer than a describe.
pub(super) fn patience() -> aws_sdk_ec2::config::Builder {
    aws_sdk_ec2::config::Builder::new().timeout_config(
        TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(Duration::from_secs(40))
            .operation_timeout(Duration::from_secs(45))
            .build(),
    )
}

pub(super) fn tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

fn check(spec: &LaunchSpec) -> Result<(), CloudError> {
    let refuse = |code: &str, message: String| Err(CloudError::Invalid { code: code.to_owned(), message });
    if spec.token.is_empty() || spec.token.len() > 64 || !spec.token.is_ascii() {
        return refuse(
            "InvalidClientToken",
            format!("the launch token is `{}`, expected 1 to 64 ASCII characters", spec.token),
        );
    }
    if spec.user_data.len() > USER_DATA_LIMIT {
        return refuse(
            "InvalidUserData.Malformed",
            format!("user data has {} bytes, expected at most {USER_DATA_LIMIT}", spec.user_data.len()),
        );
    }
    purchase::check(&spec.purchase)
}

/// One interface with two addresses: the machine's, and a secondary one for the pod. Subnet and groups stand here,
/// because EC2 refuses them beside an interface.
///
/// The first EFA is that interface's; each further one is an EFA-only interface, which takes no address, on a network
/// card of its own: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa.html>.
fn network_interfaces(spec: &LaunchSpec) -> Result<Vec<InstanceNetworkInterfaceSpecification>, CloudError> {
    let base = || {
        InstanceNetworkInterfaceSpecification::builder()
            .subnet_id(&spec.subnet_id)
            .set_groups(Some(spec.security_group_ids.clone()))
            .delete_on_termination(true)
    };
    let own = base().device_index(0).secondary_private_ip_address_count(1);
    let own = if spec.efa > 0 { own.interface_type("efa") } else { own };
    let further = (1..spec.efa).map(|card| {
        let card = i32::try_from(card).map_err(|_| CloudError::Invalid {
            code: "InvalidParameterValue".to_owned(),
            message: format!("the launch asks for {} EFA interfaces, expected at most 32", spec.efa),
        })?;
        Ok(base().device_index(1).network_card_index(card).interface_type("efa-only").build())
    });
    std::iter::once(Ok(own.build())).chain(further).collect()
}

fn root_volume(volume: &RootVolume) -> Result<EbsBlockDevice, CloudError> {
    let number = |value: u32| {
        i32::try_from(value).map_err(|_| CloudError::Invalid {
            code: "InvalidBlockDeviceMapping".to_owned(),
            message: format!("a figure of the root volume is `{value}`, expected less than 2147483648"),
        })
    };
    Ok(EbsBlockDevice::builder()
        .volume_size(number(volume.size_gib)?)
        .volume_type(VolumeType::from(volume.kind.as_str()))
        .set_iops(volume.iops.map(number).transpose()?)
        .set_throughput(volume.throughput.map(number).transpose()?)
        .encrypted(volume.encrypted)
        .set_kms_key_id(volume.kms_key_id.clone())
        .delete_on_termination(true)
        .build())
}
