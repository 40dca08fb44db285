//! The other ends, for tests: a client that writes frames and reads what it is answered, and a container.

use std::num::NonZeroU16;
use std::time::Duration;

use async_trait::async_trait;
use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::timeout;

use super::backend::{Backend, BackendError, Session};
use super::spdy::headers::Inflater;
use crate::tunnel::ByteStream;

/// Bytes written as in a page of a manual.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// Writes the frames of a SPDY client.
pub(super) struct Client {
    headers: Compress,
}

impl Default for Client {
    fn default() -> Self {
        Self { headers: Compress::new(Compression::best(), true) }
    }
}

impl Client {
    /// SYN_STREAM.
    pub(super) fn begin(&mut self, id: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let number = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
        let mut plain = number(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(number(text.len()));
            plain.extend(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 1024);
        self.headers.compress_vec(&plain, &mut block, FlushCompress::Sync).unwrap();
        control(1, &[&id.to_be_bytes(), &[0; 6], &block])
    }

    pub(super) fn stream(&mut self, id: u32, kind: &str) -> Vec<u8> {
        self.begin(id, &[("streamtype", kind)])
    }

    /// Both streams of a connection to a port.
    pub(super) fn pair(&mut self, data: u32, port: u16) -> Vec<u8> {
        let (port, request) = (port.to_string(), data.to_string());
        let mut headers = [("streamtype", "error"), ("port", port.as_str()), ("requestid", request.as_str())];
        let error = self.begin(data, &headers);
        headers[0].1 = "data";
        [error, spdy_data(data, b"", true), self.begin(data + 2, &headers)].concat()
    }
}

pub(super) fn spdy_data(id: u32, bytes: &[u8], ends: bool) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&id.to_be_bytes()[..], &[u8::from(ends)], &length[1..], bytes].concat()
}

pub(super) fn control(kind: u16, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0x80, 3][..], &kind.to_be_bytes(), &[0], &length[1..], &body].concat()
}

pub(super) fn spdy_reset(id: u32) -> Vec<u8> {
    control(3, &[&id.to_be_bytes(), &5_u32.to_be_bytes()])
}

pub(super) const GOAWAY: [u8; 16] = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
pub(super) const PING: [u8; 12] = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Reply(u32),
    Data(u32, Vec<u8>),
    /// With it the stream ends.
    Last(u32, Vec<u8>),
    Reset(u32, u32),
    Ping(u32),
    /// Highest stream, status.
    Leaving(u32, u32),
    Window(u32, u32),
}

/// Reads the frames of a SPDY server, as strictly as Go's client.
#[derive(Default)]
pub(super) struct Ear {
    rest: Vec<u8>,
    inflater: Inflater,
}

impl Ear {
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.rest.extend_from_slice(bytes);
        let mut heard = Vec::new();
        while let Some((length, whole)) = frame_length(&self.rest) {
            if self.rest.len() < whole {
                break;
            }
            let frame: Vec<u8> = self.rest.drain(..whole).collect();
            let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            heard.push(if frame[0] & 0x80 == 0 {
                let (id, body) = (number(0), frame[8..].to_vec());
                assert!(frame[4] <= 1 && id != 0);
                if frame[4] == 1 { Heard::Last(id, body) } else { Heard::Data(id, body) }
            } else {
                assert_eq!((number(0) >> 16, frame[4]), (0x8003, 0), "{frame:?}");
                match (frame[3], length) {
                    (2, _) => {
                        assert!(self.inflater.read(&frame[12..]).unwrap().is_empty());
                        Heard::Reply(number(8))
                    }
                    (3, 8) => Heard::Reset(number(8), number(12)),
                    (6, 4) => Heard::Ping(number(8)),
                    (7, 8) => Heard::Leaving(number(8), number(12)),
                    (9, 8) => Heard::Window(number(8), number(12)),
                    other => panic!("type and length {other:?}"),
                }
            });
        }
        heard
    }

    pub(super) fn is_between(&self) -> bool {
        self.rest.is_empty()
    }
}

fn frame_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let [_, _, _, _, _, high, middle, low, ..] = bytes else { return None };
    let length = usize::try_from(u32::from_be_bytes([0, *high, *middle, *low])).unwrap();
    Some((length, length + 8))
}

/// A whole WebSocket frame of a client.
pub(super) fn ws_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
        middle @ 126..0x10000 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A message of bytes.
pub(super) fn ws_message(payload: &[u8]) -> Vec<u8> {
    ws_frame(0x82, payload)
}

/// What a WebSocket client is told, as far as it is whole: first bytes and payloads.
pub(super) fn ws_heard(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut heard = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        assert!(*length < 128, "a server does not mask");
        let size = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((long, rest)) = rest.split_at_checked(size) else { break };
        let long = long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let length = if size == 0 { usize::from(*length) } else { long };
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        heard.push((*first, payload.to_vec()));
        bytes = rest;
    }
    heard
}

/// A client at the other end of a connection.
pub(super) struct Peer {
    pub(super) io: DuplexStream,
    pub(super) client: Client,
    ear: Ear,
    heard: std::collections::VecDeque<Heard>,
}

/// Longer than whatever clients are given 30 s for.
const DEADLINE: Duration = Duration::from_secs(45);

