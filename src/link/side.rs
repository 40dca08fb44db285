//! A machine's side connection: what ORCA itself reads beside the control connection, compressed.
//!
//! Logs and numbers are text in bulk, and an SSM session carries little from a machine; and they must not stand in the
//! way of the kubelet's own connections to the gateway. All of its streams are read by us at once, so that none stalls
//! another. It is dialed when it is first needed, and again when it has died.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::task::Link;
use super::wire::{Purpose, Wire};
use crate::guest::KUBELET_PORT;
use crate::tunnel::{ByteStream, TunnelError};

/// The side connection of one machine.
pub(super) struct Side {
    link: Arc<Link>,
    wire: Mutex<Standing>,
}

enum Standing {
    /// None, or one that may have died.
    Wire(Option<Arc<dyn Wire>>),
    /// The machine was given up.
    Closed,
}

impl Side {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, wire: Mutex::new(Standing::Wire(None)) }
    }

    /// Begins a command on the machine, as [`super::Links::command`].
    pub(super) async fn command(&self, command: &str, deadline: Duration) -> Result<ByteStream, TunnelError> {
        let end = Instant::now() + deadline;
        let wire = self.wire(end, deadline).await?;
        wire.begin(command, end.duration_since(Instant::now())).await
    }

    /// A stream to the machine's kubelet, as [`super::Links::scrape_stream`].
    pub(super) async fn kubelet(&self, deadline: Duration) -> Result<ByteStream, TunnelError> {
        let end = Instant::now() + deadline;
        let wire = self.wire(end, deadline).await?;
        wire.open("127.0.0.1", KUBELET_PORT, end.duration_since(Instant::now())).await
    }

    /// Ends it for good; the caller closes what is returned.
    pub(super) fn close(&self) -> Option<Arc<dyn Wire>> {
        // What somebody dials just now ends with his stream: nobody else has it.
        let mut standing = self.wire.try_lock().ok()?;
        match std::mem::replace(&mut *standing, Standing::Closed) {
            Standing::Wire(wire) => wire,
            Standing::Closed => None,
        }
    }

    async fn wire(&self, end: Instant, deadline: Duration) -> Result<Arc<dyn Wire>, TunnelError> {
        let late = |_| TunnelError::Timeout(deadline, "dialing the machine's side connection");
        let mut standing = timeout_at(end, self.wire.lock()).await.map_err(late)?;
        let Standing::Wire(wire) = &mut *standing else {
            return Err(TunnelError::Lost("the machine was given up".to_owned()));
        };
        if let Some(wire) = wire.as_ref().filter(|wire| wire.is_open()) {
            return Ok(Arc::clone(wire));
        }
        let dialed = timeout_at(end, self.link.dial(Purpose::Side)).await.map_err(late)??;
        Ok(Arc::clone(wire.insert(dialed)))
    }
}
