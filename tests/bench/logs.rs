//! Container logs: how soon a follower sees a line, how fast a machine's logs come into the archive, and how fast they
//! are read back.

use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::gauge::{calls, count, total};
use crate::table::{Sample, Table};
use crate::world::clients::{python, read_logs};
use crate::world::{CLOUD, Namespace, World, eventually, http, metric, text};

/// Lines that a follower is watched for.
const TICKS: usize = 40;
/// What an SSM session carries from a machine, in bytes a second (research: 0.6 to 0.8 MB/s).
const SESSION: u64 = 600_000;
/// Of ordinary text, written at once.
const BURST_MIB: usize = 12;
/// Of a log that is read back.
const LONG_MIB: usize = 100;
/// For the slowest of these.
const PATIENCE: Duration = Duration::from_secs(500);
/// A line as servers write it, about 130 bytes; `$i` differs.
const LINE: &str = "2026-11-21 03:29:11,489 INFO [worker-$((i % 7))] request id=$i path=/api/v1/items/$((i % 97)) status=200 took $((i % 311)) ms";

/// From a line's own time to its arrival at a follower, in milliseconds, of a pod that ticks while `/tick` is there.
pub(crate) fn latencies(ns: &Namespace<'_>, pod: &str) -> Result<Vec<f64>> {
    let mut follower = ns.background(&["logs", "-f", "--timestamps", "--tail=0", pod])?;
    let lines = BufReader::new(follower.0.stdout.take().context("stdout")?).lines();
    ns.run(&["exec", pod, "--", "touch", "/tick"])?;
    let mut seen = Vec::new();
    for line in lines.take(TICKS) {
        let line = line?;
        let now = orca::clock::now();
        let at: jiff::Timestamp = line.split(' ').next().unwrap_or_default().parse()?;
        seen.push(now.duration_since(at).as_secs_f64() * 1000.0);
    }
    ns.run(&["exec", pod, "--", "rm", "/tick"])?;
    ensure!(seen.len() == TICKS, "the follower ended after {} lines", seen.len());
    Ok(seen)
}

/// Beside those of a kubelet that the API server reaches itself.
pub(crate) fn beside(ours: &[f64], direct: &[f64], table: &mut Table) {
    let name = "the same kubelet, reached by the API server itself";
    table.compare(
        "ms",
        Sample { name: "kubectl logs -f, from the line to the terminal", values: ours },
        Sample { name, values: direct },
    );
}

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let world = World::start_with(&[])?;
    let result = world.in_namespace(|ns| {
        burst(ns, table)?;
        read_back(ns, table)
    });
    http("PATCH", "/_local/ssm", Some(&json!({"output_bytes_per_second": null})))?;
    world.stop().and(result)
}

