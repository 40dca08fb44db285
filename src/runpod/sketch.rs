//! Pod → what its one container needs, or everything that RunPod cannot give it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod, PodSpec, Volume, VolumeMount};
use serde_json::Value;

use super::env::{FieldRef, Source, Variable};
use super::fields;
use crate::cloud::runpod::{Port, PortKind};
use crate::pod::ask::{Problem, Rejection};
use crate::pod::{quantity, reasons};

/// Annotation: id of the one network volume; the volume of this name (`emptyDir`) in the pod is where it is mounted.
pub const NETWORK_VOLUME: &str = "orca.research/runpod-network-volume";
/// Annotation: `none` runs the image as it is, without exit code and without `restartPolicy`.
pub const EXIT_CODE: &str = "orca.research/runpod-exit-code";
/// Annotation: comma-separated ports (`8888/http`), beside those that the container lists, which are `tcp`.
pub const HTTP_PORTS: &str = "orca.research/runpod-http-ports";
/// The name of the `emptyDir` that a network volume takes the place of.
pub const NETWORK_VOLUME_NAME: &str = "network-volume";

/// RunPod publishes so many HTTP ports at most (docs.runpod.io, "Expose ports").
const MAX_HTTP_PORTS: usize = 10;
/// sshd's.
const SSH: u16 = 22;
/// Begins the name of the volume that the API server's admission of service accounts adds.
const TOKEN_VOLUME: &str = "kube-api-access-";
/// The kubelet's default grace.
const GRACE: Duration = Duration::from_secs(30);

/// What a pod is on RunPod, before its environment is resolved and a machine is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    /// Name of the container.
    pub container: String,
    pub image: String,
    /// `None` leaves it to the image.
    pub command: Option<Vec<String>>,
    pub args: Option<Vec<String>>,
    pub working_dir: Option<String>,
    /// In the order in which they count: a later one replaces an earlier one of its name.
    pub env: Vec<Source>,
    pub ports: BTreeSet<Port>,
    pub restart: Restart,
    /// `terminationGracePeriodSeconds`.
    pub grace: Duration,
    /// Folders that must be there: `emptyDir`s.
    pub folders: Vec<String>,
    pub network_volume: Option<NetworkVolume>,
    /// Names of Secrets.
    pub pull_secrets: Vec<String>,
    /// Whether a command in front of the container tells how it ended.
    pub is_wrapped: bool,
    /// The pod's service account has a token that is not mounted, since nobody asked for it by name.
    pub leaves_token_out: bool,
}

/// What the operator decides.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The extended resource that stands for GPUs.
    pub gpu_resource: &'a str,
    /// Whether the values of Secrets may be shown to whoever may read the account's pods (`runpod.allowSecretsInEnv`).
    pub allow_secrets_in_env: bool,
}

/// A network volume, and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkVolume {
    pub id: String,
    pub path: String,
}

/// `restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Sketch {
    /// Whether sshd may be reached, for exec, attach, cp and port-forward.
    #[must_use]
    pub fn has_ssh(&self) -> bool {
        self.ports.contains(&Port { number: SSH, kind: PortKind::Tcp })
    }
}

/// What the pod needs.
///
/// # Errors
/// Everything in it that RunPod cannot give, at once.
pub fn sketch(pod: &Pod, rules: Rules<'_>) -> Result<Sketch, Rejection> {
    let mut reading = Reading { pod, rules, problems: Vec::new() };
    let empty = PodSpec::default();
    let sketch = reading.spec(pod.spec.as_ref().unwrap_or(&empty));
    match Rejection::of(reading.problems) {
        Some(rejection) => Err(rejection),
        None => Ok(sketch),
    }
}

