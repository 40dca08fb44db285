//! Every key that a person may write, once: its names, what it expects, what it means.
//!
//! Parsing, messages, suggestions and the table in `docs/annotations.md` all read this, so they cannot tell
//! different stories. Annotations carry the prefix `orca.research/`, templates and node defaults do not.

use super::parse::{self, Parsed};

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// Other names of the same key.
    pub(crate) aliases: &'static [&'static str],
    /// What it is about: two keys of one field say the same thing in two ways.
    pub(crate) field: Field,
    pub(super) parse: fn(&str) -> Parsed,
    /// Completes "expected …"; also the value column of the documentation.
    pub(crate) expected: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test that writes the documentation"))]
    pub(super) example: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test that writes the documentation"))]
    pub(super) meaning: &'static str,
    /// The configuration key that says what annotations may put here; templates and node defaults may put anything.
    pub(crate) gate: Option<&'static str>,
}

/// What keys are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Field {
    Types,
    Template,
    GpuModels,
    GpuMemory,
    GpuShare,
    Markets,
    ReservationIds,
    ReservationGroup,
    ReservationSelector,
    Preference,
    Block,
    MaxPrice,
    MaxSpotPrice,
    Region,
    Zones,
    Subnets,
    PlacementGroup,
    Tenancy,
    Efa,
    Image,
    InstanceProfile,
    SecurityGroups,
    RootVolume,
    MaxLifetime,
    MinRuntime,
    EstimatedDuration,
    CapacityWait,
    /// Checked, and without effect.
    Provider,
    InstanceStore,
    TerminationProtection,
    Debug,
}

/// The key of a name or an alias.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name || key.aliases.contains(&name))
}

/// Why a key that is none of ours is refused with a sentence of its own.
pub(crate) fn refused(name: &str) -> Option<&'static str> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    REFUSED.iter().find(|(pattern, _)| fits(pattern)).map(|(_, sentence)| *sentence)
}

/// The name that was probably meant.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let names = KEYS.iter().flat_map(|key| std::iter::once(&key.name).chain(key.aliases));
    let name = name.to_ascii_lowercase();
    names
        .map(|known| (crate::config::spelling::edits(known, &name), *known))
        // Two typing errors, or three in a long name.
        .filter(|(edits, known)| *edits <= if known.len() > 12 { 3 } else { 2 } && *edits < known.len())
        .min()
        .map(|(_, known)| known)
}

/// The key that was once written in the manner of `instanceType`.
pub(crate) fn older_spelling(name: &str) -> Option<&'static str> {
    if !name.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let mut dashed = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            dashed.push('-');
        }
        dashed.push(c.to_ascii_lowercase());
    }
    find(&dashed).map(|key| key.name)
}

/// The row of a name of this table.
pub(super) fn row(name: &str) -> &'static Key {
    find(name).expect("only names of the table are asked for")
}

const fn key(
    name: &'static str,
    aliases: &'static [&'static str],
    (field, parse): (Field, fn(&str) -> Parsed),
    expected: &'static str,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, aliases, field, parse, expected, example, meaning, gate: None }
}

const fn gated(gate: &'static str, key: Key) -> Key {
    Key { gate: Some(gate), ..key }
}

const DURATION: &str = "a duration such as `90s`, `4h` or `7d`";
const DOLLARS: &str = "US dollars per hour such as `1.25`";
const GIB: &str = "a quantity such as `40Gi`, of at least 1Gi";
const GROUP: &str =
    "an ARN such as `arn:aws:resource-groups:us-east-1:111122223333:group/name` in the configured region";

