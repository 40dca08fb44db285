//! The catalog and prices that ORCA carries with it, for where the cloud cannot be asked: `orca plan --offline`, and
//! until the first answer.
//!
//! The table is `shipped.csv`, with its date and sources. It does not know which zone offers what: offers have no
//! zones, and a plan takes an offer of this catalog to be in every zone that has a subnet.
//! It has no spot prices either.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::money::MicroUsd;
use super::world::{Catalog, Offer, Prices, Source};
use crate::cloud::{Gpus, InstanceType, Usage};

/// The region that the shipped prices are of.
pub const REGION: &str = "us-east-1";

const TABLE: &str = include_str!("shipped.csv");
/// 2026-07-20, when the prices were read.
const AS_OF: i64 = 1_784_505_600;

/// The shipped types, and their prices on demand in [`REGION`].
#[must_use]
pub fn shipped() -> (Catalog, Prices) {
    let as_of = Timestamp::from_second(AS_OF).ok();
    let mut types = BTreeMap::new();
    let mut on_demand = HashMap::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')).skip(1) {
        // A test reads every line.
        let Some((shape, price)) = read(line) else {
            continue;
        };
        on_demand.extend(price.map(|price| (shape.name.clone(), price)));
        types.insert(shape.name.clone(), Offer { shape, ..Offer::default() });
    }
    let catalog = Catalog { types, source: Source::Shipped, as_of };
    let prices = Prices {
        on_demand,
        on_demand_source: Source::Shipped,
        on_demand_as_of: as_of,
        spot: HashMap::new(),
        spot_as_of: None,
    };
    (catalog, prices)
}

fn read(line: &str) -> Option<(InstanceType, Option<MicroUsd>)> {
    let fields: Vec<&str> = line.split(',').collect();
    let &[name, arch, vcpus, memory_mib, gpus, efa, flags, price] = fields.as_slice() else {
        return None;
    };
    let has = |flag: &str| flags.split(' ').any(|one| one == flag);
    let shape = InstanceType {
        name: name.to_owned(),
        vcpus: vcpus.parse().ok()?,
        memory_mib: memory_mib.parse().ok()?,
        arch: arch.to_owned(),
        gpus: if gpus.is_empty() { None } else { Some(read_gpus(gpus)?) },
        nitro: !has("xen"),
        bare_metal: has("metal"),
        other_accelerator: has("other"),
        usage: Usage { capacity_block: has("block"), ..Usage::default() },
        efa: efa.parse().ok()?,
        local_disk_gb: 0,
    };
    let price = if price.is_empty() { None } else { Some(price.parse().ok()?) };
    Some((shape, price))
}

fn read_gpus(text: &str) -> Option<Gpus> {
    let fields: Vec<&str> = text.split('/').collect();
    let &[count, share_of, manufacturer, model, memory_mib] = fields.as_slice() else {
        return None;
    };
    Some(Gpus {
        count: count.parse().ok()?,
        share_of: share_of.parse().ok()?,
        model: model.to_owned(),
        manufacturer: manufacturer.to_owned(),
        memory_mib: memory_mib.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> impl Iterator<Item = &'static str> {
        TABLE.lines().filter(|line| !line.starts_with('#')).skip(1)
    }

    #[test]
    fn every_line_of_the_table_is_read_once() {
        let (catalog, _) = shipped();
        for line in lines() {
            assert!(read(line).is_some(), "{line}");
        }
        assert_eq!(catalog.types.len(), lines().count());
        assert!(catalog.types.len() > 150);
        assert_eq!(catalog.as_of.unwrap().to_string(), "2026-07-20T00:00:00Z");
        assert!(TABLE.contains("as of 2026-07-20"));
    }

    /// One line for each kind of type.
    #[test]
    fn types_are_as_ec2_describes_them() {
        let (catalog, prices) = shipped();
        for (name, expected) in [
            ("t3.nano", "amd64 2 512 - efa 0 nitro od spot $0.0052"),
            ("m7g.medium", "arm64 1 4096 - efa 0 nitro od spot $0.0408"),
            ("m5.24xlarge", "amd64 96 393216 - efa 0 nitro od spot $4.608"),
            ("c5.18xlarge", "amd64 72 147456 - efa 0 nitro od spot $3.06"),
            ("r7i.48xlarge", "amd64 192 1572864 - efa 1 nitro od spot $12.7008"),
            ("g5.12xlarge", "amd64 48 196608 4xA10G 22888 efa 1 nitro od spot $5.672"),
            ("g5g.metal", "arm64 64 131072 2xT4g 16384 efa 0 nitro metal od spot $2.744"),
            ("g6f.large", "amd64 2 8192 1/8xL4 2861 efa 0 nitro od spot $0.202"),
            ("p5.48xlarge", "amd64 192 2097152 8xH100 81920 efa 32 nitro od spot block $55.04"),
            ("p5e.48xlarge", "amd64 192 2097152 8xH200 144384 efa 32 nitro od spot block $?"),
            ("p3.2xlarge", "amd64 8 62464 1xV100 16384 efa 0 od spot $3.06"),
            ("f2.48xlarge", "amd64 192 2097152 - efa 1 nitro other od spot $15.84"),
            ("inf2.48xlarge", "amd64 192 786432 12xInferentia2 32768 efa 0 nitro od spot $12.98127"),
        ] {
            assert_eq!(show(&catalog.types[name].shape, &prices), expected, "{name}");
        }
    }

    fn show(shape: &InstanceType, prices: &Prices) -> String {
        let gpus = shape.gpus.as_ref().map_or_else(
            || "-".to_owned(),
            |gpus| {
                let count =
                    if gpus.share_of > 1 { format!("1/{}", gpus.share_of) } else { gpus.count.to_string() };
                format!("{count}x{} {}", gpus.model, gpus.memory_mib)
            },
        );
        let words = [
            (shape.nitro, "nitro"),
            (shape.bare_metal, "metal"),
            (shape.other_accelerator, "other"),
            (shape.usage.on_demand, "od"),
            (shape.usage.spot, "spot"),
            (shape.usage.capacity_block, "block"),
        ];
        let words: Vec<_> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        let price = prices.on_demand.get(&shape.name).map_or_else(|| "?".to_owned(), ToString::to_string);
        format!(
            "{} {} {} {gpus} efa {} {} ${price}",
            shape.arch,
            shape.vcpus,
            shape.memory_mib,
            shape.efa,
            words.join(" ")
        )
    }
}