impl Peer {
    /// The client, and the connection to serve.
    pub(super) fn new() -> (Self, DuplexStream) {
        let (io, ours) = duplex(64 * 1024);
        (Self { io, client: Client::default(), ear: Ear::default(), heard: [].into() }, ours)
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    /// Begins streams, one after the other, as Go's client: each when the one before is answered.
    pub(super) async fn begin(&mut self, kinds: &[&str]) {
        for (id, kind) in (1..).step_by(2).zip(kinds) {
            let frame = self.client.stream(id, kind);
            self.say(&frame).await;
            assert_eq!(self.next().await, Heard::Reply(id));
        }
    }

    pub(super) async fn next(&mut self) -> Heard {
        self.hear().await.expect("the connection has ended")
    }

    /// The next thing that the client is told; `None` at the end.
    pub(super) async fn hear(&mut self) -> Option<Heard> {
        while self.heard.is_empty() {
            let mut buffer = vec![0; 16 * 1024];
            let read = timeout(DEADLINE, self.io.read(&mut buffer)).await;
            let count = read.expect("something is said").unwrap();
            if count == 0 {
                assert!(self.ear.is_between());
                return None;
            }
            self.heard.extend(self.ear.hear(&buffer[..count]));
        }
        self.heard.pop_front()
    }

    /// What is said in those streams until they have ended.
    pub(super) async fn until_ended(&mut self, ids: &[u32]) -> std::collections::BTreeMap<u32, Vec<u8>> {
        let mut said: std::collections::BTreeMap<u32, Vec<u8>> =
            ids.iter().map(|id| (*id, Vec::new())).collect();
        let mut open = ids.len();
        while open > 0 {
            match self.next().await {
                Heard::Data(id, bytes) => said.get_mut(&id).unwrap().extend(bytes),
                Heard::Last(id, bytes) => {
                    said.get_mut(&id).unwrap().extend(bytes);
                    open -= 1;
                }
                Heard::Ping(_) | Heard::Window(..) => {}
                other => panic!("{other:?}"),
            }
        }
        said
    }

    /// Everything that is said until leave is taken, stream by stream, and whether each was ended.
    pub(super) async fn until_leave(&mut self) -> std::collections::BTreeMap<u32, (Vec<u8>, bool)> {
        let mut streams = std::collections::BTreeMap::new();
        loop {
            match self.next().await {
                Heard::Data(id, bytes) => {
                    let (said, ended): &mut (Vec<u8>, bool) = streams.entry(id).or_default();
                    assert!(!*ended);
                    said.extend(bytes);
                }
                Heard::Last(id, bytes) => {
                    let (said, ended) = streams.entry(id).or_default();
                    said.extend(bytes);
                    *ended = true;
                }
                Heard::Leaving(_, 0) => return streams,
                Heard::Ping(_) | Heard::Window(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A container whose programs are those below.
#[derive(Debug)]
pub(super) struct Container {
    /// What the last session came to.
    pub(super) ended: watch::Sender<Option<&'static str>>,
}

impl Default for Container {
    fn default() -> Self {
        Self { ended: watch::Sender::new(None) }
    }
}

impl Container {
    async fn program(&self, words: &[&str], session: Session) -> Result<u8, BackendError> {
        let Session { stdin, stdout, stderr, terminal, gone } = session;
        let mut stdout = stdout.expect("its output is asked for");
        match words {
            ["cat"] => {
                let copied = tokio::io::copy(&mut stdin.expect("it has input"), &mut stdout).await;
                self.ended.send_replace(Some(if copied.is_ok() { "copied" } else { "broken" }));
                Ok(0)
            }
            ["exit", code] => Ok(code.parse().unwrap()),
            ["write", count] => {
                stdout.write_all(&vec![b'x'; count.parse().unwrap()]).await.unwrap();
                if let Some(mut stderr) = stderr {
                    stderr.write_all(b"done").await.unwrap();
                }
                Ok(1)
            }
            ["size"] => {
                let mut terminal = terminal.expect("it has a terminal");
                let size = terminal.changed().await.expect("its client tells its size");
                stdout.write_all(format!("{}x{}", size.columns, size.rows).as_bytes()).await.unwrap();
                Ok(0)
            }
            ["deaf"] => {
                drop(stdin);
                gone.cancelled().await;
                Ok(0)
            }
            ["sleep"] => {
                gone.cancelled().await;
                self.ended.send_replace(Some("hung up"));
                Ok(0)
            }
            ["undead"] => {
                let _left = Left(self.ended.clone());
                std::future::pending().await
            }
            _ => Err(BackendError::Refused("no such program".to_owned())),
        }
    }
}

struct Left(watch::Sender<Option<&'static str>>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.send_replace(Some("left"));
    }
}

#[async_trait]
impl Backend for Container {
    async fn exec(&self, command: &[String], session: Session) -> Result<u8, BackendError> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        self.program(&words, session).await
    }

    async fn attach(&self, session: Session) -> Result<u8, BackendError> {
        self.program(&["cat"], session).await
    }

    /// Port 7 says what it hears, 13 says something and ends, 9 hears everything and says nothing, 1000 breaks off;
    /// nothing listens elsewhere.
    async fn forward(&self, port: NonZeroU16) -> Result<ByteStream, BackendError> {
        let (ours, mut theirs) = duplex(1024);
        let serve = async move {
            match port.get() {
                7 => {
                    let (mut from, mut to) = tokio::io::split(theirs);
                    tokio::io::copy(&mut from, &mut to).await.unwrap();
                    to.shutdown().await.unwrap();
                }
                9 => drop(tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await),
                _ => theirs.write_all(b"noon").await.unwrap(),
            }
        };
        match port.get() {
            7 | 9 | 13 => drop(tokio::spawn(serve)),
            1000 => return Ok(Box::new(tokio::io::join(Breaks, tokio::io::sink()))),
            _ => return Err(BackendError::Refused("connection refused".to_owned())),
        }
        Ok(Box::new(ours))
    }
}

struct Breaks;

impl tokio::io::AsyncRead for Breaks {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
    }
}
