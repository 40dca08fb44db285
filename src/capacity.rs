//! Choosing the machine for a pod.

pub mod avoid;
pub mod blocked;
pub mod candidate;
pub mod live;
pub mod money;
pub mod planner;
pub mod runpod;
pub mod shipped;
pub mod spend;
pub mod world;
