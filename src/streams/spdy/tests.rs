//! SPDY as kubectl and the API server speak it, however its bytes come.

use proptest::prelude::*;

use super::super::testing::{Client, Ear, Heard, PING, control, hex, spdy_data, spdy_reset};
use super::super::wire::Event;
use super::headers::Headers;
use super::*;

/// What spdystream 0.5.1 writes for an exec with input: four streams, a ping, a line of input and its end, and leave.
const GOLDEN: &str = "
    80030001 00000029 00000001 00000000 0000 78f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff
    80030001 00000017 00000003 00000000 0000 c22e555c92929907000000ffff
    80030001 00000019 00000005 00000000 0000 c22ac5565c92925f5a02000000ffff
    80030001 00000015 00000007 00000000 0000 c229975a5404000000ffff
    80030006 00000004 00000001
    00000003 00000003 68690a
    00000003 01000000
    80030007 00000008 00000000 00000000";

/// What a client said, without borrowing from how it came; data of one stream as one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Opened(u32, Headers),
    Data(u32, Vec<u8>),
    Ended(u32),
    Reset(u32),
    InitialWindow(u32),
    Window(u32, u32),
    Leaving,
}

fn tell(told: &mut Vec<Told>, event: Event<'_>) {
    match event {
        Event::Opened { id, headers } => told.push(Told::Opened(id, headers)),
        Event::Data { id, bytes } => match told.last_mut() {
            Some(Told::Data(last, said)) if *last == id => said.extend(bytes),
            _ => told.push(Told::Data(id, bytes.to_vec())),
        },
        Event::Ended { id } => told.push(Told::Ended(id)),
        Event::Reset { id } => told.push(Told::Reset(id)),
        Event::InitialWindow(size) => told.push(Told::InitialWindow(size)),
        Event::Window { id, delta } => told.push(Told::Window(id, delta)),
        Event::Leaving => told.push(Told::Leaving),
    }
}

/// Reads `bytes` in parts of these sizes, over and over: what they say, what answers them, and why they end early.
fn read(mut bytes: &[u8], sizes: &[usize]) -> (Vec<Told>, Vec<u8>, Result<(), SpdyError>) {
    let (mut spdy, mut told, mut out) = (Spdy::default(), Vec::new(), Vec::new());
    for size in sizes.iter().cycle() {
        let (part, rest) = bytes.split_at((*size).min(bytes.len()));
        bytes = rest;
        let read = spdy.receive(part, &mut out, &mut |event| tell(&mut told, event));
        if read.is_err() || bytes.is_empty() {
            return (told, out, read);
        }
    }
    unreachable!("sizes repeat")
}

fn opened(id: u32, kind: &str) -> Told {
    Told::Opened(id, vec![("streamtype".to_owned(), kind.to_owned())])
}

#[test]
fn what_gos_library_writes_is_understood_however_it_is_cut() {
    let golden = hex(GOLDEN);
    let expected = [
        opened(1, "error"),
        opened(3, "stdin"),
        opened(5, "stdout"),
        opened(7, "stderr"),
        Told::Data(3, b"hi\n".to_vec()),
        Told::Ended(3),
        Told::Leaving,
    ];
    for size in 1..=golden.len() {
        let (told, answers, ended) = read(&golden, &[size, golden.len()]);
        assert_eq!((told.as_slice(), ended), (&expected[..], Ok(())), "{size} bytes first");
        assert_eq!(answers, PING);
        assert_eq!(read(&golden, &[size]).0, expected, "{size} bytes at a time");
    }
}

