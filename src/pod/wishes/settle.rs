//! What does not go together: the rules by which values of farther layers give way, or the pod is refused.
//!
//! Two values that exclude each other: the farther one gives way; from one layer, they are a mistake.
//! Who says which machine it is to be, or in which reservation, is free of what farther layers say of the machine.
//! A limit never gives way to a need. Each rule is told, with an example, in `docs/annotations.md`.

use std::time::Duration;

use super::collect::{Nearest, Said};
use super::keys::Field;
use super::parse::Value;
use super::{CapacityType, Preference};
use crate::config::{Instances, SelectionMode};
use crate::pod::ask::Problem;
use crate::pod::reasons;

/// Applies all rules. `deadline` is the pod's own `activeDeadlineSeconds`.
pub(crate) fn settle(
    said: &mut Nearest,
    rules: &Instances,
    deadline: Option<Duration>,
    problems: &mut Vec<Problem>,
) {
    // First the reservation: one that gave way chooses no machine.
    buying(said, problems);
    machine(said, rules.selection_mode);
    keep_nearest(said, &[Field::Zones, Field::Subnets]);
    times(said, deadline, problems);
}

/// Keys that name reservations or blocks.
const TARGETS: [Field; 4] =
    [Field::ReservationIds, Field::ReservationGroup, Field::ReservationSelector, Field::Block];

fn buying(said: &mut Nearest, problems: &mut Vec<Problem>) {
    keep_nearest(said, &TARGETS);
    if lists(said, CapacityType::Spot) {
        let why = "and a spot machine is never in a reservation: expected no `spot`, or no";
        for target in TARGETS {
            clash(said, Field::Markets, target, why, problems);
        }
        if wants_reservation_beside_spot(said) {
            clash(said, Field::Markets, Field::Preference, why, problems);
        }
    }
    if markets(said).is_some_and(|all| !all.contains(&CapacityType::CapacityBlock)) {
        let why = "and a Capacity Block is bought as `capacity-block`: expected that in the list, or no";
        clash(said, Field::Markets, Field::Block, why, problems);
    }
    if said_preference(said) == Some(Preference::None) {
        let why = "and who is never in a reservation names none: expected another preference, or no";
        for target in TARGETS {
            clash(said, Field::Preference, target, why, problems);
        }
        if lists(said, CapacityType::Reserved) || lists(said, CapacityType::Interruptible) {
            let why =
                "and who is never in a reservation does not buy one: expected another preference, or another";
            clash(said, Field::Preference, Field::Markets, why, problems);
        }
    }
    spot_price(said, problems);
}

/// `required`, or `prefer` where the list does not say itself that reservations come beside spot.
fn wants_reservation_beside_spot(said: &Nearest) -> bool {
    match said_preference(said) {
        Some(Preference::Required) => true,
        Some(Preference::Prefer) => {
            !lists(said, CapacityType::Reserved) && !lists(said, CapacityType::Interruptible)
        }
        Some(Preference::None) | None => false,
    }
}

/// A limit for spot binds those who buy spot; who sets one beside another choice has made a mistake.
fn spot_price(said: &Nearest, problems: &mut Vec<Problem>) {
    let Some(price) = said.get(&Field::MaxSpotPrice) else { return };
    if lists(said, CapacityType::Spot) || said.get(&Field::Markets).is_some_and(|it| it.value.is_none()) {
        return;
    }
    let choice = said.get(&Field::Markets).map(|markets| markets.rank);
    if price.rank == POD || choice == Some(price.rank) {
        let message = format!(
            "is `{}`, and no spot machine is asked for: expected `spot` in `capacity-type`",
            price.shown()
        );
        problems.push(conflict(price, message));
    }
}

/// The rank of the pod's own annotations.
pub(super) const POD: usize = 0;

/// Which machine it is to be. Exact types and reservations are choices; models, memory and patterns narrow one.
fn machine(said: &mut Nearest, mode: SelectionMode) {
    const NARROWING: [Field; 2] = [Field::GpuModels, Field::GpuMemory];
    let rank = |field: &Field| said.get(field).map(|it| it.machine_rank);
    let level = |field: &Field| said.get(field).map(|it| it.level);
    let nearer =
        |one: Option<usize>, than: Option<usize>| one.zip(than).is_some_and(|(one, than)| one < than);
    let is_exact = matches!(value(said, Field::Types), Some(Value::Types(_)));
    let types = rank(&Field::Types);
    let target = TARGETS.iter().filter_map(rank).min().filter(|_| is_bound(said));
    // Without the freedom to choose by models, the types of farther layers are all there is.
    let may_choose = is_exact && mode == SelectionMode::Auto;
    let narrows_from = NARROWING.iter().filter_map(level).min().filter(|_| may_choose);
    let types_give_way = nearer(target, types) || nearer(narrows_from, level(&Field::Types));
    let choice = [target, types.filter(|_| is_exact && !types_give_way)].into_iter().flatten().min();
    let mut gone: Vec<Field> =
        NARROWING.into_iter().filter(|narrowing| nearer(choice, rank(narrowing))).collect();
    if types_give_way {
        gone.push(Field::Types);
    }
    said.retain(|field, _| !gone.contains(field));
}

