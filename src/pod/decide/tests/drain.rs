//! Machines that are taken away.

use super::world::*;
use super::*;
use crate::guest::Notice;

fn mk_drain(second: i64) -> Drain {
    Drain {
        instance_id: "i-0".to_owned(),
        at: at(second),
        ends_at: at(second + 600),
        why: Ending::Purchase("Capacity Block cr-1".to_owned()),
    }
}

fn noticed(world: World) -> World {
    world.tweak(|w| {
        let link = w.link.as_mut().expect("there is a link");
        link.notice = Some(Notice { action: "terminate".to_owned(), time: at(220) });
    })
}

#[test]
fn a_machine_that_is_taken_away_ends_its_pod_in_good_order_first() {
    let attached = || world().machine(Running).running().attached();
    let ending = |second| attached().tweak(|w| w.drain = Some(mk_drain(second)));
    check(&[
        ("spot notice", noticed(attached()), "attached shutdown(i-0)"),
        (
            "spot notice before the kubelet had the pod",
            noticed(world().machine(Running).dialing(99)),
            "booting Pending shutdown(i-0)",
        ),
        ("block ends soon", ending(100), "attached shutdown(i-0)"),
        ("block ends later", ending(101), "attached"),
        (
            "block of another machine",
            ending(100).tweak(|w| w.drain.as_mut().unwrap().instance_id = "i-9".to_owned()),
            "attached",
        ),
        (
            "a pod that ended anyway",
            noticed(world().machine(Running).ended("Succeeded").attached()),
            "finished",
        ),
    ]);
    assert_eq!(ending(107).decide().again, Duration::from_secs(7));
}

#[test]
fn it_is_told_once_and_asked_for_until_it_is_gone() {
    let told = |world: World| {
        let decision = world.tweak(|w| w.memory.previous = Some(State::Attached)).decide();
        let notes: Vec<String> =
            decision.notes.iter().map(|note| format!("{} {}", note.reason, note.text)).collect();
        (notes.join("; "), decision.actions.len())
    };
    let attached = || world().machine(Running).running().attached();
    let (text, actions) = told(noticed(attached()));
    assert_eq!(
        (text.as_str(), actions),
        (
            "SpotInterrupted EC2 takes instance i-0 back (terminate) at 1970-01-12T13:50:20Z; its containers are asked to end",
            1
        )
    );
    assert_eq!(
        told(attached().tweak(|w| w.drain = Some(mk_drain(100)))).0,
        "CapacityBlockEnding Capacity Block cr-1 ends, and instance i-0 with it, by 1970-01-12T13:58:20Z; its containers are asked to end"
    );
    let retiring = Ending::Event { id: "instance-event-1".to_owned(), code: "instance-retirement" };
    assert_eq!(
        told(attached().tweak(|w| w.drain = Some(Drain { why: retiring, ..mk_drain(100) }))).0,
        "MachineRetiring EC2 takes instance i-0 at 1970-01-12T13:58:20Z (instance-retirement, instance-event-1); its containers are asked to end"
    );
    let again = noticed(attached()).tweak(|w| w.memory.draining = Some("i-0".to_owned()));
    assert_eq!(told(again), (String::new(), 1));
}
