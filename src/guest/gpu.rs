//! Watching a machine's GPUs: the script, for columns and a period that somebody else chooses.

use std::time::Duration;

use super::fill;

const SCRIPT: &str = include_str!("scripts/gpu.sh");

/// Prints what `nvidia-smi` says of `columns` every `period`, each line after `g `, and the driver's messages of errors,
/// each after `k `; ends with its standard input.
#[must_use]
pub fn watch_gpus(columns: &[&str], period: Duration) -> String {
    fill(SCRIPT, &[("columns", &columns.join(" ")), ("period", &period.as_millis().to_string())])
}
