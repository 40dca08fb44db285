//! A thousand pods of ORCA's node at rest, beside a thousand equal ones of Virtual Kubelet's own program with its mock
//! provider, in the same minutes of the same cluster: CPU, memory, and what both ask of the API server.
//!
//! ORCA's machines are states only. Each pod has its machine, which never answers, so none of them runs: ORCA dials all
//! of them for as long as this takes. The mock provider says of its pods that they run, and does nothing more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::audit::{ORCA, Request, by_kind, requests};
use crate::burst::{await_told, statuses};
use crate::bursts::{NODE, UNLIMITED, create};
use crate::configured::Configured;
use crate::gauge::{calls, count, now, since, total};
use crate::launches::{STATES, WIDE};
use crate::pipe::Pipe;
use crate::process::Process;
use crate::table::Table;
use crate::world::{Namespace, World, eventually, metric};

const PODS: usize = 1000;
/// Of the other node, of its process's files and of its ServiceAccount.
const RIVAL: &str = "virtual-kubelet";
const RIVALS_USER: &str = "system:serviceaccount:default:virtual-kubelet";
const AUDIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/audit.yaml");
/// The other node's client sends five requests a second, and two for each pod.
const PATIENCE: Duration = Duration::from_secs(900);
/// What is left of the start must not count as rest: events, and pauses between dials that grow to five seconds.
const SETTLE: Duration = Duration::from_secs(60);
/// As long as the slowest thing that a node does again and again, its status.
const REST: Duration = Duration::from_secs(300);

/// One of the two nodes.
struct Side {
    process: Process,
    pipe: Pipe,
    user: &'static str,
}

/// What one took.
struct Taken {
    cpu: f64,
    bytes: f64,
    requests: Vec<Request>,
    resident: f64,
}

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let config = Configured::new(&[&WIDE[..], &[UNLIMITED]].concat())?;
    let variables = [STATES, ("ORCA_CONFIG", config.path()?), ("ORCA_AUDIT_POLICY", AUDIT)];
    let world = World::start_with(&variables)?;
    let result = world.in_namespace(|ns| {
        let (orca, rival) = (pipe_orca(&world)?, Pipe::open()?);
        world.script(&["virtual-kubelet", &rival.server()])?;
        create(ns, NODE, NODE, PODS, &json!({}))?;
        create(ns, RIVAL, RIVAL, PODS, &json!({}))?;
        await_told(ns, PODS)?;
        await_running(ns)?;
        std::thread::sleep(SETTLE);
        let ours = Side { process: Process::of(&world, "orca")?, pipe: orca, user: ORCA };
        let theirs = Side { process: Process::of(&world, RIVAL)?, pipe: rival, user: RIVALS_USER };
        rest(table, &world, &ours, &theirs)?;
        ns.run(&["delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"])?;
        ns.await_no_instance(Duration::from_secs(400))
    });
    world.stop().and(result)
}

/// ORCA again, through a pipe.
fn pipe_orca(world: &World) -> Result<Pipe> {
    let pipe = Pipe::open()?;
    let path = world.file("orca.conf");
    let kubeconfig = std::fs::read_to_string(&path)?;
    let server =
        kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server: ")).context("a server")?;
    let piped = kubeconfig.replace(server, &pipe.server());
    world.script(&["orca-stop"])?;
    std::fs::write(&path, piped)?;
    world.script(&["orca-start"])?;
    eventually("ORCA to act", Duration::from_secs(60), || {
        let leads = metric("orca_leader").unwrap_or(0.0);
        Ok(if leads > 0.0 { Ok(()) } else { Err(leads) })
    })?;
    ensure!(pipe.passed() > 0, "ORCA does not use the pipe");
    Ok(pipe)
}

fn await_running(ns: &Namespace<'_>) -> Result<()> {
    eventually("the other node's pods to run", PATIENCE, || {
        let running = statuses(ns)?.iter().filter(|status| status["phase"] == "Running").count();
        if running == PODS {
            return Ok(Ok(()));
        }
        std::thread::sleep(Duration::from_secs(5));
        Ok(Err(running))
    })
}

fn rest(table: &mut Table, world: &World, ours: &Side, theirs: &Side) -> Result<()> {
    let (called, from, begin) = (calls()?, now(), Instant::now());
    let before = [ours.read()?, theirs.read()?];
    std::thread::sleep(REST);
    let after = [ours.read()?, theirs.read()?];
    let (called, to, took) = (since(&called, &calls()?), now(), begin.elapsed());
    let taken = |side: &Side, index: usize| -> Result<Taken> {
        let ((cpu, bytes), (cpu_before, bytes_before)) = (after[index], before[index]);
        let requests = requests(world, side.user, from, to)?;
        Ok(Taken {
            cpu: cpu - cpu_before,
            bytes: total(bytes - bytes_before),
            requests,
            resident: side.process.resident()?,
        })
    };
    let (ours, theirs) = (taken(ours, 0)?, taken(theirs, 1)?);
    let minutes = took.as_secs_f64() / 60.0;
    let beside = |table: &mut Table, what: &str, unit: &str, of: &dyn Fn(&Taken) -> f64| {
        let name = format!("{PODS} pods at rest: {what}");
        table.beside(&name, unit, of(&ours), ("virtual-kubelet, mock provider", of(&theirs)));
    };
    beside(table, "CPU per hour", "s", &|taken| taken.cpu / minutes * 60.0);
    beside(table, "resident memory", "MiB", &|taken| taken.resident);
    beside(table, "requests to the API server per minute", "requests", &|taken| {
        count(taken.requests.len()) / minutes
    });
    let writes = |taken: &Taken| count(taken.requests.iter().filter(|one| one.is_write()).count());
    beside(table, "of those, writes", "requests", &|taken| writes(taken) / minutes);
    beside(table, "bytes to and from the API server per minute", "KiB", &|taken| {
        taken.bytes / 1024.0 / minutes
    });
    tell(table, "of ORCA's requests per minute", &by_kind(&ours.requests), minutes);
    tell(table, "of virtual-kubelet's requests per minute", &by_kind(&theirs.requests), minutes);
    tell(table, "cloud calls per minute", &called, minutes);
    Ok(())
}

fn tell(table: &mut Table, what: &str, kinds: &BTreeMap<String, u64>, minutes: f64) {
    for (kind, of) in kinds {
        table.one(&format!("{PODS} pods at rest: {what}, {kind}"), "a minute", total(*of) / minutes);
    }
}

impl Side {
    /// CPU in seconds, and bytes.
    fn read(&self) -> Result<(f64, u64)> {
        Ok((self.process.cpu()?, self.pipe.passed()))
    }
}
