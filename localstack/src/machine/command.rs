//! Runs the host's own tools: `ip`, `iptables`, `cp`. Every one has a deadline and dies with its caller.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// None of these tools takes a second; `iptables -w` may wait for another's lock.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a command to its end and returns what it printed.
pub(crate) async fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    run_within(DEADLINE, program, args, "").await
}

/// Runs a command with `input` on its standard input.
pub(crate) async fn run_with_input(program: &str, args: &[&str], input: &str) -> anyhow::Result<String> {
    run_within(DEADLINE, program, args, input).await
}

/// Runs a command that may take as long as this.
pub(crate) async fn run_within(
    deadline: Duration,
    program: &str,
    args: &[&str],
    input: &str,
) -> anyhow::Result<String> {
    let told = || format!("`{program} {}`", args.join(" "));
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(told)?;
    let mut stdin = child.stdin.take().expect("it was asked for just above");
    let finish = async {
        // A command that ends without reading its input says why on stderr.
        let written = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        if output.status.success() { written.map(|()| output) } else { Ok(output) }
    };
    let output = tokio::time::timeout(deadline, finish)
        .await
        .with_context(|| format!("{} did not end in {deadline:?}", told()))?
        .with_context(told)?;
    ensure!(
        output.status.success(),
        "{} failed ({}): {}",
        told(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
