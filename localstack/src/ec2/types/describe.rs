//! An instance type in EC2's XML.

use crate::aws::xml::Xml;
use crate::ec2::catalog::{Accelerator, InstanceType, Kind};

/// Everything inside a type's `item`.
pub(super) fn instance_type(xml: &mut Xml, kind: &InstanceType) {
    xml.text("instanceType", kind.name);
    xml.text("currentGeneration", kind.current());
    xml.text("freeTierEligible", false);
    xml.values("supportedUsageClasses", &kind.usage);
    xml.values("supportedRootDeviceTypes", ["ebs"]);
    xml.values("supportedVirtualizationTypes", ["hvm"]);
    xml.text("bareMetal", kind.bare_metal());
    xml.maybe("hypervisor", kind.hypervisor());
    xml.element("processorInfo", |xml| {
        xml.values("supportedArchitectures", [kind.architecture]);
        xml.text("sustainedClockSpeedInGhz", kind.ghz);
        xml.text("manufacturer", kind.manufacturer);
    });
    xml.element("vCpuInfo", |xml| {
        xml.text("defaultVCpus", kind.vcpus);
        xml.text("defaultCores", kind.cores());
        xml.text("defaultThreadsPerCore", kind.threads_per_core);
    });
    xml.element("memoryInfo", |xml| xml.text("sizeInMiB", kind.memory_mib));
    disks(xml, kind);
    xml.element("ebsInfo", |xml| {
        xml.text("ebsOptimizedSupport", "default");
        xml.text("encryptionSupport", "supported");
        xml.text("nvmeSupport", if kind.hypervisor() == Some("xen") { "unsupported" } else { "required" });
    });
    network(xml, kind);
    if let Some(accelerator) = &kind.accelerator {
        match accelerator.kind {
            Kind::Gpu => gpu(xml, accelerator),
            Kind::Neuron => neuron(xml, kind, accelerator),
            Kind::Fpga => {
                let total = accelerator.total_mib();
                devices(xml, ("fpgaInfo", "fpgas"), accelerator, ("totalFpgaMemoryInMiB", total));
            }
            Kind::Media => {
                let total = accelerator.total_mib();
                devices(
                    xml,
                    ("mediaAcceleratorInfo", "accelerators"),
                    accelerator,
                    ("totalMediaMemoryInMiB", total),
                );
            }
        }
    }
    xml.element("placementGroupInfo", |xml| {
        let cluster = !kind.burstable();
        let strategies = ["cluster", "partition", "spread"];
        xml.values("supportedStrategies", strategies.into_iter().skip(usize::from(!cluster)));
    });
    xml.text("hibernationSupported", false);
    xml.text("burstablePerformanceSupported", kind.burstable());
    xml.text("dedicatedHostsSupported", !kind.burstable());
    xml.text("autoRecoverySupported", kind.disks.is_none());
    xml.values("supportedBootModes", ["legacy-bios", "uefi"]);
    xml.text("supportedInRegion", true);
}

fn disks(xml: &mut Xml, kind: &InstanceType) {
    xml.text("instanceStorageSupported", kind.disks.is_some());
    let Some((count, size)) = kind.disks else { return };
    xml.element("instanceStorageInfo", |xml| {
        xml.text("totalSizeInGB", u64::from(count) * size);
        xml.list("disks", [()], |xml, ()| {
            xml.text("sizeInGB", size);
            xml.text("count", count);
            xml.text("type", "ssd");
        });
        xml.text("nvmeSupport", "required");
        xml.text("encryptionSupport", "required");
    });
}

fn network(xml: &mut Xml, kind: &InstanceType) {
    let xen = kind.hypervisor() == Some("xen");
    xml.element("networkInfo", |xml| {
        xml.text("networkPerformance", kind.network);
        xml.text("maximumNetworkInterfaces", kind.interfaces);
        xml.text("maximumNetworkCards", kind.cards);
        xml.text("defaultNetworkCardIndex", 0);
        xml.list("networkCards", 0..kind.cards, |xml, card| {
            xml.text("networkCardIndex", card);
            xml.text("networkPerformance", kind.network);
            xml.text("maximumNetworkInterfaces", kind.interfaces / kind.cards);
        });
        xml.text("ipv4AddressesPerInterface", kind.addresses_per_interface);
        xml.text("ipv6AddressesPerInterface", kind.addresses_per_interface);
        xml.text("ipv6Supported", true);
        xml.text("enaSupport", if xen { "supported" } else { "required" });
        xml.text("efaSupported", kind.efa > 0);
        if kind.efa > 0 {
            xml.element("efaInfo", |xml| xml.text("maximumEfaInterfaces", kind.efa));
        }
        xml.text("encryptionInTransitSupported", !xen);
    });
}

/// A part of a GPU has a count of 0, and its fraction.
fn gpu(xml: &mut Xml, gpu: &Accelerator) {
    xml.element("gpuInfo", |xml| {
        xml.list("gpus", [gpu], |xml, gpu| {
            xml.text("name", &gpu.model);
            xml.text("manufacturer", gpu.manufacturer);
            xml.text("count", gpu.count);
            xml.text("logicalGpuCount", gpu.count.max(1));
            xml.text("gpuPartitionSize", gpu.fraction);
            xml.element("memoryInfo", |xml| xml.text("sizeInMiB", gpu.memory_mib));
        });
        xml.text("totalGpuMemoryInMiB", gpu.total_mib());
    });
}

/// EC2 describes Inferentia under its old name too.
fn neuron(xml: &mut Xml, kind: &InstanceType, device: &Accelerator) {
    let total = device.total_mib();
    if kind.family().starts_with("inf") {
        devices(
            xml,
            ("inferenceAcceleratorInfo", "accelerators"),
            device,
            ("totalInferenceMemoryInMiB", total),
        );
    }
    xml.element("neuronInfo", |xml| {
        xml.list("neuronDevices", [device], |xml, device| {
            xml.text("count", device.count);
            xml.text("name", &device.model);
            if let Some((count, version)) = device.cores {
                xml.element("coreInfo", |xml| {
                    xml.text("count", count);
                    xml.text("version", version);
                });
            }
            xml.element("memoryInfo", |xml| xml.text("sizeInMiB", device.memory_mib));
        });
        xml.text("totalNeuronDeviceMemoryInMiB", total);
    });
}

/// An accelerator in the form that most kinds share.
fn devices(xml: &mut Xml, (info, list): (&str, &str), accelerator: &Accelerator, (name, total): (&str, u64)) {
    xml.element(info, |xml| {
        xml.list(list, [accelerator], |xml, accelerator| {
            xml.text("name", &accelerator.model);
            xml.text("manufacturer", accelerator.manufacturer);
            xml.text("count", accelerator.count);
            xml.element("memoryInfo", |xml| xml.text("sizeInMiB", accelerator.memory_mib));
        });
        xml.text(name, total);
    });
}
