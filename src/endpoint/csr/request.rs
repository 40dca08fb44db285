//! What is sent to the API server and what comes back: keys, requests and certificates. No I/O.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::ObjectMeta;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;

use super::Issued;
use super::decide::{Lifetime, Verdict};

/// What a certificate is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Name of the virtual node.
    pub node: String,
    /// The address that the Node publishes: the one name that callers know the endpoint by.
    pub address: IpAddr,
    /// Such as `kubernetes.io/kubelet-serving`.
    pub signer: String,
}

/// A request for this key (P-256), as the signer `kubernetes.io/kubelet-serving` wants it.
pub(super) fn render(subject: &Subject, key: &KeyPair) -> Result<CertificateSigningRequest, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", subject.node));
    // No DNS name: the Node publishes none, and approvers look up those they find.
    params.subject_alt_names = vec![SanType::IpAddress(subject.address)];
    let request = params.serialize_request(key)?.pem()?;
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-serving-", subject.node)),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: subject.signer.clone(),
            // Without `key encipherment`, which is for RSA keys.
            usages: Some(vec!["digital signature".to_owned(), "server auth".to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    })
}

/// How the request stands.
pub(super) fn read(request: Option<&CertificateSigningRequest>) -> Verdict {
    let Some(request) = request else { return Verdict::Gone };
    let status = request.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let refused = conditions.iter().find(|it| matches!(it.type_.as_str(), "Denied" | "Failed"));
    if let Some(refused) = refused {
        let words = [refused.reason.as_deref(), refused.message.as_deref()];
        let why: Vec<_> = words.into_iter().flatten().filter(|word| !word.is_empty()).collect();
        return Verdict::Refused(format!("{} ({})", refused.type_, why.join(": ")));
    }
    if status.certificate.is_some_and(|certificate| !certificate.0.is_empty()) {
        return Verdict::Issued;
    }
    if conditions.iter().any(|it| it.type_ == "Approved") { Verdict::Approved } else { Verdict::Pending }
}

