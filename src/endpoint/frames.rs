//! Frames of the two streaming protocols, followed just far enough to tell where one ends, which are pings, and whether a
//! guest has said how its command ended.
//!
//! Pure. What is in other frames, and how they are compressed, is not known here. Why pings are ORCA's to answer:
//! `docs/decisions/005-pings-are-answered-here.md`; what a client hears last when ORCA ends:
//! `docs/decisions/008-a-stream-that-is-cut-says-so.md`.

/// What people read when their streams end with this process.
pub const FAREWELL: &str = "orca ends here and goes on elsewhere: run the command again";

/// What an upgraded connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SPDY/3.1: a header of 8 bytes, with the length in its last three.
    Spdy,
    /// RFC 6455, section 5.2: a header of 2 to 14 bytes.
    WebSocket,
}

impl Protocol {
    /// The protocol that an `Upgrade` header names.
    #[must_use]
    pub fn named(upgrade: &str) -> Option<Self> {
        if upgrade.eq_ignore_ascii_case("SPDY/3.1") {
            Some(Self::Spdy)
        } else if upgrade.eq_ignore_ascii_case("websocket") {
            Some(Self::WebSocket)
        } else {
            None
        }
    }

    /// The last frame of the guest's side.
    fn close(self) -> Vec<u8> {
        match self {
            // GOAWAY, with no last stream and status 0: no new streams are to be begun.
            Self::Spdy => vec![0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0],
            // A close frame: going away, and why. It may have 125 bytes.
            Self::WebSocket => {
                let length = u8::try_from(FAREWELL.len() + 2).unwrap_or(125);
                let mut frame = vec![WEBSOCKET_CLOSE, length];
                frame.extend(1001_u16.to_be_bytes());
                frame.extend_from_slice(FAREWELL.as_bytes());
                frame
            }
        }
    }

    /// Kind of a frame and length of what follows its header; `None` while the header is not whole.
    fn header(self, head: &[u8]) -> Option<(Kind, u64)> {
        let kind = |is_ping| if is_ping { Kind::Ping } else { Kind::Other };
        Some(match self {
            Self::Spdy => {
                let &[_, _, _, _, _, high, middle, low] = head else { return None };
                let length = u64::from(u32::from_be_bytes([0, high, middle, low]));
                let kind = kind(head.starts_with(&SPDY_PING) && length == 4);
                (if head.starts_with(&SPDY_ERRORS) { Kind::Status } else { kind }, length)
            }
            Self::WebSocket => {
                let &[first, second, ref more @ ..] = head else { return None };
                let size = match second & 0x7f {
                    126 => 2,
                    127 => 8,
                    _ => 0,
                };
                if more.len() < size + mask_size(second) {
                    return None;
                }
                let extended = more[..size].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                let length = if size == 0 { u64::from(second & 0x7f) } else { extended };
                (kind(first == WEBSOCKET_PING && size == 0), length)
            }
        })
    }

    /// What answers a whole ping of the client; `None` when it is itself an answer.
    fn answer(self, ping: &[u8]) -> Option<Vec<u8>> {
        match self {
            // Clients number their pings oddly, and an answer is the same frame: an even one answers the guest's.
            Self::Spdy => ping.last().is_some_and(|id| id % 2 == 1).then(|| ping.to_vec()),
            Self::WebSocket => {
                let &[_, second, ref more @ ..] = ping else { return None };
                let (mask, payload) = more.split_at_checked(mask_size(second))?;
                let mut answer = vec![WEBSOCKET_PONG, second & !MASKED];
                let mask = mask.iter().copied().cycle().chain(std::iter::repeat(0));
                answer.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
                Some(answer)
            }
        }
    }
}

/// How a command's end is told, by the subprotocol that client and kubelet agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As a `Status` on the stream that the client opened first (client-go/tools/remotecommand): exec and attach. A client
    /// that hears none takes the end for success.
    Status,
    /// Otherwise, or not at all.
    Other,
}

