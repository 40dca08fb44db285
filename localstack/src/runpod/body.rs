//! The body of a create, and of a change: checked against the schema, then against the rules between its members.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::catalog::{Cloud, Cpu, Gpu};
use super::command::Command;
use super::order::{Compute, Mounts, Order, Port, PortKind};
use super::problem::Problem;
use super::schema;
use super::settings::Api;

/// GB of a container's disk where none is asked for.
const DISK: u32 = 50;

/// Of a pod's name; v2 does not say, v1 did.
const NAME: usize = 191;

/// HTTP ports behind the proxy.
const HTTP_PORTS: usize = 10;

/// What a create and a change have in common, and what each has alone.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Body {
    pub name: Option<String>,
    pub image: Option<String>,
    pub template_id: Option<String>,
    pub args: Option<String>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub disk: Option<u32>,
    pub env: Option<BTreeMap<String, String>>,
    pub ports: Option<Vec<String>>,
    #[serde(deserialize_with = "given")]
    pub registry: Option<Option<String>>,
    gpu: Option<GpuAsk>,
    cpu: Option<CpuAsk>,
    cloud: Option<Cloud>,
    data_center_ids: Vec<String>,
    pub global_networking: Option<bool>,
    pub mounts: Option<Mounts>,
    start_ssh: bool,
    start_jupyter: bool,
    pub locked: Option<bool>,
}

/// Tells `null` from nothing.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GpuAsk {
    id: String,
    count: Option<u32>,
    #[serde(default)]
    allowed_cuda_versions: Vec<String>,
    min_cuda_version: Option<String>,
    #[serde(default)]
    min_ram_per_gpu: u32,
    #[serde(default)]
    min_vcpu_count_per_gpu: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CpuAsk {
    id: String,
    vcpu_count: u32,
}

impl Body {
    /// A body as a definition of the schema has it.
    pub fn read(definition: &str, value: Value, api: Api) -> Result<Self, Problem> {
        let mut errors = schema::check(definition, &value);
        if api == Api::August {
            let newer = ["entrypoint", "cmd"].into_iter().filter(|name| value.get(name).is_some());
            errors.extend(newer.map(|name| format!("$: additional properties '{name}' not allowed")));
        }
        if definition == "CreatePodRequest"
            && value.get("templateId").is_none()
            && value.get("image").is_none()
        {
            errors.push("$: missing property 'image'".to_owned());
        }
        if !errors.is_empty() {
            return Err(Problem::invalid(errors));
        }
        serde_json::from_value(value).map_err(|error| Problem::invalid(vec![format!("$: {error}")]))
    }

    /// The command that it names in any of its forms, stored and read. `None` where it names none.
    pub fn command(&self) -> Result<Option<(String, Command)>, Problem> {
        let given = self.args.as_deref().map(Command::parse);
        if self.entrypoint.is_none() && self.cmd.is_none() {
            return Ok(self.args.clone().zip(given));
        }
        let (entrypoint, cmd) = (self.entrypoint.clone(), self.cmd.clone());
        let listed = Command { entrypoint: entrypoint.unwrap_or_default(), cmd: cmd.unwrap_or_default() };
        match (&self.args, given) {
            (Some(args), Some(command)) if command == listed => Ok(Some((args.clone(), command))),
            (Some(_), _) => Err(Problem::rule("args and entrypoint/cmd describe different commands")),
            (None, _) => Ok(Some((listed.stored(), listed))),
        }
    }

    pub fn ports(&self) -> Result<Option<Vec<Port>>, Problem> {
        let Some(texts) = &self.ports else { return Ok(None) };
        let mut ports = Vec::new();
        for text in texts {
            let port = Port::parse(text).ok_or_else(|| {
                Problem::rule(format!(
                    "invalid port '{text}', expected a port and tcp or http, such as 8888/http"
                ))
            })?;
            ports.push(port);
        }
        if ports.iter().filter(|port| port.kind == PortKind::Http).count() > HTTP_PORTS {
            return Err(Problem::rule(format!("at most {HTTP_PORTS} http ports can be exposed")));
        }
        if ports.iter().collect::<BTreeSet<_>>().len() < ports.len() {
            return Err(Problem::rule("a port is exposed twice"));
        }
        Ok(Some(ports))
    }

