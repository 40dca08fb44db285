//! Exec, attach and port-forward, spoken to the API server by ORCA itself, for pods that have no kubelet.
//!
//! A request is read ([`Asked`]), a protocol is agreed upon ([`Asked::agree`]), and the upgraded connection is served
//! ([`Agreed::serve`]) by whatever reaches the container ([`Backend`]). What is spoken on the wire (`spdy`, `ws`, and
//! above them `mux`) is data in and data out; `connection` moves the bytes.
//!
//! ```no_run
//! # async fn example(mut request: http::Request<hyper::body::Incoming>, backend: std::sync::Arc<dyn orca::streams::Backend>)
//! # -> Result<http::Response<()>, orca::streams::Refused> {
//! use orca::streams::{Asked, Ending};
//!
//! let asked = Asked::exec(request.uri().query().unwrap_or_default())?;
//! let agreed = asked.agree(request.method(), request.headers())?;
//! let upgraded = hyper::upgrade::on(&mut request);
//! let response = agreed.response();
//! // Owned by whoever ends the process: `endpoint::Streams`.
//! let serving = async move {
//!     let client = hyper_util::rt::TokioIo::new(upgraded.await?);
//!     let until = std::future::pending::<Ending>();
//!     anyhow::Ok(agreed.serve(client, backend.as_ref(), until).await?)
//! };
//! # drop(serving);
//! Ok(response)
//! # }
//! ```

mod asked;
mod backend;
mod command;
mod connection;
mod forward;
pub mod mux;
mod pairs;
mod protocol;
mod refused;
mod resize;
mod roles;
pub mod spdy;
pub mod ssh;
mod status;
#[cfg(test)]
mod testing;
pub mod wire;
pub mod ws;

use http::{HeaderMap, Method, Response};
use tokio::io::{AsyncRead, AsyncWrite};

pub use asked::{Asked, Wanted};
pub use backend::{Backend, BackendError, Input, Output, Session, Terminal, TerminalSize};
pub use connection::Broken;
pub use refused::Refused;

use command::Call;
use connection::Connection;
use forward::Pod;
use mux::Mux;
use protocol::Protocol;

/// Streams of one remote command at once, at most: it has five.
const COMMAND_STREAMS: usize = 16;
/// Streams of one port-forward at once, at most, two for each connection. Each may hold 64 KiB that its client does not
/// read, and copy buffers of 32 KiB.
const FORWARD_STREAMS: usize = 512;
/// Why a command is left when this process ends.
const FAREWELL: &str = "orca ends here and goes on elsewhere: run the command again";

/// Why a connection is to end before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its pod or container is gone: why, for the client.
    Here(String),
    /// This process ends: the client is told, and not waited for.
    Everywhere,
}

impl Asked {
    /// Agrees with the client on what is spoken, by method and headers of its request. Nothing was begun yet.
    ///
    /// # Errors
    /// When it asks for no upgrade, or speaks nothing that is spoken here.
    pub fn agree(self, method: &Method, headers: &HeaderMap) -> Result<Agreed, Refused> {
        let (protocol, response) = protocol::agree(&self, method, headers)?;
        Ok(Agreed { asked: self, protocol, response })
    }
}

/// A request that is granted.
#[derive(Debug)]
pub struct Agreed {
    asked: Asked,
    protocol: Protocol,
    response: Response<()>,
}

impl Agreed {
    /// The answer, to be sent before the connection is served: 101, and what was agreed.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        self.response.clone()
    }

    /// Serves the upgraded connection until the client has gone, what it asked for has ended, or `until` resolves; all of
    /// which are no errors. The client is told how a command ended, whatever happens.
    ///
    /// # Errors
    /// When the connection broke, or the client is not understood.
    pub async fn serve(
        self,
        io: impl AsyncRead + AsyncWrite,
        backend: &dyn Backend,
        until: impl Future<Output = Ending>,
    ) -> Result<(), Broken> {
        let (room, ports) = match &self.asked {
            Asked::Exec { .. } | Asked::Attach { .. } => (COMMAND_STREAMS, &[][..]),
            Asked::Forward { ports, .. } => (FORWARD_STREAMS, ports.as_slice()),
        };
        let (wire, channels) = self.protocol.wire(ports.len());
        let mux = match channels {
            Some(count) => Mux::with_channels(wire, count),
            None => Mux::new(wire, room),
        };
        let connection = Connection::new(mux);
        let session = async {
            let (call, wanted) = match &self.asked {
                Asked::Exec { command, wanted } => (Call::Exec(command), *wanted),
                Asked::Attach { wanted } => (Call::Attach, *wanted),
                Asked::Forward { pod, uid, ports } => {
                    let pod = Pod { name: pod, uid };
                    let ports = channels.map(|_| ports.as_slice());
                    return forward::serve(&connection, pod, ports, backend, until).await;
                }
            };
            let spoken = self.protocol.spoken();
            command::serve(&connection, call, wanted, spoken, channels.is_some(), backend, until).await;
        };
        let (moved, ()) = tokio::join!(connection.drive(io), session);
        moved
    }
}
