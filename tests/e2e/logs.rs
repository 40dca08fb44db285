//! Container logs that outlive their machine.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::interop;
use crate::robustness::with_configuration;
use crate::world::clients::read_logs;
use crate::world::{Namespace, condition, eventually, http, metric, text};

pub(crate) const TESTS: &[crate::Test] = &[
    ("logs::every_option_is_answered_by_the_archive_as_by_the_kubelet", options),
    ("logs::a_follower_loses_and_repeats_nothing_when_the_machine_goes", follow),
    ("logs::what_a_deleted_pod_says_last_is_archived", farewell),
];
pub(crate) const ALONE: &[crate::Test] = &[
    ("logs::every_line_is_archived_through_cuts_kills_and_rotation", storm),
    ("logs::an_archive_that_refuses_stops_no_pod_and_loses_nothing", refused),
];

/// Lines of the pod in the storm, on each of both streams.
const LINES: u32 = 200_000;
/// For all of them to be written, archived and read back.
const STORM: Duration = Duration::from_secs(400);
/// For the last lines to be archived and the machine to end.
const DRAIN: Duration = Duration::from_secs(90);

/// Messages by stream, of the pod with this UID.
pub(crate) fn streams(ns: &Namespace<'_>, pod: &str, uid: &str) -> Result<BTreeMap<String, Vec<String>>> {
    read_logs(&format!("{}/{pod}/{uid}/", ns.name))
}

pub(crate) fn uid(pod: &Value) -> Result<String> {
    Ok(pod["metadata"]["uid"].as_str().context("uid")?.to_owned())
}

/// Waits until the stream of a container's run has its last event; answers all of them.
pub(crate) fn whole(ns: &Namespace<'_>, pod: &str, uid: &str, run: &str) -> Result<Vec<String>> {
    eventually("the whole log to be archived", DRAIN, || {
        let all = streams(ns, pod, uid)?;
        let stream = all.iter().find(|(name, _)| name.ends_with(run)).map(|(_, messages)| messages.clone());
        let is_whole = |all: &Vec<String>| all.iter().any(|message| message.contains(":eof "));
        Ok(stream.filter(is_whole).ok_or_else(|| all.keys().cloned().collect::<Vec<_>>()))
    })
}

/// Ends the machine of a pod, as a person would.
fn end_machine(ns: &Namespace<'_>, pod: &str) -> Result<()> {
    let id = ns.instance_of(pod)?["id"].as_str().context("id")?.to_owned();
    interop::terminate(ns.world, &id)?;
    ns.await_no_instance(Duration::from_secs(60))
}

/// What is asked for, beside the pod.
const QUESTIONS: &[&[&str]] = &[
    &[],
    &["-c", "main"],
    &["-c", "first"],
    &["-c", "side"],
    &["--all-containers", "--prefix"],
    &["-c", "main", "--prefix", "--tail=2"],
    &["--timestamps"],
    &["--tail=5"],
    &["--tail=0"],
    &["--tail=7", "--timestamps"],
    &["--tail=3", "-c", "side"],
    &["--limit-bytes=100"],
    &["--limit-bytes=77", "--tail=9"],
    &["--since-time=2020-01-01T00:00:00Z"],
    &["--since-time=2999-01-01T00:00:00Z"],
    &["--since=9h"],
    &["--previous"],
    &["--previous", "--timestamps", "--tail=2"],
    &["--previous", "-c", "side"],
    &["-c", "nobody"],
];
/// Options that kubectl has no flag for.
const QUERIES: &[&str] = &[
    "container=main&stream=Stderr",
    "container=main&stream=Stdout&timestamps=true",
    "container=main&stream=Stderr&tailLines=1",
    "container=main&limitBytes=0",
    "container=main&sinceSeconds=0",
];