/// Through a session as slow as a real one.
fn burst(ns: &Namespace<'_>, table: &mut Table) -> Result<()> {
    let lines = (BURST_MIB << 20) / 130;
    let write = format!("i=0; while [ $i -lt {lines} ]; do echo \"{LINE}\"; i=$((i+1)); done");
    ns.ready_pod(
        "burst",
        &format!(
            "containers:\n- name: main\n  image: busybox:stable\n  command: [sh, -c]\n  args:\n  - |\n    until [ -e /go ]; do usleep 100000; done\n    {write}\n    touch /done\n    sleep infinity\n"
        ),
    )?;
    http("PATCH", "/_local/ssm", Some(&json!({"output_bytes_per_second": SESSION})))?;
    let before = metric("orca_logs_read_bytes_total")?;
    let begin = Instant::now();
    ns.run(&["exec", "burst", "--", "touch", "/go"])?;
    eventually("the burst to be written", PATIENCE, || {
        Ok(ns.run(&["exec", "burst", "--", "ls", "/done"]).map_err(|error| error.to_string()))
    })?;
    let written = begin.elapsed();
    let mut last = (0.0, Instant::now());
    while last.1.elapsed() < Duration::from_secs(5) {
        let read = metric("orca_logs_read_bytes_total")? - before;
        if read > last.0 {
            last = (read, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = last.1.duration_since(begin);
    let rate = last.0 / took.as_secs_f64() / 1e6;
    table.one("lag at the end of a burst of logs", "s", took.saturating_sub(written).as_secs_f64());
    // The same text, by `cat` through a session of the same speed.
    ns.run(&["exec", "burst", "--", "sh", "-c", &format!("({write}) > /text")])?;
    let start = Instant::now();
    let output = ns.output(&["exec", "burst", "--", "cat", "/text"])?;
    let cat = count(output.stdout.len()) / start.elapsed().as_secs_f64() / 1e6;
    table.beside("archive of a machine's logs", "MB/s", rate, ("`cat` through the same channel", cat));
    http("PATCH", "/_local/ssm", Some(&json!({"output_bytes_per_second": null})))?;
    ns.run(&["delete", "pod", "burst", "--grace-period=1"])?;
    Ok(())
}

/// A long log whose machine is gone.
fn read_back(ns: &Namespace<'_>, table: &mut Table) -> Result<()> {
    // A line is 100 bytes; paced, so that the kubelet's rotation and the archive keep up.
    let line = "abcdefghij".repeat(9);
    let thousand = format!("yes {line}12345678 | head -n {}", (1 << 20) / 100);
    ns.pod(
        "long",
        &format!(
            "restartPolicy: Never\ncontainers:\n- name: main\n  image: busybox:stable\n  command: [sh, -c]\n  args: ['for i in $(seq {LONG_MIB}); do {thousand}; usleep 300000; done; sleep 3']\n"
        ),
    )?;
    let pod = ns.await_pod("long", "to succeed", PATIENCE, |pod| pod["status"]["phase"] == "Succeeded")?;
    let uid = pod["metadata"]["uid"].as_str().context("uid")?.to_owned();
    let prefix = format!("{}/long/{uid}/", ns.name);
    eventually("the log to be archived", PATIENCE, || {
        let streams = read_logs(&prefix)?;
        let is_ended = streams.values().flatten().any(|message| message.contains(":eof "));
        Ok(if is_ended { Ok(()) } else { Err("no end yet") })
    })?;
    let id = ns.instance_of("long")?["id"].as_str().context("id")?.to_owned();
    http("POST", &format!("/_local/instances/{id}/kill"), None)?;
    ns.await_no_instance(Duration::from_secs(90))?;
    // The rates of AWS, for all who read here.
    http("PATCH", "/_local/logs", Some(&json!({"throttle": "aws"})))?;
    compare(ns, &format!("{prefix}main/"), table)?;
    http("PATCH", "/_local/logs", Some(&json!({"throttle": "off"}))).map(drop)
}

/// One way to read the archived log.
struct Read {
    lines: f64,
    bytes: f64,
    seconds: f64,
    /// Calls of the archive.
    calls: f64,
}

impl Read {
    /// Of the log itself: what else an event holds is no gain to anybody.
    fn rate(&self) -> f64 {
        self.bytes / self.seconds / 1e6
    }
}

/// The same stream of the same store, with as many events, by three readers: `kubectl`, whose bytes pass ORCA and the API
/// server; the API server's own part, which is one connection to ORCA; and the vendor's own client, which is one
/// connection to the store and whose start is not counted.
fn compare(ns: &Namespace<'_>, stream: &str, table: &mut Table) -> Result<()> {
    let kubectl = read(|| Ok(ns.output(&["logs", "long"])?.stdout))?;
    ensure!(kubectl.bytes > count(LONG_MIB) * 900_000.0, "only {} bytes came back", kubectl.bytes);
    let node = read(|| at_the_node(ns, "long"))?;
    let before = reads()?;
    let output = python("timed.py").args(["events", CLOUD, stream]).output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    let theirs: Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| theirs[key].as_f64().with_context(|| format!("`{key}` in {theirs}"));
    let theirs = Read {
        lines: number("items")?,
        // The same text, so that both rates are of the same bytes.
        bytes: kubectl.bytes,
        seconds: number("ms")? / 1000.0,
        calls: reads()? - before,
    };
    let vendor = "get-log-events, page by page, by botocore";
    for (name, ours) in [
        ("kubectl logs of 100 MB from the archive", &kubectl),
        ("the same, asked of the node as the API server does", &node),
    ] {
        table.beside(name, "MB/s", ours.rate(), (vendor, theirs.rate()));
        // One event of each run is its end.
        table.beside(&format!("{name}: lines, beside events"), "", ours.lines, (vendor, theirs.lines));
        table.beside(&format!("{name}: reads of the archive"), "calls", ours.calls, (vendor, theirs.calls));
    }
    Ok(())
}

fn read(log: impl FnOnce() -> Result<Vec<u8>>) -> Result<Read> {
    let (before, start) = (reads()?, Instant::now());
    let log = log()?;
    let seconds = start.elapsed().as_secs_f64();
    let lines = log.iter().filter(|byte| **byte == b'\n').count();
    Ok(Read { lines: count(lines), bytes: count(log.len()), seconds, calls: reads()? - before })
}

/// With the API server's own certificate.
fn at_the_node(ns: &Namespace<'_>, pod: &str) -> Result<Vec<u8>> {
    let url = format!("https://10.88.0.10:10250/containerLogs/{}/{pod}/main", ns.name);
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "--insecure", "-m", "300", &url]);
    curl.arg("--cert").arg(ns.world.file("pki/kubelet-client.crt"));
    curl.arg("--key").arg(ns.world.file("pki/kubelet-client.key"));
    let output = curl.output()?;
    ensure!(output.status.success(), "{url}: {}", text(&output.stderr));
    Ok(output.stdout)
}

/// Reads of events that the local cloud has answered.
fn reads() -> Result<f64> {
    let calls = calls()?;
    Ok(["GetLogEvents", "FilterLogEvents"]
        .iter()
        .filter_map(|action| calls.get(*action))
        .map(|of| total(*of))
        .sum())
}
