use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::aws::signer::Signer;
use crate::testing::{TestCloud, form, mk_launch, with};

const VPCS: &str = "Action=DescribeVpcs&Version=2016-11-15";
const WHO: &str = "Action=GetCallerIdentity&Version=2011-06-15";

#[tokio::test(start_paused = true)]
async fn a_request_is_told_apart_by_its_signature_and_answered_in_its_dialect() {
    let cloud = TestCloud::start();
    let vpcs = cloud.signed(&Signer::test("ec2"), &[], VPCS.to_owned()).await.ok();
    assert!(
        vpcs.text
            .contains("<DescribeVpcsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>")
    );
    let who = cloud.signed(&Signer::test("sts"), &[], WHO.to_owned()).await.ok();
    assert_eq!(who.one("Account"), "000000000000");
    let target = [("x-amz-target", "AmazonSSM.NoSuchThing"), ("content-type", "application/x-amz-json-1.1")];
    let ssm = cloud.signed(&Signer::test("ssm"), &target, "{}".to_owned()).await;
    assert_eq!(ssm.status, 400);
    assert!(ssm.text.contains("__type"), "{}", ssm.text);
}

#[tokio::test(start_paused = true)]
async fn bad_signatures_are_refused_in_the_words_of_each_protocol() {
    let cloud = TestCloud::start();
    let bad = |service: &str| {
        let test = || Signer::test(service);
        [
            Signer { access_key: "nobody".to_owned(), ..test() },
            Signer { secret: "wrong".to_owned(), ..test() },
            Signer { session_token: Some("unasked".to_owned()), ..test() },
            Signer { region: "eu-west-1".to_owned(), ..test() },
        ]
    };
    let ec2 = ["401 AuthFailure", "403 SignatureDoesNotMatch", "401 AuthFailure", "401 AuthFailure"];
    for (signer, expected) in bad("ec2").iter().zip(ec2) {
        assert_eq!(cloud.signed(signer, &[], VPCS.to_owned()).await.refusal(), expected);
    }
    let sts =
        ["InvalidClientTokenId", "SignatureDoesNotMatch", "InvalidClientTokenId", "SignatureDoesNotMatch"];
    for (signer, expected) in bad("sts").iter().zip(sts) {
        let answer = cloud.signed(signer, &[], WHO.to_owned()).await;
        assert_eq!((answer.status, answer.one("Code")), (403, expected));
        assert_eq!(answer.one("Type"), "Sender");
    }
    let ssm = [
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
    ];
    for (signer, expected) in bad("ssm").iter().zip(ssm) {
        let answer =
            cloud.signed(signer, &[("x-amz-target", "AmazonSSM.GetParameter")], "{}".to_owned()).await;
        let body: Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!((answer.status, body["__type"].as_str().unwrap()), (400, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn unsigned_requests_and_those_signed_for_another_service_are_refused() {
    let cloud = TestCloud::start();
    let unsigned = |body: &str| Request::post("/").body(Body::from(body.to_owned())).unwrap();
    assert_eq!(cloud.send(unsigned(VPCS)).await.refusal(), "403 MissingAuthenticationToken");
    assert_eq!(cloud.send(unsigned(WHO)).await.one("Code"), "MissingAuthenticationToken");
    assert_eq!(cloud.signed(&Signer::test("s3"), &[], VPCS.to_owned()).await.refusal(), "401 AuthFailure");
    let crossed = cloud
        .signed(&Signer::test("ec2"), &[("x-amz-target", "AmazonSSM.GetParameter")], "{}".to_owned())
        .await;
    assert!(crossed.text.contains("InvalidSignatureException"));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_call_is_refused() {
    let cloud = TestCloud::start();
    let call = async |body: &str| cloud.signed(&Signer::test("ec2"), &[], body.to_owned()).await.refusal();
    assert_eq!(call("Version=2016-11-15").await, "400 MissingAction");
    assert_eq!(call("Action=DescribeVpcs&Version=2099-01-01").await, "400 NoSuchVersion");
    assert_eq!(call("Action=DescribeVpcs").await, "400 NoSuchVersion");
    assert_eq!(call("Action=CreateVpc&Version=2016-11-15").await, "400 InvalidAction");
    assert_eq!(call("Action=%zz").await, "400 MalformedQueryString");
    let path = Request::post("/other").body(Body::empty()).unwrap();
    assert_eq!(cloud.send(path).await.status, 404);
    let large = Request::post("/").body(Body::from(vec![b'x'; (1 << 20) + 1])).unwrap();
    assert_eq!(cloud.send(large).await.status, 413);
}

#[tokio::test(start_paused = true)]
async fn faults_refuse_delay_and_drop_and_every_call_is_counted() {
    let cloud = TestCloud::start();
    let fault = async |fault: Value| assert_eq!(cloud.control("POST", "faults", fault).await.0, 200);
    fault(json!({"action": "DescribeVpcs", "then": "refuse", "code": "RequestLimitExceeded", "status": 503}))
        .await;
    let vpcs = || cloud.ec2(&[("Action", "DescribeVpcs")]);
    assert_eq!(vpcs().await.refusal(), "503 RequestLimitExceeded");
    fault(json!({"action": "DescribeVpcs", "delay_ms": 3000, "answer_delay_ms": 4000})).await;
    let start = tokio::time::Instant::now();
    vpcs().await.ok();
    assert_eq!(start.elapsed().as_secs(), 7);
    fault(json!({"action": "*", "then": "drop", "times": 2})).await;
    assert!(vpcs().await.dropped && vpcs().await.dropped);
    vpcs().await.ok();
    let (_, calls) = cloud.control("GET", "calls", Value::Null).await;
    assert_eq!((&calls["total"], &calls["counts"]["DescribeVpcs"]), (&json!(5), &json!(5)));
    let outcomes: Vec<&str> =
        calls["log"].as_array().unwrap().iter().map(|call| call["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["RequestLimitExceeded", "ok", "dropped", "dropped", "ok"]);
    cloud.control("DELETE", "calls", Value::Null).await;
    assert_eq!(cloud.control("GET", "calls", Value::Null).await.1["total"], json!(0));
}

#[tokio::test(start_paused = true)]
async fn a_launch_whose_answer_is_lost_has_happened_and_its_token_finds_it() {
    let cloud = TestCloud::start();
    let launch = with(&mk_launch(), &[("ClientToken", "lost")]);
    for then in ["act_then_drop", "act_then_refuse"] {
        cloud.control("POST", "faults", json!({"action": "RunInstances", "then": then})).await;
        let answer = cloud.ec2(&launch).await;
        assert!(answer.dropped || answer.refusal() == "500 InternalError");
    }
    assert_eq!(cloud.world.instances().len(), 1);
    assert_eq!(cloud.ec2(&launch).await.ok().one("instanceId"), cloud.world.instances()[0].id);
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_a_test_refuses_binds_its_token_unless_refused_at_the_door() {
    let cloud = TestCloud::start();
    for (code, status, token, expected) in [
        ("InsufficientInstanceCapacity", 500, "a", "400 IdempotentParameterMismatch"),
        ("RequestLimitExceeded", 503, "b", ""),
    ] {
        let fault = json!({"action": "RunInstances", "then": "refuse", "code": code, "status": status});
        cloud.control("POST", "faults", fault).await;
        let launch = with(&mk_launch(), &[("ClientToken", token)]);
        assert_eq!(cloud.ec2(&launch).await.refusal(), format!("{status} {code}"));
        let other = cloud.ec2(&with(&launch, &[("InstanceType", "t3.micro")])).await;
        if expected.is_empty() { drop(other.ok()) } else { assert_eq!(other.refusal(), expected) }
    }
}

#[tokio::test]
async fn over_a_socket_a_dropped_answer_is_a_closed_connection() {
    let cloud = TestCloud::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(super::serve(listener, cloud.router.clone(), async { drop(stopped.await) }));
    cloud.control("POST", "faults", json!({"action": "DescribeVpcs", "then": "drop"})).await;

    // Two requests on one connection: the first is answered, the second is not.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /_local/health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut buffer = vec![0; 4096];
    let read = stream.read(&mut buffer).await.unwrap();
    assert!(String::from_utf8_lossy(&buffer[..read]).starts_with("HTTP/1.1 200"));
    let mut headers = http::HeaderMap::new();
    headers.insert("host", http::HeaderValue::from_static("x"));
    let body = form(&[("Action", "DescribeVpcs"), ("Version", "2016-11-15")]);
    Signer::test("ec2").sign("POST", "/", "", &mut headers, body.as_bytes(), crate::clock::now());
    let lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    let request =
        format!("POST / HTTP/1.1\r\n{}\r\nContent-Length: {}\r\n\r\n{body}", lines.join("\r\n"), body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"");

    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap();
}
