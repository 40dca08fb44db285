//! A remote command: the client's streams, a backend that runs it, and how it ended.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::asked::Wanted;
use super::backend::{Backend, BackendError, Input, Output, Session, Terminal};
use super::connection::{Connection, Presence, StreamReader};
use super::protocol::Spoken;
use super::resize::{Sizes, TerminalSize};
use super::roles::{Role, Roles, Verdict};
use super::status::{self, Outcome};
use super::ws::Close;
use super::{Ending, FAREWELL};

/// How long a client may take to open the streams it promised; a kubelet's `streamCreationTimeout`.
const CREATION: Duration = Duration::from_secs(30);
/// How long a backend may take to end a command whose client has gone.
const GRACE: Duration = Duration::from_secs(5);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call<'a> {
    Exec(&'a [String]),
    Attach,
}

/// Why a command is left before its end.
#[derive(Debug)]
enum Left {
    Client,
    Idle,
    Late,
    Ending(Ending),
}

/// Serves one command to its end, and takes leave.
pub(super) async fn serve(
    connection: &Connection,
    call: Call<'_>,
    wanted: Wanted,
    spoken: Spoken,
    channels: bool,
    backend: &dyn Backend,
    until: impl Future<Output = Ending>,
) {
    let mut until = std::pin::pin!(until);
    let mut roles = if channels { Roles::fixed(wanted) } else { Roles::promised(wanted, spoken.has_sizes) };
    let done = match gather(connection, &mut roles, until.as_mut()).await {
        Ok(()) => {
            prepare(connection, &roles, channels);
            run(connection, call, wanted, &roles, backend, until).await
        }
        Err(left) => Err(left),
    };
    let (outcome, close) = match done {
        Ok(outcome) => (outcome, Close::Done),
        Err(left) => told(call, left, connection),
    };
    if let Some(error) = roles.get(Role::Error) {
        connection.say(error, &status::words(&outcome, spoken.words));
    }
    connection.finish(close);
}

/// Waits for the streams that the client promised.
async fn gather(
    connection: &Connection,
    roles: &mut Roles,
    mut until: Pin<&mut impl Future<Output = Ending>>,
) -> Result<(), Left> {
    let mut late = std::pin::pin!(sleep(CREATION));
    while !roles.is_complete() {
        tokio::select! {
            opened = connection.opened() => match roles.assign(opened.id, &opened.headers) {
                Verdict::Serve => connection.accept(opened.id),
                Verdict::Ignore => {
                    connection.accept(opened.id);
                    connection.forget(opened.id);
                }
                Verdict::Refuse => connection.refuse(opened.id),
            },
            _ = connection.reached(Presence::Leaving) => return Err(Left::Client),
            ending = until.as_mut() => return Err(Left::Ending(ending)),
            () = &mut late => return Err(Left::Late),
        }
    }
    Ok(())
}

/// What the client says where it has nothing to say is thrown away, and its status comes last.
fn prepare(connection: &Connection, roles: &Roles, channels: bool) {
    for role in [Role::Error, Role::Stdout, Role::Stderr] {
        if let Some(id) = roles.get(role) {
            connection.abandon(id);
        }
    }
    if let Some(id) = roles.get(Role::Error) {
        connection.defer(id);
    }
    if channels {
        for id in 0..Roles::CHANNELS.into() {
            if ![Role::Stdin, Role::Resize].iter().any(|role| roles.get(*role) == Some(id)) {
                connection.abandon(id);
            }
        }
        // So clients learn that the connection stands.
        let first = [Role::Stdout, Role::Stderr, Role::Error].into_iter().find_map(|role| roles.get(role));
        first.into_iter().for_each(|id| connection.greet(id));
    }
}

async fn run(
    connection: &Connection,
    call: Call<'_>,
    wanted: Wanted,
    roles: &Roles,
    backend: &dyn Backend,
    mut until: Pin<&mut impl Future<Output = Ending>>,
) -> Result<Outcome, Left> {
    let gone = CancellationToken::new();
    let (sizes, terminal) = Terminal::new();
    let writer = |role| roles.get(role).map(|id| Box::new(connection.writer(id)) as Output);
    let session = Session {
        stdin: roles.get(Role::Stdin).map(|id| Box::new(connection.reader(id).for_input()) as Input),
        stdout: writer(Role::Stdout),
        stderr: writer(Role::Stderr),
        terminal: wanted.terminal.then_some(terminal),
        gone: gone.clone(),
    };
    let mut running = match call {
        Call::Exec(command) => backend.exec(command, session),
        Call::Attach => backend.attach(session),
    };
    let left = tokio::select! {
        ended = &mut running => return Ok(outcome(call, ended)),
        presence = connection.reached(Presence::Leaving) => match presence {
            Presence::Idle => Left::Idle,
            Presence::Here | Presence::Leaving | Presence::Gone => Left::Client,
        },
        ending = until.as_mut() => Left::Ending(ending),
        never = follow(roles.get(Role::Resize).map(|id| connection.reader(id)), sizes) => match never {},
    };
    gone.cancel();
    // Nobody reads what it still says, and it must not wait for that.
    for role in [Role::Stdout, Role::Stderr] {
        if let (Left::Client, Some(id)) = (&left, roles.get(role)) {
            connection.cancel(id);
        }
    }
    if timeout(GRACE, running).await.is_err() {
        tracing::warn!("a command whose client has gone does not end, and is left");
    }
    Err(left)
}

/// Tells sizes on as they come.
async fn follow(resize: Option<StreamReader>, told: watch::Sender<Option<TerminalSize>>) -> Infallible {
    let Some(mut resize) = resize else { return pending().await };
    let (mut sizes, mut buffer) = (Sizes::default(), [0; 1024]);
    while let Ok(count @ 1..) = resize.read(&mut buffer).await {
        if let Some(size) = sizes.read(buffer.get(..count).unwrap_or_default()) {
            told.send_replace(Some(size));
        }
    }
    // What it still sends is not waited for by anybody; the sizes that were told stay.
    drop(resize);
    pending().await
}

fn outcome(call: Call<'_>, ended: Result<u8, BackendError>) -> Outcome {
    match ended {
        Ok(code) => Outcome::Exit(code),
        Err(error) => failed(call, &error),
    }
}

fn failed(call: Call<'_>, why: &dyn std::fmt::Display) -> Outcome {
    let what = match call {
        Call::Exec(_) => "error executing command in container",
        Call::Attach => "error attaching to container",
    };
    Outcome::Failed(format!("{what}: {why}"))
}

/// What the client is told, if it is still there, and how leave is taken.
fn told(call: Call<'_>, left: Left, connection: &Connection) -> (Outcome, Close) {
    match left {
        Left::Client => (failed(call, &"the client has gone"), Close::Done),
        Left::Idle => (failed(call, &"nothing was said for 4 hours"), Close::Done),
        Left::Late => {
            (Outcome::Failed("timed out waiting for client to create streams".to_owned()), Close::Done)
        }
        Left::Ending(Ending::Here(why)) => (failed(call, &why), Close::Done),
        Left::Ending(Ending::Everywhere) => {
            connection.hurry();
            (failed(call, &FAREWELL), Close::Away)
        }
    }
}

#[cfg(test)]
mod tests;
