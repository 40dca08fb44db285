//! The table of situations, one line a case.

mod blind;
mod drain;
mod properties;
mod world;

use serde_json::json;

use super::*;
use crate::cloud::InstanceState;
use crate::link::LinkState;
use world::*;

use InstanceState::{Pending, Running, ShuttingDown, Stopped, Terminated};

fn bootstrapping() -> LinkState {
    LinkState::Bootstrapping { since: at(90), step: "kubelet" }
}

fn broken() -> LinkState {
    LinkState::Broken { since: at(90), error: "no kubelet".to_owned() }
}

fn mk_hold(until: i64) -> Hold {
    Hold { reason: crate::pod::reasons::NO_CAPACITY, message: "none".to_owned(), until: at(until) }
}

#[test]
fn pods_without_a_machine() {
    let daemon = world().tweak(|w| {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "n", "uid": "x", "controller": true}]);
        w.pod().metadata.owner_references = Some(serde_json::from_value(owner).unwrap());
    });
    let mirror = world().tweak(|w| {
        w.pod().metadata.annotations =
            Some([("kubernetes.io/config.mirror".to_owned(), "x".to_owned())].into());
    });
    let copied = world().tweak(|w| w.pod().metadata.uid = Some("other".to_owned())).intended();
    check(&[
        ("nothing is concluded unread", world().tweak(|w| w.lists = Lists::NotYet), "unread"),
        ("a mirror is not ours", mirror, "ignored"),
        ("a new pod", world(), "launching launch(0,0)"),
        (
            "the plan refused",
            world().tweak(|w| w.memory.refused = Some(Rejection::single("R", "p", "m"))),
            "rejected Failed/R/Spec",
        ),
        ("daemon sets are held", daemon.clone(), "held"),
        (
            "or rejected",
            daemon.tweak(|w| w.rules.daemon_sets = DaemonSetPolicy::Reject),
            "rejected Failed/DaemonSetNotSupported/Spec",
        ),
        ("held back", world().tweak(|w| w.memory.hold = Some(mk_hold(101))), "waiting Pending/NoCapacity"),
        ("and not any more", world().tweak(|w| w.memory.hold = Some(mk_hold(100))), "launching launch(0,0)"),
        ("crashed before the answer", world().intended(), "launching repeat(0)"),
        (
            "no answer, held back",
            world().intended().tweak(|w| w.memory.hold = Some(mk_hold(101))),
            "launching Pending/NoCapacity",
        ),
        (
            "the launch failed for sure",
            world().intended().tweak(|w| w.memory.failed = Some(mk_intent(0).token)),
            "launching launch(1,0)",
        ),
        ("the intent is another pod's", copied, "launching launch(0,0)"),
        (
            "launched and not yet shown",
            world().machine(Running).tweak(|w| w.instances.clear()).now(59),
            "launching",
        ),
    ]);
}

#[test]
fn machines_that_boot() {
    let boot = || world().machine(Running);
    check(&[
        ("pending", world().machine(Pending), "booting Pending"),
        ("running", boot(), "booting Pending link(i-0)"),
        ("no address yet", boot().tweak(|w| w.instances[0].pod_ip = None), "booting Pending"),
        ("dialled", boot().dialing(50), "booting Pending"),
        ("bootstrapping", boot().linked(bootstrapping()), "booting Pending"),
        (
            "found by its token",
            world().intended().tweak(|w| w.instances.push(mk_instance("i-0", 0, Running))),
            "booting Pending record(i-0) link(i-0)",
        ),
        (
            "found by its tag alone",
            world().tweak(|w| w.instances.push(mk_instance("i-0", 0, Running))),
            "booting Pending record(i-0) link(i-0)",
        ),
        (
            "a link to another machine",
            boot().dialing(50).tweak(|w| w.link.as_mut().unwrap().instance_id = "i-9".to_owned()),
            "booting Pending link(i-0)",
        ),
        ("perhaps shown by another process: its status stands", boot().pinned().dialing(50), "booting"),
        ("the deadline", boot().dialing(50).now(601), "ending revoke(i-0) hear(i-0) terminate(i-0)"),
        ("not before", boot().dialing(50).now(600), "booting Pending"),
        (
            "a restart gives links a moment",
            boot().dialing(50).now(601).tweak(|w| w.rules.started = at(500)),
            "booting Pending",
        ),
        ("can never work", boot().linked(broken()), "ending revoke(i-0) hear(i-0) terminate(i-0)"),
        (
            "given up and still there",
            boot().dialing(50).tweak(|w| w.memory.revoked = Some("i-0".to_owned())),
            "ending terminate(i-0)",
        ),
        (
            "died: the next one",
            world().machine(Terminated).dialing(50),
            "launching revoke(i-0) unlink hear(i-0) launch(1,1)",
        ),
        (
            "dying, and was never shown: the next one",
            world().machine(ShuttingDown),
            "launching hear(i-0) launch(1,1)",
        ),
        (
            "died for want of capacity",
            world().machine(Terminated).why("Server.InsufficientInstanceCapacity"),
            "launching hear(i-0) launch(1,1,starved)",
        ),
        (
            "the cloud forgot it",
            world().machine(Terminated).tweak(|w| {
                w.instances.clear();
                w.memory.wrote = Some(mk_intent(0).token);
            }),
            "launching launch(1,1)",
        ),
        ("two died: a pause", failed_boots(1).now(29), "waiting Pending"),
        (
            "no capacity for the next",
            failed_boots(1).tweak(|w| w.memory.hold = Some(mk_hold(101))),
            "waiting Pending/NoCapacity",
        ),
        (
            "the next one is refused",
            failed_boots(1).tweak(|w| w.memory.refused = Some(Rejection::single("R", "p", "m"))),
            "rejected Failed/R/Spec",
        ),
        ("and then the next", failed_boots(1).now(30), "launching hear(i-0) launch(1,2)"),
        ("five died", failed_boots(4), "lost Failed/InstanceBootFailed/Disruption hear(i-0)"),
        (
            "an old one is no bar",
            world().with_intent(&mk_intent(1)).tweak(|w| w.instances.push(mk_instance("i-0", 0, Terminated))),
            "launching repeat(1)",
        ),
    ]);
}

