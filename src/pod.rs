//! The life of a pod on a machine of its own, as data in and data out.
//!
//! [`ask`] reads what a pod needs, [`manifest`] finds the pods of objects that make some, [`intent`] what was begun
//! for it, [`decide`] says what is true now and what is to be done next, [`status`] writes it down as Kubernetes wants
//! it.
//! State is computed on every pass from the pod, its instances and its link; nothing here keeps any.
//!
//! This module must not know a Kubernetes client, a cloud adapter, a runtime or a clock: the time is an argument.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod ask;
pub mod decide;
pub mod intent;
pub mod layers;
pub mod maintenance;
pub mod manifest;
pub mod quantity;
pub mod reasons;
pub mod state;
pub mod status;
pub mod stuck;
pub mod wishes;
