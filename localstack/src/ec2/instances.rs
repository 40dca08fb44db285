//! DescribeInstances.

use std::collections::BTreeMap;

use super::filter::{Field, Filtered, Filters};
use super::ids::Kind;
use super::page::Page;
use super::{Call, render};
use crate::aws::Refusal;
use crate::aws::xml::Xml;
use crate::clock;
use crate::world::devices::Volume;
use crate::world::instance::{Instance, State};
use crate::world::purchase::Target;

pub(super) fn describe_instances(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let ids = scope.texts("InstanceId");
    scope.flag("IncludeManagedResources")?;
    let filters = Filters::parse::<Instance>(&scope)?;
    Page::not_with(call.params, "InstanceId", "instancesSet")?;
    let page = Page::parse(call.params, 5..=1000)?;
    call.ready()?;
    let instances = visible(call, &ids)?;
    let passing: Vec<Instance> = instances.into_iter().filter(|instance| filters.pass(instance)).collect();
    let (shown, next) = page.cut(passing, |instance| format!("{:016}", instance.sequence));
    let mut xml = Xml::default();
    let reservations: Vec<&[Instance]> =
        shown.chunk_by(|one, other| one.reservation_id == other.reservation_id).collect();
    xml.list("reservationSet", reservations, |xml, instances| {
        render::reservation(xml, call.world, &instances[0].reservation_id);
        xml.list("instancesSet", instances, |xml, instance| render::instance(xml, call.world, instance));
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

/// The named instances, each of which must be visible, or all visible ones.
pub(super) fn visible(call: &Call<'_>, ids: &[&str]) -> Result<Vec<Instance>, Refusal> {
    call.world.view(|cloud, now| {
        let visible = cloud.visible(now);
        if ids.is_empty() {
            return Ok(visible.into_iter().cloned().collect());
        }
        Kind::Instance.find_all(ids, |id| visible.iter().find(|instance| instance.id == id).copied().cloned())
    })
}

fn one(value: &(impl ToString + ?Sized)) -> Vec<String> {
    vec![value.to_string()]
}

/// A value that a terminated instance has lost.
fn attached(instance: &Instance, value: &str) -> Vec<String> {
    if instance.state == State::Terminated { Vec::new() } else { one(value) }
}

/// Of each volume that it has.
fn drives(instance: &Instance, value: fn(&Volume) -> String) -> Vec<String> {
    if instance.state == State::Terminated {
        return Vec::new();
    }
    instance.volumes.iter().map(value).collect()
}

fn unless_terminated(instance: &Instance, values: &[String]) -> Vec<String> {
    if instance.state == State::Terminated { Vec::new() } else { values.to_vec() }
}

impl Filtered for Instance {
    const TAGGED: bool = true;

    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.tags)
    }

    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "architecture", values: |i| one(&i.kind.architecture) },
        Field { name: "availability-zone", values: |i| one(&i.subnet.zone) },
        Field { name: "availability-zone-id", values: |i| one(&i.subnet.zone_id) },
        Field {
            name: "block-device-mapping.delete-on-termination",
            values: |i| drives(i, |volume| volume.delete_on_termination.to_string()),
        },
        Field {
            name: "block-device-mapping.device-name",
            values: |i| drives(i, |volume| volume.device.clone()),
        },
        Field { name: "block-device-mapping.volume-id", values: |i| drives(i, |volume| volume.id.clone()) },
        Field {
            name: "capacity-reservation-id",
            values: |i| i.purchase.reservation.iter().cloned().collect(),
        },
        Field {
            name: "capacity-reservation-specification.capacity-reservation-preference",
            values: |i| i.purchase.asked.preference.map(|it| it.name().to_owned()).into_iter().collect(),
        },
        Field {
            name: "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id",
            values: |i| match &i.purchase.asked.target {
                Some(Target::Id(id)) => one(id),
                Some(Target::Group(_)) | None => Vec::new(),
            },
        },
        Field {
            name: "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn",
            values: |i| match &i.purchase.asked.target {
                Some(Target::Group(arn)) => one(arn),
                Some(Target::Id(_)) | None => Vec::new(),
            },
        },
        Field { name: "client-token", values: |i| i.client_token.iter().cloned().collect() },
        Field { name: "hypervisor", values: |_| one(&"xen") },
        Field { name: "image-id", values: |i| one(&i.image.id) },
        Field { name: "instance-id", values: |i| one(&i.id) },
        // Empty for on-demand, and then no value matches.
        Field {
            name: "instance-lifecycle",
            values: |i| i.purchase.lifecycle.name().map(str::to_owned).into_iter().collect(),
        },
        Field { name: "instance-state-code", values: |i| one(&i.state.code()) },
        Field { name: "instance-state-name", values: |i| one(&i.state.name()) },
        Field { name: "instance-type", values: |i| one(&i.kind.name) },
        Field { name: "instance.group-id", values: |i| unless_terminated(i, &i.groups) },
        Field { name: "launch-time", values: |i| one(&clock::iso(i.launched)) },
        Field {
            name: "metadata-options.http-tokens",
            values: |i| one(&if i.metadata.tokens_required { "required" } else { "optional" }),
        },
        Field { name: "network-interface.network-interface-id", values: |i| attached(i, &i.interface.id) },
        Field { name: "network-interface.mac-address", values: |i| attached(i, &i.interface.mac) },
        Field {
            name: "network-interface.addresses.private-ip-address",
            values: |i| i.addresses().map(|a| a.to_string()).collect(),
        },
        Field { name: "network-interface.subnet-id", values: |i| attached(i, &i.subnet.id) },
        Field { name: "private-dns-name", values: |i| attached(i, &render::private_dns(i)) },
        Field {
            name: "private-ip-address",
            values: |i| i.addresses().take(1).map(|a| a.to_string()).collect(),
        },
        Field { name: "reservation-id", values: |i| one(&i.reservation_id) },
        Field { name: "root-device-name", values: |i| one(&i.image.root_device) },
        Field { name: "root-device-type", values: |_| one(&"ebs") },
        Field {
            name: "spot-instance-request-id",
            values: |i| i.purchase.spot.iter().map(|spot| spot.id.clone()).collect(),
        },
        Field {
            name: "state-reason-code",
            values: |i| i.reason.iter().map(|reason| reason.code.clone()).collect(),
        },
        Field { name: "subnet-id", values: |i| attached(i, &i.subnet.id) },
        Field { name: "tenancy", values: |i| one(i.purchase.tenancy.name()) },
        Field { name: "virtualization-type", values: |_| one(&"hvm") },
        Field { name: "vpc-id", values: |i| attached(i, &i.subnet.vpc) },
    ];
}
