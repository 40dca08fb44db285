//! What can be rented: GPU types, CPU flavors and data centers, all fixed.
//!
//! Ids, names, memory and pools are RunPod's; prices are in the order of its list. What is in stock is in `stock`.

mod answer;
mod tables;

pub use self::answer::{cpu, cpus, data_center, data_centers, gpu, gpus};
pub use self::tables::{CPUS, DATA_CENTERS, GPUS};

/// Millionths of a US dollar.
pub type Micros = i64;

/// Which hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Cloud {
    Secure,
    Community,
}

impl Cloud {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Secure => "SECURE",
            Self::Community => "COMMUNITY",
        }
    }
}

/// A GPU type; one GPU of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    pub id: &'static str,
    pub name: &'static str,
    pub pool: Option<&'static str>,
    pub manufacturer: &'static str,
    /// GB.
    pub memory: u32,
    /// An hour; 0 where that cloud has none.
    pub secure: Micros,
    pub community: Micros,
    /// GPUs of the largest machine.
    pub max_secure: u32,
    pub max_community: u32,
    /// vCPUs and GB of memory that come with each.
    pub vcpus: u32,
    pub ram: u32,
    /// Where there are some.
    pub data_centers: &'static [&'static str],
}

impl Gpu {
    #[must_use]
    pub fn find(id: &str) -> Option<&'static Self> {
        GPUS.iter().find(|gpu| gpu.id == id)
    }

    /// An hour of one.
    #[must_use]
    pub fn price(&self, cloud: Cloud) -> Micros {
        match cloud {
            Cloud::Secure => self.secure,
            Cloud::Community => self.community,
        }
    }

    #[must_use]
    pub fn max(&self, cloud: Cloud) -> u32 {
        match cloud {
            Cloud::Secure => self.max_secure,
            Cloud::Community => self.max_community,
        }
    }

    /// CUDA versions of its machines. AMD's report none.
    #[must_use]
    pub fn cuda_versions(&self) -> &'static [&'static str] {
        if self.manufacturer == "NVIDIA" { &["12.4", "12.8", "13.0"] } else { &[] }
    }
}

/// A CPU flavor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    pub id: &'static str,
    pub name: &'static str,
    pub group: &'static str,
    pub min: u32,
    pub max: u32,
    /// GB for each vCPU.
    pub ram: u32,
    /// An hour of a vCPU.
    pub price: Micros,
    pub data_centers: &'static [&'static str],
}

impl Cpu {
    #[must_use]
    pub fn find(id: &str) -> Option<&'static Self> {
        CPUS.iter().find(|cpu| cpu.id == id)
    }
}

/// A data center.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataCenter {
    pub id: &'static str,
    pub name: &'static str,
    pub region: &'static str,
    /// ISO 3166-1 alpha-2.
    pub country: &'static str,
    pub global_network: bool,
    pub volume_types: &'static [&'static str],
    pub compliance: &'static [&'static str],
}

impl DataCenter {
    #[must_use]
    pub fn find(id: &str) -> Option<&'static Self> {
        DATA_CENTERS.iter().find(|center| center.id == id)
    }
}

/// `12.11` is above `12.2`. `None` for what is no version.
#[must_use]
pub fn cuda_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// As JSON has it.
#[must_use]
pub fn dollars(micros: Micros) -> f64 {
    // Exact up to nine billion dollars.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let dollars = micros as f64 / 1e6;
    dollars
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_tables_agree_with_each_other() {
        let centers: BTreeSet<_> = DATA_CENTERS.iter().map(|center| center.id).collect();
        assert_eq!(centers.len(), DATA_CENTERS.len());
        let ids: BTreeSet<_> = GPUS.iter().map(|gpu| gpu.id).chain(CPUS.iter().map(|cpu| cpu.id)).collect();
        assert_eq!(ids.len(), GPUS.len() + CPUS.len());
        for gpu in GPUS {
            assert!(gpu.data_centers.iter().all(|id| centers.contains(id)), "{}", gpu.id);
            assert_eq!(gpu.secure > 0, gpu.max_secure > 0, "{}", gpu.id);
            assert_eq!(gpu.community > 0, gpu.max_community > 0, "{}", gpu.id);
            assert!(gpu.secure + gpu.community > 0 && !gpu.data_centers.is_empty(), "{}", gpu.id);
        }
        for cpu in CPUS {
            assert!(cpu.data_centers.iter().all(|id| centers.contains(id)), "{}", cpu.id);
            assert!(
                cpu.min.is_power_of_two() && cpu.max.is_power_of_two() && cpu.min < cpu.max,
                "{}",
                cpu.id
            );
        }
        // What clients must encode in a path.
        assert!(GPUS.iter().any(|gpu| gpu.id.contains('/')) && GPUS.iter().any(|gpu| gpu.id.contains(' ')));
    }

    #[test]
    fn versions_are_numbers_and_not_decimals() {
        assert!(cuda_version("12.11") > cuda_version("12.2"));
        assert_eq!(cuda_version("12"), Some((12, 0)));
        assert_eq!(cuda_version("a.b"), None);
    }
}
