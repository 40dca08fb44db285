//! WebSocket as clients of the API server speak it, however its bytes come.

use proptest::prelude::*;

use super::super::testing::{ws_frame, ws_heard, ws_message};
use super::super::wire::Event;
use super::channels::{Channels, Closing, Encoding};
use super::*;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// Not final.
const PART: u8 = 0x7f;

/// Messages of a client, and whether it has closed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    messages: Vec<Vec<u8>>,
    /// The last one is not whole.
    open: bool,
    left: bool,
}

fn parts<'a>(bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let mut rest = bytes;
    sizes.iter().cycle().map_while(move |size| {
        let part;
        (part, rest) = rest.split_at((*size).min(rest.len()));
        (!part.is_empty()).then(|| part.to_vec())
    })
}

fn read(bytes: &[u8], sizes: &[usize]) -> (Told, Vec<u8>, Result<(), WsError>) {
    let (mut ws, mut told, mut out) = (WebSocket::default(), Told::default(), Vec::new());
    let mut ended = Ok(());
    for mut part in parts(bytes, sizes) {
        ended = ws.receive(&mut part, &mut out, &mut |part| {
            match part {
                Part::Piece(piece) => {
                    if piece.first {
                        assert!(!told.open);
                        told.messages.push(Vec::new());
                    }
                    told.messages.last_mut().unwrap().extend(piece.bytes);
                    told.open = !piece.last;
                }
                Part::Leaving => told.left = true,
            }
            Ok::<_, WsError>(())
        });
        if ended.is_err() {
            break;
        }
    }
    (told, out, ended)
}

/// Of each channel what was said in it, or that it was closed.
type Channelled = Vec<(u32, Option<Vec<u8>>)>;

/// What channels make of messages; data of one channel as one.
fn channelled(channels: Channels, bytes: &[u8], sizes: &[usize]) -> (Channelled, Option<WsError>) {
    let (mut channels, mut ws, mut told) = (channels, WebSocket::default(), Channelled::new());
    for mut part in parts(bytes, sizes) {
        let read = ws.receive(&mut part, &mut Vec::new(), &mut |part| match part {
            Part::Piece(piece) => channels.receive(piece, &mut |event| match event {
                Event::Data { id, bytes } => match told.last_mut() {
                    Some((last, Some(said))) if *last == id => said.extend(bytes),
                    _ => told.push((id, Some(bytes.to_vec()))),
                },
                Event::Ended { id } => told.push((id, None)),
                other => panic!("{other:?}"),
            }),
            Part::Leaving => Ok(()),
        });
        if let Err(error) = read {
            return (told, Some(error));
        }
    }
    (told, None)
}

#[test]
fn messages_arrive_and_pings_are_answered_between() {
    let bytes = [
        ws_message(b""),
        ws_frame(BINARY & PART, b"one "),
        ws_frame(PING, b"there?"),
        ws_frame(0, b"mess"),
        ws_frame(PONG, b"?"),
        ws_frame(0x80, b"age"),
        ws_frame(TEXT, &[b'x'; 70_000]),
        ws_frame(CLOSE, &1000_u16.to_be_bytes()),
        ws_message(b"nobody hears this"),
    ]
    .concat();
    for sizes in [&[1][..], &[3, 70_000], &[bytes.len()]] {
        let (told, out, ended) = read(&bytes, sizes);
        let messages = vec![vec![], b"one message".to_vec(), vec![b'x'; 70_000]];
        assert_eq!((told, ended), (Told { messages, open: false, left: true }, Ok(())));
        assert_eq!(ws_heard(&out), [(PONG, b"there?".to_vec()), (CLOSE, vec![3, 0xe8])]);
    }
}

#[test]
fn what_the_protocol_forbids_ends_the_connection() {
    for (bytes, error) in [
        (vec![BINARY, 1, 0], WsError::Unmasked),
        (ws_frame(0xc2, b"x"), WsError::Extension),
        (ws_frame(PING, &[0; 126]), WsError::Control),
        (ws_frame(PING & PART, b""), WsError::Control),
        (ws_frame(0x80, b"x"), WsError::Order),
        ([ws_frame(BINARY & PART, b"x"), ws_frame(BINARY, b"y")].concat(), WsError::Order),
    ] {
        assert_eq!(read(&bytes, &[bytes.len()]).2, Err(error.clone()));
        assert_eq!(read(&bytes, &[1]).2, Err(error));
    }
    assert!(matches!(read(&ws_frame(0x83, b""), &[1]).2, Err(WsError::Header(_))));
}

#[test]
fn after_the_last_words_nothing_is_said() {
    let (mut ws, mut out) = (WebSocket::default(), Vec::new());
    ws.ping(&mut out);
    ws.close(Close::Done, &mut out);
    ws.binary(&[b"late"], &mut out);
    ws.close(Close::Broken, &mut out);
    let mut said = [ws_frame(PING, b"?"), ws_frame(CLOSE, &[3, 0xe8])].concat();
    assert!(!ws.is_closed());
    ws.receive(&mut said, &mut out, &mut |_| Ok::<_, WsError>(())).unwrap();
    assert_eq!(ws_heard(&out), [(PING, vec![]), (CLOSE, vec![3, 0xe8])]);
    assert!(ws.is_closed());
}

