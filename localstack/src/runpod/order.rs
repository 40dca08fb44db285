//! A pod as it was asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::catalog::{Cloud, Cpu, Gpu, Micros, cuda_version};
use super::command::Command;
use super::problem::Problem;

/// GB. A CPU pod with less disk is told that there is no capacity.
pub const CPU_DISK: u32 = 20;

/// Private TCP ports from here on stand for one that is the same inside and outside.
const SYMMETRIC: u32 = 70_000;

/// A pod as it was asked for, and changed later.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub name: String,
    pub image: String,
    /// As it was given.
    pub args: String,
    pub command: Command,
    /// GB.
    pub disk: u32,
    pub env: BTreeMap<String, String>,
    pub ports: Vec<Port>,
    pub registry: Option<String>,
    pub compute: Compute,
    pub cloud: Cloud,
    /// Wished for, the first first; empty for any.
    pub data_centers: Vec<String>,
    pub mounts: Mounts,
    pub global_networking: bool,
    pub start_ssh: bool,
    pub start_jupyter: bool,
}

/// Hardware.
#[derive(Clone, Debug, PartialEq)]
pub enum Compute {
    Gpu {
        gpu: &'static Gpu,
        count: u32,
        versions: Vec<String>,
        at_least: Option<String>,
        ram: u32,
        vcpus: u32,
    },
    Cpu {
        cpu: &'static Cpu,
        vcpus: u32,
    },
}

impl Compute {
    /// An hour of it.
    #[must_use]
    pub fn price(&self, cloud: Cloud) -> Micros {
        match self {
            Self::Gpu { gpu, count, .. } => gpu.price(cloud) * Micros::from(*count),
            Self::Cpu { cpu, vcpus } => cpu.price * Micros::from(*vcpus),
        }
    }

    /// Type, and how many are taken of its stock.
    #[must_use]
    pub fn takes(&self) -> (&'static str, u32) {
        match self {
            Self::Gpu { gpu, count, .. } => (gpu.id, *count),
            Self::Cpu { cpu, vcpus } => (cpu.id, *vcpus),
        }
    }

    /// Where there is such hardware.
    #[must_use]
    pub fn data_centers(&self) -> &'static [&'static str] {
        match self {
            Self::Gpu { gpu, .. } => gpu.data_centers,
            Self::Cpu { cpu, .. } => cpu.data_centers,
        }
    }

    /// Whether any machine of this type is as asked for.
    #[must_use]
    pub fn exists(&self, cloud: Cloud) -> bool {
        match self {
            Self::Cpu { .. } => cloud == Cloud::Secure,
            Self::Gpu { gpu, count, ram, vcpus, .. } => {
                *count <= gpu.max(cloud) && *ram <= gpu.ram && *vcpus <= gpu.vcpus && self.cuda().is_some()
            }
        }
    }

    /// The version that a fitting host reports: the lowest. `Some(None)` where hosts report none.
    #[must_use]
    pub fn cuda(&self) -> Option<Option<&'static str>> {
        let Self::Gpu { gpu, versions, at_least, .. } = self else { return Some(None) };
        let least = at_least.as_deref().and_then(cuda_version);
        let fits = |version: &&&str| {
            (versions.is_empty() || versions.iter().any(|one| one == **version))
                && cuda_version(version) >= least
        };
        match gpu.cuda_versions() {
            [] if versions.is_empty() && at_least.is_none() => Some(None),
            offered => offered.iter().find(fits).map(|version| Some(*version)),
        }
    }
}

/// A port of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// From 70000 on, a TCP port stands for whichever is mapped to itself.
    pub number: u32,
    pub kind: PortKind,
}

/// How a port is reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    Tcp,
    Http,
}

impl Port {
    #[must_use]
    pub fn is_symmetric(self) -> bool {
        self.kind == PortKind::Tcp && self.number >= SYMMETRIC
    }

    /// Of a text such as `22/tcp`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, kind) = text.split_once('/')?;
        let kind = match kind {
            "tcp" => PortKind::Tcp,
            "http" => PortKind::Http,
            _ => return None,
        };
        let port = Self { number: number.parse().ok()?, kind };
        let is_port = (1..=65_535).contains(&port.number);
        (is_port || port.is_symmetric() && port.number < SYMMETRIC + 10_000).then_some(port)
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            PortKind::Tcp => "tcp",
            PortKind::Http => "http",
        };
        write!(f, "{}/{kind}", self.number)
    }
}

/// At most one of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<Persistent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Vec<Network>>,
}

/// On the pod's host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistent {
    /// GB.
    pub size: u32,
    pub path: String,
}

/// A network volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    pub volume_id: String,
    pub path: String,
}

impl Mounts {
    #[must_use]
    pub fn volume(&self) -> Option<&Network> {
        self.network.as_deref().and_then(<[_]>::first)
    }

    /// GB of the persistent one.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.persistent.as_ref().map_or(0, |mount| mount.size)
    }

    /// The rules between them.
    pub fn check(&self) -> Result<(), Problem> {
        if self.persistent.is_some() && self.network.is_some() {
            return Err(Problem::rule("mounts.persistent and mounts.network are mutually exclusive"));
        }
        if self.network.as_ref().is_some_and(Vec::is_empty) {
            return Err(Problem::rule("mounts.network must not be empty"));
        }
        let paths = self.persistent.iter().map(|mount| &mount.path);
        let paths = paths.chain(self.network.iter().flatten().map(|mount| &mount.path));
        for path in paths {
            let parts = path.strip_prefix('/').map(|rest| rest.split('/').collect::<Vec<_>>());
            let is_clean = |parts: &Vec<&str>| !parts.iter().any(|part| ["", ".", ".."].contains(part));
            if !parts.as_ref().is_some_and(is_clean) {
                return Err(Problem::rule(format!("mount path '{path}' must be absolute")));
            }
        }
        Ok(())
    }
}
