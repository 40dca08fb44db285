//! No machines: instances are states only. For tests that need none, and where none can be booted.

use std::io;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::broadcast;

use super::{Freeze, MachineEvent, MachineSpec, Machines, Notices};

/// Boots nothing, reaches nothing. Shutting down succeeds at once.
#[derive(Debug)]
pub struct NoMachines {
    events: broadcast::Sender<MachineEvent>,
}

impl Default for NoMachines {
    fn default() -> Self {
        // As many as instances may end at once before their driver looks.
        Self { events: broadcast::Sender::new(1024) }
    }
}

impl NoMachines {
    /// Plays an event that a real machine would have caused, such as `poweroff` inside.
    pub fn play(&self, event: MachineEvent) {
        // Nobody listening is nobody to tell.
        drop(self.events.send(event));
    }
}

#[async_trait]
impl Machines for NoMachines {
    async fn boot(&self, _spec: MachineSpec) -> anyhow::Result<()> {
        Ok(())
    }

    async fn shut_down(&self, id: &str) {
        self.play(MachineEvent::PoweredOff { id: id.to_owned() });
    }

    async fn destroy(&self, _id: &str) {}

    async fn power_cycle(&self, _id: &str) -> anyhow::Result<()> {
        Ok(())
    }

    async fn freeze(&self, _id: &str, _state: Freeze) -> anyhow::Result<()> {
        Ok(())
    }

    fn console(&self, _id: &str) -> String {
        String::new()
    }

    fn agent_online(&self, _id: &str) -> bool {
        false
    }

    async fn dial(&self, id: &str, port: u16) -> io::Result<UnixStream> {
        Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!("`{id}` has no machine to reach port {port} of"),
        ))
    }

    fn notify(&self, _id: &str, _notices: Notices) {}

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.events.subscribe()
    }
}