fn options(ns: &Namespace<'_>) -> Result<()> {
    ns.pod(
        "talk",
        r#"
restartPolicy: OnFailure
initContainers:
- {name: first, image: 'busybox:stable', command: [sh, -c, 'echo from the first; sleep 2']}
containers:
- name: main
  image: 'busybox:stable'
  command: [sh, -c, 'for i in $(seq 40); do echo out $i; echo error $i >&2; done; printf "no newline, %20000s|" long; sleep 2;
    [ -e /kept/again ] || { touch /kept/again; exit 3; }']
  volumeMounts: [{name: kept, mountPath: /kept}]
- {name: side, image: 'busybox:stable', command: [sh, -c, 'printf "\377\376 not text\n\tgrün\n"; sleep 1; echo end; sleep 2']}
volumes: [{name: kept, emptyDir: {}}]
"#,
    )?;
    ns.await_phase("talk", "Succeeded")?;
    let ask = |question: &[&str]| ns.output(&[&["logs", "talk"], question].concat());
    let path = |query: &str| format!("/api/v1/namespaces/{}/pods/talk/log?{query}", ns.name);
    let raw = |query: &str| ns.output(&["get", "--raw", &path(query)]);
    let answers = || -> Result<Vec<(i32, Vec<u8>, String)>> {
        let asked = QUESTIONS.iter().map(|question| ask(question));
        let answers = asked.chain(QUERIES.iter().map(|query| raw(query)));
        answers
            .map(|output| {
                let mut output = output?;
                // kubectl asks for all containers at once; the last line of one may have no end.
                let mut lines: Vec<_> = text(&output.stdout).split("[pod/").map(str::to_owned).collect();
                if lines.len() > 1 {
                    lines.sort_unstable();
                    output.stdout = lines.concat().into_bytes();
                }
                Ok((output.status.code().unwrap_or(-1), output.stdout, text(&output.stderr)))
            })
            .collect()
    };
    let live = answers()?;
    whole(ns, "talk", &uid(&ns.get_pod("talk")?)?, "/main/1")?;
    end_machine(ns, "talk")?;
    let archived = answers()?;
    let questions = QUESTIONS.iter().map(|question| question.join(" "));
    let questions = questions.chain(QUERIES.iter().map(ToString::to_string));
    for ((question, live), archived) in questions.zip(&live).zip(&archived) {
        let at = live.1.iter().zip(&archived.1).position(|(a, b)| a != b);
        let near = |bytes: &[u8]| text(&bytes[at.unwrap_or(0).saturating_sub(40).min(bytes.len())..]);
        let shown = |answer: &(i32, Vec<u8>, String)| {
            let start: String = near(&answer.1).chars().take(200).collect();
            format!("{} with {} bytes, `{start}` at {at:?}, {:?}", answer.0, answer.1.len(), answer.2)
        };
        ensure!(
            live == archived,
            "logs {question}: the kubelet answered {}, the archive {}",
            shown(live),
            shown(archived)
        );
    }
    let answered = QUESTIONS.iter().zip(&live).filter(|(_, answer)| answer.0 == 0).count();
    ensure!(
        live[0].1.len() > 20_000 && answered == QUESTIONS.len() - 2,
        "{answered} questions were answered"
    );
    Ok(())
}

/// The numbers in lines such as `out 7`.
fn numbers(lines: &str, word: &str) -> Vec<u32> {
    let own = lines.lines().filter_map(|line| line.strip_prefix(word));
    own.filter_map(|number| number.trim().parse().ok()).collect()
}

fn follow(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "count",
        r#"
containers:
- name: main
  image: 'busybox:stable'
  command: [sh, -c, 'i=0; while :; do echo out $i; echo error $i >&2; i=$((i+1)); usleep 20000; done']
"#,
    )?;
    let mut follower = ns.background(&["logs", "-f", "count"])?;
    eventually("some lines", Duration::from_secs(30), || {
        let seen = ns.run(&["logs", "count"])?;
        Ok(if numbers(&seen, "out ").len() > 300 { Ok(()) } else { Err(seen.len()) })
    })?;
    end_machine(ns, "count")?;
    let mut out = String::new();
    follower.0.stdout.take().context("stdout")?.read_to_string(&mut out)?;
    let status = follower.0.wait()?;
    let archived = ns.run(&["logs", "count"])?;
    for word in ["out ", "error "] {
        let seen = numbers(&out, word);
        ensure!(seen == (0..u32::try_from(seen.len())?).collect::<Vec<_>>(), "{word}is not whole: {seen:?}");
        ensure!(seen.len() > 300, "{}", seen.len());
        // What was written in the machine's last second may have been seen without being archived.
        let archived = numbers(&archived, word);
        ensure!(seen.starts_with(&archived), "seen {}, archived {} of {word}", seen.len(), archived.len());
    }
    ensure!(status.success(), "kubectl logs -f ended with {status}");
    Ok(())
}

