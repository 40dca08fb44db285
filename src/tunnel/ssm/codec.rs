//! AgentMessage: the one frame format of the data channel, a header of 120 bytes and a payload.
//!
//! Layout and rules were read in session-manager-plugin (2024-10) and amazon-ssm-agent (2024-10): all integers are
//! big-endian, text is padded with spaces, and the two halves of a message id are swapped. Nothing here knows what
//! the messages mean.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::{Bytes, BytesMut};
use uuid::Uuid;

/// Milliseconds since 1970, from a clock that never goes back.
pub type Millis = u64;

/// Bytes before the payload.
pub const HEADER_LEN: usize = 120;
/// What the header says about itself: the bytes before its last field, the payload's length.
const HEADER_LENGTH_FIELD: u32 = 116;
const SCHEMA_VERSION: u32 = 1;

const TYPE_AT: usize = 4;
const TYPE_LEN: usize = 32;
const CREATED_AT: usize = 40;
const SEQUENCE_AT: usize = 48;
const FLAGS_AT: usize = 56;
const ID_AT: usize = 64;
const DIGEST_AT: usize = 80;
const PAYLOAD_TYPE_AT: usize = 112;
const PAYLOAD_LEN_AT: usize = 116;

/// Flags of the first message of a direction.
pub const FLAG_SYN: u64 = 1;
/// Flags of messages that stand alone, acknowledgements first of all.
pub const FLAG_SYN_FIN: u64 = 3;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Client to agent, in sequence.
    Input,
    /// Agent to client, in sequence.
    Output,
    Acknowledge,
    /// The service ends the session.
    ChannelClosed,
    StartPublication,
    PausePublication,
    /// Anything a client has no use for.
    Unknown,
}

impl MessageKind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input_stream_data",
            Self::Output => "output_stream_data",
            Self::Acknowledge => "acknowledge",
            Self::ChannelClosed => "channel_closed",
            Self::StartPublication => "start_publication",
            Self::PausePublication => "pause_publication",
            Self::Unknown => "unknown",
        }
    }

    fn from_wire(name: &[u8]) -> Self {
        [
            Self::Input,
            Self::Output,
            Self::Acknowledge,
            Self::ChannelClosed,
            Self::StartPublication,
            Self::PausePublication,
        ]
        .into_iter()
        .find(|kind| kind.as_str().as_bytes() == name)
        .unwrap_or(Self::Unknown)
    }
}

/// What the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// Bytes of the stream, and whatever has no payload kind.
    Output,
    HandshakeRequest,
    HandshakeResponse,
    HandshakeComplete,
    /// A [`Flag`] as a big-endian `u32`.
    Flag,
    Other(u32),
}

impl PayloadKind {
    fn code(self) -> u32 {
        match self {
            Self::Output => 1,
            Self::HandshakeRequest => 5,
            Self::HandshakeResponse => 6,
            Self::HandshakeComplete => 7,
            Self::Flag => 10,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Output,
            5 => Self::HandshakeRequest,
            6 => Self::HandshakeResponse,
            7 => Self::HandshakeComplete,
            10 => Self::Flag,
            other => Self::Other(other),
        }
    }
}

/// One-word messages of a port session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// The other side closed its TCP connection.
    DisconnectToPort,
    TerminateSession,
    /// Nothing listens on the port.
    ConnectToPortError,
}

impl Flag {
    /// The payload that says so.
    #[must_use]
    pub fn payload(self) -> [u8; 4] {
        let code: u32 = match self {
            Self::DisconnectToPort => 1,
            Self::TerminateSession => 2,
            Self::ConnectToPortError => 3,
        };
        code.to_be_bytes()
    }

    /// The flag in `payload`, if it is one we know.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        [Self::DisconnectToPort, Self::TerminateSession, Self::ConnectToPortError]
            .into_iter()
            .find(|flag| flag.payload() == payload)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: MessageKind,
    pub created: Millis,
    pub sequence: i64,
    pub flags: u64,
    pub id: Uuid,
    pub payload_kind: PayloadKind,
    pub payload: Bytes,
}

/// Why a frame is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("frame of `{0}` bytes, expected at least {HEADER_LEN}")]
    Short(usize),
    #[error("header length `{0}`, expected {HEADER_LENGTH_FIELD}")]
    HeaderLength(u32),
    #[error("message type is empty")]
    NoType,
    #[error("schema version `{0}`, expected {SCHEMA_VERSION}")]
    Schema(u32),
    #[error("creation date is 0")]
    NoDate,
    #[error("sequence number `{0}`, expected 0 or more")]
    Sequence(i64),
    #[error("payload length says `{said}`, the frame holds {found}")]
    PayloadLength { said: u32, found: usize },
    #[error("payload does not match its digest")]
    Digest,
}

