//! Where the capacity of a launch comes from: reservations, a pool, or first one and then the other. Pure.

use jiff::Timestamp;

use super::ids;
use super::instance::{Instance, Power, Reason, State as Is};
use super::launch::{Launch, LaunchError};
use super::pools::Market;
use super::purchase::{Lifecycle, Preference, Purchase, Target};
use super::reservations::{Matching, Nature, Reservation, Shape, State};
use super::state::Cloud;

/// EC2's name for Linux without a fee of its own; every image of this cloud is that.
pub const PLATFORM: &str = "Linux/UNIX";

/// EC2 publishes no `StateReason` of its own for instances that end with their Capacity Block.
const BLOCK_ENDS: &str = "Server.ScheduledStop";

/// Where the instances of a launch may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Ids of the reservations that it may use, in order.
    pub reservations: Vec<String>,
    /// What takes those that find no room there.
    pub pool: Option<Market>,
}

impl Cloud {
    /// What a launch may use. Refuses what no capacity could make right.
    pub(super) fn source(&self, launch: &Launch, now: Timestamp) -> Result<Source, LaunchError> {
        let asked = &launch.purchase.asked;
        match launch.purchase.lifecycle {
            Lifecycle::OnDemand => {}
            Lifecycle::Spot => return self.on_spot(launch),
            Lifecycle::CapacityBlock | Lifecycle::Interruptible => return self.in_named(launch, now),
        }
        let only = asked.preference == Some(Preference::Only);
        let fall_back = (!only).then_some(Market::OnDemand);
        let all = |wanted: &dyn Fn(&Reservation) -> bool| {
            let usable = self.reservations.values().filter(|one| one.nature == Nature::OnDemand);
            let usable = usable.filter(|one| one.is_usable(now) && one.fits(&shape(launch)));
            usable.filter(|one| wanted(one)).map(|one| one.id.clone()).collect()
        };
        match (&asked.target, asked.preference) {
            (Some(Target::Id(id)), _) => {
                let found = self.find_reservation(id)?;
                match found.nature {
                    Nature::OnDemand => Ok(within(found, launch, now)),
                    Nature::Block(_) | Nature::Interruptible { .. } => Err(LaunchError::WrongMarket),
                }
            }
            (Some(Target::Group(arn)), _) => {
                Ok(Source { reservations: all(&|one| one.groups.contains(arn)), pool: fall_back })
            }
            (None, Some(Preference::None)) => Ok(Source { reservations: Vec::new(), pool: fall_back }),
            (None, None | Some(Preference::Open | Preference::Only)) => {
                let open = |one: &Reservation| one.matching == Matching::Open;
                Ok(Source { reservations: all(&open), pool: fall_back })
            }
        }
    }

    /// A launch on the spot market, if its price is not too low.
    fn on_spot(&self, launch: &Launch) -> Result<Source, LaunchError> {
        let pool = Source { reservations: Vec::new(), pool: Some(Market::Spot) };
        let most = launch.purchase.spot.as_ref().and_then(|spot| spot.max_price);
        match (most, self.prices.spot(launch.kind, &launch.subnet.zone)) {
            (Some(most), Some(price)) if most < price => Err(LaunchError::PriceTooLow { price }),
            (_, Some(_)) => Ok(pool),
            // Without a price it is not sold.
            (_, None) => Ok(Source { pool: None, ..pool }),
        }
    }

    /// A launch into a Capacity Block or an interruptible reservation, which has to name it.
    fn in_named(&self, launch: &Launch, now: Timestamp) -> Result<Source, LaunchError> {
        let Some(Target::Id(id)) = &launch.purchase.asked.target else {
            return Err(LaunchError::WrongMarket);
        };
        let found = self.find_reservation(id)?;
        let of_its_own = match found.nature {
            Nature::OnDemand => Lifecycle::OnDemand,
            Nature::Block(_) => Lifecycle::CapacityBlock,
            Nature::Interruptible { .. } => Lifecycle::Interruptible,
        };
        if launch.purchase.lifecycle != of_its_own {
            return Err(LaunchError::WrongMarket);
        }
        match (&found.nature, found.state(now)) {
            (Nature::Block(_), State::Scheduled | State::PaymentPending | State::Pending) => {
                Err(LaunchError::NotActive(id.clone()))
            }
            (Nature::Interruptible { .. }, State::Unavailable | State::Cancelling) => {
                Err(LaunchError::Reclaimed(id.clone()))
            }
            _ => Ok(within(found, launch, now)),
        }
    }

