//! What the process knows of capacity and nobody else can tell, for its page `/capacity`.

use std::sync::Arc;

use super::{Controller, Core};
use crate::capacity::live::{self, Live};
use crate::clock;

impl Controller {
    /// What is known at the moment it is called.
    #[must_use]
    pub fn live(&self) -> Arc<dyn Fn() -> Live + Send + Sync> {
        let core = self.core.clone();
        Arc::new(move || core.live())
    }
}

impl Core {
    fn live(&self) -> Live {
        let now = clock::now();
        let snapshot = self.market.snapshot();
        let machines = self.fleet.all();
        let ceilings = self.ceilings();
        let blocked = self.blocked();
        Live {
            node: self.config.node.name.clone(),
            as_of: now,
            avoided: live::avoided(&blocked, now),
            quotas: live::quotas(&machines, &snapshot.catalog, &blocked, now),
            ceilings,
            learned: live::learned(&snapshot.catalog),
            in_flight: snapshot.all_in_flight(),
        }
    }
}
