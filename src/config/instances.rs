//! `instances`: what may be launched, and what is launched when nothing else is said.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::{RootVolume, Tenancy};
use crate::pod::layers::Layer;
use crate::pod::wishes::CapacityType;

/// The section, with what else of the configuration bears on what pods may wish.
///
/// [`Instances::default`] has the documented defaults and no region; tests change what they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instances {
    /// `aws.region`.
    pub region: String,
    /// `aws.subnetIDs`.
    pub subnet_ids: Vec<String>,
    /// How freely a machine may be chosen, at most.
    pub selection_mode: SelectionMode,
    /// `None` allows every type; entries may end in `*`.
    pub allowed_instance_types: Option<Vec<String>>,
    pub allowed_capacity_types: Vec<CapacityType>,
    /// Ids and SSM parameters that annotations may name; entries may end in `*`, as in the lists below.
    pub allowed_amis: Vec<String>,
    pub allowed_instance_profiles: Vec<String>,
    pub allowed_security_group_ids: Vec<String>,
    pub allowed_placement_groups: Vec<String>,
    pub allowed_tenancies: Vec<Tenancy>,
    /// The largest root volume that annotations may ask for.
    pub max_root_volume_gib: u32,
    pub root_volume: RootVolume,
    /// `limits.maxInstanceLifetime`.
    pub max_lifetime: Duration,
    /// `limits.capacityWait`.
    pub capacity_wait: Option<Duration>,
    /// `instances.defaults`, with `instances.defaultInstanceType`.
    pub defaults: Layer,
    /// `instances.templates` by name, each with what it inherits.
    pub templates: BTreeMap<String, Layer>,
}

/// `instances.selectionMode`: the most that the operator allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelectionMode {
    /// Only types and reservations that somebody named.
    Explicit,
    /// These, and templates.
    Template,
    /// The cheapest machine that fits, where nothing is named.
    #[default]
    Auto,
}

impl SelectionMode {
    /// The configuration's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Template => "template",
            Self::Auto => "auto",
        }
    }
}

impl Default for Instances {
    fn default() -> Self {
        Self {
            region: String::new(),
            subnet_ids: Vec::new(),
            selection_mode: SelectionMode::Auto,
            allowed_instance_types: None,
            allowed_capacity_types: CapacityType::ALL.to_vec(),
            allowed_amis: Vec::new(),
            allowed_instance_profiles: Vec::new(),
            allowed_security_group_ids: Vec::new(),
            allowed_placement_groups: Vec::new(),
            allowed_tenancies: vec![Tenancy::Shared],
            max_root_volume_gib: 1024,
            root_volume: RootVolume {
                size_gib: 100,
                kind: "gp3".to_owned(),
                iops: None,
                throughput: None,
                encrypted: true,
                kms_key_id: None,
            },
            max_lifetime: Duration::from_secs(24 * 3600),
            capacity_wait: None,
            defaults: Layer { origin: DEFAULTS.to_owned(), ..Layer::default() },
            templates: BTreeMap::new(),
        }
    }
}

/// What the node's defaults are called in messages.
pub(super) const DEFAULTS: &str = "instances.defaults";

impl Instances {
    /// Whether the configuration lets this type be launched.
    #[must_use]
    pub fn allows(&self, instance_type: &str) -> bool {
        self.allowed_instance_types.as_ref().is_none_or(|allowed| {
            allowed.iter().any(|entry| match entry.strip_suffix('*') {
                Some(start) => instance_type.starts_with(start),
                None => entry == instance_type,
            })
        })
    }

    /// The type that the node's defaults name first, if they name types.
    #[must_use]
    pub fn default_instance_type(&self) -> Option<&str> {
        types_of(&self.defaults).next().filter(|name| !name.ends_with('*'))
    }

    /// Every type, and every pattern of types, of the node's defaults and of the templates, the defaults' first.
    #[must_use]
    pub fn named_types(&self) -> Vec<&str> {
        std::iter::once(&self.defaults).chain(self.templates.values()).flat_map(types_of).collect()
    }
}

fn types_of(layer: &Layer) -> impl Iterator<Item = &str> {
    let named = ["instance-type", "instance-types"].iter().find_map(|key| layer.values.get(*key));
    named.into_iter().flat_map(|types| types.split(',')).map(str::trim)
}
