//! A client of the data channel: acknowledges, restores order, sends again, resumes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use localstack::ssm::codec::{AgentMessage, MessageType, PayloadType};
use localstack::ssm::payload::{Acknowledge, ChannelClosed, Flag};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

use crate::fake::{INSTANCE, Service};

/// Long enough for a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What came, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Data(Bytes),
    Flag(Flag),
    HandshakeRequest(Value),
    HandshakeComplete,
    /// The reason in `channel_closed`.
    Closed(String),
    Paused,
    /// The WebSocket ended; with the code of its close frame, if there was one.
    Gone(Option<u16>),
}

pub(crate) struct Client {
    pub(crate) session: Value,
    address: SocketAddr,
    socket: Option<WebSocketStream<TcpStream>>,
    next: i64,
    unacked: BTreeMap<i64, Bytes>,
    expected: i64,
    early: BTreeMap<i64, AgentMessage>,
    resent: Instant,
}

impl Client {
    /// A session to `port` by `document`, with its WebSocket open.
    pub(crate) async fn open(service: &Service, document: &str, port: u16) -> Self {
        let mut client = Self::start(service, document, port).await;
        let token = client.session["TokenValue"].clone();
        client.connect(&token).await.unwrap();
        client
    }

    /// A session whose WebSocket is not open yet.
    pub(crate) async fn start(service: &Service, document: &str, port: u16) -> Self {
        let request = json!({
            "Target": INSTANCE, "DocumentName": document, "Parameters": { "portNumber": [port.to_string()] },
        });
        let session = service.call("StartSession", request).await.unwrap();
        Self {
            session,
            address: service.address,
            socket: None,
            next: 0,
            unacked: BTreeMap::new(),
            expected: 0,
            early: BTreeMap::new(),
            resent: Instant::now(),
        }
    }

    /// A raw session past its handshake.
    pub(crate) async fn raw(service: &Service, port: u16) -> Self {
        let mut client = Self::open(service, "AWS-StartSSHSession", port).await;
        client.shake("1.2.600.0").await;
        client
    }

    /// Sends nothing again from now on.
    pub(crate) fn be_patient(&mut self) {
        self.resent = Instant::now() + DEADLINE * 10;
    }

    pub(crate) fn id(&self) -> &str {
        self.session["SessionId"].as_str().unwrap()
    }

