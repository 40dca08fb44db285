//! Alert rules and the dashboard ask for metrics that there are, and the alerts fire on what they are for.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::docs::metrics;

/// Metrics of others: the kubelet's of pods, and what Prometheus adds.
const FOREIGN: [&str; 3] =
    ["ALERTS", "container_cpu_usage_seconds_total", "container_memory_working_set_bytes"];
/// Words of PromQL.
const WORDS: [&str; 16] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "inf",
    "nan",
    "atan2",
    "start",
    "end",
];

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rules() -> Value {
    serde_yaml::from_str::<Value>(&read("manifests/monitoring/rules.yaml")).unwrap()["spec"].clone()
}

fn alerts() -> Vec<Value> {
    rules()["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

/// Names of metrics in a query: what is no function, no word, no label and no text.
fn names(query: &str) -> BTreeSet<String> {
    let (mut names, mut rest) = (BTreeSet::new(), query);
    // Inside of parentheses that list labels.
    let mut is_list = false;
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let skipped = match first {
            '"' | '\'' => rest[1..].find(first).unwrap() + 2,
            '{' => rest.find('}').unwrap() + 1,
            '[' => rest.find(']').unwrap() + 1,
            _ if is_part(first) => {
                let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let (word, after) = (&rest[..end], rest[end..].trim_start());
                let is_word = WORDS.contains(&word.to_lowercase().as_str());
                if is_word {
                    is_list = after.starts_with('(');
                } else if !is_list && !first.is_ascii_digit() && !after.starts_with('(') {
                    // `sum by (a) (…)`: a word follows the function.
                    let is_function = ["by (", "without ("].iter().any(|list| after.starts_with(list));
                    if !is_function {
                        names.insert(word.to_owned());
                    }
                }
                end
            }
            _ => {
                is_list &= first != ')';
                first.len_utf8()
            }
        };
        rest = &rest[skipped..];
    }
    names
}

/// The names in queries that are no metric of ours or of those that we know.
fn unknown(queries: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut known: BTreeSet<String> = FOREIGN.iter().map(|name| (*name).to_owned()).collect();
    for metric in metrics() {
        if metric.kind == "histogram" {
            known.extend(["bucket", "sum", "count"].map(|part| format!("{}_{part}", metric.name)));
        } else {
            known.insert(metric.name);
        }
    }
    let queries: Vec<String> = queries.into_iter().collect();
    assert!(queries.len() > 20, "{queries:?}");
    queries
        .iter()
        .flat_map(|query| {
            names(query).into_iter().map(move |name| format!("`{name}` in `{query}`")).collect::<Vec<_>>()
        })
        .filter(|found| !known.contains(found.split('`').nth(1).unwrap()))
        .collect()
}

#[test]
fn names_of_metrics_are_found_in_queries() {
    for (query, expected) in [
        ("absent(orca_build_info)", "orca_build_info"),
        ("sum by (le, kind) (rate(a_bucket{x=\"b\", y=~\"c|d\"}[10m])) / 2.5e3", "a_bucket"),
        ("histogram_quantile(0.9, sum by (le) (rate(a_bucket[5m]))) > 60", "a_bucket"),
        ("a < Inf and on (pod) group_left (x) b unless c offset 5m or vector(0)", "a b c"),
    ] {
        assert_eq!(names(query).into_iter().collect::<Vec<_>>().join(" "), expected, "{query}");
    }
}

#[test]
fn every_alert_asks_for_metrics_that_there_are_and_says_what_to_do() {
    let alerts = alerts();
    let queries = alerts.iter().map(|alert| alert["expr"].as_str().unwrap().to_owned());
    assert_eq!(unknown(queries), Vec::<String>::new());
    let page = read("docs/metrics.md");
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        assert!(["warning", "critical"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        for text in ["summary", "description"] {
            assert!(
                alert["annotations"][text].as_str().is_some_and(|text| text.len() > 20),
                "{name}: {text}"
            );
        }
        assert!(page.contains(&format!("| `{name}` |")), "docs/metrics.md does not mention {name}");
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&read("manifests/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    assert_eq!(
        unknown(targets.map(|target| target["expr"].as_str().unwrap().to_owned())),
        Vec::<String>::new()
    );
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    // No two panels lie on one another.
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for place in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(taken.insert(place), "{} at {place:?}", panel["title"]);
        }
    }
}

/// `make test` builds promtool; `cargo test` alone does without it.
#[test]
fn promtool_accepts_the_rules_and_each_alert_fires_on_what_it_is_for() {
    let tests = read("tests/cluster/promtool/rules.test.yaml");
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap().to_owned();
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test that it fires");
    }
    let Some(promtool) = std::env::var_os("ORCA_PROMTOOL") else {
        // Past the capture of passing tests' output: who runs the tests must see it.
        return std::io::stderr().write_all(b"SKIPPED: ORCA_PROMTOOL does not name promtool\n").unwrap();
    };
    let folder = std::env::temp_dir().join(format!("orca-rules-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("rules.yaml"), serde_yaml::to_string(&rules()).unwrap()).unwrap();
    std::fs::write(folder.join("test.yaml"), tests).unwrap();
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "test.yaml"]] {
        let output = run(Command::new(&promtool).args(arguments), &folder);
        assert!(output.0, "{}", output.1);
    }
    // The names, types and texts of `/metrics` itself, by promtool's own rules.
    std::fs::write(folder.join("metrics"), in_the_older_format(&metrics_page())).unwrap();
    let check = format!("'{}' check metrics < metrics", promtool.display());
    let output = run(Command::new("sh").args(["-c", &check]), &folder);
    assert_eq!(output, (true, String::new()));
    std::fs::remove_dir_all(folder).unwrap();
}

fn metrics_page() -> String {
    let meters = orca::app::Meters::default();
    orca::telemetry::Telemetry::new(|registry| meters.register(registry)).registry().encode().unwrap()
}

/// promtool reads no OpenMetrics here: there, counters have their suffix in the description, too, and `unknown` is
/// `untyped`.
fn in_the_older_format(page: &str) -> String {
    let is_counter = |name: &str| page.contains(&format!("# TYPE {name} counter\n"));
    let mut out = String::new();
    for line in page.lines().filter(|line| *line != "# EOF") {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", what, name, rest] => {
                let suffix = if is_counter(name) { "_total" } else { "" };
                let rest = if rest == "unknown" { "untyped" } else { rest };
                out += &format!("# {what} {name}{suffix} {rest}\n");
            }
            _ => out += &format!("{line}\n"),
        }
    }
    out
}

fn run(command: &mut Command, folder: &Path) -> (bool, String) {
    let output = command.current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
