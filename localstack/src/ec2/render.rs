//! An instance in EC2's XML.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::aws::xml::Xml;
use crate::clock;
use crate::world::devices::EfaOnly;
use crate::world::instance::{Instance, State};
use crate::world::purchase::{Preference, Purchase, Specification, Target};
use crate::world::{World, host_name};

/// Everything inside an instance's `item`. What a terminated instance has lost is left out, as EC2 does.
pub(super) fn instance(xml: &mut Xml, world: &World, instance: &Instance) {
    let attached = instance.state != State::Terminated;
    let addresses: Vec<_> = instance.addresses().collect();
    xml.text("instanceId", &instance.id);
    xml.text("imageId", &instance.image.id);
    state(xml, "instanceState", instance.state);
    xml.text("privateDnsName", private_dns(instance));
    xml.text("dnsName", "");
    xml.text("reason", &instance.transition);
    xml.text("amiLaunchIndex", instance.launch_index);
    xml.list("productCodes", [(); 0], |_, ()| {});
    xml.text("instanceType", instance.kind.name);
    xml.text("launchTime", clock::iso(instance.launched));
    xml.element("placement", |xml| {
        xml.text("availabilityZone", &instance.subnet.zone);
        xml.text("availabilityZoneId", &instance.subnet.zone_id);
        xml.text("groupName", "");
        xml.text("tenancy", instance.purchase.tenancy.name());
    });
    xml.element("monitoring", |xml| {
        xml.text("state", if instance.features.monitoring { "enabled" } else { "disabled" });
    });
    if attached {
        xml.text("subnetId", &instance.subnet.id);
        xml.text("vpcId", &instance.subnet.vpc);
        xml.maybe("privateIpAddress", addresses.first());
        xml.text("sourceDestCheck", true);
    }
    groups(xml, world, if attached { &instance.groups } else { &[] });
    if let Some(reason) = &instance.reason {
        xml.element("stateReason", |xml| {
            xml.text("code", &reason.code);
            xml.text("message", &reason.message);
        });
    }
    xml.text("architecture", instance.kind.architecture);
    xml.text("rootDeviceType", "ebs");
    xml.text("rootDeviceName", &instance.image.root_device);
    volumes(xml, instance);
    xml.text("virtualizationType", "hvm");
    xml.text("clientToken", instance.client_token.as_deref().unwrap_or(""));
    tags(xml, &instance.tags);
    // EC2 says xen for Nitro types too.
    xml.text("hypervisor", "xen");
    let interfaces = attached.then(|| {
        std::iter::once(None).chain(instance.interface.efa_only.iter().map(Some)).collect::<Vec<_>>()
    });
    xml.list("networkInterfaceSet", interfaces.unwrap_or_default(), |xml, further| match further {
        None => interface(xml, world, instance),
        Some(further) => efa_only(xml, world, instance, further),
    });
    if let Some(profile) = &instance.profile {
        xml.element("iamInstanceProfile", |xml| {
            xml.text("arn", profile_arn(world, &profile.name));
            xml.text("id", &profile.id);
        });
    }
    xml.text("ebsOptimized", instance.features.ebs_optimized);
    xml.text("enaSupport", true);
    xml.element("cpuOptions", |xml| {
        xml.text("coreCount", instance.kind.cores());
        xml.text("threadsPerCore", instance.kind.threads_per_core);
    });
    purchase(xml, &instance.purchase);
    xml.element("hibernationOptions", |xml| xml.text("configured", false));
    xml.element("enclaveOptions", |xml| xml.text("enabled", false));
    xml.element("metadataOptions", |xml| {
        xml.text("state", if instance.state == State::Pending { "pending" } else { "applied" });
        xml.text("httpTokens", if instance.metadata.tokens_required { "required" } else { "optional" });
        xml.text("httpPutResponseHopLimit", instance.metadata.hop_limit);
        xml.text("httpEndpoint", "enabled");
        xml.text("httpProtocolIpv6", "disabled");
        xml.text("instanceMetadataTags", "disabled");
    });
    xml.text("platformDetails", "Linux/UNIX");
    xml.text("usageOperation", "RunInstances");
    xml.text("usageOperationUpdateTime", clock::iso(instance.launched));
}

/// How it was bought. Without any wish for reservations, EC2 says `open`.
fn purchase(xml: &mut Xml, purchase: &Purchase) {
    xml.maybe("instanceLifecycle", purchase.lifecycle.name());
    xml.maybe("spotInstanceRequestId", purchase.spot.as_ref().map(|spot| &spot.id));
    xml.maybe("capacityReservationId", purchase.reservation.as_ref());
    xml.maybe("capacityBlockId", purchase.block.as_ref());
    let Specification { preference, target } = &purchase.asked;
    let preference = preference.or(target.is_none().then_some(Preference::Open));
    xml.element("capacityReservationSpecification", |xml| {
        xml.maybe("capacityReservationPreference", preference.map(Preference::name));
        if let Some(target) = target {
            xml.element("capacityReservationTarget", |xml| match target {
                Target::Id(id) => xml.text("capacityReservationId", id),
                Target::Group(arn) => xml.text("capacityReservationResourceGroupArn", arn),
            });
        }
    });
}

