//! Channels in the messages of a WebSocket: the first byte says which (`channel.k8s.io` and its kin).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Piece, WebSocket, WsError};
use crate::streams::wire::Event;

/// The first byte of the message that closes a channel (`v5.channel.k8s.io`).
const CLOSES: u8 = 255;

/// How messages carry bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A byte for the channel, and the bytes.
    Binary,
    /// A digit for the channel, and the bytes in base64.
    Base64,
}

/// Whether a client can close a single channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Its channels end with the connection.
    Never,
    /// It says so.
    BySignal,
}

/// The channels of one connection.
#[derive(Debug)]
pub struct Channels {
    encoding: Encoding,
    closing: Closing,
    count: u8,
    at: At,
    /// Of base64, what is no whole group yet.
    group: Vec<u8>,
    /// The message's base64 has come to its end.
    padded: bool,
}

/// Where in a message the client is.
#[derive(Clone, Copy, Debug)]
enum At {
    Start,
    In(u32),
    /// In a channel that there is not.
    Past,
    /// In a signal that closes a channel.
    Signal(Option<u8>),
}

impl Channels {
    #[must_use]
    pub fn new(count: u8, encoding: Encoding, closing: Closing) -> Self {
        Self { encoding, closing, count, at: At::Start, group: Vec::new(), padded: false }
    }

    /// Tells what a piece of a message says.
    ///
    /// # Errors
    /// When that is nothing that these channels know.
    pub fn receive(&mut self, piece: Piece<'_>, on: &mut dyn FnMut(Event<'_>)) -> Result<(), WsError> {
        let mut bytes = piece.bytes;
        if piece.first {
            (self.at, self.padded) = (At::Start, false);
            self.group.clear();
        }
        if let (At::Start, Some((first, rest))) = (self.at, bytes.split_first()) {
            (self.at, bytes) = (self.address(*first), rest);
        }
        match &mut self.at {
            At::Start | At::Past => {}
            At::In(id) => {
                let id = *id;
                match self.encoding {
                    Encoding::Binary if bytes.is_empty() => {}
                    Encoding::Binary => on(Event::Data { id, bytes }),
                    Encoding::Base64 => self.decode(id, bytes, piece.last, on)?,
                }
            }
            At::Signal(channel) => {
                for byte in bytes {
                    if channel.replace(*byte).is_some() {
                        return Err(WsError::CloseSignal);
                    }
                }
                if piece.last {
                    let known = channel.filter(|channel| *channel < self.count);
                    on(Event::Ended { id: known.ok_or(WsError::CloseSignal)?.into() });
                }
            }
        }
        Ok(())
    }

    fn address(&self, first: u8) -> At {
        let channel = match self.encoding {
            Encoding::Binary if first == CLOSES && self.closing == Closing::BySignal => {
                return At::Signal(None);
            }
            Encoding::Binary => first,
            Encoding::Base64 => first.wrapping_sub(b'0'),
        };
        if channel < self.count { At::In(channel.into()) } else { At::Past }
    }

    fn decode(
        &mut self,
        id: u32,
        bytes: &[u8],
        last: bool,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), WsError> {
        self.group.extend_from_slice(bytes);
        let whole = self.group.len() / 4 * 4;
        let groups = &self.group[..whole];
        if whole > 0 {
            if self.padded {
                return Err(WsError::Base64);
            }
            self.padded = groups.contains(&b'=');
            let plain = STANDARD.decode(groups).map_err(|_| WsError::Base64)?;
            on(Event::Data { id, bytes: &plain });
        }
        self.group.drain(..whole);
        if last && !self.group.is_empty() { Err(WsError::Base64) } else { Ok(()) }
    }

    /// Appends a message in that channel; an empty one, too.
    pub fn send(&self, ws: &WebSocket, id: u32, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(channel) = u8::try_from(id).ok().filter(|channel| *channel < self.count) else { return };
        match self.encoding {
            Encoding::Binary => ws.binary(&[&[channel], bytes], out),
            Encoding::Base64 => {
                ws.text(&[&[b'0'.wrapping_add(channel)], STANDARD.encode(bytes).as_bytes()], out);
            }
        }
    }
}