impl Ending {
    /// What the subprotocol that `X-Stream-Protocol-Version` names has.
    #[must_use]
    pub fn named(subprotocol: &str) -> Self {
        match subprotocol {
            "v4.channel.k8s.io" | "v5.channel.k8s.io" => Self::Status,
            _ => Self::Other,
        }
    }
}

/// A data frame of stream 1, the first that a client opens.
const SPDY_ERRORS: [u8; 4] = [0, 0, 0, 1];
/// A data frame's flag: nothing follows on its stream.
const SPDY_FIN: u8 = 1;
/// A control frame of version 3 and type 6, without flags.
const SPDY_PING: [u8; 5] = [0x80, 3, 0, 6, 0];
/// Final frame, opcode 8.
const WEBSOCKET_CLOSE: u8 = 0x88;
/// Final frame, opcode 9.
const WEBSOCKET_PING: u8 = 0x89;
/// Final frame, opcode 10.
const WEBSOCKET_PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;

/// Bytes of the mask, in a header whose second byte is this one.
fn mask_size(second: u8) -> usize {
    if second & MASKED == 0 { 0 } else { 4 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The header is not whole.
    Unknown,
    Ping,
    /// How the command ended.
    Status,
    Other,
}

/// Where in its frames one direction of a connection is.
#[derive(Debug)]
struct Cursor {
    protocol: Protocol,
    /// Header of the frame under way, as far as it has come; empty between frames.
    head: Vec<u8>,
    kind: Kind,
    /// What is missing of the frame under way, once its header is whole.
    left: u64,
}

impl Cursor {
    fn new(protocol: Protocol) -> Self {
        Self { protocol, head: Vec::new(), kind: Kind::Unknown, left: 0 }
    }

    fn is_between(&self) -> bool {
        self.head.is_empty()
    }

    /// Goes on to the end of the frame under way, or of `bytes`: what belongs to that frame, what does not, and
    /// its kind.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8], Kind) {
        let mut used = 0;
        while self.kind == Kind::Unknown {
            let Some(byte) = bytes.get(used) else { return (bytes, &[], Kind::Unknown) };
            self.head.push(*byte);
            used += 1;
            if let Some((kind, length)) = self.protocol.header(&self.head) {
                (self.kind, self.left) = (kind, length);
            }
        }
        let body = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - used);
        self.left -= body as u64;
        let kind = self.kind;
        if self.left == 0 {
            self.head.clear();
            self.kind = Kind::Unknown;
        }
        let (part, rest) = bytes.split_at(used + body);
        (part, rest, kind)
    }
}

/// What becomes of a client's pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pings {
    /// They are taken out, and answered.
    Answered,
    /// They go on to the guest like everything else.
    Passed,
}

/// Takes pings out of what a client says.
#[derive(Debug)]
pub struct Sieve {
    cursor: Cursor,
    /// The frame under way, while it is or may be a ping.
    held: Vec<u8>,
}

impl Sieve {
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self { cursor: Cursor::new(protocol), held: Vec::new() }
    }

    /// Appends to `on` what of `bytes` goes on to the guest; returns answers for the client.
    pub fn sift(&mut self, mut bytes: &[u8], pings: Pings, on: &mut Vec<u8>) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        while !bytes.is_empty() {
            let (part, rest, kind) = self.cursor.step(bytes);
            bytes = rest;
            self.held.extend_from_slice(part);
            let whole = self.cursor.is_between();
            let answer = match (kind, pings) {
                (Kind::Unknown, _) => continue,
                (Kind::Ping, _) if !whole => continue,
                (Kind::Ping, Pings::Answered) => self.cursor.protocol.answer(&self.held),
                (Kind::Ping, Pings::Passed) | (Kind::Status | Kind::Other, _) => None,
            };
            match answer {
                Some(answer) => answers.push(answer),
                None => on.extend_from_slice(&self.held),
            }
            self.held.clear();
        }
        answers
    }

    /// What was held back, when nothing more comes.
    #[must_use]
    pub fn rest(self) -> Vec<u8> {
        self.held
    }
}

