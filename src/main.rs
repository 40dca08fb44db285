//! The `orca` binary: parse the command line and run the subcommand.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    orca::cli::run().await
}
