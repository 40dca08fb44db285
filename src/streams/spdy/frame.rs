//! Frames of SPDY/3.1: bytes in whatever parts they come, one frame after the other.
//!
//! Data is passed on as it comes, so that a frame may be as long as the protocol allows (16 MiB); other frames are
//! collected, and have a bound.

use super::headers::{BLOCK_MAX, BlockError, Deflater, Headers, Inflater};

/// Bytes of a frame's header.
const HEAD: usize = 8;
/// What is collected of a frame, at most: a compressed block of headers, and what stands before it.
const BODY_MAX: usize = BLOCK_MAX + 16;
/// Highest window (draft 3.1, section 2.6.8).
const WINDOW_MAX: u32 = 0x7fff_ffff;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

const FIN: u8 = 1;
/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW: u32 = 7;

/// Why a stream is reset (draft 3.1, section 2.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// It was not begun.
    Refused,
    /// Nothing more is wanted of it.
    Cancel,
    /// Its window was made too large.
    FlowControl,
}

impl Reset {
    fn status(self) -> u32 {
        match self {
            Self::Refused => 3,
            Self::Cancel => 5,
            Self::FlowControl => 7,
        }
    }
}

/// A frame, or a part of one of data.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// SYN_STREAM: a stream begins; `ends` when the peer says nothing in it.
    Begin { id: u32, headers: Headers, ends: bool },
    /// DATA; `ends` with the last byte that the peer says in that stream.
    Data { id: u32, bytes: &'a [u8], ends: bool },
    /// RST_STREAM.
    Reset { id: u32 },
    /// PING.
    Ping(u32),
    /// GOAWAY.
    Leaving,
    /// SETTINGS: the window that each stream begins with.
    InitialWindow(u32),
    /// WINDOW_UPDATE; stream 0 is the connection.
    Window { id: u32, delta: u32 },
}

/// Why bytes are no frames; no more can be read then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("SPDY version {0}, expected 3")]
    Version(u16),
    #[error("a SPDY frame of type {kind} has {length} bytes")]
    Length { kind: u16, length: u32 },
    #[error("headers of a SPDY stream: {0}")]
    Headers(#[from] BlockError),
    #[error("a SPDY window of {0} bytes")]
    Window(u32),
}

/// Reads the frames of one direction.
#[derive(Debug, Default)]
pub struct Decoder {
    head: [u8; HEAD],
    /// How much of it has come.
    filled: usize,
    /// What is missing of the frame whose header has come.
    left: usize,
    body: Vec<u8>,
    inflater: Inflater,
}

#[derive(Clone, Copy)]
enum Head {
    Data {
        id: u32,
        ends: bool,
    },
    Control {
        kind: u16,
        flags: u8,
    },
    /// Of a type that is not known.
    Other,
}

