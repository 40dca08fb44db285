//! `make bench`: what design promises in numbers, each beside what it is compared with, measured in the same run.
//!
//! Prints one JSON line a measurement and a table at the end. Nothing is asserted: a number is for people.
//! Names of parts as arguments (`make bench PARTS="plan dry"`) leave out the others.
#![expect(clippy::print_stdout, reason = "this program's output is its purpose")]
#![expect(clippy::print_stderr, reason = "progress")]

mod alone;
mod audit;
mod burst;
mod bursts;
mod configured;
mod gauge;
mod launches;
mod logs;
mod machines;
mod pipe;
mod plan;
mod plugin;
mod process;
mod rest;
mod restart;
mod scrape;
mod steady;
mod table;
mod takeover;
mod tunnel;
#[path = "../e2e/world.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod world;

use anyhow::{Result, ensure};
use serde_json::json;

use self::table::Table;
use self::world::World;

/// What is measured.
type Part = (&'static str, &'static str, fn(&mut Table) -> Result<()>);

const PARTS: [Part; 12] = [
    ("plan", "plans over a whole region", plan::measure),
    ("scrape", "pages of numbers for a thousand pods", scrape::measure),
    ("bursts", "bursts, on instances that are states only", bursts::measure),
    ("dry", "a pod that many pools refuse", launches::dry),
    ("thousand", "a thousand pods at once: nine minutes", launches::thousand),
    ("burst", "memory under a burst of two thousand pods: five minutes", burst::measure),
    ("restart", "a thousand pods, and ORCA is killed: five minutes", restart::measure),
    ("steady", "a thousand pods at rest, beside virtual-kubelet: twenty minutes", steady::measure),
    ("logs", "logs: into the archive, and back", logs::measure),
    ("takeover", "two replicas, one of which dies or stops: fifteen minutes", takeover::measure),
    ("plugin", "the tunnel, beside the vendor's client", plugin::measure),
    ("machines", "machines: ORCA's pods, and the same kubelet without ORCA", on_machines),
];

fn main() -> Result<()> {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for name in &wanted {
        let names = PARTS.map(|(name, ..)| name).join("`, `");
        ensure!(
            PARTS.iter().any(|(part, ..)| part == name),
            "the part is `{name}`, expected one of `{names}`"
        );
    }
    let build = if cfg!(debug_assertions) { "dev" } else { "release" };
    let cores = std::thread::available_parallelism()?.get();
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    println!("{}", json!({"build": build, "cores": cores, "load": load}));

    let mut table = Table::default();
    for (name, what, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            eprintln!("==> {what}");
            measure(&mut table)?;
        }
    }
    println!("measured on a {build} build, {cores} cores, load {load} at the start");
    table.print();
    Ok(())
}

fn on_machines(table: &mut Table) -> Result<()> {
    let world = World::start_with(&[])?;
    let result = world.in_namespace(|ns| {
        let idle = rest::Idle::read(ns)?;
        machines::measure(ns, table)?;
        eprintln!("==> rest");
        rest::measure(ns, &idle, table)
    });
    world.stop().and(result)
}
