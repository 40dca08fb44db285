//! The market without a cloud: the shipped catalog and prices, and places that are only as real as what the pod names.
//! Pure.

use super::report::{ANY_SUBNET, ANY_ZONE};
use crate::capacity::shipped::{self, shipped};
use crate::cloud::Subnet;
use crate::market::Snapshot;
use crate::pod::wishes::Wishes;

/// What is known of a region without asking anybody, for a pod with these wishes.
pub(super) fn market(region: &str, wishes: &Wishes) -> Snapshot {
    let mut snapshot = Snapshot::default();
    (snapshot.catalog, snapshot.prices) = shipped();
    snapshot.subnets = subnets(region, wishes);
    snapshot
}

/// What is not known then.
pub(super) fn notes(region: &str) -> Vec<String> {
    let mut notes = vec![
        "offline: types and prices are those that ORCA ships; zones, subnets, quotas, reservations, Capacity Blocks \
         and spot prices are not known"
            .to_owned(),
    ];
    if region != shipped::REGION {
        notes.push(format!(
            "the shipped prices are those of {}, only an estimate for {region}, and not every type exists in {region}",
            shipped::REGION
        ));
    }
    notes
}

/// A place for every zone and subnet that the pod names, or a single one.
fn subnets(region: &str, wishes: &Wishes) -> Vec<Subnet> {
    // Ids of zones do not tell their region.
    let is_here = |zone: &&String| zone.contains("-az") || zone.starts_with(region);
    let zones: Vec<&str> = wishes.zones.iter().filter(is_here).map(String::as_str).collect();
    let zones = if zones.is_empty() { vec![ANY_ZONE] } else { zones };
    let ids: Vec<&str> = wishes.subnet_ids.iter().map(String::as_str).collect();
    let ids = if ids.is_empty() { vec![ANY_SUBNET] } else { ids };
    let place = |id: &str, zone: &str| Subnet {
        id: id.to_owned(),
        zone: zone.to_owned(),
        zone_id: zone.to_owned(),
        cidr: String::new(),
        free_addresses: u32::MAX,
    };
    zones.iter().flat_map(|zone| ids.iter().map(|id| place(id, zone))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_what_the_pod_names_in_this_region() {
        let shown = |zones: &[&str], ids: &[&str]| {
            let texts = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
            let wishes = Wishes { zones: texts(zones), subnet_ids: texts(ids), ..Wishes::default() };
            let all = subnets("eu-west-1", &wishes);
            all.iter().map(|one| format!("{} {}", one.id, one.zone)).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(shown(&[], &[]), "any subnet any zone");
        assert_eq!(
            shown(&["eu-west-1a", "euw1-az2", "us-east-1a"], &[]),
            "any subnet eu-west-1a; any subnet euw1-az2"
        );
        assert_eq!(shown(&["us-east-1a"], &["subnet-1"]), "subnet-1 any zone");
    }

    #[test]
    fn prices_of_another_region_are_told_as_such() {
        assert_eq!(notes("us-east-1").len(), 1);
        assert!(notes("eu-west-1")[1].contains("are those of us-east-1, only an estimate for eu-west-1"));
    }
}
