//! The documentation keeps up with the code: every reason, metric and cloud call that there is has its line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use orca::pod::state::{Facts, State};
use orca::telemetry::{Described, Telemetry};
use serde_json::Value;

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text of every Rust file under a folder, tests included.
fn sources(folder: &str) -> Vec<String> {
    let (mut texts, mut open) = (Vec::new(), vec![top().join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    texts
}

/// What stands in quotes right after `start`, wherever that occurs.
fn quoted_after(text: &str, start: &str) -> Vec<String> {
    let rest = text.match_indices(start).map(|(at, _)| text[at + start.len()..].trim_start());
    rest.filter_map(|rest| rest.strip_prefix('"')?.split('"').next().map(str::to_owned)).collect()
}

#[test]
fn every_reason_has_its_line_in_troubleshooting() {
    let page = read("docs/troubleshooting.md");
    let reasons = quoted_after(&read("src/pod/reasons.rs"), ": &str =");
    assert!(reasons.len() > 40, "{reasons:?}");
    let missing: Vec<_> = reasons.iter().filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md does not mention {missing:?}");
}

#[test]
fn every_failure_mode_names_tests_that_there_are() {
    let tests = [sources("src"), sources("tests")].concat();
    let is_there = |name: &str| {
        let (function, title) = (format!("fn {name}("), format!("\"{name}\""));
        tests.iter().any(|text| text.contains(&function) || text.contains(&title))
    };
    let page = read("docs/failure-modes.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    let told = rows.iter().filter(|row| !row.starts_with("| failure |"));
    let mut count = 0;
    for row in told {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        let names: Vec<&str> = cells[4].split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            assert!(is_there(name), "no test is called `{name}`: {row}");
        }
        count += 1;
    }
    assert!(count > 30, "{count} failure modes");
}

/// Every metric that there may be.
pub(crate) fn metrics() -> Vec<Described> {
    let telemetry = Telemetry::new(|registry| orca::app::Meters::default().register(registry));
    telemetry.registry().described().to_vec()
}

#[test]
fn the_table_of_metrics_is_what_the_registry_says() {
    const PAGE: &str = "docs/metrics.md";
    let (begin, end) = ("<!-- metrics: written by a test from the registry -->\n", "<!-- end of metrics -->");
    let page = read(PAGE);
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let rows: String =
        metrics().iter().map(|one| format!("| `{}` | {} | {} |\n", one.name, one.kind, one.help)).collect();
    let expected = format!("{before}{begin}\n| metric | type | what |\n|---|---|---|\n{rows}\n{end}{after}");
    if page != expected {
        std::fs::write(top().join(PAGE), expected).unwrap();
        panic!("{PAGE} was out of date and has been written anew: look at the difference and commit it");
    }
}

#[test]
fn the_tables_of_states_are_what_the_code_says() {
    const PAGE: &str = "docs/states.md";
    let (begin, end) =
        ("<!-- states: written by a test from src/pod/state.rs -->\n", "<!-- end of states -->");
    let page = read(PAGE);
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let fact = |state: State| {
        let Facts { what, writer, left } = state.facts();
        format!("| `{}` | {what} | {writer} | {left} |\n", state.name())
    };
    let follows = |state: State| {
        let names: Vec<_> = state.followers().iter().map(|next| format!("`{}`", next.name())).collect();
        let all = if names.len() == State::ALL.len() { "any".to_owned() } else { names.join(", ") };
        format!("| `{}` | {all} |\n", state.name())
    };
    let facts: String = State::ALL.into_iter().map(fact).collect();
    let followers: String = State::ALL.into_iter().map(follows).collect();
    let tables = format!(
        "\n| state | what is true | who writes the status | how it is left |\n|---|---|---|---|\n{facts}\n\
         | state | may be followed by |\n|---|---|\n{followers}\n"
    );
    let expected = format!("{before}{begin}{tables}{end}{after}");
    if page != expected {
        std::fs::write(top().join(PAGE), expected).unwrap();
        panic!("{PAGE} was out of date and has been written anew: look at the difference and commit it");
    }
}

#[test]
fn metrics_are_named_and_described_as_prometheus_has_it() {
    let all = metrics();
    assert!(all.len() > 50, "{}", all.len());
    let names: BTreeSet<_> = all.iter().map(|one| &one.name).collect();
    assert_eq!(names.len(), all.len(), "a name twice");
    for Described { name, kind, help } in &all {
        let is_sentence = help.starts_with(|c: char| c.is_uppercase())
            && !help.ends_with(['.', ' ', ','])
            && !help.contains("  ");
        assert!(is_sentence && help.len() > 15, "{name}: `{help}`");
        // Names that others gave are as they are.
        if name.starts_with("DCGM_") {
            continue;
        }
        assert!(name.starts_with("orca_") || name.starts_with("process_"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name} is a {kind}");
        for unit in ["_ms", "_millis", "_minutes", "_hours", "_kb", "_mb", "_percent"] {
            assert!(!name.contains(unit), "{name}: base units only");
        }
        if *kind == "histogram" {
            assert!(name.ends_with("_seconds") || name.ends_with("_bytes"), "{name} has no unit");
        }
    }
}

/// The statements of the policy under a heading of docs/operations.md.
fn policy(heading: &str) -> Vec<Value> {
    let page = read("docs/operations.md");
    let section = page.split(&format!("\n### {heading}\n")).nth(1).unwrap();
    let json = section.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let policy: Value = serde_json::from_str(json).unwrap();
    policy["Statement"].as_array().unwrap().clone()
}

fn actions(statements: &[Value]) -> BTreeSet<String> {
    let one_or_more = |value: &Value| match value {
        Value::Array(all) => all.iter().map(|it| it.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    };
    statements.iter().flat_map(|statement| one_or_more(&statement["Action"])).collect()
}

#[test]
fn the_policy_of_orca_allows_the_calls_that_it_makes_and_no_other() {
    // What is called through `calls` bears its name as the first text after it; sessions are the SDK's own methods.
    let mut called = BTreeSet::new();
    for text in sources("src/cloud") {
        for line in text.split(';') {
            for start in [".read(", ".repeat(", ".admitted(", "call("] {
                if let Some(at) = line.find(start) {
                    let name = line[at..].split('"').nth(1).unwrap_or_default();
                    let is_action = name.chars().all(|c| c.is_ascii_alphanumeric())
                        && name.starts_with(|c: char| c.is_ascii_uppercase());
                    if is_action {
                        called.insert(name.to_owned());
                    }
                }
            }
        }
    }
    for text in sources("src/tunnel/ssm") {
        for (method, action) in [
            (".start_session()", "StartSession"),
            (".resume_session()", "ResumeSession"),
            (".terminate_session()", "TerminateSession"),
        ] {
            if text.contains(method) {
                called.insert(action.to_owned());
            }
        }
    }
    for text in sources("src/logs/store") {
        for line in text.lines() {
            let method = line.split("client.").nth(1).and_then(|rest| rest.split("()").next());
            let words = method.iter().flat_map(|method| method.split('_'));
            let name: String = words.map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            called.extend((!name.is_empty()).then(|| format!("logs:{name}")));
        }
    }
    assert!(
        called.contains("RunInstances") && called.contains("StartSession") && called.len() > 15,
        "{called:?}"
    );
    // Everybody may ask who they are.
    called.remove("GetCallerIdentity");
    let mut wanted: BTreeSet<String> = called
        .iter()
        .map(|action| match action.as_str() {
            "GetProducts" => format!("pricing:{action}"),
            "GetParameter" | "DescribeInstanceInformation" => format!("ssm:{action}"),
            logs if logs.starts_with("logs:") => logs.to_owned(),
            session if session.ends_with("Session") => format!("ssm:{action}"),
            _ => format!("ec2:{action}"),
        })
        .collect();
    // By the instance profile of a launch, and by the WebSocket of a session.
    // Tags of a group that is made are a permission of their own.
    wanted.extend(["iam:PassRole", "ssmmessages:OpenDataChannel", "logs:TagResource"].map(str::to_owned));
    assert_eq!(
        actions(&policy("ORCA")),
        wanted,
        "the policy in docs/operations.md (left) and the calls (right)"
    );
}

#[test]
fn nothing_that_changes_is_allowed_on_everything() {
    let looks = |action: &str| {
        let verb = action.split(':').nth(1).unwrap();
        verb.starts_with("Describe") || verb.starts_with("Get")
    };
    for statement in policy("ORCA") {
        let changes = !actions(std::slice::from_ref(&statement)).iter().all(|action| looks(action));
        assert!(!changes || statement["Resource"] != "*", "{statement}");
    }
    let own = ["ssm:UpdateInstanceInformation", "ssmmessages:", "ecr:"];
    for action in actions(&policy("Machines")) {
        assert!(own.iter().any(|start| action.starts_with(start)), "{action}");
    }
}

/// `[text](target)` of a page.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// As GitHub makes anchors of headings.
fn anchors(text: &str) -> Vec<String> {
    let headings = text
        .lines()
        .filter_map(|line| line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()));
    headings
        .map(|heading| {
            let kept = heading
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .collect::<String>();
            kept.replace(' ', "-")
        })
        .collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = vec![top().join("README.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(top().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap_or_else(|| Path::new("")).join(file)
            };
            assert!(target.exists(), "{}: `{link}` leads nowhere", page.display());
            let leads = anchor.is_empty()
                || anchors(&std::fs::read_to_string(&target).unwrap()).iter().any(|it| it == anchor);
            assert!(leads, "{}: `{link}` has no such heading", page.display());
        }
    }
}
