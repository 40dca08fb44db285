//! Zones, the VPC, its subnets and security groups.

use std::collections::BTreeMap;

use super::Call;
use super::filter::{Field, Filtered, Filters};
use super::ids::Kind;
use super::page::Page;
use super::render;
use crate::aws::Refusal;
use crate::aws::query::Scope;
use crate::aws::xml::Xml;
use crate::world::estate::{Group, Subnet, Vpc};

/// Something of the estate, with what changes about it.
struct Seen<T> {
    thing: T,
    tags: BTreeMap<String, String>,
    vpc: String,
    account: String,
    /// Free addresses of a subnet.
    free: u32,
}

fn seen<T>(call: &Call<'_>, id: &str, thing: T) -> Seen<T> {
    let (tags, free) = call.world.view(|cloud, _| {
        let free = call.world.estate.subnet(id).map_or(0, |subnet| cloud.subnet(&subnet.id).free());
        (cloud.tags.get(id).cloned().unwrap_or_default(), free)
    });
    let (vpc, account) = (call.world.estate.vpc.id.clone(), call.world.account.clone());
    Seen { thing, tags, vpc, account, free }
}

pub(super) fn describe_availability_zones(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let (names, ids) = (scope.texts("ZoneName"), scope.texts("ZoneId"));
    scope.flag("AllAvailabilityZones")?;
    let filters = Filters::parse::<Zone>(&scope)?;
    call.ready()?;
    let zone = |subnet: &Subnet| Zone {
        name: subnet.zone.clone(),
        id: subnet.zone_id.clone(),
        region: call.world.region.clone(),
    };
    let zones: Vec<Zone> = call.world.estate.first_subnets().map(zone).collect();
    let unknown = names.iter().find(|name| zones.iter().all(|zone| zone.name != **name));
    let unknown = unknown.or_else(|| ids.iter().find(|id| zones.iter().all(|zone| zone.id != **id)));
    if let Some(unknown) = unknown {
        return Err(Refusal::new("InvalidParameterValue", format!("Invalid availability zone: [{unknown}]")));
    }
    let wanted = |zone: &Zone| {
        (names.is_empty() || names.contains(&zone.name.as_str()))
            && (ids.is_empty() || ids.contains(&zone.id.as_str()))
    };
    let mut xml = Xml::default();
    xml.list("availabilityZoneInfo", zones.iter().filter(|z| wanted(z) && filters.pass(*z)), |xml, zone| {
        xml.text("zoneName", &zone.name);
        xml.text("zoneId", &zone.id);
        xml.text("zoneState", "available");
        xml.text("regionName", &zone.region);
        xml.text("groupName", &zone.region);
        xml.text("networkBorderGroup", &zone.region);
        xml.text("optInStatus", "opt-in-not-required");
        xml.text("zoneType", "availability-zone");
        xml.list("messageSet", [(); 0], |_, ()| {});
    });
    Ok(xml)
}

