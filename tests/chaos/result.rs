//! The verdict: read from the servers' records, printed as a table and a line of JSON, and kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::SignedDuration;
use orca::failpoint::Write;
use serde_json::json;

use crate::check::records::{instances, pods};
use crate::check::{self, Column, Report, Runs, Terms};
use crate::seed::Machines;
use crate::settings::Settings;
use crate::{NAMESPACE, Tally, Times, World, http, is_here};

/// How long an instance may outlive its pod. What is seen of a pod that is gone is lost with each ORCA: it is looked for
/// in two lists and for a minute, its kubelet is asked, over a tunnel that takes seconds where ORCA lives for two, and is
/// given half a minute if it cannot be asked. What it comes to is told beside the verdict.
const OVERHEAD: SignedDuration = SignedDuration::from_secs(300);
/// A storm with so many deaths over real machines comes by every failpoint.
const THOROUGH: u32 = 100;
/// Findings that are shown.
const SHOWN: usize = 40;

/// Reads the records, and prints the verdict: whether every column is zero.
pub(crate) fn judge(
    settings: &Settings,
    world: &World,
    tally: &Tally,
    times: &Times,
    took: Duration,
) -> Result<bool> {
    let audit = world.log("audit.log")?;
    let mut pods = pods(audit.lines(), &times.left);
    pods.retain(|pod| pod.namespace == NAMESPACE);
    let instances = instances(&http("GET", "/_local/history", None)?)?;
    let runs = match settings.machines {
        Machines::Real => Runs::Truly,
        Machines::States => Runs::Never,
    };
    let terms = Terms { calm: times.calm, end: times.end, overhead: OVERHEAD, runs, dollars: prices()? };
    let report = check::judge(&pods, &instances, &terms);
    for finding in report.findings.iter().take(SHOWN) {
        println!("{}: {}", finding.column.name(), finding.text);
    }
    let missed = missed(settings, world)?;
    print(settings, tally, &report, took);
    if !missed.is_empty() {
        println!("never met, alive or dead: {}", missed.join(", "));
    }
    let is_thorough = settings.machines == Machines::States || tally.kills() < THOROUGH || missed.is_empty();
    Ok(report.findings.is_empty() && tally.unexplained == 0 && is_thorough)
}

/// Failpoints that nobody came by.
fn missed(settings: &Settings, world: &World) -> Result<Vec<String>> {
    let record = world.log("failpoints")?;
    let met: BTreeSet<&str> = record.lines().filter_map(|line| line.strip_prefix("met ")).collect();
    let all = Write::ALL.iter().filter(|write| is_here(settings, **write));
    let all = all.flat_map(|write| ["before", "after"].map(|side| format!("{}.{side}", write.name())));
    Ok(all.filter(|name| !met.contains(name.as_str())).collect())
}

fn print(settings: &Settings, tally: &Tally, report: &Report, took: Duration) {
    let columns: BTreeMap<&str, f64> =
        Column::ALL.into_iter().map(|column| (column.name(), report.count(column))).collect();
    let worst = report.outlived.last().copied().unwrap_or_default();
    let median = report.outlived.get(report.outlived.len() / 2).copied().unwrap_or_default();
    println!(
        "{}",
        json!({
            "seed": settings.seed, "machines": format!("{:?}", settings.machines), "places": settings.places,
            "seconds": took.as_secs(), "kills": tally.kills(), "random": tally.random, "points": tally.points,
            "blows": tally.blows, "leader_switches": tally.switches, "ended_without_api_server": tally.alone, "ended_by_itself": tally.unexplained,
            "pods": report.pods, "exit_codes": report.exits, "taken": report.excused,
            "instances": report.instances, "replaced": report.replaced, "dollars": report.dollars,
            "outlived_median_s": median, "outlived_worst_s": worst, "columns": columns,
        })
    );
    println!(
        "\nSEED={}  {} kills in {} s ({} at failpoints)",
        settings.seed,
        tally.kills(),
        took.as_secs(),
        tally.kills() - tally.random
    );
    for (name, count) in &tally.points {
        println!("  {count:4}  killed at {name}");
    }
    println!("  {:4}  leader switches", tally.switches);
    for (name, count) in &tally.blows {
        println!("  {count:4}  {name}");
    }
    println!(
        "{} pods ({} exit codes as foretold, {} pods deleted early or taken with their machines), {} instances ({} replaced another), ${:.4}; an instance outlived its pod by {median:.1} s (median), {worst:.1} s at worst",
        report.pods, report.exits, report.excused, report.instances, report.replaced, report.dollars
    );
    println!("{:<34} {:>10}", "column", "found");
    for column in Column::ALL {
        let count = report.count(column);
        match column {
            Column::Billed => println!("{:<34} {count:>10.4}", column.name()),
            Column::Orphan
            | Column::Double
            | Column::Exit
            | Column::Changed
            | Column::Restart
            | Column::Stuck => println!("{:<34} {count:>10}", column.name()),
        }
    }
    println!("{:<34} {:>10}", "ORCA ended by itself", tally.unexplained);
}

/// By instance type, as the local cloud's catalog has them.
fn prices() -> Result<BTreeMap<String, f64>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/localstack/src/ec2/catalog/types.txt");
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    let price = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(((*words.first()?).to_owned(), words.get(15)?.parse().ok()?))
    };
    Ok(text.lines().filter(|line| !line.starts_with('#')).filter_map(price).collect())
}

/// Keeps what is needed to find out why, under `target/chaos`.
pub(crate) fn keep(world: &World, settings: &Settings) -> Result<()> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("target/chaos/{}", settings.seed));
    std::fs::create_dir_all(&folder)?;
    for name in ["orca.log", "audit.log", "localstack.log", "failpoints"] {
        // A world that did not come up has not all of them.
        drop(std::fs::copy(world.file(name), folder.join(name)));
    }
    if let Ok(history) = http("GET", "/_local/history", None) {
        std::fs::write(folder.join("history.json"), history.to_string())?;
    }
    Ok(())
}
