//! A seed decides everything, and every failpoint has its turn.

use std::collections::BTreeSet;

use super::seed::{Blow, Life, Load, Machines, Storm, Tenant};
use super::settings::Settings;

const WRITES: [&str; 3] = ["launch.intent", "launch.run-instances", "pod.delete"];

fn lives(seed: u64) -> Vec<Life> {
    Storm::new(seed, Machines::Real, &WRITES).take(200).collect()
}

#[test]
fn a_seed_makes_one_storm_and_one_load() {
    assert_eq!(lives(7), lives(7));
    assert_ne!(lives(7), lives(8));
    let load = |place| Load::new(7, Machines::Real, place).take(50).collect::<Vec<_>>();
    assert_eq!(load(3), load(3));
    assert_ne!(load(3), load(4));
}

#[test]
fn every_failpoint_has_its_turn_before_any_has_a_second() {
    let points = lives(1).into_iter().flat_map(|life| life.points);
    let names: Vec<String> = points.map(|point| point.split_once('#').unwrap().0.to_owned()).collect();
    for turn in names.chunks_exact(6) {
        assert_eq!(turn.iter().collect::<BTreeSet<_>>().len(), 6, "{turn:?}");
    }
}

#[test]
fn points_are_such_as_orca_takes() {
    for point in lives(3).into_iter().flat_map(|life| life.points) {
        assert!(point.parse::<orca::failpoint::Failpoint>().is_ok(), "{point}");
    }
}

#[test]
fn states_are_never_cut_or_frozen_and_never_asked_to_run_anything() {
    for life in Storm::new(5, Machines::States, &WRITES).take(500) {
        assert!(!matches!(life.blow, Some(Blow::Cut { .. } | Blow::Freeze { .. })), "{life:?}");
    }
    let mut load = Load::new(5, Machines::States, 0).take(100);
    assert!(load.all(|(_, tenant)| matches!(tenant, Tenant::Doomed { .. })));
}

#[test]
fn arguments_are_named_and_empty_ones_are_none() {
    let parse = |text: &str| Settings::parse(text.split(' ').map(str::to_owned));
    let settings = parse("--quiet seed=7 machines=4 kills= time=90 states").unwrap();
    assert_eq!((settings.seed, settings.places, settings.kills), (7, 4, 100));
    assert_eq!((settings.machines, settings.time.as_secs()), (Machines::States, 90));
    assert!(parse("sead=7").is_err() && parse("kills=many").is_err());
}
