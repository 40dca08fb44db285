//! One value of one key: text → [`Value`], or what is wrong with it. Knows no layers and no configuration.

use std::time::Duration;

use super::volume::Volume;
use super::{CapacityType, GpuShare, Preference, ReservationSelector};
use crate::capacity::money::MicroUsd;
use crate::cloud::{ImageWish, Tenancy};
use crate::config::values;
use crate::pod::quantity;

/// A value as its key means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Types(Vec<String>),
    /// Instance types with `*`.
    Patterns(Vec<String>),
    Template(String),
    GpuModels(Vec<String>),
    /// MiB.
    GpuMemory(u64),
    GpuShare(GpuShare),
    Markets(Vec<CapacityType>),
    ReservationIds(Vec<String>),
    ReservationGroup(String),
    ReservationSelector(ReservationSelector),
    Preference(Preference),
    Block(String),
    MaxPrice(MicroUsd),
    MaxSpotPrice(MicroUsd),
    Region(String),
    Zones(Vec<String>),
    Subnets(Vec<String>),
    PlacementGroup(String),
    Tenancy(Tenancy),
    Efa(u32),
    Image(ImageWish),
    InstanceProfile(String),
    SecurityGroups(Vec<String>),
    RootVolume(Volume),
    MaxLifetime(Duration),
    MinRuntime(Duration),
    EstimatedDuration(Duration),
    /// Zero waits for ever.
    CapacityWait(Duration),
    /// Right, and without effect.
    Nothing,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Not what the table says is expected.
    Shape,
    /// Read, and refused for this reason; goes on after "is `value`, ".
    Because(&'static str),
}

pub(crate) type Parsed = Result<Value, Wrong>;

pub(super) fn instance_type(text: &str) -> Parsed {
    one(text, values::is_instance_type).map(|name| Value::Types(vec![name]))
}

pub(super) fn instance_types(text: &str) -> Parsed {
    let entries = list(text, values::is_type_pattern)?;
    let patterns = entries.iter().filter(|entry| entry.ends_with('*')).count();
    match patterns {
        0 => Ok(Value::Types(entries)),
        _ if patterns == entries.len() => Ok(Value::Patterns(entries)),
        _ => Err(Wrong::Because("which mixes types and patterns: expected only the one or only the other")),
    }
}

pub(super) fn name(text: &str) -> Parsed {
    one(text, values::is_template_name).map(Value::Template)
}

pub(super) fn gpu_models(text: &str) -> Parsed {
    let is_model = |text: &str| {
        text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" -_.".contains(&b))
    };
    list(&text.to_ascii_lowercase(), is_model).map(Value::GpuModels)
}

pub(super) fn gpu_memory(text: &str) -> Parsed {
    let bytes = quantity::whole(text).ok_or(Wrong::Shape)?;
    // `40` would be 40 bytes, and mean nothing.
    if bytes < 1 << 30 { Err(Wrong::Shape) } else { Ok(Value::GpuMemory(bytes.div_ceil(1 << 20))) }
}

pub(super) fn gpu_share(text: &str) -> Parsed {
    match text {
        "allow" => Ok(Value::GpuShare(GpuShare::Allowed)),
        "deny" => Ok(Value::GpuShare(GpuShare::Whole)),
        _ => Err(Wrong::Shape),
    }
}

pub(super) fn markets(text: &str) -> Parsed {
    let names = list(text, |name| CapacityType::named(name).is_some())?;
    Ok(Value::Markets(names.iter().filter_map(|name| CapacityType::named(name)).collect()))
}

pub(super) fn reservation_ids(text: &str) -> Parsed {
    list(text, |id| values::is_id("cr", id)).map(Value::ReservationIds)
}

pub(super) fn reservation_group(text: &str) -> Parsed {
    one(text, |arn| arn_region(arn).is_some()).map(Value::ReservationGroup)
}

/// The region of the ARN of a resource group.
pub(super) fn arn_region(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [arn, partition, service, region, account, resource] = *parts.as_slice() else { return None };
    let name = resource.strip_prefix("group/")?;
    let fits = arn == "arn"
        && partition.starts_with("aws")
        && service == "resource-groups"
        && is_account(account)
        && values::is_name_or_arn(name);
    fits.then_some(region)
}

pub(super) fn reservation_selector(text: &str) -> Parsed {
    let mut selector = ReservationSelector::default();
    for part in list(text, |_| true)? {
        if let Some(tag) = part.strip_prefix("tag:") {
            let (key, value) = match tag.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (tag, None),
            };
            if key.is_empty() || selector.tags.iter().any(|(known, _)| known == key) {
                return Err(Wrong::Shape);
            }
            selector.tags.push((key.to_owned(), value));
        } else {
            let owner = part.strip_prefix("owner=").filter(|owner| is_account(owner)).ok_or(Wrong::Shape)?;
            if selector.owner_id.replace(owner.to_owned()).is_some() {
                return Err(Wrong::Shape);
            }
        }
    }
    Ok(Value::ReservationSelector(selector))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

pub(super) fn preference(text: &str) -> Parsed {
    match text {
        "required" | "targeted" | "capacity-reservations-only" => Ok(Value::Preference(Preference::Required)),
        "prefer" | "open" => Ok(Value::Preference(Preference::Prefer)),
        "none" => Ok(Value::Preference(Preference::None)),
        _ => Err(Wrong::Shape),
    }
}

pub(super) fn block(text: &str) -> Parsed {
    one(text, |id| values::is_id("cr", id) || values::is_id("cb", id)).map(Value::Block)
}

