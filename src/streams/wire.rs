//! What is spoken on an upgraded connection, as one thing: streams with numbers that begin, carry bytes and end.

use super::spdy::frame::Reset;
use super::spdy::headers::Headers;
use super::spdy::{Spdy, SpdyError};
use super::ws::channels::Channels;
use super::ws::{Close, Part, WebSocket, WsError};

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It begins a stream.
    Opened { id: u32, headers: Headers },
    /// Bytes in a stream.
    Data { id: u32, bytes: &'a [u8] },
    /// It says no more in that stream.
    Ended { id: u32 },
    /// It wants no more of that stream, either way.
    Reset { id: u32 },
    /// Every stream begins with this window.
    InitialWindow(u32),
    /// So many more bytes may be sent in that stream; stream 0 is the connection.
    Window { id: u32, delta: u32 },
    /// It begins no stream any more.
    Leaving,
}

/// Why a client is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("{0}")]
    Spdy(#[from] SpdyError),
    #[error("{0}")]
    WebSocket(#[from] WsError),
    #[error("the client opens the window of its connection beyond {} bytes", super::spdy::WINDOW_MAX)]
    Window,
}

/// One of the three ways to carry streams.
#[derive(Debug)]
pub enum Wire {
    Spdy(Spdy),
    /// A fixed number of channels, each a stream.
    Channels(WebSocket, Channels),
    /// The bytes of a SPDY connection in WebSocket messages, wherever these begin and end.
    Tunnelled(WebSocket, Spdy),
}

impl Wire {
    /// Tells what `input` says, which is unmasked in place, and appends to `out` what answers it.
    ///
    /// # Errors
    /// When the client is not understood; nothing may follow then but [`Wire::leave`].
    pub fn receive(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), WireError> {
        match self {
            Self::Spdy(spdy) => Ok(spdy.receive(input, out, on)?),
            Self::Channels(ws, channels) => ws.receive(input, out, &mut |part| match part {
                Part::Piece(piece) => Ok(channels.receive(piece, on)?),
                Part::Leaving => {
                    on(Event::Leaving);
                    Ok::<_, WireError>(())
                }
            }),
            Self::Tunnelled(ws, spdy) => {
                let mut answers = Vec::new();
                let told = ws.receive(input, out, &mut |part| match part {
                    Part::Piece(piece) => Ok(spdy.receive(piece.bytes, &mut answers, on)?),
                    Part::Leaving => {
                        on(Event::Leaving);
                        Ok::<_, WireError>(())
                    }
                });
                if !answers.is_empty() {
                    ws.binary(&[&answers], out);
                }
                told
            }
        }
    }

    /// Tells the client that its stream is served.
    pub fn accept(&mut self, id: u32, out: &mut Vec<u8>) {
        self.spdy(out, |spdy, out| spdy.accept(id, out));
    }

    /// Sends in a stream; and says, where that can be said, that nothing follows.
    pub fn data(&mut self, id: u32, bytes: &[u8], ends: bool, out: &mut Vec<u8>) {
        match self {
            Self::Channels(ws, channels) if !ends || !bytes.is_empty() => channels.send(ws, id, bytes, out),
            Self::Channels(..) => {}
            Self::Spdy(_) | Self::Tunnelled(..) => {
                self.spdy(out, |spdy, out| spdy.data(id, bytes, ends, out));
            }
        }
    }

    /// Ends both sides of a stream, where that can be said.
    pub fn reset(&mut self, id: u32, why: Reset, out: &mut Vec<u8>) {
        self.spdy(out, |spdy, out| spdy.reset(id, why, out));
    }

    /// Tells that `delta` bytes of a stream were taken, or of the connection as a whole (0).
    pub fn window(&mut self, id: u32, delta: u32, out: &mut Vec<u8>) {
        self.spdy(out, |spdy, out| spdy.window(id, delta, out));
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Spdy(spdy) => spdy.ping(out),
            Self::Channels(ws, _) | Self::Tunnelled(ws, _) => ws.ping(out),
        }
    }

    /// The last words; nothing may follow.
    pub fn leave(&mut self, close: Close, out: &mut Vec<u8>) {
        self.spdy(out, |spdy, out| spdy.leave(close == Close::Broken, out));
        match self {
            Self::Spdy(_) => {}
            Self::Channels(ws, _) | Self::Tunnelled(ws, _) => ws.close(close, out),
        }
    }

    /// Whether the client has said that nothing of it follows, and may be hung up on.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            // Its streams may go on after GOAWAY; what ends it is the end of the connection.
            Self::Spdy(_) => false,
            Self::Channels(ws, _) | Self::Tunnelled(ws, _) => ws.is_closed(),
        }
    }

    fn spdy(&mut self, out: &mut Vec<u8>, say: impl FnOnce(&mut Spdy, &mut Vec<u8>)) {
        match self {
            Self::Spdy(spdy) => say(spdy, out),
            Self::Tunnelled(ws, spdy) => {
                let mut frame = Vec::new();
                say(spdy, &mut frame);
                ws.binary(&[&frame], out);
            }
            Self::Channels(..) => {}
        }
    }
}
