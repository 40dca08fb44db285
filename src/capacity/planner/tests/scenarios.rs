//! `scenarios.txt`: what is planned for which pod in which world, to be read as documentation.

use std::collections::BTreeSet;

use super::language::run;

const SCENARIOS: &str = include_str!("scenarios.txt");
/// Groups of candidates that a plan shows.
const SHOWN: usize = 3;

#[derive(Debug, Default)]
struct Scenario<'a> {
    name: &'a str,
    ask: &'a str,
    world: &'a str,
    plan: &'a str,
}

fn scenarios() -> Vec<Scenario<'static>> {
    let mut all: Vec<Scenario<'static>> = Vec::new();
    let (_, text) = SCENARIOS.split_once("\n# ").unwrap();
    for block in text.split("\n\n") {
        let mut lines = block.lines();
        let mut one = Scenario { name: lines.next().unwrap(), ..Scenario::default() };
        for line in lines {
            let (key, value) = line.trim_start().split_once(':').unwrap();
            match key {
                "ask" => one.ask = value.trim(),
                "world" => one.world = value.trim(),
                "plan" => one.plan = value.trim(),
                other => panic!("no line of a scenario: {other}"),
            }
        }
        if !one.plan.is_empty() {
            all.push(one);
        }
    }
    all
}

#[test]
fn every_scenario_is_planned_as_it_says() {
    let all = scenarios();
    let wrong: Vec<String> = all
        .iter()
        .filter_map(|one| {
            let plan = run(one.ask, one.world, SHOWN);
            (plan != one.plan).then(|| format!("{}\n  expected: {}\n  planned:  {plan}", one.name, one.plan))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let names: BTreeSet<_> = all.iter().map(|one| one.name).collect();
    assert_eq!(names.len(), all.len(), "names are unique");
    assert!(all.len() >= 130, "{}", all.len());
}
