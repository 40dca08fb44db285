//! Tests of the planner: scenarios that read like documentation, properties over random worlds, and its speed.

mod language;
mod properties;
mod scenarios;
mod speed;
