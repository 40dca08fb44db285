//! Other people's programs against the local cloud: if they are content with it, it is honest enough for ORCA.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::world::{CLOUD, Namespace, cache, text};

pub(crate) const TESTS: &[crate::Test] =
    &[("interop::boto3_runs_describes_and_terminates_an_instance", boto3)];

fn boto3(_: &Namespace<'_>) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/interop/boto3_check.py");
    let output = Command::new(python()).arg(script).args(["--endpoint", CLOUD]).output()?;
    ensure!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Ok(())
}

/// The Python with boto3 and moto that `make test` installs into the cache.
fn python() -> PathBuf {
    cache().join("python/bin/python3")
}