/// The certificate of an issued request with its key, or why it is of no use.
pub(super) fn accept(
    subject: &Subject,
    request: &CertificateSigningRequest,
    key: &KeyPair,
    now: Timestamp,
    jitter: f64,
) -> Result<(Issued, Lifetime), String> {
    let pem = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    let pem = pem.ok_or("it has no certificate")?;
    let chain = CertificateDer::pem_slice_iter(&pem.0)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("its certificate cannot be read: {error}"))?;
    let leaf = chain.first().ok_or("its certificate is empty")?;
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|error| format!("its certificate cannot be read: {error}"))?;
    if leaf.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
        return Err("its certificate is for another key".to_owned());
    }
    let address = match subject.address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let names = leaf.subject_alternative_name().ok().flatten();
    let named = names.is_some_and(|names| {
        names
            .value
            .general_names
            .iter()
            .any(|name| matches!(name, GeneralName::IPAddress(it) if **it == address))
    });
    if !named {
        return Err(format!("its certificate does not name `{}`", subject.address));
    }
    let moment = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp())
            .map_err(|error| format!("its certificate has no time: {error}"))
    };
    let validity = leaf.validity();
    let (not_before, not_after) = (moment(validity.not_before)?, moment(validity.not_after)?);
    if not_after <= now {
        return Err(format!("its certificate ended at {not_after}"));
    }
    let issued = Issued { chain: chain.clone(), key: key.serialize_der() };
    Ok((issued, Lifetime::new(not_before, not_after, jitter)))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::{
        CertificateSigningRequestCondition, CertificateSigningRequestStatus,
    };
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::{FromDer as _, ParsedExtension};

    use super::*;

    fn subject() -> Subject {
        Subject {
            node: "orca".to_owned(),
            address: IpAddr::from([10, 0, 0, 7]),
            signer: "kubernetes.io/kubelet-serving".to_owned(),
        }
    }

    fn stands(conditions: &[(&str, &str)], certificate: Option<&str>) -> CertificateSigningRequest {
        let condition = |(type_, message): &(&str, &str)| CertificateSigningRequestCondition {
            type_: (*type_).to_owned(),
            message: Some((*message).to_owned()),
            reason: Some("Reason".to_owned()),
            status: "True".to_owned(),
            ..CertificateSigningRequestCondition::default()
        };
        CertificateSigningRequest {
            status: Some(CertificateSigningRequestStatus {
                conditions: Some(conditions.iter().map(condition).collect()),
                certificate: certificate.map(|pem| ByteString(pem.as_bytes().to_vec())),
            }),
            ..CertificateSigningRequest::default()
        }
    }

    /// A certificate for `address` and this key, of the year 2026.
    fn certificate(address: [u8; 4], key: &KeyPair) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::from(address))];
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        params.self_signed(key).unwrap().pem()
    }

    #[test]
    fn a_request_is_what_the_signer_of_kubelets_wants() {
        let key = KeyPair::generate().unwrap();
        let request = render(&subject(), &key).unwrap();
        assert_eq!(request.metadata.generate_name.as_deref(), Some("orca-serving-"));
        assert_eq!(request.spec.signer_name, "kubernetes.io/kubelet-serving");
        assert_eq!(request.spec.usages.unwrap(), ["digital signature", "server auth"]);
        let (_, pem) = x509_parser::pem::parse_x509_pem(&request.spec.request.0).unwrap();
        assert_eq!(pem.label, "CERTIFICATE REQUEST");
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        let info = &request.certification_request_info;
        assert_eq!(info.subject.to_string(), "O=system:nodes, CN=system:node:orca");
        assert_eq!(info.subject_pki.subject_public_key.data.as_ref(), key.der_bytes());
        let extensions: Vec<_> = request.requested_extensions().unwrap().collect();
        let [ParsedExtension::SubjectAlternativeName(names)] = extensions.as_slice() else {
            panic!("one extension was expected: {extensions:?}")
        };
        assert_eq!(names.general_names, [GeneralName::IPAddress(&[10, 0, 0, 7])]);
    }

    #[test]
    fn the_worst_condition_decides_and_a_certificate_is_the_end_of_it() {
        assert_eq!(read(None), Verdict::Gone);
        assert_eq!(read(Some(&CertificateSigningRequest::default())), Verdict::Pending);
        assert_eq!(read(Some(&stands(&[], None))), Verdict::Pending);
        assert_eq!(read(Some(&stands(&[("Approved", "")], None))), Verdict::Approved);
        assert_eq!(read(Some(&stands(&[("Approved", "")], Some("")))), Verdict::Approved);
        assert_eq!(read(Some(&stands(&[("Approved", "")], Some("pem")))), Verdict::Issued);
        let failed = read(Some(&stands(&[("Approved", ""), ("Failed", "bad usages")], None)));
        assert_eq!(failed, Verdict::Refused("Failed (Reason: bad usages)".to_owned()));
        let denied = read(Some(&stands(&[("Denied", "")], None)));
        assert_eq!(denied, Verdict::Refused("Denied (Reason)".to_owned()));
    }

    #[test]
    fn only_a_certificate_for_our_key_and_address_that_has_not_ended_is_accepted() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let now: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let try_it = |pem: &str, now| {
            accept(&subject(), &stands(&[("Approved", "")], Some(pem)), &key, now, 0.0).map(|(_, life)| life)
        };
        let good = certificate([10, 0, 0, 7], &key);
        let life = try_it(&good, now).unwrap();
        assert_eq!(life.not_after, "2027-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(life.renew_at, "2026-09-13T12:00:00Z".parse().unwrap());
        let why = |pem: &str, now| try_it(pem, now).unwrap_err();
        assert_eq!(why(&certificate([10, 0, 0, 7], &other), now), "its certificate is for another key");
        assert_eq!(why(&certificate([10, 0, 0, 8], &key), now), "its certificate does not name `10.0.0.7`");
        let late = "2027-06-01T00:00:00Z".parse().unwrap();
        assert_eq!(why(&good, late), "its certificate ended at 2027-01-01T00:00:00Z");
        assert_eq!(why("nonsense", now), "its certificate is empty");
        let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(why(torn, now).starts_with("its certificate cannot be read"));
    }
}
