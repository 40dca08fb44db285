//! The server's side of one WebSocket (RFC 6455): bytes in, pieces of messages and bytes out.
//!
//! Headers of frames are tungstenite's to read and write. Its messages are not used: a client may send as many bytes in
//! one as it likes, and they are passed on as they come.

pub mod channels;

use std::io::Cursor;

use tokio_tungstenite::tungstenite::Error as HeaderError;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Bytes of a frame's header, at most.
const HEAD_MAX: usize = 14;
/// Of a ping's, a pong's and a close frame's payload (RFC 6455, section 5.5).
const CONTROL_MAX: u64 = 125;

/// Why a client is not understood; nothing it says later can be either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    #[error("a WebSocket frame: {0}")]
    Header(String),
    #[error("a WebSocket frame of a client is not masked")]
    Unmasked,
    #[error("a WebSocket frame uses an extension, and none was agreed")]
    Extension,
    #[error("a WebSocket control frame is too long, or in parts")]
    Control,
    #[error("a WebSocket message begins before the one before has ended, or ends without a beginning")]
    Order,
    #[error("a WebSocket message is not base64")]
    Base64,
    #[error("the signal that closes a channel is not two bytes long, or of no channel")]
    CloseSignal,
}

/// How we take leave (RFC 6455, section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// 1000: all was said. Go clients report anything else as a failure.
    Done,
    /// 1001: this process ends.
    Away,
    /// 1002: the client is not understood.
    Broken,
}

impl Close {
    fn code(self) -> u16 {
        match self {
            Self::Done => 1000,
            Self::Away => 1001,
            Self::Broken => 1002,
        }
    }
}

/// A part of a message, as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// With it the message begins.
    pub first: bool,
    pub bytes: &'a [u8],
    /// With it the message ends.
    pub last: bool,
}

/// What a client said; pings are answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Piece(Piece<'a>),
    /// It closes: nothing of it follows.
    Leaving,
}

/// One connection.
#[derive(Debug, Default)]
pub struct WebSocket {
    /// Header of the frame under way, until it is whole.
    head: Vec<u8>,
    frame: Option<Under>,
    /// Payload of a control frame under way.
    control: Vec<u8>,
    /// A message of several frames is under way.
    open: bool,
    /// The client has closed.
    left: bool,
    /// We have.
    leaving: bool,
}

/// The frame under way.
#[derive(Clone, Copy, Debug)]
struct Under {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    /// Of the payload's next byte in the mask.
    at: usize,
    left: u64,
    /// Nothing of its payload was passed on yet.
    fresh: bool,
}

impl WebSocket {
    /// Tells what `input` says, which is unmasked in place, and appends to `out` what answers it.
    ///
    /// # Errors
    /// When the client is not understood here, or where `on` reads on.
    pub fn receive<E: From<WsError>>(
        &mut self,
        mut input: &mut [u8],
        out: &mut Vec<u8>,
        on: &mut dyn FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !input.is_empty() && !self.left {
            if self.frame.is_none() {
                // Byte by byte, since nothing before its end tells how long a header is.
                let (byte, rest) = std::mem::take(&mut input).split_at_mut(1);
                input = rest;
                self.head.extend_from_slice(byte);
                self.frame = self.begin()?;
                if self.frame.is_none_or(|frame| frame.left > 0) {
                    continue;
                }
            }
            let (part, rest) = self.unmask(std::mem::take(&mut input));
            input = rest;
            self.take(part, out, on)?;
        }
        Ok(())
    }