fn farewell(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "polite",
        r#"
containers:
- name: main
  image: 'busybox:stable'
  command: [sh, -c, 'trap "echo goodbye; sleep 0.5; exit 0" TERM; echo hello; while :; do sleep 0.1; done']
"#,
    )?;
    let uid = uid(&ns.get_pod("polite")?)?;
    ns.run(&["delete", "pod", "polite", "--grace-period=20"])?;
    let messages = whole(ns, "polite", &uid, "/main/0")?;
    ensure!(messages.iter().any(|message| message.ends_with(" goodbye")), "{messages:?}");
    let end = messages.last().context("an end")?;
    ensure!(end.contains(r#""exitCode":0"#), "{end}");
    ns.await_no_instance(DRAIN)
}

/// Every line on both streams, once and in order.
fn check_storm(log: &str) -> Result<()> {
    for word in ["out ", "error "] {
        let seen = numbers(log, word);
        let wrong = seen.iter().zip(0..).find(|(number, wanted)| *number != wanted);
        ensure!(wrong.is_none(), "{word}goes wrong at {wrong:?}");
        ensure!(seen.len() == usize::try_from(LINES)?, "{} lines of {word}", seen.len());
    }
    Ok(())
}

fn storm(ns: &Namespace<'_>) -> Result<()> {
    let config = ns.world.log("orca.yaml")?.replace("keepFinished: 5m", "keepFinished: 0s");
    ensure!(config.contains("keepFinished: 0s"), "{config}");
    with_configuration(ns.world, &config, || {
        // Slow enough for the kubelet to rotate the file, at which it looks every ten seconds.
        let spec = format!(
            r#"
restartPolicy: Never
containers:
- name: main
  image: 'busybox:stable'
  command: [sh, -c, 'i=0; while [ $i -lt {LINES} ]; do echo out $i; echo error $i >&2; i=$((i+1)); [ $((i % 5000)) -ne 0 ] || sleep 1; done; sleep 3']
"#
        );
        ns.ready_pod("storm", &spec)?;
        let id = ns.instance_of("storm")?["id"].as_str().context("id")?.to_owned();
        for round in 0..5 {
            http("POST", "/_local/cuts", Some(&json!({"instance_id": id, "duration_ms": 2_000})))?;
            if round % 2 == 1 {
                ns.world.script(&["orca-kill"])?;
                ns.world.script(&["orca-start", &ns.world.file("another.yaml").to_string_lossy()])?;
            }
            // What is cut next must be under way.
            let before = metric("orca_logs_events_total").unwrap_or(0.0);
            eventually("the archive to go on", Duration::from_secs(60), || {
                let now = metric("orca_logs_events_total").unwrap_or(0.0);
                Ok(if (now - before).abs() > 0.5 && now > 0.0 { Ok(()) } else { Err(now) })
            })?;
        }
        ns.await_pod("storm", "to succeed", STORM, |pod| pod["status"]["phase"] == "Succeeded")?;
        ns.await_no_instance(DRAIN)?;
        let all = streams(ns, "storm", &uid(&ns.get_pod("storm")?)?)?;
        let files: std::collections::BTreeSet<_> = all
            .values()
            .flatten()
            .filter_map(|message| Some(message.split_once(":@")?.1.split('.').next()?.to_owned()))
            .collect();
        ensure!(files.len() > 1, "the file was not rotated: {files:?}");
        check_storm(&ns.run(&["logs", "storm"])?)
    })
}

fn refused(ns: &Namespace<'_>) -> Result<()> {
    let denied = json!({"action": "PutLogEvents", "times": 100_000, "then": "refuse", "code": "AccessDeniedException", "status": 400});
    http("POST", "/_local/faults", Some(&denied))?;
    let told = ns
        .pod("mute", "restartPolicy: Never\ncontainers: [{name: main, image: 'busybox:stable', command: [sh, -c, 'echo heard; sleep 2']}]")
        .and_then(|()| ns.await_phase("mute", "Succeeded"))
        .and_then(|_| {
            eventually("the node to tell of the archive", Duration::from_secs(30), || {
                let node = ns.world.get("/api/v1/nodes/orca")?.context("the node")?;
                let status = condition(&node, "LogArchiveWorks").map(str::to_owned);
                Ok(if status.as_deref() == Some("False") { Ok(node) } else { Err(status) })
            })
        });
    http("DELETE", "/_local/faults", None)?;
    let node = told?;
    ensure!(condition(&node, "Ready") == Some("True"), "the node is not Ready for the archive's trouble");
    let messages = whole(ns, "mute", &uid(&ns.get_pod("mute")?)?, "/main/0")?;
    ensure!(messages[0].ends_with(" heard"), "{messages:?}");
    eventually("the node to tell that it works", Duration::from_secs(60), || {
        let node = ns.world.get("/api/v1/nodes/orca")?.context("the node")?;
        let status = condition(&node, "LogArchiveWorks").map(str::to_owned);
        Ok(if status.as_deref() == Some("True") { Ok(()) } else { Err(status) })
    })
}