pub(super) fn max_price(text: &str) -> Parsed {
    dollars(text, MicroUsd(1)).map(Value::MaxPrice)
}

pub(super) fn max_spot_price(text: &str) -> Parsed {
    // EC2: "must be more than $0.001".
    dollars(text, MicroUsd(1001)).map(Value::MaxSpotPrice)
}

fn dollars(text: &str, least: MicroUsd) -> Result<MicroUsd, Wrong> {
    text.parse().ok().filter(|price| *price >= least).ok_or(Wrong::Shape)
}

pub(super) fn region(text: &str) -> Parsed {
    one(text, values::is_region).map(Value::Region)
}

pub(super) fn zones(text: &str) -> Parsed {
    list(text, values::is_zone).map(Value::Zones)
}

pub(super) fn subnets(text: &str) -> Parsed {
    list(text, |id| values::is_id("subnet", id)).map(Value::Subnets)
}

pub(super) fn placement_group(text: &str) -> Parsed {
    one(text, values::is_name_or_arn).map(Value::PlacementGroup)
}

pub(super) fn tenancy(text: &str) -> Parsed {
    match text {
        "default" | "shared" => Ok(Value::Tenancy(Tenancy::Shared)),
        "dedicated" => Ok(Value::Tenancy(Tenancy::Dedicated)),
        "host" => {
            Err(Wrong::Because("and dedicated hosts are not supported: expected `default` or `dedicated`"))
        }
        _ => Err(Wrong::Shape),
    }
}

pub(super) fn efa(text: &str) -> Parsed {
    match text {
        "true" => Ok(Value::Efa(1)),
        "false" => Ok(Value::Efa(0)),
        number => number.parse().ok().filter(|number| *number <= 32).map(Value::Efa).ok_or(Wrong::Shape),
    }
}

pub(super) fn image_id(text: &str) -> Parsed {
    one(text, |id| values::is_id("ami", id)).map(|id| Value::Image(ImageWish::Id(id)))
}

pub(super) fn image_parameter(text: &str) -> Parsed {
    one(text, values::is_name_or_arn).map(|name| Value::Image(ImageWish::Parameter(name)))
}

pub(super) fn instance_profile(text: &str) -> Parsed {
    one(text, values::is_name_or_arn).map(Value::InstanceProfile)
}

pub(super) fn security_groups(text: &str) -> Parsed {
    let groups = list(text, |id| values::is_id("sg", id))?;
    if groups.len() > 16 { Err(Wrong::Shape) } else { Ok(Value::SecurityGroups(groups)) }
}

pub(super) fn root_volume(text: &str) -> Parsed {
    Volume::parse(text).map(Value::RootVolume).ok_or(Wrong::Shape)
}

pub(super) fn instance_store(text: &str) -> Parsed {
    match text {
        "none" => Ok(Value::Nothing),
        "raid0" => Err(Wrong::Because("and local disks are not used: ask for a larger `root-volume`")),
        _ => Err(Wrong::Shape),
    }
}

pub(super) fn max_lifetime(text: &str) -> Parsed {
    // As `limits.maxInstanceLifetime`.
    let least = Duration::from_secs(60);
    duration(text)
        .ok_or(Wrong::Shape)
        .and_then(|it| if it < least { Err(Wrong::Shape) } else { Ok(it) })
        .map(Value::MaxLifetime)
}

pub(super) fn min_runtime(text: &str) -> Parsed {
    duration(text).map(Value::MinRuntime).ok_or(Wrong::Shape)
}

pub(super) fn estimated_duration(text: &str) -> Parsed {
    duration(text).map(Value::EstimatedDuration).ok_or(Wrong::Shape)
}

pub(super) fn capacity_wait(text: &str) -> Parsed {
    duration(text).map(Value::CapacityWait).ok_or(Wrong::Shape)
}

fn duration(text: &str) -> Option<Duration> {
    values::duration(text)
}

pub(super) fn provider(text: &str) -> Parsed {
    match text {
        "ec2" | "aws" => Ok(Value::Nothing),
        _ => Err(Wrong::Because("and this ORCA launches on EC2 only: expected `ec2`")),
    }
}

pub(super) fn termination_protection(text: &str) -> Parsed {
    match text {
        "false" => Ok(Value::Nothing),
        "true" => Err(Wrong::Because("and the machine ends with its pod: expected `false`")),
        _ => Err(Wrong::Shape),
    }
}

pub(super) fn flag(text: &str) -> Parsed {
    if matches!(text, "true" | "false") { Ok(Value::Nothing) } else { Err(Wrong::Shape) }
}

fn one(text: &str, accept: impl Fn(&str) -> bool) -> Result<String, Wrong> {
    if accept(text) { Ok(text.to_owned()) } else { Err(Wrong::Shape) }
}

/// More entries than anybody means; each is compared with all others.
const MOST: usize = 64;

/// Entries joined with commas, each once; at least one.
fn list(text: &str, accept: impl Fn(&str) -> bool) -> Result<Vec<String>, Wrong> {
    let mut entries: Vec<String> = Vec::new();
    for entry in text.split(',').map(str::trim) {
        if entry.is_empty() || entry.len() > 256 || !accept(entry) {
            return Err(Wrong::Shape);
        }
        if entries.iter().any(|known| known == entry) {
            return Err(Wrong::Because("which names something twice: expected each entry once"));
        }
        if entries.len() == MOST {
            return Err(Wrong::Because("which has more than 64 entries: expected at most so many"));
        }
        entries.push(entry.to_owned());
    }
    Ok(entries)
}
