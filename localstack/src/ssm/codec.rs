//! The binary frame of the data channel: 120 bytes of header, then the payload. All integers are big-endian.
//!
//! Pure: bytes in, [`AgentMessage`] out, and back. It knows nothing of what the payloads mean.

use aws_lc_rs::digest;
use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// Bytes before the payload.
pub const HEADER: usize = 120;
/// What the header says of its own length: the bytes before the field `PayloadLength`.
const HEADER_LENGTH: u32 = 116;
const TYPE_WIDTH: usize = 32;

/// One message of either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentMessage {
    pub message_type: MessageType,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// From 0 in each direction, counting stream data only; 0 in everything else.
    pub sequence: i64,
    /// Bit 0 SYN, bit 1 FIN.
    pub flags: u64,
    pub id: Uuid,
    pub payload_type: PayloadType,
    pub payload: Bytes,
}

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    InputStreamData,
    OutputStreamData,
    Acknowledge,
    ChannelClosed,
    StartPublication,
    PausePublication,
}

impl MessageType {
    const ALL: [Self; 6] = [
        Self::InputStreamData,
        Self::OutputStreamData,
        Self::Acknowledge,
        Self::ChannelClosed,
        Self::StartPublication,
        Self::PausePublication,
    ];

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InputStreamData => "input_stream_data",
            Self::OutputStreamData => "output_stream_data",
            Self::Acknowledge => "acknowledge",
            Self::ChannelClosed => "channel_closed",
            Self::StartPublication => "start_publication",
            Self::PausePublication => "pause_publication",
        }
    }

    /// The two that carry nothing, not even a digest.
    fn is_bare(self) -> bool {
        matches!(self, Self::StartPublication | Self::PausePublication)
    }
}

/// What the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PayloadType {
    /// Acknowledgements and the service's own messages leave it unset.
    None = 0,
    Output = 1,
    Error = 2,
    Size = 3,
    Parameter = 4,
    HandshakeRequest = 5,
    HandshakeResponse = 6,
    HandshakeComplete = 7,
    EncChallengeRequest = 8,
    EncChallengeResponse = 9,
    Flag = 10,
    StdErr = 11,
    ExitCode = 12,
}

impl PayloadType {
    const ALL: [Self; 13] = [
        Self::None,
        Self::Output,
        Self::Error,
        Self::Size,
        Self::Parameter,
        Self::HandshakeRequest,
        Self::HandshakeResponse,
        Self::HandshakeComplete,
        Self::EncChallengeRequest,
        Self::EncChallengeResponse,
        Self::Flag,
        Self::StdErr,
        Self::ExitCode,
    ];
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("frame of `{0}` bytes, expected at least {HEADER}")]
    Short(usize),
    #[error("header length is `{0}`, expected {HEADER_LENGTH}")]
    HeaderLength(u32),
    #[error("message type is `{0}`, expected one of the data channel's")]
    MessageType(String),
    #[error("schema version is `{0}`, expected 1")]
    SchemaVersion(u32),
    #[error("created date is `0`, expected milliseconds since 1970")]
    CreatedDate,
    #[error("payload type is `{0}`, expected 0 to 12")]
    PayloadType(u32),
    #[error("payload length is `{said}`, expected the `{found}` bytes that follow the header")]
    PayloadLength { said: u32, found: usize },
    #[error("payload digest does not match, expected SHA-256 of the payload")]
    Digest,
}

impl AgentMessage {
    /// The frame for this message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER + self.payload.len());
        out.put_u32(HEADER_LENGTH);
        let name = self.message_type.as_str().as_bytes();
        out.put_slice(name);
        out.put_bytes(b' ', TYPE_WIDTH - name.len());
        out.put_u32(1);
        out.put_u64(self.created_ms);
        out.put_i64(self.sequence);
        out.put_u64(self.flags);
        let (high, low) = self.id.as_u64_pair();
        out.put_u64(low);
        out.put_u64(high);
        if self.message_type.is_bare() {
            out.put_bytes(0, 32);
        } else {
            out.put_slice(digest::digest(&digest::SHA256, &self.payload).as_ref());
        }
        out.put_u32(self.payload_type as u32);
        out.put_u32(u32::try_from(self.payload.len()).expect("payloads are bounded by the message size"));
        out.put_slice(&self.payload);
        out.freeze()
    }

    /// Reads a frame, as strictly as the strictest of its real readers: the vendor's client checks the digest,
    /// the agent does not.
    pub fn decode(frame: &Bytes) -> Result<Self, DecodeError> {
        if frame.len() < HEADER {
            return Err(DecodeError::Short(frame.len()));
        }
        let header_length = be32(frame, 0);
        if header_length != HEADER_LENGTH {
            return Err(DecodeError::HeaderLength(header_length));
        }
        let name = String::from_utf8_lossy(&frame[4..4 + TYPE_WIDTH]);
        let name = name.trim_matches(|c| c == '\0' || c == ' ');
        let Some(message_type) = MessageType::ALL.into_iter().find(|known| known.as_str() == name) else {
            return Err(DecodeError::MessageType(name.to_owned()));
        };
        let schema = be32(frame, 36);
        if schema != 1 {
            return Err(DecodeError::SchemaVersion(schema));
        }
        let created_ms = be64(frame, 40);
        if created_ms == 0 && !message_type.is_bare() {
            return Err(DecodeError::CreatedDate);
        }
        let number = be32(frame, 112);
        let Some(payload_type) = PayloadType::ALL.into_iter().find(|known| *known as u32 == number) else {
            return Err(DecodeError::PayloadType(number));
        };
        let payload = frame.slice(HEADER..);
        let said = be32(frame, 116);
        if usize::try_from(said) != Ok(payload.len()) {
            return Err(DecodeError::PayloadLength { said, found: payload.len() });
        }
        if !payload.is_empty() && digest::digest(&digest::SHA256, &payload).as_ref() != &frame[80..112] {
            return Err(DecodeError::Digest);
        }
        Ok(Self {
            message_type,
            created_ms,
            sequence: be64(frame, 48).cast_signed(),
            flags: be64(frame, 56),
            id: Uuid::from_u64_pair(be64(frame, 72), be64(frame, 64)),
            payload_type,
            payload,
        })
    }
}

