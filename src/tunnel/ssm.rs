//! The SSM Session Manager data channel as a transport: one raw port session per stream.
//!
//! [`codec`], [`handshake`] and [`channel`] are the protocol as data in, data out: no socket, no task, no clock.
//! [`driver`] moves their frames over a WebSocket, [`session`] opens, resumes and ends sessions with the service,
//! and [`transport`] is what the rest of ORCA sees.

pub mod channel;
pub mod codec;
mod driver;
pub mod handshake;
mod rate;
mod rtt;
mod session;
mod signing;
mod transport;
mod wire;

pub use transport::{SsmOptions, SsmTransport};
