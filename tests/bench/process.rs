//! What a process of the world takes, as the kernel counts it.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::world::World;

/// Clock ticks a second in `/proc`: `USER_HZ`, which is 100 on every Linux that we may meet.
const TICKS: f64 = 100.0;

/// A process that the world has started.
#[derive(PartialEq, Eq)]
pub(crate) struct Process(PathBuf);

impl Process {
    /// By the name of its file of logs, such as `orca`; the one that runs now.
    pub(crate) fn of(world: &World, name: &str) -> Result<Self> {
        let pid = world.log(&format!("{name}.pid"))?;
        let pid = pid.split_whitespace().next().context("an id")?;
        Ok(Self(PathBuf::from("/proc").join(pid)))
    }

    /// CPU time since it began, in user and kernel mode, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The name of the program stands in parentheses, and may have anything in it. `proc(5)`: fields 14 and 15.
        let (_, rest) = stat.rsplit_once(')').context("the end of a name")?;
        let field = |index: usize| -> Result<f64> {
            rest.split_whitespace().nth(index).context("a field")?.parse().context("ticks")
        };
        Ok((field(11)? + field(12)?) / TICKS)
    }

    /// Resident memory now, in MiB.
    pub(crate) fn resident(&self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// The most that was resident since the process began, or since [`Process::forget_peak`], in MiB.
    pub(crate) fn peak(&self) -> Result<f64> {
        self.status("VmHWM:")
    }

    /// `proc(5)`: 5 in `clear_refs` resets the peak to what is resident now.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        std::fs::write(self.0.join("clear_refs"), "5").context("resetting the peak")
    }

    fn status(&self, key: &str) -> Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find(|line| line.starts_with(key)).with_context(|| format!("no {key}"))?;
        let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kib / 1024.0)
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.0.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}
