//! The SSM Session Manager data channel as a transport: one raw port session per stream.
//!
//! [`codec`], [`handshake`] and [`channel`] are the protocol as data in, data out: no socket, no task, no clock.
//! `task` is one session's life: `session` starts, resumes and ends it with the service, `driver` moves its frames over
//! a WebSocket. [`SsmTransport`] is what the rest of ORCA sees.

pub mod channel;
pub mod codec;
mod driver;
pub mod handshake;
mod rate;
mod rtt;
mod session;
mod signing;
mod task;
mod transport;
mod wire;

pub use transport::{SsmOptions, SsmTransport};