pub(super) fn describe_vpcs(call: &Call<'_>) -> Result<Xml, Refusal> {
    let vpc = &call.world.estate.vpc;
    let all = vec![(vpc.id.clone(), vpc.clone())];
    let (shown, next) = select(call, "VpcId", "vpcSet", Kind::Vpc, &call.params.root(), all)?;
    let mut xml = Xml::default();
    xml.list("vpcSet", shown, |xml, Seen { thing: vpc, tags, account, .. }| {
        xml.text("vpcId", &vpc.id);
        xml.text("ownerId", account);
        xml.text("state", "available");
        xml.text("cidrBlock", vpc.cidr);
        xml.list("cidrBlockAssociationSet", [vpc.cidr], |xml, cidr| {
            xml.text("associationId", vpc.id.replacen("vpc-", "vpc-cidr-assoc-", 1));
            xml.text("cidrBlock", cidr);
            xml.element("cidrBlockState", |xml| xml.text("state", "associated"));
        });
        xml.text("dhcpOptionsId", vpc.id.replacen("vpc-", "dopt-", 1));
        xml.text("instanceTenancy", "default");
        xml.text("isDefault", false);
        render::tags(xml, &tags);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

pub(super) fn describe_subnets(call: &Call<'_>) -> Result<Xml, Refusal> {
    let all = call.world.estate.subnets.iter().map(|subnet| (subnet.id.clone(), subnet.clone())).collect();
    let (shown, next) = select(call, "SubnetId", "subnetSet", Kind::Subnet, &call.params.root(), all)?;
    let mut xml = Xml::default();
    xml.list("subnetSet", shown, |xml, Seen { thing: subnet, tags, vpc, account, free }| {
        xml.text("subnetId", &subnet.id);
        let arn = format!("arn:aws:ec2:{}:{account}:subnet/{}", call.world.region, subnet.id);
        xml.text("subnetArn", arn);
        xml.text("state", "available");
        xml.text("ownerId", account);
        xml.text("vpcId", vpc);
        xml.text("cidrBlock", subnet.cidr);
        xml.list("ipv6CidrBlockAssociationSet", [(); 0], |_, ()| {});
        xml.text("availableIpAddressCount", free);
        xml.text("availabilityZone", &subnet.zone);
        xml.text("availabilityZoneId", &subnet.zone_id);
        xml.text("defaultForAz", false);
        xml.text("mapPublicIpOnLaunch", false);
        xml.text("assignIpv6AddressOnCreation", false);
        render::tags(xml, &tags);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

pub(super) fn describe_security_groups(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let names = scope.texts("GroupName");
    let groups = &call.world.estate.groups;
    if let Some(name) = names.iter().find(|name| groups.iter().all(|group| group.name != **name)) {
        let message = format!("The security group '{name}' does not exist");
        return Err(Refusal::new("InvalidGroup.NotFound", message));
    }
    let wanted = |group: &&Group| names.is_empty() || names.contains(&group.name.as_str());
    let all = groups.iter().filter(wanted).map(|group| (group.id.clone(), group.clone())).collect();
    let (shown, next) = select(call, "GroupId", "groupIds", Kind::Group, &scope, all)?;
    let mut xml = Xml::default();
    xml.list("securityGroupInfo", shown, |xml, Seen { thing: group, tags, vpc, account, .. }| {
        xml.text("ownerId", &account);
        xml.text("groupId", &group.id);
        let arn = format!("arn:aws:ec2:{}:{account}:security-group/{}", call.world.region, group.id);
        xml.text("securityGroupArn", arn);
        xml.text("groupName", &group.name);
        xml.text("groupDescription", &group.description);
        xml.text("vpcId", vpc);
        xml.list("ipPermissions", [(); 0], |_, ()| {});
        xml.list("ipPermissionsEgress", [()], |xml, ()| {
            xml.text("ipProtocol", "-1");
            xml.list("ipRanges", ["0.0.0.0/0"], |xml, cidr| xml.text("cidrIp", cidr));
        });
        render::tags(xml, &tags);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

/// What the ids, filters and page of a request select.
fn select<T>(
    call: &Call<'_>,
    ids_name: &str,
    set: &str,
    kind: Kind,
    scope: &Scope<'_>,
    all: Vec<(String, T)>,
) -> Result<(Vec<Seen<T>>, Option<String>), Refusal>
where
    T: Clone,
    Seen<T>: Filtered,
{
    let ids = scope.texts(ids_name);
    let filters = Filters::parse::<Seen<T>>(scope)?;
    Page::not_with(call.params, ids_name, set)?;
    let page = Page::parse(call.params, 5..=1000)?;
    call.ready()?;
    let found = if ids.is_empty() {
        all
    } else {
        kind.find_all(&ids, |id| all.iter().find(|(own, _)| own == id).cloned())?
    };
    let passing: Vec<(String, Seen<T>)> = found
        .into_iter()
        .map(|(id, thing)| {
            let thing = seen(call, &id, thing);
            (id, thing)
        })
        .filter(|(_, thing)| filters.pass(thing))
        .collect();
    let (shown, next) = page.cut(passing, |(id, _)| id.clone());
    Ok((shown.into_iter().map(|(_, thing)| thing).collect(), next))
}

/// An availability zone.
struct Zone {
    name: String,
    id: String,
    region: String,
}

impl Filtered for Zone {
    const TAGGED: bool = false;
    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "group-name", values: |zone| vec![zone.region.clone()] },
        Field { name: "opt-in-status", values: |_| vec!["opt-in-not-required".to_owned()] },
        Field { name: "region-name", values: |zone| vec![zone.region.clone()] },
        Field { name: "state", values: |_| vec!["available".to_owned()] },
        Field { name: "zone-id", values: |zone| vec![zone.id.clone()] },
        Field { name: "zone-name", values: |zone| vec![zone.name.clone()] },
        Field { name: "zone-type", values: |_| vec!["availability-zone".to_owned()] },
    ];
}

impl Filtered for Seen<Vpc> {
    const TAGGED: bool = true;
    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.tags)
    }
    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "cidr", values: |seen| vec![seen.thing.cidr.to_string()] },
        Field { name: "is-default", values: |_| vec!["false".to_owned()] },
        Field { name: "owner-id", values: |seen| vec![seen.account.clone()] },
        Field { name: "state", values: |_| vec!["available".to_owned()] },
        Field { name: "vpc-id", values: |seen| vec![seen.vpc.clone()] },
    ];
}

impl Filtered for Seen<Subnet> {
    const TAGGED: bool = true;
    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.tags)
    }
    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "availability-zone", values: |seen| vec![seen.thing.zone.clone()] },
        Field { name: "availability-zone-id", values: |seen| vec![seen.thing.zone_id.clone()] },
        Field { name: "available-ip-address-count", values: |seen| vec![seen.free.to_string()] },
        Field { name: "cidr-block", values: |seen| vec![seen.thing.cidr.to_string()] },
        Field { name: "default-for-az", values: |_| vec!["false".to_owned()] },
        Field { name: "owner-id", values: |seen| vec![seen.account.clone()] },
        Field { name: "state", values: |_| vec!["available".to_owned()] },
        Field { name: "subnet-id", values: |seen| vec![seen.thing.id.clone()] },
        Field { name: "vpc-id", values: |seen| vec![seen.vpc.clone()] },
    ];
}

impl Filtered for Seen<Group> {
    const TAGGED: bool = true;
    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.tags)
    }
    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "description", values: |seen| vec![seen.thing.description.clone()] },
        Field { name: "group-id", values: |seen| vec![seen.thing.id.clone()] },
        Field { name: "group-name", values: |seen| vec![seen.thing.name.clone()] },
        Field { name: "owner-id", values: |seen| vec![seen.account.clone()] },
        Field { name: "vpc-id", values: |seen| vec![seen.vpc.clone()] },
    ];
}
