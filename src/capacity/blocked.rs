//! What failed a moment ago and is better not tried again now.
//!
//! Pure data, time is an argument. What is avoided, and for how long, is the table of [`avoid`](super::avoid).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::avoid::{Attempt, Avoid, Class, Scope, family_of, market, reservation_target};
use crate::clock::after;

/// Failures that lie further apart than this are not in a row.
const IN_A_ROW: Duration = Duration::from_secs(30 * 60);

/// The memory of what failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    entries: BTreeMap<Scope, Entry>,
}

/// Why something is avoided, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub class: Class,
    /// EC2's own word.
    pub code: String,
    pub until: Timestamp,
    /// Failures in a row.
    pub count: u32,
    for_: Duration,
}

impl Entry {
    /// What another process noted.
    pub(super) fn new(class: Class, code: String, until: Timestamp, count: u32) -> Self {
        Self { class, code, until, count, for_: Duration::ZERO }
    }
}

impl FromIterator<(Scope, Entry)> for Blocked {
    fn from_iter<I: IntoIterator<Item = (Scope, Entry)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

impl Blocked {
    /// Notes a failure. What is avoided already is not avoided longer for failures of calls that were under way.
    pub fn note(&mut self, avoid: &Avoid, now: Timestamp) {
        self.entries.retain(|_, entry| after(entry.until, IN_A_ROW) > now);
        let before = self.entries.get(&avoid.scope);
        let (for_, count) = match before {
            None => (avoid.first, 1),
            Some(entry) if entry.until > now => (entry.for_, entry.count),
            Some(entry) => {
                let twice = entry.for_.saturating_mul(2).clamp(avoid.first, avoid.cap.max(avoid.first));
                (twice, entry.count.saturating_add(1))
            }
        };
        let until = after(now, for_).max(before.map_or(Timestamp::MIN, |entry| entry.until));
        let entry = Entry { class: avoid.class, code: avoid.code.clone(), until, count, for_ };
        self.entries.insert(avoid.scope.clone(), entry);
    }

    /// A launch worked: whatever was held against it is forgotten.
    pub fn clear(&mut self, attempt: &Attempt<'_>) {
        self.entries.retain(|scope, _| !concerns(scope, attempt));
    }

    /// The reservations were read, so that what they have is known.
    pub fn reservations_were_read(&mut self) {
        self.entries.retain(|scope, _| !matches!(scope, Scope::Reservation { .. }));
    }

    /// The spot prices were read.
    pub fn prices_were_read(&mut self) {
        self.entries.retain(|scope, _| !matches!(scope, Scope::SpotPrice { .. }));
    }

    /// Everything that is avoided now.
    pub fn iter(&self, now: Timestamp) -> impl Iterator<Item = (&Scope, &Entry)> {
        self.entries.iter().filter(move |(_, entry)| entry.until > now)
    }

    /// When the next of them ends.
    #[must_use]
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.iter(now).map(|(_, entry)| entry.until).min()
    }

    /// Until when this call is better not made; `None` if there is nothing against it.
    #[must_use]
    pub fn until(&self, attempt: &Attempt<'_>, now: Timestamp) -> Option<Timestamp> {
        let against = self.iter(now).filter(|(scope, _)| concerns(scope, attempt));
        against.map(|(_, entry)| entry.until).max()
    }
}

