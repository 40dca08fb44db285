//! Rules of the repository as tests: what may import what, how long a file may be, which libraries may come in.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a file without its tests: more than this no reader holds in the head.
const TOO_LONG: usize = 600;

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under `folder`: its path from the top, and its text without the unit tests at its end.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![top().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_tests(&path) {
                found.push((relative(&path), code(&std::fs::read_to_string(&path).unwrap())));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

/// Unit tests in a file of their own.
fn is_tests(path: &Path) -> bool {
    let path = relative(path);
    !path.starts_with("tests/") && (path.ends_with("/tests.rs") || path.contains("/tests/"))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(top()).unwrap().to_string_lossy().into_owned()
}

/// Without what follows the first block that is for tests alone (a mere `mod tests;` is not a block).
fn code(text: &str) -> String {
    let mut end = text.len();
    for (at, attribute) in text.match_indices("\n#[cfg(test)]\n") {
        let item = text[at + attribute.len()..].lines().find(|line| !line.starts_with("#["));
        if item.is_some_and(|line| line.ends_with('{')) {
            end = end.min(at);
        }
    }
    text[..end].to_owned()
}

/// Lines that are code, with their number.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(n, line)| (n + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

fn mentions(files: &[(String, String)], allowed: &[&str], words: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in files {
        if allowed.iter().any(|prefix| path.starts_with(prefix)) {
            continue;
        }
        for (n, line) in lines(text) {
            for word in words.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{path}:{n} mentions `{word}`"));
            }
        }
    }
    broken
}

#[test]
fn every_file_says_what_it_is_and_stays_readable() {
    let mut broken = Vec::new();
    for (path, text) in ["src", "localstack/src", "tests/it", "tests/e2e"].into_iter().flat_map(sources) {
        if !text.starts_with("//!") {
            broken.push(format!("{path} does not begin with `//!`"));
        }
        let count = text.lines().count();
        if count > TOO_LONG {
            broken.push(format!("{path} has {count} lines of code"));
        }
        for (n, line) in text.lines().enumerate() {
            if line.ends_with(' ') {
                broken.push(format!("{path}:{} ends with a space", n + 1));
            }
        }
        if path.ends_with("/mod.rs") {
            broken.push(format!("{path} should be `foo.rs` beside `foo/`"));
        }
    }
    assert_none("files", &broken);
}

#[test]
fn the_core_decides_without_the_world() {
    let pure = [
        "src/pod",
        "src/capacity/",
        "src/logs",
        "src/guest",
        "src/runpod",
        "src/stats/answer.rs",
        "src/stats/exposition.rs",
        "src/stats/merge.rs",
        "src/stats/page.rs",
        "src/stats/summary.rs",
        "src/stats/tally.rs",
        "src/endpoint/frames.rs",
        "src/streams/asked.rs",
        "src/streams/mux",
        "src/streams/pairs.rs",
        "src/streams/protocol.rs",
        "src/streams/refused.rs",
        "src/streams/resize.rs",
        "src/streams/roles.rs",
        "src/streams/spdy",
        "src/streams/status.rs",
        "src/streams/wire.rs",
        "src/streams/ws",
        "src/cloud/runpod/errors.rs",
        "src/cloud/runpod/governor/headers.rs",
        "src/cloud/runpod/logs/resume.rs",
        "src/cloud/runpod/logs/sse.rs",
        "src/cloud/runpod/markers.rs",
        "src/cloud/runpod/types.rs",
        "src/cloud/runpod/wire",
        "src/tunnel/ssm/codec.rs",
        "src/tunnel/ssm/handshake.rs",
        "src/tunnel/ssm/channel.rs",
    ];
    let not_pure = ["src/logs/answer", "src/logs/archiver", "src/logs/machine.rs", "src/logs/store"];
    let is_pure = |path: &str| {
        let is_in = |folders: &[&str]| folders.iter().any(|it| path.starts_with(it));
        is_in(&pure) && !is_in(&not_pure)
    };
    let core: Vec<_> = sources("src").into_iter().filter(|(path, _)| is_pure(path)).collect();
    assert_none(
        "the pure core",
        &mentions(
            &core,
            &[],
            &["kube::", "tokio::", "aws_sdk_", "axum::", "clock::now", ".await", "std::fs", "std::net::Tcp"],
        ),
    );
}

#[test]
fn each_library_stays_behind_its_port() {
    let src = sources("src");
    let broken = [
        mentions(
            &src,
            &["src/cloud/ec2", "src/logs/store/cloudwatch.rs", "src/tunnel/ssm", "src/cli/check", "src/app"],
            &["aws_sdk_", "aws_config::", "aws_sigv4"],
        ),
        mentions(&src, &["src/config"], &["serde_yaml"]),
        mentions(&src, &["src/endpoint", "src/gateway", "src/telemetry"], &["axum::"]),
        mentions(&src, &["src/main.rs", "src/config", "src/cli"], &["std::env::"]),
        mentions(&src, &["src/tunnel/ssh", "src/keys"], &["russh::"]),
        mentions(&sources("localstack/src"), &[], &["orca::", "orca.research"]),
    ];
    assert_none("libraries", &broken.concat());
}

#[test]
fn nothing_is_left_open() {
    let mut broken = Vec::new();
    for folder in ["src", "localstack/src", "tests/it", "tests/e2e"] {
        let files: Vec<_> =
            sources(folder).into_iter().filter(|(path, _)| !path.ends_with("tidy.rs")).collect();
        for (path, text) in &files {
            for (n, line) in text.lines().enumerate() {
                for word in ["TODO", "FIXME", "todo!(", "unimplemented!(", "#[ignore]"] {
                    if line.contains(word) {
                        broken.push(format!("{path}:{} has `{word}`", n + 1));
                    }
                }
            }
        }
    }
    assert_none("open ends", &broken);
}

#[test]
fn one_hyper_one_rustls_one_crypto_provider() {
    let tree = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--workspace", "-e", "normal"])
            .args(arguments)
            .current_dir(top())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for unwanted in ["ring", "openssl-sys", "native-tls"] {
        let found = tree(&["-i", unwanted]);
        assert!(found.is_empty(), "`{unwanted}` came in:\n{found}");
    }
    let duplicates = tree(&["-d", "--depth", "0"]);
    for single in ["hyper ", "rustls ", "http ", "tokio-tungstenite ", "tungstenite ", "axum ", "kube "] {
        let count = duplicates.lines().filter(|line| line.starts_with(single)).count();
        assert_eq!(count, 0, "more than one {single}:\n{duplicates}");
    }
}

#[test]
fn every_fuzz_target_is_built_and_calls_orca() {
    let manifest = std::fs::read_to_string(top().join("tests/fuzz/Cargo.toml")).unwrap();
    let targets = sources("tests/fuzz/targets");
    for (path, text) in &targets {
        let path = path.strip_prefix("tests/fuzz/").unwrap();
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{path} is not in tests/fuzz/Cargo.toml");
        assert!(text.starts_with("//!") && text.contains("orca::"), "{path}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
}
