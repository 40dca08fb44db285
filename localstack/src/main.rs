//! `localstack agent`: all that machines need of this program.

use std::path::PathBuf;

use clap::Parser;

#[derive(Debug, Parser)]
enum Command {
    /// Plays the SSM agent's part in the network namespace that it is started in
    Agent {
        #[arg(long)]
        socket: PathBuf,
    },
    /// Removes what a killed local cloud left on this host
    Clean {
        #[arg(long)]
        dir: PathBuf,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Agent { socket } => localstack::machine::agent::run(socket).await,
        Command::Clean { dir } => localstack::machine::nspawn::cleanup(&dir).await,
    }
}
