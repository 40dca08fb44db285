//! A container's environment, as a kubelet resolves it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod::quantity;

/// Where variables come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    One(Variable),
    /// Every key of a ConfigMap.
    ConfigMap {
        prefix: String,
        name: String,
        is_optional: bool,
    },
    /// Every key of a Secret.
    Secret {
        prefix: String,
        name: String,
        is_optional: bool,
    },
}

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `$(NAME)` in it is replaced.
    Value {
        name: String,
        value: String,
    },
    ConfigMapKey {
        name: String,
        map: String,
        key: String,
        is_optional: bool,
    },
    SecretKey {
        name: String,
        secret: String,
        key: String,
        is_optional: bool,
    },
    Field {
        name: String,
        field: FieldRef,
    },
    /// `limits.cpu` and the like.
    Resource {
        name: String,
        resource: String,
        divisor_milli: u64,
    },
}

/// What the downward API tells of a pod before it has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldRef {
    Name,
    Namespace,
    Uid,
    Label(String),
    Annotation(String),
    NodeName,
    ServiceAccount,
}

impl FieldRef {
    /// Reads `fieldPath`; `None` if it is not known of a pod on RunPod.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let key = |prefix: &str| Some(path.strip_prefix(prefix)?.strip_suffix("']")?.to_owned());
        match path {
            "metadata.name" => Some(Self::Name),
            "metadata.namespace" => Some(Self::Namespace),
            "metadata.uid" => Some(Self::Uid),
            "spec.nodeName" => Some(Self::NodeName),
            "spec.serviceAccountName" => Some(Self::ServiceAccount),
            _ => key("metadata.labels['")
                .map(Self::Label)
                .or_else(|| key("metadata.annotations['").map(Self::Annotation)),
        }
    }

    fn of(&self, pod: &Pod) -> String {
        let meta = &pod.metadata;
        let spec = pod.spec.as_ref();
        let found = match self {
            Self::Name => meta.name.as_ref(),
            Self::Namespace => meta.namespace.as_ref(),
            Self::Uid => meta.uid.as_ref(),
            Self::Label(key) => meta.labels.as_ref().and_then(|all| all.get(key)),
            Self::Annotation(key) => meta.annotations.as_ref().and_then(|all| all.get(key)),
            Self::NodeName => spec.and_then(|spec| spec.node_name.as_ref()),
            Self::ServiceAccount => spec.and_then(|spec| spec.service_account_name.as_ref()),
        };
        found.cloned().unwrap_or_default()
    }
}

/// What has to be read before the environment can be resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

/// The objects that were read, by name; absent if there is none.
#[derive(Clone, Default)]
pub struct Objects {
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
    pub secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

impl std::fmt::Debug for Objects {
    /// Names alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects")
            .field("config_maps", &self.config_maps.keys())
            .field("secrets", &self.secrets.keys())
            .finish()
    }
}

/// Why there is no environment yet, in the kubelet's words: the container waits, `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("configmap \"{0}\" not found")]
    ConfigMap(String),
    #[error("secret \"{0}\" not found")]
    Secret(String),
    #[error("couldn't find key {key} in ConfigMap {map}")]
    ConfigMapKey { map: String, key: String },
    #[error("couldn't find key {key} in Secret {secret}")]
    SecretKey { secret: String, key: String },
    /// RunPod takes its environment as JSON.
    #[error("key {key} of Secret {secret} is not UTF-8")]
    NotText { secret: String, key: String },
    #[error("the container has no {0}, and what it gets of a machine on RunPod is not known")]
    Resource(String),
}

/// What has to be read.
#[must_use]
pub fn needs(sources: &[Source]) -> Needs {
    let mut needs = Needs::default();
    for source in sources {
        match source {
            Source::ConfigMap { name, .. } | Source::One(Variable::ConfigMapKey { map: name, .. }) => {
                needs.config_maps.insert(name.clone());
            }
            Source::Secret { name, .. } | Source::One(Variable::SecretKey { secret: name, .. }) => {
                needs.secrets.insert(name.clone());
            }
            Source::One(Variable::Value { .. } | Variable::Field { .. } | Variable::Resource { .. }) => {}
        }
    }
    needs
}

