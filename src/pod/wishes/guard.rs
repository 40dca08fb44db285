//! What the operator allows, value by value.

use std::time::Duration;

use super::keys::Key;
use super::parse::{Value, arn_region};
use super::volume::Volume;
use super::{CapacityType, Preference};
use crate::cloud::{ImageWish, Tenancy};
use crate::config::{Instances, SelectionMode, values};
use crate::pod::reasons;

/// Who wrote a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Anybody who may write to the cluster: annotations.
    User,
    /// The operator: templates and node defaults.
    Operator,
}

/// A value that is right, and may not be used; the message goes on after "is `value`, ".
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The markets of On-Demand Capacity Reservations.
const RESERVED: [CapacityType; 2] = [CapacityType::Reserved, CapacityType::Interruptible];

/// Everything against a value.
pub(super) fn check(value: &Value, key: &Key, trust: Trust, rules: &Instances) -> Vec<Denied> {
    let mut denied = everywhere(value, rules);
    if trust == Trust::User
        && let Some(gate) = key.gate
    {
        denied.extend(gated(value, gate, rules).map(|message| not_allowed(&message)));
    }
    denied
}

/// What holds for every layer.
fn everywhere(value: &Value, rules: &Instances) -> Vec<Denied> {
    match value {
        Value::Types(types) => types.iter().filter_map(|name| type_allowed(name, rules)).collect(),
        Value::Patterns(_) => {
            let is_auto = rules.selection_mode == SelectionMode::Auto;
            (!is_auto)
                .then(|| mode(rules, "and only `auto` chooses by pattern: expected types in full"))
                .into_iter()
                .collect()
        }
        Value::Template(_) => {
            let is_explicit = rules.selection_mode == SelectionMode::Explicit;
            let message =
                "and only `template` and `auto` allow templates: expected an instance type or a reservation";
            is_explicit.then(|| mode(rules, message)).into_iter().collect()
        }
        Value::Markets(markets) => markets.iter().filter_map(|one| market_allowed(&[*one], rules)).collect(),
        Value::ReservationIds(_)
        | Value::ReservationSelector(_)
        | Value::Preference(Preference::Required | Preference::Prefer) => {
            market_allowed(&RESERVED, rules).into_iter().collect()
        }
        Value::ReservationGroup(arn) => {
            market_allowed(&RESERVED, rules).into_iter().chain(elsewhere(arn_region(arn), rules)).collect()
        }
        Value::Block(_) => market_allowed(&[CapacityType::CapacityBlock], rules).into_iter().collect(),
        Value::Region(region) => elsewhere(Some(region), rules).into_iter().collect(),
        Value::Zones(zones) => {
            zones.iter().filter_map(|zone| elsewhere(values::region_of_zone(zone), rules)).collect()
        }
        Value::Subnets(subnets) => subnets_known(subnets, rules).into_iter().collect(),
        Value::MaxLifetime(time) | Value::MinRuntime(time) => {
            let most = rules.max_lifetime;
            (*time > most).then(|| too_long("limits.maxInstanceLifetime", most)).into_iter().collect()
        }
        Value::CapacityWait(wait) => {
            let most = rules.capacity_wait.filter(|most| wait.is_zero() || wait > most);
            most.map(|most| too_long("limits.capacityWait", most)).into_iter().collect()
        }
        Value::GpuModels(_)
        | Value::GpuMemory(_)
        | Value::GpuShare(_)
        | Value::Preference(Preference::None)
        | Value::MaxPrice(_)
        | Value::MaxSpotPrice(_)
        | Value::PlacementGroup(_)
        | Value::Tenancy(_)
        | Value::Efa(_)
        | Value::Image(_)
        | Value::InstanceProfile(_)
        | Value::SecurityGroups(_)
        | Value::RootVolume(_)
        | Value::EstimatedDuration(_)
        | Value::Nothing => Vec::new(),
    }
}

