//! Whether a type of machine is right for a pod, wherever and however it is bought.

use super::Selection;
use super::limits;
use super::rule::Rule;
use crate::capacity::world::{Offer, Usable};
use crate::cloud::{Gpus, InstanceType};
use crate::config::Instances;
use crate::pod::ask::Ask;
use crate::pod::wishes::GpuShare;

const MIB: u64 = 1 << 20;
/// What a machine's kernel, its firmware's tables and the system's own processes take of the memory that is sold.
const MEMORY_KEPT_PERCENT: u64 = 4;
const MEMORY_KEPT: u64 = 512 * MIB;
/// For kubelet, container runtime and the system.
const CPU_KEPT_MILLI: u64 = 100;
/// What a vendor rounds away of a GPU's memory.
const GPU_MEMORY_TOLERANCE_PERCENT: u64 = 5;

/// What a pod can have of a machine of this type.
#[must_use]
pub fn usable(offer: &Offer) -> Usable {
    let nominal = nominal(&offer.shape);
    match offer.learned {
        Some(learned) => Usable {
            cpu_milli: learned.cpu_milli.min(nominal.cpu_milli),
            memory_bytes: learned.memory_bytes.min(nominal.memory_bytes),
        },
        None => Usable {
            cpu_milli: nominal.cpu_milli.saturating_sub(CPU_KEPT_MILLI),
            memory_bytes: (nominal.memory_bytes / 100 * (100 - MEMORY_KEPT_PERCENT))
                .saturating_sub(MEMORY_KEPT),
        },
    }
}

pub(super) fn nominal(shape: &InstanceType) -> Usable {
    Usable { cpu_milli: u64::from(shape.vcpus) * 1000, memory_bytes: shape.memory_mib.saturating_mul(MIB) }
}

/// What a pod asks of a type, read once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand<'q> {
    pub(super) ask: &'q Ask,
    pub(super) rules: &'q Instances,
    maker: Option<&'static str>,
}

impl<'q> Demand<'q> {
    pub(super) fn of(ask: &'q Ask, rules: &'q Instances) -> Self {
        Self { ask, rules, maker: maker(&ask.gpu_resource) }
    }

    /// The first rule that the type breaks, in the order of [`Rule`].
    pub(super) fn check(&self, offer: &Offer, selection: Selection) -> Result<(), Rule> {
        let (shape, wishes) = (&offer.shape, &self.ask.wishes);
        if !limits::allows_type(self.rules, &shape.name) {
            return Err(Rule::TypeNotAllowed);
        }
        let patterns = &wishes.type_patterns;
        let is_chosen = selection != Selection::Listed;
        if is_chosen && !patterns.is_empty() && !patterns.iter().any(|one| matches(one, &shape.name)) {
            return Err(Rule::TypePattern);
        }
        if self.ask.arch.as_ref().is_some_and(|arch| *arch != shape.arch) {
            return Err(Rule::Arch);
        }
        if self.ask.gpus > 0 {
            self.check_gpus(shape)?;
        }
        if shape.efa < wishes.efa {
            return Err(Rule::Efa);
        }
        let has = self.has(offer, selection);
        if self.gpus(shape) < self.ask.gpus {
            return Err(Rule::Gpus);
        }
        if has.cpu_milli < self.ask.cpu_milli {
            return Err(Rule::Cpu);
        }
        if has.memory_bytes < self.ask.memory_bytes {
            return Err(Rule::Memory);
        }
        Ok(())
    }

    /// The kind of its accelerators, not their number.
    fn check_gpus(&self, shape: &InstanceType) -> Result<(), Rule> {
        let wishes = &self.ask.wishes;
        let Some(gpus) = &shape.gpus else {
            return Err(Rule::GpuMaker);
        };
        if self.maker.is_some_and(|maker| !is_by(gpus, maker)) {
            return Err(Rule::GpuMaker);
        }
        if gpus.share_of > 1 && wishes.gpu_share == GpuShare::Whole {
            return Err(Rule::GpuShare);
        }
        if !wishes.gpu_models.is_empty() && !wishes.gpu_models.iter().any(|model| is_model(gpus, model)) {
            return Err(Rule::GpuModel);
        }
        if wishes.gpu_memory_min_mib.is_some_and(|least| !has_gpu_memory(gpus, least)) {
            return Err(Rule::GpuMemory);
        }
        Ok(())
    }

