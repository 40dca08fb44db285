//! An instance type: what it has, and whether we could run it.

use aws_sdk_ec2::types::{
    self as sdk, ArchitectureType, InstanceTypeHypervisor, RootDeviceType, UsageClassType, VirtualizationType,
};

use super::{owned, unsigned};
use crate::cloud::{Gpus, InstanceType, Usage};

/// `None` for a type that we cannot run: another architecture (macOS), no EBS root, or paravirtual alone.
pub(in super::super) fn instance_type(info: &sdk::InstanceTypeInfo) -> Option<InstanceType> {
    let roots = info.supported_root_device_types();
    let virtualizations = info.supported_virtualization_types();
    if (!roots.is_empty() && !roots.contains(&RootDeviceType::Ebs))
        || (!virtualizations.is_empty() && !virtualizations.contains(&VirtualizationType::Hvm))
    {
        return None;
    }
    let is_bare_metal = info.bare_metal() == Some(true);
    let network = info.network_info();
    let storage = info.instance_storage_info();
    Some(InstanceType {
        name: info.instance_type()?.as_str().to_owned(),
        vcpus: unsigned(info.v_cpu_info().and_then(|cpu| cpu.default_v_cpus())),
        memory_mib: large(info.memory_info().and_then(|memory| memory.size_in_mib())),
        arch: arch(info)?.to_owned(),
        gpus: accelerators(info),
        // Bare metal is Nitro without a hypervisor.
        nitro: info.hypervisor() == Some(&InstanceTypeHypervisor::Nitro) || is_bare_metal,
        bare_metal: is_bare_metal,
        other_accelerator: has_other_accelerator(info),
        usage: usage(info.supported_usage_classes()),
        efa: unsigned(network.and_then(|it| it.efa_info()).and_then(|efa| efa.maximum_efa_interfaces())),
        local_disk_gb: large(storage.and_then(|disks| disks.total_size_in_gb())),
    })
}

fn arch(info: &sdk::InstanceTypeInfo) -> Option<&'static str> {
    let supported = info.processor_info().map(|cpu| cpu.supported_architectures()).unwrap_or_default();
    if supported.contains(&ArchitectureType::X8664) {
        Some("amd64")
    } else if supported.contains(&ArchitectureType::Arm64) {
        Some("arm64")
    } else {
        None
    }
}

fn usage(classes: &[UsageClassType]) -> Usage {
    if classes.is_empty() {
        return Usage::default();
    }
    let has = |class: &UsageClassType| classes.contains(class);
    Usage {
        on_demand: has(&UsageClassType::OnDemand),
        spot: has(&UsageClassType::Spot),
        capacity_block: has(&UsageClassType::CapacityBlock),
    }
}

/// EC2 lists Gaudi among the GPUs, Trainium and Inferentia2 as Neuron devices, and the first Inferentia as both a
/// Neuron device and an inference accelerator.
fn accelerators(info: &sdk::InstanceTypeInfo) -> Option<Gpus> {
    info.gpu_info()
        .and_then(gpus)
        .or_else(|| info.neuron_info().and_then(neuron))
        .or_else(|| inferentia(info))
}

/// GPUs, or a share of one: EC2 describes that with the count 0 and the fraction in the size of the partition.
fn gpus(info: &sdk::GpuInfo) -> Option<Gpus> {
    let first = info.gpus().first()?;
    let share_of = first.gpu_partition_size().map_or(1, shares);
    let whole = if share_of > 1 { 0 } else { info.gpus().iter().map(|gpu| unsigned(gpu.count())).sum() };
    (whole > 0 || share_of > 1).then(|| Gpus {
        count: whole,
        share_of,
        model: owned(first.name()),
        manufacturer: owned(first.manufacturer()),
        memory_mib: unsigned(first.memory_info().and_then(|memory| memory.size_in_mib())).into(),
    })
}

/// Into how many parts of this size one device is divided: 8 for 0.125, and for EC2's rounded 0.13.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1 to 64 before")]
fn shares(size: f64) -> u32 {
    if !(0.01..1.0).contains(&size) {
        return 1;
    }
    (1.0 / size).round().clamp(1.0, 64.0) as u32
}

fn neuron(info: &sdk::NeuronInfo) -> Option<Gpus> {
    let first = info.neuron_devices().first()?;
    let count = info.neuron_devices().iter().map(|device| unsigned(device.count())).sum();
    (count > 0).then(|| Gpus {
        count,
        share_of: 1,
        model: owned(first.name()),
        manufacturer: "AWS".to_owned(),
        memory_mib: unsigned(first.memory_info().and_then(|memory| memory.size_in_mib())).into(),
    })
}

fn inferentia(info: &sdk::InstanceTypeInfo) -> Option<Gpus> {
    let devices = info.inference_accelerator_info()?.accelerators();
    let first = devices.iter().find(|device| is_inferentia(device))?;
    Some(Gpus {
        count: unsigned(first.count()),
        share_of: 1,
        model: owned(first.name()),
        manufacturer: "AWS".to_owned(),
        memory_mib: unsigned(first.memory_info().and_then(|memory| memory.size_in_mib())).into(),
    })
}

fn is_inferentia(device: &sdk::InferenceDeviceInfo) -> bool {
    device.name().is_some_and(|name| name.to_ascii_lowercase().starts_with("inferentia"))
}

fn has_other_accelerator(info: &sdk::InstanceTypeInfo) -> bool {
    let inference = info.inference_accelerator_info().map(|it| it.accelerators()).unwrap_or_default();
    info.fpga_info().is_some_and(|it| !it.fpgas().is_empty())
        || info.media_accelerator_info().is_some_and(|it| !it.accelerators().is_empty())
        || inference.iter().any(|device| !is_inferentia(device))
}

fn large(number: Option<i64>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_size_says_into_how_many_shares_a_device_is_divided() {
        for (size, expected) in
            [(1.0, 1), (0.5, 2), (0.25, 4), (0.125, 8), (0.13, 8), (0.12, 8), (0.0, 1), (-1.0, 1), (2.0, 1)]
        {
            assert_eq!(shares(size), expected, "{size}");
        }
    }

    #[test]
    fn a_type_that_says_nothing_of_its_markets_is_to_be_had_as_usual() {
        assert_eq!(usage(&[]), Usage::default());
        let only_blocks = usage(&[UsageClassType::CapacityBlock]);
        assert_eq!(only_blocks, Usage { on_demand: false, spot: false, capacity_block: true });
    }
}
