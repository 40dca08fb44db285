//! Broken rules in words: the field, and one sentence that a person can act on.

use super::Selection;
use super::rule::Rule;
use super::types::{Largest, Most, Search};
use crate::pod::ask::{Ask, PREFIX, Problem};
use crate::pod::reasons;

/// The problem that a broken rule is.
pub(super) fn problem(rule: Rule, example: &str, ask: &Ask) -> Problem {
    let (reason, path) = facts(rule, ask);
    Problem { reason, path, message: format!("{}: {example}", rule.phrase()) }
}

/// The size of the pod against the most that types of the right kind have.
pub(super) fn too_large(ask: &Ask, search: &Search<'_>) -> Vec<Problem> {
    let Largest { gpus, cpu_milli, memory_bytes } = search.largest;
    let mut problems = Vec::new();
    let mut check = |reason, resource: &str, unit: &str, asked: u64, most: Most<'_>| {
        if let Some((has, name)) = most.filter(|(has, _)| asked > *has) {
            problems.push(Problem {
                reason,
                path: requests(resource),
                message: format!("sum is `{asked}{unit}`, expected at most the `{has}{unit}` of {name}"),
            });
        }
    };
    check(reasons::OUT_OF_GPU, &ask.gpu_resource, "", ask.gpus, gpus);
    check(reasons::OUT_OF_CPU, "cpu", "m", ask.cpu_milli, cpu_milli);
    check(reasons::OUT_OF_MEMORY, "memory", "", ask.memory_bytes, memory_bytes);
    if problems.is_empty() && search.selection == Selection::Cheapest {
        problems.extend(search.furthest.map(|rule| none_fits(rule, ask)));
    }
    problems
}

/// Nothing is right, by the rule that the nearest types break.
pub(super) fn none_fits(rule: Rule, ask: &Ask) -> Problem {
    let wishes = &ask.wishes;
    let lacks = match rule {
        Rule::TypePattern => format!("has a name like `{}`", wishes.type_patterns.join("`, `")),
        Rule::Arch => format!("is `{}`", ask.arch.as_deref().unwrap_or_default()),
        Rule::GpuMaker => format!("has `{}`", ask.gpu_resource),
        Rule::GpuShare => {
            format!("has more than a share of a GPU, which `{PREFIX}accelerator-fraction` allows")
        }
        Rule::GpuModel => format!("has GPUs of the model `{}`", wishes.gpu_models.join("` or `")),
        Rule::GpuMemory => format!("has `{}Mi` per GPU", wishes.gpu_memory_min_mib.unwrap_or_default()),
        Rule::Efa => format!("has {} EFA interfaces", wishes.efa),
        Rule::Gpus | Rule::Cpu | Rule::Memory => format!(
            "has `{}` GPUs, `{}m` of CPU and `{}` bytes of memory together",
            ask.gpus, ask.cpu_milli, ask.memory_bytes
        ),
        Rule::TypeNotAllowed => "is in `instances.allowedInstanceTypes`".to_owned(),
        Rule::UnknownType
        | Rule::CatalogNotRead
        | Rule::DefaultType
        | Rule::MoreGpus
        | Rule::Exotic
        | Rule::OtherArch
        | Rule::NotReserved
        | Rule::Storage
        | Rule::MarketNotAllowed
        | Rule::MarketNotSold
        | Rule::ZoneNotWished
        | Rule::SubnetNotWished
        | Rule::UnknownSubnet
        | Rule::NoSubnet
        | Rule::NotOffered
        | Rule::NoAddress
        | Rule::PriceUnknown
        | Rule::PriceLimit
        | Rule::Budget
        | Rule::ReservationUnknown
        | Rule::ReservationNone
        | Rule::ReservationNotMeant
        | Rule::ReservationOver
        | Rule::ReservationType
        | Rule::ReservationTenancy
        | Rule::ReservationPlatform
        | Rule::ReservationPlacement
        | Rule::ReservationZone
        | Rule::ReservationEnds
        | Rule::ReservationScheduled
        | Rule::ReservationFull
        | Rule::Avoided(_) => format!("is left: {}", rule.phrase()),
    };
    let (_, path) = facts(rule, ask);
    let message = format!("no instance type that may be used {lacks}");
    Problem { reason: reasons::NO_INSTANCE_TYPE, path, message }
}