    /// Whether the pod names types or GPU models that this is one of, whatever its size.
    pub(super) fn is_named_kind(&self, shape: &InstanceType) -> bool {
        let wishes = &self.ask.wishes;
        (wishes.type_patterns.is_empty() || wishes.type_patterns.iter().any(|one| matches(one, &shape.name)))
            && (wishes.gpu_models.is_empty()
                || shape
                    .gpus
                    .as_ref()
                    .is_some_and(|gpus| wishes.gpu_models.iter().any(|model| is_model(gpus, model))))
    }

    /// GPUs that count for the pod: a share is one where shares are allowed.
    pub(super) fn gpus(&self, shape: &InstanceType) -> u64 {
        let Some(gpus) = shape.gpus.as_ref().filter(|gpus| self.maker.is_none_or(|maker| is_by(gpus, maker)))
        else {
            return 0;
        };
        match self.ask.wishes.gpu_share {
            GpuShare::Allowed if gpus.share_of > 1 => u64::from(gpus.count.max(1)),
            GpuShare::Allowed | GpuShare::Whole => u64::from(gpus.count),
        }
    }

    /// What is sold, for types that somebody named: they know what it is, and its kubelet admits so much.
    /// What a pod can really have, for types that ORCA chooses.
    pub(super) fn has(&self, offer: &Offer, selection: Selection) -> Usable {
        match selection {
            Selection::Listed | Selection::Named => nominal(&offer.shape),
            Selection::Cheapest => usable(offer),
        }
    }
}

/// Whether a machine has what few pods need: an accelerator, or no hypervisor.
pub(super) fn is_exotic(shape: &InstanceType) -> bool {
    shape.gpus.is_some() || shape.other_accelerator || shape.bare_metal
}

/// `*` at the end stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Who makes what an extended resource stands for; `None` for a resource that an operator made up.
fn maker(resource: &str) -> Option<&'static str> {
    let (domain, _) = resource.split_once('/')?;
    match domain {
        "nvidia.com" => Some("nvidia"),
        "amd.com" => Some("amd"),
        "aws.amazon.com" => Some("aws"),
        "habana.ai" => Some("habana"),
        _ => None,
    }
}

fn is_by(gpus: &Gpus, maker: &str) -> bool {
    gpus.manufacturer.is_empty() || gpus.manufacturer.eq_ignore_ascii_case(maker)
}

/// Every word of the wish is a word of EC2's name: `rtx-pro-6000` is the `RTX PRO Server 6000`, but `l4` no `L40S`.
fn is_model(gpus: &Gpus, wish: &str) -> bool {
    let is_word = |wished: &str| words(&gpus.model).any(|word| word.eq_ignore_ascii_case(wished));
    words(wish).all(is_word)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

/// EC2 counts some GPUs' memory in decimal gigabytes: the 22,888 MiB of an L4 are the 24 GB that everybody knows it by.
fn has_gpu_memory(gpus: &Gpus, least_mib: u64) -> bool {
    const GB: u64 = 1_000_000_000;
    let bytes = gpus.memory_mib.saturating_mul(MIB);
    let whole = (bytes + GB / 2) / GB;
    let is_decimal = bytes.abs_diff(whole * GB) <= MIB;
    let known_as = if is_decimal { whole << 10 } else { gpus.memory_mib };
    let tolerated = gpus.memory_mib + gpus.memory_mib * GPU_MEMORY_TOLERANCE_PERCENT / 100;
    known_as.max(tolerated) >= least_mib
}
