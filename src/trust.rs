//! TLS towards services on the internet that no SDK speaks to: whom the system trusts.

use std::sync::Arc;

/// TLS with the certificates that the system trusts, read now.
pub(crate) fn system() -> Arc<rustls::ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(%error, "a trusted certificate could not be read");
    }
    let mut roots = rustls::RootCertStore::empty();
    let (_, ignored) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::error!(
            ignored,
            "no trusted certificates were found; no service on the internet can be reached"
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