struct Reading<'a> {
    pod: &'a Pod,
    rules: Rules<'a>,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn refuse(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem {
            reason: reasons::UNSUPPORTED_ON_RUNPOD,
            path: path.into(),
            message: message.into(),
        });
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn spec(&mut self, spec: &PodSpec) -> Sketch {
        self.walk("spec", &json(spec), fields::is_known_of_spec);
        let [container, others @ ..] = &spec.containers[..] else {
            self.refuse("spec.containers", "is empty, expected one container");
            return blank();
        };
        if !others.is_empty() {
            self.refuse("spec.containers[1]", "RunPod runs one container for each pod");
        }
        self.walk("spec.containers[0]", &json(container), fields::is_known_of_container);
        if container.image_pull_policy.as_deref() == Some("Never") {
            self.refuse(
                "spec.containers[0].imagePullPolicy",
                "is `Never`, and no machine of RunPod's has the image",
            );
        }
        self.resources(container);
        let (folders, network_volume) = self.volumes(spec, container);
        let is_wrapped = match self.annotation(EXIT_CODE) {
            None => true,
            Some("none") => false,
            Some(other) => {
                let message = format!("is `{other}`, expected `none`");
                self.refuse(format!("metadata.annotations[{EXIT_CODE}]"), message);
                true
            }
        };
        if !is_wrapped {
            self.without_wrapper(container, &folders);
        }
        let restart = match spec.restart_policy.as_deref() {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        };
        let grace = spec.termination_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Sketch {
            container: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            command: container.command.clone().filter(|command| !command.is_empty()),
            args: container.args.clone().filter(|args| !args.is_empty()),
            working_dir: container.working_dir.clone().filter(|folder| !folder.is_empty()),
            env: self.env(container),
            ports: self.ports(container),
            restart,
            grace: grace.map_or(GRACE, Duration::from_secs),
            folders,
            network_volume,
            pull_secrets: spec
                .image_pull_secrets
                .iter()
                .flatten()
                .map(|secret| secret.name.clone())
                .filter(|name| !name.is_empty())
                .collect(),
            is_wrapped,
            leaves_token_out: spec.volumes.iter().flatten().any(is_token),
        }
    }

    /// Refuses what is set and not known.
    fn walk(&mut self, path: &str, value: &Value, is_known: fn(&str) -> bool) {
        for (field, value) in value.as_object().into_iter().flatten() {
            let path = format!("{path}.{field}");
            if is_known(field) || fields::is_harmless(&path, &value.to_string()) {
                continue;
            }
            self.refuse(path, "is not available on RunPod");
        }
    }

    fn resources(&mut self, container: &Container) {
        let Some(resources) = &container.resources else { return };
        let path = "spec.containers[0].resources";
        if resources.claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
            self.refuse(format!("{path}.claims"), "is not available on RunPod");
        }
        let names = resources.requests.iter().chain(&resources.limits).flat_map(BTreeMap::keys);
        let known = ["cpu", "memory", "ephemeral-storage", self.rules.gpu_resource];
        let unknown: BTreeSet<_> = names.filter(|name| !known.contains(&name.as_str())).collect();
        for name in unknown {
            self.refuse(format!("{path}[{name}]"), "is not available on RunPod");
        }
    }

    /// Folders of the container's own disk, and the one network volume.
    fn volumes(&mut self, spec: &PodSpec, container: &Container) -> (Vec<String>, Option<NetworkVolume>) {
        let volume_id = self.annotation(NETWORK_VOLUME).map(str::to_owned);
        let (mut folders, mut network) = (Vec::new(), None);
        let all: Vec<_> = spec.volumes.iter().flatten().enumerate().collect();
        for (i, volume) in &all {
            self.volume(*i, volume, spec.automount_service_account_token);
        }
        for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let path = format!("spec.containers[0].volumeMounts[{i}]");
            let Some((_, volume)) = all.iter().find(|(_, volume)| volume.name == mount.name) else {
                continue;
            };
            if is_token(volume) || volume.empty_dir.is_none() {
                continue;
            }
            self.mount(&path, mount);
            match &volume_id {
                Some(id) if volume.name == NETWORK_VOLUME_NAME && network.is_none() => {
                    network = Some(NetworkVolume { id: id.clone(), path: mount.mount_path.clone() });
                }
                Some(_) if volume.name == NETWORK_VOLUME_NAME => {
                    self.refuse(path, "the network volume is mounted once");
                }
                Some(_) | None => folders.push(mount.mount_path.clone()),
            }
        }
        if volume_id.is_some() && network.is_none() {
            self.refuse(
                format!("metadata.annotations[{NETWORK_VOLUME}]"),
                format!("expected an emptyDir named `{NETWORK_VOLUME_NAME}` that the container mounts"),
            );
        }
        (folders, network)
    }

    fn volume(&mut self, i: usize, volume: &Volume, automount: Option<bool>) {
        let Value::Object(kinds) = json(volume) else { return };
        for kind in kinds.keys().filter(|kind| *kind != "name") {
            let path = format!("spec.volumes[{i}].{kind}");
            match &volume.empty_dir {
                Some(dir) if dir.medium.as_deref().is_some_and(|medium| !medium.is_empty()) => {
                    self.refuse(format!("{path}.medium"), "RunPod has no memory-backed volumes");
                }
                Some(_) => {}
                None if is_token(volume) && automount != Some(true) => {}
                None if is_token(volume) => self.refuse(
                    "spec.automountServiceAccountToken",
                    "is `true`, and no container on RunPod gets a token",
                ),
                None => self.refuse(path, format!("volume `{}` cannot be mounted on RunPod", volume.name)),
            }
        }
    }

    fn mount(&mut self, path: &str, mount: &VolumeMount) {
        let odd = [
            ("subPath", mount.sub_path.as_deref().is_some_and(|path| !path.is_empty())),
            ("subPathExpr", mount.sub_path_expr.as_deref().is_some_and(|path| !path.is_empty())),
            ("readOnly", mount.read_only == Some(true)),
            ("mountPropagation", mount.mount_propagation.as_deref().is_some_and(|how| how != "None")),
        ];
        for (field, _) in odd.into_iter().filter(|(_, is_set)| *is_set) {
            self.refuse(format!("{path}.{field}"), "is not available on RunPod");
        }
        if !mount.mount_path.starts_with('/') {
            self.refuse(format!("{path}.mountPath"), "expected an absolute path");
        }
    }

    /// What only the wrapper can do.
    fn without_wrapper(&mut self, container: &Container, folders: &[String]) {
        let path = format!("metadata.annotations[{EXIT_CODE}]");
        if container.working_dir.as_ref().is_some_and(|folder| !folder.is_empty()) {
            self.refuse("spec.containers[0].workingDir", format!("needs the wrapper, and {path} is `none`"));
        }
        if !folders.is_empty() {
            self.refuse(
                "spec.containers[0].volumeMounts",
                format!("needs the wrapper, and {path} is `none`"),
            );
        }
    }

    fn ports(&mut self, container: &Container) -> BTreeSet<Port> {
        let mut ports = BTreeSet::new();
        for (i, port) in container.ports.iter().flatten().enumerate() {
            let path = format!("spec.containers[0].ports[{i}]");
            if port.host_port.is_some_and(|port| port != 0) {
                self.refuse(format!("{path}.hostPort"), "is not available on RunPod");
            }
            if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
                self.refuse(format!("{path}.protocol"), "RunPod publishes TCP alone");
            }
            match u16::try_from(port.container_port) {
                Ok(number) if number > 0 => {
                    ports.insert(Port { number, kind: PortKind::Tcp });
                }
                Ok(_) | Err(_) => self.refuse(format!("{path}.containerPort"), "expected 1 to 65535"),
            }
        }
        let listed = self.annotation(HTTP_PORTS).map(str::to_owned);
        for text in listed.iter().flat_map(|all| all.split(',')).map(str::trim) {
            match text.parse::<u16>() {
                Ok(number) if number > 0 => {
                    ports.remove(&Port { number, kind: PortKind::Tcp });
                    ports.insert(Port { number, kind: PortKind::Http });
                }
                Ok(_) | Err(_) => self.refuse(
                    format!("metadata.annotations[{HTTP_PORTS}]"),
                    format!("`{text}` is no port, expected a list such as `8888,8000`"),
                ),
            }
        }
        if ports.iter().filter(|port| port.kind == PortKind::Http).count() > MAX_HTTP_PORTS {
            let message = format!("RunPod publishes {MAX_HTTP_PORTS} HTTP ports at most");
            self.refuse(format!("metadata.annotations[{HTTP_PORTS}]"), message);
        }
        ports
    }

    fn env(&mut self, container: &Container) -> Vec<Source> {
        let mut all = Vec::new();
        for (i, from) in container.env_from.iter().flatten().enumerate() {
            all.extend(self.env_from(&format!("spec.containers[0].envFrom[{i}]"), from));
        }
        for (i, variable) in container.env.iter().flatten().enumerate() {
            all.extend(self.variable(&format!("spec.containers[0].env[{i}]"), variable));
        }
        all
    }

    fn env_from(&mut self, path: &str, from: &EnvFromSource) -> Option<Source> {
        let prefix = from.prefix.clone().unwrap_or_default();
        match (&from.config_map_ref, &from.secret_ref) {
            (Some(map), None) => Some(Source::ConfigMap {
                prefix,
                name: map.name.clone(),
                is_optional: map.optional == Some(true),
            }),
            (None, Some(secret)) => {
                self.secret(&format!("{path}.secretRef"));
                Some(Source::Secret {
                    prefix,
                    name: secret.name.clone(),
                    is_optional: secret.optional == Some(true),
                })
            }
            _ => {
                self.refuse(path, "expected `configMapRef` or `secretRef`");
                None
            }
        }
    }

    fn variable(&mut self, path: &str, variable: &EnvVar) -> Option<Source> {
        let name = variable.name.clone();
        if name.starts_with(crate::cloud::runpod::MARKER_PREFIX) || name.starts_with("RUNPOD_") {
            self.refuse(format!("{path}.name"), format!("`{name}` is ORCA's or RunPod's own"));
            return None;
        }
        let Some(from) = &variable.value_from else {
            let value = variable.value.clone().unwrap_or_default();
            return Some(Source::One(Variable::Value { name, value }));
        };
        if let Some(key) = &from.config_map_key_ref {
            let (map, key, is_optional) = (key.name.clone(), key.key.clone(), key.optional == Some(true));
            return Some(Source::One(Variable::ConfigMapKey { name, map, key, is_optional }));
        }
        if let Some(key) = &from.secret_key_ref {
            self.secret(&format!("{path}.valueFrom.secretKeyRef"));
            let (secret, key, is_optional) = (key.name.clone(), key.key.clone(), key.optional == Some(true));
            return Some(Source::One(Variable::SecretKey { name, secret, key, is_optional }));
        }
        if let Some(field) = &from.field_ref {
            return match FieldRef::parse(&field.field_path) {
                Some(field) => Some(Source::One(Variable::Field { name, field })),
                None => {
                    let message = format!("`{}` is not known of a pod on RunPod", field.field_path);
                    self.refuse(format!("{path}.valueFrom.fieldRef.fieldPath"), message);
                    None
                }
            };
        }
        if let Some(resource) = &from.resource_field_ref {
            let divisor = resource.divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
            let divisor = quantity::milli(if divisor == "0" { "1" } else { divisor });
            return match divisor.filter(|divisor| *divisor > 0) {
                Some(divisor_milli) => {
                    let resource = resource.resource.clone();
                    Some(Source::One(Variable::Resource { name, resource, divisor_milli }))
                }
                None => {
                    self.refuse(format!("{path}.valueFrom.resourceFieldRef.divisor"), "expected a quantity");
                    None
                }
            };
        }
        self.refuse(format!("{path}.valueFrom"), "is not available on RunPod");
        None
    }
}

impl Reading<'_> {
    fn secret(&mut self, path: &str) {
        if !self.rules.allow_secrets_in_env {
            self.refuse(
                path,
                "RunPod shows the environment to everybody who may read the account's pods: the operator has to allow \
                 it (`runpod.allowSecretsInEnv`), or the value comes from a secret of RunPod's own \
                 (`{{ RUNPOD_SECRET_name }}`)",
            );
        }
    }
}

/// Whether it is the token that the API server mounts by itself.
fn is_token(volume: &Volume) -> bool {
    volume.name.starts_with(TOKEN_VOLUME) && volume.projected.is_some()
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn blank() -> Sketch {
    Sketch {
        container: String::new(),
        image: String::new(),
        command: None,
        args: None,
        working_dir: None,
        env: Vec::new(),
        ports: BTreeSet::new(),
        restart: Restart::Always,
        grace: GRACE,
        folders: Vec::new(),
        network_volume: None,
        pull_secrets: Vec::new(),
        is_wrapped: true,
        leaves_token_out: false,
    }
}

#[cfg(test)]
mod tests;
