//! `make bench`: what design promises in numbers, each beside what it is compared with, measured in the same run.
//!
//! Prints one JSON line a measurement and a table at the end. Nothing is asserted: a number is for people.
#![expect(clippy::print_stdout, reason = "this program's output is its purpose")]
#![expect(clippy::print_stderr, reason = "progress")]

mod alone;
mod bursts;
mod gauge;
mod machines;
mod rest;
mod table;
mod tunnel;
#[path = "../e2e/world.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod world;

use anyhow::Result;
use serde_json::json;

use self::table::Table;
use self::world::World;

fn main() -> Result<()> {
    let build = if cfg!(debug_assertions) { "dev" } else { "release" };
    let cores = std::thread::available_parallelism()?.get();
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    println!("{}", json!({"build": build, "cores": cores, "load": load}));

    let mut table = Table::default();
    eprintln!("==> bursts, on instances that are states only");
    bursts::measure(&mut table)?;
    let world = World::start_with(&[])?;
    let result = world.in_namespace(|ns| {
        let idle = rest::Idle::read(ns)?;
        eprintln!("==> machines: ORCA's pods, and the same kubelet without ORCA");
        machines::measure(ns, &mut table)?;
        eprintln!("==> rest");
        rest::measure(ns, &idle, &mut table)
    });
    world.stop().and(result)?;
    println!("measured on a {build} build, {cores} cores, load {load} at the start");
    table.print();
    Ok(())
}
