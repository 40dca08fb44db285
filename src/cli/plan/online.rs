//! The market and the cluster as `orca run` would see them now.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::Api;

use super::{Plan, Trouble};
use crate::app::kube_config;
use crate::cloud::CloudError;
use crate::controller::Owners;
use crate::pod::layers::Layer;

/// No answer of an API server takes longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster, if there is one to ask.
pub(super) struct Cluster {
    client: Client,
    owners: Owners,
}

impl Cluster {
    /// Whatever kubeconfig there is. Nothing is asked yet.
    pub(super) async fn find(args: &Plan) -> Result<Self, String> {
        let client = async {
            let mut kube = kube_config(args.kubeconfig.as_deref()).await?;
            kube.connect_timeout = Some(PATIENCE);
            kube.read_timeout = Some(PATIENCE);
            anyhow::Ok(Client::try_from(kube)?)
        };
        // kube's errors repeat their causes; the first and the last say it all.
        let client = client.await.map_err(|error| format!("{error}: {}", error.root_cause()))?;
        Ok(Self { client, owners: Owners::default() })
    }

    /// The live pod, and the layers behind its own.
    pub(super) async fn pod(&self, namespace: &str, name: &str) -> Result<(Pod, Vec<Layer>), Trouble> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let read = async {
            let pod = pods.get(name).await?;
            let layers = self.owners.layers(&self.client, &pod).await?;
            Ok::<_, kube::Error>((pod, layers))
        };
        let what = format!("reading pod {namespace}/{name}");
        within(read).await.map_err(|error| Trouble::Failed(format!("{what}: {error}")))
    }

    /// What the namespace wishes.
    pub(super) async fn namespace(&self, name: &str) -> Result<Option<Layer>, String> {
        within(self.owners.namespace(&self.client, name)).await
    }
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

/// What went wrong, in words for a person.
pub(super) fn unread(error: &CloudError) -> Trouble {
    Trouble::Failed(format!("reading the market: {error}"))
}
