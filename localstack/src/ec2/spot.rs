//! DescribeSpotPriceHistory: prices by type, zone and product, the newest first.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Call;
use super::catalog::{self, InstanceType, dollars};
use super::filter::{Field, Filtered, Filters};
use super::page::Page;
use crate::aws::Refusal;
use crate::aws::query::Scope;
use crate::aws::xml::Xml;
use crate::clock;

/// How far back there are prices.
const OLDEST: Duration = Duration::from_secs(90 * 24 * 3600);

/// What EC2 knows. Accounts of today have no others than the first two, and see those of the VPC under these names.
const PRODUCTS: [&str; 8] = [
    LINUX,
    WINDOWS,
    "Linux/UNIX (Amazon VPC)",
    "Windows (Amazon VPC)",
    "Red Hat Enterprise Linux",
    "Red Hat Enterprise Linux (Amazon VPC)",
    "SUSE Linux",
    "SUSE Linux (Amazon VPC)",
];
const LINUX: &str = "Linux/UNIX";
const WINDOWS: &str = "Windows";
/// What Windows costs on top, in millionths of a dollar for each vCPU and hour.
pub const WINDOWS_VCPU: u64 = 46_000;

/// One price.
struct Price {
    kind: &'static str,
    zone: String,
    zone_id: String,
    product: &'static str,
    price: String,
    since: Timestamp,
}

pub(super) fn describe_spot_price_history(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let (zone, zone_id) = (scope.text("AvailabilityZone"), scope.text("AvailabilityZoneId"));
    let (kinds, products) = (scope.texts("InstanceType"), scope.texts("ProductDescription"));
    let (from, to) = (time(&scope, "StartTime")?, time(&scope, "EndTime")?);
    let filters = Filters::parse::<Price>(&scope)?;
    let page = Page::parse(call.params, 1..=1000)?;
    call.ready()?;
    if zone.is_some() && zone_id.is_some() {
        let message = "Either AvailabilityZone or AvailabilityZoneId can be specified, but not both.";
        return Err(Refusal::new("InvalidParameterCombination", message));
    }
    check(call, zone, zone_id, &kinds, &products)?;
    let now = clock::now();
    let (from, to) = (from.unwrap_or_else(|| clock::before(now, OLDEST)), to.unwrap_or(now));
    if to < from {
        let message = "The end time must not be before the start time.";
        return Err(Refusal::new("InvalidParameterValue", message));
    }
    let wanted = |price: &Price| {
        zone.is_none_or(|zone| price.zone == zone)
            && zone_id.is_none_or(|id| price.zone_id == id)
            && (kinds.is_empty() || kinds.contains(&price.kind))
            && (products.is_empty() || products.contains(&price.product))
    };
    let passing = prices(call, from, to).into_iter().filter(|price| wanted(price) && filters.pass(price));
    let (shown, next) = page.cut(passing.collect(), |price| {
        let age = i64::MAX - price.since.as_millisecond();
        format!("{age:020} {} {} {}", price.kind, price.zone, price.product)
    });
    let mut xml = Xml::default();
    xml.list("spotPriceHistorySet", shown, |xml, price| {
        xml.text("instanceType", price.kind);
        xml.text("productDescription", price.product);
        xml.text("spotPrice", &price.price);
        xml.text("timestamp", clock::iso(price.since));
        xml.text("availabilityZone", &price.zone);
        xml.text("availabilityZoneId", &price.zone_id);
    });
    // Unlike in other descriptions it is there and empty when there is no more.
    xml.text("nextToken", next.unwrap_or_default());
    Ok(xml)
}

fn time(scope: &Scope<'_>, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let parse = |text: &str| {
        let expected = "Expected a time such as 2026-01-31T12:00:00Z.";
        text.parse().map_err(|_| Refusal::value(name, text, expected))
    };
    scope.text(name).map(parse).transpose()
}

/// Refuses zones, types and products that do not exist.
fn check(
    call: &Call<'_>,
    zone: Option<&str>,
    zone_id: Option<&str>,
    kinds: &[&str],
    products: &[&str],
) -> Result<(), Refusal> {
    let subnets = &call.world.estate.subnets;
    if let Some(zone) = zone.filter(|zone| subnets.iter().all(|subnet| subnet.zone != *zone)) {
        return Err(Refusal::new("InvalidParameterValue", format!("Invalid availability zone: [{zone}]")));
    }
    if let Some(id) = zone_id.filter(|id| subnets.iter().all(|subnet| subnet.zone_id != *id)) {
        return Err(Refusal::new("InvalidParameterValue", format!("Invalid availability zone-id: [{id}]")));
    }
    if let Some(kind) = kinds.iter().find(|kind| catalog::find(kind).is_none()) {
        return Err(Refusal::new(
            "InvalidParameterValue",
            format!("Invalid value '{kind}' for InstanceType."),
        ));
    }
    if let Some(product) = products.iter().find(|product| !PRODUCTS.contains(*product)) {
        return Err(Refusal::new(
            "InvalidParameterValue",
            format!("Invalid product description: [{product}]"),
        ));
    }
    Ok(())
}

fn prices(call: &Call<'_>, from: Timestamp, to: Timestamp) -> Vec<Price> {
    let subnets = &call.world.estate.subnets;
    call.world.view(|cloud, _| {
        let mut prices = Vec::new();
        for (name, zone, price) in cloud.prices.history(from, to) {
            let Some(kind) = catalog::find(name) else { continue };
            let zone_id = subnets.iter().find(|subnet| subnet.zone == zone);
            let zone_id = zone_id.map_or_else(String::new, |subnet| subnet.zone_id.clone());
            for (product, micros) in products_of(kind, price.micros) {
                let (zone, zone_id) = (zone.to_owned(), zone_id.clone());
                let price = Price {
                    kind: name,
                    zone,
                    zone_id,
                    product,
                    price: dollars(micros, 6),
                    since: price.since,
                };
                prices.push(price);
            }
        }
        prices
    })
}

/// What else a type is sold with: Windows, where the processor runs it.
fn products_of(kind: &InstanceType, linux: u64) -> impl Iterator<Item = (&'static str, u64)> {
    let windows = linux + u64::from(kind.vcpus) * WINDOWS_VCPU;
    [(LINUX, linux), (WINDOWS, windows)].into_iter().take(if kind.architecture == "x86_64" { 2 } else { 1 })
}

impl Filtered for Price {
    const TAGGED: bool = false;
    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "availability-zone", values: |price| vec![price.zone.clone()] },
        Field { name: "availability-zone-id", values: |price| vec![price.zone_id.clone()] },
        Field { name: "instance-type", values: |price| vec![price.kind.to_owned()] },
        Field { name: "product-description", values: |price| vec![price.product.to_owned()] },
        Field { name: "spot-price", values: |price| vec![price.price.clone()] },
        Field { name: "timestamp", values: |price| vec![clock::iso(price.since)] },
    ];
}