impl Decoder {
    /// The next frame, taken from the front of `input`; `None` when all of `input` is taken.
    ///
    /// # Errors
    /// When there is none; nothing more can be read then.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        loop {
            let begins = self.filled < HEAD;
            if begins && !self.fill(input)? {
                return Ok(None);
            }
            let head = self.head();
            let (part, rest) = input.split_at(self.left.min(input.len()));
            *input = rest;
            self.left -= part.len();
            let whole = self.left == 0;
            if whole {
                self.filled = 0;
            }
            match head {
                Head::Data { id, ends } => {
                    let ends = ends && whole;
                    if !part.is_empty() || ends {
                        return Ok(Some(Frame::Data { id, bytes: part, ends }));
                    }
                }
                Head::Control { kind, flags } => {
                    self.body.extend_from_slice(part);
                    if whole {
                        let body = std::mem::take(&mut self.body);
                        if let Some(frame) = self.control(kind, flags, &body)? {
                            return Ok(Some(frame));
                        }
                    }
                }
                Head::Other => {}
            }
            if !whole {
                return Ok(None);
            }
        }
    }

    /// Reads the header of a frame; whether it is whole.
    fn fill(&mut self, input: &mut &[u8]) -> Result<bool, FrameError> {
        let (part, rest) = input.split_at((HEAD - self.filled).min(input.len()));
        *input = rest;
        self.head[self.filled..][..part.len()].copy_from_slice(part);
        self.filled += part.len();
        if self.filled < HEAD {
            return Ok(false);
        }
        let [first, second, ..] = self.head;
        let [_, _, _, _, _, high, middle, low] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.left = usize::try_from(length).unwrap_or(usize::MAX);
        let version = u16::from_be_bytes([first & 0x7f, second]);
        match self.head() {
            Head::Data { .. } => {}
            Head::Other | Head::Control { .. } if version != VERSION => {
                return Err(FrameError::Version(version));
            }
            Head::Control { kind, .. } if self.left > BODY_MAX => {
                return Err(FrameError::Length { kind, length });
            }
            Head::Control { .. } | Head::Other => {}
        }
        Ok(true)
    }

    fn head(&self) -> Head {
        let [first, second, third, fourth, flags, ..] = self.head;
        if first & 0x80 == 0 {
            let id = u32::from_be_bytes([first, second, third, fourth]);
            return Head::Data { id, ends: flags & FIN != 0 };
        }
        match u16::from_be_bytes([third, fourth]) {
            kind @ (SYN_STREAM | SYN_REPLY | RST_STREAM | SETTINGS | PING | GOAWAY | HEADERS
            | WINDOW_UPDATE) => Head::Control { kind, flags },
            _ => Head::Other,
        }
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> Result<Option<Frame<'static>>, FrameError> {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let wrong = FrameError::Length { kind, length };
        let number = |at: usize| {
            let bytes = body.get(at..).and_then(|rest| rest.first_chunk());
            bytes.copied().map(u32::from_be_bytes).ok_or(wrong)
        };
        let is_long = |length: usize| if body.len() == length { Ok(()) } else { Err(wrong) };
        Ok(match kind {
            SYN_STREAM => {
                let block = body.get(10..).ok_or(wrong)?;
                let headers = self.inflater.read(block)?;
                Some(Frame::Begin { id: number(0)? & WINDOW_MAX, headers, ends: flags & FIN != 0 })
            }
            // Nothing is asked of a client, and what it adds to its headers is not known here. But the blocks are part
            // of its stream.
            SYN_REPLY | HEADERS => {
                self.inflater.read(body.get(4..).ok_or(wrong)?)?;
                None
            }
            RST_STREAM => {
                is_long(8)?;
                Some(Frame::Reset { id: number(0)? & WINDOW_MAX })
            }
            SETTINGS => {
                let count = usize::try_from(number(0)?).unwrap_or(usize::MAX);
                is_long(count.saturating_mul(8).saturating_add(4))?;
                let mut window = None;
                for at in (4..body.len()).step_by(8) {
                    // The flags stand before the number of the setting.
                    if number(at)? & 0x00ff_ffff == INITIAL_WINDOW {
                        window = Some(number(at + 4)?);
                    }
                }
                if let Some(size) = window.filter(|size| *size > WINDOW_MAX) {
                    return Err(FrameError::Window(size));
                }
                window.map(Frame::InitialWindow)
            }
            PING => {
                is_long(4)?;
                Some(Frame::Ping(number(0)?))
            }
            GOAWAY => {
                is_long(8)?;
                Some(Frame::Leaving)
            }
            WINDOW_UPDATE => {
                is_long(8)?;
                Some(Frame::Window { id: number(0)? & WINDOW_MAX, delta: number(4)? & WINDOW_MAX })
            }
            _ => None,
        })
    }
}

/// Appends a SYN_REPLY without headers, which clients wait for before they go on.
pub fn reply(id: u32, deflater: &mut Deflater, out: &mut Vec<u8>) {
    let block = deflater.write_empty();
    control(SYN_REPLY, &[&id.to_be_bytes()[..], &block], out);
}

/// Appends a DATA frame; `bytes` are less than 16 MiB.
pub fn data(id: u32, bytes: &[u8], ends: bool, out: &mut Vec<u8>) {
    out.extend(id.to_be_bytes());
    out.extend(flags_and_length(if ends { FIN } else { 0 }, bytes.len()));
    out.extend_from_slice(bytes);
}

/// Appends a RST_STREAM.
pub fn reset(id: u32, why: Reset, out: &mut Vec<u8>) {
    control(RST_STREAM, &[&id.to_be_bytes(), &why.status().to_be_bytes()], out);
}

/// Appends a PING.
pub fn ping(id: u32, out: &mut Vec<u8>) {
    control(PING, &[&id.to_be_bytes()], out);
}

/// Appends a GOAWAY: no stream of the client beyond `last` is served. `broken` when it broke the protocol.
pub fn leaving(last: u32, broken: bool, out: &mut Vec<u8>) {
    control(GOAWAY, &[&last.to_be_bytes(), &u32::from(broken).to_be_bytes()], out);
}

/// Appends a WINDOW_UPDATE.
pub fn window(id: u32, delta: u32, out: &mut Vec<u8>) {
    control(WINDOW_UPDATE, &[&id.to_be_bytes(), &delta.to_be_bytes()], out);
}

fn control(kind: u16, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend((0x8000 | VERSION).to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(flags_and_length(0, parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    let [_, high, middle, low] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [flags, high, middle, low]
}