#[test]
fn the_first_byte_names_the_channel() {
    let bytes = [
        ws_message(b"\0hi"),
        ws_message(b""),
        ws_message(b"\0"),
        ws_message(b"\x07nobody"),
        ws_frame(BINARY & PART, b""),
        ws_frame(0x80, b"\x04{}"),
        ws_message(b"\xff\0"),
        ws_message(b"\0\n"),
    ]
    .concat();
    for sizes in [&[1][..], &[5, 2], &[1000]] {
        let old = Channels::new(5, Encoding::Binary, Closing::Never);
        let said = |id, text: &[u8]| (id, Some(text.to_vec()));
        // To older clients 255 is a channel that there is not.
        assert_eq!(
            channelled(old, &bytes, sizes),
            (vec![said(0, b"hi"), said(4, b"{}"), said(0, b"\n")], None)
        );
        let new = Channels::new(5, Encoding::Binary, Closing::BySignal);
        let told = vec![said(0, b"hi"), said(4, b"{}"), (0, None), said(0, b"\n")];
        assert_eq!(channelled(new, &bytes, sizes), (told, None));
    }
    for signal in [&b"\xff"[..], b"\xff\0\0", b"\xff\x05"] {
        let new = Channels::new(5, Encoding::Binary, Closing::BySignal);
        assert_eq!(channelled(new, &ws_message(signal), &[1]), (vec![], Some(WsError::CloseSignal)));
    }
}

#[test]
fn base64_is_read_and_written() {
    let channels = || Channels::new(5, Encoding::Base64, Closing::Never);
    let bytes =
        [ws_frame(TEXT, b"0aGkK"), ws_frame(TEXT, b"0eA=="), ws_frame(TEXT, b"9eA=="), ws_frame(TEXT, b"0")]
            .concat();
    for sizes in [&[1][..], &[3], &[1000]] {
        assert_eq!(channelled(channels(), &bytes, sizes), (vec![(0, Some(b"hi\nx".to_vec()))], None));
        for wrong in ["0a", "0aGk", "0****", "0eA==eA==", "0=aaa", "0eA==e"] {
            let error = channelled(channels(), &ws_frame(TEXT, wrong.as_bytes()), sizes).1;
            assert_eq!(error, Some(WsError::Base64), "{wrong}");
        }
    }
    let mut out = Vec::new();
    channels().send(&WebSocket::default(), 1, b"hi\n", &mut out);
    channels().send(&WebSocket::default(), 3, b"", &mut out);
    assert_eq!(ws_heard(&out), [(TEXT, b"1aGkK".to_vec()), (TEXT, b"3".to_vec())]);
}

proptest! {
    #[test]
    fn whatever_is_sent_in_channels_arrives_however_it_is_cut(
        messages in proptest::collection::vec((0..5_u8, proptest::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..20),
        sizes in proptest::collection::vec(1..400_usize, 1..6),
        is_base64: bool,
    ) {
        let encoding = if is_base64 { Encoding::Base64 } else { Encoding::Binary };
        let (mut bytes, mut expected) = (Vec::new(), Channelled::new());
        for (id, body, in_two) in &messages {
            // What we write to clients is written as they write, but for the mask.
            let mut ours = Vec::new();
            Channels::new(5, encoding, Closing::Never).send(&WebSocket::default(), u32::from(*id), body, &mut ours);
            for (first, payload) in ws_heard(&ours) {
                if *in_two {
                    let (head, tail) = payload.split_at(payload.len() / 2);
                    bytes.extend([ws_frame(first & PART, head), ws_frame(PING, b""), ws_frame(0x80, tail)].concat());
                } else {
                    bytes.extend(ws_frame(first, &payload));
                }
            }
            match expected.last_mut() {
                _ if body.is_empty() => {}
                Some((last, Some(said))) if *last == u32::from(*id) => said.extend(body),
                _ => expected.push((u32::from(*id), Some(body.clone()))),
            }
        }
        prop_assert_eq!(channelled(Channels::new(5, encoding, Closing::Never), &bytes, &sizes), (expected, None));
    }

    #[test]
    fn any_bytes_are_read_or_refused_however_they_are_cut(
        bytes in proptest::collection::vec(prop_oneof![Just(0x82_u8), Just(0x80), Just(0x84), Just(0), any::<u8>()], 0..200),
        sizes in proptest::collection::vec(1..40_usize, 1..6),
        closing in prop_oneof![Just(Closing::Never), Just(Closing::BySignal)],
    ) {
        let whole = [bytes.len().max(1)];
        prop_assert_eq!(read(&bytes, &sizes), read(&bytes, &whole));
        for encoding in [Encoding::Binary, Encoding::Base64] {
            let channels = || Channels::new(3, encoding, closing);
            let (cut, error) = channelled(channels(), &bytes, &sizes);
            let (uncut, other) = channelled(channels(), &bytes, &whole);
            prop_assert_eq!(&error, &other);
            // Until something is wrong.
            if error.is_none() {
                prop_assert_eq!(cut, uncut);
            }
        }
    }
}
