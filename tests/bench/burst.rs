//! What a burst takes of memory: two thousand pods at once beside two hundred. The machines are states only.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bursts::{NODE, UNLIMITED, create, launches};
use crate::configured::Configured;
use crate::gauge::count;
use crate::launches::{STATES, WIDE};
use crate::process::Process;
use crate::table::Table;
use crate::world::{Namespace, World, eventually, metric};

const SMALL: usize = 200;
const LARGE: usize = 2000;
/// For the machines of the larger one to be launched, and to end.
const PATIENCE: Duration = Duration::from_secs(600);
/// What was under way when the last machine was seen is over by then.
const SETTLE: Duration = Duration::from_secs(20);

/// Of a process that has seen no other pods. All in MiB.
struct Memory {
    /// Before the burst.
    idle: f64,
    /// The most there was of it, until every pod had its machine and the status that says so.
    peak: f64,
    /// A while after that.
    after: f64,
    /// When the pods and their machines were gone.
    gone: f64,
}

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let config = Configured::new(&[&WIDE[..], &[UNLIMITED]].concat())?;
    let world = World::start_with(&[STATES, ("ORCA_CONFIG", config.path()?)])?;
    let result = world.in_namespace(|ns| {
        let (small, large) = (of(ns, SMALL)?, of(ns, LARGE)?);
        table.one("resident memory of orca before a burst", "MiB", large.idle);
        let beside = |table: &mut Table, what: &str, unit: &str, of: &dyn Fn(&Memory, usize) -> f64| {
            let name = format!("{what}, burst of {LARGE} pods");
            table.beside(&name, unit, of(&large, LARGE), (&format!("of {SMALL}"), of(&small, SMALL)));
        };
        beside(table, "peak resident memory of orca", "MiB", &|memory, _| memory.peak);
        beside(table, "of that, above idle, per pod", "KiB", &|memory, pods| {
            (memory.peak - memory.idle) * 1024.0 / count(pods)
        });
        beside(table, "resident memory with all machines there", "MiB", &|memory, _| memory.after);
        beside(table, "resident memory when all are gone", "MiB", &|memory, _| memory.gone);
        Ok(())
    });
    world.stop().and(result)
}

fn of(ns: &Namespace<'_>, pods: usize) -> Result<Memory> {
    ns.world.script(&["orca-stop"])?;
    ns.world.script(&["orca-start"])?;
    eventually("ORCA to act", Duration::from_secs(60), || {
        let leads = metric("orca_leader").unwrap_or(0.0);
        Ok(if leads > 0.0 { Ok(()) } else { Err(leads) })
    })?;
    std::thread::sleep(SETTLE);
    let orca = Process::of(ns.world, "orca")?;
    let idle = orca.resident()?;
    orca.forget_peak()?;
    let begin = Instant::now();
    let bound = create(ns, NODE, &format!("memory-{pods}"), pods, &json!({}))?;
    eprintln!("{pods} pods bound after {:.1} s", begin.elapsed().as_secs_f64());
    launches(ns, &bound, PATIENCE)?;
    eprintln!("{pods} machines launched after {:.1} s", begin.elapsed().as_secs_f64());
    await_told(ns, pods)?;
    std::thread::sleep(SETTLE);
    let (peak, after) = (orca.peak()?, orca.resident()?);
    ns.run(&["delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"])?;
    ns.await_no_instance(PATIENCE)?;
    std::thread::sleep(SETTLE);
    let gone = orca.resident()?;
    ensure!(Process::of(ns.world, "orca")? == orca, "ORCA was started again");
    Ok(Memory { idle, peak, after, gone })
}

/// Waits until the status of every pod of the namespace names its machine.
pub(crate) fn await_told(ns: &Namespace<'_>, pods: usize) -> Result<()> {
    eventually("every pod to name its machine", PATIENCE, || {
        let told = statuses(ns)?.iter().filter(|status| names_machine(status)).count();
        if told >= pods {
            return Ok(Ok(()));
        }
        // Such a list is work for the API server that is waited for.
        std::thread::sleep(Duration::from_secs(2));
        Ok(Err(told))
    })
}

fn names_machine(status: &Value) -> bool {
    let message = status["containerStatuses"][0]["state"]["waiting"]["message"].as_str();
    message.is_some_and(|message| message.starts_with("instance i-"))
}

/// The status of every pod of the namespace.
pub(crate) fn statuses(ns: &Namespace<'_>) -> Result<Vec<Value>> {
    let mut pods = ns.world.get(&format!("/api/v1/namespaces/{}/pods", ns.name))?.context("the pods")?;
    let pods = pods["items"].as_array_mut().context("items")?;
    Ok(pods.iter_mut().map(|pod| pod["status"].take()).collect())
}
