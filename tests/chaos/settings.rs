//! What the storm is to be.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::seed::Machines;

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) machines: Machines,
    /// In each, one thing after the other is asked for.
    pub(crate) places: u64,
    pub(crate) kills: u32,
    pub(crate) time: Duration,
}

impl Settings {
    /// From arguments such as `seed=7`; empty ones (`seed=`) are as if they were not there.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut settings = Self {
            seed: u64::from(rand::random::<u32>()),
            machines: Machines::Real,
            places: 30,
            kills: 100,
            time: Duration::from_secs(600),
        };
        for argument in arguments.filter(|argument| !argument.starts_with('-')) {
            let (name, value) = argument.split_once('=').unwrap_or((&*argument, ""));
            let number = || -> Result<u64> {
                value.parse().with_context(|| format!("{name} is `{value}`, expected a number"))
            };
            match (name, value) {
                ("states", _) => settings.machines = Machines::States,
                (_, "") => {}
                ("seed", _) => settings.seed = number()?,
                ("machines", "states") => settings.machines = Machines::States,
                ("machines", _) => settings.places = number()?,
                ("kills", _) => settings.kills = u32::try_from(number()?)?,
                ("time", _) => settings.time = Duration::from_secs(number()?),
                _ => {
                    bail!("the argument is `{argument}`, expected seed=, machines=, kills=, time= or states")
                }
            }
        }
        Ok(settings)
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.machines {
            Machines::Real => "real machines",
            Machines::States => "machines that are states only",
        };
        let Self { seed, places, kills, time, .. } = self;
        write!(f, "SEED={seed}: {places} {what}, until {kills} kills or {} s", time.as_secs())
    }
}
