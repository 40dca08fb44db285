//! Everything a user does with kubectl on a running pod, over both of kubectl's streaming protocols.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::world::{Namespace, START, container, eventually, exit_code, text};

pub(crate) const TESTS: &[crate::Test] = &[
    ("kubectl::logs_takes_every_option", logs),
    ("kubectl::logs_of_a_finished_pod_are_kept_for_a_while", finished_logs),
    ("kubectl::exec_keeps_streams_apart_and_exit_codes_whole", exec),
    ("kubectl::exec_carries_fifty_megabytes_of_stdin", exec_stdin),
    ("kubectl::exec_has_a_terminal_that_can_be_resized", exec_tty),
    ("kubectl::attach_and_run_talk_to_the_container", attach),
    ("kubectl::cp_copies_both_ways", cp),
    ("kubectl::port_forward_carries_fifty_requests_at_once", port_forward),
    ("kubectl::describe_tells_what_happened", describe),
];

/// WebSocket, which kubectl prefers, and SPDY, which it falls back to.
pub(crate) const PROTOCOLS: [(&str, &str); 2] = [("WebSocket", "true"), ("SPDY", "false")];

const SLEEP: &str = "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]";

/// The same, over WebSocket (`true`) or SPDY (`false`).
pub(crate) fn over(mut command: Command, websockets: &str) -> Command {
    command
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
    command
}

fn logs(ns: &Namespace<'_>) -> Result<()> {
    ns.pod(
        "talker",
        r#"
containers:
- {name: loud, image: 'busybox:stable', command: [sh, -c, 'for i in 1 2 3 4 5; do echo line $i; done; sleep infinity']}
- name: crash
  image: busybox:stable
  command: [sh, -c, 'if [ -e /kept/x ]; then exec sleep infinity; fi; echo attempt; touch /kept/x; exit 1']
  volumeMounts: [{name: kept, mountPath: /kept}]
volumes: [{name: kept, emptyDir: {}}]
"#,
    )?;
    ns.await_pod("talker", "to have run twice", START, |pod| {
        container(pod, "crash").is_some_and(|it| it["restartCount"] == 1 && it["ready"] == true)
            && container(pod, "loud").is_some_and(|it| it["ready"] == true)
    })?;
    // A container that runs may not have said anything yet.
    eventually("five lines", Duration::from_secs(20), || {
        let seen = ns.run(&["logs", "talker", "-c", "loud"])?;
        Ok(if seen == "line 1\nline 2\nline 3\nline 4\nline 5\n" { Ok(()) } else { Err(seen) })
    })?;
    ensure!(ns.run(&["logs", "talker", "-c", "loud", "--tail=2"])? == "line 4\nline 5\n");
    ensure!(ns.run(&["logs", "talker", "-c", "loud", "--tail=0"])?.is_empty());
    ensure!(ns.run(&["logs", "talker", "-c", "loud", "--limit-bytes=6"])? == "line 1");
    ensure!(ns.run(&["logs", "talker", "-c", "loud", "--since=1h"])?.lines().count() == 5);
    let stamped = ns.run(&["logs", "talker", "-c", "loud", "--timestamps", "--tail=1"])?;
    ensure!(stamped.starts_with("20") && stamped.ends_with("Z line 5\n"), "{stamped:?}");
    eventually("the last second to have no line", Duration::from_secs(10), || {
        let recent = ns.run(&["logs", "talker", "-c", "loud", "--since=1s"])?;
        Ok(if recent.is_empty() { Ok(()) } else { Err(recent) })
    })?;
    ensure!(ns.run(&["logs", "talker", "-c", "crash", "--previous"])? == "attempt\n");
    let (code, _, error) = ns.exit(&["logs", "talker", "-c", "nobody"])?;
    ensure!(code != 0 && error.contains("container nobody is not valid"), "{error}");
    Ok(())
}

fn finished_logs(ns: &Namespace<'_>) -> Result<()> {
    ns.pod(
        "over",
        "restartPolicy: Never\ncontainers: [{name: main, image: 'busybox:stable', command: [echo, farewell]}]",
    )?;
    ns.await_phase("over", "Succeeded")?;
    ensure!(ns.run(&["logs", "over"])? == "farewell\n");
    ensure!(ns.instances()?.len() == 1, "its machine is kept for those who want to look");
    ns.run(&["delete", "pod", "over", "--timeout=60s"])?;
    ns.await_no_instance(Duration::from_secs(60))
}

