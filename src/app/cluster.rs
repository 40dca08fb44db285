//! The cluster: how it is reached, and what is asked of it once.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::time::{sleep, timeout};

/// How long one look at the API server may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between looks, while it is away.
const AGAIN: Duration = Duration::from_secs(2);

/// What is asked of the cluster once.
pub(crate) struct Cluster {
    /// The UID of the namespace `kube-system`: the one thing that every cluster has and keeps.
    pub(crate) id: String,
    /// Such as `v1.36.3`.
    pub(crate) version: String,
    pub(crate) minor: u32,
}

impl Cluster {
    /// Waits until there is an API server: who ended because it was away is started again while it still is.
    pub(super) async fn find(client: &Client) -> Result<Self> {
        loop {
            match timeout(PATIENCE, Self::ask(client)).await {
                Ok(Err(error)) if !is_away(&error) => return Err(error),
                Ok(Ok(cluster)) => return Ok(cluster),
                Ok(Err(error)) => {
                    tracing::warn!(error = format!("{error:#}"), "waiting for the API server");
                }
                Err(_) => tracing::warn!("waiting for the API server: no answer within {PATIENCE:?}"),
            }
            sleep(AGAIN).await;
        }
    }

    /// Asks once.
    pub(crate) async fn ask(client: &Client) -> Result<Self> {
        let info = client.apiserver_version().await.context("asking the API server for its version")?;
        // Managed clusters report `36+`.
        let minor = info
            .minor
            .trim_end_matches('+')
            .parse()
            .with_context(|| format!("minor version `{}`", info.minor))?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let system = namespaces.get("kube-system").await.context("reading namespace `kube-system`")?;
        let id = system.metadata.uid.context("namespace `kube-system` has no uid")?;
        Ok(Self { id, version: info.git_version, minor })
    }
}

/// Whether nobody answered, or somebody who cannot now.
fn is_away(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => status.code >= 500 || status.code == 429,
        Some(kube::Error::Service(_) | kube::Error::HyperError(_)) => true,
        Some(_) | None => false,
    }
}

/// How to reach the API server: by the file, else by `$KUBECONFIG`, `~/.kube/config` or the service account.
///
/// # Errors
/// When there is no configuration, or it does not parse.
pub async fn kube_config(kubeconfig: Option<&std::path::Path>) -> Result<kube::Config> {
    let Some(file) = kubeconfig else {
        return kube::Config::infer().await.context("no kubeconfig, and not in a cluster");
    };
    let read = || format!("reading the kubeconfig `{}`", file.display());
    let parsed = Kubeconfig::read_from(file).with_context(read)?;
    kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.with_context(read)
}
