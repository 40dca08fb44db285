//! A container that is reached by its sshd.
//!
//! russh has no flow control per channel: a stream that nobody reads holds up all of its connection. So each upgraded
//! connection has one of its own (`docs/decisions/003-one-connection-per-user-stream.md`). The streams of one
//! port-forward share it, as they share the client's connection, where they hold each other up in the same way.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::backend::{Backend, BackendError, Input, Output, Session, Terminal};
use crate::tunnel::ssh::{Process, ProcessInput, ProcessOutput, Said, SshConnection};
use crate::tunnel::{ByteStream, TunnelError};

/// For a connection, and again for what is begun on it.
const DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of one read of standard input: an SSH packet.
const BUFFER: usize = 32 * 1024;
/// As the container knows it: sshd tries both families, as a kubelet does.
const LOOPBACK: &str = "localhost";
/// For a command to be hung up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Sends SIGHUP to the process groups of all that the connection's sshd has begun, but to itself: so does a terminal that
/// is hung up. SSH's own `signal` is no help: sshd refuses it for root. A line of `stat` is the process, its name in
/// brackets, its state and its parent (proc(5)).
const HANG_UP: [&str; 3] = [
    "sh",
    "-c",
    "for file in /proc/[0-9]*/stat; do
       read -r line < \"$file\" || continue
       pid=${line%% *}
       set -- ${line##*) }
       [ \"$2\" = \"$PPID\" ] && [ \"$pid\" != \"$$\" ] && kill -HUP \"-$pid\"
     done 2> /dev/null",
];
/// Of a process whose signal sshd cannot name.
const UNKNOWN_SIGNAL: u8 = 255;

/// Gives connections to the sshd of one container, with its host key proved.
#[async_trait]
pub trait Dial: Send + Sync + fmt::Debug {
    /// A new connection, or one that nobody else uses, within `deadline`.
    async fn dial(&self, deadline: Duration) -> Result<SshConnection, TunnelError>;
}

/// A container with an sshd.
#[derive(Debug)]
pub struct SshBackend {
    dial: Arc<dyn Dial>,
    launcher: Vec<String>,
    attach: Option<Vec<String>>,
    /// Of the port-forward that this serves, once it has begun.
    forwarding: Mutex<Option<SshConnection>>,
}

impl SshBackend {
    /// `launcher` are the words before every command: a program that gives it the container's environment and directory,
    /// say; sshd starts commands in the account's home. `attach` is the command that joins what the container runs, where
    /// there is one.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, launcher: Vec<String>, attach: Option<Vec<String>>) -> Self {
        Self { dial, launcher, attach, forwarding: Mutex::new(None) }
    }

    async fn run(&self, words: &[String], session: Session) -> Result<u8, BackendError> {
        let Session { stdin, stdout, stderr, mut terminal, gone } = session;
        let line = command_line(&self.launcher, words);
        let begun = async {
            let connection = self.dial.dial(DEADLINE).await.map_err(|error| unreachable(&error))?;
            // By now the client has told how large its terminal is.
            let size = terminal
                .as_mut()
                .map(|terminal| terminal.size().map_or((0, 0), |size| (size.columns, size.rows)));
            let process = connection.start(&line, size, DEADLINE).await.map_err(|error| match error {
                TunnelError::Denied(why) => BackendError::Refused(why),
                error => unreachable(&error),
            })?;
            Ok((connection, process))
        };
        let (connection, process) = tokio::select! {
            begun = begun => begun?,
            () = gone.cancelled() => return Err(gone_away()),
        };
        let Process { input, mut output } = process;
        let ended = tokio::select! {
            ended = listen(&mut output, stdout, stderr) => ended,
            never = feed(&input, stdin) => match never {},
            never = resize(&input, terminal) => match never {},
            () = gone.cancelled() => {
                // What it still says must be read, or nothing else is said on its connection.
                tokio::select! {
                    () = hang_up(&connection) => {}
                    never = drain(&mut output) => match never {},
                }
                Err(gone_away())
            }
        };
        connection.close().await;
        ended
    }

    /// The connection of this port-forward.
    async fn forwarding(&self) -> Result<SshConnection, BackendError> {
        let mut kept = self.forwarding.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let connection = self.dial.dial(DEADLINE).await.map_err(|error| unreachable(&error))?;
        // sshd sends small packets at once only on connections that have run a command.
        if let Err(error) = connection.begin(":", DEADLINE).await {
            tracing::debug!(%error, "a port-forward stays slow");
        }
        *kept = Some(connection.clone());
        Ok(connection)
    }
}

#[async_trait]
impl Backend for SshBackend {
    async fn exec(&self, command: &[String], session: Session) -> Result<u8, BackendError> {
        self.run(command, session).await
    }

    async fn attach(&self, session: Session) -> Result<u8, BackendError> {
        let Some(attach) = &self.attach else {
            return Err(BackendError::Refused("this container cannot be attached to".to_owned()));
        };
        self.run(attach, session).await
    }

    async fn forward(&self, port: NonZeroU16) -> Result<ByteStream, BackendError> {
        let connection = self.forwarding().await?;
        connection.open(LOOPBACK, port.get(), DEADLINE).await.map_err(|error| match error {
            TunnelError::NotYet(why) | TunnelError::Denied(why) | TunnelError::Throttled(why) => {
                BackendError::Refused(why)
            }
            error @ (TunnelError::HostKey { .. }
            | TunnelError::Timeout(..)
            | TunnelError::Lost(_)
            | TunnelError::Refused(_)) => BackendError::Lost(error.to_string()),
        })
    }
}

fn unreachable(error: &TunnelError) -> BackendError {
    BackendError::Unreachable(error.to_string())
}

fn gone_away() -> BackendError {
    BackendError::Lost("the client has gone".to_owned())
}

/// Ends what the connection runs.
async fn hang_up(connection: &SshConnection) {
    match connection.exec(&command_line(&[], &HANG_UP.map(str::to_owned)), b"", PATIENCE).await {
        Ok(ended) => tracing::debug!(code = ended.code, "a command whose client has gone was hung up"),
        Err(error) => tracing::debug!(%error, "a command whose client has gone was not hung up"),
    }
}

async fn drain(output: &mut ProcessOutput) -> Infallible {
    while !matches!(output.next().await, Ok(Said::End) | Err(_)) {}
    pending().await
}

/// Passes on what the process says, to its end; its exit code.
async fn listen(
    output: &mut ProcessOutput,
    mut stdout: Option<Output>,
    mut stderr: Option<Output>,
) -> Result<u8, BackendError> {
    let mut code = None;
    loop {
        match output.next().await.map_err(|error| BackendError::Lost(error.to_string()))? {
            Said::Stdout(bytes) => pass(&mut stdout, &bytes).await,
            Said::Stderr(bytes) => pass(&mut stderr, &bytes).await,
            Said::Exit(status) => code = Some(clients_code(status)),
            Said::Killed(signal) => {
                code = Some(signal.map_or(UNKNOWN_SIGNAL, |signal| 128_u8.saturating_add(signal)));
            }
            Said::End => break,
        }
    }
    code.ok_or_else(|| BackendError::Lost("sshd did not say how the command ended".to_owned()))
}

/// Who hears nothing any more is not spoken to.
async fn pass(to: &mut Option<Output>, bytes: &[u8]) {
    if let Some(hearer) = to
        && hearer.write_all(bytes).await.is_err()
    {
        *to = None;
    }
}

/// Clients know codes of a byte; no other may look like a success.
fn clients_code(status: u32) -> u8 {
    u8::try_from(status).unwrap_or(255)
}

/// Passes on standard input, to its end; when it breaks off, whoever ended it ends the process.
async fn feed(input: &ProcessInput, stdin: Option<Input>) -> Infallible {
    let fed = async {
        if let Some(mut stdin) = stdin {
            let mut buffer = vec![0; BUFFER];
            loop {
                let Ok(count) = stdin.read(&mut buffer).await else { return Ok(()) };
                let bytes = buffer.get(..count).unwrap_or_default();
                if bytes.is_empty() {
                    break;
                }
                input.write(Bytes::copy_from_slice(bytes)).await?;
            }
        }
        input.end().await
    };
    if let Err(error) = fed.await {
        tracing::debug!(%error, "a command takes no input any more");
    }
    pending().await
}

async fn resize(input: &ProcessInput, terminal: Option<Terminal>) -> Infallible {
    if let Some(mut terminal) = terminal {
        while let Some(size) = terminal.changed().await {
            if let Err(error) = input.resize(size.columns, size.rows).await {
                tracing::debug!(%error, "a command is not told of its terminal's size");
            }
        }
    }
    pending().await
}

/// The line that makes a shell of the account run exactly these words, in its own place, so that signals and exit codes
/// are the command's.
fn command_line(launcher: &[String], command: &[String]) -> String {
    let mut line = "exec".to_owned();
    for word in launcher.iter().chain(command) {
        // Nothing is special between single quotes but a single quote.
        line += &format!(" '{}'", word.replace('\'', r"'\''"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_never_mistaken_for_success() {
        for (status, code) in [(0, 0), (5, 5), (255, 255), (256, 255), (u32::MAX, 255)] {
            assert_eq!(clients_code(status), code);
        }
    }

    /// What a shell makes of it.
    fn printed(words: &[String]) -> Vec<u8> {
        let line = command_line(&["printf".to_owned(), "%s\\0".to_owned()], words);
        let output = std::process::Command::new("sh").arg("-c").arg(line).output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn every_word_reaches_the_command_as_it_is() {
        let words = [
            "",
            "a b",
            "$HOME",
            "`id`",
            "'",
            "''a'",
            "\\",
            "\n\t",
            "*",
            "-n",
            "\u{e9}\u{20ac}",
            "!x",
            "~",
            "#",
        ];
        let words = words.map(str::to_owned);
        let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(printed(&words), expected);
        assert_eq!(command_line(&[], &["ls".to_owned(), "it's".to_owned()]), r"exec 'ls' 'it'\''s'");
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(32))]
        #[test]
        fn no_word_is_read_by_the_shell(words in proptest::collection::vec("[^\0]{0,30}", 1..5)) {
            let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
            proptest::prop_assert_eq!(printed(&words), expected);
        }
    }
}
