//! Traces as a collector gets them: OTLP over HTTP, read with nothing but the wire format of protocol buffers.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use jiff::Timestamp;
use orca::telemetry::{Part, Span, TraceMetrics, Traces};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const UID: &str = "3f2a9f0e-1111-4000-8000-00000000002a";

/// The fields of a message: number, and content (of numbers in little-endian bytes).
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            5 => 4,
            2 => usize::try_from(varint(&mut bytes)).unwrap(),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    found
}

fn all(message: &[u8], number: u64) -> Vec<Vec<u8>> {
    fields(message).into_iter().filter(|(found, _)| *found == number).map(|(_, content)| content).collect()
}

fn text(message: &[u8], number: u64) -> String {
    String::from_utf8(all(message, number).pop().unwrap()).unwrap()
}

/// `key=value` of attributes.
fn attributes(message: &[u8], number: u64) -> Vec<String> {
    let pairs = all(message, number);
    pairs.iter().map(|pair| format!("{}={}", text(pair, 1), text(&all(pair, 2)[0], 1))).collect()
}

async fn collector() -> (SocketAddr, mpsc::Receiver<Bytes>, JoinSet<()>) {
    let (sender, received) = mpsc::channel(8);
    let take = move |body: Bytes| async move { sender.send(body).await.unwrap() };
    let router = Router::new().route("/v1/traces", post(take));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, received, tasks)
}

fn span(name: &'static str, part: Part, error: Option<&str>) -> Span {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    Span {
        pod_uid: UID.to_owned(),
        name,
        part,
        from: at(1),
        to: at(7),
        attributes: vec![("k8s.pod.uid", UID.to_owned()), ("host.id", "i-1".to_owned())],
        error: error.map(str::to_owned),
    }
}

#[tokio::test]
async fn a_collector_gets_the_spans_of_a_pod_as_one_trace() {
    let (address, mut received, mut tasks) = collector().await;
    let resource = vec![("service.name", "orca".to_owned()), ("cloud.provider", "aws".to_owned())];
    let (traces, exporter) =
        Traces::new(&format!("http://{address}/"), resource, TraceMetrics::default()).unwrap();
    tasks.spawn(exporter.run());
    traces.tell(span("RunInstances", Part::Call, Some("no_capacity")));
    traces.tell(span("pod start", Part::Whole, None));
    let body = timeout(Duration::from_secs(20), received.recv()).await.unwrap().unwrap();

    let resource_spans = &all(&body, 1)[0];
    let resource = &all(resource_spans, 1)[0];
    let mut found = attributes(resource, 1);
    found.sort();
    assert_eq!(found, ["cloud.provider=aws", "service.name=orca"]);
    let spans = all(&all(resource_spans, 2)[0], 2);
    let [call, whole] = &spans[..] else { panic!("{}", spans.len()) };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&all(call, 1)[0]), UID.replace('-', ""));
    assert_eq!(all(call, 1), all(whole, 1), "one trace");
    assert_eq!(all(call, 4), all(whole, 2), "the call is inside the whole");
    assert_eq!([text(call, 5), text(whole, 5)], ["RunInstances", "pod start"]);
    let nanos = |message: &[u8], number| u64::from_le_bytes(all(message, number)[0][..].try_into().unwrap());
    assert_eq!([nanos(whole, 7), nanos(whole, 8)], [1_800_000_001_000_000_000, 1_800_000_007_000_000_000]);
    assert_eq!(attributes(call, 9), [format!("k8s.pod.uid={UID}"), "host.id=i-1".to_owned()]);
    let status = &all(call, 15)[0];
    assert_eq!((text(status, 2), all(status, 3)[0][0]), ("no_capacity".to_owned(), 2), "an error");
}
