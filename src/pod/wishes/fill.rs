//! What was said and holds → [`Wishes`].

use super::collect::Nearest;
use super::keys::Field;
use super::parse::Value;
use super::{CapacityType, Preference, Wishes, settle};
use crate::config::Instances;

/// The wishes of what is left after [`settle::settle`].
pub(super) fn fill(said: &Nearest, rules: &Instances) -> Wishes {
    let mut wishes = Wishes { capacity_wait: rules.capacity_wait, ..Wishes::default() };
    for value in said.values().filter_map(|said| said.value.clone()) {
        assign(&mut wishes, value, rules);
    }
    wishes.reservation.preference = settle::preference(said);
    markets(&mut wishes, settle::value(said, Field::Block).is_some());
    wishes
}

/// Leaves in the list only what may be bought.
fn markets(wishes: &mut Wishes, has_block: bool) {
    if has_block && wishes.capacity_types.is_empty() {
        wishes.capacity_types.push(CapacityType::CapacityBlock);
    }
    if wishes.reservation.preference == Preference::Required {
        // To EC2 a machine in a reservation is on demand; in this list that would mean one outside.
        wishes.capacity_types.retain(|market| *market != CapacityType::OnDemand);
    }
}

fn assign(wishes: &mut Wishes, value: Value, rules: &Instances) {
    match value {
        Value::Types(types) => wishes.instance_types = types,
        Value::Patterns(patterns) => wishes.type_patterns = patterns,
        Value::Template(name) => wishes.template = Some(name),
        Value::GpuModels(models) => wishes.gpu_models = models,
        Value::GpuMemory(mib) => wishes.gpu_memory_min_mib = Some(mib),
        Value::GpuShare(share) => wishes.gpu_share = share,
        Value::Markets(markets) => wishes.capacity_types = markets,
        Value::ReservationIds(ids) => wishes.reservation.ids = ids,
        Value::ReservationGroup(arn) => wishes.reservation.group_arn = Some(arn),
        Value::ReservationSelector(selector) => wishes.reservation.selector = Some(selector),
        Value::Preference(preference) => wishes.reservation.preference = preference,
        Value::Block(id) => wishes.block_id = Some(id),
        Value::MaxPrice(price) => wishes.max_price = Some(price),
        Value::MaxSpotPrice(price) => wishes.max_spot_price = Some(price),
        Value::Zones(zones) => wishes.zones = zones,
        Value::Subnets(subnets) => wishes.subnet_ids = subnets,
        Value::PlacementGroup(group) => wishes.placement_group = Some(group),
        Value::Tenancy(tenancy) => wishes.tenancy = tenancy,
        Value::Efa(count) => wishes.efa = count,
        Value::Image(image) => wishes.image = Some(image),
        Value::InstanceProfile(profile) => wishes.instance_profile = Some(profile),
        Value::SecurityGroups(groups) => wishes.security_group_ids = groups,
        Value::RootVolume(volume) => wishes.root_volume = Some(volume.over(&rules.root_volume)),
        Value::MaxLifetime(time) => wishes.max_lifetime = Some(time),
        Value::MinRuntime(time) => wishes.min_runtime = Some(time),
        Value::EstimatedDuration(time) => wishes.estimated_duration = Some(time),
        Value::CapacityWait(time) => wishes.capacity_wait = (!time.is_zero()).then_some(time),
        // The region was compared with ours.
        Value::Region(_) | Value::Nothing => {}
    }
}
