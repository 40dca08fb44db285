//! Layers as one line of text, and wishes as one line of text.

use std::fmt::Write as _;
use std::time::Duration;

use crate::cloud::{ImageWish, Tenancy};
use crate::config::{Instances, SelectionMode};
use crate::pod::layers::Layer;
use crate::pod::wishes::{CapacityType, GpuShare, Preference, Wishes};

/// The world of the cases: some templates may be added by a line.
pub(super) fn mk_rules() -> Instances {
    Instances {
        region: "us-east-1".to_owned(),
        subnet_ids: vec!["subnet-aaaa".to_owned(), "subnet-bbbb".to_owned()],
        ..Instances::default()
    }
}

pub(super) fn with_mode(selection_mode: SelectionMode) -> Instances {
    Instances { selection_mode, ..mk_rules() }
}

/// `pod: a=b; c=d | owner: … | namespace: … | template NAME: … | defaults: …` → wishes or refusal.
pub(super) fn read(line: &str, rules: &Instances) -> String {
    let mut rules = rules.clone();
    let mut layers = vec![Layer { origin: "metadata.annotations".to_owned(), ..Layer::default() }];
    for part in line.split(" | ").filter(|part| !part.is_empty()) {
        let (place, values) = part.split_once(':').unwrap();
        let pairs: Vec<(&str, &str)> = values
            .split(';')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap())
            .collect();
        let layer = |origin: &str| Layer::of_settings(origin, &pairs);
        match place.split_once(' ') {
            None if place == "pod" => layers[0] = layer("metadata.annotations"),
            None if place == "owner" => layers.push(layer("Job train metadata.annotations")),
            None if place == "namespace" => layers.push(layer("Namespace ml metadata.annotations")),
            None if place == "defaults" => rules.defaults = layer("instances.defaults"),
            Some(("template", name)) => {
                let template = layer(&format!("instances.templates.{name}"));
                drop(rules.templates.insert(name.to_owned(), template));
            }
            _ => panic!("{place}"),
        }
    }
    match Wishes::read(&layers, &rules) {
        Ok(wishes) => show(&wishes),
        Err(rejection) => format!("{}: {rejection}", rejection.reason()),
    }
}

/// Every line must give what it says.
pub(super) fn check(rules: &Instances, cases: &[(&str, &str, &str)]) {
    for (sentence, line, expected) in cases {
        assert_eq!(read(line, rules), *expected, "{sentence}\n{line}");
    }
}

/// What differs from no wishes at all.
fn show(wishes: &Wishes) -> String {
    let Wishes {
        instance_types,
        type_patterns,
        template,
        gpu_models,
        gpu_memory_min_mib,
        gpu_share,
        capacity_types,
        reservation,
        block_id,
        max_price,
        max_spot_price,
        zones,
        subnet_ids,
        placement_group,
        tenancy,
        efa,
        image,
        instance_profile,
        security_group_ids,
        root_volume,
        max_lifetime,
        min_runtime,
        estimated_duration,
        capacity_wait,
    } = wishes;
    let mut line = String::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            write!(line, "{}{name}={value}", if line.is_empty() { "" } else { " " }).unwrap();
        }
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let seconds = |time: &Option<Duration>| time.map_or(String::new(), |time| format!("{}s", time.as_secs()));
    put("types", instance_types.join(","));
    put("patterns", type_patterns.join(","));
    put("template", text(template));
    put("models", gpu_models.join(","));
    put("memory", gpu_memory_min_mib.map_or(String::new(), |mib| format!("{mib}MiB")));
    put("share", if *gpu_share == GpuShare::Allowed { "yes".to_owned() } else { String::new() });
    let markets: Vec<&str> = capacity_types.iter().map(|one: &CapacityType| one.name()).collect();
    put("markets", markets.join(","));
    let preference = match reservation.preference {
        Preference::None => "",
        Preference::Prefer => "prefer",
        Preference::Required => "required",
    };
    put("reservation", preference.to_owned());
    put("ids", reservation.ids.join(","));
    put("group", text(&reservation.group_arn));
    if let Some(selector) = &reservation.selector {
        put("owner", text(&selector.owner_id));
        let tags =
            selector.tags.iter().map(|(key, value)| format!("{key}:{}", value.as_deref().unwrap_or("*")));
        put("tags", tags.collect::<Vec<_>>().join(","));
    }
    put("block", text(block_id));
    put("max", max_price.map_or(String::new(), |price| price.to_string()));
    put("spot-max", max_spot_price.map_or(String::new(), |price| price.to_string()));
    put("zones", zones.join(","));
    put("subnets", subnet_ids.join(","));
    put("placement", text(placement_group));
    put("tenancy", if *tenancy == Tenancy::Dedicated { "dedicated".to_owned() } else { String::new() });
    put("efa", if *efa == 0 { String::new() } else { efa.to_string() });
    put(
        "image",
        match image {
            Some(ImageWish::Id(id) | ImageWish::Parameter(id)) => id.clone(),
            None => String::new(),
        },
    );
    put("profile", text(instance_profile));
    put("groups", security_group_ids.join(","));
    if let Some(volume) = root_volume {
        let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let kms = volume.kms_key_id.as_deref().unwrap_or("-");
        put(
            "volume",
            format!("{}/{}/{}/{kms}", volume.size_gib, number(volume.iops), number(volume.throughput)),
        );
    }
    put("lifetime", seconds(max_lifetime));
    put("runtime", seconds(min_runtime));
    put("estimate", seconds(estimated_duration));
    put("wait", seconds(capacity_wait));
    line
}
