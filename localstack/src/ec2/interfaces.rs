//! DescribeNetworkInterfaces and DeleteNetworkInterface. Interfaces are made by launches alone.

use std::collections::BTreeMap;

use super::filter::{Field, Filtered, Filters};
use super::ids::Kind;
use super::page::Page;
use super::{Call, render};
use crate::aws::Refusal;
use crate::aws::xml::Xml;
use crate::clock;
use crate::world::devices::{self, Plug, SeenInterface};
use crate::world::{World, host_name};

/// An interface and whose it is.
struct Owned {
    seen: SeenInterface,
    account: String,
}

pub(super) fn describe_network_interfaces(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let ids = scope.texts("NetworkInterfaceId");
    scope.flag("IncludeManagedResources")?;
    let filters = Filters::parse::<Owned>(&scope)?;
    Page::not_with(call.params, "NetworkInterfaceId", "networkInterfaceIdSet")?;
    let page = Page::parse(call.params, 5..=1000)?;
    call.ready()?;
    let mut all = call.world.view(|cloud, now| cloud.interfaces(now));
    if !ids.is_empty() {
        all = Kind::Interface.find_all(&ids, |id| all.iter().find(|seen| seen.id == id).cloned())?;
    }
    let owned = |seen| Owned { seen, account: call.world.account.clone() };
    let passing = all.into_iter().map(owned).filter(|one| filters.pass(one)).collect();
    let (shown, next) = page.cut(passing, |Owned { seen, .. }| format!("{} {}", seen.created, seen.id));
    let mut xml = Xml::default();
    xml.list("networkInterfaceSet", &shown, |xml, one| interface(xml, call.world, one));
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn interface(xml: &mut Xml, world: &World, Owned { seen, account }: &Owned) {
    xml.text("networkInterfaceId", &seen.id);
    xml.text("subnetId", &seen.subnet.id);
    xml.text("vpcId", &seen.subnet.vpc);
    xml.text("availabilityZone", &seen.subnet.zone);
    xml.text("availabilityZoneId", &seen.subnet.zone_id);
    xml.text("description", &seen.description);
    xml.text("ownerId", account);
    xml.text("requesterManaged", false);
    xml.text("status", devices::status(seen.attachment.is_some()));
    xml.text("macAddress", &seen.mac);
    xml.maybe("privateIpAddress", seen.addresses.first());
    xml.maybe("privateDnsName", seen.addresses.first().copied().map(host_name));
    xml.text("sourceDestCheck", true);
    render::groups(xml, world, &seen.groups);
    if let Some(Plug { id, attachment, device_index, card, delete_on_termination }) = &seen.attachment {
        xml.element("attachment", |xml| {
            xml.text("attachmentId", id);
            xml.text("instanceId", &attachment.instance_id);
            xml.text("instanceOwnerId", account);
            xml.text("deviceIndex", device_index);
            xml.text("networkCardIndex", card);
            xml.text("status", attachment.status);
            xml.text("attachTime", clock::iso(attachment.at));
            xml.text("deleteOnTermination", delete_on_termination);
        });
    }
    render::tags(xml, &seen.tags);
    render::addresses(xml, seen.addresses.iter().copied());
    xml.text("interfaceType", seen.kind);
}

pub(super) fn delete_network_interface(call: &Call<'_>) -> Result<Xml, Refusal> {
    let id = call.params.root().required("NetworkInterfaceId");
    call.known()?;
    let id = id?;
    Kind::Interface.check(id)?;
    call.world.change(|cloud, now| {
        let all = cloud.interfaces(now);
        let found = all.iter().find(|seen| seen.id == id);
        let found = found.ok_or_else(|| Kind::Interface.not_found(&[id]))?;
        if found.attachment.is_some() {
            // Here EC2 does not say `InvalidNetworkInterface.InUse`, which is for launches that name an interface.
            let message = format!("Network interface '{id}' is currently in use.");
            return Err(Refusal::new("InvalidParameterValue", message));
        }
        call.wet()?;
        cloud.delete_interface(id);
        Ok(())
    })?;
    let mut xml = Xml::default();
    xml.text("return", true);
    Ok(xml)
}

fn plugged(one: &Owned, value: fn(&Owned, &Plug) -> String) -> Vec<String> {
    one.seen.attachment.iter().map(|plug| value(one, plug)).collect()
}

impl Filtered for Owned {
    const TAGGED: bool = true;

    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.seen.tags)
    }

    const FIELDS: &'static [Field<Self>] = &[
        Field {
            name: "addresses.primary",
            values: |o| (0..o.seen.addresses.len()).map(|number| (number == 0).to_string()).collect(),
        },
        Field {
            name: "addresses.private-ip-address",
            values: |o| o.seen.addresses.iter().map(ToString::to_string).collect(),
        },
        Field {
            name: "attachment.attach-time",
            values: |o| plugged(o, |_, plug| clock::iso(plug.attachment.at)),
        },
        Field { name: "attachment.attachment-id", values: |o| plugged(o, |_, plug| plug.id.clone()) },
        Field {
            name: "attachment.delete-on-termination",
            values: |o| plugged(o, |_, plug| plug.delete_on_termination.to_string()),
        },
        Field {
            name: "attachment.device-index",
            values: |o| plugged(o, |_, plug| plug.device_index.to_string()),
        },
        Field {
            name: "attachment.instance-id",
            values: |o| plugged(o, |_, plug| plug.attachment.instance_id.clone()),
        },
        Field { name: "attachment.instance-owner-id", values: |o| plugged(o, |o, _| o.account.clone()) },
        Field {
            name: "attachment.status",
            values: |o| plugged(o, |_, plug| plug.attachment.status.to_owned()),
        },
        Field { name: "availability-zone", values: |o| vec![o.seen.subnet.zone.clone()] },
        Field { name: "availability-zone-id", values: |o| vec![o.seen.subnet.zone_id.clone()] },
        Field { name: "description", values: |o| vec![o.seen.description.clone()] },
        Field { name: "group-id", values: |o| o.seen.groups.clone() },
        Field { name: "interface-type", values: |o| vec![o.seen.kind.to_owned()] },
        Field { name: "mac-address", values: |o| vec![o.seen.mac.clone()] },
        Field { name: "network-interface-id", values: |o| vec![o.seen.id.clone()] },
        Field { name: "owner-id", values: |o| vec![o.account.clone()] },
        Field {
            name: "private-dns-name",
            values: |o| o.seen.addresses.iter().take(1).map(|address| host_name(*address)).collect(),
        },
        Field {
            name: "private-ip-address",
            values: |o| o.seen.addresses.iter().take(1).map(ToString::to_string).collect(),
        },
        Field { name: "requester-managed", values: |_| vec!["false".to_owned()] },
        Field { name: "source-dest-check", values: |_| vec!["true".to_owned()] },
        Field { name: "status", values: |o| vec![devices::status(o.seen.attachment.is_some()).to_owned()] },
        Field { name: "subnet-id", values: |o| vec![o.seen.subnet.id.clone()] },
        Field { name: "vpc-id", values: |o| vec![o.seen.subnet.vpc.clone()] },
    ];
}
