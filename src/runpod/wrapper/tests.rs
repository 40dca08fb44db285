//! The wrapper under a real shell, as a container's first process would run it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;

const BOUNDS: Bounds<'static> = Bounds { lifetime: Duration::ZERO, api: "https://api.example/v2" };

fn mk_sketch(restart: Restart, command: &[&str]) -> Sketch {
    Sketch {
        container: "main".to_owned(),
        image: "busybox".to_owned(),
        command: Some(command.iter().map(|&word| word.to_owned()).collect()),
        args: None,
        working_dir: None,
        env: Vec::new(),
        ports: BTreeSet::new(),
        restart,
        grace: Duration::from_secs(30),
        folders: Vec::new(),
        network_volume: None,
        pull_secrets: Vec::new(),
        is_wrapped: true,
        leaves_token_out: false,
    }
}

fn tokens() -> Tokens {
    Tokens::of(b"key", "u-1", 0)
}

/// A folder of the test's own, where the wrapper keeps its mark.
struct Place(std::path::PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("orca-wrapper-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn start(&self, sketch: &Sketch) -> Running {
        self.start_within(sketch, BOUNDS)
    }

    fn start_within(&self, sketch: &Sketch, bounds: Bounds<'_>) -> Running {
        let start = start(sketch, &BTreeMap::new(), None, bounds).unwrap();
        let mark = self.0.join("ran");
        let words: Vec<String> = start.entrypoint.into_iter().chain(start.command).collect();
        let words = words.iter().map(|word| word.replace(RAN, &mark.to_string_lossy()));
        let words: Vec<String> = words.collect();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env(TOKENS, tokens().variable())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    /// The first report, and the lines before it.
    fn report(&mut self) -> (Vec<String>, Report) {
        let mut before = Vec::new();
        loop {
            let line = self.line();
            match tokens().read(&line) {
                Some(report) => return (before, report),
                None => before.push(line),
            }
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
    }

    /// Tells the wrapper to go, and what it has said since. While it still speaks it minds no signal.
    fn end(mut self) -> (Option<i32>, String) {
        let code = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status.code(),
                None => self.signal("TERM"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (code, rest)
    }
}

#[test]
fn an_exit_code_is_told_after_the_output_and_the_container_stays() {
    let place = Place::new("code");
    for (program, lines, code) in [
        ("echo one; echo two; exit 7", vec!["one", "two", ""], 7),
        ("printf unfinished", vec!["unfinished"], 0),
        // Kubernetes makes one dollar of two.
        ("kill -s KILL $$$$", vec![""], 137),
        ("no-such-program", vec![""], 127),
    ] {
        std::fs::remove_file(place.0.join("ran")).ok();
        let mut running = place.start(&mk_sketch(Restart::Never, &["/bin/sh", "-c", program]));
        assert_eq!(
            running.report(),
            (lines.into_iter().map(str::to_owned).collect(), Report::Ended { code })
        );
        assert_eq!(running.child.try_wait().unwrap(), None);
        assert_eq!(running.end(), (Some(0), String::new()));
    }
}

#[test]
fn the_command_cannot_read_the_tokens() {
    let place = Place::new("tokens");
    let program = "tr '\\0' '\\n' < /proc/$PPID/environ; tr '\\0' '\\n' < /proc/$PPID/cmdline; env";
    let mut running = place.start(&mk_sketch(Restart::Never, &["/bin/sh", "-c", program]));
    let (lines, report) = running.report();
    assert_eq!(report, Report::Ended { code: 0 });
    let all = lines.join("\n");
    assert!(all.contains("PATH=") && all.contains("ORCA-EXIT"), "the script and the environment are seen");
    for secret in [&tokens().end, &tokens().restart] {
        assert!(!all.contains(secret.as_str()), "{all}");
    }
    running.end();
}

#[test]
fn a_signal_reaches_the_command_and_ends_the_restarts() {
    let place = Place::new("signal");
    for policy in [Restart::Always, Restart::OnFailure, Restart::Never] {
        std::fs::remove_file(place.0.join("ran")).ok();
        let program = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
        let mut running = place.start(&mk_sketch(policy, &["/bin/sh", "-c", program]));
        assert_eq!(running.line(), "up");
        running.signal("TERM");
        assert_eq!(running.report(), (vec!["bye".to_owned(), String::new()], Report::Ended { code: 3 }));
        assert_eq!(running.end().0, Some(0));
    }
}

#[test]
fn a_command_is_started_again_as_the_policy_has_it() {
    let place = Place::new("restart");
    for policy in [Restart::Always, Restart::OnFailure] {
        let mut running = place.start(&mk_sketch(policy, &["/bin/sh", "-c", "exit 4"]));
        assert_eq!(running.report().1, Report::Restarting { run: 1, code: 4 });
        // While it pauses, it is told to end: the last run counts.
        running.signal("TERM");
        assert_eq!(running.report().1, Report::Ended { code: 4 });
        assert_eq!(running.end().0, Some(0));
    }
    let mut running = place.start(&mk_sketch(Restart::OnFailure, &["/bin/true"]));
    assert_eq!(running.report().1, Report::Ended { code: 0 });
    running.end();
}

#[test]
fn a_container_ends_itself_at_its_age() {
    let place = Place::new("age");
    let bounds = Bounds { lifetime: Duration::from_secs(1), ..BOUNDS };
    let sketch = Sketch {
        grace: Duration::ZERO,
        ..mk_sketch(Restart::Always, &["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
    };
    let mut running = place.start_within(&sketch, bounds);
    assert_eq!(running.report().1, Report::Ended { code: 137 });
    running.end();
}

#[test]
fn a_container_that_is_started_again_does_not_run_again_unless_it_may() {
    let place = Place::new("again");
    let once = mk_sketch(Restart::Never, &["/bin/echo", "hello"]);
    let mut first = place.start(&once);
    assert_eq!(first.report().0, ["hello", ""]);
    first.end();
    let mut second = place.start(&once);
    assert_eq!(second.report(), (vec![String::new()], Report::Again));
    second.end();
    let mut third = place.start(&mk_sketch(Restart::OnFailure, &["/bin/echo", "hello"]));
    assert_eq!(third.report().0, ["hello", ""]);
    third.end();
}

#[test]
fn folders_are_made_and_the_command_begins_in_its_own() {
    let place = Place::new("folders");
    let folder = place.0.join("it's here");
    let scratch = place.0.join("scratch");
    let sketch = Sketch {
        working_dir: Some(folder.to_string_lossy().into_owned()),
        folders: vec![scratch.to_string_lossy().into_owned()],
        ..mk_sketch(Restart::Never, &["/bin/pwd"])
    };
    let mut running = place.start(&sketch);
    assert_eq!(running.report().0, [folder.to_string_lossy().into_owned(), String::new()]);
    assert!(scratch.is_dir());
    running.end();
}

#[test]
fn only_the_launchs_own_tokens_are_believed() {
    let own = tokens();
    let line = format!("ORCA-EXIT {} 0", own.end);
    assert_eq!(own.read(&line), Some(Report::Ended { code: 0 }));
    for other in [Tokens::of(b"key", "u-1", 1), Tokens::of(b"key", "u-2", 0), Tokens::of(b"other", "u-1", 0)]
    {
        assert_eq!(other.read(&line), None);
    }
    for bad in ["ORCA-EXIT x 0", "ORCA-EXIT", "", "hello", &format!("{line} more"), &format!(" {line}")] {
        assert_eq!(own.read(bad), None, "{bad}");
    }
    // What the first restart gave away says nothing of an end.
    assert_eq!(own.read(&format!("ORCA-EXIT {} 0", own.restart)), None);
    assert!(!format!("{own:?}").contains(&own.end));
}

#[test]
fn kubernetes_rule_for_commands_and_arguments() {
    let image = ImageCommand {
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["a".to_owned(), "b".to_owned()],
        working_dir: None,
    };
    let env = BTreeMap::from([("WHO".to_owned(), "you".to_owned())]);
    let words = |text: &str| -> Option<Vec<String>> {
        (!text.is_empty()).then(|| text.split(' ').map(str::to_owned).collect())
    };
    for (command, args, expected) in [
        ("", "", "/entry a b"),
        ("", "x $(WHO)", "/entry x you"),
        ("/own $(NOBODY)", "", "/own $(NOBODY)"),
        ("/own", "$$(WHO)", "/own $(WHO)"),
    ] {
        let sketch =
            Sketch { command: words(command), args: words(args), ..mk_sketch(Restart::Never, &["x"]) };
        let started = start(&sketch, &env, Some(&image), BOUNDS).unwrap();
        assert_eq!(started.command[3..].join(" "), expected);
        let bare = Sketch { is_wrapped: false, ..sketch };
        let started = start(&bare, &env, None, BOUNDS).unwrap();
        assert_eq!(started.entrypoint.is_empty(), command.is_empty());
    }
    let nothing = Sketch { command: None, ..mk_sketch(Restart::Never, &[]) };
    assert_eq!(start(&nothing, &env, None, BOUNDS), Err(NoCommand));
}
