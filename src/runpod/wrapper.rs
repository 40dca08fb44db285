//! The command in front of a container: it runs the pod's own, tells how it ended, and waits to be deleted.
//!
//! RunPod has no exit codes, starts a container again that ends, and gives its logs as lines without a stream. So a
//! small shell script (`wrapper.sh`) is the entrypoint. It runs the command, passes signals on, starts it again as
//! `restartPolicy` has it and with the kubelet's pauses, and reports the end in a line with a token that nobody could
//! know before. The token comes as a variable, which is gone before the command starts: `begin.sh` hands it on through
//! a pipe and begins a new shell, since `/proc/1/environ` shows what a process began with.
//!
//! A container that RunPod starts again does not run its command again where `restartPolicy` is `Never`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::hmac;

use super::env::expand;
use super::sketch::{Restart, Sketch};

/// Variable with both tokens.
pub const TOKENS: &str = "ORCA_EXIT_TOKENS";
const BEGIN: &str = include_str!("begin.sh");
const SCRIPT: &str = include_str!("wrapper.sh");
/// A file on the container's disk that tells that the command was started.
const RAN: &str = "/.orca-ran";

/// What the image says of itself (OCI image configuration).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageCommand {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: Option<String>,
}

/// What a container is started with on RunPod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
}

/// What only the controller knows.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// The container ends itself after so long.
    pub lifetime: Duration,
    /// RunPod's API, where it then deletes itself.
    pub api: &'a str,
}

/// Words that nobody can know before the wrapper says them.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    end: String,
    /// Said with the first restart, and no secret from then on: it is believed of restarts alone.
    restart: String,
}

/// What the wrapper says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The command ended for good: its exit code, 128 and the signal's number for one that a signal ended.
    Ended { code: i32 },
    /// It ended, and is started again: how often now, and the code of the run before.
    Restarting { run: u32, code: i32 },
    /// RunPod started the container again, and the command was not.
    Again,
}

/// Why there is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither the pod nor its image says which command to run")]
pub struct NoCommand;

impl Tokens {
    /// The tokens of one launch of a pod.
    #[must_use]
    pub fn of(key: &[u8], pod_uid: &str, epoch: u32) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let word = |what: &str| {
            let tag = hmac::sign(&key, format!("runpod/{what}/{pod_uid}/{epoch}").as_bytes());
            tag.as_ref()[..16].iter().fold(String::new(), |mut text, byte| {
                // Writing to a String never fails.
                write!(text, "{byte:02x}").ok();
                text
            })
        };
        Self { end: word("end"), restart: word("restart") }
    }

    /// The value of [`TOKENS`].
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{} {}", self.end, self.restart)
    }

    /// What a line of the container's log says, if the wrapper wrote it.
    #[must_use]
    pub fn read(&self, line: &str) -> Option<Report> {
        let mut words = line.split(' ');
        let report = match (words.next()?, words.next()?) {
            ("ORCA-EXIT", token) if token == self.end => Report::Ended { code: words.next()?.parse().ok()? },
            ("ORCA-RESTART", token) if token == self.restart => {
                Report::Restarting { run: words.next()?.parse().ok()?, code: words.next()?.parse().ok()? }
            }
            ("ORCA-AGAIN", token) if token == self.restart => Report::Again,
            _ => return None,
        };
        words.next().is_none().then_some(report)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// How the container is started. `image` is needed where the pod does not give the command itself.
///
/// # Errors
/// There is no command.
pub fn start(
    sketch: &Sketch,
    env: &BTreeMap<String, String>,
    image: Option<&ImageCommand>,
    bounds: Bounds<'_>,
) -> Result<Start, NoCommand> {
    let expanded =
        |words: &Option<Vec<String>>| words.iter().flatten().map(|word| expand(word, env)).collect();
    let (command, args): (Vec<String>, Vec<String>) = (expanded(&sketch.command), expanded(&sketch.args));
    if !sketch.is_wrapped {
        return Ok(Start { entrypoint: command, command: args });
    }
    let image = image.cloned().unwrap_or_default();
    // Kubernetes' rule: a command replaces the image's entrypoint and command, arguments its command alone.
    let args = if command.is_empty() && args.is_empty() { image.cmd } else { args };
    let mut argv = if command.is_empty() { image.entrypoint } else { command };
    argv.extend(args);
    if argv.is_empty() {
        return Err(NoCommand);
    }
    let script = script(sketch, image.working_dir.as_deref(), bounds);
    let words = ["/bin/sh", "-c", BEGIN, "orca", &script, "orca"].map(str::to_owned);
    Ok(Start { entrypoint: words[..3].to_vec(), command: words[3..].iter().cloned().chain(argv).collect() })
}

fn script(sketch: &Sketch, image_dir: Option<&str>, bounds: Bounds<'_>) -> String {
    let policy = match sketch.restart {
        Restart::Always => "always",
        Restart::OnFailure => "on-failure",
        Restart::Never => "never",
    };
    let mut steps: Vec<String> =
        sketch.folders.iter().map(|folder| format!("mkdir -p {}", quote(folder))).collect();
    if let Some(folder) = sketch.working_dir.as_deref().or(image_dir).filter(|folder| !folder.is_empty()) {
        let folder = quote(folder);
        steps.push(format!("mkdir -p {folder} && cd {folder}"));
    }
    steps.push("return 0".to_owned());
    format!(
        "ran={RAN} policy={policy} lifetime={} grace={} api={}\nprepare() {{ {}; }}\n{SCRIPT}",
        bounds.lifetime.as_secs(),
        sketch.grace.as_secs(),
        quote(bounds.api),
        steps.join(" && "),
    )
}

/// A word for a POSIX shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