fn exec(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("shell", SLEEP)?;
    for (protocol, websockets) in PROTOCOLS {
        let run = |script: &str| -> Result<std::process::Output> {
            let command = ns.command(&["exec", "shell", "--", "sh", "-c", script]);
            over(command, websockets).output().context("kubectl exec")
        };
        let output = run("echo out; echo err >&2; exit 5")?;
        ensure!(output.stdout == b"out\n", "{protocol}: {:?}", text(&output.stdout));
        ensure!(text(&output.stderr).starts_with("err\n"), "{protocol}: {:?}", text(&output.stderr));
        for code in [0, 1, 5, 137, 255] {
            let output = run(&format!("exit {code}"))?;
            ensure!(output.status.code() == Some(code), "{protocol}: exit {code} became {}", output.status);
        }
        let output = run("head -c 3000000 /dev/zero | tr '\\0' x")?;
        ensure!(
            output.stdout.len() == 3_000_000,
            "{protocol}: {} bytes of 3000000 arrived",
            output.stdout.len()
        );
    }
    let (code, _, error) = ns.exit(&["exec", "shell", "-c", "nobody", "--", "true"])?;
    ensure!(code == 1 && error.contains("nobody"), "{code} {error}");
    Ok(())
}

/// Not a repetition of anything, so that a lost or doubled block shows.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(count / 8).flatten().collect()
}

fn exec_stdin(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("sink", SLEEP)?;
    let bytes = noise(50 * 1024 * 1024);
    let mut local = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    local.stdin.take().context("stdin")?.write_all(&bytes)?;
    let expected = text(&local.wait_with_output()?.stdout);
    for (protocol, websockets) in PROTOCOLS {
        let mut child = over(ns.command(&["exec", "-i", "sink", "--", "sha256sum"]), websockets)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("stdin")?;
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                drop(stdin.write_all(&bytes));
                drop(stdin);
            });
            child.wait_with_output()
        })?;
        ensure!(
            text(&output.stdout) == expected,
            "{protocol}: {:?}, expected {expected:?}",
            text(&output.stdout)
        );
    }
    Ok(())
}

/// Gives kubectl a terminal of 33 rows, and one of 44 once the container has told its size.
pub(crate) const TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
size = lambda fd, rows, columns: fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
pid, terminal = pty.fork()
if pid == 0:
    size(0, 33, 99)
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b''
while b'44 111' not in seen:
    try:
        more = os.read(terminal, 4096)
    except OSError:
        break
    if not more:
        break
    seen += more
    if b'33 99' in seen:
        size(terminal, 44, 111)
sys.stdout.buffer.write(seen)
os.close(terminal)
os.waitpid(pid, 0)
"#;

fn exec_tty(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("tty", SLEEP)?;
    for (protocol, websockets) in PROTOCOLS {
        let told = "until stty size | tee /dev/tty | grep -q '44 111'; do sleep 0.2; done";
        let kubectl = ns.command(&["exec", "-it", "tty", "--", "timeout", "30", "sh", "-c", told]);
        let mut python = Command::new("python3");
        python
            .args(["-c", TERMINAL])
            .arg(kubectl.get_program())
            .args(kubectl.get_args())
            .stdin(Stdio::null());
        let output = over(python, websockets).output()?;
        let seen = text(&output.stdout);
        ensure!(
            seen.contains("33 99") && seen.contains("44 111"),
            "{protocol}: the terminal showed {seen:?}"
        );
    }
    Ok(())
}

fn attach(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "echo",
        "containers: [{name: main, image: 'busybox:stable', stdin: true, command: [sh, -c, 'while read line; do echo got $line; done; sleep infinity']}]",
    )?;
    for (protocol, websockets) in PROTOCOLS {
        let mut child = over(ns.command(&["attach", "-i", "echo"]), websockets)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        child.stdin.as_mut().context("stdin")?.write_all(protocol.as_bytes())?;
        child.stdin.as_mut().context("stdin")?.write_all(b"\n")?;
        let expected = format!("got {protocol}\n");
        let mut seen = vec![0; expected.len()];
        child.stdout.as_mut().context("stdout")?.read_exact(&mut seen)?;
        drop(child.kill());
        child.wait()?;
        ensure!(text(&seen) == expected, "{protocol}: {:?}", text(&seen));
    }
    let overrides = r#"{"spec":{"nodeSelector":{"type":"virtual-kubelet"},"terminationGracePeriodSeconds":1,"tolerations":[{"key":"virtual-kubelet.io/provider","operator":"Exists"}]}}"#;
    let mut run = vec!["run", "once", "-it", "--rm", "--restart=Never", "--image=busybox:stable"];
    run.extend(["--overrides", overrides, "--pod-running-timeout=120s"]);
    run.extend(["--", "sh", "-c", "read line; echo hello $line; test -t 0"]);
    let kubectl = ns.command(&run);
    let mut child = Command::new("python3")
        .args(["-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"])
        .arg(kubectl.get_program())
        .args(kubectl.get_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // Its end would be the end of the terminal, so it stays open until the answer is there.
    child.stdin.as_mut().context("stdin")?.write_all(b"there\n")?;
    let mut seen = String::new();
    child.stdout.take().context("stdout")?.read_to_string(&mut seen)?;
    let status = child.wait()?;
    ensure!(status.success() && seen.contains("hello there"), "{status}: {seen}");
    ns.await_gone("once", Duration::from_secs(30))
}

