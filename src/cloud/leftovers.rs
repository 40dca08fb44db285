//! What machines leave behind: volumes and network interfaces that were made with them and outlived them. Pure.
//!
//! They are asked for so that they go with their machine; one that does not go costs money, or takes an address.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::audit::Deed;
use super::{TAG_CLUSTER, TAG_NODE, TAG_POD_NAME, TAG_POD_NAMESPACE, TAG_POD_UID};
use crate::capacity::money::MicroUsd;

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftoverKind {
    Volume,
    NetworkInterface,
}

/// Something that was made with a machine and is attached to nothing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub kind: LeftoverKind,
    pub id: String,
    /// `None` where the cloud does not tell: EC2 does of volumes alone.
    pub created_at: Option<Timestamp>,
    /// Zone of a volume, subnet of an interface.
    pub place: String,
    /// Of a volume.
    pub disk: Option<Disk>,
    pub tags: BTreeMap<String, String>,
}

/// What a volume's price depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// EBS volume type, such as `gp3`.
    pub kind: String,
    pub size_gib: u32,
    /// Those that it has for nothing included; 0 if nobody tells.
    pub iops: u32,
    /// MiB/s, likewise.
    pub throughput: u32,
}

/// Hours of a month: a twelfth of 365 days.
const HOURS: u64 = 730;

impl LeftoverKind {
    pub const ALL: [Self; 2] = [Self::Volume, Self::NetworkInterface];

    /// As people call it.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::NetworkInterface => "network interface",
        }
    }

    /// A bounded name for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::NetworkInterface => "network_interface",
        }
    }

    /// The cloud's own name for the call that lists them.
    #[must_use]
    pub fn list_action(self) -> &'static str {
        match self {
            Self::Volume => "DescribeVolumes",
            Self::NetworkInterface => "DescribeNetworkInterfaces",
        }
    }
}

impl Leftover {
    /// UID of the pod whose machine left it.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&str> {
        self.tags.get(TAG_POD_UID).map(String::as_str).filter(|uid| !uid.is_empty())
    }

    /// `namespace/name` of that pod.
    #[must_use]
    pub fn pod(&self) -> String {
        let tag = |key: &str| self.tags.get(key).map(String::as_str).unwrap_or_default();
        format!("{}/{}", tag(TAG_POD_NAMESPACE), tag(TAG_POD_NAME))
    }

    /// Whether a machine of this node, in this cluster, was it that left it: all three tags say so.
    #[must_use]
    pub fn is_of(&self, cluster_id: &str, node: &str) -> bool {
        let is = |key: &str, value: &str| self.tags.get(key).is_some_and(|found| found == value);
        is(TAG_CLUSTER, cluster_id) && is(TAG_NODE, node) && self.pod_uid().is_some()
    }

    /// What it costs per hour, at the prices of us-east-1; `None` if nobody here knows. An interface costs nothing.
    #[must_use]
    pub fn hourly(&self) -> Option<MicroUsd> {
        match self.kind {
            LeftoverKind::Volume => self.disk.as_ref().and_then(Disk::hourly),
            LeftoverKind::NetworkInterface => Some(MicroUsd::default()),
        }
    }

    /// Such as `100 GiB gp3 in us-east-1a`.
    #[must_use]
    pub fn brief(&self) -> String {
        match &self.disk {
            Some(Disk { kind, size_gib, .. }) => format!("{size_gib} GiB {kind} in {}", self.place),
            None => format!("in {}", self.place),
        }
    }

    /// The record of its deletion.
    #[must_use]
    pub fn deletion<'a>(&'a self, pod: &'a str, detail: &'a str) -> Deed<'a> {
        let deed = Deed {
            action: "DeleteVolume",
            pod_uid: self.pod_uid().unwrap_or_default(),
            pod,
            instance_id: "",
            detail,
            why: "its machine is gone, and nothing has it",
        };
        match self.kind {
            LeftoverKind::Volume => deed,
            LeftoverKind::NetworkInterface => Deed { action: "DeleteNetworkInterface", ..deed },
        }
    }
}

