//! The world's configuration with changes, in a file that goes with this.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

const USUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/orca.yaml");

pub(crate) struct Configured(PathBuf);

impl Configured {
    /// With each first text replaced by the second.
    pub(crate) fn new(changes: &[(&str, &str)]) -> Result<Self> {
        let mut text = std::fs::read_to_string(USUAL)?;
        for (from, to) in changes {
            ensure!(text.contains(from), "`{from}` is not in {USUAL}");
            text = text.replace(from, to);
        }
        let path = std::env::temp_dir().join(format!("orca-bench-{}.yaml", std::process::id()));
        std::fs::write(&path, text)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> Result<&str> {
        self.0.to_str().context("a path")
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}
