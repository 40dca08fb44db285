//! Two thousand pods at once: who else wants something does not wait for them.

use std::time::Duration;

use orca::cloud::memory::Timing;
use serde_json::json;

use crate::support::{World, mk_pod};

const BURST: usize = 2000;

#[tokio::test(start_paused = true)]
async fn a_burst_of_2000_pods_holds_up_neither_another_namespace_nor_a_deletion() {
    let mut world = World::without_orca();
    world.config.limits.max_concurrent_instances = 10_000;
    world.cloud.set_free_addresses(10_000);
    world.start_orca();
    world.cloud.set_timing(Timing { latency: Duration::from_millis(20), ..Timing::default() });
    world.cloud.pace_launches(Duration::from_millis(100));
    world.guests.never_reach(u32::MAX);
    world.pass_time(1).await;
    for i in 0..BURST {
        world.api.create(mk_pod(&format!("p{i}")));
    }
    world.pass_time(20).await;
    let sent = world.cloud.sent().len();
    assert!((150..=250).contains(&sent), "ten a second: {sent}");

    let mut pod = mk_pod("other");
    pod["metadata"]["namespace"] = json!("other");
    let other = world.api.create(pod);
    let is_sent = |world: &World| {
        let sent = world.cloud.sent();
        sent.iter().rev().any(|(_, spec)| spec.tags["orca.research/pod-uid"] == other)
    };
    world.within(Duration::from_secs(2), "the other namespace has its turn", is_sent).await;

    let waiting = format!("p{}", BURST - 1);
    world.api.delete(&waiting, 30);
    let is_gone = |world: &World| world.api.pod(&waiting).is_none();
    world.within(Duration::from_secs(1), "a pod that waits goes at once", is_gone).await;
    let booting = world.api.pod("p0").unwrap().metadata.uid.unwrap();
    world.api.delete("p0", 30);
    let is_gone = |world: &World| world.api.pod("p0").is_none() && world.alive(&booting).is_empty();
    world.within(Duration::from_secs(2), "so does one with a machine, and the machine", is_gone).await;
    assert!(world.cloud.sent().len() < BURST / 4, "all that while most of the burst still waits");
}
