//! The only place that knows every part: wires the ports, owns the tasks and their end.

use std::path::PathBuf;

use crate::config::Config;

/// What is not in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppOptions {
    /// Else `$KUBECONFIG`, `~/.kube/config` or the service account.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace that ORCA keeps its Secret in.
    pub namespace: String,
}

/// Runs until a signal asks it to stop.
///
/// # Errors
/// When a part cannot start, or ends by itself.
pub async fn run(config: Config, options: AppOptions) -> anyhow::Result<()> {
    tracing::info!(node = config.node.name, namespace = options.namespace, "started");
    tokio::signal::ctrl_c().await?;
    Ok(())
}