fn be32(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"))
}

fn be64(frame: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(frame[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> AgentMessage {
        AgentMessage {
            message_type: MessageType::InputStreamData,
            created_ms: 1_700_000_000_123,
            sequence: 7,
            flags: 0,
            id: Uuid::parse_str("01234567-89ab-4def-8123-456789abcdef").unwrap(),
            payload_type: PayloadType::Output,
            payload: Bytes::from_static(b"hello"),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Made by the vendor's own `SerializeClientMessage` (session-manager-plugin 1.3.0) from the same fields.
    const VENDOR: &str = concat!(
        "00000074",
        "696e7075745f73747265616d5f64617461202020202020202020202020202020",
        "00000001",
        "0000018bcfe5687b",
        "0000000000000007",
        "0000000000000000",
        "8123456789abcdef0123456789ab4def",
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "00000001",
        "00000005",
        "68656c6c6f"
    );

    #[test]
    fn a_frame_is_what_the_vendor_makes_of_the_same_message() {
        assert_eq!(hex(&hello().encode()), VENDOR);
    }

    fn broken(at: usize, byte: u8) -> Result<AgentMessage, DecodeError> {
        let mut frame = hello().encode().to_vec();
        frame[at] = byte;
        AgentMessage::decode(&Bytes::from(frame))
    }

    #[test]
    fn each_broken_field_is_named() {
        assert_eq!(broken(3, 100), Err(DecodeError::HeaderLength(100)));
        assert_eq!(broken(4, b'X'), Err(DecodeError::MessageType("Xnput_stream_data".to_owned())));
        assert_eq!(broken(39, 2), Err(DecodeError::SchemaVersion(2)));
        assert_eq!(broken(115, 13), Err(DecodeError::PayloadType(13)));
        assert_eq!(broken(119, 4), Err(DecodeError::PayloadLength { said: 4, found: 5 }));
        assert_eq!(broken(120, b'j'), Err(DecodeError::Digest));
        assert_eq!(AgentMessage::decode(&Bytes::from_static(&[0; 119])), Err(DecodeError::Short(119)));
        let undated = AgentMessage { created_ms: 0, ..hello() };
        assert_eq!(AgentMessage::decode(&undated.encode()), Err(DecodeError::CreatedDate));
    }

    #[test]
    fn a_type_padded_with_zeros_is_read_too() {
        let mut frame = hello().encode().to_vec();
        frame[4 + 17..36].fill(0);
        assert_eq!(AgentMessage::decode(&Bytes::from(frame)), Ok(hello()));
    }

    #[test]
    fn a_publication_message_has_no_digest() {
        let pause = AgentMessage {
            message_type: MessageType::PausePublication,
            payload_type: PayloadType::None,
            payload: Bytes::new(),
            ..hello()
        };
        let frame = pause.encode();
        assert_eq!(frame[80..112], [0; 32]);
        assert_eq!(AgentMessage::decode(&frame), Ok(pause));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(
            kind in 0..4usize, payload_type in 0..13usize, created_ms in 1..u64::MAX, sequence: i64, flags: u64,
            id: u128, payload in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let message = AgentMessage {
                message_type: MessageType::ALL[kind],
                created_ms,
                sequence,
                flags,
                id: Uuid::from_u128(id),
                payload_type: PayloadType::ALL[payload_type],
                payload: Bytes::from(payload),
            };
            prop_assert_eq!(AgentMessage::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _unused = AgentMessage::decode(&Bytes::from(bytes));
        }
    }
}
