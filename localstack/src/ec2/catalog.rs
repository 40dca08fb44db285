//! The instance types that can be bought, with their real figures, as EC2's DescribeInstanceTypes tells them.
//!
//! They are a table of text beside this file, `catalog/types.txt`, which says where the figures are from. Not every
//! type is in every zone. GPU memory is what AWS reports, which for some models is less than sold.

use std::sync::LazyLock;

/// An instance type.
#[derive(Debug, PartialEq)]
pub struct InstanceType {
    pub name: &'static str,
    pub vcpus: u32,
    pub threads_per_core: u32,
    pub memory_mib: u64,
    /// `x86_64` or `arm64`.
    pub architecture: &'static str,
    pub manufacturer: &'static str,
    pub ghz: f64,
    /// `on-demand`, `spot`, `capacity-block`.
    pub usage: Vec<&'static str>,
    pub accelerator: Option<Accelerator>,
    /// Local disks: count and GB of each.
    pub disks: Option<(u32, u64)>,
    pub network: &'static str,
    pub interfaces: u32,
    pub cards: u32,
    pub addresses_per_interface: u32,
    /// EFA interfaces.
    pub efa: u32,
    /// Last letters of the zones that offer it.
    pub zones: &'static str,
    /// On demand, Linux, in millionths of a dollar an hour; `None` if it is not in the price list.
    pub price: Option<u64>,
}

/// Accelerators of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Accelerator {
    pub kind: Kind,
    pub manufacturer: &'static str,
    pub model: String,
    /// Whole devices; 0 where the type has a part of one.
    pub count: u32,
    /// Which part of a device it has; 1 for whole ones.
    pub fraction: f64,
    /// Of each.
    pub memory_mib: u64,
    /// Of a Neuron device: its cores and their version.
    pub cores: Option<(u32, u32)>,
}

/// What an accelerator is, which decides how EC2 describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gpu,
    Neuron,
    Fpga,
    Media,
}

impl Accelerator {
    /// The memory of all of them.
    #[must_use]
    pub fn total_mib(&self) -> u64 {
        u64::from(self.count.max(1)) * self.memory_mib
    }
}

impl InstanceType {
    #[must_use]
    pub fn cores(&self) -> u32 {
        self.vcpus / self.threads_per_core
    }

    /// Whether a zone, by its name, has this type.
    #[must_use]
    pub fn offered_in(&self, zone: &str) -> bool {
        self.zones.chars().any(|letter| zone.ends_with(letter))
    }

    #[must_use]
    pub fn family(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(family, _)| family)
    }

    #[must_use]
    pub fn bare_metal(&self) -> bool {
        self.name.contains(".metal")
    }

    /// `nitro` or `xen`; bare metal has none.
    #[must_use]
    pub fn hypervisor(&self) -> Option<&'static str> {
        let xen = self.family() == "p3";
        (!self.bare_metal()).then_some(if xen { "xen" } else { "nitro" })
    }

    #[must_use]
    pub fn burstable(&self) -> bool {
        self.name.starts_with('t') && !self.name.starts_with("trn")
    }

    #[must_use]
    pub fn current(&self) -> bool {
        self.family() != "p3"
    }

    /// The GPUs that its machine shows: a part of one is one.
    #[must_use]
    pub fn gpus(&self) -> Option<(u32, &str)> {
        let gpu =
            self.accelerator.as_ref().filter(|it| it.kind == Kind::Gpu && it.manufacturer == "NVIDIA")?;
        Some((gpu.count.max(1), &gpu.model))
    }
}

/// A type by its name.
#[must_use]
pub fn find(name: &str) -> Option<&'static InstanceType> {
    CATALOG.iter().find(|kind| kind.name == name)
}

/// All types.
pub static CATALOG: LazyLock<Vec<InstanceType>> = LazyLock::new(|| {
    let lines = include_str!("catalog/types.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| parse(line).expect("a test reads every line of the table")).collect()
});

/// One line of the table. Its last column may have spaces.
fn parse(line: &'static str) -> Option<InstanceType> {
    let mut rest = line;
    let mut next = || {
        let (word, others) = rest.trim_start().split_once(' ')?;
        rest = others;
        Some(word)
    };
    let kind = InstanceType {
        name: next()?,
        zones: next()?,
        usage: next()?.chars().map(usage).collect::<Option<_>>()?,
        vcpus: next()?.parse().ok()?,
        threads_per_core: next()?.parse().ok()?,
        memory_mib: next()?.parse().ok()?,
        architecture: next()?,
        manufacturer: next()?,
        ghz: next()?.parse().ok()?,
        interfaces: next()?.parse().ok()?,
        cards: next()?.parse().ok()?,
        addresses_per_interface: next()?.parse().ok()?,
        efa: next()?.parse().ok()?,
        disks: optional(next()?, |text| {
            let (count, size) = text.split_once('x')?;
            Some((count.parse().ok()?, size.parse().ok()?))
        })?,
        accelerator: optional(next()?, accelerator)?,
        price: optional(next()?, micros)?,
        network: "",
    };
    Some(InstanceType { network: rest.trim(), ..kind })
}

/// A column that is `-` where there is nothing.
fn optional<T>(text: &'static str, read: impl FnOnce(&'static str) -> Option<T>) -> Option<Option<T>> {
    if text == "-" { Some(None) } else { read(text).map(Some) }
}

