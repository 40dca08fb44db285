//! `orca capacity`: what is reserved, what spot costs, and what the running ORCA avoids, once or again and again.
//!
//! Reservations, blocks and prices are read from AWS; what only the running process knows is asked of it. Exit codes:
//! 0 all of AWS could be read, 1 not all of it, 2 what was typed is wrong.

mod ask;
mod overview;
mod render;
#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use self::ask::{Asker, Outcome};
use self::overview::{Overview, wanted_types};
use super::running::Running;
use super::{Trouble, ec2, print, read_config};

/// Flags of `orca capacity`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Capacity {
    /// The configuration: docs/configuration.md
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Show it again every so many seconds, 30 if none are given, until Ctrl-C
    #[arg(
        short,
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30",
        value_parser = clap::value_parser!(u64).range(5..=86_400)
    )]
    watch: Option<u64>,
    /// The running ORCA; else what metrics.listen of the configuration says
    #[arg(long, value_name = "http://HOST:PORT")]
    server: Option<String>,
    /// Types such as `g6.xlarge` or `g6.*` whose spot prices are shown; else those that the configuration names
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    /// One JSON object a reading
    Json,
}

pub(super) async fn run(args: Capacity) -> ExitCode {
    let mut asker = match asker(&args).await {
        Ok(asker) => asker,
        Err(trouble) => return trouble.tell(),
    };
    let (overview, outcome) = asker.ask().await;
    print(&show(&overview, args.output));
    let Some(seconds) = args.watch else {
        return match outcome {
            Outcome::Complete => ExitCode::SUCCESS,
            Outcome::Partial => ExitCode::FAILURE,
        };
    };
    tokio::select! {
        () = again(&mut asker, Duration::from_secs(seconds), args.output) => {}
        // That there is no such signal is no reason to go on for ever.
        _ = tokio::signal::ctrl_c() => {}
    }
    ExitCode::SUCCESS
}

/// Shows it on every interval. Never ends.
async fn again(asker: &mut Asker, interval: Duration, format: Format) {
    let clear = if std::io::stdout().is_terminal() { "\x1b[2J\x1b[H" } else { "\n" };
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let (overview, _) = asker.ask().await;
        match format {
            Format::Table => print(&format!("{clear}{}", show(&overview, format))),
            Format::Json => print(&show(&overview, format)),
        }
    }
}

fn show(overview: &Overview, format: Format) -> String {
    match format {
        Format::Table => render::tables(overview),
        Format::Json => {
            let text =
                serde_json::to_string_pretty(overview).expect("an overview has only texts and numbers");
            format!("{text}\n")
        }
    }
}

async fn asker(args: &Capacity) -> Result<Asker, Trouble> {
    let config = read_config(&args.config)?;
    let running = Running::find(args.server.as_deref(), config.metrics.listen)?;
    let types = if args.types.is_empty() { wanted_types(&config.instances) } else { args.types.clone() };
    Ok(Asker::new(ec2(&config).await, config.aws.region, types, running))
}
