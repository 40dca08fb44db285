//! Exec, attach and port-forward as ORCA speaks them itself, into a container that is a real sshd: by a client that writes
//! bytes, and by kubectl.
//!
//! Needs what `ssh` needs; kubectl where there is one.

// A SPDY client by hand.
mod client;
// What the streams end in.
pub(crate) mod container;
// The real client.
mod kubectl;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use orca::streams::Asked;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::client::Client;
use self::container::{Way, grant};
use crate::ssh::{Sshd, noise};

const DEADLINE: Duration = Duration::from_secs(30);

/// What answers as an API server that has one pod, `ns/p`, whose streams end here.
struct Node {
    port: u16,
    sent: Arc<AtomicU64>,
    cut: CancellationToken,
    _serving: JoinSet<()>,
}

impl Node {
    async fn start(sshd: &Sshd) -> Self {
        let way = Way::to(sshd).await;
        let (sent, cut) = (way.sent.clone(), way.cut.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let way = way.clone();
                let service = service_fn(move |request| {
                    let way = way.clone();
                    async move { Ok::<_, Infallible>(answer(way, request)) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                connections.spawn(async move { drop(connection.await) });
            }
        });
        Self { port, sent, cut, _serving: serving }
    }
}

fn answer(way: Arc<Way>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    // What the API server makes of kubectl's query.
    let names = [
        ("stdin=true", "input=1"),
        ("stdout=true", "output=1"),
        ("stderr=true", "error=1"),
        ("tty=true", "tty=1"),
    ];
    let query = request.uri().query().unwrap_or_default().to_owned();
    let query = &names.into_iter().fold(query, |query, (from, to)| query.replace(from, to));
    let asked = match Path::new(&path).file_name().and_then(|name| name.to_str()) {
        Some("exec") => Asked::exec(query),
        Some("attach") => Asked::attach(query, query.contains("tty=1")),
        Some("portforward") => Asked::forward("ns/p", "u-1", query),
        _ => return page(&path),
    };
    grant(way, asked, request)
}

/// What kubectl asks for before it begins.
fn page(path: &str) -> Response<Full<Bytes>> {
    let page: Value = match path {
        "/version" => json!({ "major": "1", "minor": "32", "gitVersion": "v1.32.4" }),
        "/api" => json!({ "kind": "APIVersions", "versions": ["v1"] }),
        "/apis" => json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] }),
        "/api/v1" => json!({
            "kind": "APIResourceList", "groupVersion": "v1",
            "resources": [{ "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get"] }],
        }),
        "/api/v1/namespaces/ns/pods/p" => json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": { "name": "p", "namespace": "ns", "uid": "u-1" },
            "spec": { "containers": [{ "name": "c", "image": "i", "stdin": true }] },
            "status": { "phase": "Running" },
        }),
        _ => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    Response::builder().header("content-type", "application/json").body(Full::from(page.to_string())).unwrap()
}

/// All streams of a shell's command.
fn shell(script: &str) -> String {
    let script: String = script.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("/exec?command=sh&command=-c&command={script}&input=1&output=1&error=1")
}

async fn begin(name: &str, path: &str) -> Option<(Sshd, Node, Client)> {
    let sshd = Sshd::start(name).await?;
    let node = Node::start(&sshd).await;
    let client = Client::connect(node.port, path, "v4.channel.k8s.io").await;
    Some((sshd, node, client))
}

#[tokio::test]
async fn a_command_has_its_output_its_errors_and_its_exit_code() {
    let script = "echo out; echo err >&2; echo \"$ORCA_TEST\"; exit 5";
    let Some((_sshd, node, mut client)) = begin("streams-exec", &shell(script)).await else { return };
    client.open_all().await;
    let ended = timeout(DEADLINE, client.until_leave()).await.unwrap();
    assert_eq!((ended.text(5), ended.text(7)), ("out\nin the container\n", "err\n"));
    let status: Value = serde_json::from_slice(&ended.streams[&1]).unwrap();
    assert_eq!(status["details"]["causes"], json!([{ "reason": "ExitCode", "message": "5" }]), "{status}");
    for (script, code) in [
        ("exit 0", None),
        ("kill -9 $$", Some("137")),
        ("kill -12 $$", Some("140")),
        ("exec nonsense", Some("127")),
    ] {
        let mut client = Client::connect(node.port, &shell(script), "v4.channel.k8s.io").await;
        client.open_all().await;
        let ended = timeout(DEADLINE, client.until_leave()).await.unwrap();
        let status: Value = serde_json::from_slice(&ended.streams[&1]).unwrap();
        let told = status["details"]["causes"][0]["message"].as_str();
        assert_eq!(told, code, "{script}: {status}");
        assert_eq!(status["status"] == "Success", code.is_none());
    }
}

