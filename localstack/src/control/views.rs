//! The world and its instances as JSON.

use serde_json::{Value, json};

use crate::ec2::catalog::CATALOG;
use crate::world::World;
use crate::world::events::Event;
use crate::world::instance::Instance;
use crate::world::past::Past;

/// The ids of everything that exists without being launched.
pub(super) fn world(world: &World) -> Value {
    let estate = &world.estate;
    world.view(|cloud, _| {
        let subnets: Vec<Value> = estate
            .subnets
            .iter()
            .map(|subnet| {
                json!({
                    "id": subnet.id,
                    "cidr": subnet.cidr.to_string(),
                    "zone": subnet.zone,
                    "zone_id": subnet.zone_id,
                    "free_addresses": cloud.subnet(&subnet.id).free(),
                })
            })
            .collect();
        let named = |id: &str, name: &str| json!({ "id": id, "name": name });
        json!({
            "region": world.region,
            "account": world.account,
            "vpc": { "id": estate.vpc.id, "cidr": estate.vpc.cidr.to_string() },
            "subnets": subnets,
            "security_groups": estate.groups.iter().map(|group| named(&group.id, &group.name)).collect::<Vec<_>>(),
            "images": estate.images.iter().map(|image| named(&image.id, &image.name)).collect::<Vec<_>>(),
            "instance_profiles": estate.profiles.iter().map(|profile| &profile.name).collect::<Vec<_>>(),
            "instance_types": CATALOG.iter().map(|kind| kind.name).collect::<Vec<_>>(),
        })
    })
}

/// All instances in the order of their launch, also those that descriptions do not show yet.
pub(super) fn instances(world: &World) -> Value {
    world.view(|cloud, _| {
        let mut all: Vec<&Instance> = cloud.instances.values().collect();
        all.sort_by_key(|instance| instance.sequence);
        all.into_iter().map(|instance| instance_json(world, instance)).collect()
    })
}

/// The life of every instance that there ever was, those that descriptions have forgotten first.
pub(super) fn history(world: &World) -> Value {
    world.view(|cloud, _| {
        let present = cloud.instances.values().map(Past::of);
        let all: Vec<Past> = cloud.past.iter().cloned().chain(present).collect();
        json!(all)
    })
}

/// The ids of the volumes and network interfaces that no instance has.
pub(super) fn left(world: &World) -> Value {
    world.view(|cloud, _| {
        json!(cloud.left.volumes.keys().chain(cloud.left.interfaces.keys()).collect::<Vec<_>>())
    })
}

fn event_json(event: &Event) -> Value {
    json!({ "id": event.id, "code": event.code, "description": event.description(), "not_before": event.not_before })
}

fn instance_json(world: &World, instance: &Instance) -> Value {
    let addresses: Vec<String> = instance.addresses().map(|address| address.to_string()).collect();
    json!({
        "id": instance.id,
        "state": instance.state.name(),
        "since": instance.since,
        "reason": instance.reason,
        "machine": format!("{:?}", instance.machine),
        "agent_online": world.machines().agent_online(&instance.id),
        "instance_type": instance.kind.name,
        "image_id": instance.image.id,
        "zone": instance.subnet.zone,
        "subnet_id": instance.subnet.id,
        "addresses": addresses,
        "client_token": instance.client_token,
        "lifecycle": instance.purchase.lifecycle.name().unwrap_or("on-demand"),
        "capacity_reservation_id": instance.purchase.reservation,
        "interruption_at": instance.notices.interruption,
        "launched_at": instance.launched,
        "events": instance.events.iter().map(event_json).collect::<Vec<_>>(),
        "tags": instance.tags,
    })
}