/// The machine of an intent that comes after so many failed boots is terminated.
fn failed_boots(count: u32) -> World {
    let intent = Intent { instance_id: Some("i-0".to_owned()), failed_boots: count, ..mk_intent(0) };
    world().machine(Terminated).with_intent(&intent)
}

#[test]
fn machines_whose_kubelet_has_the_pod() {
    let run = || world().machine(Running).pinned().running();
    check(&[
        ("attached", run().attached(), "attached"),
        ("attached and nothing written yet", world().machine(Running).attached(), "attached"),
        ("process restarted", run(), "detached link(i-0)"),
        ("cut off", run().dialing(50), "detached"),
        ("for a minute", run().dialing(40), "detached NotReady"),
        ("rebooted", run().linked(bootstrapping()), "rebooted"),
        ("broken later is not the end of its containers", run().linked(broken()), "detached"),
        (
            "stopped",
            run().attached().tweak(|w| w.instances[0].state = Stopped),
            "ending revoke(i-0) terminate(i-0)",
        ),
        (
            "on its way to that",
            run().dialing(50).tweak(|w| w.instances[0].state = InstanceState::Stopping),
            "detached",
        ),
        ("on its way down", world().machine(ShuttingDown).running(), "ending"),
        (
            "lost",
            world().machine(Terminated).running().dialing(50),
            "lost Failed/InstanceTerminated/Disruption unlink hear(i-0)",
        ),
        (
            "spot",
            world().machine(Terminated).why("Server.SpotInstanceTermination").running(),
            "lost Failed/SpotInterrupted/Disruption hear(i-0)",
        ),
        (
            "switched off",
            world().machine(Terminated).why("Client.InstanceInitiatedShutdown").running(),
            "lost Failed/InstanceShutDown/Disruption hear(i-0)",
        ),
        (
            "hardware",
            world().machine(Terminated).why("Server.InternalError").running(),
            "lost Failed/HostFailed/Disruption hear(i-0)",
        ),
        (
            "forgotten by the cloud",
            world().machine(Terminated).running().tweak(|w| w.instances.clear()),
            "lost Failed/InstanceLost/Disruption",
        ),
        (
            "perhaps shown, and dead",
            world().machine(Terminated).pinned(),
            "lost Failed/InstanceTerminated/Disruption hear(i-0)",
        ),
        (
            "shown, nothing written, and dead",
            world().machine(Terminated).dialing(50).shown(),
            "lost Failed/InstanceTerminated/Disruption unlink hear(i-0)",
        ),
    ]);
}

#[test]
fn two_machines_for_one_pod() {
    let other = |epoch| mk_instance("i-1", epoch, Running);
    check(&[
        (
            "the intent's stays",
            world().machine(Running).attached().tweak(|w| w.instances.insert(0, other(1))),
            "attached terminate(i-1)",
        ),
        (
            "by token before the id is known",
            world()
                .with_intent(&mk_intent(1))
                .tweak(|w| w.instances = vec![mk_instance("i-0", 0, Running), other(1)]),
            "booting Pending record(i-1) link(i-1) terminate(i-0)",
        ),
        (
            "else the oldest",
            world().tweak(|w| {
                w.instances = vec![other(1), mk_instance("i-2", 2, Running)];
                w.instances[0].launched_at = Some(at(9));
            }),
            "booting Pending record(i-2) link(i-2) terminate(i-1)",
        ),
    ]);
}

