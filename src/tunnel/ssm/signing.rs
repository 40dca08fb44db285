//! SigV4 for the WebSocket upgrade, as the vendor's client has done it since 1.2.764.
//!
//! Only the host is signed, over an empty body; a URL that is already signed is left alone.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::{Request, Uri};

const SERVICE: &str = "ssmmessages";

/// Whether the URL carries its own signature.
pub(super) fn is_presigned(url: &Uri) -> bool {
    url.query().is_some_and(|query| {
        query.split('&').any(|pair| pair.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-")))
    })
}

/// Adds the headers of the signature to an upgrade request that has its `Host` header.
pub(super) fn sign_upgrade(
    request: &mut Request<()>,
    credentials: Credentials,
    region: &str,
    time: SystemTime,
) -> Result<(), aws_sigv4::http_request::SigningError> {
    let identity = credentials.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .expect("every required parameter is set")
        .into();
    let url = request.uri().to_string();
    let host =
        request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let signable = SignableRequest::new("GET", &url, [("host", host)].into_iter(), SignableBody::Bytes(&[]))?;
    let (instructions, _) = sign(signable, &params)?.into_parts();
    instructions.apply_to_request_http1x(request);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const URL: &str = "wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/s-1?role=publish_subscribe&cell-number=AAEL%2BA%3D%3D";

    fn signed(url: &str, token: Option<&str>) -> Request<()> {
        let mut request =
            Request::get(url).header("host", "ssmmessages.eu-west-1.amazonaws.com").body(()).unwrap();
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", token.map(str::to_owned), None, "test");
        let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        sign_upgrade(&mut request, credentials, "eu-west-1", time).unwrap();
        request
    }

    /// SigV4 written out once more, from its description.
    fn expected_signature() -> String {
        use aws_lc_rs::digest::{SHA256, digest};
        use aws_lc_rs::hmac;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mac = |key: &[u8], text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
        };
        let canonical = [
            "GET",
            "/v1/data-channel/s-1",
            "cell-number=AAEL%2BA%3D%3D&role=publish_subscribe",
            "host:ssmmessages.eu-west-1.amazonaws.com",
            "x-amz-date:20231114T221320Z",
            "",
            "host;x-amz-date",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ]
        .join("\n");
        let scope = "20231114/eu-west-1/ssmmessages/aws4_request";
        let hash = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n20231114T221320Z\n{scope}\n{hash}");
        let key = ["20231114", "eu-west-1", "ssmmessages", "aws4_request"]
            .iter()
            .fold(b"AWS4secret".to_vec(), |key, part| mac(&key, part));
        hex(&mac(&key, &text))
    }

    #[test]
    fn the_signature_covers_host_and_query_for_ssmmessages() {
        let request = signed(URL, None);
        let authorization = request.headers()["authorization"].to_str().unwrap();
        assert_eq!(
            authorization,
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/eu-west-1/ssmmessages/aws4_request, \
                 SignedHeaders=host;x-amz-date, Signature={}",
                expected_signature()
            )
        );
    }

    #[test]
    fn a_session_token_is_sent_along() {
        let request = signed(URL, Some("token"));
        assert_eq!(request.headers()["x-amz-security-token"], "token");
    }

    #[test]
    fn a_signed_url_is_recognised() {
        let with = |query: &str| is_presigned(&format!("wss://host/path?{query}").parse().unwrap());
        assert!(with("role=x&X-Amz-Signature=abc"));
        assert!(with("x-amz-date=1"));
        assert!(!with("role=X-Amz-&cell-number=1"));
        assert!(!is_presigned(&"wss://host/path".parse().unwrap()));
    }
}
