//! The NVIDIA GPUs of all machines: what they do, and whether they are well.
//!
//! One command a machine prints what `nvidia-smi` and the driver's kernel messages say (`watch`); pure parsers read it
//! (`sample`, `xid`) into a book (`book`), which the metrics (`series`), the stats of pods and the events of sick GPUs
//! are made of. Nothing here decides about pods or machines.

mod book;
pub mod sample;
mod series;
mod watch;
pub mod xid;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use self::book::Owner;
pub use self::watch::{Tell, Watch};

use self::book::Machine;
use self::series::{Counts, Series};
use crate::clock;
use crate::pod::decide::Note;
use crate::stats::{Accelerator, Accelerators};
use crate::telemetry::Registry;

/// What is known of the GPUs of all machines. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Gpus {
    /// By pod UID.
    machines: Arc<Mutex<BTreeMap<String, Machine>>>,
    counts: Counts,
    /// Name of the virtual node.
    node: Arc<str>,
}

impl Gpus {
    /// Nothing is known yet of the GPUs of this node.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), ..Self::default() }
    }

    /// Adds the series.
    pub fn register(&self, registry: &mut Registry) {
        self.counts.register(registry);
        registry.collect(series::described(), Series(self.clone()));
    }

    /// One line that the machine's command printed; what its pod should be told of it.
    pub fn read(&self, pod_uid: &str, owner: &Owner, line: &str, now: Timestamp) -> Option<Note> {
        let mut machines = self.lock();
        let machine = machines.entry(pod_uid.to_owned()).or_default();
        let (verdict, note) = machine.of(owner).read(line, now)?;
        self.counts.xid(verdict);
        note
    }

    /// The machine is gone.
    pub fn forget(&self, pod_uid: &str) {
        self.lock().remove(pod_uid);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accelerators for Gpus {
    fn of(&self, pod_uid: &str) -> Vec<Accelerator> {
        self.lock().get(pod_uid).map(|machine| machine.accelerators(clock::now())).unwrap_or_default()
    }
}
