//! The SSM service over real WebSockets, with machines that are sockets in this process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail it")]

#[path = "support/client.rs"]
mod client;
#[path = "support/fake.rs"]
mod fake;

use std::time::Duration;

use client::{Client, Event};
use fake::{
    ANSWERS, ASKED_BYTES, CLOSES, ECHO, INSTANCE, OTHER, REFUSES, SOURCE, SOURCE_BYTES, STALLS, Service,
    pattern,
};
use localstack::ssm::codec::{MessageType, PayloadType};
use localstack::ssm::payload::Flag;
use localstack::ssm::{Cut, JsonError, smux};
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

const FORWARD: &str = "AWS-StartPortForwardingSession";

#[tokio::test]
async fn bytes_come_back_as_they_were_sent() {
    let service = Service::start().await;
    let mut client = Client::raw(&service, ECHO).await;
    let sent = pattern(300_000);
    for part in sent.chunks(16_000) {
        client.data(part).await;
    }
    assert!(client.read(sent.len()).await == sent);
}

#[tokio::test]
async fn a_raw_session_ends_with_its_connection_after_the_last_byte() {
    let service = Service::start().await;
    let mut client = Client::raw(&service, SOURCE).await;
    assert!(client.read(SOURCE_BYTES).await == pattern(SOURCE_BYTES));
    assert_eq!(client.event().await, Event::Closed(String::new()));
    assert_eq!(client.event().await, Event::Gone(Some(1000)));
    let resumed = service.call("ResumeSession", json!({ "SessionId": client.id() })).await.unwrap();
    assert_eq!(resumed, json!({ "SessionId": client.id() }));
}

/// Acknowledgements that nobody reads fill the connection; what the machine says meanwhile waits no longer than they do.
#[tokio::test]
async fn what_comes_while_the_connection_is_full_follows_when_it_is_not() {
    let service = Service::narrow();
    let mut client = Client::raw(&service, ANSWERS).await;
    client.be_patient();
    for part in pattern(ASKED_BYTES).chunks(1024) {
        client.data(part).await;
    }
    service.world.answered.notified().await;
    assert_eq!(client.read(6).await, b"answer");
}

#[tokio::test]
async fn a_refused_connection_ends_the_session_with_the_reason() {
    let service = Service::start().await;
    let mut client = Client::raw(&service, REFUSES).await;
    let Event::Closed(why) = client.event().await else { panic!("not closed") };
    assert!(why.contains("Unable to connect to specified port"), "{why}");
}

#[tokio::test]
async fn a_cut_loses_and_doubles_nothing() {
    let service = Service::start().await;
    let mut client = Client::raw(&service, ECHO).await;
    let sent = pattern(400_000);
    let mut got = Vec::new();
    let mut parts = sent.chunks(4000);
    let (mut cuts, mut next_cut) = (0, 50_000);
    while got.len() < sent.len() {
        // Little enough that the echo cannot fill the sockets both ways.
        while client.unacked() < 20
            && let Some(part) = parts.next()
        {
            client.data(part).await;
        }
        match client.event().await {
            Event::Data(bytes) => got.extend_from_slice(&bytes),
            Event::Gone(None) => {
                cuts += 1;
                client.resume(&service).await;
            }
            other => panic!("{other:?}"),
        }
        if got.len() >= next_cut {
            next_cut += 100_000;
            let instance_id = (next_cut % 200_000 == 0).then(|| INSTANCE.to_owned());
            service.world.cut(Cut { instance_id, duration_ms: 30 });
        }
    }
    assert!(cuts >= 3, "{cuts}");
    assert!(got == sent);
}

#[tokio::test]
async fn while_cut_nothing_gets_through() {
    let service = Service::start().await;
    let mut client = Client::raw(&service, ECHO).await;
    service.world.cut(Cut { instance_id: Some(INSTANCE.to_owned()), duration_ms: 60_000 });
    assert_eq!(client.event().await, Event::Gone(None));
    let id = json!({ "SessionId": client.id() });
    assert_eq!(service.call("ResumeSession", id).await.unwrap_err().status, 500);
    let Err(Error::Http(refused)) = client.upgrade(&[]).await else { panic!("upgraded") };
    assert_eq!(refused.status(), 503);
    let start = |target: &str| {
        service.call("StartSession", json!({ "Target": target, "DocumentName": "AWS-StartSSHSession" }))
    };
    assert_eq!(start(INSTANCE).await.unwrap_err().code, "TargetNotConnected");
    assert!(start(OTHER).await.is_ok());
}

