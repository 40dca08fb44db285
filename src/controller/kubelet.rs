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
    use std::sync::Mutex;

    use async_trait::async_trait;
    use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::sync::broadcast;
    use tokio::task::JoinSet;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::link::{LinkStatus, Machine};
    use crate::tunnel::{ByteStream, TunnelError};

    /// One machine whose kubelet answers every request alike.
    #[derive(Debug)]
    struct OneKubelet {
        client: Arc<rustls::ClientConfig>,
        server: Arc<rustls::ServerConfig>,
        answer: &'static str,
        served: Mutex<JoinSet<()>>,
    }

    #[async_trait]
    impl Links for OneKubelet {
        fn ensure(&self, _machine: Machine) {}
        fn status(&self, _pod_uid: &str) -> Option<LinkStatus> {
            None
        }
        fn revoke(&self, _pod_uid: &str) -> bool {
            false
        }
        fn shut_down(&self, _pod_uid: &str) {}
        fn is_ending(&self, _pod_uid: &str) -> bool {
            false
        }
        fn remove(&self, _pod_uid: &str) {}
        fn uids(&self) -> Vec<String> {
            vec![]
        }
        fn pod(&self, _pod_uid: &str) -> Option<(String, String)> {
            None
        }
        fn subscribe(&self) -> broadcast::Receiver<String> {
            broadcast::channel(1).1
        }
        async fn kubelet_stream(
            &self,
            _pod_uid: &str,
            _deadline: Duration,
        ) -> Result<ByteStream, TunnelError> {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let (server, answer) = (self.server.clone(), self.answer);
            self.served.lock().unwrap().spawn(async move {
                let stream = TlsAcceptor::from(server).accept(theirs).await.unwrap();
                let service = hyper::service::service_fn(
                    move |request: http::Request<hyper::body::Incoming>| async move {
                        assert_eq!(request.uri(), "/runningpods/");
                        Ok::<_, std::convert::Infallible>(http::Response::new(
                            http_body_util::Full::<Bytes>::from(answer),
                        ))
                    },
                );
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .ok();
            });
            Ok(Box::new(ours))
        }
        async fn command(&self, _: &str, _: &str, _: Duration) -> Result<ByteStream, TunnelError> {
            Err(TunnelError::NotYet("only pretends".to_owned()))
        }
        async fn scrape_stream(&self, pod_uid: &str, deadline: Duration) -> Result<ByteStream, TunnelError> {
            self.kubelet_stream(pod_uid, deadline).await
        }
        fn kubelet_tls(&self, _pod_uid: &str) -> Option<Arc<rustls::ClientConfig>> {
            Some(self.client.clone())
        }
    }

    fn mk_links(answer: &'static str) -> Arc<dyn Links> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let served = Mutex::default();
        Arc::new(OneKubelet { client: Arc::new(client), server: Arc::new(server), answer, served })
    }

    #[tokio::test]
    async fn a_pod_runs_while_the_kubelet_lists_containers_of_it() {
        let links = mk_links(
            r#"{"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [
                {"metadata": {"name": "a", "uid": "u-a"}, "spec": {"containers": [{"name": "c"}]}},
                {"metadata": {"name": "b", "uid": "u-b"}, "spec": {"containers": []}}]}"#,
        );
        assert!(runs(&links, "u-a").await.unwrap());
        assert!(!runs(&links, "u-b").await.unwrap());
        assert!(!runs(&links, "u-c").await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_that_is_no_list_says_nothing() {
        assert!(runs(&mk_links("<html>"), "u-a").await.is_err());
    }
}
