//! The pure core in a storm: random worlds around one pod, in which anything happens between any two calls, and what
//! must hold in every one of them.
//!
//! `ORCA_STORM_SEED=7` repeats one and tells its story; `ORCA_STORMS=5000000` asks for more of them.

mod dice;
mod nature;
mod process;
mod world;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use world::{Kubelet, World};

/// So many in every run of the tests.
const STORMS: u64 = 100_000;
/// What happens in one of them, at most.
const LONGEST: u32 = 30;
/// Looks at the pod until all must be quiet.
const PATIENCE: usize = 400;

/// One life of a world: what was wrong in it, and its story if it is told.
fn live(seed: u64, storm: u32, story: Option<Vec<String>>) -> World {
    let mut world = World::new(seed, storm, story);
    nature::start(&mut world);
    while !world.is_calm() && world.wrong.is_empty() {
        if world.process.is_none() && world.dice.chance(50) {
            nature::start(&mut world);
        }
        if world.process.is_some() && world.dice.chance(45) {
            // A pass may be asked for by anything; mostly it is due.
            if let Some(due) =
                world.process.as_ref().and_then(|process| process.due).filter(|due| *due > world.now)
                && world.dice.chance(50)
            {
                world.now = due;
            }
            world.pass();
        } else {
            nature::happen(&mut world);
        }
    }
    if world.wrong.is_empty() {
        calm_down(&mut world);
    }
    world
}

/// Faults are over: everything comes to rest, driven by nothing but what decisions say of when to look again.
fn calm_down(world: &mut World) {
    nature::calm(world);
    if world.dice.chance(60) {
        world.delete(30);
    }
    let was_deleted = world.is_deleted();
    for _ in 0..PATIENCE {
        nature::progress(world);
        let Some(due) = world.process.as_ref().map(|process| process.due) else { return };
        match due {
            // The list of machines comes round every ten seconds.
            None if world.alive() > 0 => world.pass_time(Duration::from_secs(10)),
            None => break,
            Some(due) => {
                world.now = world.now.max(due);
                world.pass();
            }
        }
        if !world.wrong.is_empty() || is_at_rest(world) {
            break;
        }
    }
    check_rest(world, was_deleted);
}

/// Whether nothing is left to be done.
fn is_at_rest(world: &World) -> bool {
    match (&world.pod, world.alive()) {
        (None, 0) => true,
        (Some(_), 0) => world.is_terminal() && !world.is_deleted(),
        (Some(_), 1) => !world.is_terminal() && !world.is_deleted() && runs(world),
        _ => false,
    }
}

fn runs(world: &World) -> bool {
    world.machines.iter().any(|one| one.ended.is_none() && one.kubelet == Kubelet::Runs)
}

fn check_rest(world: &mut World, was_deleted: bool) {
    if !world.wrong.is_empty() {
        return;
    }
    if was_deleted && (world.pod.is_some() || world.alive() > 0) {
        let text =
            format!("a deletion does not end: pod {}, machines {}", world.pod.is_some(), world.alive());
        world.violate(text);
    } else if !is_at_rest(world) {
        let text = format!(
            "no rest: pod {:?}, machines {}",
            world.pod.as_deref().map(world::phase_of),
            world.alive()
        );
        world.violate(text);
    }
}

/// The shortest storm of this seed in which something is wrong, told.
fn story(seed: u64) -> String {
    let shortest = (1..=LONGEST).find(|storm| !live(seed, *storm, None).wrong.is_empty());
    let world = live(seed, shortest.unwrap_or(LONGEST), Some(Vec::new()));
    world.story.unwrap_or_default().join("\n")
}

#[expect(clippy::disallowed_methods, reason = "what the person who runs the tests asks for")]
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn in_no_storm_a_rule_is_broken() {
    if let Some(seed) = asked("ORCA_STORM_SEED") {
        let world = live(seed, LONGEST, None);
        println!("{}", story(seed));
        assert!(world.wrong.is_empty(), "{:?}", world.wrong);
        return;
    }
    let storms = asked("ORCA_STORMS").unwrap_or(STORMS);
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let broken = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= storms {
                        break;
                    }
                    let wrong = live(seed, LONGEST, None).wrong;
                    if !wrong.is_empty() {
                        failed.store(true, Ordering::Relaxed);
                        broken.lock().unwrap().push((seed, wrong));
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    if let Some((seed, wrong)) = broken.first() {
        panic!("seed {seed}: {wrong:?}\n{}\nORCA_STORM_SEED={seed} repeats it", story(*seed));
    }
}
