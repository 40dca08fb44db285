//! A command with all its streams, for somebody who talks with it.

use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};

use super::super::TunnelError;

/// What kubelets give to commands with a terminal (`TERM`).
const TERMINAL: &str = "xterm";
/// Of a terminal whose size is not known yet: columns and rows.
const USUAL: (u16, u16) = (80, 24);
/// RFC 4254's number for stderr.
const STDERR: u32 = 1;

/// A command that runs. It ends with its connection.
#[derive(Debug)]
pub struct Process {
    pub input: ProcessInput,
    pub output: ProcessOutput,
}

/// What a process is told.
#[derive(Debug)]
pub struct ProcessInput {
    channel: ChannelWriteHalf<Msg>,
}

/// What a process says.
#[derive(Debug)]
pub struct ProcessOutput {
    channel: ChannelReadHalf,
}

/// One thing that a process says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Stdout(Bytes),
    Stderr(Bytes),
    /// It has ended, with this code; output may still follow.
    Exit(u32),
    /// A signal has ended it: its number on Linux, where it is known.
    Killed(Option<u8>),
    /// Nothing follows.
    End,
}

pub(super) async fn start(
    mut channel: Channel<Msg>,
    command: String,
    terminal: Option<(u16, u16)>,
) -> Result<Process, TunnelError> {
    if let Some(size) = terminal {
        let (columns, rows) = if size == (0, 0) { USUAL } else { size };
        channel
            .request_pty(true, TERMINAL, columns.into(), rows.into(), 0, 0, &[])
            .await
            .map_err(|error| lost(&error))?;
        granted(&mut channel, "a terminal").await?;
    }
    channel.exec(true, command).await.map_err(|error| lost(&error))?;
    granted(&mut channel, "to run a command").await?;
    let (output, input) = channel.split();
    Ok(Process { input: ProcessInput { channel: input }, output: ProcessOutput { channel: output } })
}

/// Waits for the answer to a request.
async fn granted(channel: &mut Channel<Msg>, what: &str) -> Result<(), TunnelError> {
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(()),
            Some(ChannelMsg::Failure) => return Err(TunnelError::Denied(format!("sshd refuses {what}"))),
            Some(ChannelMsg::Close) | None => {
                return Err(TunnelError::Lost(format!("sshd ended the session when asked for {what}")));
            }
            Some(_) => {}
        }
    }
}

impl ProcessInput {
    /// Waits until the process's side has room for them.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn write(&self, bytes: Bytes) -> Result<(), TunnelError> {
        self.channel.data_bytes(bytes).await.map_err(|error| lost(&error))
    }

    /// Closes its standard input.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn end(&self) -> Result<(), TunnelError> {
        self.channel.eof().await.map_err(|error| lost(&error))
    }

    /// Tells it that its terminal has another size.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), TunnelError> {
        self.channel.window_change(columns.into(), rows.into(), 0, 0).await.map_err(|error| lost(&error))
    }
}

fn lost(error: &russh::Error) -> TunnelError {
    TunnelError::Lost(error.to_string())
}

impl ProcessOutput {
    /// What it says next.
    ///
    /// # Errors
    /// When the connection ended before it had said everything.
    pub async fn next(&mut self) -> Result<Said, TunnelError> {
        loop {
            return Ok(match self.channel.wait().await {
                Some(ChannelMsg::Data { data }) => Said::Stdout(data),
                Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => Said::Stderr(data),
                Some(ChannelMsg::ExitStatus { exit_status }) => Said::Exit(exit_status),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => Said::Killed(number(&signal_name)),
                Some(ChannelMsg::Close) => Said::End,
                // russh ends all channels when the connection breaks.
                None => return Err(TunnelError::Lost("the SSH connection ended".to_owned())),
                Some(_) => continue,
            });
        }
    }
}

/// A signal's number on Linux (signal(7)), for those that sshd names.
fn number(signal: &Sig) -> Option<u8> {
    Some(match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(name) if name == "USR2" => 12,
        Sig::Custom(_) => return None,
    })
}
