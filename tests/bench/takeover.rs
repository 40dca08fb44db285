//! Two replicas: from the death of the leader to the other acting, and to the first exec that works; beside it, from an
//! orderly stop.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::gauge::count;
use crate::table::{Sample, Table, at};
use crate::world::{Namespace, World, eventually};

/// Each waits a Lease out: a quarter of a minute.
const ROUNDS: usize = 20;
const SLEEP: &str = "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]";
const REPLICAS: [(&str, &str); 2] = [("orca", "10.88.0.10"), ("orca-second", "10.88.0.11")];

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let world = World::start_with(&[])?;
    let result = world.in_namespace(|ns| {
        ns.ready_pod("steady", SLEEP)?;
        let (killed, stopped) = (rounds(ns, "orca-kill")?, rounds(ns, "orca-stop")?);
        table.compare(
            "ms",
            Sample { name: "kill -9 of the leader until the other acts", values: &killed.0 },
            Sample { name: "orderly stop until the other acts", values: &stopped.0 },
        );
        table.compare(
            "ms",
            Sample { name: "kill -9 of the leader until an exec works", values: &killed.1 },
            Sample { name: "orderly stop until an exec works", values: &stopped.1 },
        );
        table.bar(
            "kill -9 of the leader until the other acts, the slowest",
            "ms",
            at(&killed.0, 1.0),
            15_000.0,
        );
        table.bar("orderly stop until the other acts, the slowest", "ms", at(&stopped.0, 1.0), 3_000.0);
        ns.run(&["delete", "pod", "steady", "--wait=false"])?;
        ns.await_no_instance(Duration::from_secs(60))
    });
    world.stop().and(result)
}

/// The leader ends by `how` and is started again, and so on, the other way round each time; milliseconds until the other
/// acts, and until an exec works.
fn rounds(ns: &Namespace<'_>, how: &str) -> Result<(Vec<f64>, Vec<f64>)> {
    start(ns.world, 1)?;
    let (mut acts, mut works) = (Vec::new(), Vec::new());
    for round in 0..asked()? {
        let (leader, other) = (REPLICAS[round % 2], REPLICAS[(round + 1) % 2]);
        eventually("a warm follower", Duration::from_secs(30), || Ok(is_warm(other.0)))?;
        // Renewals come every two seconds: none of their moments is to be favoured.
        std::thread::sleep(Duration::from_millis(u64::try_from(round * 617 % 2000)?));
        let began = Instant::now();
        ns.world.script(&[how, leader.0])?;
        eventually("the other to act", Duration::from_secs(30), || {
            let node = ns.world.get("/api/v1/nodes/orca")?.context("the node")?;
            let published = node["status"]["addresses"][0]["address"].clone();
            Ok(if published == other.1 { Ok(()) } else { Err(published) })
        })?;
        acts.push(began.elapsed().as_secs_f64() * 1000.0);
        ns.exec_works("steady")?;
        works.push(began.elapsed().as_secs_f64() * 1000.0);
        start(ns.world, round % 2)?;
    }
    // The first leads again, as everywhere else.
    if asked()? % 2 == 1 {
        ns.world.script(&["orca-stop", REPLICAS[1].0])?;
    }
    ns.world.script(&["orca-stop", REPLICAS[1].0])?;
    eprintln!("{how}: {} rounds", count(acts.len()));
    Ok((acts, works))
}

/// `ORCA_ROUNDS`, for those who only try.
fn asked() -> Result<usize> {
    let Some(rounds) = std::env::var_os("ORCA_ROUNDS") else { return Ok(ROUNDS) };
    rounds.to_string_lossy().parse().context("ORCA_ROUNDS")
}

fn start(world: &World, index: usize) -> Result<()> {
    world.script(&[["orca-start", "orca-start-second"][index]])
}

fn is_warm(name: &str) -> Result<(), String> {
    let host = if name == REPLICAS[0].0 { "127.0.0.1" } else { "127.0.0.2" };
    let url = format!("http://{host}:9090/readyz");
    let output = std::process::Command::new("curl").args(["-s", "-m", "2", &url]).output();
    let answer = output.map_or_else(|error| error.to_string(), |output| crate::world::text(&output.stdout));
    if answer == "ok" { Ok(()) } else { Err(answer) }
}