/// In the order of the documentation.
#[rustfmt::skip] // one argument a line would make a table of 400 lines that nobody can compare
pub(crate) const KEYS: &[Key] = &[
    key("instance-type", &[], (Field::Types, parse::instance_type),
        "an instance type such as `g6.xlarge`", "g6.xlarge",
        "The machine's type: this one, never another."),
    key("instance-types", &[], (Field::Types, parse::instance_types),
        "a list of instance types such as `g6.xlarge,g5.xlarge`, or of patterns such as `g6.*`", "g6.xlarge,g5.xlarge",
        "Types in the order in which they are tried, and no others. Or patterns, where `instances.selectionMode` is `auto`: ORCA chooses among the types that match one."),
    key("template", &["workload-template"], (Field::Template, parse::name),
        "the name of a template", "gpu-large",
        "A template of `instances.templates`."),
    key("gpu-models", &["gpu-model"], (Field::GpuModels, parse::gpu_models),
        "a list of GPU models such as `l4,a10g`", "l4,a10g",
        "Only types with one of these models, in any spelling of upper and lower case."),
    key("gpu-memory-min", &[], (Field::GpuMemory, parse::gpu_memory), GIB, "40Gi",
        "Only types whose GPUs have at least so much memory each."),
    key("accelerator-fraction", &[], (Field::GpuShare, parse::gpu_share),
        "`allow` or `deny`", "allow",
        "`allow` lets a share of a GPU (`g6f`) stand for one."),
    key("capacity-type", &["launch-type"], (Field::Markets, parse::markets),
        "a list of `reserved`, `capacity-block`, `interruptible`, `spot` and `on-demand`, each once", "spot,on-demand",
        "How the machine may be bought, in order of preference. Without it: on demand, and in reservations after `capacity-reservation-preference`."),
    key("capacity-reservation-ids", &["capacity-reservation-id"], (Field::ReservationIds, parse::reservation_ids),
        "a list of ids such as `cr-0a1b2c3d4e5f60718`", "cr-0a1b2c3d4e5f60718",
        "On-Demand Capacity Reservations, in the order in which they are tried."),
    key("capacity-reservation-group", &["capacity-reservation-resource-group"], (Field::ReservationGroup, parse::reservation_group),
        GROUP, "arn:aws:resource-groups:us-east-1:111122223333:group/ml",
        "A resource group of reservations; EC2 chooses among them."),
    key("capacity-reservation-selector", &[], (Field::ReservationSelector, parse::reservation_selector),
        "`tag:KEY=VALUE`, `tag:KEY` and `owner=ACCOUNT`, joined with commas", "tag:team=ml,owner=111122223333",
        "Reservations that have all of these tags and this owner."),
    key("capacity-reservation-preference", &[], (Field::Preference, parse::preference),
        "`required`, `prefer` or `none`", "prefer",
        "`required` (or `targeted`, `capacity-reservations-only`): in a reservation, or not at all. `prefer` (or `open`): in one if there is room, else as `capacity-type` says. `none`: never in one. Without it: `required` if reservations are named."),
    key("capacity-block-id", &[], (Field::Block, parse::block),
        "an id such as `cr-0a1b2c3d4e5f60718` or `cb-0a1b2c3d4e5f60718`", "cr-0a1b2c3d4e5f60718",
        "A Capacity Block for ML. The pod waits for its start and runs nowhere else."),
    key("max-price", &[], (Field::MaxPrice, parse::max_price), DOLLARS, "5.00",
        "No machine whose price is higher or unknown, whatever the market."),
    key("max-spot-price", &["spot-max-price"], (Field::MaxSpotPrice, parse::max_spot_price),
        "US dollars per hour above `0.001`, such as `1.25`", "1.25",
        "No spot machine whose price is higher or unknown; EC2 interrupts it when the price rises above."),
    key("region", &[], (Field::Region, parse::region), "the configured region", "us-east-1",
        "Refuses the pod where this ORCA launches in another region."),
    key("zones", &["zone", "availability-zone", "availability-zones"], (Field::Zones, parse::zones),
        "a list of zones such as `us-east-1a` or `use1-az1`", "us-east-1a,us-east-1b",
        "Only in these availability zones, by name or id."),
    key("subnets", &["subnet"], (Field::Subnets, parse::subnets),
        "a list of ids such as `subnet-0a1b2c3d4e5f60718`", "subnet-0a1b2c3d4e5f60718",
        "Only in these of the subnets of `aws.subnetIDs`."),
    gated("instances.allowedPlacementGroups", key("placement-group", &[], (Field::PlacementGroup, parse::placement_group),
        "the name or ARN of a placement group", "training",
        "The placement group that the machine is launched in.")),
    gated("instances.allowedTenancies", key("tenancy", &[], (Field::Tenancy, parse::tenancy),
        "`default` or `dedicated`", "dedicated",
        "`dedicated` runs on hardware of this account alone, at a surcharge.")),
    key("efa", &[], (Field::Efa, parse::efa), "`true`, `false` or 0 to 32", "true",
        "So many Elastic Fabric Adapter interfaces, on a type that has them; `true` is one. The security groups must let members of theirs through both ways, and the container needs the devices of `/dev/infiniband`."),
    gated("instances.allowedAMIs", key("ami", &[], (Field::Image, parse::image_id),
        "an id such as `ami-0a1b2c3d4e5f60718`", "ami-0a1b2c3d4e5f60718",
        "The machine image instead of the configured one.")),
    gated("instances.allowedAMIs", key("ami-ssm-parameter", &[], (Field::Image, parse::image_parameter),
        "the name or ARN of an SSM parameter", "/ml/image",
        "SSM parameter that holds the id of the machine image.")),
    gated("instances.allowedInstanceProfiles", key("instance-profile", &[], (Field::InstanceProfile, parse::instance_profile),
        "the name or ARN of an instance profile", "ml-machine",
        "The instance profile instead of `aws.instanceProfile`.")),
    gated("instances.allowedSecurityGroupIDs", key("security-groups", &["security-group-ids"], (Field::SecurityGroups, parse::security_groups),
        "a list of 1 to 16 ids such as `sg-0a1b2c3d4e5f60718`", "sg-0a1b2c3d4e5f60718",
        "Security groups instead of `aws.securityGroupIDs`.")),
    gated("instances.maxRootVolumeSizeGiB", key("root-volume", &[], (Field::RootVolume, parse::root_volume),
        "`size=`, `iops=`, `throughput=` and `kms=`, joined with commas, such as `size=200Gi,iops=6000`", "size=200Gi,iops=6000",
        "What differs from `instances.rootVolume`: size, IOPS, MiB/s, KMS key. Only templates and node defaults may set `kms`.")),
    key("instance-store", &[], (Field::InstanceStore, parse::instance_store), "`none`", "none",
        "Local disks of the type are not used: everything is on the root volume."),
    key("max-lifetime", &[], (Field::MaxLifetime, parse::max_lifetime),
        "a duration of at least `1m`, such as `4h` or `7d`", "4h",
        "The machine ends itself at this age; at most `limits.maxInstanceLifetime`."),
    key("min-runtime", &[], (Field::MinRuntime, parse::min_runtime), DURATION, "2h",
        "No reservation and no block that ends sooner."),
    key("estimated-duration", &[], (Field::EstimatedDuration, parse::estimated_duration), DURATION, "90m",
        "How long the work will probably take, for estimates of its cost."),
    key("capacity-wait", &[], (Field::CapacityWait, parse::capacity_wait), DURATION, "30m",
        "After waiting so long for a machine the pod fails; `0s` waits for ever. At most `limits.capacityWait`, which holds without it."),
    key("provider", &[], (Field::Provider, parse::provider), "`ec2`", "ec2",
        "The cloud; there is one."),
    key("termination-protection", &[], (Field::TerminationProtection, parse::termination_protection), "`false`", "false",
        "The machine ends with its pod, so `true` is refused."),
    key("debug", &[], (Field::Debug, parse::flag), "`true` or `false`", "true",
        "Accepted, without effect: `orca plan` explains a choice."),
];

/// Keys that are refused, and why; `*` stands for any ending.
pub(crate) const REFUSED: &[(&str, &str)] = &[
    (
        "user-data",
        "is not for pods: ORCA's own bootstrap is the user data of every machine; use an init container, or an image of your own",
    ),
    ("runpod-*", "is for RunPod, and this ORCA launches on EC2 only"),
    (
        "budget*",
        "is for budgets, which this ORCA does not have; use `max-price`, `max-lifetime` or a ResourceQuota",
    ),
    ("extends", "is for templates only: name the template with `template`"),
];
