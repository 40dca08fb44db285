//! A SPDY client by hand: the first frames are those of Go's library, byte by byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// SYN_STREAM of `error` (1), `stdin` (3), `stdout` (5) and `stderr` (7), as spdystream 0.5.1 writes them: one compressed
/// stream with a preset dictionary.
const STREAMS: [&str; 4] = [
    "800300010000002900000001000000000000 78f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff",
    "800300010000001700000003000000000000 c22e555c92929907000000ffff",
    "800300010000001900000005000000000000 c22ac5565c92925f5a02000000ffff",
    "800300010000001500000007000000000000 c229975a5404000000ffff",
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// Headers as one stored block and a sync flush: what any compressed stream may go on with.
fn stored(headers: &[(&str, &str)]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
    let mut plain = number(headers.len()).to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        plain.extend(number(text.len()));
        plain.extend(text.as_bytes());
    }
    let length = u16::try_from(plain.len()).unwrap();
    [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), &plain, &[0, 0, 0, 0xff, 0xff]].concat()
}

fn begin(id: u32, block: &[u8]) -> Vec<u8> {
    let length = u32::try_from(block.len() + 10).unwrap().to_be_bytes();
    [&[0x80, 3, 0, 1, 0][..], &length[1..], &id.to_be_bytes(), &[0; 6], block].concat()
}

fn data(id: u32, bytes: &[u8], ends: bool) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&id.to_be_bytes()[..], &[u8::from(ends)], &length[1..], bytes].concat()
}

pub(super) fn request(path: &str, version: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {version}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Everything that was said, until leave was taken.
pub(super) struct Ended {
    pub(super) streams: BTreeMap<u32, Vec<u8>>,
}

impl Ended {
    pub(super) fn text(&self, id: u32) -> &str {
        std::str::from_utf8(&self.streams[&id]).unwrap()
    }
}

pub(super) struct Client {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    rest: Vec<u8>,
    streams: BTreeMap<u32, Vec<u8>>,
    ended: Vec<u32>,
    replies: Vec<u32>,
    has_left: bool,
    next: u32,
}

impl Client {
    pub(super) async fn connect(port: u16, path: &str, version: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // What it does not read is not to lie in the kernel.
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        let stream = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        write.write_all(request(path, version).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(read.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains(&format!("x-stream-protocol-version: {version}\r\n")), "{head}");
        Self {
            read,
            write,
            rest: Vec::new(),
            streams: BTreeMap::new(),
            ended: Vec::new(),
            replies: Vec::new(),
            has_left: false,
            next: 1,
        }
    }

    /// Opens `error`, `stdin`, `stdout` and `stderr`, each when the one before was answered.
    pub(super) async fn open_all(&mut self) {
        for (id, frame) in (1..).step_by(2).zip(STREAMS) {
            self.open(id, &hex(frame)).await;
        }
    }

    /// Opens `error`, `stdin`, `stdout` and `resize`.
    pub(super) async fn open_terminal(&mut self) {
        for (id, frame) in (1..6).step_by(2).zip(STREAMS) {
            self.open(id, &hex(frame)).await;
        }
        self.open(7, &begin(7, &stored(&[("streamtype", "resize")]))).await;
    }

    /// Opens the two streams of a connection to a port; the one of its bytes.
    pub(super) async fn open_pair(&mut self, port: u16) -> u32 {
        let id = self.next;
        self.next += 4;
        let (port, request) = (port.to_string(), id.to_string());
        for (id, kind) in [(id, "error"), (id + 2, "data")] {
            // A stream of compressed blocks begins with two bytes, here without a dictionary.
            let head: &[u8] = if id == 1 { &[0x78, 0x01] } else { &[] };
            let block = stored(&[("requestid", &request), ("streamtype", kind), ("port", &port)]);
            self.open(id, &begin(id, &[head, &block].concat())).await;
        }
        self.end(id).await;
        id + 2
    }

    async fn open(&mut self, id: u32, frame: &[u8]) {
        self.write.write_all(frame).await.unwrap();
        while !self.replies.contains(&id) {
            self.read_some(usize::MAX).await;
        }
        self.streams.entry(id).or_default();
    }

    pub(super) async fn say(&mut self, id: u32, bytes: &[u8]) {
        for part in bytes.chunks(32 * 1024) {
            self.write.write_all(&data(id, part, false)).await.unwrap();
        }
    }

    pub(super) async fn end(&mut self, id: u32) {
        self.write.write_all(&data(id, b"", true)).await.unwrap();
    }

    /// Reads at most so much; how many bytes of data came.
    pub(super) async fn read_some(&mut self, most: usize) -> usize {
        let mut buffer = vec![0; most.min(64 * 1024)];
        let count = self.read.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the connection has ended");
        self.rest.extend_from_slice(&buffer[..count]);
        self.parse()
    }

    fn parse(&mut self) -> usize {
        let (mut came, mut at) = (0, 0);
        while let [first, _, _, kind, flags, high, middle, low, rest @ ..] = &self.rest[at..] {
            let length = usize::try_from(u32::from_be_bytes([0, *high, *middle, *low])).unwrap();
            let Some(body) = rest.get(..length) else { break };
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
            if first & 0x80 == 0 {
                let id = number(&self.rest[at..]);
                assert!(!self.ended.contains(&id), "stream {id} goes on after its end");
                self.streams.entry(id).or_default().extend_from_slice(body);
                came += length;
                if *flags == 1 {
                    self.ended.push(id);
                }
            } else {
                match kind {
                    2 => self.replies.push(number(body)),
                    7 => self.has_left = true,
                    // Windows, which Go's library passes over.
                    9 => {}
                    other => panic!("a frame of type {other}: {body:?}"),
                }
            }
            at += 8 + length;
        }
        self.rest.drain(..at);
        came
    }

    /// Reads until that stream holds this.
    pub(super) async fn until(&mut self, id: u32, text: &str) -> String {
        loop {
            let said = String::from_utf8_lossy(&self.streams[&id]).into_owned();
            if said.contains(text) {
                return said;
            }
            self.read_some(usize::MAX).await;
        }
    }

    /// Reads that stream to its end.
    pub(super) async fn read_all(&mut self, id: u32) -> Vec<u8> {
        while !self.ended.contains(&id) {
            self.read_some(usize::MAX).await;
        }
        self.streams[&id].clone()
    }

    /// Reads until leave is taken, by when every stream has ended; then ends the connection.
    pub(super) async fn until_leave(mut self) -> Ended {
        while !self.has_left {
            self.read_some(usize::MAX).await;
        }
        let open: Vec<_> = self.streams.keys().filter(|id| !self.ended.contains(id)).collect();
        assert!(open.is_empty(), "not ended: {open:?}");
        Ended { streams: self.streams }
    }

    /// [`Client::until_leave`], while all of `input` is said and ended.
    pub(super) async fn feed(mut self, id: u32, input: &[u8]) -> Ended {
        let mut frames: Vec<u8> = input.chunks(32 * 1024).flat_map(|part| data(id, part, false)).collect();
        frames.extend(data(id, b"", true));
        let mut sent = 0;
        while !self.has_left {
            let mut buffer = vec![0; 64 * 1024];
            tokio::select! {
                written = self.write.write(&frames[sent..]), if sent < frames.len() => sent += written.unwrap(),
                read = self.read.read(&mut buffer) => {
                    let count = read.unwrap();
                    assert!(count > 0, "the connection has ended");
                    self.rest.extend_from_slice(&buffer[..count]);
                    self.parse();
                }
            }
        }
        self.until_leave().await
    }
}