impl Disk {
    /// Per hour in us-east-1, as <https://aws.amazon.com/ebs/pricing/> has it in 2026: gp3 0.08 USD per GB and month,
    /// 0.005 for each IOPS above 3000 and 0.04 for each MB/s above 125; gp2 0.10 per GB and month. Other types have
    /// prices in steps, and are for those who know them.
    #[must_use]
    pub fn hourly(&self) -> Option<MicroUsd> {
        let size = u64::from(self.size_gib);
        let beyond = |asked: u32, free: u32| u64::from(asked.saturating_sub(free));
        let monthly = match self.kind.as_str() {
            "gp3" => 80_000 * size + 5_000 * beyond(self.iops, 3000) + 40_000 * beyond(self.throughput, 125),
            "gp2" => 100_000 * size,
            _ => return None,
        };
        Some(MicroUsd((monthly + HOURS / 2) / HOURS))
    }
}

/// Leftovers for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// One of the pod `u-1` of the node `orca` in the cluster `c`.
    pub(crate) fn mk_leftover(kind: LeftoverKind, id: &str) -> Leftover {
        let tags = [
            (TAG_CLUSTER, "c"),
            (TAG_NODE, "orca"),
            (TAG_POD_UID, "u-1"),
            (TAG_POD_NAMESPACE, "ml"),
            (TAG_POD_NAME, "train"),
        ];
        let disk = Disk { kind: "gp3".to_owned(), size_gib: 100, iops: 3000, throughput: 125 };
        let is_volume = kind == LeftoverKind::Volume;
        Leftover {
            kind,
            id: id.to_owned(),
            created_at: is_volume.then_some(Timestamp::UNIX_EPOCH),
            place: if is_volume { "us-east-1a" } else { "subnet-a" }.to_owned(),
            disk: is_volume.then_some(disk),
            tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::mk_leftover;
    use super::*;

    #[test]
    fn a_volume_costs_what_its_type_says_and_an_interface_nothing() {
        let cost = |kind: &str, size_gib, iops, throughput| {
            let disk = Disk { kind: kind.to_owned(), size_gib, iops, throughput };
            disk.hourly().map(|price| price.to_string())
        };
        for (disk, expected) in [
            // 100 * 0.08 / 730
            (cost("gp3", 100, 3000, 125), Some("0.010959")),
            // Nobody told what it has beyond its size.
            (cost("gp3", 100, 0, 0), Some("0.010959")),
            // (100 * 0.08 + 3000 * 0.005 + 375 * 0.04) / 730
            (cost("gp3", 100, 6000, 500), Some("0.052055")),
            (cost("gp2", 73, 219, 0), Some("0.01")),
            (cost("io2", 100, 5000, 0), None),
            (cost("standard", 100, 0, 0), None),
        ] {
            assert_eq!(disk.as_deref(), expected);
        }
        assert_eq!(mk_leftover(LeftoverKind::NetworkInterface, "eni-1").hourly(), Some(MicroUsd(0)));
    }

    #[test]
    fn only_what_carries_all_three_tags_is_ours() {
        let ours = mk_leftover(LeftoverKind::Volume, "vol-1");
        assert!(ours.is_of("c", "orca"));
        assert!(!ours.is_of("other", "orca") && !ours.is_of("c", "other"));
        for missing in [TAG_CLUSTER, TAG_NODE, TAG_POD_UID] {
            let mut bare = ours.clone();
            bare.tags.remove(missing);
            assert!(!bare.is_of("c", "orca"), "{missing}");
            bare.tags.insert(missing.to_owned(), String::new());
            assert!(!bare.is_of("c", "orca"), "{missing} is empty");
        }
    }

    #[test]
    fn a_deletion_is_recorded_under_the_clouds_own_name() {
        for (kind, action) in [
            (LeftoverKind::Volume, "DeleteVolume"),
            (LeftoverKind::NetworkInterface, "DeleteNetworkInterface"),
        ] {
            let leftover = mk_leftover(kind, "x-1");
            let deed = leftover.deletion("ml/train", "x-1");
            assert_eq!((deed.action, deed.pod_uid, deed.detail), (action, "u-1", "x-1"));
        }
    }
}
