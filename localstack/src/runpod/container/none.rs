//! No containers: pods are states only, and tests play what a container would do.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{ContainerEvent, ContainerSpec, Containers, EVENTS, Exit, Mapping, Remap, VolumeState};

/// Where ports would be reached: of TEST-NET-3 (RFC 5737), where nobody answers.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// The first public port; the range ends with the numbers.
const FIRST_PORT: u16 = 20_000;

/// Starts nothing, reaches nothing. Stopping succeeds at once.
#[derive(Debug)]
pub struct NoContainers {
    events: mpsc::Sender<ContainerEvent>,
    receiver: Mutex<Option<mpsc::Receiver<ContainerEvent>>>,
    mappings: Mutex<HashMap<String, Vec<Mapping>>>,
    next_port: AtomicU16,
}

impl Default for NoContainers {
    fn default() -> Self {
        let (events, receiver) = mpsc::channel(EVENTS);
        Self {
            events,
            receiver: Mutex::new(Some(receiver)),
            mappings: Mutex::default(),
            next_port: AtomicU16::new(FIRST_PORT),
        }
    }
}

impl NoContainers {
    fn port(&self) -> u16 {
        let port = self.next_port.fetch_add(1, Ordering::Relaxed);
        // Round again, rather than among the ports that others use.
        if port < FIRST_PORT { FIRST_PORT + port } else { port }
    }
}

#[async_trait]
impl Containers for NoContainers {
    async fn pull(&self, _id: &str, _image: &str) -> anyhow::Result<()> {
        Ok(())
    }

    async fn start(&self, spec: ContainerSpec) -> anyhow::Result<Vec<Mapping>> {
        let mut mappings = self.mappings.lock().unwrap_or_else(PoisonError::into_inner);
        let old = mappings.get(&spec.id).filter(|_| spec.mapping == Remap::Keep);
        let old = old.filter(|old| old.iter().map(|mapping| mapping.port).eq(spec.ports.iter().copied()));
        if let Some(old) = old {
            return Ok(old.clone());
        }
        let map = |port: &super::Port| {
            let public = self.port();
            let private = u16::try_from(port.number).unwrap_or(public);
            Mapping { port: *port, private, public, ip: ADDRESS }
        };
        let made: Vec<Mapping> = spec.ports.iter().map(map).collect();
        mappings.insert(spec.id, made.clone());
        Ok(made)
    }

    async fn kill(&self, id: &str, run: u32, code: i32) {
        self.play(ContainerEvent::Exited { id: id.to_owned(), run, exit: Exit::Code(code) });
    }

    async fn stop(&self, _id: &str, _grace: Duration) {}

    async fn remove(&self, id: &str, _grace: Duration) {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    async fn volume(&self, _id: &str, _state: VolumeState) -> anyhow::Result<()> {
        Ok(())
    }

    fn events(&self) -> Option<mpsc::Receiver<ContainerEvent>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn play(&self, event: ContainerEvent) -> bool {
        if self.events.try_send(event).is_err() {
            tracing::error!("an event of a container was lost");
        }
        true
    }
}