/// Puts answers between the frames of what a guest says, and the last words behind them.
#[derive(Debug)]
pub struct Merge {
    cursor: Cursor,
    answers: Vec<u8>,
    /// The guest has said how its command ended.
    has_status: bool,
}

impl Merge {
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self { cursor: Cursor::new(protocol), answers: Vec::new(), has_status: false }
    }

    /// Appends `bytes` to `out`, and the answers that wait as soon as a frame ends.
    pub fn pass(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            bytes = self.pass_frame(bytes, out);
        }
    }

    /// Appends `bytes` to `out` as far as the end of the frame under way, and the answers that wait there; what is left.
    pub fn pass_frame<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let (part, rest, kind) = self.cursor.step(bytes);
        self.has_status |= kind == Kind::Status;
        out.extend_from_slice(part);
        self.place(out);
        rest
    }

    /// What the guest's side says last when this process ends; nothing of the guest may follow. Between frames: inside one
    /// it would not be read as what it is.
    #[must_use]
    pub fn farewell(&self, ending: Ending) -> Vec<u8> {
        let protocol = self.cursor.protocol;
        let mut last = match (protocol, ending) {
            (Protocol::Spdy, Ending::Status) if !self.has_status => {
                let status = format!(r#"{{"metadata":{{}},"status":"Failure","message":"{FAREWELL}"}}"#);
                let length = u32::try_from(status.len()).expect("a sentence is short").to_be_bytes();
                [&SPDY_ERRORS[..], &[SPDY_FIN], &length[1..], status.as_bytes()].concat()
            }
            (Protocol::Spdy | Protocol::WebSocket, Ending::Status | Ending::Other) => Vec::new(),
        };
        last.extend(protocol.close());
        last
    }

    /// Appends an answer to `out`, now or when the frame under way has ended.
    pub fn answer(&mut self, answer: &[u8], out: &mut Vec<u8>) {
        self.answers.extend_from_slice(answer);
        self.place(out);
    }

    /// Whether no frame is under way.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.cursor.is_between()
    }

    fn place(&mut self, out: &mut Vec<u8>) {
        if self.is_between() {
            out.append(&mut self.answers);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One frame, whether it is a ping that is taken out, and what answers it.
    type Told = (Vec<u8>, Option<Vec<u8>>);

    fn spdy() -> impl Strategy<Value = Told> {
        let data = (0..9_u32, proptest::collection::vec(any::<u8>(), 0..600)).prop_map(|(id, body)| {
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            ([&id.to_be_bytes()[..], &[1], &length[1..], &body].concat(), None)
        });
        // Pings with flags, of the guest, and of another length are none of ours.
        let control = (0..9_u8, 0..2_u8, proptest::collection::vec(any::<u8>(), 0..9)).prop_map(
            |(kind, flags, body)| {
                let length = u8::try_from(body.len()).unwrap();
                let frame = [&[0x80, 3, 0, kind, flags, 0, 0, length][..], &body].concat();
                let ours = kind == 6 && flags == 0 && length == 4 && body[3] % 2 == 1;
                (frame.clone(), ours.then_some(frame))
            },
        );
        let ping = (0..1000_u32).prop_map(|n| {
            let frame = [&[0x80, 3, 0, 6, 0, 0, 0, 4][..], &(2 * n + 1).to_be_bytes()].concat();
            (frame.clone(), Some(frame))
        });
        prop_oneof![data, control, ping]
    }

    fn websocket() -> impl Strategy<Value = Told> {
        let frame = |first: u8, mask: Option<[u8; 4]>, body: &[u8]| {
            let bit = if mask.is_some() { MASKED } else { 0 };
            let mut frame = vec![first];
            match body.len() {
                short @ 0..126 => frame.push(bit | u8::try_from(short).unwrap()),
                long => {
                    frame.push(bit | 126);
                    frame.extend(u16::try_from(long).unwrap().to_be_bytes());
                }
            }
            frame.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
            let mask = mask.unwrap_or_default();
            frame.extend(body.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]));
            frame
        };
        (
            prop_oneof![Just(WEBSOCKET_PING), any::<u8>()],
            any::<Option<[u8; 4]>>(),
            proptest::collection::vec(any::<u8>(), 0..300),
        )
            .prop_map(move |(first, mask, body)| {
                let ours = first == WEBSOCKET_PING && body.len() < 126;
                (frame(first, mask, &body), ours.then(|| frame(WEBSOCKET_PONG, None, &body)))
            })
    }

    fn conversation() -> impl Strategy<Value = (Protocol, Vec<Told>)> {
        let spdy = proptest::collection::vec(spdy(), 0..20).prop_map(|told| (Protocol::Spdy, told));
        let websocket =
            proptest::collection::vec(websocket(), 0..20).prop_map(|told| (Protocol::WebSocket, told));
        prop_oneof![spdy, websocket]
    }

    /// `bytes` in parts of these sizes, over and over.
    fn parts<'a>(bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = bytes;
        sizes.iter().cycle().map_while(move |size| {
            let part;
            (part, rest) = rest.split_at((*size).min(rest.len()));
            (!part.is_empty()).then_some(part)
        })
    }

    fn sizes() -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(1..200_usize, 1..10)
    }

    proptest! {
        #[test]
        fn all_but_the_pings_goes_on_however_it_is_cut((protocol, told) in conversation(), sizes in sizes()) {
            let bytes: Vec<u8> = told.iter().flat_map(|(frame, _)| frame.clone()).collect();
            let (mut sieve, mut on, mut answers) = (Sieve::new(protocol), Vec::new(), Vec::new());
            for part in parts(&bytes, &sizes) {
                answers.extend(sieve.sift(part, Pings::Answered, &mut on));
            }
            prop_assert_eq!(sieve.rest(), Vec::<u8>::new());
            let others = told.iter().filter(|(_, answer)| answer.is_none());
            prop_assert_eq!(on, others.flat_map(|(frame, _)| frame.clone()).collect::<Vec<_>>());
            prop_assert_eq!(answers, told.iter().filter_map(|(_, answer)| answer.clone()).collect::<Vec<_>>());
        }

        #[test]
        fn passing_pings_changes_nothing((protocol, told) in conversation(), sizes in sizes()) {
            let bytes: Vec<u8> = told.iter().flat_map(|(frame, _)| frame.clone()).collect();
            let (mut sieve, mut on) = (Sieve::new(protocol), Vec::new());
            for part in parts(&bytes, &sizes) {
                prop_assert!(sieve.sift(part, Pings::Passed, &mut on).is_empty());
            }
            prop_assert_eq!(on, bytes);
        }

        #[test]
        fn whatever_it_is_nothing_is_lost_or_held(bytes in proptest::collection::vec(any::<u8>(), 0..500), sizes in sizes()) {
            for protocol in [Protocol::Spdy, Protocol::WebSocket] {
                let (mut sieve, mut on) = (Sieve::new(protocol), Vec::new());
                for part in parts(&bytes, &sizes) {
                    sieve.sift(part, Pings::Passed, &mut on);
                }
                on.extend(sieve.rest());
                prop_assert_eq!(&on, &bytes);
            }
        }

        #[test]
        fn answers_come_in_order_and_only_between_frames((protocol, told) in conversation(), sizes in sizes(), every in 1..5_usize) {
            let bytes: Vec<u8> = told.iter().flat_map(|(frame, _)| frame.clone()).collect();
            let (mut merge, mut out, mut sent) = (Merge::new(protocol), Vec::new(), Vec::new());
            for (n, part) in parts(&bytes, &sizes).enumerate() {
                merge.pass(part, &mut out);
                if n % every == 0 {
                    // A pong of no guest: its number would be even, its text another.
                    let answer = match protocol {
                        Protocol::Spdy => [&[0x80, 3, 0, 6, 0, 0, 0, 4, 0xff][..], &[0, u8::try_from(n % 256).unwrap(), 1]].concat(),
                        Protocol::WebSocket => [&[WEBSOCKET_PONG, 2, 0xff][..], &[u8::try_from(n % 256).unwrap()]].concat(),
                    };
                    merge.answer(&answer, &mut out);
                    sent.push(answer);
                }
            }
            let (mut left, mut seen) = (&out[..], Vec::new());
            let mut frames = told.iter().map(|(frame, _)| frame.as_slice()).peekable();
            while !left.is_empty() {
                let next = frames.peek().copied();
                if let Some(frame) = next.filter(|frame| left.starts_with(frame)) {
                    left = &left[frame.len()..];
                    frames.next();
                } else {
                    let answer: &Vec<u8> = &sent[seen.len()];
                    prop_assert!(left.starts_with(answer), "neither the guest's next frame nor the next answer");
                    left = &left[answer.len()..];
                    seen.push(answer.clone());
                }
            }
            prop_assert!(frames.next().is_none());
            prop_assert_eq!(seen, sent);
        }
    }

    #[test]
    fn a_client_that_was_not_told_how_its_command_ended_is_told_that_it_was_cut_and_no_other() {
        let goaway = Protocol::Spdy.close();
        let output = [0, 0, 0, 3, 0, 0, 0, 2, b'h', b'i'];
        let status = [0, 0, 0, 1, 1, 0, 0, 2, b'{', b'}'];
        let mut merge = Merge::new(Protocol::Spdy);
        merge.pass(&output, &mut Vec::new());
        let told = merge.farewell(Ending::Status);
        let (head, rest) = told.split_at(8);
        assert_eq!(head[..7], [0, 0, 0, 1, 1, 0, 0]);
        let (status_told, close) = rest.split_at(head[7].into());
        let read: serde_json::Value = serde_json::from_slice(status_told).unwrap();
        assert_eq!((&read["status"], &read["message"]), (&"Failure".into(), &FAREWELL.into()));
        assert_eq!(close, goaway);
        assert_eq!(merge.farewell(Ending::Other), goaway);
        merge.pass(&status, &mut Vec::new());
        assert_eq!(merge.farewell(Ending::Status), goaway);
        let close = Merge::new(Protocol::WebSocket).farewell(Ending::Status);
        assert_eq!((close[0], usize::from(close[1]), &close[2..4]), (0x88, close.len() - 2, &[3, 0xe9][..]));
        assert!(close.len() <= 127 && close.ends_with(FAREWELL.as_bytes()));
    }

    #[test]
    fn a_frame_is_passed_to_its_end_and_no_further() {
        let (one, two) = ([0, 0, 0, 3, 0, 0, 0, 2, b'h', b'i'], [0, 0, 0, 5, 0, 0, 0, 1, b'!']);
        let both = [&one[..], &two].concat();
        for cut in 1..one.len() {
            let (mut merge, mut out) = (Merge::new(Protocol::Spdy), Vec::new());
            merge.pass(&both[..cut], &mut out);
            assert!(!merge.is_between());
            assert_eq!(merge.pass_frame(&both[cut..], &mut out), two);
            assert!(merge.is_between() && out == one);
        }
    }

    #[test]
    fn only_the_protocols_of_kubectl_are_followed() {
        assert_eq!(Protocol::named("SPDY/3.1"), Some(Protocol::Spdy));
        assert_eq!(Protocol::named("WebSocket"), Some(Protocol::WebSocket));
        assert_eq!(Protocol::named("h2c"), None);
    }
}
