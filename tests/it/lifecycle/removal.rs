//! Removal in phases: drained, ended, confirmed by the cloud; then the Pod goes. Each phase has an end.

use std::time::Duration;

use orca::cloud::InstanceState;
use orca::cloud::memory::Timing;

use crate::support::{World, mk_pod, phase};

fn is_told(world: &World, reason: &str) -> bool {
    world.api.reasons("a").iter().any(|one| one == reason)
}

fn slow(shutdown: u64) -> Timing {
    Timing { shutdown: Duration::from_secs(shutdown), ..Timing::default() }
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_kubelet_is_silent_goes_only_when_the_cloud_says_that_its_machine_is_gone() {
    let world = World::start();
    world.cloud.set_timing(slow(300));
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.guests.cut(true);
    world.api.delete("a", 30);
    world
        .within(Duration::from_secs(120), "its machine is ended", |world| world.alive(&uid).is_empty())
        .await;
    assert!(is_told(&world, "TerminatingInstance"), "the deadline of the drain is told");
    world.pass_time(280).await;
    assert_eq!(phase(&world.api.pod("a")), "Running", "its containers may still run");
    world.within(Duration::from_secs(40), "it goes", |world| world.api.pod("a").is_none()).await;
    assert!(!is_told(&world, "TerminationUnconfirmed"));
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_end_in_time_is_asked_again_and_told_of_and_its_pod_waits() {
    let world = World::start();
    world.cloud.set_timing(slow(3000));
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.guests.cut(true);
    world.api.delete("a", 30);
    world.until("its machine is ended", |world| world.alive(&uid).is_empty()).await;
    world.pass_time(840).await;
    assert!(!is_told(&world, "TerminationUnconfirmed"), "some types take minutes");
    world.pass_time(120).await;
    assert!(is_told(&world, "TerminationUnconfirmed"));
    assert_eq!(phase(&world.api.pod("a")), "Running");
    world.until("it goes", |world| world.api.pod("a").is_none()).await;
    let told = world.api.reasons("a").into_iter().filter(|reason| reason == "TerminationUnconfirmed").count();
    assert!((2..=4).contains(&told), "every quarter of an hour: {told}");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_by_force_takes_the_same_way_without_its_object() {
    let world = World::start();
    world.cloud.set_timing(slow(60));
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.guests.cut(true);
    world.api.delete("a", 0);
    world.pass_time(30).await;
    world.machine(&uid);
    world.within(Duration::from_secs(60), "its machine is ended", |world| world.alive(&uid).is_empty()).await;
    assert!(is_told(&world, "TerminatingInstance"), "{:?}", world.api.reasons("a"));
    world.pass_time(120).await;
    world.until("the link is gone", |world| !world.guests.has_link(&uid)).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn all_pods_of_a_namespace_that_is_deleted_go_and_so_do_their_machines() {
    let world = World::start();
    let uids: Vec<_> = (0..10).map(|i| world.api.create(mk_pod(&format!("p{i}")))).collect();
    world.until_running("p9").await;
    for i in 0..10 {
        world.api.delete(&format!("p{i}"), 30);
    }
    let gone = |world: &World| world.api.pods().is_empty() && world.cloud.alive().is_empty();
    world.within(Duration::from_secs(30), "all are gone", gone).await;
    world.until("no link is left", |world| uids.iter().all(|uid| !world.guests.has_link(uid))).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_second_machine_is_ended_and_reported_however_it_came_to_be() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    let own = world.machine(&uid);
    let copy = world.cloud.copy(&own.id);
    world.until("the copy is ended", |world| world.alive(&uid).len() == 1).await;
    assert_eq!(world.machine(&uid).id, own.id, "the one that the pod names stays");
    assert!(is_told(&world, "DuplicateInstance"), "{:?}", world.api.reasons("a"));
    let count = format!("orca_controller_terminations_total{{why=\"{}\"}} 1\n", orca::pod::decide::DUPLICATE);
    assert!(world.metrics().contains(&count));
    world.pass_time(600).await;
    let states: Vec<_> = world.alive(&uid).into_iter().map(|one| (one.id, one.state)).collect();
    assert_eq!(states, [(own.id, InstanceState::Running)], "{copy} is gone for good");
    world.check();
}
