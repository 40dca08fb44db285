//! `orca plan`, as it is typed: offline over every example, and against what is no pod.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// `orca` with nothing of the surroundings: no cluster, no credentials, no home.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orca"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn orca(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn offline(more: &[&str]) -> Output {
    orca(&[&["plan", "--offline", "--region", "us-east-1"], more].concat())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Every JSON object of an output.
pub(crate) fn objects(output: &Output) -> Vec<Value> {
    let all = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    all.map(|value| value.unwrap_or_else(|error| panic!("{error}: {output:?}"))).collect()
}

fn example(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path).to_str().unwrap().to_owned()
}

/// Every YAML file of a folder.
fn examples(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(example(folder)).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let mut files: Vec<_> = files.map(|path| path.to_str().unwrap().to_owned()).collect();
    files.sort();
    files
}

fn pod(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{{annotations}}}}}\n\
         spec: {{containers: [{{name: c, resources: {{limits: {{nvidia.com/gpu: 1}}}}}}]}}\n"
    )
}

#[test]
fn every_example_has_a_machine_without_any_cloud() {
    let files = examples("");
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let output = offline(&["-f", &file, "-o", "json"]);
        assert_eq!(output.status.code(), Some(0), "{file}: {output:?}");
        for plan in objects(&output) {
            assert_eq!(plan["verdict"]["outcome"], "launch", "{file}: {plan}");
            let first = &plan["candidates"][0];
            assert!(first["pricePerHour"].is_string() && first["source"] == "static", "{file}: {first}");
            assert_eq!(
                (&first["zone"], &first["subnetId"]),
                (&Value::Null, &Value::Null),
                "nobody knows these"
            );
        }
        let table = offline(&["-f", &file]);
        assert!(text(&table.stdout).contains("verdict: launch "), "{file}");
    }
}

#[test]
fn every_example_of_capacity_is_planned_by_the_rules_of_its_configuration() {
    let config = example("capacity/configuration.yaml");
    let mut seen = Vec::new();
    for file in examples("capacity").into_iter().filter(|file| *file != config) {
        let output = orca(&["plan", "--offline", "--config", &config, "-f", &file, "-o", "json"]);
        for plan in objects(&output) {
            let first = plan["candidates"][0]["instanceType"].as_str().unwrap_or("-").to_owned();
            let market = plan["candidates"][0]["market"].as_str().unwrap_or("-").to_owned();
            let name = plan["pod"]["name"].as_str().unwrap().to_owned();
            seen.push(format!("{name}: {} {first} {market}", plan["verdict"]["outcome"].as_str().unwrap()));
        }
    }
    seen.sort();
    insta::assert_snapshot!(seen.join("\n"), @"
    by-template: launch p5.48xlarge on-demand
    in-reservation: wait - -
    reservation-preferred: launch g4dn.xlarge on-demand
    spot: launch g6.xlarge on-demand
    ");
}

/// Blocks that begin with `$ orca plan --offline` are run as they stand.
#[test]
fn the_page_shows_what_the_program_says() {
    const START: &str = "```console\n$ orca ";
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = std::fs::read_to_string(top.join("docs/capacity.md")).unwrap();
    let mut parts = found.split(START);
    let mut wanted = parts.next().unwrap().to_owned();
    let mut run = 0;
    for part in parts {
        let (block, after) = part.split_once("```").unwrap();
        let typed = block.lines().next().unwrap();
        wanted += START;
        if typed.starts_with("plan --offline") {
            let arguments: Vec<&str> = typed.split(' ').collect();
            let output = command(&arguments).current_dir(top).output().unwrap();
            wanted += &format!("{typed}\n{}", text(&output.stdout));
            run += 1;
        } else {
            wanted += block;
        }
        wanted += &format!("```{after}");
    }
    assert!(run >= 3, "{run}");
    if found != wanted {
        std::fs::write(top.join("docs/capacity.md"), wanted).unwrap();
        panic!(
            "docs/capacity.md was out of date and has been written anew: look at the difference and commit it"
        );
    }
}

#[test]
fn a_pod_on_standard_input_may_be_json() {
    let mut child = command(&["plan", "--offline", "--region", "us-east-1", "-f", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ml"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]}});
    child.stdin.take().unwrap().write_all(pod.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let plan = &objects(&output)[0];
    assert_eq!(plan["pod"], serde_json::json!({"kind": "Pod", "namespace": "ml", "name": "p"}));
    assert_eq!(plan["asks"], "3 CPU");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_pod_that_is_refused_is_exit_code_1_with_the_key_that_is_wrong() {
    let path = file("plan-refused.yaml", &pod("orca.research/instance-typo: g5.xlarge"));
    let output = offline(&["-f", &path]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = text(&output.stdout);
    assert!(told.contains("verdict: the pod is refused (UnknownAnnotation)"), "{told}");
    assert!(
        told.contains("metadata.annotations[orca.research/instance-typo]: is not an annotation"),
        "{told}"
    );
    let json = objects(&offline(&["-f", &path, "-o", "json"]));
    let problem = &json[0]["verdict"]["problems"][0];
    assert_eq!(problem["path"], "metadata.annotations[orca.research/instance-typo]");
}

#[test]
fn what_is_no_pod_is_exit_code_2_with_the_file_and_the_place() {
    for (name, content, expected) in [
        ("plan-yaml.yaml", "kind: Pod\nmetadata: [\n".to_owned(), "line"),
        (
            "plan-none.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n".to_owned(),
            "there is no pod in it",
        ),
        (
            "plan-kind.yaml",
            "metadata: {name: x}\n".to_owned(),
            "document 1 (x): expected an object with `apiVersion` and `kind`",
        ),
        (
            "plan-type.yaml",
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers: 3\n".to_owned(),
            "document 1 (Pod x): spec.containers: invalid type: integer `3`, expected a sequence at line 6",
        ),
    ] {
        let path = file(name, &content);
        let output = offline(&["-f", &path]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(&path) && told.contains(expected), "{expected} not in: {told}");
        assert!(output.stdout.is_empty());
    }
    let output = offline(&["-f", "/nonexistent.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`/nonexistent.yaml`: No such file"), "{output:?}");
}

#[test]
fn flags_that_make_no_sense_are_exit_code_2() {
    let path = file("plan-flags.yaml", &pod(""));
    let wrong: &[&[&str]] = &[
        &["plan"],
        &["plan", "-f", &path],
        &["plan", "--offline", "-f", &path],
        &["plan", "--offline", "--region", "us-east-1"],
        &["plan", "--offline", "--region", "us-east-1", "some-pod"],
        &["plan", "--region", "us-east-1", "-f", &path],
        &["plan", "--offline", "--region", "virginia", "-f", &path],
        &["plan", "--offline", "--region", "us-east-1", "-f", &path, "-o", "yaml"],
    ];
    for arguments in wrong {
        let output = orca(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {output:?}");
    }
}

#[test]
fn prices_of_another_region_are_never_shown_as_its_own() {
    let path = file("plan-region.yaml", &pod("orca.research/instance-type: g5.xlarge"));
    let output = orca(&["plan", "--offline", "--region", "eu-west-1", "-f", &path]);
    let told = text(&output.stdout);
    assert!(
        told.contains("1.006  us-east-1 static") && told.contains("only an estimate for eu-west-1"),
        "{told}"
    );
}