fn cp(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("files", SLEEP)?;
    let folder = std::env::temp_dir().join(format!("orca-{}", ns.name));
    std::fs::create_dir_all(&folder)?;
    let (there, back) = (folder.join("there"), folder.join("back"));
    let bytes = noise(8 * 1024 * 1024);
    std::fs::write(&there, &bytes)?;
    let copies = |websockets: &str| -> Result<bool> {
        copy(ns, &there, Path::new("files:/tmp/copied"), websockets)?;
        copy(ns, Path::new("files:/tmp/copied"), &back, websockets)?;
        Ok(std::fs::read(&back)? == bytes)
    };
    let results = PROTOCOLS.map(|(protocol, websockets)| (protocol, copies(websockets)));
    std::fs::remove_dir_all(&folder)?;
    for (protocol, result) in results {
        ensure!(result?, "{protocol}: what came back is not what went there");
    }
    Ok(())
}

/// `kubectl cp`.
pub(crate) fn copy(ns: &Namespace<'_>, from: &Path, to: &Path, websockets: &str) -> Result<()> {
    let mut command = over(ns.command(&["cp"]), websockets);
    let output = command.args([from, to]).output().context("kubectl cp")?;
    ensure!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    Ok(())
}

fn port_forward(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "web",
        r#"
containers:
- name: web
  image: python:3
  command: [sh, -c, 'mkdir /www && cd /www && head -c 100000 /dev/zero > page && exec python3 -m http.server --bind 127.0.0.1 8080']
  readinessProbe: {exec: {command: [python3, -c, 'import urllib.request as u; u.urlopen("http://127.0.0.1:8080/page")']}, periodSeconds: 1}
"#,
    )?;
    for (protocol, websockets) in PROTOCOLS {
        let mut forward = over(ns.command(&["port-forward", "pod/web", ":8080"]), websockets)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map(crate::world::namespace::Background)?;
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(forward.0.stdout.as_mut().context("stdout")?),
            &mut line,
        )?;
        let port = line
            .split(" ->")
            .next()
            .and_then(|left| left.rsplit(':').next())
            .context("the forwarded port")?;
        let url = format!("http://127.0.0.1:{port}/page");
        let sizes: Vec<Result<usize>> = std::thread::scope(|scope| {
            let fetch = || Ok(Command::new("curl").args(["-sS", "-m", "60", &url]).output()?.stdout.len());
            let all: Vec<_> = (0..50).map(|_| scope.spawn(fetch)).collect();
            all.into_iter().map(|one| one.join().unwrap_or_else(|_| Ok(0))).collect()
        });
        for size in sizes {
            ensure!(size? == 100_000, "{protocol}: a request got another answer");
        }
    }
    Ok(())
}

fn describe(ns: &Namespace<'_>) -> Result<()> {
    ns.pod("story", "restartPolicy: Never\ncontainers: [{name: main, image: 'busybox:stable', command: [sh, -c, 'exit 2']}]")?;
    let pod = ns.await_phase("story", "Failed")?;
    ensure!(exit_code(&pod, "main") == Some(2));
    let instance = ns.instance()?;
    eventually("events that tell the story", Duration::from_secs(20), || {
        let told = ns.run(&["describe", "pod", "story"])?;
        let id = instance["id"].as_str().unwrap_or_default();
        let all = [id, "m7i.large", "us-east-1a", "Scheduled", "Launched", "Attached", "Pulled", "Started"];
        let missing: Vec<&str> = all.into_iter().filter(|word| !told.contains(word)).collect();
        Ok(if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} missing in {told}")) })
    })?;
    ns.run(&["delete", "pod", "story", "--timeout=60s"])?;
    ns.await_no_instance(Duration::from_secs(60))?;
    // The operator's side of it: each change of the cloud once, with its pod.
    let log = ns.world.log("orca.log")?;
    let id = format!("instance.id=\"{}\"", instance["id"].as_str().unwrap_or_default());
    let pod = format!("pod=\"{}/story\"", ns.name);
    let lines =
        log.lines().filter(|line| line.contains("orca::audit") && line.contains(&id) && line.contains(&pod));
    let done: Vec<&str> =
        lines.filter_map(|line| line.split("action=\"").nth(1)?.split('"').next()).collect();
    ensure!(done == ["RunInstances", "CreateTags", "TerminateInstances"], "on record: {done:?}");
    Ok(())
}
