//! What the operator's configuration allows, as the planner asks it.

use crate::config::Instances;
use crate::pod::wishes::CapacityType;

/// Markets that machines may be bought in.
pub(super) fn allows_market(rules: &Instances, market: CapacityType) -> bool {
    rules.allowed_capacity_types.contains(&market)
}

/// Whether a type is the operator's own default, which is never the pod's fault.
pub(super) fn is_default_type(rules: &Instances, name: &str) -> bool {
    rules.default_instance_type() == Some(name)
}

/// Whether a type may be launched.
pub(super) fn allows_type(rules: &Instances, name: &str) -> bool {
    is_default_type(rules, name) || rules.allows(name)
}