/// Whether what is avoided is, or contains, this call.
fn concerns(scope: &Scope, at: &Attempt<'_>) -> bool {
    let is_here = |name: &str, in_zone: &str| name == at.instance_type && in_zone == at.zone;
    let bought = market(at.purchase);
    let is_spot = bought == crate::pod::wishes::CapacityType::Spot;
    match scope {
        Scope::Pool { instance_type, zone, market } => *market == bought && is_here(instance_type, zone),
        Scope::TypeInZone { instance_type, zone } => is_here(instance_type, zone),
        Scope::Quota { family, market } => *market == bought && *family == family_of(at.instance_type),
        Scope::Subnet(id) => id == at.subnet_id,
        Scope::Volume { zone, kind } => zone == at.zone && kind == at.volume_kind,
        Scope::Reservation { target, instance_type, zone } => {
            at.is_reserved() && target == reservation_target(at.purchase) && is_here(instance_type, zone)
        }
        Scope::SpotPrice { instance_type, zone } => is_spot && is_here(instance_type, zone),
        Scope::Spot => is_spot,
        Scope::GroupInZone { group, zone } => Some(group.as_str()) == at.placement_group && zone == at.zone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::avoid;
    use crate::capacity::planner::Selection;
    use crate::cloud::{CloudError, Purchase};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn attempt<'a>(purchase: &'a Purchase, zone: &'a str, subnet_id: &'a str) -> Attempt<'a> {
        Attempt {
            purchase,
            selection: Selection::Listed,
            instance_type: "g5.xlarge",
            zone,
            subnet_id,
            volume_kind: "gp3",
            placement_group: None,
        }
    }

    fn avoid_of(code: &str, attempt: &Attempt<'_>) -> Avoid {
        let error = CloudError::NoCapacity { code: code.to_owned(), message: String::new() };
        avoid::of_error(&error, attempt).avoid.unwrap()
    }

    #[test]
    fn failures_in_a_row_are_avoided_longer_up_to_a_cap_until_one_works() {
        let mut blocked = Blocked::default();
        let here = attempt(&Purchase::OnDemand, "a", "s-a");
        let dry = avoid_of("InsufficientInstanceCapacity", &here);
        let mut now = 0;
        for expected in [180, 360, 720, 900, 900] {
            blocked.note(&dry, at(now));
            assert_eq!(blocked.until(&here, at(now)), Some(at(now + expected)));
            now += expected;
        }
        blocked.clear(&here);
        blocked.note(&dry, at(now));
        assert_eq!(blocked.until(&here, at(now)), Some(at(now + 180)));
        now += 180 + 30 * 60;
        blocked.note(&dry, at(now));
        assert_eq!(blocked.until(&here, at(now)), Some(at(now + 180)), "half an hour is not in a row");
    }

    #[test]
    fn calls_that_were_under_way_together_count_as_one_failure() {
        let mut blocked = Blocked::default();
        let here = attempt(&Purchase::OnDemand, "a", "s-a");
        let dry = avoid_of("InsufficientInstanceCapacity", &here);
        for second in [0, 0, 1, 2] {
            blocked.note(&dry, at(second));
        }
        assert_eq!(blocked.until(&here, at(2)), Some(at(182)));
        assert_eq!(blocked.iter(at(2)).map(|(_, entry)| entry.count).collect::<Vec<_>>(), [1]);
        assert_eq!(blocked.next_end(at(2)), Some(at(182)));
        assert_eq!(blocked.next_end(at(182)), None);
    }

    #[test]
    fn only_what_the_failure_was_about_is_avoided() {
        let spot = Purchase::Spot { max_price: None };
        let reservation = Purchase::Reservation { id: "cr-1".to_owned() };
        let od = Purchase::OnDemand;
        // Code, how it was bought, and which of the others are avoided with it.
        let others = [
            (&od, "a", "s-a"),
            (&od, "a", "s-2"),
            (&od, "b", "s-b"),
            (&spot, "a", "s-a"),
            (&reservation, "a", "s-a"),
        ];
        for (code, purchase, expected) in [
            ("InsufficientInstanceCapacity", &od, "11000"),
            ("InsufficientInstanceCapacity", &spot, "00010"),
            ("InsufficientInstanceCapacity", &reservation, "00001"),
            ("InsufficientFreeAddressesInSubnet", &od, "10011"),
            ("InsufficientVolumeCapacity", &od, "11011"),
            ("VcpuLimitExceeded", &od, "11100"),
            ("VcpuLimitExceeded", &spot, "00010"),
            ("SpotMaxPriceTooLow", &spot, "00010"),
            ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", &spot, "00010"),
        ] {
            let mut blocked = Blocked::default();
            blocked.note(&avoid_of(code, &attempt(purchase, "a", "s-a")), at(0));
            let is = |(purchase, zone, subnet): &(&Purchase, &str, &str)| {
                blocked.until(&attempt(purchase, zone, subnet), at(0)).map_or("0", |_| "1")
            };
            assert_eq!(others.iter().map(is).collect::<String>(), expected, "{code} {purchase:?}");
        }
    }

    #[test]
    fn reading_again_what_was_wrong_ends_the_avoidance() {
        let mut blocked = Blocked::default();
        let (spot, block) =
            (Purchase::Spot { max_price: None }, Purchase::CapacityBlock { id: "cr-1".to_owned() });
        blocked.note(&avoid_of("SpotMaxPriceTooLow", &attempt(&spot, "a", "s")), at(0));
        blocked.note(&avoid_of("ReservationCapacityExceeded", &attempt(&block, "a", "s")), at(0));
        let shown =
            |blocked: &Blocked| blocked.iter(at(0)).map(|(scope, _)| scope.to_string()).collect::<Vec<_>>();
        assert_eq!(shown(&blocked), ["reservation cr-1 of g5.xlarge in a", "spot price of g5.xlarge in a"]);
        blocked.prices_were_read();
        assert_eq!(shown(&blocked), ["reservation cr-1 of g5.xlarge in a"]);
        blocked.reservations_were_read();
        assert_eq!(shown(&blocked), [""; 0]);
    }
}