#[tokio::test]
async fn every_argument_arrives_as_it_is() {
    let words = ["a b", "$HOME", "it's", "", "`id`", "\\", "*", "\n", "\u{e9}"];
    let mut path = "/exec?command=printf&command=%25s%7c&output=1&input=1&error=1".to_owned();
    for word in words {
        path += "&command=";
        word.bytes().for_each(|byte| path += &format!("%{byte:02x}"));
    }
    let Some((_sshd, _node, mut client)) = begin("streams-words", &path).await else { return };
    client.open_all().await;
    let ended = timeout(DEADLINE, client.until_leave()).await.unwrap();
    assert_eq!(ended.text(5), words.map(|word| format!("{word}|")).concat());
}

#[tokio::test]
async fn ten_megabytes_of_input_come_back_whole_when_the_client_ends_it() {
    let Some((_sshd, _node, mut client)) = begin("streams-stdin", &shell("cat; echo end >&2")).await else {
        return;
    };
    client.open_all().await;
    let input = noise(10_000_000);
    let ended = timeout(DEADLINE, client.feed(3, &input)).await.unwrap();
    assert!(ended.streams[&5] == input, "{} bytes came back", ended.streams[&5].len());
    assert_eq!(ended.text(7), "end\n");
    assert_eq!(ended.text(1), r#"{"metadata":{},"status":"Success"}"#);
}

#[tokio::test]
async fn a_terminal_is_one_and_follows_its_clients_size() {
    let script = "tty -s && [ \"$TERM\" = xterm ] && echo tty >&2
        until [ \"$(stty size)\" = '33 99' ]; do sleep 0.02; done; echo first
        until [ \"$(stty size)\" = '50 132' ]; do sleep 0.02; done; read line; echo \"read $line\"; exit 3";
    let path = shell(script) + "&tty=1";
    let Some((_sshd, _node, mut client)) = begin("streams-tty", &path).await else { return };
    client.open_terminal().await;
    client.say(7, b"{\"Width\":99,\"Height\":33}\n").await;
    timeout(DEADLINE, client.until(5, "first\r\n")).await.unwrap();
    client.say(7, b"{\"Width\":132,\"Height\":50}\n").await;
    client.say(3, b"some words\r").await;
    let ended = timeout(DEADLINE, client.until_leave()).await.unwrap();
    let text = ended.text(5);
    // What is typed is echoed, and errors have no stream of their own.
    assert!(text.starts_with("tty\r\nfirst\r\n") && text.ends_with("read some words\r\n"), "{text:?}");
    assert!(ended.text(1).contains(r#"{"reason":"ExitCode","message":"3"}"#));
}

#[tokio::test]
async fn a_slow_reader_slows_the_command_down_and_costs_no_memory() {
    const TOTAL: usize = 64_000_000;
    let script = format!("head -c {TOTAL} /dev/zero; echo end >&2");
    let Some((_sshd, node, mut client)) = begin("streams-slow", &shell(&script)).await else { return };
    client.open_all().await;
    // 1 MB/s.
    let (start, mut read) = (Instant::now(), 0);
    while read < 3_000_000 {
        read += client.read_some(100_000).await;
        sleep((start + Duration::from_micros(read as u64)).saturating_duration_since(Instant::now())).await;
    }
    // On the way are: the kernel's buffers of two connections, russh's (2 MiB of window, 100 messages of 32 KiB), and
    // less than 200 KiB of ours.
    let sent = node.sent.load(Ordering::Relaxed);
    let on_the_way = sent.saturating_sub(read as u64);
    assert!(on_the_way < 20_000_000, "{on_the_way} bytes are on the way");
    let ended = timeout(DEADLINE, client.until_leave()).await.unwrap();
    assert_eq!((ended.streams[&5].len(), ended.text(7)), (TOTAL, "end\n"));
}

#[tokio::test]
async fn a_command_ends_when_its_client_goes() {
    let Some((_sshd, _node, mut client)) = begin("streams-gone", &shell("echo $$; exec sleep 1000")).await
    else {
        return;
    };
    client.open_all().await;
    let text = timeout(DEADLINE, client.until(5, "\n")).await.unwrap();
    let process = format!("/proc/{}", text.trim());
    assert!(Path::new(&process).exists());
    drop(client);
    let ended = timeout(DEADLINE, async {
        while Path::new(&process).exists() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    ended.await.expect("it is hung up");
}

#[tokio::test]
async fn what_runs_already_is_attached_to() {
    let Some((_sshd, _node, mut client)) = begin("streams-attach", "/attach?input=1&output=1&error=1").await
    else {
        return;
    };
    client.open_all().await;
    let ended = timeout(DEADLINE, client.feed(3, b"hello\n")).await.unwrap();
    assert_eq!(ended.text(5), "attached\nhello\n");
}

#[tokio::test]
async fn a_container_that_is_away_is_told_and_never_a_success() {
    let script = shell("echo begun; exec sleep 1000");
    let Some((_sshd, node, mut client)) = begin("streams-away", &script).await else { return };
    client.open_all().await;
    timeout(DEADLINE, client.until(5, "begun\n")).await.unwrap();
    node.cut.cancel();
    let ended = timeout(DEADLINE, client.until_leave()).await.unwrap();
    assert!(
        ended.text(1).contains("error executing command in container: the connection to the machine is lost"),
        "{}",
        ended.text(1)
    );
    let mut client = Client::connect(node.port, &shell("true"), "v4.channel.k8s.io").await;
    client.open_all().await;
    let ended = timeout(DEADLINE, client.until_leave()).await.unwrap();
    assert!(ended.text(1).contains("the machine cannot be reached now"), "{}", ended.text(1));
}

#[tokio::test]
async fn ports_are_forwarded_beside_each_other_with_half_close() {
    let Some((sshd, _node, mut client)) = begin_forward("streams-ports").await else { return };
    let sent: Vec<Vec<u8>> = (0..8).map(|n| noise(200_000 + n)).collect();
    let mut data = Vec::new();
    for _ in &sent {
        data.push(client.open_pair(sshd.echo).await);
    }
    for (id, bytes) in data.iter().zip(&sent) {
        client.say(*id, bytes).await;
    }
    for (id, bytes) in data.iter().zip(&sent) {
        client.end(*id).await;
        let back = timeout(DEADLINE, client.read_all(*id)).await.unwrap();
        assert!(back == *bytes, "stream {id}: {} bytes came back", back.len());
    }
    // Nothing is said of those that went well, and why another one cannot be is.
    let id = client.open_pair(1).await;
    let text = timeout(DEADLINE, client.read_all(id - 2)).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("error forwarding port 1 to pod ns/p, uid u-1: "), "{text}");
}

async fn begin_forward(name: &str) -> Option<(Sshd, Node, Client)> {
    let sshd = Sshd::start(name).await?;
    let node = Node::start(&sshd).await;
    let client = Client::connect(node.port, "/portforward", "portforward.k8s.io").await;
    Some((sshd, node, client))
}

#[tokio::test]
async fn what_is_refused_is_answered_in_a_kubelets_words() {
    let Some(sshd) = Sshd::start("streams-refused").await else { return };
    let node = Node::start(&sshd).await;
    for (path, version, status, words) in [
        ("/exec?command=a", "v4.channel.k8s.io", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/exec?command=a&output=1", "v9", 403, "unable to upgrade: unable to negotiate protocol"),
        ("/portforward", "v4.channel.k8s.io", 403, "unable to upgrade: unable to negotiate protocol"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", node.port)).await.unwrap();
        stream.write_all(client::request(path, version).as_bytes()).await.unwrap();
        let mut answer = vec![0; 1024];
        let count = timeout(DEADLINE, stream.read(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(words), "{answer}");
    }
}