#[tokio::test]
async fn frames_lost_doubled_and_late_change_nothing() {
    let faults = json!({ "seed": 3, "drop": 0.05, "duplicate": 0.1, "delay": 0.1, "delay_ms": 30 });
    let service = Service::configured(json!({ "faults": faults })).await;
    let mut client = Client::raw(&service, ECHO).await;
    let sent = pattern(60_000);
    for part in sent.chunks(1000) {
        client.data(part).await;
    }
    assert!(client.read(sent.len()).await == sent);
}

#[tokio::test]
async fn a_token_opens_one_websocket() {
    let service = Service::start().await;
    let mut client = Client::start(&service, "AWS-StartSSHSession", ECHO).await;
    let token = client.session["TokenValue"].clone();
    client.connect(&json!("guess")).await.unwrap();
    assert_eq!(client.event().await, Event::Gone(Some(1008)));
    client.connect(&token).await.unwrap();
    client.shake("1.2.600.0").await;
    client.connect(&token).await.unwrap();
    assert_eq!(client.event().await, Event::Gone(Some(1008)));
    service.ssm.configure(&json!({ "token_lifetime_ms": 0 })).unwrap();
    let resumed = service.call("ResumeSession", json!({ "SessionId": client.id() })).await.unwrap();
    client.connect(&resumed["TokenValue"]).await.unwrap();
    assert_eq!(client.event().await, Event::Gone(Some(1008)));
}

#[tokio::test]
async fn a_new_websocket_takes_the_place_of_the_old() {
    let service = Service::start().await;
    let mut client = Client::raw(&service, ECHO).await;
    let mut old = Client::start(&service, "AWS-StartSSHSession", ECHO).await;
    std::mem::swap(&mut old.session, &mut client.session);
    old.resume(&service).await;
    assert_eq!(client.event().await, Event::Gone(Some(1000)));
}