/// The environment.
///
/// # Errors
/// The first object or key that is missing and not optional.
pub fn resolve(
    sources: &[Source],
    pod: &Pod,
    objects: &Objects,
) -> Result<BTreeMap<String, String>, Missing> {
    let mut env = BTreeMap::new();
    for source in sources {
        match source {
            Source::ConfigMap { prefix, name, is_optional } => match objects.config_maps.get(name) {
                Some(map) => {
                    for (key, value) in map {
                        set(&mut env, format!("{prefix}{key}"), value.clone());
                    }
                }
                None if *is_optional => {}
                None => return Err(Missing::ConfigMap(name.clone())),
            },
            Source::Secret { prefix, name, is_optional } => match objects.secrets.get(name) {
                Some(secret) => {
                    for (key, value) in secret {
                        set(&mut env, format!("{prefix}{key}"), text(name, key, value)?);
                    }
                }
                None if *is_optional => {}
                None => return Err(Missing::Secret(name.clone())),
            },
            Source::One(variable) => one(variable, pod, objects, &mut env)?,
        }
    }
    Ok(env)
}

fn one(
    variable: &Variable,
    pod: &Pod,
    objects: &Objects,
    env: &mut BTreeMap<String, String>,
) -> Result<(), Missing> {
    match variable {
        Variable::Value { name, value } => {
            let value = expand(value, env);
            set(env, name.clone(), value);
        }
        Variable::ConfigMapKey { name, map, key, is_optional } => {
            let found = objects.config_maps.get(map);
            match found.and_then(|all| all.get(key)) {
                Some(value) => set(env, name.clone(), value.clone()),
                None if *is_optional => {}
                None if found.is_none() => return Err(Missing::ConfigMap(map.clone())),
                None => return Err(Missing::ConfigMapKey { map: map.clone(), key: key.clone() }),
            }
        }
        Variable::SecretKey { name, secret, key, is_optional } => {
            let found = objects.secrets.get(secret);
            match found.and_then(|all| all.get(key)) {
                Some(value) => set(env, name.clone(), text(secret, key, value)?),
                None if *is_optional => {}
                None if found.is_none() => return Err(Missing::Secret(secret.clone())),
                None => return Err(Missing::SecretKey { secret: secret.clone(), key: key.clone() }),
            }
        }
        Variable::Field { name, field } => set(env, name.clone(), field.of(pod)),
        Variable::Resource { name, resource, divisor_milli } => {
            let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
            let amount = container.and_then(|container| amount(container, resource));
            let amount = amount.ok_or_else(|| Missing::Resource(resource.clone()))?;
            set(env, name.clone(), amount.div_ceil(*divisor_milli).to_string());
        }
    }
    Ok(())
}

/// A name that no process could have is left out, as kubelets do.
fn set(env: &mut BTreeMap<String, String>, name: String, value: String) {
    if !name.is_empty() && !name.contains('=') && !name.contains('\0') {
        env.insert(name, value);
    }
}

fn text(secret: &str, key: &str, value: &[u8]) -> Result<String, Missing> {
    let text = std::str::from_utf8(value);
    text.map(str::to_owned).map_err(|_| Missing::NotText { secret: secret.to_owned(), key: key.to_owned() })
}

/// In thousandths.
fn amount(container: &Container, resource: &str) -> Option<u64> {
    let (field, name) = resource.split_once('.')?;
    let resources = container.resources.as_ref()?;
    let of = |all: &Option<BTreeMap<String, _>>| -> Option<u64> {
        let all: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity> = all.as_ref()?;
        quantity::milli(&all.get(name)?.0)
    };
    match field {
        "limits" => of(&resources.limits),
        "requests" => of(&resources.requests).or_else(|| of(&resources.limits)),
        _ => None,
    }
}

/// Replaces `$(NAME)`: `$$` is a dollar, and a name that is not known stays as it is
/// (Kubernetes' documentation of `EnvVar.value` and `Container.command`).
#[must_use]
pub fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
