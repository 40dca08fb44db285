//! DescribeInstanceTypes and DescribeInstanceTypeOfferings.

use std::collections::BTreeMap;

use super::Call;
use super::catalog::{CATALOG, InstanceType};
use super::filter::{Field, Filtered, Filters};
use super::page::Page;
use crate::aws::Refusal;
use crate::aws::xml::Xml;

/// The most types that may be named in one call.
const MOST_NAMES: usize = 100;

pub(super) fn describe_instance_types(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let names = scope.texts("InstanceType");
    scope.flag("IncludeUnsupportedInRegion")?;
    let filters = Filters::parse::<&'static InstanceType>(&scope)?;
    Page::not_with(call.params, "InstanceType", "InstanceTypes")?;
    let page = Page::parse(call.params, 5..=100)?;
    call.ready()?;
    if names.len() > MOST_NAMES {
        let message = format!("You can specify at most {MOST_NAMES} instance types in one request.");
        return Err(Refusal::new("InvalidParameterValue", message));
    }
    let unknown: Vec<&str> =
        names.iter().copied().filter(|name| super::catalog::find(name).is_none()).collect();
    if !unknown.is_empty() {
        let message = format!("The following supplied instance types do not exist: [{}]", unknown.join(", "));
        return Err(Refusal::new("InvalidInstanceType", message));
    }
    let wanted = |kind: &&InstanceType| names.is_empty() || names.contains(&kind.name);
    let passing: Vec<&'static InstanceType> =
        CATALOG.iter().filter(wanted).filter(|kind| filters.pass(kind)).collect();
    let (shown, next) = page.cut(passing, |kind| kind.name.to_owned());
    let mut xml = Xml::default();
    xml.list("instanceTypeSet", shown, instance_type);
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn instance_type(xml: &mut Xml, kind: &InstanceType) {
    xml.text("instanceType", kind.name);
    xml.text("currentGeneration", kind.current);
    xml.text("freeTierEligible", false);
    xml.values("supportedUsageClasses", kind.usage);
    xml.values("supportedRootDeviceTypes", ["ebs"]);
    xml.values("supportedVirtualizationTypes", ["hvm"]);
    xml.text("bareMetal", false);
    xml.text("hypervisor", kind.hypervisor);
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
    xml.text("instanceStorageSupported", kind.disks.is_some());
    if let Some((count, size)) = kind.disks {
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
    xml.element("ebsInfo", |xml| {
        xml.text("ebsOptimizedSupport", "default");
        xml.text("encryptionSupport", "supported");
        xml.text("nvmeSupport", if kind.hypervisor == "nitro" { "required" } else { "unsupported" });
    });
    network(xml, kind);
    if let Some(gpu) = kind.gpu {
        xml.element("gpuInfo", |xml| {
            xml.list("gpus", [gpu], |xml, gpu| {
                xml.text("name", gpu.model);
                xml.text("manufacturer", "NVIDIA");
                xml.text("count", gpu.count);
                xml.element("memoryInfo", |xml| xml.text("sizeInMiB", gpu.memory_mib));
            });
            xml.text("totalGpuMemoryInMiB", gpu.count * gpu.memory_mib);
        });
    }
    xml.element("placementGroupInfo", |xml| {
        xml.values("supportedStrategies", ["cluster", "partition", "spread"]);
    });
    xml.text("hibernationSupported", false);
    xml.text("burstablePerformanceSupported", kind.burstable);
    xml.text("dedicatedHostsSupported", !kind.burstable);
    xml.text("autoRecoverySupported", kind.disks.is_none());
    xml.values("supportedBootModes", ["legacy-bios", "uefi"]);
    xml.text("supportedInRegion", true);
}

fn network(xml: &mut Xml, kind: &InstanceType) {
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
        xml.text("enaSupport", if kind.hypervisor == "nitro" { "required" } else { "supported" });
        xml.text("efaSupported", kind.efa > 0);
        if kind.efa > 0 {
            xml.element("efaInfo", |xml| xml.text("maximumEfaInterfaces", kind.efa));
        }
        xml.text("encryptionInTransitSupported", kind.hypervisor == "nitro");
    });
}

/// A type in a place.
struct Offering {
    kind: &'static str,
    location: String,
}

pub(super) fn describe_instance_type_offerings(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let location_type = scope.text("LocationType").unwrap_or("region");
    let filters = Filters::parse::<Offering>(&scope)?;
    let page = Page::parse(call.params, 5..=1000)?;
    call.ready()?;
    let world = call.world;
    let locations = |kind: &InstanceType| -> Result<Vec<String>, Refusal> {
        let zones = || world.estate.subnets.iter().filter(|subnet| kind.offered_in(&subnet.zone));
        match location_type {
            "region" => Ok(vec![world.region.clone()]),
            "availability-zone" => Ok(zones().map(|subnet| subnet.zone.clone()).collect()),
            "availability-zone-id" => Ok(zones().map(|subnet| subnet.zone_id.clone()).collect()),
            "outpost" => Ok(Vec::new()),
            other => {
                let message = format!("Invalid value '{other}' for LocationType.");
                Err(Refusal::new("InvalidParameterValue", message))
            }
        }
    };
    let mut offerings = Vec::new();
    for kind in &CATALOG {
        offerings.extend(locations(kind)?.into_iter().map(|location| Offering { kind: kind.name, location }));
    }
    offerings.retain(|offering| filters.pass(offering));
    let (shown, next) = page.cut(offerings, |offering| format!("{} {}", offering.kind, offering.location));
    let mut xml = Xml::default();
    xml.list("instanceTypeOfferingSet", shown, |xml, offering| {
        xml.text("instanceType", offering.kind);
        xml.text("locationType", location_type);
        xml.text("location", offering.location);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

impl Filtered for Offering {
    const TAGGED: bool = false;
    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "instance-type", values: |offering| vec![offering.kind.to_owned()] },
        Field { name: "location", values: |offering| vec![offering.location.clone()] },
    ];
}

impl Filtered for &'static InstanceType {
    const TAGGED: bool = false;
    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "bare-metal", values: |_| vec!["false".to_owned()] },
        Field { name: "burstable-performance-supported", values: |kind| vec![kind.burstable.to_string()] },
        Field { name: "current-generation", values: |kind| vec![kind.current.to_string()] },
        Field { name: "hypervisor", values: |kind| vec![kind.hypervisor.to_owned()] },
        Field { name: "instance-storage-supported", values: |kind| vec![kind.disks.is_some().to_string()] },
        Field { name: "instance-type", values: |kind| vec![kind.name.to_owned()] },
        Field { name: "memory-info.size-in-mib", values: |kind| vec![kind.memory_mib.to_string()] },
        Field { name: "network-info.efa-supported", values: |kind| vec![(kind.efa > 0).to_string()] },
        Field {
            name: "processor-info.supported-architecture",
            values: |kind| vec![kind.architecture.to_owned()],
        },
        Field {
            name: "supported-usage-class",
            values: |kind| kind.usage.iter().map(|&usage| usage.to_owned()).collect(),
        },
        Field { name: "vcpu-info.default-vcpus", values: |kind| vec![kind.vcpus.to_string()] },
    ];
}
