//! What failed a moment ago and is better not tried again now.
//!
//! Pure data, time is an argument. How long follows from what the cloud's code says is missing, and where.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::plan::Candidate;

/// Nothing of a type in a zone: doubled with every failure in a row, up to [`CAPACITY_CAP`].
const CAPACITY: Duration = Duration::from_secs(3 * 60);
const CAPACITY_CAP: Duration = Duration::from_secs(15 * 60);
/// No address left in a subnet: pods end all the time.
const SUBNET: Duration = Duration::from_secs(3 * 60);
/// No room for volumes in a zone.
const VOLUME: Duration = Duration::from_secs(10 * 60);
/// The zone does not have the type at all.
const UNSUPPORTED: Duration = Duration::from_secs(24 * 3600);
/// Failures that lie further apart than this are not in a row.
const IN_A_ROW: Duration = Duration::from_secs(30 * 60);

/// The memory of failed candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    entries: HashMap<Scope, Entry>,
}

/// What is blocked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    TypeInZone { instance_type: String, zone: String },
    Subnet(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    until: Timestamp,
    for_: Duration,
}

impl Blocked {
    /// Notes that the cloud had no capacity for `candidate`; `code` is the cloud's own error code.
    pub fn note(&mut self, code: &str, candidate: &Candidate, now: Timestamp) {
        self.entries.retain(|_, entry| after(entry.until, IN_A_ROW) > now);
        let in_zone = Scope::TypeInZone {
            instance_type: candidate.instance_type.name.clone(),
            zone: candidate.zone.clone(),
        };
        let (scope, first, cap) = if code.contains("FreeAddresses") || code.contains("AddressCapacity") {
            (Scope::Subnet(candidate.subnet_id.clone()), SUBNET, SUBNET)
        } else if code.contains("Volume") {
            (in_zone, VOLUME, VOLUME)
        } else if code.contains("Unsupported") || code == "InvalidInstanceType" {
            (in_zone, UNSUPPORTED, UNSUPPORTED)
        } else {
            (in_zone, CAPACITY, CAPACITY_CAP)
        };
        let before = self.entries.get(&scope).map(|entry| entry.for_);
        let for_ = before.map_or(first, |before| before.saturating_mul(2).clamp(first, cap));
        self.entries.insert(scope, Entry { until: after(now, for_), for_ });
    }

    /// A launch worked: whatever was held against it is forgotten.
    pub fn clear(&mut self, instance_type: &str, zone: &str, subnet_id: &str) {
        let in_zone = Scope::TypeInZone { instance_type: instance_type.to_owned(), zone: zone.to_owned() };
        self.entries.remove(&in_zone);
        self.entries.remove(&Scope::Subnet(subnet_id.to_owned()));
    }

    /// Until when this choice is better not made; `None` if there is nothing against it.
    #[must_use]
    pub fn until(
        &self,
        instance_type: &str,
        zone: &str,
        subnet_id: &str,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let in_zone = Scope::TypeInZone { instance_type: instance_type.to_owned(), zone: zone.to_owned() };
        let scopes = [in_zone, Scope::Subnet(subnet_id.to_owned())];
        let entries = scopes.iter().filter_map(|scope| self.entries.get(scope));
        entries.map(|entry| entry.until).filter(|until| *until > now).max()
    }
}

/// `at + by`, or the end of time.
fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::plan::tests::mk_candidate;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn how_long_follows_from_what_is_missing() {
        for (code, same_zone, same_subnet, seconds) in [
            ("InsufficientInstanceCapacity", true, true, 180),
            ("InsufficientFreeAddressesInSubnet", false, true, 180),
            ("InsufficientAddressCapacity", false, true, 180),
            ("InsufficientVolumeCapacity", true, true, 600),
            ("Unsupported", true, true, 86400),
        ] {
            let mut blocked = Blocked::default();
            blocked.note(code, &mk_candidate("g5.xlarge", "s-a", "a"), at(0));
            let is =
                |subnet: &str, second: i64| blocked.until("g5.xlarge", "a", subnet, at(second)).is_some();
            assert_eq!(is("s-other", 0), same_zone, "{code}");
            assert_eq!(is("s-a", 0), same_subnet, "{code}");
            assert!(is("s-a", seconds - 1) && !is("s-a", seconds), "{code}");
            assert_eq!(blocked.until("g5.xlarge", "b", "s-b", at(0)), None, "{code}");
        }
    }

    #[test]
    fn failures_in_a_row_block_longer_up_to_a_cap_until_one_works() {
        let mut blocked = Blocked::default();
        let candidate = mk_candidate("g5.xlarge", "s-a", "a");
        let mut now = 0;
        for expected in [180, 360, 720, 900, 900] {
            blocked.note("InsufficientInstanceCapacity", &candidate, at(now));
            assert_eq!(blocked.until("g5.xlarge", "a", "s-a", at(now)), Some(at(now + expected)));
            now += expected;
        }
        blocked.clear("g5.xlarge", "a", "s-a");
        blocked.note("InsufficientInstanceCapacity", &candidate, at(now));
        assert_eq!(blocked.until("g5.xlarge", "a", "s-a", at(now)), Some(at(now + 180)));
    }
}
