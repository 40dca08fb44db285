//! EC2's resource ids: their form, and the codes with which each kind is refused.

use crate::aws::Refusal;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Instance,
    Image,
    Subnet,
    Vpc,
    Group,
    Snapshot,
    Volume,
    Interface,
    /// A Capacity Reservation.
    Reservation,
    /// A Capacity Block.
    Block,
    SpotRequest,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Instance,
        Self::Image,
        Self::Subnet,
        Self::Vpc,
        Self::Group,
        Self::Snapshot,
        Self::Volume,
        Self::Interface,
        Self::Reservation,
        Self::Block,
        Self::SpotRequest,
    ];

    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Instance => "i-",
            Self::Image => "ami-",
            Self::Subnet => "subnet-",
            Self::Vpc => "vpc-",
            Self::Group => "sg-",
            Self::Snapshot => "snap-",
            Self::Volume => "vol-",
            Self::Interface => "eni-",
            Self::Reservation => "cr-",
            Self::Block => "cb-",
            Self::SpotRequest => "sir-",
        }
    }

    /// As tags name it.
    #[must_use]
    pub fn resource_type(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Image => "image",
            Self::Subnet => "subnet",
            Self::Vpc => "vpc",
            Self::Group => "security-group",
            Self::Snapshot => "snapshot",
            Self::Volume => "volume",
            Self::Interface => "network-interface",
            Self::Reservation => "capacity-reservation",
            Self::Block => "capacity-block",
            Self::SpotRequest => "spot-instances-request",
        }
    }

    fn malformed_code(self) -> &'static str {
        match self {
            Self::Instance => "InvalidInstanceID.Malformed",
            Self::Image => "InvalidAMIID.Malformed",
            Self::Subnet => "InvalidSubnetID.Malformed",
            Self::Vpc => "InvalidVpcID.Malformed",
            Self::Group => "InvalidGroupId.Malformed",
            Self::Snapshot => "InvalidSnapshotID.Malformed",
            Self::Volume => "InvalidVolumeID.Malformed",
            Self::Interface => "InvalidNetworkInterfaceId.Malformed",
            Self::Reservation => "InvalidCapacityReservationId.Malformed",
            Self::Block => "InvalidCapacityBlockId.Malformed",
            Self::SpotRequest => "InvalidSpotInstanceRequestID.Malformed",
        }
    }

    /// Refuses ids that do not exist.
    #[must_use]
    pub fn not_found(self, ids: &[&str]) -> Refusal {
        let (code, noun) = match self {
            Self::Instance => ("InvalidInstanceID.NotFound", "instance ID"),
            Self::Image => ("InvalidAMIID.NotFound", "image id"),
            Self::Subnet => ("InvalidSubnetID.NotFound", "subnet ID"),
            Self::Vpc => ("InvalidVpcID.NotFound", "vpc ID"),
            Self::Group => ("InvalidGroup.NotFound", "security group"),
            Self::Snapshot => ("InvalidSnapshot.NotFound", "snapshot"),
            Self::Volume => ("InvalidVolume.NotFound", "volume"),
            Self::Interface => ("InvalidNetworkInterfaceID.NotFound", "networkInterface ID"),
            Self::Reservation => ("InvalidCapacityReservationId.NotFound", "capacity reservation ID"),
            Self::Block => ("InvalidCapacityBlockId.NotFound", "capacity block ID"),
            Self::SpotRequest => ("InvalidSpotInstanceRequestID.NotFound", "spot instance request ID"),
        };
        let message = match (self, ids) {
            (Self::Image, ids) => format!("The {noun} '[{}]' does not exist", ids.join(", ")),
            (_, [id]) => format!("The {noun} '{id}' does not exist"),
            (_, ids) => format!("The {noun}s '{}' do not exist", ids.join(", ")),
        };
        Refusal::new(code, message)
    }

    /// Refuses an id that is not of this kind's form: a prefix, and 8 or 17 hexadecimal digits.
    pub fn check(self, id: &str) -> Result<(), Refusal> {
        let digits = id.strip_prefix(self.prefix()).unwrap_or("");
        let hexadecimal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hexadecimal && matches!(digits.len(), 8 | 17) {
            return Ok(());
        }
        let message = format!("Invalid id: \"{id}\" (expecting \"{}...\")", self.prefix());
        Err(Refusal::new(self.malformed_code(), message))
    }

    /// The kind that an id claims to be of.
    #[must_use]
    pub fn of(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| id.starts_with(kind.prefix()))
    }

    /// Checks the form of all ids, then finds each with `find`.
    pub fn find_all<'a, T>(
        self,
        ids: &[&'a str],
        find: impl Fn(&'a str) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        ids.iter().try_for_each(|id| self.check(id))?;
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let (found, missing): (Vec<_>, Vec<_>) =
            ids.iter().map(|id| (*id, find(id))).partition(|(_, found)| found.is_some());
        if missing.is_empty() {
            Ok(found.into_iter().filter_map(|(_, found)| found).collect())
        } else {
            Err(self.not_found(&missing.iter().map(|(id, _)| *id).collect::<Vec<_>>()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_eight_or_seventeen_small_digits_are_an_id() {
        for good in ["i-0123abcd", "i-0123456789abcdef0"] {
            assert_eq!(Kind::Instance.check(good), Ok(()), "{good}");
        }
        for bad in ["", "i-", "i-0123abc", "i-0123ABCD", "i-0123456789abcdefg", "ami-0123abcd", "0123abcd"] {
            assert_eq!(Kind::Instance.check(bad).unwrap_err().code, "InvalidInstanceID.Malformed", "{bad}");
        }
    }

    #[test]
    fn all_missing_ids_are_named_once() {
        let ids = ["i-00000002", "i-00000001", "i-00000002", "i-00000003"];
        let refusal = Kind::Instance.find_all(&ids, |id| (id == "i-00000003").then_some(id)).unwrap_err();
        assert_eq!(refusal.code, "InvalidInstanceID.NotFound");
        assert_eq!(refusal.message, "The instance IDs 'i-00000001, i-00000002' do not exist");
        let one = Kind::Subnet.find_all(&["subnet-00000001"], |_| None::<()>).unwrap_err();
        assert_eq!(one.message, "The subnet ID 'subnet-00000001' does not exist");
    }
}
