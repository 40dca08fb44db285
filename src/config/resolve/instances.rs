//! The section `instances`.

use super::super::raw::Reader;
use super::super::{Instances, SelectionMode, values};
use crate::cloud::{RootVolume, Tenancy};
use crate::pod::wishes::CapacityType;

/// Everything but what other sections say; templates are read when that is known.
pub(super) fn read(read: &mut Reader) -> Instances {
    let name_or_prefix = |text: &str| values::is_name_or_arn(text.strip_suffix('*').unwrap_or(text));
    let mut names = |path: &str| read.texts(path, 0..=usize::MAX, name_or_prefix).unwrap_or_default();
    let allowed_amis = names("instances.allowedAMIs");
    let allowed_instance_profiles = names("instances.allowedInstanceProfiles");
    let allowed_placement_groups = names("instances.allowedPlacementGroups");
    Instances {
        selection_mode: read.text("instances.selectionMode", selection_mode).unwrap_or_default(),
        allowed_instance_types: read.texts(
            "instances.allowedInstanceTypes",
            1..=usize::MAX,
            values::is_type_pattern,
        ),
        allowed_capacity_types: capacity_types(read),
        allowed_amis,
        allowed_instance_profiles,
        allowed_placement_groups,
        allowed_security_group_ids: read
            .texts("instances.allowedSecurityGroupIDs", 0..=usize::MAX, |id| values::is_id("sg", id))
            .unwrap_or_default(),
        allowed_tenancies: tenancies(read),
        max_root_volume_gib: read.integer("instances.maxRootVolumeSizeGiB", 8..=65_536).unwrap_or_default(),
        root_volume: root_volume(read),
        ..Instances::default()
    }
}

fn selection_mode(text: &str) -> Option<SelectionMode> {
    [SelectionMode::Explicit, SelectionMode::Template, SelectionMode::Auto]
        .into_iter()
        .find(|mode| mode.name() == text)
}

fn capacity_types(read: &mut Reader) -> Vec<CapacityType> {
    let is_known = |name: &str| CapacityType::named(name).is_some();
    let names = read.texts("instances.allowedCapacityTypes", 1..=CapacityType::ALL.len(), is_known);
    names.iter().flatten().filter_map(|name| CapacityType::named(name)).collect()
}

fn tenancies(read: &mut Reader) -> Vec<Tenancy> {
    let names =
        read.texts("instances.allowedTenancies", 1..=2, |name| matches!(name, "default" | "dedicated"));
    let tenancy = |name: &String| if name == "dedicated" { Tenancy::Dedicated } else { Tenancy::Shared };
    names.iter().flatten().map(tenancy).collect()
}

fn root_volume(read: &mut Reader) -> RootVolume {
    let kind = values::text_if(|text: &str| matches!(text, "gp3" | "gp2" | "io1" | "io2"));
    RootVolume {
        size_gib: read.integer("instances.rootVolume.sizeGiB", 8..=65_536).unwrap_or_default(),
        kind: read.text("instances.rootVolume.type", kind).unwrap_or_default(),
        iops: read.integer("instances.rootVolume.iops", 100..=256_000),
        throughput: read.integer("instances.rootVolume.throughput", 125..=2000),
        encrypted: read.flag("instances.rootVolume.encrypted").unwrap_or(true),
        kms_key_id: read.text("instances.rootVolume.kmsKeyId", values::text_if(values::is_name_or_arn)),
    }
}