fn usage(letter: char) -> Option<&'static str> {
    match letter {
        'o' => Some("on-demand"),
        's' => Some("spot"),
        'b' => Some("capacity-block"),
        _ => None,
    }
}

/// `kind:manufacturer:model:count:MiB`, with `0@fraction` as count, and `:coresvversion` of a Neuron device.
fn accelerator(text: &'static str) -> Option<Accelerator> {
    let parts: Vec<&'static str> = text.split(':').collect();
    let (&[kind, manufacturer, model, count, memory], cores) = parts.split_first_chunk()?;
    let kind = match kind {
        "gpu" => Kind::Gpu,
        "neuron" => Kind::Neuron,
        "fpga" => Kind::Fpga,
        "media" => Kind::Media,
        _ => return None,
    };
    let (count, fraction) = count.split_once('@').unwrap_or((count, "1"));
    let cores = match cores {
        [cores] => cores.split_once('v').and_then(|(n, v)| Some((n.parse().ok()?, v.parse().ok()?))),
        _ => None,
    };
    Some(Accelerator {
        kind,
        manufacturer,
        model: model.replace('_', " "),
        count: count.parse().ok()?,
        fraction: fraction.parse().ok()?,
        memory_mib: memory.parse().ok()?,
        cores,
    })
}

/// Dollars as text in millionths, without a detour over binary fractions.
#[must_use]
pub fn micros(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

/// Millionths of a dollar as dollars, with as many digits as EC2 writes.
#[must_use]
pub fn dollars(micros: u64, digits: usize) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    format!("{text:0<width$}", width = text.len() + digits.saturating_sub(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_names_are_unique_and_every_type_is_somewhere() {
        for line in include_str!("catalog/types.txt").lines().filter(|line| !line.starts_with('#')) {
            let kind = parse(line).unwrap_or_else(|| panic!("not understood: {line}"));
            assert!(!kind.zones.is_empty() && kind.zones.chars().all(|zone| "abc".contains(zone)), "{line}");
            assert!(kind.memory_mib > 0 && kind.cores() > 0 && kind.cards > 0, "{line}");
            assert!(kind.interfaces >= kind.cards && kind.efa <= kind.interfaces, "{line}");
            assert!(kind.network.ends_with("Gigabit"), "{line}");
            let cores = kind.accelerator.as_ref().map(|it| (it.kind == Kind::Neuron) == it.cores.is_some());
            assert_ne!(cores, Some(false), "{line}");
        }
        let names: std::collections::BTreeSet<_> = CATALOG.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), CATALOG.len());
        assert!(CATALOG.iter().any(|kind| kind.zones.len() < 3));
    }

    #[test]
    fn what_follows_from_a_name_does() {
        let kind = |name| find(name).unwrap();
        assert_eq!([kind("t3.nano"), kind("trn1.2xlarge")].map(InstanceType::burstable), [true, false]);
        let hypervisors = ["g5.xlarge", "g4dn.metal", "p3.2xlarge"].map(|name| kind(name).hypervisor());
        assert_eq!(hypervisors, [Some("nitro"), None, Some("xen")]);
        let gpus = ["g6f.large", "p5.48xlarge", "g4ad.xlarge", "inf2.xlarge"].map(|name| kind(name).gpus());
        assert_eq!(gpus, [Some((1, "L4")), Some((8, "H100")), None, None]);
    }

    #[test]
    fn prices_are_exact() {
        assert_eq!(find("p4d.24xlarge").unwrap().price, Some(21_957_642));
        assert_eq!(micros("0.3785").map(|price| dollars(price, 10)), Some("0.3785000000".to_owned()));
        assert_eq!(micros("12").map(|price| dollars(price, 6)), Some("12.000000".to_owned()));
        for bad in ["", ".5", "1.2345678", "-1", "1e3", "1,5"] {
            assert_eq!(micros(bad), None, "{bad}");
        }
    }
}
