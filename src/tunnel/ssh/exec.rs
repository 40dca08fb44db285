//! One command on a session channel of its own.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::super::TunnelError;
use super::ExecOutput;

type Answer = oneshot::Sender<Result<ExecOutput, TunnelError>>;

/// Of stdout, and of stderr; more is read and dropped, so that the command can go on.
const OUTPUT_MAX: usize = 1024 * 1024;
/// RFC 4254's number for stderr.
const STDERR: u32 = 1;
/// After the exit status: a process left behind may hold the output open for ever.
const GRACE: Duration = Duration::from_secs(2);

/// Runs `command` and answers; closes the channel early when nobody waits for the answer any more.
pub(super) async fn run(
    channel: Channel<Msg>,
    command: String,
    stdin: BoxStream<'static, Bytes>,
    mut answer: Answer,
) {
    let (mut read, write) = channel.split();
    let result = tokio::select! {
        result = converse(&mut read, &write, command, stdin) => Some(result),
        () = answer.closed() => None,
    };
    // Also after its end: a channel that is merely dropped goes on being sent to.
    if let Err(error) = write.close().await {
        tracing::debug!(%error, "channel not closed");
    }
    if let Some(result) = result {
        tell(answer, result);
    }
}

/// Answers, if somebody still waits.
pub(super) fn tell(answer: Answer, result: Result<ExecOutput, TunnelError>) {
    drop(answer.send(result));
}

/// Asks for a command. A refusal shows as a channel that ends at once.
pub(super) async fn begin(channel: &Channel<Msg>, command: String) -> Result<(), TunnelError> {
    channel.exec(false, command).await.map_err(|error| TunnelError::Lost(error.to_string()))
}

async fn converse(
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<Msg>,
    command: String,
    mut stdin: BoxStream<'static, Bytes>,
) -> Result<ExecOutput, TunnelError> {
    let lost = |error: russh::Error| TunnelError::Lost(error.to_string());
    write.exec(true, command).await.map_err(lost)?;
    let feeding = async {
        while let Some(piece) = stdin.next().await {
            write.data_bytes(piece).await?;
        }
        write.eof().await
    };
    tokio::pin!(feeding);
    let mut fed = false;
    let mut output = ExecOutput { stdout: Vec::new(), stderr: Vec::new(), code: None };
    let mut ended: Option<Instant> = None;
    loop {
        let grace = ended.unwrap_or_else(Instant::now) + GRACE;
        tokio::select! {
            // A command may end without reading all of it.
            result = &mut feeding, if !fed => {
                fed = true;
                if let Err(error) = result {
                    tracing::debug!(%error, "input not taken");
                }
            }
            message = read.wait() => match message {
                Some(ChannelMsg::Data { data }) => {
                    keep(&mut output.stdout, &data);
                    ended = ended.map(|_| Instant::now());
                }
                Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => {
                    keep(&mut output.stderr, &data);
                    ended = ended.map(|_| Instant::now());
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    output.code = Some(exit_status);
                    ended = Some(Instant::now());
                }
                Some(ChannelMsg::ExitSignal { .. }) => ended = Some(Instant::now()),
                Some(ChannelMsg::Failure) => {
                    return Err(TunnelError::Denied("sshd refuses to run a command".to_owned()));
                }
                Some(ChannelMsg::Close) | None => return Ok(output),
                Some(_) => {}
            },
            () = sleep_until(grace), if ended.is_some() => return Ok(output),
        }
    }
}

fn keep(kept: &mut Vec<u8>, data: &[u8]) {
    let room = OUTPUT_MAX - kept.len();
    kept.extend_from_slice(&data[..data.len().min(room)]);
}
