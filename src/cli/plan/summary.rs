//! What a pod asks for, in one line. Pure.

use std::time::Duration;

use crate::cloud::{ImageWish, Tenancy};
use crate::pod::ask::Ask;
use crate::pod::wishes::{Preference, Wishes};

/// Such as `1 nvidia.com/gpu, 4 CPU, 16Gi memory; models l4, a10g; spot, on-demand; at most $1.50 per hour`.
pub(super) fn summary(ask: &Ask) -> String {
    let mut parts = vec![resources(ask)];
    parts.extend(ask.arch.clone());
    types(&ask.wishes, &mut parts);
    market(&ask.wishes, &mut parts);
    place(&ask.wishes, &mut parts);
    times(ask, &mut parts);
    parts.join("; ")
}

fn resources(ask: &Ask) -> String {
    let mut amounts = Vec::new();
    if ask.gpus > 0 {
        amounts.push(format!("{} {}", ask.gpus, ask.gpu_resource));
    }
    if ask.cpu_milli > 0 {
        amounts.push(format!("{} CPU", cpu(ask.cpu_milli)));
    }
    if ask.memory_bytes > 0 {
        amounts.push(format!("{} memory", bytes(ask.memory_bytes)));
    }
    if ask.ephemeral_bytes > 0 {
        amounts.push(format!("{} ephemeral storage", bytes(ask.ephemeral_bytes)));
    }
    if amounts.is_empty() { "no resources".to_owned() } else { amounts.join(", ") }
}

fn types(wishes: &Wishes, parts: &mut Vec<String>) {
    let mut list = |what: &str, all: &[String]| {
        if !all.is_empty() {
            parts.push(format!("{what} {}", all.join(", ")));
        }
    };
    list("template", wishes.template.as_slice());
    list("of the types", &wishes.instance_types);
    list("of types like", &wishes.type_patterns);
    list("GPU model", &wishes.gpu_models);
    if let Some(mib) = wishes.gpu_memory_min_mib {
        parts.push(format!("{} per GPU", bytes(mib << 20)));
    }
    if wishes.efa > 0 {
        parts.push(format!("{} EFA", wishes.efa));
    }
}

fn market(wishes: &Wishes, parts: &mut Vec<String>) {
    if !wishes.capacity_types.is_empty() {
        let names: Vec<_> = wishes.capacity_types.iter().map(|one| one.name()).collect();
        parts.push(format!("as {}", names.join(", ")));
    }
    let reservation = &wishes.reservation;
    let mut named = reservation.ids.clone();
    named.extend(reservation.group_arn.clone());
    named.extend(reservation.selector.iter().map(|_| "those of the selector".to_owned()));
    let named = if named.is_empty() { String::new() } else { format!(" {}", named.join(", ")) };
    match reservation.preference {
        Preference::None => {}
        Preference::Prefer => parts.push(format!("reservations preferred{named}")),
        Preference::Required => parts.push(format!("reservations required{named}")),
    }
    parts.extend(wishes.block_id.as_ref().map(|id| format!("Capacity Block {id}")));
    parts.extend(wishes.max_price.map(|price| format!("at most ${price} per hour")));
    parts.extend(wishes.max_spot_price.map(|price| format!("spot at most ${price} per hour")));
}

fn place(wishes: &Wishes, parts: &mut Vec<String>) {
    if !wishes.zones.is_empty() {
        parts.push(format!("in {}", wishes.zones.join(", ")));
    }
    if !wishes.subnet_ids.is_empty() {
        parts.push(format!("in {}", wishes.subnet_ids.join(", ")));
    }
    parts.extend(wishes.placement_group.as_ref().map(|group| format!("placement group {group}")));
    if wishes.tenancy == Tenancy::Dedicated {
        parts.push("dedicated".to_owned());
    }
    parts.extend(wishes.image.as_ref().map(|image| match image {
        ImageWish::Id(id) | ImageWish::Parameter(id) => format!("image {id}"),
    }));
}

fn times(ask: &Ask, parts: &mut Vec<String>) {
    let Wishes { min_runtime, max_lifetime, capacity_wait, .. } = &ask.wishes;
    let mut time = |what: &str, time: Option<Duration>| {
        parts.extend(time.map(|time| format!("{what} {}", duration(time.as_secs()))));
    };
    time("runs at least", *min_runtime);
    time("ends after", ask.active_deadline);
    time("machine lives at most", *max_lifetime);
    time("waits at most", capacity_wait.filter(|wait| !wait.is_zero()));
}

fn cpu(milli: u64) -> String {
    if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") }
}

/// With the largest unit that is exact.
fn bytes(bytes: u64) -> String {
    let units = [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    let exact = units.into_iter().find(|(shift, _)| bytes.is_multiple_of(1 << shift));
    exact.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// The two largest units: `3d4h`, `5m`, `12s`.
pub(in crate::cli) fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut left = seconds;
    let mut shown = String::new();
    for (size, unit) in units.into_iter().skip_while(|(size, _)| *size > seconds).take(2) {
        if left / size > 0 {
            shown += &format!("{}{unit}", left / size);
        }
        left %= size;
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::money::MicroUsd;
    use crate::pod::wishes::{CapacityType, ReservationWish};

    #[test]
    fn everything_that_is_asked_for_is_in_the_line() {
        let ask = Ask {
            gpus: 8,
            gpu_resource: "nvidia.com/gpu".to_owned(),
            cpu_milli: 3500,
            memory_bytes: 48 << 30,
            arch: Some("amd64".to_owned()),
            active_deadline: Some(Duration::from_secs(5400)),
            wishes: Wishes {
                template: Some("gpu".to_owned()),
                gpu_models: vec!["h100".to_owned(), "h200".to_owned()],
                capacity_types: vec![CapacityType::Spot, CapacityType::OnDemand],
                reservation: ReservationWish {
                    preference: Preference::Prefer,
                    ids: vec!["cr-1".to_owned()],
                    ..ReservationWish::default()
                },
                max_price: Some(MicroUsd(60_000_000)),
                zones: vec!["us-east-1a".to_owned()],
                capacity_wait: Some(Duration::from_secs(21_600)),
                ..Wishes::default()
            },
            ..Ask::default()
        };
        assert_eq!(
            summary(&ask),
            "8 nvidia.com/gpu, 3500m CPU, 48Gi memory; amd64; template gpu; GPU model h100, h200; \
             as spot, on-demand; reservations preferred cr-1; at most $60.00 per hour; in us-east-1a; \
             ends after 1h30m; waits at most 6h"
        );
        assert_eq!(summary(&Ask::default()), "no resources");
    }

    #[test]
    fn times_have_two_units() {
        let shown = [0, 59, 60, 3661, 90_000, 1_000_000].map(duration);
        assert_eq!(shown, ["0s", "59s", "1m", "1h1m", "1d1h", "11d13h"]);
    }
}
