//! Remote commands from the request to the last byte, by a client that writes frames.

use http::header::HeaderMap;
use http::{HeaderValue, Method};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::super::testing::{
    Container, GOAWAY, Heard, PING, Peer, hex, spdy_data, spdy_reset, ws_frame, ws_heard, ws_message,
};
use super::super::{Agreed, Asked, Broken};
use super::*;

const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;

fn agreed(query: &str, headers: &[(&'static str, &str)]) -> Agreed {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    Asked::exec(query).unwrap().agree(&Method::GET, &map).unwrap()
}

fn over_spdy(query: &str, version: &str) -> Agreed {
    agreed(
        query,
        &[("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", version)],
    )
}

fn over_websocket(query: &str, protocol: &str) -> Agreed {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ];
    agreed(query, &headers)
}

/// Serves that command, and what became of it.
struct Served {
    container: std::sync::Arc<Container>,
    serving: tokio::task::JoinHandle<Result<(), Broken>>,
    end: tokio::sync::oneshot::Sender<Ending>,
}

fn serve(agreed: Agreed, io: DuplexStream) -> Served {
    let container = std::sync::Arc::new(Container::default());
    let (end, until) = tokio::sync::oneshot::channel();
    let backend = container.clone();
    let serving = tokio::spawn(async move {
        let until = async { if let Ok(ending) = until.await { ending } else { pending().await } };
        agreed.serve(io, backend.as_ref(), until).await
    });
    Served { container, serving, end }
}

impl Served {
    /// How its session has ended.
    async fn ended(&self) -> &'static str {
        let mut ended = self.container.ended.subscribe();
        ended.wait_for(Option::is_some).await.unwrap().unwrap()
    }
}

fn begin(query: &str) -> (Peer, Served) {
    let (peer, io) = Peer::new();
    (peer, serve(over_spdy(query, "v4.channel.k8s.io"), io))
}

