//! RunPod, by its REST API v2 (<https://api.runpod.io/v2>): what is asked of it and what it answers, in our words.
//!
//! Nothing outside this module knows its JSON.

mod types;

pub use types::{
    CloudTier, CudaVersion, Hardware, MARKER_PREFIX, Mapping, Order, Port, PortKind, Sighting, Status, Volume,
};
