//! Tests of the planner: scenarios that read like documentation, and properties over random worlds.
//!
//! How fast it is, `make bench` tells.

mod language;
mod properties;
mod scenarios;

pub(in crate::capacity) use language::reservation as mk_reservation;
