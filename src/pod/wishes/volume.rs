//! `orca.research/root-volume`: what a wish changes of the configured root volume.

use super::collect::Nearest;
use super::keys::Field;
use super::parse::Value;
use crate::cloud::RootVolume;
use crate::config::volume::contradictions;
use crate::config::{Instances, values};
use crate::pod::ask::Problem;
use crate::pod::{quantity, reasons};

/// The parts that are said; the nearest layer counts for each of them alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) size_gib: Option<u32>,
    iops: Option<u32>,
    throughput: Option<u32>,
    pub(crate) kms: Option<String>,
}

impl Volume {
    /// `size=200Gi,iops=6000,throughput=500,kms=alias/ml`; each part at most once, at least one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut volume = Self::default();
        for part in text.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            let taken = match name {
                "size" => volume.size_gib.replace(gib(value)?).is_some(),
                "iops" => volume.iops.replace(within(value, 100, 256_000)?).is_some(),
                "throughput" => volume.throughput.replace(within(value, 125, 2000)?).is_some(),
                "kms" if values::is_name_or_arn(value) => volume.kms.replace(value.to_owned()).is_some(),
                _ => return None,
            };
            if taken {
                return None;
            }
        }
        Some(volume)
    }

    /// As it would be written.
    pub(super) fn to_text(&self) -> String {
        let parts = [
            self.size_gib.map(|size| format!("size={size}Gi")),
            self.iops.map(|iops| format!("iops={iops}")),
            self.throughput.map(|throughput| format!("throughput={throughput}")),
            self.kms.as_ref().map(|kms| format!("kms={kms}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(",")
    }

    /// Takes from a farther layer what is not said.
    pub(super) fn fill_from(&mut self, farther: &Self) {
        self.size_gib = self.size_gib.or(farther.size_gib);
        self.iops = self.iops.or(farther.iops);
        self.throughput = self.throughput.or(farther.throughput);
        if self.kms.is_none() {
            self.kms.clone_from(&farther.kms);
        }
    }

    /// The configured volume with these changes.
    pub(super) fn over(&self, configured: &RootVolume) -> RootVolume {
        RootVolume {
            size_gib: self.size_gib.unwrap_or(configured.size_gib),
            kind: configured.kind.clone(),
            iops: self.iops.or(configured.iops),
            throughput: self.throughput.or(configured.throughput),
            encrypted: configured.encrypted || self.kms.is_some(),
            kms_key_id: self.kms.clone().or_else(|| configured.kms_key_id.clone()),
        }
    }
}

/// Notes what EC2 would refuse of the volume as a whole.
pub(super) fn check(said: &Nearest, rules: &Instances, problems: &mut Vec<Problem>) {
    let Some(said) = said.get(&Field::RootVolume) else { return };
    let Some(Value::RootVolume(volume)) = &said.value else { return };
    for (part, text) in contradictions(&volume.over(&rules.root_volume)) {
        let message = format!(
            "is `{}`, and with it and `instances.rootVolume` the volume's {part} {text}",
            said.shown()
        );
        problems.push(Problem { reason: reasons::CONFLICTING_ANNOTATIONS, path: said.path.clone(), message });
    }
}

/// Whole GiB, rounded up; EC2's limits as `instances.rootVolume.sizeGiB` has them.
fn gib(text: &str) -> Option<u32> {
    let gib = quantity::whole(text)?.div_ceil(1 << 30);
    u32::try_from(gib).ok().filter(|gib| (8..=65_536).contains(gib))
}

fn within(text: &str, least: u32, most: u32) -> Option<u32> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}