#[test]
fn deletions() {
    let run = || world().machine(Running).pinned().running().deleted(130);
    check(&[
        ("nothing was launched", world().deleted(130), "deleting Failed/DeletedBeforeStart/Deletion delete"),
        (
            "the answer is not known",
            world().intended().deleted(130),
            "deleting Failed/DeletedBeforeStart/Deletion delete",
        ),
        (
            "booting",
            world().machine(Running).dialing(50).deleted(130),
            "deleting Failed/DeletedBeforeStart/Deletion revoke(i-0) delete terminate(i-0)",
        ),
        (
            "launched and not yet shown by the cloud",
            world()
                .machine(Running)
                .tweak(|w| {
                    w.instances.clear();
                    w.memory.wrote = Some(mk_intent(0).token);
                })
                .deleted(130)
                .now(59),
            "deleting Failed/DeletedBeforeStart/Deletion revoke(i-0) delete terminate(i-0)",
        ),
        (
            "its machine died while booting",
            world().machine(Terminated).dialing(50).deleted(130),
            "deleting Failed/DeletedBeforeStart/Deletion unlink delete",
        ),
        ("the kubelet does it", run().attached(), "deleting"),
        (
            "also if it only perhaps has it",
            world().machine(Running).pinned().deleted(130),
            "deleting link(i-0)",
        ),
        ("a silent machine is given a minute", run().dialing(50).now(189), "deleting"),
        ("and then ended", run().dialing(50).now(190), "deleting revoke(i-0) terminate(i-0)"),
        (
            "a process that just started waits",
            run().dialing(50).now(190).tweak(|w| w.rules.started = at(180)),
            "deleting",
        ),
        ("a stuck kubelet is given five", run().attached().now(429), "deleting"),
        ("and then ended", run().attached().now(430), "deleting revoke(i-0) terminate(i-0)"),
        (
            "a machine on its way down is awaited",
            world().machine(ShuttingDown).running().deleted(130),
            "deleting",
        ),
        (
            "a machine that is gone",
            world().machine(Terminated).running().deleted(130),
            "deleting Failed/InstanceTerminated/Disruption hear(i-0) delete",
        ),
        (
            "both machines go",
            world().machine(Running).deleted(130).tweak(|w| w.instances.push(mk_instance("i-1", 1, Running))),
            "deleting Failed/DeletedBeforeStart/Deletion revoke(i-0) revoke(i-1) delete terminate(i-0) terminate(i-1)",
        ),
    ]);
}

#[test]
fn final_phases() {
    let finalizer = |w: &mut World| {
        w.pod().metadata.finalizers = Some(vec!["f".to_owned()]);
        w.pod().metadata.deletion_grace_period_seconds = Some(0);
    };
    let done = || world().machine(Running).pinned().ended("Succeeded");
    let short = |w: &mut World| w.rules.keep_finished = Duration::ZERO;
    check(&[
        ("kept for those who look", done().attached().now(349), "finished"),
        ("with a link for its logs", done(), "finished link(i-0)"),
        ("and then ended", done().attached().now(350), "finished terminate(i-0)"),
        ("not before its logs are archived", done().attached().behind().tweak(short).now(169), "finished"),
        (
            "or two minutes have passed",
            done().attached().behind().tweak(short).now(170),
            "finished terminate(i-0)",
        ),
        ("its machine is gone", world().machine(Terminated).ended("Failed").attached(), "finished unlink"),
        ("and nothing is left to do", world().machine(Terminated).ended("Failed"), "finished"),
        ("deleted: the kubelet lets go", done().attached().deleted(90).now(119), "finished"),
        ("or a deadline", done().attached().deleted(90).now(120), "finished terminate(i-0)"),
        ("then the object goes", world().machine(Terminated).ended("Failed").deleted(90), "finished delete"),
        (
            "not before the machine is gone",
            world().machine(ShuttingDown).ended("Failed").deleted(90),
            "finished",
        ),
        (
            "others hold the object: the machine goes",
            done().attached().deleted(130).tweak(finalizer),
            "finished terminate(i-0)",
        ),
        (
            "and nothing is asked twice",
            world().machine(Terminated).ended("Failed").deleted(90).tweak(finalizer),
            "finished",
        ),
        ("rejected", world().failed("OutOfGPU"), "rejected"),
        (
            "rejected, and a machine turns up",
            world().failed("OutOfGPU").machine(Running),
            "rejected revoke(i-0) terminate(i-0)",
        ),
        (
            "lost, and something is left",
            world().failed("InstanceLost").machine(Running),
            "lost revoke(i-0) terminate(i-0)",
        ),
        ("lost", world().failed("SpotInterrupted").machine(Terminated), "lost"),
        ("somebody else failed it", world().failed("Evicted").machine(Terminated), "finished"),
    ]);
}

