//! The command line: one module a subcommand.
//!
//! What the process has to know of its surroundings (addresses, namespace, log filter) is read here, by clap, and
//! passed on as values. Exit codes: 0 done, 1 it did not work, 2 what was typed is wrong.

mod capacity;
mod check;
mod plan;
mod run;
mod running;
mod stuck;
mod sweep;
mod table;

use std::fmt::Display;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cloud::ec2::{Ec2, sdk_config};
use crate::config::{Config, Facts, Warning};
#[cfg(debug_assertions)]
use crate::failpoint;
use crate::telemetry::CloudCalls;

/// Bursts Kubernetes pods onto cloud machines: one virtual node, and for every pod a machine with a real kubelet.
#[derive(Debug, Parser)]
#[command(name = "orca", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the virtual node until it is told to stop
    Run(Common),
    /// Say what is wrong with a configuration, and try every connection that it describes
    Check(Common),
    /// Show which machines a pod would get, in which order, and what was not chosen and why
    Plan(plan::Plan),
    /// Show reservations, Capacity Blocks, spot prices, quotas and what is avoided
    Capacity(capacity::Capacity),
    /// List the pods for which the same thing fails again and again, or try one again now
    Stuck(stuck::Stuck),
    /// Show machines of this node without a pod, and what machines left behind, and end both
    Sweep(sweep::Sweep),
    /// Print the version
    Version,
}

/// Flags of the subcommands that read a configuration.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    /// The configuration: docs/configuration.md
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The namespace that ORCA keeps its Secret in
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAMESPACE",
        default_value = "orca-system",
        hide_env_values = true
    )]
    namespace: String,
    /// How to reach the API server; else $KUBECONFIG, ~/.kube/config or the pod's service account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Address of the pod that ORCA runs in, from the downward API
    #[arg(long, env = "POD_IP", hide = true)]
    pod_ip: Option<IpAddr>,
    /// Name of the pod that ORCA runs in, from the downward API: by it a restarted container takes its own Lease over
    #[arg(long, env = "POD_NAME", hide = true)]
    pod_name: Option<String>,
    /// Log filter, instead of logging.level
    #[arg(long, env = "RUST_LOG", hide = true)]
    log: Option<String>,
    /// Where this process dies, for tests: the first of them that it comes to
    #[cfg(debug_assertions)]
    #[arg(long, env = "ORCA_FAILPOINT", value_delimiter = ',', hide = true)]
    failpoint: Vec<failpoint::Failpoint>,
    /// Where the failpoints that are met are written down, for tests
    #[cfg(debug_assertions)]
    #[arg(long, env = "ORCA_FAILPOINT_RECORD", hide = true)]
    failpoint_record: Option<PathBuf>,
}

/// Parses the command line and runs the subcommand. Exit code 2 means that what was typed is wrong.
pub async fn run() -> ExitCode {
    // An error only says that one is installed already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are "errors" with exit code 0; a closed pipe is nobody's problem.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match arguments.command {
        Command::Run(common) => run::run(common).await,
        Command::Check(common) => check::run(&common).await,
        Command::Plan(args) => plan::run(args).await,
        Command::Capacity(args) => capacity::run(args).await,
        Command::Stuck(args) => stuck::run(args).await,
        Command::Sweep(args) => sweep::run(args).await,
        Command::Version => {
            say(format_args!("orca {}", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
    }
}

/// Why a command ended without an answer.
#[derive(Debug)]
enum Trouble {
    /// What was typed is wrong.
    Typed(String),
    /// Something could not be read.
    Failed(String),
}

impl Trouble {
    /// Tells it, and gives the exit code for it.
    fn tell(self) -> ExitCode {
        let (text, code) = match self {
            Self::Typed(text) => (text, ExitCode::from(WRONG)),
            Self::Failed(text) => (text, ExitCode::FAILURE),
        };
        complain(text);
        code
    }
}

/// The exit code for what was typed wrong.
const WRONG: u8 = 2;

/// The configuration, or, after everything that is wrong with it was printed, the exit code for that.
fn load(common: &Common) -> Result<(Config, Vec<Warning>), ExitCode> {
    let facts = Facts { pod_ip: common.pod_ip, outward_ip: outward_ip() };
    resolve(&common.config, &facts).map_err(Trouble::tell)
}

/// The configuration of a command that serves nothing: an address to be reached at does not matter.
fn read_config(file: &Path) -> Result<Config, Trouble> {
    let facts = Facts { pod_ip: None, outward_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) };
    resolve(file, &facts).map(|(config, _)| config)
}

fn resolve(file: &Path, facts: &Facts) -> Result<(Config, Vec<Warning>), Trouble> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Trouble::Typed(format!("reading the configuration `{shown}`: {error}")))?;
    Config::resolve(&text, facts).map_err(|problems| {
        let told: String = problems.0.iter().map(|problem| format!("\n  {}", problem.text)).collect();
        Trouble::Typed(format!("the configuration `{shown}` cannot be used:{told}"))
    })
}

/// EC2 for a command that only looks: launches, machines and images are of a cluster and its version.
async fn ec2(config: &Config) -> Ec2 {
    Ec2::new(&sdk_config(&config.aws).await, config, "", 0, CloudCalls::default())
}

/// The address that this machine uses towards its default route. Connecting a UDP socket sends nothing; the
/// address is of a range for documentation.
fn outward_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

/// One line for whoever typed the command. That nobody reads it any more is no error.
fn say(line: impl Display) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Lines for whoever typed the command, each with its end.
fn print(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

/// One line about what went wrong.
fn complain(line: impl Display) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn verify_cli() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_is_what_users_are_told() {
        let mut command = Arguments::command().term_width(100);
        insta::assert_snapshot!(command.render_help(), @"
        Bursts Kubernetes pods onto cloud machines: one virtual node, and for every pod a machine with a
        real kubelet

        Usage: orca <COMMAND>

        Commands:
          run       Run the virtual node until it is told to stop
          check     Say what is wrong with a configuration, and try every connection that it describes
          plan      Show which machines a pod would get, in which order, and what was not chosen and why
          capacity  Show reservations, Capacity Blocks, spot prices, quotas and what is avoided
          stuck     List the pods for which the same thing fails again and again, or try one again now
          sweep     Show machines of this node without a pod, and what machines left behind, and end both
          version   Print the version
          help      Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help
          -V, --version  Print version
        ");
        let run = command.find_subcommand_mut("run").unwrap();
        insta::assert_snapshot!(run.render_help(), @"
        Run the virtual node until it is told to stop

        Usage: run [OPTIONS] --config <FILE>

        Options:
              --config <FILE>      The configuration: docs/configuration.md
              --namespace <NAME>   The namespace that ORCA keeps its Secret in [env: POD_NAMESPACE]
                                   [default: orca-system]
              --kubeconfig <FILE>  How to reach the API server; else $KUBECONFIG, ~/.kube/config or the
                                   pod's service account
          -h, --help               Print help
        ");
    }
}