/// Whether the pod is in what it names, or nowhere.
pub(super) fn is_bound(said: &Nearest) -> bool {
    if value(said, Field::Block).is_some() {
        let is_reserved = |market: &CapacityType| match market {
            CapacityType::Reserved | CapacityType::CapacityBlock | CapacityType::Interruptible => true,
            CapacityType::Spot | CapacityType::OnDemand => false,
        };
        return markets(said).is_none_or(|all| all.iter().all(is_reserved));
    }
    preference(said) == Preference::Required
}

/// What is said about reservations, or what follows from the reservations that are named and from the markets.
pub(super) fn preference(said: &Nearest) -> Preference {
    if let Some(preference) = said_preference(said) {
        return preference;
    }
    let is_reserved =
        |market: &CapacityType| matches!(market, CapacityType::Reserved | CapacityType::Interruptible);
    let listed = markets(said).unwrap_or_default();
    if listed.iter().any(is_reserved) {
        return if listed.iter().all(is_reserved) { Preference::Required } else { Preference::Prefer };
    }
    let named = [Field::ReservationIds, Field::ReservationGroup, Field::ReservationSelector];
    if named.iter().any(|field| value(said, *field).is_some()) {
        Preference::Required
    } else {
        Preference::None
    }
}

/// What takes time must fit into what limits it.
fn times(said: &mut Nearest, deadline: Option<Duration>, problems: &mut Vec<Problem>) {
    let lifetime =
        said.get(&Field::MaxLifetime).and_then(|it| Some((it.rank, duration(it)?, it.path.clone())));
    let deadline = deadline.map(|it| (POD, it, "spec.activeDeadlineSeconds".to_owned()));
    for (rank, most, path) in [lifetime, deadline].into_iter().flatten() {
        for field in [Field::MinRuntime, Field::EstimatedDuration] {
            let Some(need) = said.get(&field).filter(|it| duration(it).is_some_and(|need| need > most))
            else {
                continue;
            };
            if need.rank <= rank {
                let message = format!(
                    "is `{}`, and {path} ends it after {}s: expected less",
                    need.shown(),
                    most.as_secs()
                );
                problems.push(conflict(need, message));
            }
            said.remove(&field);
        }
    }
}

/// Of fields that say the same thing in different ways, only those of the nearest layer that has any.
fn keep_nearest(said: &mut Nearest, fields: &[Field]) {
    let nearest = fields.iter().filter_map(|field| Some(said.get(field)?.rank)).min();
    for field in fields {
        if said.get(field).map(|it| it.rank) > nearest {
            said.remove(field);
        }
    }
}

/// Two fields that exclude each other: `why` ends before the name of the other.
fn clash(said: &mut Nearest, field: Field, other: Field, why: &str, problems: &mut Vec<Problem>) {
    let (Some(one), Some(two)) = (said.get(&field), said.get(&other)) else { return };
    if one.value.is_none() || two.value.is_none() {
        return;
    }
    if one.rank == two.rank {
        problems.push(conflict(one, format!("is `{}`, {why} {}", one.shown(), two.path)));
        return;
    }
    let farther = if one.rank < two.rank { other } else { field };
    said.remove(&farther);
}

fn conflict(said: &Said, message: String) -> Problem {
    Problem { reason: reasons::CONFLICTING_ANNOTATIONS, path: said.path.clone(), message }
}

fn lists(said: &Nearest, market: CapacityType) -> bool {
    markets(said).is_some_and(|all| all.contains(&market))
}

pub(super) fn markets(said: &Nearest) -> Option<&[CapacityType]> {
    match value(said, Field::Markets) {
        Some(Value::Markets(markets)) => Some(markets),
        Some(_) | None => None,
    }
}

fn said_preference(said: &Nearest) -> Option<Preference> {
    match value(said, Field::Preference) {
        Some(Value::Preference(preference)) => Some(*preference),
        Some(_) | None => None,
    }
}

fn duration(said: &Said) -> Option<Duration> {
    match said.value {
        Some(
            Value::MaxLifetime(time)
            | Value::MinRuntime(time)
            | Value::EstimatedDuration(time)
            | Value::CapacityWait(time),
        ) => Some(time),
        Some(_) | None => None,
    }
}

pub(super) fn value(said: &Nearest, field: Field) -> Option<&Value> {
    said.get(&field)?.value.as_ref()
}
