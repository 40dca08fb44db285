//! An orderly end of ORCA: who looks on is told, what is in hand is put, and what is left is found by the next start.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orca::endpoint::frames::FAREWELL;
use serde_json::{Value, json};

use crate::kubectl::{PROTOCOLS, over};
use crate::logs;
use crate::world::{Namespace, START, World, container, eventually, http, metric};

pub(crate) const TESTS: &[crate::Test] = &[
    ("shutdown::streams_are_told_and_containers_go_on", streams),
    ("shutdown::lines_in_hand_are_archived_once_and_in_order", lines),
    ("shutdown::what_is_left_is_told_and_found_by_the_next_start", left),
    ("shutdown::a_second_signal_ends_it_at_once_and_hurts_nothing", twice),
];

const SLEEP: &str = "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]";
/// Longer than any end of ORCA takes, so that a launch is under way at it.
const LATE: Duration = Duration::from_secs(30);

/// ORCA as a child of the test, which hears how it ends.
struct Orca<'a> {
    world: &'a World,
    child: Child,
    /// Bytes of the log before it.
    before: usize,
}

impl<'a> Orca<'a> {
    fn start(world: &'a World, config: &Path) -> Result<Self> {
        let log = OpenOptions::new().append(true).create(true).open(world.file("orca.log"))?;
        let before = world.log("orca.log")?.len();
        let child = Command::new(env!("CARGO_BIN_EXE_orca"))
            .arg("run")
            .arg("--config")
            .arg(config)
            .arg("--kubeconfig")
            .arg(world.file("orca.conf"))
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
            .envs([("AWS_EC2_METADATA_DISABLED", "true"), ("POD_NAME", "orca"), ("POD_IP", "10.88.0.10")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let orca = Self { world, child, before };
        leads()?;
        Ok(orca)
    }

    fn terminate(&self) -> Result<()> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(status.success(), "kill ended with {status}");
        Ok(())
    }

    /// Its exit code.
    fn ends(&mut self, deadline: Duration) -> Result<i32> {
        let child = &mut self.child;
        let status = eventually("ORCA to end", deadline, || Ok(child.try_wait()?.ok_or("it runs")))?;
        status.code().with_context(|| format!("ORCA ended with {status}"))
    }

    /// What it said.
    fn log(&self) -> Result<String> {
        Ok(self.world.log("orca.log")?.split_off(self.before))
    }

    /// Its last line.
    fn report(&self) -> Result<String> {
        let log = self.log()?;
        let last = log.lines().rev().find(|line| line.contains("machines and their pods go on"));
        Ok(last.with_context(|| format!("no report in {log}"))?.to_owned())
    }
}

impl Drop for Orca<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn leads() -> Result<()> {
    eventually("ORCA to lead", Duration::from_secs(30), || {
        let leads = metric("orca_leader").ok();
        Ok(if leads == Some(1.0) { Ok(()) } else { Err(leads) })
    })
}

/// ORCA of this configuration as a child of the test; afterwards the world has its own again, whatever happened.
fn with_own<T>(world: &World, config: &str, work: impl FnOnce(&mut Orca<'_>) -> Result<T>) -> Result<T> {
    let file = world.file("shutdown.yaml");
    std::fs::write(&file, config)?;
    world.script(&["orca-stop"])?;
    let result = Orca::start(world, &file).and_then(|mut orca| work(&mut orca));
    world.script(&["orca-start"])?;
    leads()?;
    result
}

/// A pod whose machine is asked for while the answer takes longer than ORCA's end.
fn with_late_launch<T>(ns: &Namespace<'_>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let late = json!({"action": "RunInstances", "answer_delay_ms": u64::try_from(LATE.as_millis())?});
    http("POST", "/_local/faults", Some(&late))?;
    let result = ns
        .pod("late", SLEEP)
        .and_then(|()| {
            eventually("a launch without an answer", Duration::from_secs(20), || {
                let all = machines(ns, "late")?;
                Ok(if all.is_empty() { Err("no machine") } else { Ok(()) })
            })
        })
        .and_then(|()| work());
    http("DELETE", "/_local/faults", None)?;
    result
}

/// The instances of one pod of several.
fn machines(ns: &Namespace<'_>, pod: &str) -> Result<Vec<Value>> {
    let mut all = ns.instances()?;
    all.retain(|instance| instance["tags"]["orca.research/pod-name"] == pod);
    Ok(all)
}

/// What must not change of a container when ORCA does.
fn run_of(ns: &Namespace<'_>, pod: &str) -> Result<(Value, i64)> {
    let object = ns.get_pod(pod)?;
    Ok((container(&object, "main").context("container main")?["containerID"].clone(), ns.restarts(pod)?))
}

/// A kubectl whose output goes to a file.
struct Watched {
    what: String,
    child: Child,
    file: PathBuf,
}

impl Watched {
    fn start(ns: &Namespace<'_>, what: &str, mut command: Command) -> Result<Self> {
        let file = ns.world.file(&format!("{}-{}", ns.name, what.replace(' ', "-")));
        let output = File::create(&file)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Self { what: what.to_owned(), child: command.spawn()?, file })
    }

    fn text(&self) -> Result<String> {
        Ok(crate::world::text(&std::fs::read(&self.file)?))
    }

    fn says(&self, word: &str) -> Result<()> {
        eventually(&format!("{} to say {word}", self.what), Duration::from_secs(30), || {
            let text = self.text()?;
            Ok(if text.contains(word) { Ok(()) } else { Err(text) })
        })
    }

    /// Its exit code and what it said.
    fn ends(&mut self, deadline: Duration) -> Result<(i32, String)> {
        let child = &mut self.child;
        let ended = eventually(&format!("{} to end", self.what), deadline, || {
            Ok(child.try_wait()?.ok_or("it runs"))
        })?;
        Ok((ended.code().unwrap_or(-1), self.text()?))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_file(&self.file));
    }
}

