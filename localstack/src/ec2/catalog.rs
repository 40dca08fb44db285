//! The instance types that can be bought, with their real figures, as EC2's DescribeInstanceTypes tells them.
//!
//! Not every type is in every zone. GPU memory is what AWS reports, which for some models is less than sold.

/// An instance type.
#[derive(Debug, PartialEq)]
pub struct InstanceType {
    pub name: &'static str,
    pub vcpus: u32,
    pub threads_per_core: u32,
    pub memory_mib: u64,
    /// `x86_64` or `arm64`.
    pub architecture: &'static str,
    pub manufacturer: &'static str,
    pub ghz: f64,
    /// `nitro` or `xen`.
    pub hypervisor: &'static str,
    pub burstable: bool,
    pub current: bool,
    pub usage: &'static [&'static str],
    pub gpu: Option<Gpu>,
    /// Local disks: count and GB of each.
    pub disks: Option<(u32, u64)>,
    pub network: &'static str,
    pub interfaces: u32,
    pub cards: u32,
    pub addresses_per_interface: u32,
    /// EFA interfaces.
    pub efa: u32,
    /// Last letters of the zones that offer it.
    pub zones: &'static [char],
}

/// The GPUs of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    pub count: u32,
    pub model: &'static str,
    pub memory_mib: u32,
}

impl InstanceType {
    #[must_use]
    pub fn cores(&self) -> u32 {
        self.vcpus / self.threads_per_core
    }

    /// Whether a zone, by its name, has this type.
    #[must_use]
    pub fn offered_in(&self, zone: &str) -> bool {
        self.zones.iter().any(|letter| zone.ends_with(*letter))
    }
}

/// A type by its name.
#[must_use]
pub fn find(name: &str) -> Option<&'static InstanceType> {
    CATALOG.iter().find(|kind| kind.name == name)
}

const SOLD: &[&str] = &["on-demand", "spot"];
const ABC: &[char] = &['a', 'b', 'c'];

/// What most types have in common.
const BASE: InstanceType = InstanceType {
    name: "",
    vcpus: 2,
    threads_per_core: 2,
    memory_mib: 0,
    architecture: "x86_64",
    manufacturer: "Intel",
    ghz: 2.5,
    hypervisor: "nitro",
    burstable: false,
    current: true,
    usage: SOLD,
    gpu: None,
    disks: None,
    network: "Up to 12.5 Gigabit",
    interfaces: 3,
    cards: 1,
    addresses_per_interface: 10,
    efa: 0,
    zones: ABC,
};

const fn gpus(count: u32, model: &'static str, memory_mib: u32) -> Option<Gpu> {
    Some(Gpu { count, model, memory_mib })
}

/// All types.
pub static CATALOG: [InstanceType; 15] = [
    InstanceType {
        name: "t3.micro",
        memory_mib: 1024,
        burstable: true,
        network: "Up to 5 Gigabit",
        interfaces: 2,
        addresses_per_interface: 2,
        ..BASE
    },
    InstanceType {
        name: "t3.medium",
        memory_mib: 4096,
        burstable: true,
        network: "Up to 5 Gigabit",
        addresses_per_interface: 6,
        ..BASE
    },
    InstanceType { name: "c7i.large", memory_mib: 4096, ghz: 3.2, ..BASE },
    InstanceType { name: "m7i.large", memory_mib: 8192, ghz: 3.2, ..BASE },
    InstanceType {
        name: "m7i.xlarge",
        vcpus: 4,
        memory_mib: 16_384,
        ghz: 3.2,
        interfaces: 4,
        addresses_per_interface: 15,
        ..BASE
    },
    InstanceType { name: "r7i.large", memory_mib: 16_384, ghz: 3.2, zones: &['a', 'b'], ..BASE },
    InstanceType {
        name: "m7g.large",
        threads_per_core: 1,
        memory_mib: 8192,
        architecture: "arm64",
        manufacturer: "AWS",
        ghz: 2.6,
        ..BASE
    },
    InstanceType {
        name: "g4dn.xlarge",
        vcpus: 4,
        memory_mib: 16_384,
        gpu: gpus(1, "T4", 16_384),
        disks: Some((1, 125)),
        network: "Up to 25 Gigabit",
        ..BASE
    },
    InstanceType {
        name: "g4dn.12xlarge",
        vcpus: 48,
        memory_mib: 196_608,
        gpu: gpus(4, "T4", 16_384),
        disks: Some((1, 900)),
        network: "50 Gigabit",
        interfaces: 8,
        addresses_per_interface: 30,
        efa: 1,
        zones: &['a', 'b'],
        ..BASE
    },
    InstanceType {
        name: "g5.xlarge",
        vcpus: 4,
        memory_mib: 16_384,
        manufacturer: "AMD",
        ghz: 3.3,
        gpu: gpus(1, "A10G", 22_888),
        disks: Some((1, 250)),
        network: "Up to 10 Gigabit",
        interfaces: 4,
        addresses_per_interface: 15,
        zones: &['a', 'b'],
        ..BASE
    },
    InstanceType {
        name: "g5.12xlarge",
        vcpus: 48,
        memory_mib: 196_608,
        manufacturer: "AMD",
        ghz: 3.3,
        gpu: gpus(4, "A10G", 22_888),
        disks: Some((1, 3800)),
        network: "40 Gigabit",
        interfaces: 15,
        addresses_per_interface: 50,
        efa: 1,
        zones: &['b'],
        ..BASE
    },
    InstanceType {
        name: "g6.xlarge",
        vcpus: 4,
        memory_mib: 16_384,
        manufacturer: "AMD",
        ghz: 3.4,
        gpu: gpus(1, "L4", 22_888),
        disks: Some((1, 250)),
        network: "Up to 10 Gigabit",
        interfaces: 4,
        addresses_per_interface: 15,
        zones: &['a', 'c'],
        ..BASE
    },
    InstanceType {
        name: "p3.2xlarge",
        vcpus: 8,
        memory_mib: 62_464,
        ghz: 2.7,
        hypervisor: "xen",
        gpu: gpus(1, "V100", 16_384),
        network: "Up to 10 Gigabit",
        interfaces: 4,
        addresses_per_interface: 15,
        zones: &['c'],
        ..BASE
    },
    InstanceType {
        name: "p4d.24xlarge",
        vcpus: 96,
        memory_mib: 1_179_648,
        ghz: 3.0,
        gpu: gpus(8, "A100", 40_960),
        disks: Some((8, 1000)),
        network: "4x 100 Gigabit",
        interfaces: 60,
        cards: 4,
        addresses_per_interface: 50,
        efa: 4,
        zones: &['a'],
        ..BASE
    },
    InstanceType {
        name: "p5.48xlarge",
        vcpus: 192,
        memory_mib: 2_097_152,
        manufacturer: "AMD",
        ghz: 3.6,
        usage: &["on-demand", "spot", "capacity-block"],
        gpu: gpus(8, "H100", 81_920),
        disks: Some((8, 3840)),
        network: "3200 Gigabit",
        interfaces: 64,
        cards: 32,
        addresses_per_interface: 50,
        efa: 32,
        zones: &['b'],
        ..BASE
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_type_is_somewhere() {
        let names: std::collections::BTreeSet<_> = CATALOG.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), CATALOG.len());
        assert!(CATALOG.iter().all(|kind| !kind.zones.is_empty() && kind.memory_mib > 0 && kind.cores() > 0));
        assert!(CATALOG.iter().any(|kind| kind.zones.len() < 3));
    }
}
