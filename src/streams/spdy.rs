//! The server's side of one SPDY/3.1 connection: bytes in, events and bytes out.
//!
//! Only what kubectl and the API server speak is spoken: streams are the client's, and answered at once.
//! No kept library speaks it (`docs/decisions/009-streams-of-our-own.md`).

pub mod frame;
pub mod headers;

use super::wire::Event;
use frame::{Decoder, Frame, FrameError, Reset};
use headers::Deflater;

/// What a stream may be sent at first, and a connection as a whole (draft 3.1, section 2.6.8), in bytes.
pub const WINDOW: u32 = 64 * 1024;
/// Highest window.
pub const WINDOW_MAX: u32 = 0x7fff_ffff;

/// Why a client is not understood; nothing it says later can be either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("stream {0} begins, expected an odd number above {1}")]
    Stream(u32, u32),
}

/// One connection.
#[derive(Debug, Default)]
pub struct Spdy {
    decoder: Decoder,
    deflater: Deflater,
    /// Highest stream that the client has begun.
    last: u32,
    pings: u32,
}

impl Spdy {
    /// Tells what `input` says, and appends to `out` what answers it.
    ///
    /// # Errors
    /// When the client is not understood.
    pub fn receive(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), SpdyError> {
        while let Some(frame) = self.decoder.next(&mut input)? {
            match frame {
                Frame::Begin { id, headers, ends } => {
                    if id % 2 == 0 || id <= self.last {
                        return Err(SpdyError::Stream(id, self.last));
                    }
                    self.last = id;
                    on(Event::Opened { id, headers });
                    if ends {
                        on(Event::Ended { id });
                    }
                }
                Frame::Data { id, bytes, ends } => {
                    if !bytes.is_empty() {
                        on(Event::Data { id, bytes });
                    }
                    if ends {
                        on(Event::Ended { id });
                    }
                }
                Frame::Reset { id } => on(Event::Reset { id }),
                // Clients number theirs oddly, and an answer is the same frame; an even one answers ours.
                Frame::Ping(id) if id % 2 == 1 => frame::ping(id, out),
                Frame::Ping(_) => {}
                Frame::Leaving => on(Event::Leaving),
                Frame::InitialWindow(size) => on(Event::InitialWindow(size)),
                Frame::Window { id, delta } => on(Event::Window { id, delta }),
            }
        }
        Ok(())
    }

    /// Tells the client that its stream is served.
    pub fn accept(&mut self, id: u32, out: &mut Vec<u8>) {
        frame::reply(id, &mut self.deflater, out);
    }

    /// Asks for an answer; what is not answered is at least not acknowledged by a peer that has gone.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        // Even, and never 0.
        self.pings = self.pings % 0x3fff_ffff + 1;
        frame::ping(self.pings * 2, out);
    }

    /// The last words.
    pub fn leave(&self, broken: bool, out: &mut Vec<u8>) {
        frame::leaving(self.last, broken, out);
    }

    /// Ends our side of a stream, or sends in it.
    pub fn data(&self, id: u32, bytes: &[u8], ends: bool, out: &mut Vec<u8>) {
        frame::data(id, bytes, ends, out);
    }

    /// Ends both sides of a stream.
    pub fn reset(&self, id: u32, why: Reset, out: &mut Vec<u8>) {
        frame::reset(id, why, out);
    }

    /// Tells that `delta` bytes were taken.
    pub fn window(&self, id: u32, delta: u32, out: &mut Vec<u8>) {
        frame::window(id, delta, out);
    }
}

#[cfg(test)]
mod tests;