    pub(crate) async fn upgrade(&mut self, headers: &[(&'static str, &str)]) -> Result<(), Error> {
        let mut request = self.session["StreamUrl"].as_str().unwrap().into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.socket = Some(tokio_tungstenite::client_async(request, stream).await?.0);
        Ok(())
    }

    /// Opens a WebSocket and shows the token.
    pub(crate) async fn connect(&mut self, token: &Value) -> Result<(), Error> {
        self.upgrade(&[]).await?;
        let first = json!({
            "MessageSchemaVersion": "1.0", "RequestId": Uuid::new_v4().to_string(), "TokenValue": token,
            "ClientId": Uuid::new_v4().to_string(), "ClientVersion": "1.2.600.0",
        });
        self.text(&first.to_string()).await;
        Ok(())
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.socket.as_mut().unwrap().send(Message::text(text)).await.unwrap();
    }

    /// Whether a ping is answered.
    pub(crate) async fn ping(&mut self) -> bool {
        let socket = self.socket.as_mut().unwrap();
        socket.send(Message::Ping(Bytes::from_static(b"keepalive"))).await.unwrap();
        let answer = timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap();
        answer == Message::Pong(Bytes::from_static(b"keepalive"))
    }

    /// Answers the handshake as a client of this version.
    pub(crate) async fn shake(&mut self, version: &str) {
        let Event::HandshakeRequest(request) = self.event().await else { panic!("no handshake") };
        assert_eq!(request["RequestedClientActions"][0]["ActionParameters"]["SessionType"], "Port");
        let response = json!({
            "ClientVersion": version,
            "ProcessedClientActions": [{ "ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null, "Error": "" }],
            "Errors": null,
        });
        self.send(PayloadType::HandshakeResponse, response.to_string().as_bytes()).await;
        assert_eq!(self.event().await, Event::HandshakeComplete);
    }

    pub(crate) async fn data(&mut self, bytes: &[u8]) {
        self.send(PayloadType::Output, bytes).await;
    }

    pub(crate) async fn flag(&mut self, flag: Flag) {
        self.send(PayloadType::Flag, &flag.to_bytes()).await;
    }

    pub(crate) async fn send(&mut self, payload_type: PayloadType, payload: &[u8]) {
        let frame = message(MessageType::InputStreamData, self.next, payload_type, payload);
        self.unacked.insert(self.next, frame.clone());
        self.next += 1;
        self.write(frame).await;
    }

    /// Sends a frame; a socket that is gone is noticed when reading.
    pub(crate) async fn write(&mut self, frame: Bytes) {
        if let Some(socket) = &mut self.socket {
            socket.send(Message::Binary(frame)).await.ok();
        }
    }

    pub(crate) fn unacked(&self) -> usize {
        self.unacked.len()
    }

    /// The next event, sending again what is not acknowledged for a while.
    pub(crate) async fn event(&mut self) -> Event {
        timeout(DEADLINE, self.next_event()).await.expect("nothing came")
    }

    /// No event within `duration`.
    pub(crate) async fn silence(&mut self, duration: Duration) {
        if let Ok(event) = timeout(duration, self.next_event()).await {
            panic!("{event:?}");
        }
    }

    async fn next_event(&mut self) -> Event {
        loop {
            if let Some(message) = self.early.remove(&self.expected) {
                self.expected += 1;
                return stream_event(&message);
            }
            let Some(socket) = &mut self.socket else { return Event::Gone(None) };
            let Ok(came) = timeout_at(self.resent + Duration::from_millis(150), socket.next()).await else {
                self.resent = Instant::now();
                for frame in self.unacked.values().take(200).cloned().collect::<Vec<_>>() {
                    self.write(frame).await;
                }
                continue;
            };
            let frame = match came {
                Some(Ok(Message::Binary(frame))) => frame,
                Some(Ok(Message::Close(frame))) => {
                    // The answer to it goes out with the next read.
                    while let Some(Ok(_)) = socket.next().await {}
                    self.socket = None;
                    return Event::Gone(Some(frame.map_or(1005, |frame| frame.code.into())));
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => {
                    self.socket = None;
                    return Event::Gone(None);
                }
            };
            let message = AgentMessage::decode(&frame).unwrap();
            match message.message_type {
                MessageType::Acknowledge => {
                    let content: Acknowledge = serde_json::from_slice(&message.payload).unwrap();
                    self.unacked.remove(&content.sequence);
                }
                MessageType::OutputStreamData => {
                    let content = Acknowledge {
                        message_type: "output_stream_data".to_owned(),
                        message_id: message.id.to_string(),
                        sequence: message.sequence,
                        sequential: true,
                    };
                    let payload = serde_json::to_vec(&content).unwrap();
                    let acknowledgement =
                        self::message(MessageType::Acknowledge, 0, PayloadType::None, &payload);
                    self.write(acknowledgement).await;
                    if message.sequence >= self.expected {
                        self.early.insert(message.sequence, message);
                    }
                }
                MessageType::ChannelClosed => {
                    let closed: ChannelClosed = serde_json::from_slice(&message.payload).unwrap();
                    return Event::Closed(closed.output);
                }
                MessageType::PausePublication => return Event::Paused,
                MessageType::StartPublication => assert!(message.payload.is_empty()),
                MessageType::InputStreamData => panic!("{message:?}"),
            }
        }
    }

    /// Data until there are `length` bytes.
    pub(crate) async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < length {
            match self.event().await {
                Event::Data(bytes) => out.extend_from_slice(&bytes),
                other => panic!("{other:?} after {} of {length} bytes", out.len()),
            }
        }
        out
    }

    /// Resumes the session as long as it takes.
    pub(crate) async fn resume(&mut self, service: &Service) {
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < until, "not resumed in time");
            let resumed = service.call("ResumeSession", json!({ "SessionId": self.id() })).await;
            if let Ok(answer) = resumed {
                assert_eq!(answer["StreamUrl"], self.session["StreamUrl"]);
                if self.connect(&answer["TokenValue"]).await.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn message(
    message_type: MessageType,
    sequence: i64,
    payload_type: PayloadType,
    payload: &[u8],
) -> Bytes {
    let message = AgentMessage {
        message_type,
        created_ms: 1,
        sequence,
        flags: 0,
        id: Uuid::new_v4(),
        payload_type,
        payload: Bytes::copy_from_slice(payload),
    };
    message.encode()
}

fn stream_event(message: &AgentMessage) -> Event {
    match message.payload_type {
        PayloadType::Output => {
            assert!(message.payload.len() <= 1024);
            Event::Data(message.payload.clone())
        }
        PayloadType::Flag => Event::Flag(Flag::from_bytes(&message.payload).unwrap()),
        PayloadType::HandshakeRequest => {
            Event::HandshakeRequest(serde_json::from_slice(&message.payload).unwrap())
        }
        PayloadType::HandshakeComplete => Event::HandshakeComplete,
        other => panic!("{other:?}"),
    }
}