    fn find_reservation(&self, id: &str) -> Result<&Reservation, LaunchError> {
        self.reservations.get(id).ok_or_else(|| LaunchError::ReservationNotFound(id.to_owned()))
    }

    /// How many instances a source has room for.
    pub(super) fn room_in(&self, source: &Source, launch: &Launch, now: Timestamp) -> u32 {
        let reserved: u32 = source.reservations.iter().map(|id| self.available(id, now)).sum();
        let pool = source.pool.map_or(0, |market| {
            self.pools.left(launch.kind.name, &launch.subnet.zone, market).unwrap_or(u32::MAX)
        });
        reserved.saturating_add(pool)
    }

    /// Takes the place of one instance, for which there is room. Returns how it was bought, and the code of the
    /// reason if its launch is to fail late.
    pub(super) fn occupy(
        &mut self,
        source: &Source,
        launch: &Launch,
        now: Timestamp,
    ) -> (Purchase, Option<String>) {
        let mut purchase = launch.purchase.clone();
        if let Some(spot) = &mut purchase.spot {
            spot.id = ids::fresh_short("sir");
        }
        purchase.reservation = source.reservations.iter().find(|id| self.available(id, now) > 0).cloned();
        let taken = purchase.reservation.as_ref().and_then(|id| self.reservations.get(id));
        purchase.block = taken.and_then(Reservation::block).map(|block| block.id.clone());
        let doomed = match (&purchase.reservation, source.pool) {
            (None, Some(market)) => self.pools.take(launch.kind.name, &launch.subnet.zone, market),
            (Some(_), _) | (None, None) => None,
        };
        (purchase, doomed)
    }

    /// How many more instances a reservation takes now.
    #[must_use]
    pub fn available(&self, id: &str, now: Timestamp) -> u32 {
        let Some(reservation) = self.reservations.get(id).filter(|one| one.is_usable(now)) else { return 0 };
        reservation.total.saturating_sub(reservation.used_elsewhere).saturating_sub(self.used(id))
    }

    /// How many of our instances run in a reservation.
    #[must_use]
    pub fn used(&self, id: &str) -> u32 {
        let inside = |instance: &&Instance| {
            instance.purchase.reservation.as_deref() == Some(id) && instance.state != Is::Terminated
        };
        u32::try_from(self.instances.values().filter(inside).count()).unwrap_or(u32::MAX)
    }

    /// What becomes of instances whose reservations end: those of a Capacity Block are ended before, the others run
    /// on at the on-demand price.
    pub(super) fn settle_reservations(&mut self, now: Timestamp) {
        let reservations = &self.reservations;
        for instance in self.instances.values_mut() {
            let Some(reservation) =
                instance.purchase.reservation.as_ref().and_then(|id| reservations.get(id))
            else {
                continue;
            };
            match &reservation.nature {
                Nature::OnDemand if !reservation.is_usable(now) => instance.purchase.reservation = None,
                Nature::OnDemand => {}
                Nature::Block(_) if reservation.drains_at().is_some_and(|at| at <= now) => {
                    instance.end(Reason::new(BLOCK_ENDS), String::new(), Power::Button, now);
                }
                Nature::Block(_) | Nature::Interruptible { .. } => {}
            }
        }
    }
}

/// This reservation alone, if the launch may use it.
fn within(reservation: &Reservation, launch: &Launch, now: Timestamp) -> Source {
    let usable = reservation.is_usable(now) && reservation.fits(&shape(launch));
    Source { reservations: usable.then(|| reservation.id.clone()).into_iter().collect(), pool: None }
}

fn shape(launch: &Launch) -> Shape<'_> {
    Shape {
        kind: launch.kind,
        zone: &launch.subnet.zone,
        tenancy: launch.purchase.tenancy,
        platform: PLATFORM,
    }
}