#[tokio::test]
async fn the_bytes_of_gos_library_run_a_command_to_its_end() {
    let (mut peer, served) = begin("command=cat&input=1&output=1&error=1");
    let golden = "80030001 00000029 00000001 00000000 0000 78f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff
        80030001 00000017 00000003 00000000 0000 c22e555c92929907000000ffff
        80030001 00000019 00000005 00000000 0000 c22ac5565c92925f5a02000000ffff
        80030001 00000015 00000007 00000000 0000 c229975a5404000000ffff
        80030006 00000004 00000001 00000003 00000003 68690a 00000003 01000000";
    peer.say(&hex(golden)).await;
    let mut first = Vec::new();
    for _ in 0..5 {
        first.push(peer.next().await);
    }
    assert_eq!(first.last(), Some(&Heard::Reply(7)));
    assert!(first.contains(&Heard::Ping(1)) && first.contains(&Heard::Reply(1)));
    let streams = peer.until_leave().await;
    let expected = [(1, SUCCESS.to_vec()), (3, vec![]), (5, b"hi\n".to_vec()), (7, vec![])];
    assert_eq!(streams, expected.map(|(id, said)| (id, (said, true))).into());
    // The client ends the connection, and is answered until then.
    peer.say(&PING).await;
    assert_eq!(peer.next().await, Heard::Ping(1));
    peer.io.shutdown().await.unwrap();
    assert_eq!(peer.hear().await, None);
    served.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn exit_codes_and_failures_are_told_in_the_words_of_the_version() {
    let code = r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
    let plain = "command terminated with non-zero exit code: exit status 7";
    let failed = "Internal error occurred: error executing command in container: no such program";
    for (version, query, status) in [
        ("v4.channel.k8s.io", "command=exit&command=7&output=1", code),
        ("v3.channel.k8s.io", "command=exit&command=7&output=1", plain),
        ("channel.k8s.io", "command=exit&command=7&output=1", plain),
        ("v2.channel.k8s.io", "command=exit&command=0&output=1", ""),
        ("v2.channel.k8s.io", "command=nonsense&output=1", failed),
    ] {
        let (mut peer, io) = Peer::new();
        let served = serve(over_spdy(query, version), io);
        peer.begin(&["error", "stdout"]).await;
        let streams = peer.until_leave().await;
        assert_eq!(streams[&1], (status.as_bytes().to_vec(), true), "{version}");
        drop(peer);
        served.serving.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_status_comes_behind_all_output_and_nothing_is_lost_however_slowly_it_is_read() {
    let (mut peer, _served) = begin("command=write&command=3000000&output=1&error=1");
    peer.begin(&["error", "stdout", "stderr"]).await;
    let mut before_status = 0;
    loop {
        match peer.next().await {
            Heard::Data(3, bytes) | Heard::Last(3, bytes) => before_status += bytes.len(),
            Heard::Data(1, _) | Heard::Last(1, _) => break,
            _ => tokio::task::yield_now().await,
        }
    }
    assert_eq!(before_status, 3_000_000);
}

#[tokio::test]
async fn a_terminal_has_the_size_that_its_client_told_last() {
    let (mut peer, _served) = begin("command=size&input=1&output=1&tty=1&error=1");
    peer.begin(&["error", "stdin", "stdout", "resize"]).await;
    peer.say(&spdy_data(7, b"{\"Width\":1,\"Height\":2}\n{\"Width\":99,\"Height\":33}\n", false)).await;
    assert_eq!(peer.until_leave().await[&5].0, b"99x33");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_open_what_it_promised_is_told_so() {
    let start = Instant::now();
    let (mut peer, served) = begin("command=cat&input=1&output=1");
    // Unknown ones do not count, and a second one is refused.
    peer.begin(&["error", "stdin", "whatever"]).await;
    assert_eq!(peer.next().await, Heard::Last(5, vec![]));
    let again = peer.client.stream(7, "stdin");
    peer.say(&again).await;
    assert_eq!(peer.next().await, Heard::Reset(7, 3));
    let status = peer.until_leave().await.remove(&1).unwrap().0;
    assert!(String::from_utf8(status).unwrap().contains("timed out waiting for client to create streams"));
    assert_eq!(start.elapsed().as_secs(), CREATION.as_secs());
    drop(peer);
    served.serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_is_hung_up_when_its_client_goes_however_it_goes() {
    for farewell in [&[][..], &GOAWAY, &[spdy_reset(3), GOAWAY.to_vec()].concat()] {
        let (mut peer, served) = begin("command=sleep&output=1");
        peer.begin(&["error", "stdout"]).await;
        peer.say(farewell).await;
        if farewell.is_empty() {
            drop(peer);
            assert_eq!(served.ended().await, "hung up");
        } else {
            assert_eq!(served.ended().await, "hung up");
            drop(peer);
        }
        drop(served.serving.await.unwrap());
    }
    // One that does not end is left.
    let start = Instant::now();
    let (mut peer, served) = begin("command=undead&output=1");
    peer.begin(&["error", "stdout"]).await;
    drop(peer);
    assert_eq!(served.ended().await, "left");
    served.serving.await.unwrap().unwrap();
    assert_eq!(start.elapsed(), GRACE);
}

#[tokio::test]
async fn half_of_an_input_is_not_taken_for_all_of_it() {
    let (mut peer, served) = begin("command=cat&input=1&output=1");
    peer.begin(&["error", "stdin", "stdout"]).await;
    peer.say(&spdy_data(3, b"half", false)).await;
    assert_eq!(peer.next().await, Heard::Data(5, b"half".to_vec()));
    drop(peer);
    assert_eq!(served.ended().await, "broken");
}

#[tokio::test]
async fn a_client_is_told_when_nobody_reads_its_input_any_more_and_what_it_sends_is_thrown_away() {
    let (mut peer, served) = begin("command=deaf&input=1&output=1");
    peer.begin(&["error", "stdin", "stdout"]).await;
    assert_eq!(peer.next().await, Heard::Last(3, vec![]));
    // More than is ever held.
    for _ in 0..100 {
        peer.say(&spdy_data(3, &[7; 60_000], false)).await;
    }
    peer.say(&PING).await;
    while peer.next().await != Heard::Ping(1) {}
    drop(peer);
    served.serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_ends_with_a_word_when_its_container_does_or_this_process() {
    for (ending, word) in [
        (Ending::Here("the pod was deleted".to_owned()), "the pod was deleted"),
        (Ending::Everywhere, FAREWELL),
    ] {
        let start = Instant::now();
        let is_everywhere = ending == Ending::Everywhere;
        let (mut peer, served) = begin("command=sleep&output=1");
        peer.begin(&["error", "stdout"]).await;
        served.end.send(ending).unwrap();
        let status = peer.until_leave().await.remove(&1).unwrap();
        assert!(status.1 && String::from_utf8(status.0).unwrap().contains(word), "{word}");
        // A client that does not end is waited for, unless nobody has the time.
        served.serving.await.unwrap().unwrap();
        let waited = start.elapsed().as_secs();
        assert_eq!(waited, if is_everywhere { 1 } else { 300 });
    }
}

#[tokio::test(start_paused = true)]
async fn pings_keep_a_silent_command_and_silence_ends_it() {
    let start = Instant::now();
    let (mut peer, _served) = begin("command=sleep&output=1");
    peer.begin(&["error", "stdout"]).await;
    tokio::time::sleep(Duration::from_hours(3)).await;
    peer.say(&PING).await;
    assert_eq!(peer.next().await, Heard::Ping(1));
    let ended = tokio::time::timeout(Duration::from_hours(9), async {
        loop {
            let mut buffer = [0; 1024];
            let count = peer.io.read(&mut buffer).await.unwrap();
            if String::from_utf8_lossy(&buffer[..count]).contains("nothing was said for 4 hours") {
                break;
            }
        }
    });
    ended.await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_hours(7));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_what_is_left_is_not_waited_for_for_ever() {
    let start = Instant::now();
    let (mut peer, served) = begin("command=write&command=200000&output=1");
    peer.begin(&["error", "stdout"]).await;
    // It has written everything that there is room for, and nobody reads it.
    drop(served.end);
    let deaf = served.serving.await;
    drop(peer);
    // `write` waits for as long as its client does: here, until nothing passed for hours.
    assert!(matches!(deaf.unwrap(), Err(Broken::Deaf(_))));
    assert!(start.elapsed() >= Duration::from_hours(4));
}

#[tokio::test]
async fn a_client_that_is_not_understood_is_told_and_left() {
    let (mut peer, served) = begin("command=sleep&output=1");
    peer.begin(&["error", "stdout"]).await;
    peer.say(&[0x80, 9, 0, 1, 0, 0, 0, 0]).await;
    assert_eq!(peer.next().await, Heard::Leaving(3, 1));
    assert_eq!(peer.hear().await, None);
    assert!(matches!(served.serving.await.unwrap(), Err(Broken::Wire(_))));
    assert_eq!(served.container.ended.borrow().unwrap(), "hung up");
}

/// What a WebSocket client is told until leave is taken, and to the end, when it has answered that.
async fn told(io: &mut DuplexStream) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    while !ws_heard(&bytes).iter().any(|(first, _)| *first == 0x88) {
        assert!(io.read_buf(&mut bytes).await.unwrap() > 0);
    }
    // Who closed first is not listened to any more.
    drop(io.write_all(&ws_frame(0x88, &[3, 0xe8])).await);
    io.read_to_end(&mut bytes).await.unwrap();
    ws_heard(&bytes)
}

#[tokio::test]
async fn websocket_channels_run_a_command_to_its_end() {
    let done = (0x88, vec![3, 0xe8]);
    let said = |channel: &[u8], bytes: &[u8]| (0x82, [channel, bytes].concat());
    for (protocol, input, told) in [
        // Nothing on success, or the conformance test fails.
        ("channel.k8s.io", None, vec![said(b"\x01", b""), done.clone()]),
        ("v4.channel.k8s.io", None, vec![said(b"\x01", b""), said(b"\x03", SUCCESS), done.clone()]),
        (
            "v5.channel.k8s.io",
            Some([ws_message(b"\0hi\n"), ws_message(b"\xff\0")].concat()),
            vec![said(b"\x01", b""), said(b"\x01", b"hi\n"), said(b"\x03", SUCCESS), done.clone()],
        ),
        (
            "v4.base64.channel.k8s.io",
            None,
            vec![
                (0x81, b"1".to_vec()),
                (0x81, b"3eyJtZXRhZGF0YSI6e30sInN0YXR1cyI6IlN1Y2Nlc3MifQ==".to_vec()),
                done.clone(),
            ],
        ),
    ] {
        let query = if input.is_some() {
            "command=cat&input=1&output=1"
        } else {
            "command=exit&command=0&output=1&error=1"
        };
        let (mut io, ours) = tokio::io::duplex(64 * 1024);
        let served = serve(over_websocket(query, protocol), ours);
        io.write_all(&input.unwrap_or_default()).await.unwrap();
        assert_eq!(self::told(&mut io).await, told, "{protocol}");
        served.serving.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_websocket_that_is_closed_hangs_its_command_up_and_is_answered() {
    let (mut io, ours) = tokio::io::duplex(64 * 1024);
    let served = serve(over_websocket("command=sleep&output=1", "v5.channel.k8s.io"), ours);
    let mut greeting = [0; 3];
    io.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, [0x82, 1, 1]);
    io.write_all(&ws_frame(0x88, &[3, 0xe9])).await.unwrap();
    assert_eq!(served.ended().await, "hung up");
    assert_eq!(told(&mut io).await, [(0x88, vec![3, 0xe9])]);
    served.serving.await.unwrap().unwrap();
}
