//! What machines cost by the hour, and what the operator's own budget leaves. Pure.

use super::money::MicroUsd;
use super::world::Prices;
use crate::cloud::{Instance, Lifecycle, Purchase, Reservation};

/// `limits.maxHourlyCost`, and what the machines that run or are being launched take of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub limit: MicroUsd,
    pub spent: MicroUsd,
}

impl Budget {
    /// What is left of it.
    #[must_use]
    pub fn left(self) -> MicroUsd {
        MicroUsd(self.limit.0.saturating_sub(self.spent.0))
    }
}

/// What is needed to say what a machine costs.
#[derive(Clone, Copy, Debug)]
pub struct Rates<'a> {
    pub prices: &'a Prices,
    pub reservations: &'a [Reservation],
}

impl Rates<'_> {
    /// What a machine adds to the bill each hour, at the prices known now. Nothing in a reservation of our own or in a
    /// Capacity Block: it is paid for with or without the machine.
    #[must_use]
    pub fn of_machine(self, machine: &Instance) -> MicroUsd {
        let on_demand = || self.prices.on_demand.get(&machine.instance_type).copied();
        let reservation_id = machine.bought.reservation_id.as_deref();
        let price = match machine.bought.lifecycle {
            Lifecycle::CapacityBlock => None,
            Lifecycle::Spot => {
                let zones = self.prices.spot.get(&machine.instance_type);
                // Spot costs no more than that.
                zones.and_then(|zones| zones.get(&machine.zone)).copied().or_else(on_demand)
            }
            Lifecycle::OnDemand | Lifecycle::InterruptibleReservation | Lifecycle::Other => {
                on_demand().filter(|_| reservation_id.is_none_or(|id| self.is_foreign(id)))
            }
        };
        price.unwrap_or_default()
    }

    /// What a machine will add that is being launched at `price`.
    #[must_use]
    pub fn of_purchase(self, purchase: &Purchase, price: Option<MicroUsd>) -> MicroUsd {
        let is_paid = match purchase {
            Purchase::OnDemand | Purchase::Spot { .. } => false,
            Purchase::Reservation { id } | Purchase::Interruptible { id } => !self.is_foreign(id),
            Purchase::ReservationGroup { .. }
            | Purchase::OpenReservation
            | Purchase::CapacityBlock { .. } => true,
        };
        price.filter(|_| !is_paid).unwrap_or_default()
    }

    /// Who uses what another account reserved pays for it.
    fn is_foreign(self, reservation_id: &str) -> bool {
        self.reservations.iter().any(|one| one.id == reservation_id && !one.ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::live::tests::mk_instance;
    use crate::capacity::planner::tests::mk_reservation;
    use crate::capacity::shipped::shipped;
    use crate::cloud::InstanceState;

    fn cost(lifecycle: Lifecycle, reservation: Option<&str>) -> String {
        let mut prices = shipped().1;
        let zones = [("a".to_owned(), MicroUsd(400_000))];
        prices.spot.insert("g5.xlarge".to_owned(), zones.into());
        let reservations = [mk_reservation("cr-2", "g5.xlarge/a/1of1/foreign")];
        let rates = Rates { prices: &prices, reservations: &reservations };
        let mut machine = mk_instance("g5.xlarge", lifecycle, InstanceState::Running);
        machine.zone = "a".to_owned();
        machine.bought.reservation_id = reservation.map(str::to_owned);
        let here = rates.of_machine(&machine);
        machine.zone = "b".to_owned();
        let there = rates.of_machine(&machine);
        if here == there { here.to_string() } else { format!("{here}, elsewhere {there}") }
    }

    #[test]
    fn a_machine_costs_what_its_market_asks_and_nothing_where_it_is_paid_for() {
        assert_eq!(cost(Lifecycle::OnDemand, None), "1.006");
        assert_eq!(cost(Lifecycle::OnDemand, Some("cr-1")), "0.00");
        assert_eq!(cost(Lifecycle::OnDemand, Some("cr-2")), "1.006", "another account's");
        assert_eq!(cost(Lifecycle::Spot, None), "0.40, elsewhere 1.006");
        assert_eq!(cost(Lifecycle::CapacityBlock, Some("cr-1")), "0.00");
    }

    #[test]
    fn what_is_spent_beyond_a_budget_leaves_nothing() {
        let left = |limit, spent| Budget { limit: MicroUsd(limit), spent: MicroUsd(spent) }.left();
        assert_eq!((left(5, 2), left(5, 7)), (MicroUsd(3), MicroUsd(0)));
    }
}
