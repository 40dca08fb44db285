//! Machines that no pod owns are counted, with what they cost, told of, and ended.

use crate::support::{World, mk_pod};

/// The value of a series, by its name and labels.
pub(super) fn metric(world: &World, name: &str) -> Option<f64> {
    let page = world.metrics();
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_a_pod_is_counted_with_its_price_told_of_and_ended() {
    let mut world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.api.create(mk_pod("b"));
    world.until_running("b").await;
    let id = world.machine(&uid).id;
    world.kill_orca();
    world.api.delete("a", 0);
    world.start_orca();
    world
        .until("it is counted", |world| {
            metric(world, "orca_controller_orphaned_instances") == Some(1.0)
                && metric(world, "orca_controller_orphaned_hourly_cost_dollars")
                    .is_some_and(|cost| cost > 0.0)
        })
        .await;
    world.until("it goes", |world| world.alive(&uid).is_empty()).await;
    world
        .until("none is left", |world| metric(world, "orca_controller_orphaned_instances") == Some(0.0))
        .await;
    let told: Vec<String> =
        world.api.stories().into_iter().filter(|story| story.contains("OrphanedInstance")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("orca: ") && told[0].contains(&id), "{told:?}");
    world.check();
}
