//! What EC2 describes, in our words. Pure.

mod capacity;
mod types;

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{self as sdk, InstanceLifecycleType, InstanceStateName};
use jiff::Timestamp;

pub(super) use capacity::{block, reservation, spot_price};
pub(super) use types::instance_type;

use crate::cloud::{Bought, Image, Instance, InstanceState, Lifecycle, StateReason, Subnet};

/// `None` for an instance without an id, which EC2 never sends.
pub(super) fn instance(instance: &sdk::Instance) -> Option<Instance> {
    let address = |text: Option<&str>| text.and_then(|text| text.parse::<IpAddr>().ok());
    let addresses = instance
        .network_interfaces()
        .iter()
        .filter(|interface| interface.attachment().and_then(|a| a.device_index()).unwrap_or(0) == 0)
        .flat_map(|interface| interface.private_ip_addresses());
    Some(Instance {
        id: instance.instance_id()?.to_owned(),
        state: state(instance.state().and_then(|state| state.name())),
        state_reason: instance.state_reason().and_then(|reason| {
            Some(StateReason {
                code: reason.code()?.to_owned(),
                message: reason.message().unwrap_or_default().to_owned(),
            })
        }),
        instance_type: instance.instance_type().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        image_id: owned(instance.image_id()),
        zone: owned(instance.placement().and_then(|placement| placement.availability_zone())),
        subnet_id: owned(instance.subnet_id()),
        private_ip: address(instance.private_ip_address()),
        pod_ip: addresses
            .filter(|entry| entry.primary() == Some(false))
            .find_map(|entry| address(entry.private_ip_address())),
        launched_at: instance.launch_time().and_then(timestamp),
        client_token: named(instance.client_token()),
        bought: bought(instance),
        tags: tags(instance.tags()),
        runpod: None,
    })
}

fn bought(instance: &sdk::Instance) -> Bought {
    Bought {
        lifecycle: match instance.instance_lifecycle() {
            None => Lifecycle::OnDemand,
            Some(InstanceLifecycleType::Spot) => Lifecycle::Spot,
            Some(InstanceLifecycleType::CapacityBlock) => Lifecycle::CapacityBlock,
            Some(InstanceLifecycleType::InterruptibleCapacityReservation) => {
                Lifecycle::InterruptibleReservation
            }
            Some(_) => Lifecycle::Other,
        },
        reservation_id: named(instance.capacity_reservation_id()),
        block_id: named(instance.capacity_block_id()),
    }
}

pub(super) fn subnet(subnet: &sdk::Subnet) -> Option<Subnet> {
    Some(Subnet {
        id: subnet.subnet_id()?.to_owned(),
        zone: owned(subnet.availability_zone()),
        zone_id: owned(subnet.availability_zone_id()),
        cidr: owned(subnet.cidr_block()),
        free_addresses: unsigned(subnet.available_ip_address_count()),
    })
}

pub(super) fn image(image: &sdk::Image) -> Option<Image> {
    Some(Image {
        id: image.image_id()?.to_owned(),
        root_device_name: image.root_device_name().unwrap_or("/dev/xvda").to_owned(),
    })
}

fn state(name: Option<&InstanceStateName>) -> InstanceState {
    match name {
        Some(InstanceStateName::Pending) => InstanceState::Pending,
        Some(InstanceStateName::Stopping) => InstanceState::Stopping,
        Some(InstanceStateName::Stopped) => InstanceState::Stopped,
        Some(InstanceStateName::ShuttingDown) => InstanceState::ShuttingDown,
        Some(InstanceStateName::Terminated) => InstanceState::Terminated,
        // A state that EC2 adds one day must not make a machine look gone.
        Some(_) | None => InstanceState::Running,
    }
}

pub(super) fn owned(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

/// `None` for an empty text, too.
fn named(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

pub(super) fn tags(tags: &[sdk::Tag]) -> BTreeMap<String, String> {
    tags.iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())))
        .collect()
}

pub(super) fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).unwrap_or_default()).ok()
}

pub(super) fn unsigned(number: Option<i32>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}
