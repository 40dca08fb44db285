//! `make chaos` without a storm: each column of its judge can fail, and its schedule follows from the seed alone.

#[path = "../chaos/check.rs"]
mod check;
#[path = "../chaos/seed.rs"]
mod seed;
#[path = "../chaos/settings.rs"]
mod settings;

mod judge;
mod schedule;
