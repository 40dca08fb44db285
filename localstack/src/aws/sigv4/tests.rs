use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::aws::signer::Signer;

fn now(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// The key of AWS's published test suite for this signature.
fn example() -> Keyring {
    let mut keys = Keyring::default();
    keys.add("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None);
    keys
}

fn example_headers(names: &str, signature: &str, more: &[(&str, &str)]) -> HeaderMap {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, Signature={signature}"
    );
    let mut all = headers(&[("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")]);
    all.extend(headers(more));
    all.insert("authorization", HeaderValue::from_str(&authorization).unwrap());
    all
}

fn check(request: &Signed<'_>) -> Result<Scope, AuthError> {
    verify(request, &example(), &["us-east-1"], &["service"], now("2015-08-30T12:40:00Z"))
}

#[test]
fn the_published_vectors_verify() {
    let plain = "host;x-amz-date";
    for (path, query, signature) in [
        ("/", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("/example/..", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("//example//", "", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        (
            "/",
            "Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        ),
        (
            "/",
            "Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
    ] {
        let headers = example_headers(plain, signature, &[]);
        let request = Signed { method: "GET", path, query, headers: &headers, body: b"" };
        assert_eq!(check(&request).map(|scope| scope.service), Ok("service".to_owned()), "{path}?{query}");
    }
    let trimmed = example_headers(
        "host;my-header1;my-header2;x-amz-date",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
    );
    assert!(check(&Signed { method: "GET", path: "/", query: "", headers: &trimmed, body: b"" }).is_ok());
    let doubled = example_headers(
        "host;my-header1;x-amz-date",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
    );
    assert!(check(&Signed { method: "GET", path: "/", query: "", headers: &doubled, body: b"" }).is_ok());
}

#[test]
fn the_published_form_with_a_body_verifies_and_another_body_does_not() {
    let headers = example_headers(
        "content-length;content-type;host;x-amz-content-sha256;x-amz-date",
        "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422",
        &[
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("content-length", "13"),
            ("x-amz-content-sha256", "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"),
        ],
    );
    let mut request =
        Signed { method: "POST", path: "/", query: "", headers: &headers, body: b"Param1=value1" };
    assert!(check(&request).is_ok());
    request.body = b"Param1=value2";
    assert_eq!(check(&request), Err(AuthError::Mismatch));
}

#[test]
fn the_published_encoded_path_has_its_canonical_form() {
    let headers = headers(&[
        ("host", "tj9n5r0m12.execute-api.us-east-1.amazonaws.com"),
        ("x-amz-date", "20210511T154045Z"),
    ]);
    let path = "/test/@connections/JBDvjfGEIAMCERw%3D";
    let request = Signed { method: "POST", path, query: "", headers: &headers, body: b"" };
    let canonical = canonical_request(&request, "host;x-amz-date", false).unwrap();
    assert_eq!(canonical.lines().nth(1), Some("/test/%40connections/JBDvjfGEIAMCERw%253D"));
}

#[test]
fn the_published_presigned_url_verifies_until_it_expires() {
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host&X-Amz-Expires=3600&X-Amz-Signature=e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d";
    let headers = headers(&[("host", "example.amazonaws.com")]);
    let request = Signed { method: "GET", path: "/", query, headers: &headers, body: b"" };
    let at = |time| verify(&request, &example(), &["us-east-1"], &["service"], now(time));
    assert!(at("2015-08-30T13:35:59Z").is_ok());
    assert!(matches!(at("2015-08-30T13:36:01Z"), Err(AuthError::Expired(_))));
}

fn signed(signer: &Signer, at: &str) -> Result<Scope, AuthError> {
    let mut headers = headers(&[("host", "127.0.0.1:4566")]);
    signer.sign("GET", "/v1/data-channel/a-0b", "role=publish_subscribe", &mut headers, b"", now(at));
    let mut keys = Keyring::default();
    keys.add("test", "test", None);
    keys.add("ASIA", "secret", Some("token"));
    let request = Signed {
        method: "GET",
        path: "/v1/data-channel/a-0b",
        query: "role=publish_subscribe",
        headers: &headers,
        body: b"",
    };
    verify(&request, &keys, &["us-east-1"], &["ssmmessages", "ssm"], now("2026-01-01T12:00:00Z"))
}

#[test]
fn what_the_test_signer_signs_verifies_and_reports_its_scope() {
    let scope = signed(&Signer::test("ssmmessages"), "2026-01-01T12:00:00Z").unwrap();
    assert_eq!((scope.access_key.as_str(), scope.service.as_str()), ("test", "ssmmessages"));
    let session = Signer {
        access_key: "ASIA".to_owned(),
        secret: "secret".to_owned(),
        session_token: Some("token".to_owned()),
        ..Signer::test("ssm")
    };
    assert!(signed(&session, "2026-01-01T12:00:00Z").is_ok());
}

#[test]
fn each_flaw_has_its_own_refusal() {
    let at = "2026-01-01T12:00:00Z";
    let test = || Signer::test("ssm");
    assert_eq!(signed(&Signer { access_key: "other".to_owned(), ..test() }, at), Err(AuthError::UnknownKey));
    assert_eq!(
        signed(&Signer { session_token: Some("x".to_owned()), ..test() }, at),
        Err(AuthError::UnknownKey)
    );
    assert_eq!(
        signed(&Signer { access_key: "ASIA".to_owned(), secret: "secret".to_owned(), ..test() }, at),
        Err(AuthError::UnknownKey)
    );
    assert_eq!(signed(&Signer { secret: "other".to_owned(), ..test() }, at), Err(AuthError::Mismatch));
    assert!(matches!(
        signed(&Signer { region: "eu-west-1".to_owned(), ..test() }, at),
        Err(AuthError::WrongScope(_))
    ));
    assert!(matches!(signed(&Signer::test("ec2"), at), Err(AuthError::WrongScope(_))));
    for (signed_at, good) in [
        ("2026-01-01T11:45:00Z", true),
        ("2026-01-01T11:44:59Z", false),
        ("2026-01-01T12:15:00Z", true),
        ("2026-01-01T12:15:01Z", false),
    ] {
        let result = signed(&test(), signed_at);
        assert_eq!(result.is_ok(), good, "{signed_at}: {result:?}");
        assert!(good || matches!(result, Err(AuthError::Expired(_))), "{signed_at}");
    }
}

#[test]
fn a_request_without_a_whole_signature_is_told_what_it_lacks() {
    let bare = headers(&[("host", "h")]);
    assert_eq!(check(&bare_request(&bare)), Err(AuthError::Missing));
    for authorization in [
        "Bearer x",
        "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=00",
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, Signature=00",
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=x-amz-date, Signature=00",
    ] {
        let mut headers = headers(&[("host", "h"), ("x-amz-date", "20150830T123600Z")]);
        headers.insert("authorization", HeaderValue::from_str(authorization).unwrap());
        assert!(matches!(check(&bare_request(&headers)), Err(AuthError::Incomplete(_))), "{authorization}");
    }
}

fn bare_request(headers: &HeaderMap) -> Signed<'_> {
    Signed { method: "GET", path: "/", query: "", headers, body: b"" }
}
