//! TLS of the endpoint: its certificate, and the client certificates it asks for.
//!
//! Given files, a certificate that the cluster issues (`csr`), else a self-signed one, which the API server accepts
//! unless it was told `--kubelet-certificate-authority`. What changes is taken while running, without a restart;
//! connections that are open keep what they began with.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use super::csr::Issued;
use crate::config::TlsFiles;

/// How often files and client CA are read again.
const REFRESH: Duration = Duration::from_mins(1);
/// How long the API server may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where the serving certificate comes from.
#[derive(Debug)]
pub enum Serving {
    Files(TlsFiles),
    /// Whatever was issued last; a self-signed one until then.
    Issued(watch::Receiver<Option<Arc<Issued>>>),
    SelfSigned,
}

/// Where certificates come from.
pub struct Source {
    client: kube::Client,
    serving: Serving,
    self_signed: Issued,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("serving", &self.serving).finish_non_exhaustive()
    }
}

impl Source {
    /// Prepares the self-signed certificate, too: for `node` at `address`.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn new(client: kube::Client, serving: Serving, node: &str, address: IpAddr) -> anyhow::Result<Self> {
        let key = rcgen::KeyPair::generate().context("making the endpoint's key")?;
        let mut params = rcgen::CertificateParams::new(vec![node.to_owned(), address.to_string()])
            .context("naming the endpoint's certificate")?;
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.self_signed(&key).context("signing the endpoint's certificate")?;
        let self_signed = Issued { chain: vec![certificate.der().clone()], key: key.serialize_der() };
        Ok(Self { client, serving, self_signed })
    }

    /// The TLS configuration of now.
    ///
    /// # Errors
    /// When the cluster's client CA or the given files cannot be read.
    pub async fn load(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let (chain, key) = match &self.serving {
            Serving::Files(files) => read_files(files).await?,
            Serving::Issued(issued) => of_memory(issued.borrow().as_deref().unwrap_or(&self.self_signed)),
            Serving::SelfSigned => of_memory(&self.self_signed),
        };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in self.client_ca().await? {
            roots.add(certificate).context("reading the cluster's client CA")?;
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .allow_unauthenticated()
            .build()
            .context("preparing the verifier of client certificates")?;
        let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        // The API server's upgrades speak HTTP/1.1 only, and so each log follower has a connection of its own.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Keeps `current` fresh. Never ends; a failed refresh leaves what was good.
    pub async fn refresh(&self, current: &watch::Sender<Arc<ServerConfig>>) {
        let mut issued = match &self.serving {
            Serving::Issued(issued) => Some(issued.clone()),
            Serving::Files(_) | Serving::SelfSigned => None,
        };
        loop {
            tokio::select! {
                () = tokio::time::sleep(REFRESH) => {}
                () = changed(issued.as_mut()) => {}
            }
            match self.load().await {
                Ok(fresh) => {
                    current.send_replace(fresh);
                }
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "reading the endpoint's certificates again failed"
                ),
            }
        }
    }

    /// The CA that the API server's client certificate is signed by, as every extension server learns it.
    async fn client_ca(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), "kube-system");
        let map = tokio::time::timeout(DEADLINE, maps.get("extension-apiserver-authentication"))
            .await
            .context("reading ConfigMap kube-system/extension-apiserver-authentication")?
            .context("reading ConfigMap kube-system/extension-apiserver-authentication")?;
        let pem = map.data.and_then(|mut data| data.remove("client-ca-file")).context(
            "ConfigMap kube-system/extension-apiserver-authentication has no `client-ca-file`: start the API server with --client-ca-file",
        )?;
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .context("reading `client-ca-file`")
    }
}

/// Returns when another certificate was issued; never, where none is.
async fn changed(issued: Option<&mut watch::Receiver<Option<Arc<Issued>>>>) {
    if let Some(issued) = issued
        && issued.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn of_memory(from: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    (from.chain.clone(), PrivateKeyDer::from(PrivatePkcs8KeyDer::from(from.key.clone())))
}

async fn read_files(
    files: &TlsFiles,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let read = async |path: &std::path::Path| {
        tokio::fs::read(path).await.with_context(|| format!("reading `{}`", path.display()))
    };
    let chain = CertificateDer::pem_slice_iter(&read(&files.cert_file).await?)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("reading certificates of `{}`", files.cert_file.display()))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key_file).await?)
        .with_context(|| format!("reading the key of `{}`", files.key_file.display()))?;
    Ok((chain, key))
}