impl Message {
    /// Reads one WebSocket message.
    ///
    /// # Errors
    /// [`Malformed`], never a panic. `start_publication` and `pause_publication` come from the service with a header
    /// that is filled in loosely, so only their type is read.
    pub fn decode(frame: &Bytes) -> Result<Self, Malformed> {
        let short = Malformed::Short(frame.len());
        let header = frame.first_chunk::<HEADER_LEN>().ok_or(short)?;
        let name = trim(&header[TYPE_AT..TYPE_AT + TYPE_LEN]);
        if name.is_empty() {
            return Err(Malformed::NoType);
        }
        let message = Self {
            kind: MessageKind::from_wire(name),
            created: u64_at(header, CREATED_AT),
            sequence: u64_at(header, SEQUENCE_AT).cast_signed(),
            flags: u64_at(header, FLAGS_AT),
            id: id_at(header),
            payload_kind: PayloadKind::from_code(u32_at(header, PAYLOAD_TYPE_AT)),
            payload: frame.slice(HEADER_LEN..),
        };
        match message.kind {
            MessageKind::StartPublication | MessageKind::PausePublication => Ok(message),
            MessageKind::Input
            | MessageKind::Output
            | MessageKind::Acknowledge
            | MessageKind::ChannelClosed
            | MessageKind::Unknown => {
                message.validate(header)?;
                Ok(message)
            }
        }
    }

    fn validate(&self, header: &[u8; HEADER_LEN]) -> Result<(), Malformed> {
        let header_length = u32_at(header, 0);
        if header_length != HEADER_LENGTH_FIELD {
            return Err(Malformed::HeaderLength(header_length));
        }
        let schema = u32_at(header, TYPE_AT + TYPE_LEN);
        if schema != SCHEMA_VERSION {
            return Err(Malformed::Schema(schema));
        }
        if self.created == 0 {
            return Err(Malformed::NoDate);
        }
        if self.sequence < 0 {
            return Err(Malformed::Sequence(self.sequence));
        }
        let said = u32_at(header, PAYLOAD_LEN_AT);
        if usize::try_from(said) != Ok(self.payload.len()) {
            return Err(Malformed::PayloadLength { said, found: self.payload.len() });
        }
        let whole = self.payload.is_empty()
            || digest(&SHA256, &self.payload).as_ref() == &header[DIGEST_AT..PAYLOAD_TYPE_AT];
        if whole { Ok(()) } else { Err(Malformed::Digest) }
    }

    /// The frame of this message.
    ///
    /// # Panics
    /// If the payload is longer than `u32::MAX`; ours are cut to a few KiB.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let payload_len = u32::try_from(self.payload.len()).expect("payloads are cut to a few KiB");
        let mut frame = BytesMut::with_capacity(HEADER_LEN + self.payload.len());
        frame.resize(HEADER_LEN, 0);
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &HEADER_LENGTH_FIELD.to_be_bytes());
        put(TYPE_AT, &[b' '; TYPE_LEN]);
        put(TYPE_AT, self.kind.as_str().as_bytes());
        put(TYPE_AT + TYPE_LEN, &SCHEMA_VERSION.to_be_bytes());
        put(CREATED_AT, &self.created.to_be_bytes());
        put(SEQUENCE_AT, &self.sequence.to_be_bytes());
        put(FLAGS_AT, &self.flags.to_be_bytes());
        put(ID_AT, &self.id.as_bytes()[8..]);
        put(ID_AT + 8, &self.id.as_bytes()[..8]);
        put(DIGEST_AT, digest(&SHA256, &self.payload).as_ref());
        put(PAYLOAD_TYPE_AT, &self.payload_kind.code().to_be_bytes());
        put(PAYLOAD_LEN_AT, &payload_len.to_be_bytes());
        frame.extend_from_slice(&self.payload);
        frame.freeze()
    }
}

fn trim(padded: &[u8]) -> &[u8] {
    let end = padded.iter().rposition(|byte| !matches!(byte, b' ' | 0)).map_or(0, |last| last + 1);
    padded[..end].trim_ascii_start()
}

fn u32_at(header: &[u8; HEADER_LEN], at: usize) -> u32 {
    header[at..at + 4].iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}

