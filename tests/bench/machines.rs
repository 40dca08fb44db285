//! One pod's way on a machine of its own: from first contact to its running container, and what it costs in cloud calls.
//!
//! Beside each stands the same kubelet on the same machine, without ORCA.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::alone::{Alone, Source};
use crate::gauge::{Calls, boot_time, calls, count, millis, since, total, watches};
use crate::table::{Sample, Table, at};
use crate::world::{Namespace, START, eventually};
use crate::{logs, tunnel};

/// Machines, one after the other.
const ROUNDS: usize = 3;
/// What may lie between us and the kubelet by itself, in milliseconds.
const BAR: f64 = 1000.0;

/// A pod that tells when its container began to run, and when the kubelet that runs it was started: seconds of uptime,
/// and clock ticks of it.
pub(crate) const CLOCKS: &str = r#"
hostPID: true
containers:
- name: main
  image: busybox:stable
  command: [sh, -c]
  args: ["read up rest < /proc/uptime; echo $up $(cut -d' ' -f22 /proc/$(pidof kubelet)/stat); while :; do usleep 200000; [ ! -e /tick ] || echo tick; done"]
"#;

/// How long a start took, in milliseconds.
pub(crate) struct Start {
    /// From its beginning to the kubelet's process.
    pub(crate) kubelet: f64,
    /// From there to the container's.
    pub(crate) container: f64,
}

impl Start {
    /// From what the container printed, and when it all began (milliseconds of uptime).
    pub(crate) fn read(printed: &str, begin: f64) -> Result<Self> {
        let [up, ticks] = printed.split_whitespace().collect::<Vec<_>>()[..] else {
            anyhow::bail!("expected two numbers of the container, found {printed:?}")
        };
        // `USER_HZ` is 100 on every Linux that we may meet.
        let (up, kubelet) = (up.parse::<f64>()? * 1000.0, ticks.parse::<f64>()? * 10.0);
        Ok(Self { kubelet: kubelet - begin, container: up - kubelet })
    }

    fn whole(&self) -> f64 {
        self.kubelet + self.container
    }
}

pub(crate) fn measure(ns: &Namespace<'_>, table: &mut Table) -> Result<()> {
    let (mut ours, mut api, mut file) = (Vec::new(), Vec::new(), Vec::new());
    let mut lives = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("start-{round}");
        let before = calls()?;
        ns.ready_pod(&name, CLOCKS)?;
        let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
        let alone = Alone::on(ns, &id)?;
        let printed = alone.printed(&format!("{}_{name}_*", ns.name))?;
        ours.push(Start::read(&printed, reached(ns, &id)? - boot_time()?)?);
        let through = (round == 0).then(|| tunnel::Figures::of_exec(ns, &name)).transpose()?;
        let followed = (round == 0).then(|| logs::latencies(ns, &name)).transpose()?;

        alone.prepare()?;
        let open = watches(ns)?;
        api.push(alone.start(Source::ApiServer)?);
        if let Some(through) = through {
            let held = watches(ns)? - open;
            table.one("watches at the API server of one kubelet by itself", "watches", held);
            if let Some(followed) = followed {
                logs::beside(&followed, &logs::latencies(ns, crate::alone::POD)?, table);
            }
            through.beside(
                "exec",
                "the same kubelet, reached by the API server itself",
                &tunnel::Figures::of_exec(ns, crate::alone::POD)?,
                table,
            );
        }
        file.push(alone.start(Source::File)?);
        alone.leave()?;
        ns.run(&["delete", "pod", &name, "--wait=false"])?;
        alone.hand_back()?;
        ns.await_gone(&name, Duration::from_secs(90))?;
        ns.await_no_instance(Duration::from_secs(90))?;
        // The first one's also has the streams that were measured.
        if round > 0 {
            lives.push(since(&before, &calls()?));
        }
    }
    starts(&ours, &api, &file, table);
    life(&lives, table);
    Ok(())
}

fn starts(ours: &[Start], api: &[Start], file: &[Start], table: &mut Table) {
    let whole = |starts: &[Start]| starts.iter().map(Start::whole).collect::<Vec<_>>();
    let (our, by_api, by_file) = (whole(ours), whole(api), whole(file));
    let name = "machine reachable → container running";
    let by_api_name = "containerd and the same kubelet by hand, its pod from the API server";
    let by_file_name = "the same, its pod from a file";
    table.compare("ms", Sample { name, values: &our }, Sample { name: by_api_name, values: &by_api });
    table.compare("ms", Sample { name, values: &our }, Sample { name: by_file_name, values: &by_file });
    let less = at(&our, 0.5) - at(&by_api, 0.5);
    table.bar(&format!("{name}, less {by_api_name}"), "ms", less, BAR);
    let part = |starts: &[Start], part: fn(&Start) -> f64| starts.iter().map(part).collect::<Vec<_>>();
    for (name, of) in [
        ("of that, until the kubelet's process starts", (|start| start.kubelet) as fn(&Start) -> f64),
        ("of that, from there to the container", |start| start.container),
    ] {
        let (ours, theirs) = (part(ours, of), part(api, of));
        table.compare("ms", Sample { name, values: &ours }, Sample { name: "by hand", values: &theirs });
    }
}

fn life(lives: &[Calls], table: &mut Table) {
    let mut all = Calls::new();
    for life in lives {
        for (name, calls) in life {
            *all.entry(name.clone()).or_default() += calls;
        }
    }
    let each = |calls: u64| total(calls) / count(lives.len());
    let others: u64 =
        all.iter().filter(|(name, _)| *name != "DescribeInstances").map(|(_, calls)| calls).sum();
    table.one("cloud calls over a pod's life, besides lists of instances", "calls", each(others));
    for (name, calls) in all {
        table.one(&format!("of those, {name}"), "calls", each(calls));
    }
}

/// When the machine's agent first took a session (milliseconds since 1970).
fn reached(ns: &Namespace<'_>, id: &str) -> Result<f64> {
    let line = eventually("the first contact in ORCA's log", START, || {
        let log = ns.world.log("orca.log")?;
        let line = log.lines().find(|line| line.contains("session started") && line.contains(id));
        Ok(line.map(str::to_owned).ok_or("none"))
    })?;
    millis(line.split_whitespace().next().context("a time")?)
}