    /// The rules that a create and a change share.
    pub fn check(&self) -> Result<(), Problem> {
        if self.name.as_ref().is_some_and(|name| name.chars().count() > NAME) {
            return Err(Problem::rule(format!("name must be at most {NAME} characters")));
        }
        if self.image.as_ref().is_some_and(|image| image.trim().is_empty()) {
            return Err(Problem::rule("image must not be empty"));
        }
        let is_name = |name: &String| !name.is_empty() && !name.contains(['=', '\0']);
        if let Some(name) = self.env.iter().flatten().map(|(name, _)| name).find(|name| !is_name(name)) {
            return Err(Problem::rule(format!("invalid environment variable name '{name}'")));
        }
        if let Some(template) = &self.template_id {
            // None can be made here, so none exists.
            return Err(Problem::not_found(&format!("template '{template}'")));
        }
        self.mounts.as_ref().map_or(Ok(()), Mounts::check)
    }

    /// The order of a create.
    pub fn order(self) -> Result<Order, Problem> {
        self.check()?;
        let (args, command) = self.command()?.unwrap_or_default();
        let ports = self.ports()?.unwrap_or_default();
        let cloud = self.cloud.unwrap_or(Cloud::Secure);
        let compute = match (self.gpu, self.cpu) {
            (Some(ask), None) => gpu(ask)?,
            (None, Some(ask)) => cpu(&ask)?,
            (None, None) | (Some(_), Some(_)) => {
                return Err(Problem::rule("exactly one of gpu or cpu must be set"));
            }
        };
        let mounts = self.mounts.unwrap_or_default();
        match compute {
            Compute::Cpu { .. } if mounts.persistent.is_some() => {
                return Err(Problem::rule("mounts.persistent is not supported on CPU pods"));
            }
            Compute::Gpu { gpu, .. }
                if self.global_networking == Some(true) && gpu.manufacturer != "NVIDIA" =>
            {
                return Err(Problem::rule("globalNetworking requires an NVIDIA GPU"));
            }
            Compute::Cpu { .. } if self.global_networking == Some(true) => {
                return Err(Problem::rule("globalNetworking requires an NVIDIA GPU"));
            }
            Compute::Gpu { .. } | Compute::Cpu { .. } => {}
        }
        if mounts.network.is_some() && cloud == Cloud::Community {
            return Err(Problem::rule("network volumes are only available on SECURE cloud"));
        }
        Ok(Order {
            name: self.name.unwrap_or_default(),
            image: self.image.unwrap_or_default(),
            args,
            command,
            disk: self.disk.unwrap_or(DISK),
            env: self.env.unwrap_or_default(),
            ports,
            registry: self.registry.flatten(),
            compute,
            cloud,
            data_centers: self.data_center_ids,
            mounts,
            global_networking: self.global_networking.unwrap_or(false),
            start_ssh: self.start_ssh,
            start_jupyter: self.start_jupyter,
        })
    }
}

fn gpu(ask: GpuAsk) -> Result<Compute, Problem> {
    let gpu =
        Gpu::find(&ask.id).ok_or_else(|| Problem::rule(format!("gpu type '{}' does not exist", ask.id)))?;
    if !ask.allowed_cuda_versions.is_empty() && ask.min_cuda_version.is_some() {
        return Err(Problem::rule("gpu.allowedCudaVersions and gpu.minCudaVersion are mutually exclusive"));
    }
    Ok(Compute::Gpu {
        gpu,
        count: ask.count.unwrap_or(1),
        versions: ask.allowed_cuda_versions,
        at_least: ask.min_cuda_version,
        ram: ask.min_ram_per_gpu,
        vcpus: ask.min_vcpu_count_per_gpu,
    })
}

fn cpu(ask: &CpuAsk) -> Result<Compute, Problem> {
    let cpu =
        Cpu::find(&ask.id).ok_or_else(|| Problem::rule(format!("cpu flavor '{}' does not exist", ask.id)))?;
    if !ask.vcpu_count.is_power_of_two() || !(cpu.min..=cpu.max).contains(&ask.vcpu_count) {
        return Err(Problem::rule(format!(
            "cpu.vcpuCount must be a power of two from {} to {}",
            cpu.min, cpu.max
        )));
    }
    Ok(Compute::Cpu { cpu, vcpus: ask.vcpu_count })
}

#[cfg(test)]
mod tests;