fn streams(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "talks",
        "containers: [{name: main, image: 'busybox:stable', command: [sh, -c, 'i=0; while :; do echo line $i; i=$((i+1)); usleep 100000; done']}]",
    )?;
    let before = run_of(ns, "talks")?;
    with_own(ns.world, &ns.world.log("orca.yaml")?, |orca| {
        ns.exec_works("talks")?;
        let mut failing = Vec::new();
        for (protocol, websockets) in PROTOCOLS {
            for (what, script) in [
                ("silent", "echo begun; sleep 600"),
                // Most of the time in the middle of a frame.
                ("loud", "echo begun >&2; cat /dev/zero"),
            ] {
                let mut command = ns.command(&["exec", "talks", "--", "sh", "-c", script]);
                let what = format!("{what} {protocol}");
                if what.starts_with("loud") {
                    // What it says beside that is what is looked at.
                    let kubectl = command;
                    command = Command::new("sh");
                    command.args(["-c", "exec \"$@\" > /dev/null", "sh"]).arg(kubectl.get_program());
                    command.args(kubectl.get_args());
                }
                let watched = Watched::start(ns, &what, over(command, websockets))?;
                watched.says("begun")?;
                failing.push(watched);
            }
        }
        let mut logs = Watched::start(ns, "logs", ns.command(&["logs", "-f", "talks"]))?;
        logs.says("line 10\n")?;
        let mut forward = Watched::start(ns, "port-forward", ns.command(&["port-forward", "talks", ":80"]))?;
        forward.says("Forwarding from")?;

        let began = Instant::now();
        orca.terminate()?;
        for watched in &mut failing {
            let (code, said) = watched.ends(Duration::from_secs(10))?;
            ensure!(code != 0 && said.contains(FAREWELL), "{}: {code} {said}", watched.what);
        }
        let (_, said) = logs.ends(Duration::from_secs(10))?;
        let (lines, last) = said.trim_end().rsplit_once('\n').context("lines")?;
        ensure!(last == FAREWELL, "{said}");
        let count = lines.lines().count();
        for (number, line) in lines.lines().enumerate() {
            // The last may have been on its way.
            let is_it = |whole: &str| line == whole || (number + 1 == count && whole.starts_with(line));
            ensure!(is_it(&format!("line {number}")), "{line} is the {number}th line");
        }
        let (code, said) = forward.ends(Duration::from_secs(10))?;
        ensure!(code != 0 && said.contains("lost connection to pod"), "{code} {said}");
        let told = began.elapsed();
        ensure!(told < Duration::from_secs(10), "it took {told:?} until all had ended");
        let code = orca.ends(Duration::from_secs(20))?;
        let report = orca.report()?;
        ensure!(code == 0 && report.contains("nothing is left to the next start"), "{code} {report}");
        Ok(())
    })?;
    ns.exec_works("talks")?;
    ensure!(run_of(ns, "talks")? == before, "the container was touched");
    Ok(())
}

