//! The SSM agent's part: connections to ports of the machine, made from inside its network namespace.
//!
//! It runs as a process of its own (`localstack agent`), entered into that namespace, and is reached over a Unix
//! socket, which no network namespace separates. One connection to the socket is one connection in the machine:
//! the client writes the port as two bytes, big-endian, reads one byte that says how the dial went, and from then
//! on the two are one stream, each half closed on its own.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A listener on the loopback answers at once or never.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// For the client, which also waits for an agent that may be frozen with its machine.
const REPLY_DEADLINE: Duration = Duration::from_secs(15);

/// Connections that one machine carries at a time; the next one waits in the listener's own queue.
const CONNECTIONS: usize = 1024;

/// The linux limit of a socket's path, its closing zero included.
const PATH_LIMIT: usize = 108;

/// The byte that follows the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Connected = 0,
    Refused = 1,
    Failed = 2,
}

/// Serves `socket` until it fails. Whatever was at that path is replaced.
pub async fn run(socket: PathBuf) -> anyhow::Result<()> {
    let listener = listen(&socket)?;
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&free).acquire_owned().await.context("the semaphore is never closed")?;
        let (client, _) = listener.accept().await.context("accepting on the agent's socket")?;
        connections.spawn(async move {
            // How a stream ends is between its two ends.
            drop(serve(client).await);
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A connection to `127.0.0.1:port` where the agent at `socket` runs.
pub async fn connect(socket: &Path, port: u16) -> io::Result<UnixStream> {
    let dial = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(&port.to_be_bytes()).await?;
        match stream.read_u8().await? {
            0 => Ok(stream),
            1 => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("nothing listens on port {port}"),
            )),
            other => Err(io::Error::other(format!("the agent could not dial port {port} (answer {other})"))),
        }
    };
    tokio::time::timeout(REPLY_DEADLINE, dial).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("the agent does not answer in {REPLY_DEADLINE:?}"))
    })?
}

fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    anyhow::ensure!(
        socket.as_os_str().len() < PATH_LIMIT,
        "socket path `{}` is too long, expected fewer than {PATH_LIMIT} bytes",
        socket.display()
    );
    if let Err(error) = std::fs::remove_file(socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("removing `{}`", socket.display()));
    }
    UnixListener::bind(socket).with_context(|| format!("listening on `{}`", socket.display()))
}

async fn serve(mut client: UnixStream) -> io::Result<()> {
    let port = tokio::time::timeout(DIAL_DEADLINE, client.read_u16()).await??;
    let dial = tokio::time::timeout(DIAL_DEADLINE, TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
    let (reply, server) = match dial.await {
        Ok(Ok(server)) => (Reply::Connected, Some(server)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => (Reply::Refused, None),
        Ok(Err(_)) | Err(_) => (Reply::Failed, None),
    };
    client.write_u8(reply as u8).await?;
    if let Some(mut server) = server {
        // Keystrokes of an SSH session should not wait for each other.
        server.set_nodelay(true)?;
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 64 << 10, 64 << 10).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    struct Agent {
        socket: PathBuf,
        _served: AbortOnDropHandle<anyhow::Result<()>>,
    }

    impl Drop for Agent {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.socket));
        }
    }

    async fn agent() -> Agent {
        let socket = std::env::temp_dir().join(format!("agent-{}.sock", uuid::Uuid::new_v4()));
        let served = AbortOnDropHandle::new(tokio::spawn(run(socket.clone())));
        while !socket.exists() {
            tokio::task::yield_now().await;
        }
        Agent { socket, _served: served }
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn each_half_of_a_stream_closes_on_its_own() {
        let agent = agent().await;
        let (listener, port) = listener().await;
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = String::new();
            stream.read_to_string(&mut asked).await.unwrap();
            stream.write_all(format!("after the end of `{asked}`").as_bytes()).await.unwrap();
        };
        let client = async {
            let mut stream = connect(&agent.socket, port).await.unwrap();
            stream.write_all(b"question").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let ((), answer) = tokio::join!(server, client);
        assert_eq!(answer, "after the end of `question`");
    }

    #[tokio::test]
    async fn a_port_without_a_listener_is_a_refused_connection() {
        let agent = agent().await;
        let (listener, port) = listener().await;
        drop(listener);
        let error = connect(&agent.socket, port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(error.to_string(), format!("nothing listens on port {port}"));
    }

    #[tokio::test]
    async fn a_client_that_names_no_port_disturbs_nobody() {
        let agent = agent().await;
        let (listener, port) = listener().await;
        let silent = UnixStream::connect(&agent.socket).await.unwrap();
        let (_served, dialled) = tokio::join!(listener.accept(), connect(&agent.socket, port));
        dialled.unwrap();
        drop(silent);
    }

    #[tokio::test]
    async fn a_socket_path_that_linux_cannot_hold_is_named() {
        let error = run(PathBuf::from("/").join("x".repeat(200))).await.unwrap_err();
        assert!(error.to_string().contains("is too long, expected fewer than 108 bytes"), "{error}");
    }
}