#[test]
fn pods_whose_object_is_gone() {
    let gone = |end, since, sightings| world().machine(Running).pinned().absent(end, since, sightings);
    check(&[
        ("nothing is left", world().absent(AbsentEnd::Forced, 90, 0), "gone"),
        (
            "but a link",
            world().machine(Terminated).attached().absent(AbsentEnd::Forced, 90, 0),
            "gone unlink",
        ),
        ("its kubelet is ending it", gone(AbsentEnd::Forced, 90, 9).attached(), "vanished"),
        ("it must learn of it", gone(AbsentEnd::Forced, 90, 9), "vanished link(i-0)"),
        ("it did", gone(AbsentEnd::Ended, 90, 0).attached(), "vanished revoke(i-0) terminate(i-0)"),
        ("but not its logs", gone(AbsentEnd::Ended, 90, 0).attached().behind().now(209), "vanished"),
        (
            "which are waited for no longer",
            gone(AbsentEnd::Ended, 90, 0).attached().behind().now(210),
            "vanished revoke(i-0) terminate(i-0)",
        ),
        (
            "grace and margin are over",
            gone(AbsentEnd::Forced, 40, 0).attached(),
            "vanished revoke(i-0) terminate(i-0)",
        ),
        ("not yet", gone(AbsentEnd::Forced, 41, 0).attached(), "vanished"),
        (
            "it never had the pod",
            world().machine(Running).absent(AbsentEnd::Forced, 99, 0),
            "vanished revoke(i-0) terminate(i-0)",
        ),
        (
            "an orphan seen once",
            world().machine(Running).absent(AbsentEnd::Unknown, 0, 1),
            "vanished link(i-0)",
        ),
        (
            "and twice",
            world().machine(Running).absent(AbsentEnd::Unknown, 0, 2),
            "vanished revoke(i-0) terminate(i-0)",
        ),
        (
            "and young",
            world().machine(Running).absent(AbsentEnd::Unknown, 0, 2).now(60),
            "vanished link(i-0)",
        ),
        ("an orphan with a kubelet gets its grace", gone(AbsentEnd::Unknown, 50, 9).attached(), "vanished"),
        ("and goes", gone(AbsentEnd::Unknown, 40, 9).attached(), "vanished revoke(i-0) terminate(i-0)"),
        ("on its way down", world().machine(ShuttingDown).absent(AbsentEnd::Forced, 0, 9), "vanished"),
        (
            "nothing is ended unread",
            world().machine(Running).absent(AbsentEnd::Ended, 0, 9).tweak(|w| w.lists = Lists::NotYet),
            "unread",
        ),
    ]);
}

#[test]
fn events_are_told_once() {
    let notes = |world: World| {
        let decision = world.decide();
        decision
            .notes
            .iter()
            .map(|note| format!("{} {}", note.reason, note.text))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let after = |previous, world: World| notes(world.tweak(|w| w.memory.previous = Some(previous)));
    let attached = || world().machine(Running).running().attached();
    assert_eq!(
        after(State::Booting, attached()),
        "Attached the kubelet of instance i-0 has the pod, 49s after its launch"
    );
    assert_eq!(after(State::Attached, attached()), "");
    assert_eq!(notes(attached()), "");
    assert_eq!(after(State::Detached, attached()), "Reattached contact with instance i-0 is back");
    let cut = || {
        world().machine(Running).running().linked(LinkState::Dialing {
            since: at(90),
            error: Some("refused".to_owned()),
            was_attached: true,
        })
    };
    assert_eq!(after(State::Attached, cut()), "Detached no contact with the machine: refused");
    assert_eq!(after(State::Detached, cut()), "");
    assert_eq!(
        after(State::Launching, world().machine(Running)),
        "Booting instance i-0 (g5.xlarge in a) runs, 99s after its launch"
    );
    assert_eq!(
        notes(world().tweak(|w| w.pod().metadata.uid = Some("other".to_owned())).intended()),
        "InvalidLaunchIntent annotation `orca.research/launch` was made for another pod; ignored"
    );
}

#[test]
fn every_decision_says_when_to_look_again() {
    assert_eq!(world().machine(Running).dialing(50).now(600).decide().again, Duration::from_secs(1));
    let ended = world().machine(Running).ended("Failed").attached();
    assert_eq!(ended.decide().again, Duration::from_secs(250));
    assert_eq!(world().tweak(|w| w.memory.hold = Some(mk_hold(107))).decide().again, Duration::from_secs(7));
}
