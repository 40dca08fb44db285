//! What instance types can be filtered by.

use std::collections::BTreeMap;

use crate::ec2::catalog::InstanceType;
use crate::ec2::filter::{Field, Filtered};

fn one(value: &(impl ToString + ?Sized)) -> Vec<String> {
    vec![value.to_string()]
}

fn some(value: Option<impl ToString>) -> Vec<String> {
    value.map(|value| value.to_string()).into_iter().collect()
}

impl Filtered for &'static InstanceType {
    const TAGGED: bool = false;
    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "auto-recovery-supported", values: |kind| one(&kind.disks.is_none()) },
        Field { name: "bare-metal", values: |kind| one(&kind.bare_metal()) },
        Field { name: "burstable-performance-supported", values: |kind| one(&kind.burstable()) },
        Field { name: "current-generation", values: |kind| one(&kind.current()) },
        Field { name: "dedicated-hosts-supported", values: |kind| one(&!kind.burstable()) },
        Field { name: "free-tier-eligible", values: |_| one(&false) },
        Field { name: "hibernation-supported", values: |_| one(&false) },
        Field { name: "hypervisor", values: |kind| some(kind.hypervisor()) },
        Field { name: "instance-storage-info.disk.count", values: |kind| some(kind.disks.map(|it| it.0)) },
        Field {
            name: "instance-storage-info.disk.size-in-gb",
            values: |kind| some(kind.disks.map(|it| it.1)),
        },
        Field { name: "instance-storage-info.disk.type", values: |kind| some(kind.disks.map(|_| "ssd")) },
        Field {
            name: "instance-storage-info.total-size-in-gb",
            values: |kind| some(kind.disks.map(|(count, size)| u64::from(count) * size)),
        },
        Field { name: "instance-storage-supported", values: |kind| one(&kind.disks.is_some()) },
        Field { name: "instance-type", values: |kind| one(kind.name) },
        Field { name: "memory-info.size-in-mib", values: |kind| one(&kind.memory_mib) },
        Field {
            name: "network-info.efa-info.maximum-efa-interfaces",
            values: |kind| some((kind.efa > 0).then_some(kind.efa)),
        },
        Field { name: "network-info.efa-supported", values: |kind| one(&(kind.efa > 0)) },
        Field {
            name: "network-info.ipv4-addresses-per-interface",
            values: |kind| one(&kind.addresses_per_interface),
        },
        Field { name: "network-info.maximum-network-cards", values: |kind| one(&kind.cards) },
        Field { name: "network-info.maximum-network-interfaces", values: |kind| one(&kind.interfaces) },
        Field { name: "network-info.network-performance", values: |kind| one(kind.network) },
        Field { name: "processor-info.manufacturer", values: |kind| one(kind.manufacturer) },
        Field { name: "processor-info.supported-architecture", values: |kind| one(kind.architecture) },
        Field { name: "processor-info.sustained-clock-speed-in-ghz", values: |kind| one(&kind.ghz) },
        Field { name: "supported-root-device-type", values: |_| one("ebs") },
        Field {
            name: "supported-usage-class",
            values: |kind| kind.usage.iter().map(|&usage| usage.to_owned()).collect(),
        },
        Field { name: "supported-virtualization-type", values: |_| one("hvm") },
        Field { name: "vcpu-info.default-cores", values: |kind| one(&kind.cores()) },
        Field { name: "vcpu-info.default-threads-per-core", values: |kind| one(&kind.threads_per_core) },
        Field { name: "vcpu-info.default-vcpus", values: |kind| one(&kind.vcpus) },
    ];
}