#[test]
fn what_is_written_is_what_gos_library_reads() {
    let (mut spdy, mut out) = (Spdy::default(), Vec::new());
    for id in [1, 3, 5] {
        spdy.accept(id, &mut out);
    }
    // Those that were seen to be accepted, though from another compressor.
    let golden = hex("80030002 00000010 00000001 78da6260606000000000ffff
        80030002 0000000c 00000003 020100000000ffff 80030002 0000000c 00000005 020100000000ffff");
    for bytes in [&out, &golden] {
        let mut ear = Ear::default();
        assert_eq!(ear.hear(bytes), [Heard::Reply(1), Heard::Reply(3), Heard::Reply(5)]);
        assert!(ear.is_between());
    }
    out.clear();
    spdy.data(3, b"hi\n", false, &mut out);
    spdy.data(3, b"", true, &mut out);
    assert_eq!(out, hex("00000003 00000003 68690a 00000003 01000000"));
    out.clear();
    spdy.reset(3, Reset::Cancel, &mut out);
    spdy.window(3, 5, &mut out);
    spdy.ping(&mut out);
    spdy.ping(&mut out);
    spdy.leave(false, &mut out);
    assert_eq!(
        out,
        hex("80030003 00000008 00000003 00000005 80030009 00000008 00000003 00000005
            80030006 00000004 00000002 80030006 00000004 00000004 80030007 00000008 00000000 00000000")
    );
}

#[test]
fn what_the_protocol_forbids_ends_the_connection() {
    let first = Client::default().stream(1, "error");
    let again = {
        let mut client = Client::default();
        [client.stream(3, "error"), client.stream(3, "stdin")].concat()
    };
    let huge = [&[0x80, 3, 0, 1, 0, 1, 0, 0][..], &[0; 100]].concat();
    for (bytes, error) in [
        (vec![0x80, 2, 0, 1, 0, 0, 0, 0], SpdyError::Frame(FrameError::Version(2))),
        (vec![0x80, 2, 0, 77, 0, 0, 0, 0], SpdyError::Frame(FrameError::Version(2))),
        (control(6, &[&[1]]), SpdyError::Frame(FrameError::Length { kind: 6, length: 1 })),
        (control(1, &[&[1]]), SpdyError::Frame(FrameError::Length { kind: 1, length: 1 })),
        (control(4, &[&[0, 0, 0, 9]]), SpdyError::Frame(FrameError::Length { kind: 4, length: 4 })),
        (control(4, &[&[0xff; 12]]), SpdyError::Frame(FrameError::Length { kind: 4, length: 12 })),
        (huge, SpdyError::Frame(FrameError::Length { kind: 1, length: 0x1_0000 })),
        (
            control(4, &[&[0, 0, 0, 1, 0, 0, 0, 7, 0xff, 0, 0, 0]]),
            SpdyError::Frame(FrameError::Window(0xff00_0000)),
        ),
        (Client::default().stream(2, "error"), SpdyError::Stream(2, 0)),
        (again, SpdyError::Stream(3, 3)),
        (
            [first, control(1, &[&[0, 0, 0, 3], &[0; 6], b"nonsense"])].concat(),
            SpdyError::Frame(FrameError::Headers(headers::BlockError::Zlib)),
        ),
    ] {
        assert_eq!(read(&bytes, &[bytes.len()]).2, Err(error));
        assert_eq!(read(&bytes, &[1]).2, Err(error));
    }
}

#[test]
fn what_is_not_known_is_passed_over() {
    let bytes = [
        control(77, &[&[1; 40_000]]),
        // SETTINGS of something else, HEADERS, an answer to a ping of ours.
        control(4, &[&[0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 100]]),
        control(6, &[&[0, 0, 0, 2]]),
        spdy_data(9, b"", false),
        spdy_reset(9),
        control(4, &[&[0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 100, 1, 0, 0, 7, 0, 1, 0, 0]]),
        control(9, &[&[0, 0, 0, 9, 0, 0, 1, 0]]),
    ]
    .concat();
    for size in [1, 7, bytes.len()] {
        let (told, answers, ended) = read(&bytes, &[size]);
        assert_eq!(told, [Told::Reset(9), Told::InitialWindow(0x1_0000), Told::Window(9, 256)]);
        assert_eq!((answers, ended), (vec![], Ok(())));
    }
}

/// Frames of a client, what they say, and what answers them.
fn conversation() -> impl Strategy<Value = Vec<(u8, u8, Vec<u8>, String)>> {
    let body = proptest::collection::vec(any::<u8>(), 0..300);
    proptest::collection::vec((0..6_u8, 0..8_u8, body, "[a-z]{0,12}"), 0..40)
}

proptest! {
    #[test]
    fn whatever_a_client_says_arrives_however_it_is_cut(
        conversation in conversation(),
        sizes in proptest::collection::vec(1..400_usize, 1..6),
    ) {
        let (mut client, mut bytes, mut expected, mut answers) = (Client::default(), Vec::new(), Vec::new(), Vec::new());
        let mut next = 1;
        for (what, id, body, text) in conversation {
            let id = 2 * u32::from(id) + 1;
            let frame = match what {
                0 => {
                    let frame = client.begin(next, &[("streamtype", &text), ("x", "y")]);
                    let headers = [("streamtype".to_owned(), text), ("x".to_owned(), "y".to_owned())];
                    tell(&mut expected, Event::Opened { id: next, headers: headers.to_vec() });
                    next += 2;
                    frame
                }
                1 | 2 => {
                    if !body.is_empty() {
                        tell(&mut expected, Event::Data { id, bytes: &body });
                    }
                    if what == 2 {
                        tell(&mut expected, Event::Ended { id });
                    }
                    spdy_data(id, &body, what == 2)
                }
                3 => {
                    tell(&mut expected, Event::Reset { id });
                    spdy_reset(id)
                }
                4 => {
                    answers.extend(control(6, &[&id.to_be_bytes()]));
                    control(6, &[&id.to_be_bytes()])
                }
                _ => {
                    tell(&mut expected, Event::Window { id, delta: next });
                    control(9, &[&id.to_be_bytes(), &next.to_be_bytes()])
                }
            };
            bytes.extend(frame);
        }
        prop_assert_eq!(read(&bytes, &sizes), (expected, answers, Ok(())));
    }

    #[test]
    fn any_bytes_are_read_or_refused_however_they_are_cut(
        bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(0x80), Just(3), Just(1), any::<u8>()], 0..200),
        sizes in proptest::collection::vec(1..40_usize, 1..6),
    ) {
        prop_assert_eq!(read(&bytes, &sizes), read(&bytes, &[bytes.len().max(1)]));
    }
}
