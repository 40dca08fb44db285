//! Choosing the machine for a pod.

pub mod blocked;
pub mod plan;
