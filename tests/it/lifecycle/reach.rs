//! Machines that cannot be reached, whichever it is, cost neither money nor pods.

use std::time::Duration;

use orca::link::Prober;

use super::message_of;
use crate::support::{World, mk_pod, phase};

#[tokio::test(start_paused = true)]
async fn while_sessions_are_refused_no_machine_is_launched_or_given_up_and_what_runs_goes_on() {
    let world = World::start();
    world.api.create(mk_pod("runs"));
    world.until_running("runs").await;
    let uid = world.api.create(mk_pod("boots"));
    world.until("it has a machine", |world| world.cloud.sent().len() == 2).await;
    let machine = world.machine(&uid);
    world.guests.refuse_sessions(Prober::Links);
    for i in 0..20 {
        world.api.create(mk_pod(&format!("waits{i}")));
    }
    // Six times the boot deadline.
    world.pass_time(3600).await;
    assert_eq!(world.cloud.sent().len(), 2, "nothing is launched");
    assert_eq!(world.machine(&uid).id, machine.id, "and none is given up");
    assert_eq!(phase(&world.api.pod("runs")), "Running");
    assert_eq!(world.api.reasons("runs"), ["Launching", "Launched", "Booting", "Attached"]);
    let message = message_of(&world, "boots");
    assert!(message.contains("waits to be reached, as all do: access denied"), "{message}");
    let message = message_of(&world, "waits7");
    let expected = "launches of all pods wait, since no machine can be reached: access denied: AccessDeniedException: no";
    assert!(message.contains(expected), "{message}");
    assert!(world.api.reasons("waits7").contains(&"MachinesUnreachable".to_owned()));
    assert!(world.stuck().launches.is_some_and(|launches| launches.contains("no machine can be reached")));

    world.guests.give_sessions();
    let names: Vec<String> = (0..20).map(|i| format!("waits{i}")).chain(["boots".to_owned()]).collect();
    let all_run = |world: &World| names.iter().all(|name| phase(&world.api.pod(name)) == "Running");
    world.within(Duration::from_secs(60), "its end wakes everybody", all_run).await;
    assert_eq!(world.machine(&uid).id, machine.id);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn where_nobody_else_finds_out_whether_machines_can_be_reached_one_is_launched_for_it() {
    let world = World::start();
    world.pass_time(1).await;
    world.guests.refuse_sessions(Prober::NextMachine);
    let names: Vec<String> = (0..10).map(|i| format!("p{i}")).collect();
    for name in &names {
        world.api.create(mk_pod(name));
    }
    world.pass_time(250).await;
    assert_eq!(world.cloud.sent().len(), 1);
    // It was refused, too, and tries from now on.
    world.guests.refuse_sessions(Prober::Links);
    world.pass_time(3600).await;
    assert_eq!(world.cloud.sent().len(), 1);
    world.guests.give_sessions();
    for name in &names {
        world.until_running(name).await;
    }
    world.check();
}
