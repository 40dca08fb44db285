//! A leader whose fence has closed changes nothing, and one that is asked to stop leaves nothing that is lost.

use std::time::Duration;

use orca::clock;
use orca::cloud::memory::{Call, Timing};
use orca::controller::Left;
use orca::leader::Fence;
use orca::pod::intent::Intent;

use crate::support::{World, mk_pod, phase};

/// What was changed: of pods and events, machines that were asked for, and machines that were ended.
fn changes(world: &World) -> [u64; 3] {
    [world.api.writes(), world.cloud.calls(Call::Launch), world.cloud.calls(Call::Terminate)]
}

fn has_intent(world: &World, name: &str) -> bool {
    Intent::read(&world.api.pod(name).unwrap()).is_ok_and(|intent| intent.is_some())
}

/// A world whose ORCA leads until the fence is closed.
fn led() -> World {
    let mut world = World::without_orca();
    world.fence = Fence::closed();
    world.fence.extend(clock::since_boot() + Duration::from_hours(1));
    world.cloud.set_timing(Timing { latency: Duration::from_millis(20), ..Timing::default() });
    world.start_orca();
    world
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_wakes_up_behind_a_closed_fence_changes_nothing_whatever_there_is_to_do() {
    let mut world = led();
    let ended = world.api.create(mk_pod("ended"));
    world.api.create(mk_pod("deleted"));
    world.until_running("ended").await;
    world.until_running("deleted").await;

    world.fence.close();
    let before = changes(&world);
    let waits = world.api.create(mk_pod("waits"));
    world.guests.exit("ended", 0);
    world.api.delete("deleted", 30);
    world.pass_time(3600).await;
    assert_eq!(changes(&world), before);
    assert!(world.fence.refused().get() > 0, "there was something to refuse");
    assert!(world.alive(&waits).is_empty());

    // The next leader does all of it.
    world.kill_orca();
    world.fence = Fence::open();
    world.start_orca();
    world.until_running("waits").await;
    world.machine(&waits);
    world.until("the machine of the ended goes", |world| world.alive(&ended).is_empty()).await;
    world.until("the deleted goes", |world| world.api.pod("deleted").is_none()).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_closes_between_intent_and_launch_leaves_one_machine() {
    let mut world = led();
    world.cloud.set_timing(Timing { latency: Duration::from_secs(2), ..Timing::default() });
    let uid = world.api.create(mk_pod("a"));
    world.until("the intent is written", |world| has_intent(world, "a")).await;
    world.fence.close();
    world.pass_time(600).await;
    assert!(world.alive(&uid).len() <= 1);
    world.kill_orca();
    world.fence = Fence::open();
    world.start_orca();
    world.until_running("a").await;
    world.machine(&uid);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_to_stop_finishes_its_launches_and_begins_no_more() {
    let mut world = led();
    world.cloud.set_timing(Timing { latency: Duration::from_secs(3), ..Timing::default() });
    let uids: Vec<_> = (0..20).map(|n| world.api.create(mk_pod(&format!("p{n}")))).collect();
    world.until("launches are under way", |world| world.cloud.calls(Call::Launch) > 3).await;
    let left = world.draining().drain(Duration::from_secs(60)).await;
    assert_eq!(left, Left::default());
    let before = changes(&world);
    world.pass_time(600).await;
    assert_eq!(changes(&world), before, "nothing is begun any more");
    // Every machine that there is, its pod knows by its id.
    let known = uids.iter().filter(|uid| {
        let pod = world.api.by_uid(uid).unwrap();
        let intent = Intent::read(&pod).ok().flatten();
        intent.and_then(|intent| intent.instance_id) == world.alive(uid).first().map(|it| it.id.clone())
    });
    assert_eq!(known.count(), uids.len());

    world.kill_orca();
    world.start_orca();
    for n in 0..20 {
        world.until_running(&format!("p{n}")).await;
    }
    world.check();
    assert_eq!(world.cloud.calls(Call::Launch), 20, "and none was asked for twice");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_by_the_deadline_is_told() {
    let world = led();
    world.cloud.set_timing(Timing { latency: Duration::from_secs(30), ..Timing::default() });
    world.api.create(mk_pod("slow"));
    world.until("the intent is written", |world| has_intent(world, "slow")).await;
    world.pass_time(1).await;
    let left = world.draining().drain(Duration::from_secs(5)).await;
    assert_eq!(left, Left { passes: 1, launches: 1 });
    assert_eq!(phase(&world.api.pod("slow")), "Pending");
}
