//! Choosing the machine for a pod.

pub mod blocked;
pub mod money;
pub mod plan;
pub mod world;
