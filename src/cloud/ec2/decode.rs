//! What EC2 describes, in our words. Pure.

use std::net::IpAddr;

use aws_sdk_ec2::types::{self as sdk, InstanceStateName, InstanceTypeHypervisor};
use jiff::Timestamp;

use crate::cloud::{Bought, Gpus, Image, Instance, InstanceState, InstanceType, StateReason, Subnet};

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
        launched_at: instance.launch_time().and_then(|time| {
            Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).unwrap_or_default()).ok()
        }),
        client_token: instance.client_token().filter(|token| !token.is_empty()).map(str::to_owned),
        bought: Bought::default(),
        tags: instance
            .tags()
            .iter()
            .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())))
            .collect(),
    })
}

/// `None` for a type whose architecture we cannot run.
pub(super) fn instance_type(info: &sdk::InstanceTypeInfo) -> Option<InstanceType> {
    let architectures = info.processor_info().map(|cpu| cpu.supported_architectures()).unwrap_or_default();
    let arch = if architectures.contains(&sdk::ArchitectureType::X8664) {
        "amd64"
    } else if architectures.contains(&sdk::ArchitectureType::Arm64) {
        "arm64"
    } else {
        return None;
    };
    Some(InstanceType {
        name: info.instance_type()?.as_str().to_owned(),
        vcpus: unsigned(info.v_cpu_info().and_then(|cpu| cpu.default_v_cpus())),
        memory_mib: info
            .memory_info()
            .and_then(|memory| memory.size_in_mib())
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or_default(),
        arch: arch.to_owned(),
        gpus: info.gpu_info().and_then(gpus),
        // Bare metal is Nitro without a hypervisor.
        nitro: info.hypervisor() == Some(&InstanceTypeHypervisor::Nitro) || info.bare_metal() == Some(true),
        ..InstanceType::default()
    })
}

/// `None` without a whole GPU: a share of one (g6f) is described with the count 0.
fn gpus(info: &sdk::GpuInfo) -> Option<Gpus> {
    let first = info.gpus().first()?;
    let count = info.gpus().iter().map(|gpu| unsigned(gpu.count())).sum();
    (count > 0).then(|| Gpus {
        count,
        share_of: 1,
        model: owned(first.name()),
        manufacturer: owned(first.manufacturer()),
        memory_mib: unsigned(first.memory_info().and_then(|memory| memory.size_in_mib())).into(),
    })
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

fn owned(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

fn unsigned(number: Option<i32>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}
