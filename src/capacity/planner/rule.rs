//! Every rule that takes a candidate out of a plan. Bounded names: they are labels of metrics and of tables.

use crate::capacity::avoid::Class;
use crate::pod::reasons;

/// Why something was not chosen. Rules of types come first, in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The region has no such type.
    UnknownType,
    /// It may have it, but was not asked yet: only the shipped catalog is there.
    CatalogNotRead,
    /// The configuration's own default type is unknown, or not to be had in its subnets.
    DefaultType,
    /// `instances.allowedInstanceTypes`.
    TypeNotAllowed,
    TypePattern,
    Arch,
    /// Its accelerators are not what the pod's resource stands for.
    GpuMaker,
    /// A share of a GPU, which the pod does not allow.
    GpuShare,
    GpuModel,
    GpuMemory,
    Efa,
    Gpus,
    Cpu,
    Memory,
    /// More GPUs than the next larger machine has.
    MoreGpus,
    /// An accelerator, or bare metal, that the pod did not ask for.
    Exotic,
    /// An architecture that the pod did not ask for.
    OtherArch,

    /// The root volume is smaller than the pod's ephemeral storage.
    Storage,
    /// The operator does not allow this market.
    MarketNotAllowed,
    /// EC2 does not sell the type so.
    MarketNotSold,
    ZoneNotWished,
    SubnetNotWished,
    UnknownSubnet,
    NoSubnet,
    NotOffered,
    NoAddress,
    PriceUnknown,
    PriceLimit,

    ReservationUnknown,
    /// Nothing is discovered that could be used.
    ReservationNone,
    ReservationNotMeant,
    ReservationOver,
    ReservationType,
    ReservationTenancy,
    ReservationPlatform,
    ReservationPlacement,
    ReservationZone,
    ReservationEnds,
    ReservationScheduled,
    ReservationFull,

    /// It failed a moment ago.
    Avoided(Class),
}

impl Rule {
    /// A bounded name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// What is said of that which was not chosen.
    pub(super) fn predicate(self) -> &'static str {
        self.facts().predicate
    }

    /// The reason of a pod that waits for this alone; `None` if time does not help.
    pub(super) fn wait_reason(self) -> Option<&'static str> {
        self.facts().wait
    }

    #[rustfmt::skip] // one line a rule
    fn facts(self) -> Facts {
        match self {
            Self::UnknownType => never("unknown_type", "is not an instance type of this region"),
            Self::CatalogNotRead => later("catalog_not_read", "is not in the catalog that ORCA ships, and the region's own was not read yet", reasons::CLOUD_UNAVAILABLE),
            Self::DefaultType => later("default_type", "of `instances` cannot be had in this region's subnets", reasons::LAUNCH_REFUSED),
            Self::TypeNotAllowed => never("type_not_allowed", "is not in `instances.allowedInstanceTypes`"),
            Self::TypePattern => never("type_pattern", "does not match the wished patterns"),
            Self::Arch => never("arch", "has another architecture than the pod"),
            Self::GpuMaker => never("gpu_maker", "has no accelerator of the wanted kind"),
            Self::GpuShare => never("gpu_share", "has only a share of a GPU"),
            Self::GpuModel => never("gpu_model", "has another GPU model"),
            Self::GpuMemory => never("gpu_memory", "has too little memory per GPU"),
            Self::Efa => never("efa", "has too few EFA interfaces"),
            Self::Gpus => never("gpus", "has too few GPUs"),
            Self::Cpu => never("cpu", "has too little CPU"),
            Self::Memory => never("memory", "has too little memory"),
            Self::MoreGpus => never("more_gpus", "has more GPUs than the next larger machine"),
            Self::Exotic => never("exotic", "has an accelerator, or is bare metal, and plain machines fit"),
            Self::OtherArch => never("other_arch", "is arm64, which the pod does not ask for"),
            Self::Storage => never("storage", "is smaller than the pod's ephemeral storage"),
            Self::MarketNotAllowed => never("market_not_allowed", "is not allowed by the operator"),
            Self::MarketNotSold => never("market_not_sold", "is not sold by EC2"),
            Self::ZoneNotWished => never("zone_not_wished", "is in a zone that is not wished"),
            Self::SubnetNotWished => never("subnet_not_wished", "is not among the wished subnets"),
            Self::UnknownSubnet => never("unknown_subnet", "is not one of `aws.subnetIDs`"),
            Self::NoSubnet => later("no_subnet", "has no subnet that is known", reasons::CLOUD_UNAVAILABLE),
            Self::NotOffered => never("not_offered", "is not offered"),
            Self::NoAddress => later("no_address", "has too few free addresses", reasons::NO_CAPACITY),
            Self::PriceUnknown => later("price_unknown", "has no known price, which a price limit needs", reasons::PRICE_LIMIT),
            Self::PriceLimit => later("price_limit", "costs more than the limit", reasons::PRICE_LIMIT),
            Self::ReservationUnknown => later("reservation_unknown", "is not a reservation that this account sees", reasons::RESERVATION_UNAVAILABLE),
            Self::ReservationNone => later("reservation_none", "has no reservation with room", reasons::RESERVATION_UNAVAILABLE),
            Self::ReservationNotMeant => never("reservation_not_meant", "is not a reservation that the pod may use"),
            Self::ReservationOver => never("reservation_over", "is over"),
            Self::ReservationType => never("reservation_type", "is not of a type that is wanted"),
            Self::ReservationTenancy => never("reservation_tenancy", "has another tenancy"),
            Self::ReservationPlatform => never("reservation_platform", "is not for Linux/UNIX"),
            Self::ReservationPlacement => never("reservation_placement", "belongs to another placement group"),
            Self::ReservationZone => never("reservation_zone", "is in a zone where no subnet can be used"),
            Self::ReservationEnds => never("reservation_ends", "ends before the pod would"),
            Self::ReservationScheduled => later("reservation_scheduled", "has not begun", reasons::RESERVATION_UNAVAILABLE),
            Self::ReservationFull => later("reservation_full", "is full", reasons::RESERVATION_UNAVAILABLE),
            Self::Avoided(class) => avoided(class),
        }
    }
}

