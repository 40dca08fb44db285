//! Ask × offers → ordered candidates. Pure.

use crate::cloud::{Image, InstanceType};

/// One machine that could be launched for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub instance_type: InstanceType,
    pub subnet_id: String,
    pub zone: String,
    pub image: Image,
}
