//! DescribeInstanceTypes and DescribeInstanceTypeOfferings.

mod describe;
mod filters;

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
    xml.list("instanceTypeSet", shown, describe::instance_type);
    xml.maybe("nextToken", next);
    Ok(xml)
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
        let zones = || world.estate.first_subnets().filter(|subnet| kind.offered_in(&subnet.zone));
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
    for kind in CATALOG.iter() {
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
