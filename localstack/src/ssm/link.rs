//! A session's way into its machine: one TCP connection, or an smux session with many, and what waits for it.

use std::fmt;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::{BoxFuture, pending};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::handshake::Connection;
use super::smux::{self, Port};

/// Bytes for the machine that may wait before no more frames are read.
const MAX_PENDING: usize = 256 << 10;

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;
type Dialing = BoxFuture<'static, io::Result<(Reader, Writer)>>;

/// The link, connected or not.
pub(super) struct Link {
    port: Port,
    mode: Connection,
    dialing: Option<Dialing>,
    reader: Option<Reader>,
    writer: Option<Writer>,
    waiting: BytesMut,
    mux: JoinSet<io::Result<()>>,
    refusals: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

/// What happened on it.
#[derive(Debug)]
pub(super) enum Happened {
    /// So many bytes are in the buffer.
    Read(usize),
    Wrote,
    Connected,
    Refused(String),
    /// The TCP connection ended; nothing said at its end of file.
    Ended(String),
    StreamRefused,
    /// The smux session ended.
    MuxEnded(String),
}

/// Whether to read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Yes,
    No,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("port", &self.port).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(port: Port) -> Self {
        Self {
            port,
            mode: Connection::Raw,
            dialing: None,
            reader: None,
            writer: None,
            waiting: BytesMut::new(),
            mux: JoinSet::new(),
            refusals: mpsc::channel(64),
        }
    }

    /// Begins to connect; [`Link::happens`] tells how it went.
    pub(super) fn connect(&mut self, mode: Connection) {
        self.mode = mode;
        let port = self.port.clone();
        self.dialing = Some(match mode {
            Connection::Raw => Box::pin(async move {
                let (reader, writer) = port.dial().await?.into_split();
                Ok((Box::new(reader) as Reader, Box::new(writer) as Writer))
            }),
            Connection::Mux(keep_alive) => {
                let (ours, theirs) = tokio::io::duplex(64 << 10);
                self.mux.spawn(smux::serve(theirs, port, keep_alive, self.refusals.0.clone()));
                Box::pin(async move {
                    let (reader, writer) = tokio::io::split(ours);
                    Ok((Box::new(reader) as Reader, Box::new(writer) as Writer))
                })
            }
        });
    }

    /// Bytes for the machine; without a connection, made or being made, they are dropped.
    pub(super) fn write(&mut self, bytes: &Bytes) {
        if self.writer.is_some() || self.dialing.is_some() {
            self.waiting.extend_from_slice(bytes);
        }
    }

    /// Whether there is room for more bytes.
    pub(super) fn takes(&self) -> bool {
        self.waiting.len() < MAX_PENDING
    }

    /// Drops the connection.
    pub(super) fn drop_connection(&mut self) {
        self.dialing = None;
        self.reader = None;
        self.writer = None;
        self.waiting.clear();
        self.mux.abort_all();
    }

    /// The next thing to happen. Cancel safe.
    pub(super) async fn happens(&mut self, buffer: &mut [u8], reading: Reading) -> Happened {
        tokio::select! {
            read = read(&mut self.reader, buffer), if reading == Reading::Yes => match (read, self.mode) {
                (Ok(count @ 1..), _) => Happened::Read(count),
                (Ok(_), Connection::Raw) => self.ended(String::new()),
                (Err(error), Connection::Raw) => self.ended(error.to_string()),
                // Its task says why.
                (Ok(_) | Err(_), Connection::Mux(_)) => {
                    self.reader = None;
                    Happened::Wrote
                }
            },
            written = write(&mut self.writer, &self.waiting), if !self.waiting.is_empty() => {
                match written {
                    Ok(count) => self.waiting.advance(count),
                    // The reading side will say why.
                    Err(_) => {
                        self.writer = None;
                        self.waiting.clear();
                    }
                }
                Happened::Wrote
            }
            dialed = dialed(&mut self.dialing) => {
                self.dialing = None;
                match dialed {
                    Ok((reader, writer)) => {
                        (self.reader, self.writer) = (Some(reader), Some(writer));
                        Happened::Connected
                    }
                    Err(error) => {
                        let port = self.port.port;
                        Happened::Refused(format!("dial tcp 127.0.0.1:{port}: {error}"))
                    }
                }
            }
            Some(()) = self.refusals.1.recv() => Happened::StreamRefused,
            Some(ended) = self.mux.join_next() => {
                let why = ended.map_err(io::Error::other).flatten().err();
                Happened::MuxEnded(why.map_or_else(String::new, |error| error.to_string()))
            }
        }
    }

    fn ended(&mut self, why: String) -> Happened {
        self.drop_connection();
        Happened::Ended(why)
    }
}

// What is not there never comes; each is cancel safe.

async fn read(reader: &mut Option<Reader>, buffer: &mut [u8]) -> io::Result<usize> {
    match reader {
        Some(reader) => reader.read(buffer).await,
        None => pending().await,
    }
}

async fn write(writer: &mut Option<Writer>, bytes: &[u8]) -> io::Result<usize> {
    match writer {
        Some(writer) => writer.write(bytes).await,
        None => pending().await,
    }
}

async fn dialed(dialing: &mut Option<Dialing>) -> io::Result<(Reader, Writer)> {
    match dialing {
        Some(dialing) => dialing.await,
        None => pending().await,
    }
}
