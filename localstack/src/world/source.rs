//! Where the capacity of a launch comes from: reservations, a pool, or first one and then the other. Pure.

use jiff::Timestamp;

use super::launch::{Launch, LaunchError};
use super::pools::Market;
use super::purchase::{Lifecycle, Preference, Purchase, Target};
use super::reservations::{Reservation, Shape};
use super::state::Cloud;

/// EC2's name for Linux without a fee of its own; every image of this cloud is that.
pub const PLATFORM: &str = "Linux/UNIX";

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
        }
        let only = asked.preference == Some(Preference::Only);
        let fall_back = (!only).then_some(Market::OnDemand);
        let all = |wanted: &dyn Fn(&Reservation) -> bool| {
            let usable =
                self.reservations.values().filter(|one| one.is_usable(now) && one.fits(&shape(launch)));
            usable.filter(|one| wanted(one)).map(|one| one.id.clone()).collect()
        };
        match (&asked.target, asked.preference) {
            (Some(Target::Id(id)), _) => {
                let found = self.reservations.get(id);
                let found = found.ok_or_else(|| LaunchError::ReservationNotFound(id.clone()))?;
                let usable = found.is_usable(now) && found.fits(&shape(launch));
                Ok(Source { reservations: usable.then(|| id.clone()).into_iter().collect(), pool: None })
            }
            (Some(Target::Group(arn)), _) => {
                Ok(Source { reservations: all(&|one| one.groups.contains(arn)), pool: fall_back })
            }
            (None, Some(Preference::None)) => Ok(Source { reservations: Vec::new(), pool: fall_back }),
            (None, None | Some(Preference::Open | Preference::Only)) => {
                let open = |one: &Reservation| one.matching == super::reservations::Matching::Open;
                Ok(Source { reservations: all(&open), pool: fall_back })
            }
        }
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
        purchase.reservation = source.reservations.iter().find(|id| self.available(id, now) > 0).cloned();
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
        let inside = |instance: &&super::instance::Instance| {
            instance.purchase.reservation.as_deref() == Some(id)
                && instance.state != super::instance::State::Terminated
        };
        u32::try_from(self.instances.values().filter(inside).count()).unwrap_or(u32::MAX)
    }

    /// What became of instances whose reservations ended: they run on, at the on-demand price.
    pub(super) fn settle_reservations(&mut self, now: Timestamp) {
        let reservations = &self.reservations;
        for instance in self.instances.values_mut() {
            let ended = |id: &mut String| reservations.get(id).is_none_or(|one| !one.is_usable(now));
            drop(instance.purchase.reservation.take_if(ended));
        }
    }
}

fn shape(launch: &Launch) -> Shape<'_> {
    Shape {
        kind: launch.kind,
        zone: &launch.subnet.zone,
        tenancy: launch.purchase.tenancy,
        platform: PLATFORM,
    }
}
