//! What the process knows of capacity and nobody else can tell, for its page `/capacity`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ceiling::{Demand, ceilings};
use super::{Controller, Core};
use crate::capacity::live::{self, Live};
use crate::clock;
use crate::pod::{ask, reasons, status};

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
            hourly_micro_usd: self.hourly_cost(),
            max_hourly_micro_usd: self.config.limits.max_hourly_cost,
        }
    }

    /// What the node should offer at most, by resource.
    pub(super) fn ceilings(&self) -> BTreeMap<String, u64> {
        let resource = &self.rules.gpu_resource;
        let pods = self.pods.all();
        let alive = pods.iter().filter(|pod| !status::is_terminal(pod));
        let demands: Vec<Demand> = alive
            .map(|pod| {
                let row = self.table.get(pod.metadata.uid.as_deref().unwrap_or_default());
                Demand {
                    gpus: ask::gpus(pod, resource),
                    waits: row.memory.hold.is_some_and(|hold| reasons::is_over_a_bound(hold.reason)),
                }
            })
            .collect();
        ceilings(&demands, resource)
    }
}
