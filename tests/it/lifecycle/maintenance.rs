//! What the cloud announces for a machine reaches its pod, and a machine that will be gone is left in time.

use std::time::Duration;

use jiff::Timestamp;
use orca::clock;
use orca::cloud::memory::Call;
use orca::cloud::{CloudError, EventKind};

use crate::support::{NODE, World, mk_pod, phase, reason};

const EVENT: &str = "instance-event-0d59937288b749b32";

fn within(minutes: i64) -> Timestamp {
    Timestamp::from_second(clock::now().as_second() + minutes * 60).unwrap()
}

/// What a pod, or the node, was told with this reason.
fn told(world: &World, about: &str, reason: &str) -> Vec<String> {
    let prefix = format!("{about}: {reason} ");
    let stories = world.api.stories();
    stories.iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// A pod that runs, and the id of its machine.
async fn running(world: &World) -> String {
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.machine(&uid).id
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_retired_is_announced_and_left_in_good_order_before() {
    let world = World::start();
    let id = running(&world).await;
    let at = within(180);
    world.cloud.schedule(EVENT, &id, EventKind::InstanceRetirement, at);
    world
        .within(Duration::from_secs(310), "it is told", |world| {
            !told(world, "a", "ScheduledMaintenance").is_empty()
        })
        .await;
    let text = told(&world, "a", "ScheduledMaintenance").remove(0);
    assert!(
        text.starts_with(&format!("EC2 retires instance {id} (instance-retirement, {EVENT}) at {at}")),
        "{text}"
    );
    world.pass_time(2 * 3600).await;
    assert_eq!(told(&world, "a", "ScheduledMaintenance").len(), 1, "once");
    assert_eq!(phase(&world.api.pod("a")), "Running", "and it is used for as long as it is there");

    world.until("its machine goes", |world| world.cloud.alive().is_empty()).await;
    let left = at.duration_since(clock::now()).as_secs();
    // The grace of half a minute, and five more.
    assert!((300..=330).contains(&left), "{left} s were left");
    world.until("it has failed", |world| phase(&world.api.pod("a")) == "Failed").await;
    let story = told(&world, "a", "MachineRetiring");
    assert!(story.len() == 1 && story[0].contains("its containers are asked to end"), "{story:?}");
    let exit = world.api.pod("a").unwrap().status.unwrap().container_statuses.unwrap()[0].state.clone();
    assert_eq!(exit.unwrap().terminated.unwrap().exit_code, 143, "by its own kubelet");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn reboots_and_maintenance_are_announced_and_nothing_is_ended_for_them() {
    let world = World::start();
    let id = running(&world).await;
    for (number, kind) in [EventKind::InstanceReboot, EventKind::SystemReboot, EventKind::SystemMaintenance]
        .into_iter()
        .enumerate()
    {
        world.cloud.schedule(&format!("instance-event-{number}"), &id, kind, within(30));
    }
    world.pass_time(600).await;
    assert_eq!(told(&world, "a", "ScheduledMaintenance").len(), 3);
    assert!(
        world.metrics().contains("orca_controller_scheduled_events{kind=\"system-reboot\"} 1\n"),
        "{}",
        world.metrics()
    );
    world.pass_time(3600).await;
    let all = told(&world, "a", "ScheduledMaintenance");
    assert_eq!(all.len(), 6, "{all:#?}");
    assert!(all[3..].iter().all(|text| text.contains("is over")), "{all:#?}");
    assert_eq!((phase(&world.api.pod("a")), world.cloud.alive().len()), ("Running".to_owned(), 1));
    assert!(told(&world, "a", "MachineRetiring").is_empty());
    assert!(world.metrics().contains("orca_controller_scheduled_events{kind=\"system-reboot\"} 0\n"));
    world.check();
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_put_off_is_told_again_and_one_that_is_canceled_ends_nothing() {
    let world = World::start();
    let id = running(&world).await;
    world.cloud.schedule(EVENT, &id, EventKind::InstanceStop, within(60));
    world.pass_time(600).await;
    world.cloud.schedule(EVENT, &id, EventKind::InstanceStop, within(120));
    world.pass_time(3600 + 600).await;
    assert_eq!(told(&world, "a", "ScheduledMaintenance").len(), 2);
    assert_eq!(phase(&world.api.pod("a")), "Running");
    // Close to its time it is looked at more often.
    world.pass_time(2400).await;
    world.cloud.cancel(EVENT);
    world.pass_time(3600).await;
    let all = told(&world, "a", "ScheduledMaintenance");
    assert!(all.len() == 3 && all[2].contains("EC2 canceled it"), "{all:#?}");
    assert_eq!((phase(&world.api.pod("a")), world.cloud.alive().len()), ("Running".to_owned(), 1));
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_stopped_all_the_same_fails_its_pod_and_is_ended() {
    let world = World::start();
    let id = running(&world).await;
    // Sooner than anybody could read it.
    world.cloud.schedule(EVENT, &id, EventKind::InstanceStop, within(0));
    world
        .within(Duration::from_secs(60), "it has failed", |world| phase(&world.api.pod("a")) == "Failed")
        .await;
    assert_eq!(reason(&world.api.pod("a")), "InstanceTerminated");
    assert!(world.cloud.alive().is_empty());
    assert_eq!(told(&world, "a", "InstanceStopped").len(), 1);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_list_of_events_that_is_denied_is_told_once_and_asked_for_every_hour() {
    let world = World::start();
    for _ in 0..3 {
        let denied =
            CloudError::Denied { code: "UnauthorizedOperation".to_owned(), message: "no".to_owned() };
        world.cloud.next_error(Call::Events, denied);
    }
    running(&world).await;
    let before = world.cloud.calls(Call::Events);
    world.pass_time(3 * 3600 - 300).await;
    assert_eq!((before, world.cloud.calls(Call::Events)), (0, 3));
    let node = told(&world, NODE, "ScheduledEventsUnknown");
    assert!(node.len() == 1 && node[0].contains("UnauthorizedOperation"), "{node:?}");
    // Granted at last.
    let id = world.cloud.alive()[0].id.clone();
    world.cloud.schedule(EVENT, &id, EventKind::SystemReboot, within(6000));
    world
        .within(Duration::from_secs(3600), "it is told", |world| {
            !told(world, "a", "ScheduledMaintenance").is_empty()
        })
        .await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_list_of_events_that_fails_is_asked_for_again_and_what_is_known_stays() {
    let world = World::start();
    let id = running(&world).await;
    let at = within(60);
    world.cloud.schedule(EVENT, &id, EventKind::InstanceRetirement, at);
    world.pass_time(310).await;
    assert_eq!(told(&world, "a", "ScheduledMaintenance").len(), 1);
    for _ in 0..1000 {
        let away = CloudError::Transient { code: "InternalError".to_owned(), message: "oh".to_owned() };
        world.cloud.next_error(Call::Events, away);
    }
    world.until("its machine goes", |world| world.cloud.alive().is_empty()).await;
    assert!(clock::now() < at, "in time");
    assert_eq!(told(&world, "a", "MachineRetiring").len(), 1);
    assert!(world.cloud.calls(Call::Events) < 40, "{}", world.cloud.calls(Call::Events));
    world.check();
}