    /// The frame that begins, when its header is whole.
    fn begin(&mut self) -> Result<Option<Under>, WsError> {
        let parsed = FrameHeader::parse(&mut Cursor::new(&self.head));
        let Some((header, left)) = parsed.map_err(|error: HeaderError| WsError::Header(error.to_string()))?
        else {
            return if self.head.len() < HEAD_MAX { Ok(None) } else { Err(WsError::Control) };
        };
        self.head.clear();
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(WsError::Extension);
        }
        match header.opcode {
            OpCode::Control(_) if left > CONTROL_MAX || !header.is_final => return Err(WsError::Control),
            OpCode::Control(_) => {}
            OpCode::Data(kind) => {
                if self.open != (kind == Data::Continue) {
                    return Err(WsError::Order);
                }
                self.open = !header.is_final;
            }
        }
        let mask = header.mask.ok_or(WsError::Unmasked)?;
        Ok(Some(Under { opcode: header.opcode, is_final: header.is_final, mask, at: 0, left, fresh: true }))
    }

    /// What of `input` belongs to the frame under way, unmasked, and the rest.
    fn unmask<'a>(&mut self, input: &'a mut [u8]) -> (&'a [u8], &'a mut [u8]) {
        let Some(frame) = &mut self.frame else { return (&[], input) };
        let length = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len());
        let (part, rest) = input.split_at_mut(length);
        for byte in part.iter_mut() {
            *byte ^= frame.mask[frame.at];
            frame.at = (frame.at + 1) % 4;
        }
        frame.left -= length as u64;
        (part, rest)
    }

    /// Goes on with the frame under way, by a part of its payload.
    fn take<E: From<WsError>>(
        &mut self,
        part: &[u8],
        out: &mut Vec<u8>,
        on: &mut dyn FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(frame) = self.frame else { return Ok(()) };
        let whole = frame.left == 0;
        self.frame = (!whole).then_some(Under { fresh: false, ..frame });
        match frame.opcode {
            OpCode::Data(kind) => on(Part::Piece(Piece {
                first: frame.fresh && kind != Data::Continue,
                bytes: part,
                last: whole && frame.is_final,
            })),
            OpCode::Control(kind) => {
                self.control.extend_from_slice(part);
                if !whole {
                    return Ok(());
                }
                let payload = std::mem::take(&mut self.control);
                match kind {
                    Control::Ping => self.frame(OpCode::Control(Control::Pong), &[&payload], out),
                    Control::Close => {
                        self.left = true;
                        self.answer_close(&payload, out);
                        on(Part::Leaving)?;
                    }
                    Control::Pong | Control::Reserved(_) => {}
                }
                Ok(())
            }
        }
    }

    /// With the code of the client's own.
    fn answer_close(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let code = payload.first_chunk::<2>().map(<[u8; 2]>::as_slice).unwrap_or_default();
        self.frame(OpCode::Control(Control::Close), &[code], out);
        self.leaving = true;
    }

    /// Appends a message of bytes.
    pub fn binary(&self, parts: &[&[u8]], out: &mut Vec<u8>) {
        self.frame(OpCode::Data(Data::Binary), parts, out);
    }

    /// Appends a message of text; ASCII is all that is ever written.
    pub fn text(&self, parts: &[&[u8]], out: &mut Vec<u8>) {
        self.frame(OpCode::Data(Data::Text), parts, out);
    }

    /// Asks for an answer.
    pub fn ping(&self, out: &mut Vec<u8>) {
        self.frame(OpCode::Control(Control::Ping), &[], out);
    }

    /// The last words.
    pub fn close(&mut self, why: Close, out: &mut Vec<u8>) {
        self.frame(OpCode::Control(Control::Close), &[&why.code().to_be_bytes()], out);
        self.leaving = true;
    }

    /// Whether both sides have closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.left && self.leaving
    }

    /// Appends a whole frame, unless the last words were said.
    fn frame(&self, opcode: OpCode, parts: &[&[u8]], out: &mut Vec<u8>) {
        if self.leaving {
            return;
        }
        let length = parts.iter().map(|part| part.len() as u64).sum();
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        match header.format(length, out) {
            Ok(()) => parts.iter().for_each(|part| out.extend_from_slice(part)),
            Err(error) => tracing::error!(%error, "a WebSocket frame cannot be written"),
        }
    }
}

#[cfg(test)]
mod tests;
