//! The gateway's serving certificate: for the loopback address that a guest's kubelet dials, signed by the
//! authority in its kubeconfig, made anew long before it ends.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use jiff::{Timestamp, ToSpan};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, string::PrintableString,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::asn1_rs::Tag;

/// Names under which a kubelet may dial the forwarded port.
const NAMES: [&str; 3] = ["127.0.0.1", "::1", "localhost"];
/// How long a certificate is valid, and after how long another one is made.
const VALID_DAYS: i64 = 30;
const RENEW_DAYS: i64 = 7;

/// Makes and keeps the serving certificate.
pub(crate) struct Serving {
    ca_cert: String,
    ca_key: String,
    current: Mutex<Option<(Timestamp, Arc<ServerConfig>)>>,
}

impl Serving {
    /// By an authority, both PEM. The first certificate is made at once, so that a bad authority is told at start.
    pub(crate) fn new(ca_cert: &str, ca_key: &str, now: Timestamp) -> anyhow::Result<Self> {
        let serving =
            Self { ca_cert: ca_cert.to_owned(), ca_key: ca_key.to_owned(), current: Mutex::default() };
        serving.config(now)?;
        Ok(serving)
    }

    /// The configuration for a new connection.
    pub(crate) fn config(&self, now: Timestamp) -> anyhow::Result<Arc<ServerConfig>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, config)) = &*current
            && now.duration_since(*made).as_hours() < RENEW_DAYS * 24
        {
            return Ok(config.clone());
        }
        let config = Arc::new(server_config(&self.ca_cert, &self.ca_key, now)?);
        *current = Some((now, config.clone()));
        Ok(config)
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

fn server_config(ca_cert: &str, ca_key: &str, now: Timestamp) -> anyhow::Result<ServerConfig> {
    let ca_key = KeyPair::from_pem(ca_key).context("reading the key of the serving authority")?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name = subject_of(ca_cert)?;
    let issuer = Issuer::new(authority, ca_key);

    let key = KeyPair::generate().context("making a key")?;
    let mut params =
        CertificateParams::new(NAMES.map(str::to_owned).to_vec()).context("naming the certificate")?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "orca-gateway");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Whole days, and two before now: a machine's clock may be wrong when it boots.
    let (year, month, date) = day(now, -2)?;
    params.not_before = rcgen::date_time_ymd(year, month, date);
    let (year, month, date) = day(now, VALID_DAYS)?;
    params.not_after = rcgen::date_time_ymd(year, month, date);
    let certificate = params.signed_by(&key, &issuer).context("signing the gateway's certificate")?;

    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("using the gateway's certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The day `days` from now, as the arguments of [`rcgen::date_time_ymd`].
fn day(now: Timestamp, days: i64) -> anyhow::Result<(i32, u8, u8)> {
    let date = now
        .checked_add((days * 24).hours())
        .context("reckoning with the certificate's dates")?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    Ok((i32::from(date.year()), u8::try_from(date.month())?, u8::try_from(date.day())?))
}

/// The subject of a certificate, to the byte: an issuer that is spelled otherwise is no issuer.
fn subject_of(pem: &str) -> anyhow::Result<DistinguishedName> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|error| anyhow!("the serving authority is no PEM certificate: {error}"))?;
    let certificate =
        pem.parse_x509().map_err(|error| anyhow!("the serving authority is no certificate: {error}"))?;
    let mut name = DistinguishedName::new();
    for attribute in certificate.subject().iter_attributes() {
        let oid: Vec<u64> =
            attribute.attr_type().iter().context("an attribute of the authority has no OID")?.collect();
        let text = attribute.as_str().map_err(|error| anyhow!("an attribute of the authority: {error}"))?;
        let value = match attribute.attr_value().tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(
                PrintableString::try_from(text).context("an attribute of the authority")?,
            ),
            other => {
                return Err(anyhow!("an attribute of the authority is a {other}, expected an UTF-8 string"));
            }
        };
        name.push(DnType::from_oid(&oid), value);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T08:00:00Z".parse().unwrap()
    }

    fn authority() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "ORCA");
        params.distinguished_name.push(
            DnType::CommonName,
            DnValue::PrintableString(PrintableString::try_from("serving").unwrap()),
        );
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn the_issuer_is_the_authority_to_the_byte() {
        let (cert, _) = authority();
        let key = KeyPair::generate().unwrap();
        let mut again = CertificateParams::default();
        again.distinguished_name = subject_of(&cert).unwrap();
        let again = again.self_signed(&key).unwrap().pem();
        let raw = |pem: &str| {
            let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            pem.parse_x509().unwrap().subject().as_raw().to_vec()
        };
        assert_eq!(raw(&cert), raw(&again));
    }

    #[test]
    fn a_certificate_is_kept_and_renewed_long_before_it_ends() {
        let (cert, key) = authority();
        let serving = Serving::new(&cert, &key, now()).unwrap();
        let first = serving.config(now()).unwrap();
        assert!(Arc::ptr_eq(&first, &serving.config(now() + (6 * 24).hours()).unwrap()));
        assert!(!Arc::ptr_eq(&first, &serving.config(now() + (8 * 24).hours()).unwrap()));
    }

    #[test]
    fn a_bad_authority_is_told_at_start() {
        let (cert, key) = authority();
        assert!(Serving::new("nonsense", &key, now()).is_err());
        assert!(Serving::new(&cert, "nonsense", now()).is_err());
    }
}