/// More ephemeral storage than the root volume has.
pub(super) fn storage(asked: u64, size_gib: u32) -> Problem {
    let has = u64::from(size_gib) << 30;
    Problem {
        reason: reasons::OUT_OF_STORAGE,
        path: requests("ephemeral-storage"),
        message: format!(
            "sum is `{asked}`, expected at most the `{has}` of the root volume, which `{PREFIX}root-volume` can enlarge"
        ),
    }
}

/// Reason and path of a problem.
fn facts(rule: Rule, ask: &Ask) -> (&'static str, String) {
    let key = |key: &str| format!("metadata.annotations[{PREFIX}{key}]");
    let reservation = || {
        let is_block = ask.wishes.block_id.is_some() && ask.wishes.reservation.ids.is_empty();
        key(if is_block { "capacity-block-id" } else { "capacity-reservation-id" })
    };
    match rule {
        Rule::UnknownType | Rule::CatalogNotRead => (reasons::UNKNOWN_INSTANCE_TYPE, key("instance-type")),
        Rule::TypeNotAllowed => (reasons::INSTANCE_TYPE_NOT_ALLOWED, key("instance-type")),
        Rule::TypePattern => (reasons::NO_INSTANCE_TYPE, key("instance-types")),
        Rule::Arch | Rule::OtherArch => {
            (reasons::NO_INSTANCE_TYPE, "spec.nodeSelector[kubernetes.io/arch]".to_owned())
        }
        Rule::NotReserved => (reasons::NO_INSTANCE_TYPE, key("capacity-reservation-preference")),
        Rule::GpuMaker | Rule::Gpus | Rule::MoreGpus => (reasons::OUT_OF_GPU, requests(&ask.gpu_resource)),
        Rule::GpuShare => (reasons::NO_INSTANCE_TYPE, key("accelerator-fraction")),
        Rule::GpuModel => (reasons::NO_INSTANCE_TYPE, key("gpu-models")),
        Rule::GpuMemory => (reasons::NO_INSTANCE_TYPE, key("gpu-memory-min")),
        Rule::Efa => (reasons::NO_INSTANCE_TYPE, key("efa")),
        Rule::Cpu => (reasons::OUT_OF_CPU, requests("cpu")),
        Rule::Memory | Rule::Exotic => (reasons::OUT_OF_MEMORY, requests("memory")),
        Rule::Storage => (reasons::OUT_OF_STORAGE, requests("ephemeral-storage")),
        Rule::MarketNotAllowed | Rule::MarketNotSold => (reasons::MARKET_NOT_AVAILABLE, key("capacity-type")),
        Rule::ZoneNotWished => (reasons::NO_ZONE, key("zones")),
        Rule::SubnetNotWished | Rule::UnknownSubnet => (reasons::NO_ZONE, key("subnets")),
        Rule::NoSubnet | Rule::NoAddress | Rule::NotOffered | Rule::DefaultType => {
            (reasons::NO_ZONE, key("instance-type"))
        }
        Rule::PriceUnknown | Rule::PriceLimit => (reasons::PRICE_LIMIT, key("max-price")),
        Rule::Budget => (reasons::BUDGET, key("max-price")),
        Rule::ReservationTenancy => (reasons::RESERVATION_NOT_USABLE, key("tenancy")),
        Rule::ReservationPlacement => (reasons::RESERVATION_NOT_USABLE, key("placement-group")),
        Rule::ReservationUnknown
        | Rule::ReservationNone
        | Rule::ReservationNotMeant
        | Rule::ReservationOver
        | Rule::ReservationType
        | Rule::ReservationPlatform
        | Rule::ReservationZone
        | Rule::ReservationEnds
        | Rule::ReservationScheduled
        | Rule::ReservationFull
        | Rule::Avoided(_) => (reasons::RESERVATION_NOT_USABLE, reservation()),
    }
}

fn requests(resource: &str) -> String {
    format!("spec.containers[*].resources.requests[{resource}]")
}
