//! The command line: one module a subcommand.

use std::process::ExitCode;

/// Parses the command line and runs the subcommand. Exit code 2 means that what was typed is wrong.
pub async fn run() -> ExitCode {
    ExitCode::SUCCESS
}