fn u64_at(header: &[u8; HEADER_LEN], at: usize) -> u64 {
    header[at..at + 8].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

fn id_at(header: &[u8; HEADER_LEN]) -> Uuid {
    Uuid::from_u64_pair(u64_at(header, ID_AT + 8), u64_at(header, ID_AT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(payload: &'static [u8]) -> Message {
        Message {
            kind: MessageKind::Output,
            created: 1_700_000_000_123,
            sequence: 7,
            flags: FLAG_SYN,
            id: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            payload_kind: PayloadKind::Output,
            payload: Bytes::from_static(payload),
        }
    }

    fn broken(change: impl Fn(&mut Vec<u8>)) -> Result<Message, Malformed> {
        let mut frame = sample(b"abc").encode().to_vec();
        change(&mut frame);
        Message::decode(&Bytes::from(frame))
    }

    #[test]
    fn every_field_lies_where_the_agent_reads_it() {
        let mut expected = Vec::new();
        expected.extend([0, 0, 0, 116]);
        expected.extend(*b"output_stream_data              ");
        expected.extend([0, 0, 0, 1]);
        expected.extend(1_700_000_000_123_u64.to_be_bytes());
        expected.extend([0, 0, 0, 0, 0, 0, 0, 7]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        // The second half of the id comes first.
        expected.extend([0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        expected.extend([0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
        // SHA-256 of "abc", from FIPS 180-2.
        expected.extend([
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
            0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
        ]);
        expected.extend([0, 0, 0, 1]);
        expected.extend([0, 0, 0, 3]);
        expected.extend(*b"abc");
        assert_eq!(sample(b"abc").encode(), expected);
        assert_eq!(Message::decode(&Bytes::from(expected)), Ok(sample(b"abc")));
    }

    #[test]
    fn names_may_be_padded_with_zeros() {
        let read = broken(|frame| frame[TYPE_AT + 18..TYPE_AT + TYPE_LEN].fill(0));
        assert_eq!(read, Ok(sample(b"abc")));
    }

    #[test]
    fn each_broken_field_is_named() {
        assert_eq!(broken(|frame| frame.truncate(119)), Err(Malformed::Short(119)));
        assert_eq!(broken(|frame| frame[3] = 115), Err(Malformed::HeaderLength(115)));
        assert_eq!(broken(|frame| frame[TYPE_AT..TYPE_AT + TYPE_LEN].fill(b' ')), Err(Malformed::NoType));
        assert_eq!(broken(|frame| frame[39] = 2), Err(Malformed::Schema(2)));
        assert_eq!(broken(|frame| frame[CREATED_AT..SEQUENCE_AT].fill(0)), Err(Malformed::NoDate));
        assert_eq!(broken(|frame| frame[SEQUENCE_AT..FLAGS_AT].fill(0xff)), Err(Malformed::Sequence(-1)));
        assert_eq!(broken(|frame| frame.truncate(122)), Err(Malformed::PayloadLength { said: 3, found: 2 }));
        assert_eq!(broken(|frame| frame[120] ^= 1), Err(Malformed::Digest));
        assert_eq!(broken(|frame| frame[DIGEST_AT] ^= 1), Err(Malformed::Digest));
    }

    #[test]
    fn publication_messages_are_known_by_their_name_alone() {
        let mut frame = vec![0; HEADER_LEN];
        frame[TYPE_AT..TYPE_AT + 17].copy_from_slice(b"pause_publication");
        let read = Message::decode(&Bytes::from(frame)).unwrap();
        assert_eq!(read.kind, MessageKind::PausePublication);
    }

    #[test]
    fn an_empty_payload_needs_no_digest() {
        let mut frame = sample(b"").encode().to_vec();
        frame[DIGEST_AT..PAYLOAD_TYPE_AT].fill(0);
        assert_eq!(Message::decode(&Bytes::from(frame)), Ok(sample(b"")));
    }

    #[test]
    fn flags_read_back_and_foreign_ones_are_ignored() {
        for flag in [Flag::DisconnectToPort, Flag::TerminateSession, Flag::ConnectToPortError] {
            assert_eq!(Flag::parse(&flag.payload()), Some(flag));
        }
        assert_eq!(Flag::parse(&[0, 0, 0, 9]), None);
        assert_eq!(Flag::parse(b"2"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back(
            sequence in 0..i64::MAX,
            created in 1..u64::MAX,
            flags: u64,
            id: u128,
            code in 0..20_u32,
            payload in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let message = Message {
                kind: MessageKind::Input,
                created,
                sequence,
                flags,
                id: Uuid::from_u128(id),
                payload_kind: PayloadKind::from_code(code),
                payload: Bytes::from(payload),
            };
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn any_bytes_are_read_or_refused_but_never_panic(frame in prop::collection::vec(any::<u8>(), 0..400)) {
            drop(Message::decode(&Bytes::from(frame)));
        }

        #[test]
        fn a_flipped_byte_of_payload_or_digest_is_always_noticed(at in DIGEST_AT..HEADER_LEN + 64, bit in 0..8_u8) {
            let mut frame = sample(&[0x5a; 64]).encode().to_vec();
            frame[at] ^= 1 << bit;
            let read = Message::decode(&Bytes::from(frame));
            let payload_kind = (PAYLOAD_TYPE_AT..PAYLOAD_LEN_AT).contains(&at);
            prop_assert_eq!(read.is_err(), !payload_kind);
        }
    }
}
