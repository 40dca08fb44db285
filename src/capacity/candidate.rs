//! One machine that is about to be launched: a choice of the plan, with everything else that its launch needs.

use serde::{Deserialize, Serialize};

use super::money::MicroUsd;
use crate::cloud::{Image, Placement, Purchase, RootVolume};

/// What a launch is made from, beside the pod and the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    pub instance_type: String,
    pub subnet_id: String,
    pub zone: String,
    pub purchase: Purchase,
    pub placement: Placement,
    pub image: Image,
    pub changes: Changes,
    /// List price per hour; `None` where it is not known.
    pub price: Option<MicroUsd>,
    /// The rule that put it where it is in the plan, in a few words.
    pub why: String,
}

/// What the pod's wishes change of the configured launch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Changes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_profile: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_group_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_volume: Option<RootVolume>,
    /// The machine ends itself at this age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime_seconds: Option<u64>,
    /// Elastic Fabric Adapter interfaces.
    #[serde(skip_serializing_if = "is_zero")]
    pub efa: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Changes {
    /// Whether the configured launch is left as it is.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