#[tokio::test]
async fn the_first_frame_must_open_the_channel() {
    let service = Service::start().await;
    let mut client = Client::start(&service, "AWS-StartSSHSession", ECHO).await;
    for first in
        ["hello", r#"{"MessageSchemaVersion":"1.0","RequestId":"short","TokenValue":"x","ClientId":"y"}"#]
    {
        client.upgrade(&[]).await.unwrap();
        client.text(first).await;
        assert_eq!(client.event().await, Event::Gone(Some(1008)), "{first}");
    }
}

#[tokio::test]
async fn the_stream_url_is_used_as_it_was_given() {
    let service = Service::start().await;
    let mut client = Client::start(&service, "AWS-StartSSHSession", ECHO).await;
    let url = client.session["StreamUrl"].as_str().unwrap().to_owned();
    assert!(url.contains("?role=publish_subscribe&cell-number=AAEA"), "{url}");
    client.session["StreamUrl"] = json!(url.replace("cell-number", "cell"));
    let Err(Error::Http(refused)) = client.upgrade(&[]).await else { panic!("upgraded") };
    assert_eq!(refused.status(), 400);
    client.session["StreamUrl"] = json!(url.replace("local-", "other-"));
    let Err(Error::Http(refused)) = client.upgrade(&[]).await else { panic!("upgraded") };
    assert_eq!(refused.status(), 404);
}

#[tokio::test]
async fn a_signature_is_checked_where_there_is_one_and_can_be_required() {
    let service = Service::start().await;
    let mut client = Client::start(&service, "AWS-StartSSHSession", ECHO).await;
    client.upgrade(&[]).await.unwrap();
    assert_eq!(service.world.checked.lock().unwrap().len(), 0);
    let signed = [("authorization", "AWS4-HMAC-SHA256 Credential=x")];
    client.upgrade(&signed).await.unwrap();
    assert_eq!(service.world.checked.lock().unwrap().len(), 1);
    let wrong = JsonError { status: 403, ..JsonError::caller("SignatureDoesNotMatch", "wrong") };
    *service.world.signature.lock().unwrap() = Err(wrong);
    let Err(Error::Http(refused)) = client.upgrade(&signed).await else { panic!("upgraded") };
    assert_eq!(refused.status(), 403);
    service.ssm.configure(&json!({ "upgrade_auth": "required" })).unwrap();
    let Err(Error::Http(refused)) = client.upgrade(&[]).await else { panic!("upgraded") };
    assert_eq!(refused.status(), 403);
}

#[tokio::test]
async fn data_in_the_gap_after_the_handshake_is_acknowledged_and_lost() {
    let service = Service::configured(json!({ "handshake_gap_ms": 300 })).await;
    let mut client = Client::raw(&service, ECHO).await;
    client.data(b"lost").await;
    client.silence(Duration::from_millis(400)).await;
    assert_eq!(client.unacked(), 0);
    client.data(b"kept").await;
    assert_eq!(client.read(4).await, b"kept");
}

#[tokio::test]
async fn a_handshake_takes_no_longer_than_it_may() {
    let service = Service::configured(json!({ "handshake_timeout_ms": 200 })).await;
    let mut client = Client::open(&service, "AWS-StartSSHSession", ECHO).await;
    assert!(matches!(client.event().await, Event::HandshakeRequest(_)));
    let Event::Closed(why) = client.event().await else { panic!("not closed") };
    assert!(why.contains("handshake"), "{why}");
}

#[tokio::test]
async fn a_client_that_cannot_do_port_sessions_is_refused() {
    let service = Service::start().await;
    let mut client = Client::open(&service, FORWARD, ECHO).await;
    assert!(matches!(client.event().await, Event::HandshakeRequest(_)));
    let actions = json!([{ "ActionType": "SessionType", "ActionStatus": 3, "Error": "what port?" }]);
    let response = json!({ "ClientVersion": "1.0", "ProcessedClientActions": actions });
    client.send(PayloadType::HandshakeResponse, response.to_string().as_bytes()).await;
    let Event::Closed(why) = client.event().await else { panic!("not closed") };
    assert!(why.contains("what port?"), "{why}");
}

#[tokio::test]
async fn streams_share_a_session_and_end_on_their_own() {
    let service = Service::start().await;
    let mut client = Client::open(&service, FORWARD, ECHO).await;
    client.shake("1.2.600.0").await;
    let mut input = smux::frame(0, 3, &[]).to_vec();
    input.extend_from_slice(&smux::frame(0, 5, &[]));
    input.extend_from_slice(&smux::frame(2, 5, b"five"));
    input.extend_from_slice(&smux::frame(2, 3, b"three"));
    // Cut where it does not fit the frames.
    for part in input.chunks(11) {
        client.data(part).await;
    }
    let (five, three) = (smux::frame(2, 5, b"five"), smux::frame(2, 3, b"three"));
    let got = client.read(five.len() + three.len()).await;
    assert!(got == [&five[..], &three[..]].concat() || got == [&three[..], &five[..]].concat(), "{got:?}");
    client.data(&smux::frame(1, 3, &[])).await;
    assert_eq!(client.read(8).await, smux::frame(1, 3, &[]));
    client.data(&smux::frame(2, 5, b"more")).await;
    assert_eq!(client.read(12).await, smux::frame(2, 5, b"more"));
}

#[tokio::test]
async fn a_refused_stream_is_flagged_and_the_session_goes_on() {
    let service = Service::start().await;
    let mut client = Client::open(&service, FORWARD, REFUSES).await;
    client.shake("1.2.600.0").await;
    client.data(&smux::frame(0, 3, &[])).await;
    let mut seen = [client.event().await, client.event().await];
    if matches!(seen[0], Event::Data(_)) {
        seen.swap(0, 1);
    }
    assert_eq!(seen, [Event::Flag(Flag::ConnectToPortError), Event::Data(smux::frame(1, 3, &[]))]);
    client.silence(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn one_stream_that_nobody_reads_stalls_the_others() {
    let service = Service::start().await;
    let mut client = Client::open(&service, FORWARD, STALLS).await;
    client.shake("1.2.600.0").await;
    client.data(&smux::frame(0, 3, &[])).await;
    let full = smux::frame(2, 3, &[0; 32_000]);
    let mut taken = 0;
    while taken < 12 << 20 && client.unacked() < 8 {
        for part in full.chunks(16_004) {
            client.data(part).await;
        }
        taken += full.len();
        // Acknowledgements come unless there is no room for what they acknowledge.
        for _ in 0..100 {
            if client.unacked() == 0 {
                break;
            }
            client.silence(Duration::from_millis(5)).await;
        }
    }
    // The budget, and the buffers before and behind it.
    assert!((4 << 20..6 << 20).contains(&taken), "{taken}");
}

#[tokio::test]
async fn smux_that_is_none_ends_the_session() {
    let service = Service::start().await;
    let mut client = Client::open(&service, FORWARD, ECHO).await;
    client.shake("1.2.600.0").await;
    client.data(b"GET / HTTP/1.1\r\n").await;
    let Event::Closed(why) = client.event().await else { panic!("not closed") };
    assert!(why.contains("smux"), "{why}");
}

#[tokio::test]
async fn an_old_client_gets_one_connection_after_another() {
    let service = Service::start().await;
    let mut client = Client::open(&service, FORWARD, ECHO).await;
    client.shake("1.1.61.0").await;
    client.data(b"first").await;
    assert_eq!(client.read(5).await, b"first");
    client.flag(Flag::DisconnectToPort).await;
    client.data(b"second").await;
    assert_eq!(client.read(6).await, b"second");
}

#[tokio::test]
async fn an_old_clients_session_outlives_a_connection_that_the_port_closes() {
    let service = Service::start().await;
    let mut client = Client::open(&service, FORWARD, CLOSES).await;
    client.shake("1.1.61.0").await;
    for _ in 0..3 {
        client.data(b"x").await;
        let answered = async {
            while client.unacked() > 0 {
                client.silence(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), answered).await.expect("what was sent is acknowledged");
    }
}

#[tokio::test]
async fn the_terminate_flag_and_the_operation_end_a_session() {
    let service = Service::start().await;
    let mut flagged = Client::raw(&service, ECHO).await;
    flagged.flag(Flag::TerminateSession).await;
    assert_eq!(flagged.event().await, Event::Closed(String::new()));
    let mut called = Client::raw(&service, ECHO).await;
    let id = json!({ "SessionId": called.id() });
    for _ in 0..2 {
        assert_eq!(service.call("TerminateSession", id.clone()).await.unwrap(), id);
    }
    assert_eq!(called.event().await, Event::Closed(String::new()));
    assert_eq!(called.event().await, Event::Gone(Some(1000)));
    let history = service.call("DescribeSessions", json!({ "State": "History" })).await.unwrap();
    assert_eq!(history["Sessions"].as_array().unwrap().len(), 2);
    let active = service.call("DescribeSessions", json!({ "State": "Active" })).await.unwrap();
    assert_eq!(active, json!({ "Sessions": [] }));
}

#[tokio::test]
async fn websockets_are_recycled_and_sessions_go_on() {
    let service = Service::configured(json!({ "recycle_after_ms": 300 })).await;
    let mut client = Client::raw(&service, ECHO).await;
    assert_eq!(client.event().await, Event::Gone(Some(1000)));
    client.resume(&service).await;
    client.data(b"again").await;
    assert_eq!(client.read(5).await, b"again");
}

#[tokio::test]
async fn only_input_keeps_a_session_from_idling() {
    let service = Service::configured(json!({ "idle_timeout_ms": 400 })).await;
    let mut client = Client::raw(&service, ECHO).await;
    for _ in 0..4 {
        client.silence(Duration::from_millis(150)).await;
        client.data(b"x").await;
        assert_eq!(client.read(1).await, b"x");
    }
    assert!(matches!(client.event().await, Event::Closed(why) if !why.is_empty()));
}

#[tokio::test]
async fn a_session_has_a_longest_duration_if_one_is_set() {
    let service = Service::configured(json!({ "max_duration_ms": 300 })).await;
    let mut client = Client::raw(&service, ECHO).await;
    assert!(matches!(client.event().await, Event::Closed(why) if !why.is_empty()));
}

#[tokio::test]
async fn a_machine_without_power_says_nothing_more() {
    let service = Service::start().await;
    let mut client = Client::raw(&service, ECHO).await;
    service.world.kill(INSTANCE);
    assert_eq!(client.event().await, Event::Paused);
    client.data(b"anyone?").await;
    client.silence(Duration::from_millis(300)).await;
    assert_eq!(client.unacked(), 1);
    service.call("TerminateSession", json!({ "SessionId": client.id() })).await.unwrap();
    assert_eq!(client.event().await, Event::Closed(String::new()));
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_websocket() {
    let service = Service::start().await;
    let mut client = Client::raw(&service, ECHO).await;
    client.data(&vec![0; 32 << 10]).await;
    client.read(32 << 10).await;
    client.data(&vec![0; (32 << 10) + 1]).await;
    assert_eq!(client.event().await, Event::Gone(Some(1009)));
}

#[tokio::test]
async fn a_ping_is_answered_and_is_no_input() {
    let service = Service::configured(json!({ "idle_timeout_ms": 400 })).await;
    let mut client = Client::raw(&service, ECHO).await;
    // What the handshake left.
    client.silence(Duration::from_millis(100)).await;
    for _ in 0..2 {
        assert!(client.ping().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(matches!(client.event().await, Event::Closed(why) if !why.is_empty()));
}

#[tokio::test]
async fn frames_that_are_none_are_ignored() {
    let service = Service::start().await;
    let mut client = Client::raw(&service, ECHO).await;
    client.write(vec![7; 130].into()).await;
    client.write(client::message(MessageType::Acknowledge, 0, PayloadType::None, b"{}")).await;
    client.data(b"still here").await;
    assert_eq!(client.read(10).await, b"still here");
}

#[tokio::test]
async fn the_agents_pace_is_a_kibibyte_a_millisecond() {
    let service = Service::configured(json!({ "pace": "agent" })).await;
    let mut client = Client::raw(&service, SOURCE).await;
    let start = tokio::time::Instant::now();
    assert!(client.read(SOURCE_BYTES).await == pattern(SOURCE_BYTES));
    let least = Duration::from_millis(u64::try_from(SOURCE_BYTES / 1024 - 1).unwrap());
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
}

async fn refused(service: &Service, operation: &str, body: serde_json::Value) -> (String, String) {
    let error = service.call(operation, body).await.unwrap_err();
    (error.code, error.message)
}

#[tokio::test]
async fn requests_are_refused_as_aws_refuses_them() {
    let service = Service::start().await;
    let ssh = "AWS-StartSSHSession";
    let cases = [
        ("StartSession", json!({}), "ValidationException", "'target'"),
        ("StartSession", json!({ "Target": "" }), "ValidationException", "greater than or equal to 1"),
        (
            "StartSession",
            json!({ "Target": "x".repeat(401) }),
            "ValidationException",
            "less than or equal to 400",
        ),
        ("StartSession", json!({ "Target": INSTANCE, "Reason": "" }), "ValidationException", "'reason'"),
        (
            "StartSession",
            json!({ "Target": INSTANCE, "Reason": "r".repeat(257) }),
            "ValidationException",
            "256",
        ),
        ("StartSession", json!({ "Target": 1 }), "SerializationException", "string"),
        ("StartSession", json!({ "Target": INSTANCE }), "InvalidDocument", "SSM-SessionManagerRunShell"),
        ("StartSession", json!({ "Target": INSTANCE, "DocumentName": "Nope" }), "InvalidDocument", "Nope"),
        (
            "StartSession",
            json!({ "Target": INSTANCE, "DocumentName": "a b c" }),
            "ValidationException",
            "documentName",
        ),
        (
            "StartSession",
            json!({ "Target": "i-0123456789abcdef9", "DocumentName": ssh }),
            "TargetNotConnected",
            "i-0123456789abcdef9 is not connected.",
        ),
        ("ResumeSession", json!({ "SessionId": "gone" }), "DoesNotExistException", "gone"),
        ("ResumeSession", json!({ "SessionId": "s".repeat(97) }), "ValidationException", "96"),
        ("TerminateSession", json!({ "SessionId": "gone" }), "DoesNotExistException", "gone"),
        ("TerminateSession", json!({}), "ValidationException", "'sessionId'"),
        ("GetParameter", json!({ "Name": "/nope" }), "ParameterNotFound", ""),
        ("GetParameter", json!({}), "ValidationException", "'name'"),
        ("DescribeInstanceInformation", json!({ "MaxResults": 4 }), "ValidationException", "'maxResults'"),
        ("DescribeInstanceInformation", json!({ "NextToken": "?" }), "InvalidNextToken", ""),
        (
            "DescribeInstanceInformation",
            json!({ "Filters": [{ "Key": "Nope", "Values": [] }] }),
            "InvalidFilterKey",
            "Nope",
        ),
        (
            "DescribeInstanceInformation",
            json!({ "Filters": [{ "Key": "InstanceIds", "Values": ["i-xyz"] }] }),
            "InvalidInstanceId",
            "i-xyz",
        ),
        ("DescribeSessions", json!({ "State": "Gone" }), "ValidationException", "Active"),
        ("SendCommand", json!({}), "UnknownOperationException", "SendCommand"),
    ];
    for (operation, body, code, text) in cases {
        let (got, message) = refused(&service, operation, body.clone()).await;
        assert_eq!(got, code, "{operation} {body}");
        assert!(message.contains(text), "{operation} {body}: {message}");
    }
}

#[tokio::test]
async fn sessions_are_throttled_by_a_bucket() {
    let service = Service::start().await;
    service.ssm.configure(&json!({ "start_session_burst": 2, "start_session_per_second": 0.001 })).unwrap();
    let start = json!({ "Target": INSTANCE, "DocumentName": "AWS-StartSSHSession" });
    for _ in 0..2 {
        service.call("StartSession", start.clone()).await.unwrap();
    }
    assert_eq!(refused(&service, "StartSession", start).await.0, "ThrottlingException");
}

#[tokio::test]
async fn a_target_is_connected_only_while_its_agent_is() {
    let service = Service::start().await;
    let ids = |answer: serde_json::Value| {
        let list = answer["InstanceInformationList"].as_array().unwrap().clone();
        list.iter().map(|one| format!("{} {}", one["InstanceId"], one["PingStatus"])).collect::<Vec<_>>()
    };
    let all = service.call("DescribeInstanceInformation", json!({})).await.unwrap();
    assert_eq!(all["InstanceInformationList"][0]["IPAddress"], "10.0.0.4");
    assert_eq!(ids(all).len(), 2);
    service.world.disconnect_agent(INSTANCE);
    let start = json!({ "Target": INSTANCE, "DocumentName": "AWS-StartSSHSession" });
    assert_eq!(refused(&service, "StartSession", start).await.0, "TargetNotConnected");
    let online = json!({ "Filters": [{ "Key": "PingStatus", "Values": ["Online"] }] });
    let online = service.call("DescribeInstanceInformation", online).await.unwrap();
    assert_eq!(ids(online), [format!("\"{OTHER}\" \"Online\"")]);
    let one = json!({ "InstanceInformationFilterList": [{ "key": "InstanceIds", "valueSet": [INSTANCE] }] });
    let one = service.call("DescribeInstanceInformation", one).await.unwrap();
    assert_eq!(ids(one), [format!("\"{INSTANCE}\" \"ConnectionLost\"")]);
}

#[tokio::test]
async fn a_parameter_is_found_by_its_name() {
    let service = Service::start().await;
    let found = service.call("GetParameter", json!({ "Name": "/aws/service/ami" })).await.unwrap();
    assert_eq!(found["Parameter"]["Value"], "ami-1");
    assert_eq!(found["Parameter"]["ARN"], "arn:aws:ssm:us-east-1::parameter/aws/service/ami");
}
