//! Products of the price list: a type with a way to have it, and its price.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::aws::encoding::sha256_hex;
use crate::ec2::catalog::{CATALOG, InstanceType, Kind, dollars};
use crate::ec2::spot::WINDOWS_VCPU;

/// AWS's codes of the on-demand term and of its hourly rate.
const TERM: &str = "JRTCKXETXF";
const RATE: &str = "6YS6EN2CT7";
/// When the prices of the catalog were in force.
const PUBLISHED: &str = "2026-07-20T00:00:00Z";
/// Of a dedicated instance, in percent of a shared one.
const DEDICATED_PERCENT: u64 = 106;

/// A way to have an instance.
struct Way {
    system: &'static str,
    operation: &'static str,
    tenancy: &'static str,
    status: &'static str,
    usage: &'static str,
}

const SHARED: Way =
    Way { system: "Linux", operation: "RunInstances", tenancy: "Shared", status: "Used", usage: "BoxUsage" };

const WAYS: [Way; 5] = [
    SHARED,
    Way { status: "UnusedCapacityReservation", usage: "UnusedBox", ..SHARED },
    Way { status: "AllocatedCapacityReservation", usage: "Reservation", ..SHARED },
    Way { tenancy: "Dedicated", usage: "DedicatedUsage", ..SHARED },
    Way { system: "Windows", operation: "RunInstances:0002", ..SHARED },
];

/// One entry of the price list.
#[derive(Debug)]
pub(super) struct Product {
    pub sku: String,
    pub attributes: BTreeMap<&'static str, String>,
    pub(super) family: &'static str,
    /// In millionths of a dollar an hour.
    micros: u64,
}

/// All products of a region with a price.
pub(super) fn all(
    region: &str,
    price: &dyn Fn(&InstanceType) -> Option<u64>,
) -> impl Iterator<Item = Product> {
    CATALOG.iter().filter_map(|kind| Some((kind, price(kind)?))).flat_map(move |(kind, micros)| {
        let sold = |way: &&Way| way.system == "Linux" || kind.architecture == "x86_64";
        WAYS.iter().filter(sold).map(move |way| product(region, kind, way, micros))
    })
}

fn product(region: &str, kind: &InstanceType, way: &Way, linux: u64) -> Product {
    let micros = match (way.status, way.tenancy, way.system) {
        // Paid for by the reservation.
        ("AllocatedCapacityReservation", _, _) => 0,
        (_, "Dedicated", _) => linux * DEDICATED_PERCENT / 100,
        (_, _, "Windows") => linux + u64::from(kind.vcpus) * WINDOWS_VCPU,
        _ => linux,
    };
    let storage = kind.disks.map(|(count, size)| format!("{count} x {size} NVMe SSD"));
    let gpus = kind.accelerator.as_ref().filter(|it| it.kind == Kind::Gpu).map(|it| it.count.to_string());
    let mut attributes: BTreeMap<&'static str, String> = [
        ("servicecode", "AmazonEC2".to_owned()),
        ("servicename", "Amazon Elastic Compute Cloud".to_owned()),
        ("location", "US East (N. Virginia)".to_owned()),
        ("locationType", "AWS Region".to_owned()),
        ("regionCode", region.to_owned()),
        ("instanceType", kind.name.to_owned()),
        ("instanceFamily", instance_family(kind).to_owned()),
        ("currentGeneration", if kind.current() { "Yes" } else { "No" }.to_owned()),
        ("vcpu", kind.vcpus.to_string()),
        ("memory", gib(kind.memory_mib)),
        ("storage", storage.unwrap_or_else(|| "EBS only".to_owned())),
        ("networkPerformance", kind.network.to_owned()),
        ("processorArchitecture", "64-bit".to_owned()),
        ("tenancy", way.tenancy.to_owned()),
        ("operatingSystem", way.system.to_owned()),
        ("operation", way.operation.to_owned()),
        ("capacitystatus", way.status.to_owned()),
        ("usagetype", format!("{}:{}", way.usage, kind.name)),
        ("licenseModel", "No License required".to_owned()),
        ("preInstalledSw", "NA".to_owned()),
        ("marketoption", "OnDemand".to_owned()),
        ("availabilityzone", "NA".to_owned()),
        ("vpcnetworkingsupport", "true".to_owned()),
    ]
    .into();
    attributes.extend(gpus.map(|gpus| ("gpu", gpus)));
    let sku = sha256_hex(format!("{} {}", attributes["usagetype"], way.operation).as_bytes());
    let family = if kind.bare_metal() { "Compute Instance (bare metal)" } else { "Compute Instance" };
    Product { sku: sku[..16].to_ascii_uppercase(), attributes, family, micros }
}

/// Attributes that a product may have, and that can be filtered by, as can its family.
pub(super) fn is_attribute(name: &str) -> bool {
    matches!(name, "gpu" | "productFamily") || {
        let any = CATALOG.first().map(|kind| product("", kind, &SHARED, 0));
        any.is_some_and(|product| product.attributes.contains_key(name))
    }
}

fn gib(mib: u64) -> String {
    let (whole, rest) = (mib / 1024, mib % 1024);
    if rest == 0 { format!("{whole} GiB") } else { format!("{whole}.{} GiB", rest * 10 / 1024) }
}

fn instance_family(kind: &InstanceType) -> &'static str {
    match kind.accelerator.as_ref().map(|accelerator| accelerator.kind) {
        Some(Kind::Gpu) => "GPU instance",
        Some(Kind::Neuron) => "Machine Learning ASIC Instances",
        Some(Kind::Fpga) => "FPGA Instances",
        Some(Kind::Media) => "Media Accelerator Instances",
        None if kind.name.starts_with('c') => "Compute optimized",
        None if kind.name.starts_with('r') => "Memory optimized",
        None => "General purpose",
    }
}

impl Product {
    /// As the price list has it.
    pub(super) fn json(&self) -> Value {
        let (sku, attributes) = (&self.sku, &self.attributes);
        let (term, rate) = (format!("{sku}.{TERM}"), format!("{sku}.{TERM}.{RATE}"));
        let price = dollars(self.micros, 10);
        let description = format!(
            "${} per {} {} {} Instance Hour",
            price.trim_end_matches('0').trim_end_matches('.'),
            if attributes["tenancy"] == "Dedicated" { "Dedicated" } else { "On Demand" },
            attributes["operatingSystem"],
            attributes["instanceType"],
        );
        let dimension = json!({
            "unit": "Hrs",
            "beginRange": "0",
            "endRange": "Inf",
            "description": description,
            "appliesTo": [],
            "rateCode": rate,
            "pricePerUnit": { "USD": price },
        });
        let offer = json!({
            "sku": sku,
            "offerTermCode": TERM,
            "effectiveDate": PUBLISHED,
            "termAttributes": {},
            "priceDimensions": { rate: dimension },
        });
        json!({
            "product": { "sku": sku, "productFamily": self.family, "attributes": attributes },
            "serviceCode": "AmazonEC2",
            "terms": { "OnDemand": { term: offer } },
            "version": "20260720000000",
            "publicationDate": PUBLISHED,
        })
    }
}
