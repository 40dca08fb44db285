//! The API server, asked by someone who does not give up: in a storm it goes away and comes back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

/// How long it may be away.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(300);

/// A client of the cluster's administrator.
pub(crate) struct Api {
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
}

impl Api {
    pub(crate) fn new(kubeconfig: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let file = kube::config::Kubeconfig::read_from(kubeconfig)?;
        let client = runtime.block_on(async {
            let options = kube::config::KubeConfigOptions::default();
            let mut config = kube::Config::from_custom_kubeconfig(file, &options).await?;
            config.read_timeout = Some(Duration::from_secs(20));
            anyhow::Ok(kube::Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client })
    }

    /// What is at a path; `None` if nothing is.
    pub(crate) fn get(&self, path: &str) -> Result<Option<Value>> {
        self.send("GET", path, None)
    }

    /// Creates an object; one that is there already was created by an attempt whose answer was lost.
    pub(crate) fn create(&self, path: &str, object: &Value) -> Result<()> {
        self.send("POST", path, Some(object)).map(drop)
    }

    /// Deletes an object with these options; `None` if there is none.
    pub(crate) fn delete(&self, path: &str, options: &Value) -> Result<Option<Value>> {
        self.send("DELETE", path, Some(options))
    }

    /// Changes an object by a merge patch.
    pub(crate) fn patch(&self, path: &str, patch: &Value) -> Result<()> {
        self.send("PATCH", path, Some(patch)).map(drop)
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Option<Value>> {
        let begin = Instant::now();
        loop {
            let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            let bytes = body.map(ToString::to_string).unwrap_or_default().into_bytes();
            let request = http::Request::builder().method(method).uri(path).header("content-type", content);
            let error = match self.runtime.block_on(self.client.request::<Value>(request.body(bytes)?)) {
                Ok(found) => return Ok(Some(found)),
                Err(kube::Error::Api(status)) if status.code == 404 && method != "POST" => return Ok(None),
                Err(kube::Error::Api(status)) if status.code == 409 && method == "POST" => return Ok(None),
                Err(error) => error,
            };
            if begin.elapsed() > PATIENCE {
                return Err(error).with_context(|| format!("{method} {path}"));
            }
            std::thread::sleep(PAUSE);
        }
    }
}
