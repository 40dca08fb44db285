//! The binary, as it is typed.

use std::path::PathBuf;
use std::process::{Command, Output};

fn orca(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orca"));
    command.args(arguments).env_remove("POD_IP").env_remove("POD_NAMESPACE").env_remove("RUST_LOG");
    command.output().unwrap()
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_configuration_that_is_wrong_is_exit_code_2_with_all_problems_on_stderr() {
    let config = file("wrong.yaml", "aws: {region: here, tunel: ssm}\nnode: {pods: 0}\n");
    for subcommand in ["run", "check"] {
        let output = orca(&[subcommand, "--config", config.to_str().unwrap()]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        for problem in [
            "aws.tunel is not a key, did you mean `aws.tunnel`?",
            "aws.region is `here`, expected an AWS region such as `us-east-1`",
            "node.pods is `0`, expected 1 to 500",
            "aws.vpcID is missing",
        ] {
            assert!(stderr.contains(problem), "{problem} not in:\n{stderr}");
        }
        assert!(!stderr.contains("panicked") && !stderr.contains("stack backtrace"), "{stderr}");
    }
}

#[test]
fn a_file_that_is_not_there_and_a_flag_that_does_not_exist_are_exit_code_2() {
    let output = orca(&["run", "--config", "/nonexistent.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nonexistent.yaml"));
    assert_eq!(orca(&["run", "--colour"]).status.code(), Some(2));
}

#[test]
fn the_version_is_printed() {
    let output = orca(&["version"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("orca {}\n", env!("CARGO_PKG_VERSION")));
}
