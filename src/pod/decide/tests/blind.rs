//! Machines that boot while none can be reached.

use super::world::*;
use super::*;
use crate::pod::status::StatusChange;

fn boot() -> World {
    world().machine(Running).dialing(50)
}

/// No machine could be reached from then until then.
fn blind(from: i64, to: i64) -> impl FnOnce(&mut World) {
    move |world| {
        world.blind.begin(at(from), "access denied: no");
        world.blind.end(at(to));
    }
}

fn since(from: i64) -> impl FnOnce(&mut World) {
    move |world| world.blind.begin(at(from), "access denied: no")
}

#[test]
fn no_machine_is_given_up_for_time_in_which_none_could_be_reached() {
    let given_up = "ending revoke(i-0) hear(i-0) terminate(i-0)";
    let restarted = |world: &mut World| world.rules.started = at(1000);
    check(&[
        ("the deadline", boot().now(601), given_up),
        ("none can be reached", boot().now(601).tweak(since(300)), "booting Pending"),
        ("for a day", boot().now(90_000).tweak(since(300)), "booting Pending"),
        ("nor could for a while", boot().now(900).tweak(blind(300, 700)), "booting Pending"),
        ("which does not count", boot().now(1001).tweak(blind(300, 700)), given_up),
        ("not before", boot().now(1000).tweak(blind(300, 700)), "booting Pending"),
        ("what was before its launch is nothing to it", boot().now(601).tweak(blind(-500, -100)), given_up),
        ("links get a moment after it", boot().now(1218).tweak(blind(599, 1100)), "booting Pending"),
        ("and no more", boot().now(1221).tweak(blind(599, 1100)), given_up),
        (
            "after a restart, too",
            boot().now(1619).tweak(restarted).tweak(blind(1010, 1500)),
            "booting Pending",
        ),
        ("and no more than that", boot().now(1620).tweak(restarted).tweak(blind(1010, 1500)), given_up),
        ("what can never work cannot be waited for", boot().linked(broken()).tweak(since(300)), given_up),
        (
            "a machine that ended is followed by another, which waits elsewhere",
            world().machine(Terminated).dialing(50).tweak(since(50)),
            "launching revoke(i-0) unlink hear(i-0) launch(1,1)",
        ),
        (
            "what runs goes on",
            world().machine(Running).pinned().running().attached().tweak(since(50)),
            "attached",
        ),
        (
            "and what is detached",
            world().machine(Running).pinned().running().dialing(50).tweak(since(50)),
            "detached",
        ),
    ]);
}

#[test]
fn who_waits_for_that_is_told_why() {
    let decision = boot().tweak(since(90)).decide();
    let Some(StatusChange::Pending { message, .. }) = decision.status else {
        panic!("{:?}", decision.status)
    };
    assert_eq!(message, "instance i-0 (g5.xlarge in a) waits to be reached, as all do: access denied: no");
}
