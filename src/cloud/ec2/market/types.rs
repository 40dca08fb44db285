//! Instance types, and the zones that offer them.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::{Filter, LocationType};
use tokio::time::Instant;

use super::super::{Ec2, decode, filter};
use super::{HOUR, next_page};
use crate::cloud::{CloudError, InstanceType};

/// A name that EC2 does not know may be a type that is about to be launched in the region.
const KEPT_UNKNOWN: Duration = Duration::from_secs(300);
/// EC2's most for one filter.
const FILTER_VALUES: usize = 200;
/// EC2's most for a page of types, and of offerings.
const PAGE_OF_TYPES: i32 = 100;
const PAGE: i32 = 1000;

/// The named ones, remembered.
pub(super) async fn named(ec2: &Ec2, names: &[String]) -> Result<Vec<InstanceType>, CloudError> {
    // Held while asking, on purpose: see `Cached`.
    let mut types = ec2.market.types.lock().await;
    let now = Instant::now();
    types.retain(|_, (until, _)| now < *until);
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| !types.contains_key(*name))
        // Filters take wildcards; names do not.
        .filter(|name| !name.contains(['*', '?']))
        .cloned()
        .collect();
    for names in unknown.chunks(FILTER_VALUES) {
        // By filter and not by name: one unknown name makes EC2 refuse the whole call.
        let found = describe(ec2, Some(vec![filter("instance-type", names.to_vec())])).await?;
        for name in names {
            let answer = found.iter().find(|kind| kind.name == *name).cloned();
            let kept = if answer.is_some() { HOUR } else { KEPT_UNKNOWN };
            types.insert(name.clone(), (now + kept, answer));
        }
    }
    Ok(names.iter().filter_map(|name| types.get(name).and_then(|(_, kind)| kind.clone())).collect())
}

/// Every type of the region that we could run.
pub(super) async fn all(ec2: &Ec2) -> Result<Vec<InstanceType>, CloudError> {
    describe(ec2, None).await
}

async fn describe(ec2: &Ec2, filters: Option<Vec<Filter>>) -> Result<Vec<InstanceType>, CloudError> {
    let mut found = Vec::new();
    let mut token = None;
    loop {
        let request = ec2
            .calls
            .client
            .describe_instance_types()
            .set_filters(filters.clone())
            .max_results(PAGE_OF_TYPES)
            .set_next_token(token);
        let page = ec2.calls.read("DescribeInstanceTypes", || request.clone().send()).await?;
        found.extend(page.instance_types().iter().filter_map(decode::instance_type));
        token = next_page(page.next_token());
        if token.is_none() {
            return Ok(found);
        }
    }
}

pub(super) async fn zones_of(ec2: &Ec2, instance_type: &str) -> Result<Vec<String>, CloudError> {
    let ask = async {
        let of_type = filter("instance-type", [instance_type.to_owned()]);
        let found = describe_offerings(ec2, Some(vec![of_type])).await?;
        Ok(found.into_values().flatten().collect())
    };
    ec2.market.zones.get(instance_type.to_owned(), ask).await
}

/// Sorted zones by type, for the whole region.
pub(super) async fn offerings(ec2: &Ec2) -> Result<BTreeMap<String, Vec<String>>, CloudError> {
    describe_offerings(ec2, None).await
}

async fn describe_offerings(
    ec2: &Ec2,
    filters: Option<Vec<Filter>>,
) -> Result<BTreeMap<String, Vec<String>>, CloudError> {
    let mut found = BTreeMap::<String, Vec<String>>::new();
    let mut token = None;
    loop {
        let request = ec2
            .calls
            .client
            .describe_instance_type_offerings()
            .location_type(LocationType::AvailabilityZone)
            .set_filters(filters.clone())
            .max_results(PAGE)
            .set_next_token(token);
        let page = ec2.calls.read("DescribeInstanceTypeOfferings", || request.clone().send()).await?;
        for offering in page.instance_type_offerings() {
            if let (Some(kind), Some(zone)) = (offering.instance_type(), offering.location()) {
                found.entry(kind.as_str().to_owned()).or_default().push(zone.to_owned());
            }
        }
        token = next_page(page.next_token());
        if token.is_none() {
            found.values_mut().for_each(|zones| zones.sort_unstable());
            return Ok(found);
        }
    }
}