/// The first elements of a reservation, before its instances.
pub(super) fn reservation(xml: &mut Xml, world: &World, id: &str) {
    xml.text("reservationId", id);
    xml.text("ownerId", &world.account);
    xml.list("groupSet", [(); 0], |_, ()| {});
}

pub(super) fn state(xml: &mut Xml, name: &str, state: State) {
    xml.element(name, |xml| {
        xml.text("code", state.code());
        xml.text("name", state.name());
    });
}

pub(super) fn tags(xml: &mut Xml, tags: &BTreeMap<String, String>) {
    xml.list("tagSet", tags, |xml, (key, value)| {
        xml.text("key", key);
        xml.text("value", value);
    });
}

pub(super) fn profile_arn(world: &World, name: &str) -> String {
    format!("arn:aws:iam::{}:instance-profile/{name}", world.account)
}

/// `ip-10-88-1-4.ec2.internal`; nothing for a terminated instance.
pub(super) fn private_dns(instance: &Instance) -> String {
    instance.addresses().next().map_or_else(String::new, host_name)
}

pub(super) fn groups(xml: &mut Xml, world: &World, ids: &[String]) {
    let groups = ids.iter().filter_map(|id| world.estate.group(id));
    xml.list("groupSet", groups, |xml, group| {
        xml.text("groupId", &group.id);
        xml.text("groupName", &group.name);
    });
}

fn volumes(xml: &mut Xml, instance: &Instance) {
    let (attached, status) = match instance.state {
        State::Terminated => (&[] as &[_], ""),
        State::Pending => (&instance.volumes[..], "attaching"),
        State::Running | State::ShuttingDown | State::Stopping | State::Stopped => {
            (&instance.volumes[..], "attached")
        }
    };
    xml.list("blockDeviceMapping", attached, |xml, volume| {
        xml.text("deviceName", &volume.device);
        xml.element("ebs", |xml| {
            xml.text("volumeId", &volume.id);
            xml.text("status", status);
            xml.text("attachTime", clock::iso(instance.launched));
            xml.text("deleteOnTermination", volume.delete_on_termination);
        });
    });
}

fn interface(xml: &mut Xml, world: &World, instance: &Instance) {
    let interface = &instance.interface;
    xml.text("networkInterfaceId", &interface.id);
    xml.text("subnetId", &instance.subnet.id);
    xml.text("vpcId", &instance.subnet.vpc);
    xml.text("description", &interface.description);
    xml.text("ownerId", &world.account);
    xml.text("status", "in-use");
    xml.text("macAddress", &interface.mac);
    xml.text("privateIpAddress", interface.primary);
    xml.text("privateDnsName", host_name(interface.primary));
    xml.text("sourceDestCheck", true);
    groups(xml, world, &instance.groups);
    xml.element("attachment", |xml| {
        xml.text("attachmentId", &interface.attachment_id);
        xml.text("deviceIndex", 0);
        xml.text("networkCardIndex", 0);
        xml.text("status", if instance.state == State::Pending { "attaching" } else { "attached" });
        xml.text("attachTime", clock::iso(instance.launched));
        xml.text("deleteOnTermination", interface.delete_on_termination);
    });
    addresses(xml, instance.addresses());
    xml.text("interfaceType", interface.kind());
}

fn efa_only(xml: &mut Xml, world: &World, instance: &Instance, interface: &EfaOnly) {
    xml.text("networkInterfaceId", &interface.id);
    xml.text("subnetId", &instance.subnet.id);
    xml.text("vpcId", &instance.subnet.vpc);
    xml.text("ownerId", &world.account);
    xml.text("status", "in-use");
    xml.text("macAddress", &interface.mac);
    groups(xml, world, &instance.groups);
    xml.element("attachment", |xml| {
        xml.text("attachmentId", &interface.attachment_id);
        xml.text("deviceIndex", 1);
        xml.text("networkCardIndex", interface.card);
        xml.text("status", if instance.state == State::Pending { "attaching" } else { "attached" });
        xml.text("attachTime", clock::iso(instance.launched));
        xml.text("deleteOnTermination", true);
    });
    addresses(xml, std::iter::empty());
    xml.text("interfaceType", "efa-only");
}

/// The addresses of an interface, of which the first is the primary one.
pub(super) fn addresses(xml: &mut Xml, all: impl IntoIterator<Item = Ipv4Addr>) {
    xml.list("privateIpAddressesSet", all.into_iter().enumerate(), |xml, (number, address)| {
        xml.text("privateIpAddress", address);
        xml.text("privateDnsName", host_name(address));
        xml.text("primary", number == 0);
    });
    xml.list("ipv6AddressesSet", [(); 0], |_, ()| {});
}
