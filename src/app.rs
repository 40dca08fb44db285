//! The only place that knows every part: wires the ports, owns the tasks and their end.
//!
//! A process prepares all that is ready before it leads (`parts`), follows until it is elected, and then acts (`acting`)
//! until it is asked to end (`shutdown`), or until it has lost the election: then it ends at once.

mod acting;
mod archive;
mod checks;
mod cluster;
mod meters;
mod parts;
mod shutdown;
mod signals;
mod tasks;
mod traced;

pub(crate) use cluster::Cluster;
pub use cluster::kube_config;
pub use meters::Meters;
pub use shutdown::{Lease, Report};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::leader::{Election, Lost, Role, watchdog};
use acting::{Acting, act};
use parts::Parts;
use shutdown::shut_down;
use signals::Signals;
use tasks::Tasks;

use crate::config::Config;

/// What is not in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppOptions {
    /// Else `$KUBECONFIG`, `~/.kube/config` or the service account.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace that ORCA keeps its Secret and its Lease in.
    pub namespace: String,
    /// By which it stands for election; no two processes that live at one time may have the same.
    pub identity: String,
}

/// How a run ended, where nothing went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to, and this was left.
    Stopped(Report),
    /// It was asked twice, and finished nothing.
    Cut,
    /// Somebody else acts now, or may.
    Lost(Lost),
}

impl End {
    /// The exit code of the process; 1 is any error, and 2 what was typed wrong.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Stopped(report) if report.is_clean() => 0,
            Self::Stopped(_) => 3,
            Self::Lost(_) => LOST,
            Self::Cut => 5,
        }
    }
}

/// The exit code of a leader that is none any more.
const LOST: u8 = 4;
/// How long the first word about the Lease is waited for before pods are watched all the same.
const VERDICT: Duration = Duration::from_secs(2);
/// A process whose fence has closed ends by itself within this, or is ended.
const GRACE: Duration = Duration::from_secs(2);

/// Runs until a signal asks it to stop, or it loses the election. Machines and their containers stay as they are: the
/// next start finds them.
///
/// # Errors
/// When a part cannot start, or ends by itself.
pub async fn run(config: Config, options: AppOptions) -> Result<End> {
    let mut stop = Signals::new()?;
    let mut tasks = Tasks::default();
    let (parts, socket) = tokio::select! {
        prepared = Parts::prepare(config, options, &mut tasks) => prepared?,
        name = stop.next() => return Ok(stopped_early(name)),
    };
    let election = parts.stand();
    let mut role = election.role();
    let before = tokio::select! {
        elected = elected(&parts, &mut tasks, &mut role) => elected?,
        name = stop.next() => {
            // It may have been elected in this very moment.
            drop(election.resign(GRACE).await);
            return Ok(stopped_early(name));
        }
    };
    let code = Arc::new(AtomicU8::new(LOST));
    if parts.config.leader_election.is_some() {
        let (fence, code) = (parts.fence.clone(), code.clone());
        // It ends with the process, or the process with it.
        drop(watchdog(fence, GRACE, move || end_now(code.load(Ordering::SeqCst)))?);
    }
    let acting = act(&parts, &mut tasks, socket, before)?;
    let name = tokio::select! {
        lost = lost(&mut role) => return Ok(End::Lost(lost)),
        error = tasks.broken() => return Err(error),
        name = stop.next() => name,
    };
    tracing::info!(signal = name, deadline_ms = parts.config.shutdown.deadline.as_millis(), "stopping");
    // What it ends with if it is ended while it says goodbye.
    code.store(End::Cut.code(), Ordering::SeqCst);
    finish(&parts, acting, tasks, election, &mut stop).await
}

async fn finish(
    parts: &Parts,
    acting: Acting,
    tasks: Tasks,
    election: Election,
    stop: &mut Signals,
) -> Result<End> {
    let mut role = election.role();
    let deadline = parts.config.shutdown.deadline + GRACE;
    tokio::select! {
        report = timeout(deadline, shut_down(parts, &acting, tasks, election)) => {
            Ok(End::Stopped(report.context("stopping took longer than shutdown.deadline")?))
        }
        lost = lost(&mut role) => Ok(End::Lost(lost)),
        name = stop.next() => {
            tracing::warn!(signal = name, "asked again: stopped at once, and all that was under way is left");
            Ok(End::Cut)
        }
    }
}

/// Waits until this process leads, warm: what is known of pods then is no older than its leadership. Answers who led
/// before.
async fn elected(
    parts: &Parts,
    tasks: &mut Tasks,
    role: &mut watch::Receiver<Role>,
) -> Result<Option<String>> {
    // Who leads at once reads the pods once.
    drop(timeout(VERDICT, role.wait_for(|role| *role != Role::Stands)).await);
    let mut is_warm = false;
    loop {
        let now = role.borrow_and_update().clone();
        match now {
            Role::Leads { before } => {
                tracing::info!(identity = parts.identity, before, "leads");
                if is_warm {
                    let mut held = role.clone();
                    tokio::select! {
                        () = parts.pods.refresh() => {}
                        lost = lost(&mut held) => return Err(lost.into()),
                    }
                } else {
                    parts.watch_pods(tasks);
                }
                return Ok(before);
            }
            Role::Follows { holder } => tracing::info!(identity = parts.identity, leader = holder, "follows"),
            Role::Stands => tracing::warn!(identity = parts.identity, "does not know yet who leads"),
            Role::Lost(lost) => return Err(lost.into()),
        }
        if !is_warm {
            parts.watch_pods(tasks);
            is_warm = true;
        }
        tokio::select! {
            error = tasks.broken() => return Err(error),
            changed = role.changed() => changed.context("the election ended by itself")?,
        }
    }
}

/// Waits until it leads no more.
async fn lost(role: &mut watch::Receiver<Role>) -> Lost {
    loop {
        if let Role::Lost(lost) = &*role.borrow_and_update() {
            return lost.clone();
        }
        if role.changed().await.is_err() {
            // Nobody else ever leads, or it was given up by ourselves.
            std::future::pending::<()>().await;
        }
    }
}

fn stopped_early(signal: &'static str) -> End {
    tracing::info!(signal, "stopped before it led");
    End::Stopped(Report::default())
}

/// Ends a process that does not end by itself although it must not act any more.
#[expect(
    clippy::exit,
    reason = "its runtime may be stalled, and whoever is stalled cannot be asked to return"
)]
fn end_now(code: u8) {
    tracing::error!(code, "this process may not act any more, and did not end by itself: it is ended");
    std::process::exit(i32::from(code));
}
