//! Port-forward from the request to the last byte, by a client that writes frames.

use http::header::HeaderMap;
use http::{HeaderValue, Method};
use tokio::io::DuplexStream;

use super::super::testing::{
    Client, Container, Ear, GOAWAY, Heard, Peer, control, spdy_data, spdy_reset, ws_frame, ws_heard,
    ws_message,
};
use super::super::{Asked, Broken};
use super::*;

struct Served {
    serving: tokio::task::JoinHandle<Result<(), Broken>>,
    end: tokio::sync::oneshot::Sender<Ending>,
}

fn serve(query: &str, headers: &[(&'static str, &str)], io: DuplexStream) -> Served {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    let agreed = Asked::forward("ns/p", "u-1", query).unwrap().agree(&Method::GET, &map).unwrap();
    let (end, until) = tokio::sync::oneshot::channel();
    let serving = tokio::spawn(async move {
        let until =
            async { if let Ok(ending) = until.await { ending } else { std::future::pending().await } };
        agreed.serve(io, &Container::default(), until).await
    });
    Served { serving, end }
}

fn begin() -> (Peer, Served) {
    let (peer, io) = Peer::new();
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "portforward.k8s.io"),
    ];
    let served = serve("", &headers, io);
    (peer, served)
}

fn websocket(protocol: &str) -> [(&'static str, &str); 5] {
    [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ]
}

/// Begins a connection; its streams are `first` (errors) and `first + 2`.
async fn connect(peer: &mut Peer, first: u32, port: u16) {
    let frames = peer.client.pair(first, port);
    peer.say(&frames).await;
    let mut replies = Vec::new();
    while replies.len() < 2 {
        if let Heard::Reply(id) = peer.next().await {
            replies.push(id);
        }
    }
    assert_eq!(replies, [first, first + 2]);
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    let (mut peer, served) = begin();
    connect(&mut peer, 1, 7).await;
    peer.say(&spdy_data(3, b"hello", false)).await;
    assert_eq!(peer.next().await, Heard::Data(3, b"hello".to_vec()));
    // A second one beside it.
    connect(&mut peer, 5, 7).await;
    peer.say(&spdy_data(7, b"bye", true)).await;
    // Nothing on the error stream: it went well.
    assert_eq!(peer.until_ended(&[5, 7]).await, [(5, vec![]), (7, b"bye".to_vec())].into());
    peer.say(&spdy_data(3, b"still here", false)).await;
    assert_eq!(peer.next().await, Heard::Data(3, b"still here".to_vec()));
    // Who leaves begins nothing new, and what has begun goes on.
    peer.say(&GOAWAY).await;
    peer.say(&spdy_data(3, b"!", true)).await;
    let said = peer.until_leave().await;
    assert_eq!(said, [(1, (vec![], true)), (3, (b"!".to_vec(), true))].into());
    drop(peer);
    served.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_ends_first_is_heard_to_its_end() {
    let (mut peer, _served) = begin();
    connect(&mut peer, 1, 13).await;
    assert_eq!(peer.until_ended(&[3]).await[&3], b"noon");
    // As kubectl answers.
    peer.say(&spdy_reset(3)).await;
    assert_eq!(peer.next().await, Heard::Last(1, vec![]));
}

#[tokio::test]
async fn why_a_port_cannot_be_reached_is_told_and_that_it_broke_off_is_not() {
    let (mut peer, _served) = begin();
    connect(&mut peer, 1, 81).await;
    let text = b"error forwarding port 81 to pod ns/p, uid u-1: connection refused".to_vec();
    let (first, second) = (peer.next().await, peer.next().await);
    assert!([&first, &second].contains(&&Heard::Last(1, text)), "{first:?} {second:?}");
    assert!([&first, &second].contains(&&Heard::Last(3, vec![])), "{first:?} {second:?}");
    connect(&mut peer, 5, 1000).await;
    let (first, second) = (peer.next().await, peer.next().await);
    assert_eq!((first, second), (Heard::Reset(7, 5), Heard::Last(5, vec![])));
}

#[tokio::test(start_paused = true)]
async fn streams_without_a_partner_are_waited_for_and_told_so() {
    let (mut peer, _served) = begin();
    let frames = [
        peer.client.begin(1, &[("streamtype", "error"), ("port", "80"), ("requestid", "0")]),
        peer.client.begin(3, &[("streamtype", "data"), ("port", "80"), ("requestid", "1")]),
        peer.client.begin(5, &[("streamtype", "data"), ("port", "zero"), ("requestid", "2")]),
    ];
    let start = Instant::now();
    peer.say(&frames.concat()).await;
    let mut first = vec![peer.next().await, peer.next().await, peer.next().await];
    first.sort_by_key(|heard| matches!(heard, Heard::Reset(..)));
    assert_eq!(first, [Heard::Reply(1), Heard::Reply(3), Heard::Reset(5, 3)]);
    let late = [peer.next().await, peer.next().await];
    assert!(late.contains(&Heard::Reset(3, 5)), "{late:?}");
    let text = b"timed out waiting for the data stream of a request".to_vec();
    assert!(late.contains(&Heard::Last(1, text)), "{late:?}");
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn what_breaks_off_does_not_look_as_if_it_had_come_to_its_end() {
    let (mut peer, served) = begin();
    connect(&mut peer, 1, 7).await;
    served.end.send(Ending::Here("the pod was deleted".to_owned())).unwrap();
    let mut heard = vec![peer.next().await, peer.next().await, peer.next().await];
    heard.sort_by_key(|heard| matches!(heard, Heard::Leaving(..)));
    assert_eq!(heard, [Heard::Reset(3, 5), Heard::Last(1, vec![]), Heard::Leaving(3, 0)]);
    drop(peer);
    served.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_is_not_read_stalls_no_other() {
    let (mut peer, _served) = begin();
    connect(&mut peer, 1, 7).await;
    connect(&mut peer, 5, 7).await;
    // The echo of the first is never let through.
    peer.say(&control(4, &[&[0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0]])).await;
    peer.say(&control(9, &[&[0, 0, 0, 7, 0, 1, 0, 0]])).await;
    for _ in 0..20 {
        peer.say(&spdy_data(3, &[7; 30_000], false)).await;
    }
    for round in 0..20_u8 {
        peer.say(&spdy_data(7, &[round; 100], false)).await;
        loop {
            match peer.next().await {
                Heard::Data(7, bytes) => {
                    assert_eq!(bytes, [round; 100]);
                    break;
                }
                Heard::Window(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What a WebSocket client is told until leave is taken, and to the end, when it has answered that.
async fn told(io: &mut DuplexStream) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    while !ws_heard(&bytes).iter().any(|(first, _)| *first == 0x88) {
        assert!(io.read_buf(&mut bytes).await.unwrap() > 0);
    }
    io.write_all(&ws_frame(0x88, &[3, 0xe8])).await.unwrap();
    io.read_to_end(&mut bytes).await.unwrap();
    ws_heard(&bytes)
}

#[tokio::test(start_paused = true)]
async fn channels_of_old_name_their_port_first() {
    let (mut io, ours) = tokio::io::duplex(64 * 1024);
    let served = serve("port=13&port=81", &websocket("v4.channel.k8s.io"), ours);
    io.write_all(&ws_message(b"\0hello")).await.unwrap();
    let heard = told(&mut io).await;
    for (channel, said) in [
        (0, &b"\x0d\0noon"[..]),
        (1, b"\x0d\0"),
        (2, b"\x51\0"),
        (3, b"\x51\0error forwarding port 81 to pod ns/p, uid u-1: connection refused"),
    ] {
        let parts = heard.iter().filter(|(first, body)| *first == 0x82 && body[0] == channel);
        assert_eq!(parts.flat_map(|(_, body)| body[1..].to_vec()).collect::<Vec<_>>(), said);
    }
    served.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn spdy_in_a_websocket_is_spdy_wherever_its_messages_are_cut() {
    let (mut io, ours) = tokio::io::duplex(64 * 1024);
    let served = serve("", &websocket("SPDY/3.1+portforward.k8s.io"), ours);
    let spdy = [Client::default().pair(1, 7), spdy_data(3, b"hello", true), GOAWAY.to_vec()].concat();
    // As Go writes it: an empty message, and then few bytes in each.
    io.write_all(&ws_message(b"")).await.unwrap();
    for part in spdy.chunks(3) {
        io.write_all(&ws_message(part)).await.unwrap();
    }
    let (mut ear, mut heard) = (Ear::default(), Vec::new());
    for (first, message) in told(&mut io).await {
        if first == 0x82 {
            heard.extend(ear.hear(&message));
            assert!(ear.is_between(), "messages hold whole frames");
        }
    }
    let said = heard.iter().filter_map(|heard| match heard {
        Heard::Data(3, bytes) | Heard::Last(3, bytes) => Some(bytes.clone()),
        _ => None,
    });
    assert_eq!(said.collect::<Vec<_>>().concat(), b"hello");
    assert!(heard.contains(&Heard::Last(1, vec![])), "{heard:?}");
    assert_eq!(heard.last(), Some(&Heard::Leaving(3, 0)));
    served.serving.await.unwrap().unwrap();
}