fn lines(ns: &Namespace<'_>) -> Result<()> {
    const LINES: usize = 800;
    ns.pod(
        "count",
        &format!(
            "restartPolicy: Never\ncontainers: [{{name: main, image: 'busybox:stable', command: [sh, -c, \
             'i=0; while [ $i -lt {LINES} ]; do echo out $i; i=$((i+1)); usleep 10000; done']}}]"
        ),
    )?;
    let uid = logs::uid(&ns.await_phase("count", "Running")?)?;
    // Twice: ORCA before the test's own, and that one.
    with_own(ns.world, &ns.world.log("orca.yaml")?, |orca| {
        let count =
            || -> Result<usize> { Ok(logs::streams(ns, "count", &uid)?.values().map(Vec::len).sum()) };
        let before = count()?;
        eventually("the archive to go on", Duration::from_secs(30), || {
            let now = count()?;
            Ok(if now > before { Ok(()) } else { Err(now) })
        })?;
        orca.terminate()?;
        let code = orca.ends(Duration::from_secs(20))?;
        let report = orca.report()?;
        ensure!(code == 0 && report.contains("nothing is left to the next start"), "{code} {report}");
        ensure!(ns.get_pod("count")?["status"]["phase"] == "Running", "it ended before ORCA did");
        Ok(())
    })?;
    ns.await_phase("count", "Succeeded")?;
    let messages = logs::whole(ns, "count", &uid, "/main/0")?;
    let numbers: Vec<usize> =
        messages.iter().filter_map(|message| message.rsplit_once(" out ")?.1.parse().ok()).collect();
    let wrong = numbers.iter().zip(0..).find(|(number, wanted)| *number != wanted);
    ensure!(wrong.is_none() && numbers.len() == LINES, "{} lines, wrong at {wrong:?}", numbers.len());
    Ok(())
}

fn left(ns: &Namespace<'_>) -> Result<()> {
    let config = ns.world.log("orca.yaml")?.replace("limits:\n", "shutdown: { deadline: 4s }\nlimits:\n");
    ensure!(config.contains("deadline: 4s"), "{config}");
    with_own(ns.world, &config, |orca| {
        with_late_launch(ns, || {
            orca.terminate()?;
            let code = orca.ends(Duration::from_secs(6))?;
            let report = orca.report()?;
            let told = "left to the next start: 1 passes over pods, 1 launches without an answer among them";
            ensure!(code == 3 && report.contains(told), "{code} {report}");
            Ok(())
        })
    })?;
    one_machine(ns, "late")
}

/// That the next start went on with what was left: the pod runs, on the machine that was asked for.
fn one_machine(ns: &Namespace<'_>, pod: &str) -> Result<()> {
    let ready = format!("--timeout={}s", START.as_secs());
    ns.run(&["wait", &format!("pod/{pod}"), "--for=condition=Ready", &ready])?;
    let all = machines(ns, pod)?;
    ensure!(all.len() == 1, "{} machines for one pod: {all:?}", all.len());
    Ok(())
}

fn twice(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("steady", SLEEP)?;
    let before = run_of(ns, "steady")?;
    with_own(ns.world, &ns.world.log("orca.yaml")?, |orca| {
        with_late_launch(ns, || {
            orca.terminate()?;
            eventually("ORCA to begin to stop", Duration::from_secs(5), || {
                let log = orca.log()?;
                Ok(if log.contains("stopping") { Ok(()) } else { Err(log) })
            })?;
            ensure!(orca.child.try_wait()?.is_none(), "it waited for nothing");
            let began = Instant::now();
            orca.terminate()?;
            let code = orca.ends(Duration::from_secs(2))?;
            ensure!(code == 5, "it ended with {code} after {:?}", began.elapsed());
            let log = orca.log()?;
            ensure!(log.contains("asked again: stopped at once"), "{log}");
            Ok(())
        })
    })?;
    one_machine(ns, "late")?;
    ns.exec_works("steady")?;
    ensure!(run_of(ns, "steady")? == before, "the container was touched");
    Ok(())
}
