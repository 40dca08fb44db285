//! The API server, asked without a kubectl: what is asked again and again must not cost a process each time.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// A client of the cluster's administrator.
pub(super) struct Cluster {
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
}

impl Cluster {
    pub(super) fn new(kubeconfig: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let file = kube::config::Kubeconfig::read_from(kubeconfig)?;
        let client = runtime.block_on(async {
            let config =
                kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
                    .await?;
            anyhow::Ok(kube::Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client })
    }

    /// What is at a path; `None` if nothing is.
    pub(super) fn get(&self, path: &str) -> Result<Option<Value>> {
        let request = http::Request::get(path).body(Vec::new())?;
        match self.runtime.block_on(self.client.request(request)) {
            Ok(found) => Ok(Some(found)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error).with_context(|| format!("GET {path}")),
        }
    }
}
