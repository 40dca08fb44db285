//! The one question that the controller has for a machine's kubelet: does anything of the pod still run?

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::core::ObjectList;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::link::Links;

/// For the whole question.
const DEADLINE: Duration = Duration::from_secs(10);
/// An answer about one pod is much smaller.
const MAX_ANSWER: usize = 4 << 20;

/// Whether containers of the pod run on its machine.
///
/// # Errors
/// The kubelet cannot be asked now; that says nothing.
pub(super) async fn runs(links: &Arc<dyn Links>, uid: &str) -> anyhow::Result<bool> {
    tokio::time::timeout(DEADLINE, ask(links, uid)).await?
}

async fn ask(links: &Arc<dyn Links>, uid: &str) -> anyhow::Result<bool> {
    let tls =
        links.kubelet_tls(uid).ok_or_else(|| anyhow::anyhow!("no TLS configuration for the kubelet"))?;
    let stream = links.kubelet_stream(uid, DEADLINE).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request =
        http::Request::get("/runningpods/").header("host", "127.0.0.1").body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        anyhow::ensure!(response.status().is_success(), "the kubelet answered {}", response.status());
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("reading the answer: {error}"))?.to_bytes();
        let pods: ObjectList<Pod> = serde_json::from_slice(&body)?;
        Ok(has(&pods, uid))
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        ended = connection => {
            ended?;
            anyhow::bail!("the kubelet closed the connection")
        }
    }
}

fn has(pods: &ObjectList<Pod>, uid: &str) -> bool {
    let ours = |pod: &&Pod| pod.metadata.uid.as_deref() == Some(uid);
    pods.items
        .iter()
        .filter(ours)
        .any(|pod| pod.spec.as_ref().is_some_and(|spec| !spec.containers.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_runs_while_the_kubelet_lists_containers_of_it() {
        let answer = r#"{"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [
            {"metadata": {"name": "a", "uid": "u-a"}, "spec": {"containers": [{"name": "c"}]}},
            {"metadata": {"name": "b", "uid": "u-b"}, "spec": {"containers": []}}]}"#;
        let pods: ObjectList<Pod> = serde_json::from_str(answer).unwrap();
        assert!(has(&pods, "u-a") && !has(&pods, "u-b") && !has(&pods, "u-c"));
    }
}
