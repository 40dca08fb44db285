//! What follows from a plan without candidates: the pod is refused if time cannot help, and waits if it can.

use jiff::Timestamp;

use super::Verdict;
use super::pass::Pass;
use super::rule::Rule;
use super::types::{Largest, Most, Search, Types};
use crate::pod::ask::{Ask, PREFIX, Problem, Rejection};
use crate::pod::reasons;

/// Rules that a message names; what else there is stands in the list of the rejected.
const NAMED: usize = 5;
const GIB: u64 = 1 << 30;

impl Pass<'_, '_> {
    pub(super) fn verdict(&self, types: &Types<'_>) -> Verdict {
        let mut problems = self.ledger.fatal.clone();
        problems.extend(self.too_little_storage());
        if problems.is_empty() && !self.drafts.is_empty() {
            return Verdict::Launch;
        }
        let fitless = types.search.as_ref().filter(|search| !search.found);
        if problems.is_empty()
            && let Some(wait) = self.wait()
        {
            return wait;
        }
        if let Some(search) = fitless {
            problems.extend(too_large(self.ask, search));
        }
        problems.extend(self.broken_rules(types));
        Rejection::of(problems).map_or_else(|| self.nothing(), Verdict::Refuse)
    }

    fn too_little_storage(&self) -> Option<Problem> {
        let (asked, has) = (self.ask.ephemeral_bytes, u64::from(self.root_volume().size_gib) * GIB);
        (asked > has).then(|| Problem {
            reason: reasons::OUT_OF_STORAGE,
            path: requests("ephemeral-storage"),
            message: format!("sum is `{asked}`, expected at most the `{has}` of the root volume, which `{PREFIX}root-volume` sets"),
        })
    }

    fn wait(&self) -> Option<Verdict> {
        let waits: Vec<_> =
            self.ledger.iter().filter_map(|(rule, tally)| Some((rule, tally, rule.wait_reason()?))).collect();
        let (_, _, first) = waits.first()?;
        let is_one = waits.iter().all(|(_, _, reason)| reason == first);
        let said = waits
            .iter()
            .take(NAMED)
            .map(|(rule, tally, _)| format!("{} {}", tally.named(), rule.predicate()));
        Some(Verdict::Wait {
            reason: if is_one { first } else { reasons::NO_CAPACITY },
            message: format!("no machine can be had now: {}", said.collect::<Vec<_>>().join("; ")),
            until: waits.iter().filter_map(|(_, tally, _)| tally.until).min(),
        })
    }

    /// What is against places, markets and reservations, and against listed types.
    fn broken_rules(&self, types: &Types<'_>) -> Vec<Problem> {
        let is_search =
            types.search.as_ref().is_some_and(|search| search.selection == super::Selection::Cheapest);
        let is_told = |rule: Rule| {
            let is_of_types = rule <= Rule::OtherArch;
            let is_size = matches!(rule, Rule::Gpus | Rule::Cpu | Rule::Memory);
            let is_fatal = self.ledger.fatal.iter().any(|problem| problem.reason == facts(rule, self.ask).0);
            let is_place = matches!(rule, Rule::ZoneNotWished | Rule::SubnetNotWished);
            !(is_fatal
                || (is_of_types && (is_search || (is_size && types.search.is_some())))
                || (is_place && !self.places.is_empty()))
        };
        let rules = self.ledger.iter().filter(|(rule, _)| rule.wait_reason().is_none() && is_told(*rule));
        rules.map(|(rule, tally)| problem(rule, &tally.named(), self.ask)).collect()
    }

    /// Every rule that takes candidates out is noted, so this is not seen; if it were, a pod waits, not fails.
    fn nothing(&self) -> Verdict {
        Verdict::Wait {
            reason: reasons::NO_CAPACITY,
            message: "no machine can be had now".to_owned(),
            until: None::<Timestamp>,
        }
    }
}

/// The problem that a broken rule is.
pub(super) fn problem(rule: Rule, example: &str, ask: &Ask) -> Problem {
    let (reason, path) = facts(rule, ask);
    Problem { reason, path, message: format!("{example} {}", rule.predicate()) }
}

/// The size of the pod against the most that types of the right kind have.
fn too_large(ask: &Ask, search: &Search<'_>) -> Vec<Problem> {
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
    if problems.is_empty() {
        problems.extend(search.furthest.map(|rule| none_fits(rule, ask)));
    }
    problems
}

fn none_fits(rule: Rule, ask: &Ask) -> Problem {
    let (_, path) = facts(rule, ask);
    let Ask { cpu_milli, memory_bytes, gpus, .. } = ask;
    let message = format!(
        "no instance type that may be used has {gpus} GPUs, {cpu_milli}m CPU and {memory_bytes} bytes of memory together \
         and is otherwise as asked: the nearest {}",
        rule.predicate()
    );
    Problem { reason: reasons::NO_INSTANCE_TYPE, path, message }
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
