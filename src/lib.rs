//! ORCA lets a Kubernetes cluster burst onto cloud GPUs: behind one virtual node, every pod gets a
//! machine of its own on which an unmodified kubelet runs it.
//!
//! The modules are listed in reading order; `docs/architecture.md` is the map.

pub mod pod;

pub mod capacity;
pub mod cloud;

pub mod controller;
pub mod informer;
pub mod link;
pub mod market;

pub mod runpod;

pub mod gateway;
pub mod guest;
pub mod tunnel;

pub mod endpoint;
pub mod gpu;
pub mod logs;
pub mod node;
pub mod stats;
pub mod streams;

pub mod keys;
pub mod leader;
mod trust;

pub mod app;
mod breaker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod telemetry;
