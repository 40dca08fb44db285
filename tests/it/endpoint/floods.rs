//! Floods: what somebody can make the node keep, and for how long. `docs/operations.md`, "What the endpoint bears", says
//! the same in numbers.

use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use http_body_util::StreamBody;
use hyper::body::Frame;
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;

use super::*;

/// Connections of the flood.
const FLOOD: usize = 10_000;
/// Connections without a name that are kept.
const KEPT: usize = 256;
/// An answer beside a flood, on a busy machine: a client waits for 30 s and longer.
const GOOD_TIME: Duration = Duration::from_secs(10);
/// What the buffers of the kernel and of TLS may take on the way through this machine, at the most.
const BUFFERS: u64 = 24 << 20;
/// A TLS handshake that has begun: a record's header, and nothing of the 512 bytes that it announces.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01";

impl World {
    fn identity(&self) -> Option<Identity> {
        Some(self.cluster.issue("system:apiserver", ClientAuth))
    }
}

/// Connections that say nothing, or half of what they should, from an address of their own.
struct Idle(Vec<std::net::TcpStream>);

impl Idle {
    /// As many as the limit of open files allows beside the other tests, at most [`FLOOD`].
    fn open(to: SocketAddr) -> Self {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let limit: usize = limit.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX);
        let count = FLOOD.min(limit / 2);
        assert!(count >= 2 * KEPT, "a limit of {limit} open files is too low for this test");
        Self((0..count).map(|number| Self::one(to, number)).collect())
    }

    fn one(to: SocketAddr, number: usize) -> std::net::TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        if number.is_multiple_of(64) {
            // The kernel's queue before the server is short, and whoever finds it full tries again after a second only.
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut stream = std::net::TcpStream::from(socket);
        if number % 2 == 1 {
            // It may be over already.
            drop(stream.write(HALF_A_HELLO));
        }
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// Those that the server has not closed.
    fn kept(&mut self) -> usize {
        let is_open = |stream: &mut std::net::TcpStream| {
            stream.read(&mut [0; 64]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        self.0.iter_mut().map(is_open).filter(|open| *open).count()
    }
}

async fn asks_in_good_time(world: &World) {
    let begun = Instant::now();
    let answer = world.send(Some("system:apiserver"), Request::get(LOGS));
    let answer = tokio::time::timeout(GOOD_TIME, answer).await.expect("an answer in good time");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(text(answer).await, format!("asked for {LOGS}\n"));
    assert!(begun.elapsed() < GOOD_TIME, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_keep_nobody_out_and_few_are_kept() {
    let world = start().await;
    let address = world.address;
    // From another address than the flood, and slow to say what it wants.
    let mut slow = world.connect(world.identity()).await.unwrap();
    let flood = tokio::task::spawn_blocking(move || Idle::open(address));
    while !flood.is_finished() {
        asks_in_good_time(&world).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut idle = flood.await.unwrap();
    asks_in_good_time(&world).await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: node\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).await.expect("the oldest connection, which is not the flood's");
    assert_eq!(&answer, b"HTTP/1.1 200");
    let begun = Instant::now();
    loop {
        let kept = idle.kept();
        if kept <= KEPT {
            break;
        }
        assert!(begun.elapsed() < GOOD_TIME, "{kept} of {} are kept", idle.0.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How long, by the paused clock, until the server ends a connection on which nothing more is said.
async fn patience(mut stream: impl tokio::io::AsyncRead + Unpin) -> Duration {
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let mut said = Vec::new();
    // An end without a word is an end, too.
    drop(stream.read_to_end(&mut said).await);
    tokio::time::resume();
    assert!(said.len() < 1024, "{} bytes", said.len());
    begun.elapsed()
}

#[tokio::test]
async fn half_a_handshake_is_given_up_after_10_s() {
    let world = start().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(HALF_A_HELLO).await.unwrap();
    let patience = patience(stream).await;
    assert!((9..=11).contains(&patience.as_secs()), "{patience:?}");
}

#[tokio::test]
async fn who_says_nothing_after_the_handshake_or_between_requests_is_given_up_after_90_s() {
    let world = start().await;
    let silent = world.connect(world.identity()).await.unwrap();
    let silent = patience(silent).await;
    assert!((89..=91).contains(&silent.as_secs()), "{silent:?}");
    let mut stream = world.connect(world.identity()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: node\r\n\r\n").await.unwrap();
    let mut answer = [0; 256];
    let count = stream.read(&mut answer).await.unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 200"));
    let between = patience(stream).await;
    assert!((89..=91).contains(&between.as_secs()), "{between:?}");
}

#[tokio::test]
async fn a_byte_a_second_makes_no_request() {
    let world = start().await;
    let stream = world.connect(world.identity()).await.unwrap();
    let (reader, mut writer) = tokio::io::split(stream);
    let drips = async {
        for byte in b"GET /healthz HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'x')) {
            if writer.write_all(&[*byte]).await.is_err() || writer.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let patience = tokio::select! {
        patience = patience(reader) => patience,
        () = drips => Duration::ZERO,
    };
    assert!((1..=92).contains(&patience.as_secs()), "{patience:?}");
}

/// What the server answers to `head`, until it closes the connection.
async fn said_to(world: &World, head: &[u8]) -> String {
    let stream = world.connect(world.identity()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut said = Vec::new();
    let talk = async {
        // It may stop listening at any time, and close without having read everything.
        drop(writer.write_all(head).await);
        drop(writer.flush().await);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        read = tokio::time::timeout(GOOD_TIME, reader.read_to_end(&mut said)) => drop(read.expect("an end in good time")),
        () = talk => {}
    }
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn too_many_and_too_large_headers_are_refused_and_the_connection_is_closed() {
    let world = start().await;
    let head = |headers: &str| format!("GET /healthz HTTP/1.1\r\nhost: node\r\n{headers}\r\n");
    let many: String = (0..101).map(|number| format!("x-{number}: 1\r\n")).collect();
    let refused = "HTTP/1.1 431 Request Header Fields Too Large";
    assert_eq!(said_to(&world, head(&many).as_bytes()).await, refused);
    let large = format!("x: {}\r\n", "x".repeat(256 * 1024));
    assert_eq!(said_to(&world, head(&large).as_bytes()).await, refused);
    let long = format!("GET /healthz?{} HTTP/1.1\r\n\r\n", "x".repeat(70 * 1024));
    assert_eq!(said_to(&world, long.as_bytes()).await, "HTTP/1.1 414 URI Too Long");
    assert_eq!(
        said_to(&world, b"GET /healthz HTTP/1.1\r\nno header\r\n\r\n").await,
        "HTTP/1.1 400 Bad Request"
    );
    // What a long command of `kubectl exec` comes to is served.
    let arguments = format!("/healthz?{}", "x".repeat(60 * 1024));
    assert_eq!(world.send(Some("system:apiserver"), Request::get(arguments)).await.status(), StatusCode::OK);
}

/// How many bytes of `piece`, over and over, the server takes after `head` before it closes the connection or reads no
/// more; nothing of what it says is read.
async fn taken(world: &World, identity: Option<Identity>, head: &str, piece: &[u8]) -> (u64, End) {
    let mut stream = world.connect(identity).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut taken = 0;
    loop {
        let write = async {
            stream.write_all(piece).await?;
            stream.flush().await
        };
        match tokio::time::timeout(Duration::from_secs(1), write).await {
            Ok(Ok(())) => taken += piece.len() as u64,
            Ok(Err(_)) => return (taken, End::Closed),
            Err(_) => return (taken, End::Unread),
        }
        assert!(taken < BUFFERS, "{taken} bytes of {head:?}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Unread,
}

#[tokio::test]
async fn headers_without_end_are_closed() {
    let world = start().await;
    let header = format!("x: {}\r\n", "x".repeat(8 * 1024));
    for identity in [world.identity(), None] {
        let (_, end) = taken(&world, identity, "GET /healthz HTTP/1.1\r\n", header.as_bytes()).await;
        assert_eq!(end, End::Closed);
    }
}

#[tokio::test]
async fn bodies_without_end_are_not_kept_and_end_with_the_answer() {
    let world = start().await;
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    let head =
        |request: &str| format!("{request} HTTP/1.1\r\nhost: node\r\ntransfer-encoding: chunked\r\n\r\n");
    let upgrade = |path: &str| {
        head(&format!("POST {path}")).replace("host", "connection: Upgrade\r\nupgrade: SPDY/3.1\r\nhost")
    };
    for (identity, head, expected) in [
        (world.identity(), head("GET /containerLogs/ns/running/c"), End::Closed),
        (world.identity(), head("GET /healthz"), End::Closed),
        (world.identity(), head("POST /run/ns/running/c"), End::Closed),
        (None, head("POST /exec/ns/running/c"), End::Closed),
        (world.identity(), upgrade("/exec/ns/running/missing"), End::Closed),
        // Read as far as the machine takes it.
        (world.identity(), upgrade("/exec/ns/running/c"), End::Unread),
    ] {
        let (_, end) = taken(&world, identity, &head, &chunk).await;
        assert_eq!(end, expected, "{head:?}");
    }
}

/// What [`endless`] has said, and how many of its answers are being given.
static SAID: AtomicU64 = AtomicU64::new(0);
static SPEAKING: AtomicUsize = AtomicUsize::new(0);

struct Speaks;

impl Drop for Speaks {
    fn drop(&mut self) {
        SPEAKING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A log that never ends, as fast as it is read.
pub(super) fn endless() -> logs::Said {
    SPEAKING.fetch_add(1, Ordering::SeqCst);
    let lines = futures::stream::unfold(Speaks, async |speaks| {
        let bytes = Bytes::from("a line of the log, over and over again\n".repeat(400));
        SAID.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Some((Ok(Frame::data(bytes)), speaks))
    });
    Response::new(StreamBody::new(lines).boxed_unsync())
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_machine_back_and_lets_it_go_when_it_leaves() {
    let world = start().await;
    for query in ["", "?follow=true"] {
        SAID.store(0, Ordering::SeqCst);
        let request = format!("GET /containerLogs/ns/running/endless{query} HTTP/1.1\r\nhost: node\r\n\r\n");
        let mut stream = world.connect(world.identity()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut still = (0, 0);
        while still.1 < 20 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            let said = SAID.load(Ordering::SeqCst);
            assert!(said < BUFFERS, "{said} bytes are on the way");
            still = if said > 0 && said == still.0 { (said, still.1 + 1) } else { (said, 0) };
        }
        assert_eq!(SPEAKING.load(Ordering::SeqCst), 1);
        drop(stream);
        let begun = Instant::now();
        while SPEAKING.load(Ordering::SeqCst) > 0 {
            assert!(begun.elapsed() < GOOD_TIME, "the machine goes on speaking to nobody");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_connection_whose_peer_may_have_vanished_is_asked_after_30_s() {
    let world = start().await;
    let stream = world.connect(world.identity()).await.unwrap();
    let ours = stream.get_ref().0.local_addr().unwrap().port();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    // The server's end: local port, remote port, state; behind the queues the timer's kind and hundredths of a second.
    let ends = (format!(":{:04X}", world.address.port()), format!(":{ours:04X}"));
    let line = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line =
        line.into_iter().find(|line| line[1].ends_with(&ends.0) && line[2].ends_with(&ends.1)).unwrap();
    let (kind, left) = line[5].split_once(':').unwrap();
    let left = u32::from_str_radix(left, 16).unwrap();
    assert!(kind == "02" && left <= 3_000, "no keepalive within 30 s: {line:?}");
}
