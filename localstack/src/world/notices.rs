//! What an instance is told of its end before it comes: interruptions, and recommendations to leave. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::instance::{Instance, Power, Reason};
use super::purchase::Lifecycle;
use super::reservations::Nature;
use super::state::Cloud;
use crate::clock;
use crate::ec2::catalog::InstanceType;

/// What an instance is told through its metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// When EC2 is going to take it away.
    pub interruption: Option<Timestamp>,
    /// When EC2 said that it is at risk.
    pub rebalance: Option<Timestamp>,
}

/// How long before it takes an instance away EC2 says so.
pub const NOTICE: Duration = Duration::from_secs(120);

/// Of every instance that EC2 took back.
const TAKEN_BACK: &str = "Server.SpotInstanceTermination";

impl Instance {
    /// Announces its end, unless an earlier one is announced already.
    pub fn interrupt(&mut self, at: Timestamp) {
        let earlier = self.notices.interruption.is_some_and(|announced| announced <= at);
        if !earlier && !self.state.ending() {
            tracing::info!(instance.id = %self.id, %at, "instance will be interrupted");
            self.notices.interruption = Some(at);
        }
    }

    /// Whether EC2 may take it back.
    #[must_use]
    pub fn interruptible(&self) -> bool {
        match self.purchase.lifecycle {
            Lifecycle::Spot | Lifecycle::Interruptible => true,
            Lifecycle::OnDemand | Lifecycle::CapacityBlock => false,
        }
    }
}

impl Cloud {
    /// Sets a spot price. Whoever is not ready to pay it gets a notice.
    pub fn set_spot_price(&mut self, kind: &InstanceType, zone: &str, micros: Option<u64>, now: Timestamp) {
        self.prices.set_spot(kind, zone, micros, now);
        let at = clock::after(now, self.timing.spot_notice);
        let unwilling = |instance: &&mut Instance| {
            let most = instance.purchase.spot.as_ref().and_then(|spot| spot.max_price);
            instance.kind == kind && instance.subnet.zone == zone && most < micros && most.is_some()
        };
        self.instances.values_mut().filter(unwilling).for_each(|instance| instance.interrupt(at));
    }

    /// Ends what was announced, and announces the end of what its reservation cannot keep.
    pub(super) fn settle_notices(&mut self, now: Timestamp) {
        let (reservations, notice) = (&self.reservations, self.timing.spot_notice);
        for instance in self.instances.values_mut() {
            let reservation = instance.purchase.reservation.as_ref().and_then(|id| reservations.get(id));
            if let Some(reservation) = reservation
                && matches!(reservation.nature, Nature::Interruptible { .. })
                && !reservation.is_usable(now)
            {
                instance.interrupt(clock::after(now, notice));
            }
            if instance.notices.interruption.is_some_and(|at| at <= now) {
                instance.end(Reason::new(TAKEN_BACK), String::new(), Power::Button, now);
            }
        }
    }

    /// When something happens next that nobody asks for.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let due = |instance: &Instance| {
            let reservation = instance.purchase.reservation.as_ref().and_then(|id| self.reservations.get(id));
            let ends = reservation.and_then(|reservation| match reservation.nature {
                Nature::Block(_) => reservation.drains_at(),
                Nature::Interruptible { .. } => reservation.end.filter(|_| reservation.fixed.is_none()),
                Nature::OnDemand => None,
            });
            // What is announced has its time; the reservation's is over by then.
            let end = instance.notices.interruption.or(ends);
            end.into_iter().chain(instance.next_event()).min()
        };
        self.instances.values().filter(|instance| !instance.state.ending()).filter_map(due).min()
    }
}
