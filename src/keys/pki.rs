//! Certificates: two small authorities, what they sign, and the TLS that stands on them.
//!
//! Everything is Ed25519, so that signing the same thing again gives the same bytes: a restarted ORCA
//! renders the very file that a machine has already, and its kubelet need not be restarted.
//! Validity never ends by itself; a certificate is worth something only inside one machine's tunnel.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aws_lc_rs::hmac;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::{Keys, KeysError, random};

/// The name that serving certificates are made for, and that clients verify: all of them are reached
/// at a machine's loopback address.
pub const SERVING_NAME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Subject of the authority of serving certificates.
pub(super) const SERVING_CA: &str = "orca-serving-ca";
/// Subject of the authority of client certificates.
pub(super) const CLIENT_CA: &str = "orca-client-ca";
/// Subject of ORCA's own client certificate.
const CLIENT: &str = "orca";

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct CertKey {
    pub cert_pem: String,
    /// PKCS #8.
    pub key_pem: String,
}

impl std::fmt::Debug for CertKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertKey").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Keys {
    /// A serving certificate for [`SERVING_NAME`]. Equal `owner` (such as an instance id, or the word `gateway`),
    /// equal bytes; other owners get other keys.
    pub fn serving_cert(&self, owner: &str) -> Result<CertKey, KeysError> {
        let mut params = leaf(owner, ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = vec![
            SanType::IpAddress(SERVING_NAME),
            SanType::DnsName("localhost".try_into().map_err(|e| KeysError::make("a name", e))?),
        ];
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.token_key);
        let seed = hmac::sign(&key, format!("serving key of {owner}").as_bytes());
        self.issue(&params, &key_from_seed(seed.as_ref())?, SERVING_CA)
    }

    /// ORCA's client certificate, which guest kubelets accept. A new key each time.
    pub fn client_identity(&self) -> Result<CertKey, KeysError> {
        let params = leaf(CLIENT, ExtendedKeyUsagePurpose::ClientAuth);
        self.issue(&params, &key_from_seed(&random()?)?, CLIENT_CA)
    }

    /// TLS towards guest kubelets: verified by the serving authority under [`SERVING_NAME`] and identified as
    /// [`Self::client_identity`]. HTTP/1.1 alone, because streams to a kubelet are upgraded.
    pub fn kubelet_client_tls(&self) -> Result<Arc<ClientConfig>, KeysError> {
        let fail = |error: &dyn std::fmt::Display| KeysError::make("the TLS client configuration", error);
        let identity = self.client_identity()?;
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.serving_ca_cert.as_bytes()).map_err(|e| fail(&e))?)
            .map_err(|e| fail(&e))?;
        let cert = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).map_err(|e| fail(&e))?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|e| fail(&e))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| fail(&e))?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![cert], key)
            .map_err(|e| fail(&e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn issue(
        &self,
        params: &CertificateParams,
        key: &KeyPair,
        authority: &'static str,
    ) -> Result<CertKey, KeysError> {
        let ca_key = if authority == SERVING_CA { &self.serving_ca_key } else { &self.client_ca_key };
        let ca_key = KeyPair::from_pem(ca_key).map_err(|e| KeysError::make("a certificate", e))?;
        let issuer = Issuer::new(authority_params(authority), ca_key);
        let cert = params.signed_by(key, &issuer).map_err(|e| KeysError::make("a certificate", e))?;
        Ok(CertKey { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

/// A new certificate authority.
pub(super) fn authority(name: &'static str) -> Result<CertKey, KeysError> {
    let key = key_from_seed(&random()?)?;
    let cert = authority_params(name)
        .self_signed(&key)
        .map_err(|e| KeysError::make("a certificate authority", e))?;
    Ok(CertKey { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
}

/// Whether this is the authority called `name` and its key, or what is wrong with which of the two.
pub(super) fn check_authority(name: &str, pair: &CertKey) -> Result<(), (Half, String)> {
    let der = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes())
        .map_err(|error| (Half::Cert, error.to_string()))?;
    let (_, cert) =
        x509_parser::parse_x509_certificate(&der).map_err(|error| (Half::Cert, error.to_string()))?;
    let subject = cert.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
    if subject != Some(name) {
        return Err((Half::Cert, format!("subject is `{}`, expected `CN={name}`", cert.subject())));
    }
    if !cert.is_ca() {
        return Err((Half::Cert, "it is not a certificate authority".to_owned()));
    }
    let key = KeyPair::from_pem(&pair.key_pem).map_err(|error| (Half::Key, error.to_string()))?;
    if key.der_bytes() != cert.public_key().subject_public_key.data.as_ref() {
        return Err((Half::Key, "it is not the key of the certificate beside it".to_owned()));
    }
    Ok(())
}

/// Which half of a [`CertKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Cert,
    Key,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = unlimited(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = unlimited(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

fn unlimited(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2024, 1, 1);
    // RFC 5280, 4.1.2.5: a certificate without a well-defined end.
    params.not_after = date_time_ymd(9999, 12, 31);
    params
}

/// RFC 8410, section 7: the frame around the 32 bytes of an Ed25519 private key.
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

fn key_from_seed(seed: &[u8]) -> Result<KeyPair, KeysError> {
    let der = [&PKCS8_ED25519[..], seed].concat();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519)
        .map_err(|error| KeysError::make("a private key", error))
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::ServerName;
    use rustls::server::WebPkiClientVerifier;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// As the kubelet is configured: this serving certificate, and clients of that authority alone.
    fn kubelet(serving: &CertKey, client_ca: &str) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(client_ca.as_bytes()).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(serving.cert_pem.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(serving.key_pem.as_bytes()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// One byte each way, or the first error of the two sides.
    async fn shake_hands(server: TlsAcceptor, client: Arc<ClientConfig>) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serve = async {
            let (stream, _) = listener.accept().await?;
            let mut stream = server.accept(stream).await?;
            stream.write_u8(7).await?;
            stream.read_u8().await
        };
        let call = async {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let mut stream =
                TlsConnector::from(client).connect(ServerName::from(SERVING_NAME), stream).await?;
            let got = stream.read_u8().await?;
            stream.write_u8(got).await?;
            stream.flush().await
        };
        let (served, called) = tokio::join!(serve, call);
        called?;
        assert_eq!(served?, 7);
        Ok(())
    }

    #[tokio::test]
    async fn orca_and_its_kubelet_trust_each_other() {
        let keys = Keys::generate().unwrap();
        let server = kubelet(&keys.serving_cert("i-1").unwrap(), &keys.client_ca_cert);
        shake_hands(server, keys.kubelet_client_tls().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn another_orca_is_refused_by_the_kubelet_and_refuses_it() {
        let (keys, other) = (Keys::generate().unwrap(), Keys::generate().unwrap());
        let serving = keys.serving_cert("i-1").unwrap();
        // The client's authority is another's: the kubelet says no.
        let server = kubelet(&serving, &other.client_ca_cert);
        assert!(shake_hands(server, keys.kubelet_client_tls().unwrap()).await.is_err());
        // The kubelet's authority is another's: the client says no.
        let server = kubelet(&serving, &other.client_ca_cert);
        assert!(shake_hands(server, other.kubelet_client_tls().unwrap()).await.is_err());
    }

    #[test]
    fn a_serving_certificate_is_the_same_each_time_and_differs_between_machines() {
        let keys = Keys::generate().unwrap();
        assert_eq!(keys.serving_cert("i-1").unwrap(), keys.serving_cert("i-1").unwrap());
        let other = keys.serving_cert("i-2").unwrap();
        assert_ne!(keys.serving_cert("i-1").unwrap().key_pem, other.key_pem);
    }

    #[test]
    fn an_authority_with_the_key_of_another_is_told_apart() {
        let (one, two) = (authority(SERVING_CA).unwrap(), authority(SERVING_CA).unwrap());
        assert_eq!(check_authority(SERVING_CA, &one), Ok(()));
        let mixed = CertKey { cert_pem: one.cert_pem.clone(), key_pem: two.key_pem };
        assert_eq!(check_authority(SERVING_CA, &mixed).unwrap_err().0, Half::Key);
        assert_eq!(check_authority(CLIENT_CA, &one).unwrap_err().0, Half::Cert);
        let torn = CertKey { cert_pem: one.cert_pem[..40].to_owned(), key_pem: one.key_pem };
        assert_eq!(check_authority(SERVING_CA, &torn).unwrap_err().0, Half::Cert);
    }
}
