//! The command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::machine::none::NoMachines;
use crate::machine::nspawn::{self, Nspawn, NspawnOptions};
use crate::machine::{Machines, agent};
use crate::runpod::container::Containers;
use crate::runpod::container::linux::{self, LinuxContainers, LinuxOptions};
use crate::runpod::container::none::NoContainers;
use crate::runpod::settings::Settings;
use crate::runpod::{self, RunPod};
use crate::ssm::Ssm;
use crate::world::throttle::Rates;
use crate::world::{World, WorldConfig};

/// A cloud on one machine.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve EC2, STS, SSM, CloudWatch Logs, the price list and the control endpoint on one port, and RunPod on another if
    /// asked to, until SIGTERM
    Serve(Box<Serve>),
    /// Play the SSM agent's part in the network namespace that it is started in
    Agent {
        /// Unix socket to listen on
        #[arg(long)]
        socket: PathBuf,
    },
    /// Remove what a killed local cloud left on this host
    Clean {
        /// Where its machines and pods kept their files
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:4566")]
    listen: SocketAddr,
    /// Where machines keep their files
    #[arg(long, default_value = "target/local/cloud")]
    dir: PathBuf,
    /// What instances are made of
    #[arg(long, value_enum, default_value_t = MachineKind::None)]
    machines: MachineKind,
    /// Root file system that machines boot from
    #[arg(long, required_if_eq("machines", "nspawn"))]
    image: Option<PathBuf>,
    /// Address of the image registry that machines ask first
    #[arg(long, default_value = "127.0.0.1:5000")]
    registry: SocketAddr,
    /// Shortest time of an instance's state transition, in milliseconds
    #[arg(long, default_value_t = 200)]
    state_delay_ms: u64,
    /// How long instances are invisible after their launch, in milliseconds
    #[arg(long, default_value_t = 0)]
    describe_lag_ms: u64,
    /// How long terminated instances stay visible, in seconds
    #[arg(long, default_value_t = 3600)]
    terminated_for_s: u64,
    /// How long a terminated machine may take to shut down before its power is cut, in milliseconds
    #[arg(long, default_value_t = 5000)]
    shutdown_grace_ms: u64,
    /// Token buckets for EC2's calls; the control endpoint can change them
    #[arg(long, value_enum, default_value_t = Throttling::Off)]
    throttle: Throttling,
    /// Address to serve RunPod on, with a control endpoint of its own; without it there is none
    #[arg(long, value_name = "ADDRESS")]
    runpod: Option<SocketAddr>,
    /// What RunPod's pods are made of
    #[arg(long, value_enum, default_value_t = PodKind::None)]
    pods: PodKind,
    /// The program `crane`, which pulls their images
    #[arg(long, required_if_eq("pods", "containers"))]
    crane: Option<PathBuf>,
    /// Where their TCP ports are published
    #[arg(long, default_value = "127.89.0.1")]
    public_ip: Ipv4Addr,
    /// A key pair that is accepted beside test:test, as KEY:SECRET or KEY:SECRET:SESSION_TOKEN
    #[arg(long = "credential", value_name = "KEY:SECRET")]
    credentials: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Throttling {
    /// None
    Off,
    /// Of the sizes that EC2 publishes
    Aws,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MachineKind {
    /// States only
    None,
    /// A systemd-nspawn machine for every instance
    Nspawn,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PodKind {
    /// States only
    None,
    /// A container for every pod
    Containers,
}

impl Cli {
    /// Does what the command line says.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run().await,
            Command::Agent { socket } => agent::run(socket).await,
            Command::Clean { dir } => {
                // The one is not kept from going by the other.
                let machines = nspawn::cleanup(&dir).await;
                linux::cleanup(&pods_dir(&dir)).await.and(machines)
            }
        }
    }
}

impl Serve {
    async fn run(self) -> anyhow::Result<()> {
        let Self {
            listen,
            dir,
            machines,
            image,
            registry,
            state_delay_ms,
            describe_lag_ms,
            terminated_for_s,
            shutdown_grace_ms,
            throttle,
            runpod,
            pods,
            crane,
            public_ip,
            credentials,
        } = self;
        let mut config = WorldConfig::default();
        config.timing.transition = Duration::from_millis(state_delay_ms);
        config.timing.describe_lag = Duration::from_millis(describe_lag_ms);
        config.timing.terminated = Duration::from_secs(terminated_for_s);
        config.timing.shutdown_grace = Duration::from_millis(shutdown_grace_ms);
        config.rates = match throttle {
            Throttling::Off => None,
            Throttling::Aws => Some(Rates::default()),
        };
        for pair in &credentials {
            let mut parts = pair.splitn(3, ':');
            let (key, secret) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            anyhow::ensure!(
                !key.is_empty() && !secret.is_empty(),
                "`--credential {pair}`: expected KEY:SECRET"
            );
            config.keys.add(key, secret, parts.next());
        }
        // Before the port opens: whoever reaches it may rely on the signal.
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
        let address = listener.local_addr().context("own address")?;
        let pods = match runpod {
            Some(listen) => Some(Pods::start(listen, pods, &dir, crane, registry, public_ip).await?),
            None => None,
        };
        let nspawn = match machines {
            MachineKind::None => None,
            MachineKind::Nspawn => {
                let image = image.context("`--image` is missing")?;
                let agent = std::env::current_exe().context("own program")?;
                Some(Nspawn::start(NspawnOptions { dir, image, registry, agent }).await?)
            }
        };
        let made: Arc<dyn Machines> = match &nspawn {
            Some(nspawn) => nspawn.clone(),
            None => Arc::new(NoMachines::default()),
        };
        let world = World::start(config, made);
        let ssm = Ssm::new(world.clone(), format!("http://{address}"));
        tracing::info!(%address, "the local cloud is up");
        let ending = CancellationToken::new();
        let aws = app::serve(listener, app::router(world.clone(), ssm), ending.cancelled());
        let signalled = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            ending.cancel();
        };
        match pods {
            Some(Pods { runpod, listener, containers }) => {
                let served = app::serve(listener, runpod::router(runpod.clone()), ending.cancelled());
                tokio::join!(aws, served, signalled);
                tracing::info!("ending every pod");
                runpod.end().await;
                if let Some(containers) = containers {
                    containers.stop_all().await?;
                }
            }
            None => drop(tokio::join!(aws, signalled)),
        }
        tracing::info!("ending every machine");
        world.end().await;
        match nspawn {
            Some(nspawn) => nspawn.stop().await,
            None => Ok(()),
        }
    }
}

/// RunPod, before it is served.
struct Pods {
    runpod: Arc<RunPod>,
    listener: TcpListener,
    containers: Option<Arc<LinuxContainers>>,
}

impl Pods {
    async fn start(
        listen: SocketAddr,
        kind: PodKind,
        dir: &Path,
        crane: Option<PathBuf>,
        registry: SocketAddr,
        public_ip: Ipv4Addr,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
        let address = listener.local_addr().context("own address")?;
        let containers = match kind {
            PodKind::None => None,
            PodKind::Containers => {
                let crane = crane.context("`--crane` is missing")?;
                let options = LinuxOptions { dir: pods_dir(dir), crane, registry, public_ip };
                Some(LinuxContainers::start(options).await?)
            }
        };
        let made: Arc<dyn Containers> = match &containers {
            Some(containers) => containers.clone(),
            None => Arc::new(NoContainers::default()),
        };
        tracing::info!(runpod = %address, "RunPod is up");
        Ok(Self { runpod: RunPod::start(Settings::default(), made), listener, containers })
    }
}

fn pods_dir(dir: &Path) -> PathBuf {
    dir.join("pods")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