struct Facts {
    name: &'static str,
    predicate: &'static str,
    wait: Option<&'static str>,
}

fn never(name: &'static str, predicate: &'static str) -> Facts {
    Facts { name, predicate, wait: None }
}

fn later(name: &'static str, predicate: &'static str, reason: &'static str) -> Facts {
    Facts { name, predicate, wait: Some(reason) }
}

fn avoided(class: Class) -> Facts {
    let (name, predicate, reason) = match class {
        Class::Capacity => ("avoided_capacity", "had no capacity a moment ago", reasons::NO_CAPACITY),
        Class::Reservation => {
            ("avoided_reservation", "had no room a moment ago", reasons::RESERVATION_UNAVAILABLE)
        }
        Class::ReservationId => {
            ("avoided_reservation_id", "was not accepted a moment ago", reasons::RESERVATION_UNAVAILABLE)
        }
        Class::SpotPrice => {
            ("avoided_spot_price", "cost more than the limit a moment ago", reasons::PRICE_LIMIT)
        }
        Class::SpotRole | Class::Denied => (
            "avoided_spot_role",
            "cannot be bought without the account's role for spot",
            reasons::CLOUD_DENIED,
        ),
        Class::Quota => ("avoided_quota", "was over the account's quota a moment ago", reasons::QUOTA),
        Class::Subnet => ("avoided_subnet", "had no free address a moment ago", reasons::NO_CAPACITY),
        Class::Volume => ("avoided_volume", "had no room for the volume a moment ago", reasons::NO_CAPACITY),
        Class::Unsupported => ("avoided_unsupported", "was not supported", reasons::NO_CAPACITY),
        Class::Pod | Class::Operator => {
            ("avoided_refused", "was refused a moment ago", reasons::LAUNCH_REFUSED)
        }
        Class::Throttled | Class::Transient | Class::Token | Class::NotFound => {
            ("avoided_other", "failed a moment ago", reasons::CLOUD_UNAVAILABLE)
        }
    };
    later(name, predicate, reason)
}
