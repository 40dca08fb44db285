//! Choosing the machine for a pod.

pub mod blocked;
pub mod candidate;
pub mod money;
pub mod plan;
pub mod world;
