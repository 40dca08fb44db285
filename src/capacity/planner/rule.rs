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
    /// Nobody reserved it, and only reservations may be used.
    NotReserved,

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
    /// `limits.maxHourlyCost`.
    Budget,

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

    /// What is wrong, before the names of what it is wrong with.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        self.facts().phrase
    }

    /// The reason of a pod that waits for this alone; `None` if time does not help.
    pub(super) fn wait_reason(self) -> Option<&'static str> {
        self.facts().wait
    }

    #[rustfmt::skip] // one line a rule
    fn facts(self) -> Facts {
        match self {
            Self::UnknownType => never("unknown_type", "no instance type of this region"),
            Self::CatalogNotRead => later("catalog_not_read", "not in the catalog that ORCA ships, and the region's own was not read yet", reasons::CLOUD_UNAVAILABLE),
            Self::DefaultType => later("default_type", "the configuration's default type, which cannot be had in its subnets", reasons::LAUNCH_REFUSED),
            Self::TypeNotAllowed => never("type_not_allowed", "not in `instances.allowedInstanceTypes`"),
            Self::TypePattern => never("type_pattern", "does not match the wished patterns"),
            Self::Arch => never("arch", "another architecture than the pod"),
            Self::GpuMaker => never("gpu_maker", "no accelerator of the wanted kind"),
            Self::GpuShare => never("gpu_share", "only a share of a GPU"),
            Self::GpuModel => never("gpu_model", "another GPU model"),
            Self::GpuMemory => never("gpu_memory", "too little memory per GPU"),
            Self::Efa => never("efa", "too few EFA interfaces"),
            Self::Gpus => never("gpus", "too few GPUs"),
            Self::Cpu => never("cpu", "too little CPU"),
            Self::Memory => never("memory", "too little memory"),
            Self::MoreGpus => never("more_gpus", "more GPUs than the next larger machine"),
            Self::Exotic => never("exotic", "an accelerator or bare metal, where plain machines fit"),
            Self::OtherArch => never("other_arch", "arm64, which the pod does not ask for"),
            Self::NotReserved => never("not_reserved", "no reservation of the type"),
            Self::Storage => never("storage", "smaller than the pod's ephemeral storage"),
            Self::MarketNotAllowed => never("market_not_allowed", "not allowed by the operator"),
            Self::MarketNotSold => never("market_not_sold", "not sold by EC2"),
            Self::ZoneNotWished => never("zone_not_wished", "not in a wished zone"),
            Self::SubnetNotWished => never("subnet_not_wished", "not a wished subnet"),
            Self::UnknownSubnet => never("unknown_subnet", "not one of `aws.subnetIDs`"),
            Self::NoSubnet => later("no_subnet", "no subnet is known", reasons::CLOUD_UNAVAILABLE),
            Self::NotOffered => never("not_offered", "not offered"),
            Self::NoAddress => later("no_address", "too few free addresses", reasons::NO_CAPACITY),
            Self::PriceUnknown => later("price_unknown", "no known price, where there is a limit", reasons::PRICE_LIMIT),
            Self::PriceLimit => later("price_limit", "above the price limit", reasons::PRICE_LIMIT),
            Self::Budget => later("budget", "more than `limits.maxHourlyCost` leaves", reasons::BUDGET),
            Self::ReservationUnknown => later("reservation_unknown", "no reservation that this account sees", reasons::RESERVATION_UNAVAILABLE),
            Self::ReservationNone => later("reservation_none", "no reservation with room", reasons::RESERVATION_UNAVAILABLE),
            Self::ReservationNotMeant => never("reservation_not_meant", "not for this pod"),
            Self::ReservationOver => never("reservation_over", "over"),
            Self::ReservationType => never("reservation_type", "not of a wanted type"),
            Self::ReservationTenancy => never("reservation_tenancy", "of another tenancy than the pod asks for"),
            Self::ReservationPlatform => never("reservation_platform", "not for Linux/UNIX"),
            Self::ReservationPlacement => never("reservation_placement", "in another placement group than the pod asks for"),
            Self::ReservationZone => never("reservation_zone", "in a zone where the pod can use no subnet"),
            Self::ReservationEnds => never("reservation_ends", "ends too early for the pod"),
            Self::ReservationScheduled => later("reservation_scheduled", "not begun", reasons::RESERVATION_UNAVAILABLE),
            Self::ReservationFull => later("reservation_full", "full", reasons::RESERVATION_UNAVAILABLE),
            Self::Avoided(class) => avoided(class),
        }
    }
}

struct Facts {
    name: &'static str,
    phrase: &'static str,
    wait: Option<&'static str>,
}

fn never(name: &'static str, phrase: &'static str) -> Facts {
    Facts { name, phrase, wait: None }
}

fn later(name: &'static str, phrase: &'static str, reason: &'static str) -> Facts {
    Facts { name, phrase, wait: Some(reason) }
}

fn avoided(class: Class) -> Facts {
    let (name, phrase, reason) = match class {
        Class::Capacity => ("avoided_capacity", "no capacity a moment ago", reasons::NO_CAPACITY),
        Class::Reservation => {
            ("avoided_reservation", "no room a moment ago", reasons::RESERVATION_UNAVAILABLE)
        }
        Class::ReservationId => {
            ("avoided_reservation_id", "not accepted a moment ago", reasons::RESERVATION_UNAVAILABLE)
        }
        Class::SpotPrice => {
            ("avoided_spot_price", "above the price limit a moment ago", reasons::PRICE_LIMIT)
        }
        Class::SpotRole | Class::Denied => {
            ("avoided_spot_role", "the account lacks the role for spot", reasons::CLOUD_DENIED)
        }
        Class::Quota => ("avoided_quota", "over the account's quota a moment ago", reasons::QUOTA),
        Class::Subnet => ("avoided_subnet", "no free address a moment ago", reasons::NO_CAPACITY),
        Class::Volume => ("avoided_volume", "no room for the volume a moment ago", reasons::NO_CAPACITY),
        Class::Unsupported => ("avoided_unsupported", "not supported there", reasons::NO_CAPACITY),
        Class::Pod | Class::Operator => ("avoided_refused", "refused a moment ago", reasons::LAUNCH_REFUSED),
        Class::Throttled | Class::Transient | Class::Token | Class::NotFound => {
            ("avoided_other", "failed a moment ago", reasons::CLOUD_UNAVAILABLE)
        }
    };
    later(name, phrase, reason)
}
