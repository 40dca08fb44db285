//! Choosing the machine for a pod.

pub mod plan;