/// What annotations may not say, because the operator has not listed it.
fn gated(value: &Value, gate: &str, rules: &Instances) -> Option<String> {
    let unless_listed = |listed: &[String], name: &str| {
        (!matches(listed, name)).then(|| format!("and `{gate}` {}", expected(listed, name)))
    };
    match value {
        Value::Image(ImageWish::Id(name) | ImageWish::Parameter(name)) => {
            unless_listed(&rules.allowed_amis, name)
        }
        Value::InstanceProfile(name) => unless_listed(&rules.allowed_instance_profiles, name),
        Value::PlacementGroup(name) => unless_listed(&rules.allowed_placement_groups, name),
        Value::SecurityGroups(groups) => {
            groups.iter().find_map(|group| unless_listed(&rules.allowed_security_group_ids, group))
        }
        Value::Tenancy(Tenancy::Shared) => None,
        Value::Tenancy(Tenancy::Dedicated) => {
            let listed: Vec<String> = rules.allowed_tenancies.iter().map(|one| tenancy_name(*one)).collect();
            unless_listed(&listed, "dedicated")
        }
        Value::RootVolume(volume) => volume_allowed(volume, gate, rules),
        Value::Types(_)
        | Value::Patterns(_)
        | Value::Template(_)
        | Value::GpuModels(_)
        | Value::GpuMemory(_)
        | Value::GpuShare(_)
        | Value::Markets(_)
        | Value::ReservationIds(_)
        | Value::ReservationGroup(_)
        | Value::ReservationSelector(_)
        | Value::Preference(_)
        | Value::Block(_)
        | Value::MaxPrice(_)
        | Value::MaxSpotPrice(_)
        | Value::Region(_)
        | Value::Zones(_)
        | Value::Subnets(_)
        | Value::Efa(_)
        | Value::MaxLifetime(_)
        | Value::MinRuntime(_)
        | Value::EstimatedDuration(_)
        | Value::CapacityWait(_)
        | Value::Nothing => None,
    }
}

fn volume_allowed(volume: &Volume, gate: &str, rules: &Instances) -> Option<String> {
    let most = rules.max_root_volume_gib;
    if volume.size_gib.is_some_and(|size| size > most) {
        Some(format!("and `{gate}` is `{most}`: expected at most {most}Gi"))
    } else if volume.kms.is_some() {
        Some("and only templates and node defaults may name a KMS key: expected no `kms=`".to_owned())
    } else {
        None
    }
}

/// Whether a list has a name; entries may end in `*`.
fn matches(listed: &[String], name: &str) -> bool {
    listed.iter().any(|entry| match entry.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => entry == name,
    })
}

fn expected(listed: &[String], name: &str) -> String {
    if listed.is_empty() {
        format!("allows annotations none: ask the operator to list `{name}`, or for a template")
    } else {
        format!("does not list `{name}`: expected one of `{}`", listed.join("`, `"))
    }
}

fn tenancy_name(tenancy: Tenancy) -> String {
    let name = match tenancy {
        Tenancy::Shared => "default",
        Tenancy::Dedicated => "dedicated",
    };
    name.to_owned()
}

fn type_allowed(name: &str, rules: &Instances) -> Option<Denied> {
    let allowed = rules.allowed_instance_types.as_ref().filter(|_| !rules.allows(name))?;
    let message = format!("and `{name}` is not allowed: expected one of `{}`", allowed.join("`, `"));
    Some(Denied { reason: reasons::INSTANCE_TYPE_NOT_ALLOWED, message })
}

/// One of the markets must be allowed.
fn market_allowed(markets: &[CapacityType], rules: &Instances) -> Option<Denied> {
    let allowed = &rules.allowed_capacity_types;
    if markets.iter().any(|market| allowed.contains(market)) {
        return None;
    }
    let allowed: Vec<&str> = allowed.iter().map(|market| market.name()).collect();
    let market = markets.first().map_or("", |market| market.name());
    Some(not_allowed(&format!(
        "and `instances.allowedCapacityTypes` does not list `{market}`: expected `{}`",
        allowed.join("`, `")
    )))
}

fn subnets_known(subnets: &[String], rules: &Instances) -> Option<Denied> {
    let unknown = subnets.iter().find(|subnet| !rules.subnet_ids.contains(subnet))?;
    Some(not_allowed(&format!(
        "and `aws.subnetIDs` does not list `{unknown}`: expected some of `{}`",
        rules.subnet_ids.join("`, `")
    )))
}

fn elsewhere(region: Option<&str>, rules: &Instances) -> Option<Denied> {
    let region = region.filter(|region| *region != rules.region)?;
    Some(invalid(format!("and `{region}` is not the region of this ORCA: expected `{}`", rules.region)))
}

fn mode(rules: &Instances, rest: &str) -> Denied {
    let message = format!("but `instances.selectionMode` is `{}`, {rest}", rules.selection_mode.name());
    Denied { reason: reasons::SELECTION_NOT_ALLOWED, message }
}

fn too_long(limit: &str, most: Duration) -> Denied {
    invalid(format!("expected at most the {}s of `{limit}`", most.as_secs()))
}

fn invalid(message: String) -> Denied {
    Denied { reason: reasons::INVALID_ANNOTATION, message }
}

fn not_allowed(message: &str) -> Denied {
    Denied { reason: reasons::ANNOTATION_NOT_ALLOWED, message: message.to_owned() }
}
