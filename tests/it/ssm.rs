//! `tunnel::ssm` against a small model of the service and of the agent on the machine, over loopback.
//!
//! The model follows the agent's source: selective acknowledgements, a reorder buffer, a sshd that speaks first and
//! here sends everything back. It keeps its sequence numbers when connections break, and breaks them on request.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use orca::tunnel::ssh::SshConnection;
use orca::tunnel::ssm::codec::{Flag, Message, MessageKind, PayloadKind};
use orca::tunnel::ssm::{SsmOptions, SsmTransport};
use orca::tunnel::{ByteStream, Refusal, Target, Transport, TunnelError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use uuid::Uuid;

use crate::ssh::Sshd;

const DEADLINE: Duration = Duration::from_secs(20);
const BANNER: &[u8] = b"SSH-2.0-model\r\n";

/// What the model does out of the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Closes the connection politely after so many frames, each time.
    Bye(usize),
    /// Drops it, with what is under way, after so many frames, each time.
    Cut(usize),
    /// Nothing listens on the machine's port.
    NothingListens,
    /// The agent never speaks.
    Mute,
    /// Answers "bye" to the first bytes and ends the session.
    Leave,
    /// Says "complete" and drops what comes within 50 ms, as the agent may.
    Race,
}

#[derive(Default)]
struct Seen {
    started: Vec<Value>,
    resumed: usize,
    terminated: Vec<String>,
    /// `Authorization` of the upgrades.
    signatures: Vec<String>,
    flags: Vec<Flag>,
}

struct World {
    fault: Mutex<Fault>,
    /// Codes with which the next calls are refused; an empty one answers a resume without a token.
    refusals: Mutex<VecDeque<(StatusCode, &'static str)>>,
    seen: Mutex<Seen>,
    changed: Notify,
    agent: Mutex<Agent>,
    /// The agent has something to send.
    kick: Notify,
    channel_url: String,
}

struct Service {
    world: Arc<World>,
    endpoint: String,
    tasks: JoinSet<()>,
}

impl Service {
    async fn start(fault: Fault) -> Self {
        let calls = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let channels = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", calls.local_addr().unwrap());
        let channel_url = format!(
            "ws://{}/v1/data-channel/s-1?role=publish_subscribe&cell-number=AAEL%2B",
            channels.local_addr().unwrap()
        );
        let world = Arc::new(World {
            fault: Mutex::new(fault),
            refusals: Mutex::default(),
            seen: Mutex::default(),
            changed: Notify::new(),
            agent: Mutex::default(),
            kick: Notify::new(),
            channel_url,
        });
        let router = axum::Router::new().fallback(call).with_state(Arc::clone(&world));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(calls, router).await.unwrap() });
        let shared = Arc::clone(&world);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = channels.accept().await {
                connections.spawn(serve_channel(stream, Arc::clone(&shared)));
            }
        });
        Self { world, endpoint, tasks }
    }

    /// From now on the machine's side is what listens on `port`, and no longer the echo.
    async fn relay_to(&mut self, port: u16) {
        let (sender, mut from_client) = mpsc::unbounded_channel::<Bytes>();
        self.world.agent.lock().unwrap().machine = Some(sender);
        let world = Arc::clone(&self.world);
        self.tasks.spawn(async move {
            // The agent dials when the session begins; here the connection is there before.
            let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let mut buffer = [0; 1024];
            loop {
                tokio::select! {
                    count = read.read(&mut buffer) => {
                        let Ok(count @ 1..) = count else { return };
                        world.agent.lock().unwrap().take_from_machine(&buffer[..count]);
                        world.kick.notify_one();
                    }
                    bytes = from_client.recv() => write.write_all(&bytes.unwrap()).await.unwrap(),
                }
            }
        });
    }

    fn transport(&self, resume_deadline: Duration) -> SsmTransport {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("eu-west-1"))
            .endpoint_url(&self.endpoint)
            .retry_config(RetryConfig::disabled())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        SsmTransport::new(&sdk, SsmOptions { resume_deadline })
    }

    fn refuse(&self, refusals: &[(StatusCode, &'static str)]) {
        self.world.refusals.lock().unwrap().extend(refusals);
    }

    async fn until(&self, what: impl Fn(&Seen) -> bool) {
        let waiting = async {
            loop {
                let changed = self.world.changed.notified();
                if what(&self.world.seen.lock().unwrap()) {
                    return;
                }
                changed.await;
            }
        };
        timeout(DEADLINE, waiting).await.expect("it should have happened by now");
    }
}

fn target() -> Target {
    Target { instance_id: "i-0123456789abcdef0".to_owned(), private_ip: None, port: 2022 }
}

async fn call(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let input: Value = serde_json::from_slice(&body).unwrap();
    let refusal = world.refusals.lock().unwrap().pop_front();
    if let Some((status, code)) = refusal
        && !code.is_empty()
    {
        return (status, json!({"__type": code, "message": "as asked"}).to_string());
    }
    let grant = json!({"SessionId": "s-1", "TokenValue": "token", "StreamUrl": world.channel_url});
    let mut seen = world.seen.lock().unwrap();
    let answer = match headers["x-amz-target"].to_str().unwrap() {
        "AmazonSSM.StartSession" => {
            seen.started.push(input);
            grant
        }
        "AmazonSSM.ResumeSession" if refusal.is_some() => json!({"SessionId": "s-1"}),
        "AmazonSSM.ResumeSession" => {
            seen.resumed += 1;
            grant
        }
        "AmazonSSM.TerminateSession" => {
            seen.terminated.push(input["SessionId"].as_str().unwrap().to_owned());
            json!({"SessionId": "s-1"})
        }
        other => panic!("{other}"),
    };
    world.changed.notify_waiters();
    (StatusCode::OK, answer.to_string())
}

#[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
async fn serve_channel(stream: TcpStream, world: Arc<World>) {
    let note = |request: &Request, response: Response| {
        let signature =
            request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        world.seen.lock().unwrap().signatures.extend(signature);
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, note).await else { return };
    let Some(Ok(Frame::Text(opening))) = socket.next().await else { return };
    let opening: Value = serde_json::from_str(&opening).unwrap();
    assert_eq!((&opening["MessageSchemaVersion"], &opening["TokenValue"]), (&json!("1.0"), &json!("token")));
    let fault = *world.fault.lock().unwrap();
    if fault == Fault::Mute {
        while socket.next().await.is_some() {}
        return;
    }
    world.agent.lock().unwrap().connected();
    let mut frames = 0;
    let mut tick = interval(Duration::from_millis(20));
    loop {
        let out = std::mem::take(&mut world.agent.lock().unwrap().out);
        for frame in out {
            if socket.feed(Frame::Binary(frame)).await.is_err() {
                return;
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
        let frame = tokio::select! {
            frame = socket.next() => frame,
            () = world.kick.notified() => continue,
            _ = tick.tick() => {
                world.agent.lock().unwrap().tick();
                continue;
            }
        };
        match frame {
            Some(Ok(Frame::Binary(frame))) => {
                frames += 1;
                let flag = world.agent.lock().unwrap().on_frame(&frame, fault);
                world.seen.lock().unwrap().flags.extend(flag);
                world.changed.notify_waiters();
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
        match fault {
            Fault::Cut(after) if frames >= after => return,
            Fault::Bye(after) if frames >= after => {
                let bye = CloseFrame { code: 1000.into(), reason: "Bye".into() };
                drop(socket.close(Some(bye)).await);
                return;
            }
            Fault::Cut(_)
            | Fault::Bye(_)
            | Fault::None
            | Fault::NothingListens
            | Fault::Mute
            | Fault::Leave
            | Fault::Race => {}
        }
    }
}

/// One session's agent.
#[derive(Default)]
struct Agent {
    expected: i64,
    waiting: BTreeMap<i64, Message>,
    next_sequence: i64,
    unacked: BTreeMap<i64, Bytes>,
    out: Vec<Bytes>,
    ticks: usize,
    deaf_until: Option<Instant>,
    /// Instead of the echo.
    machine: Option<mpsc::UnboundedSender<Bytes>>,
    /// What the machine said before the handshake was over.
    early: Vec<u8>,
    complete: bool,
}

impl Agent {
    fn connected(&mut self) {
        self.out = self.unacked.values().cloned().collect();
        if self.next_sequence == 0 {
            let request = json!({"AgentVersion": "3.3.987.0", "RequestedClientActions": [
                {"ActionType": "SessionType", "ActionParameters": {"SessionType": "Port", "Properties": {}}}]});
            self.push(PayloadKind::HandshakeRequest, request.to_string().into());
        }
    }

    /// Resends the oldest, as the agent does.
    fn tick(&mut self) {
        self.ticks += 1;
        if self.ticks.is_multiple_of(10) {
            self.out.extend(self.unacked.values().next().cloned());
        }
    }

    fn on_frame(&mut self, frame: &Bytes, fault: Fault) -> Option<Flag> {
        let message = Message::decode(frame).unwrap();
        if message.kind == MessageKind::Acknowledge {
            let ack: Value = serde_json::from_slice(&message.payload).unwrap();
            self.unacked.remove(&ack["AcknowledgedMessageSequenceNumber"].as_i64().unwrap());
            return None;
        }
        assert_eq!(message.kind, MessageKind::Input);
        let ack = json!({"AcknowledgedMessageType": "input_stream_data", "AcknowledgedMessageId": message.id.to_string(),
            "AcknowledgedMessageSequenceNumber": message.sequence, "IsSequentialMessage": true});
        self.out.push(encode(MessageKind::Acknowledge, 0, PayloadKind::Other(0), ack.to_string().into()));
        if message.sequence >= self.expected {
            self.waiting.insert(message.sequence, message);
        }
        let mut flag = None;
        while let Some(message) = self.waiting.remove(&self.expected) {
            self.expected += 1;
            flag = self.on_ordered(message, fault).or(flag);
        }
        flag
    }

    fn on_ordered(&mut self, message: Message, fault: Fault) -> Option<Flag> {
        match message.payload_kind {
            PayloadKind::HandshakeResponse => {
                let response: Value = serde_json::from_slice(&message.payload).unwrap();
                assert_eq!(response["ProcessedClientActions"][0]["ActionStatus"], 1);
                self.push(PayloadKind::HandshakeComplete, Bytes::from_static(b"{}"));
                self.complete = true;
                if self.machine.is_some() {
                    let early = std::mem::take(&mut self.early);
                    self.take_from_machine(&early);
                    return None;
                }
                match fault {
                    Fault::NothingListens => {
                        self.push(
                            PayloadKind::Flag,
                            Bytes::copy_from_slice(&Flag::ConnectToPortError.payload()),
                        );
                    }
                    Fault::Race => self.deaf_until = Some(Instant::now() + Duration::from_millis(50)),
                    Fault::None | Fault::Bye(_) | Fault::Cut(_) | Fault::Mute | Fault::Leave => {}
                }
                if fault != Fault::NothingListens {
                    self.push(PayloadKind::Output, Bytes::from_static(BANNER));
                }
                None
            }
            PayloadKind::Output if fault == Fault::Leave => {
                self.push(PayloadKind::Output, Bytes::from_static(b"bye"));
                let closed = json!({"SessionId": "s-1", "Output": "sshd is gone"}).to_string();
                self.out.push(encode(MessageKind::ChannelClosed, 0, PayloadKind::Other(0), closed.into()));
                None
            }
            PayloadKind::Output if self.machine.is_some() => {
                self.machine.as_ref().unwrap().send(message.payload).unwrap();
                None
            }
            PayloadKind::Output => {
                if self.deaf_until.is_none_or(|until| Instant::now() >= until) {
                    self.push(PayloadKind::Output, message.payload);
                }
                None
            }
            PayloadKind::Flag => Flag::parse(&message.payload),
            PayloadKind::HandshakeRequest | PayloadKind::HandshakeComplete | PayloadKind::Other(_) => {
                panic!("the agent got {message:?}")
            }
        }
    }

    fn take_from_machine(&mut self, bytes: &[u8]) {
        if !self.complete {
            self.early.extend_from_slice(bytes);
        } else if !bytes.is_empty() {
            self.push(PayloadKind::Output, Bytes::copy_from_slice(bytes));
        }
    }

    fn push(&mut self, payload_kind: PayloadKind, payload: Bytes) {
        let frame = encode(MessageKind::Output, self.next_sequence, payload_kind, payload);
        self.unacked.insert(self.next_sequence, frame.clone());
        self.out.push(frame);
        self.next_sequence += 1;
    }
}

fn encode(kind: MessageKind, sequence: i64, payload_kind: PayloadKind, payload: Bytes) -> Bytes {
    Message { kind, created: 1, sequence, flags: 3, id: Uuid::new_v4(), payload_kind, payload }.encode()
}

async fn banner(stream: &mut ByteStream) {
    let mut banner = vec![0; BANNER.len()];
    stream.read_exact(&mut banner).await.unwrap();
    assert_eq!(banner, BANNER);
}

/// Sends `len` bytes and checks that the same come back.
async fn echo(stream: &mut ByteStream, len: usize) {
    let sent: Vec<u8> =
        (0..len).map(|at| (at % 251).to_le_bytes()[0] ^ (at / 1000).to_le_bytes()[0]).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let mut back = vec![0; len];
    let moving = async { tokio::join!(write.write_all(&sent), read.read_exact(&mut back)) };
    let (written, got) = timeout(DEADLINE, moving).await.unwrap();
    written.unwrap();
    got.unwrap();
    assert!(back == sent, "what came back is not what was sent");
}

#[tokio::test]
async fn a_session_carries_bytes_and_is_terminated_when_its_stream_is_dropped() {
    let service = Service::start(Fault::None).await;
    let transport = service.transport(DEADLINE);
    let began = Instant::now();
    let mut stream = transport.open(&target()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "opening took {:?}", began.elapsed());
    banner(&mut stream).await;
    echo(&mut stream, 300_000).await;
    {
        let seen = service.world.seen.lock().unwrap();
        let expected = json!({"Target": "i-0123456789abcdef0", "DocumentName": "AWS-StartSSHSession",
            "Parameters": {"portNumber": ["2022"]}, "Reason": "orca"});
        assert_eq!(seen.started, [expected]);
        assert!(seen.signatures[0].contains("/eu-west-1/ssmmessages/aws4_request"), "{:?}", seen.signatures);
        assert!(seen.terminated.is_empty());
    }
    stream.write_all(b"last words").await.unwrap();
    drop(stream);
    service.until(|seen| seen.terminated == ["s-1"]).await;
    assert_eq!(service.world.seen.lock().unwrap().flags, [Flag::TerminateSession]);
}

#[tokio::test]
async fn the_hourly_close_is_resumed_without_anybody_noticing() {
    let service = Service::start(Fault::Bye(40)).await;
    let transport = service.transport(DEADLINE);
    let mut stream = transport.open(&target()).await.unwrap();
    banner(&mut stream).await;
    echo(&mut stream, 50_000).await;
    let seen = service.world.seen.lock().unwrap();
    assert!(seen.resumed >= 1 && seen.started.len() == 1, "resumed {}", seen.resumed);
    assert_eq!(seen.signatures.len(), seen.resumed + 1);
}

#[tokio::test]
async fn connections_cut_in_the_middle_lose_and_double_nothing() {
    let service = Service::start(Fault::Cut(97)).await;
    let transport = service.transport(DEADLINE);
    let mut stream = transport.open(&target()).await.unwrap();
    banner(&mut stream).await;
    // How many frames that is depends on how many of them one acknowledgement answers.
    for _ in 0..20 {
        echo(&mut stream, 50_000).await;
        if service.world.seen.lock().unwrap().resumed >= 2 {
            return;
        }
    }
    panic!("not cut twice");
}

#[tokio::test]
async fn a_reader_that_pauses_holds_the_writer_back_and_loses_nothing() {
    let service = Service::start(Fault::None).await;
    let transport = service.transport(DEADLINE);
    let mut stream = transport.open(&target()).await.unwrap();
    banner(&mut stream).await;
    let sent = vec![7_u8; 8 * 1024 * 1024];
    let (mut read, mut write) = tokio::io::split(stream);
    let mut writing = Box::pin(write.write_all(&sent));
    let held = timeout(Duration::from_secs(1), &mut writing).await;
    assert!(held.is_err(), "8 MiB were taken with nobody reading");
    let mut back = vec![0; sent.len()];
    let (written, got) = tokio::join!(writing, timeout(DEADLINE * 2, read.read_exact(&mut back)));
    written.unwrap();
    got.unwrap().unwrap();
    assert!(back == sent);
}

#[tokio::test]
async fn what_is_written_at_once_survives_the_agents_race() {
    let service = Service::start(Fault::Race).await;
    let transport = service.transport(DEADLINE);
    let mut stream = transport.open(&target()).await.unwrap();
    stream.write_all(b"at once").await.unwrap();
    banner(&mut stream).await;
    let mut back = [0; 7];
    timeout(DEADLINE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"at once");
}

#[tokio::test]
async fn refusals_say_what_to_do_next() {
    let service = Service::start(Fault::None).await;
    let transport = service.transport(DEADLINE);
    service.refuse(&[(StatusCode::BAD_REQUEST, "TargetNotConnected")]);
    assert!(matches!(transport.open(&target()).await, Err(TunnelError::NotYet(_))));
    service.refuse(&[(StatusCode::BAD_REQUEST, "AccessDeniedException")]);
    assert!(matches!(transport.open(&target()).await, Err(TunnelError::Refused(Refusal::Denied(_)))));
    service.refuse(&[(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")]);
    let away = transport.open(&target()).await;
    assert!(matches!(away, Err(TunnelError::Refused(Refusal::Unavailable(_)))));
    // Being throttled is waited out.
    service.refuse(&[(StatusCode::BAD_REQUEST, "ThrottlingException")]);
    assert!(transport.open(&target()).await.is_ok());
}

#[tokio::test]
async fn a_port_on_which_nothing_listens_is_not_yet_and_its_session_is_terminated() {
    let service = Service::start(Fault::NothingListens).await;
    let transport = service.transport(DEADLINE);
    let refused = transport.open(&target()).await;
    assert!(matches!(refused, Err(TunnelError::NotYet(_))));
    service.until(|seen| seen.terminated.len() == 1).await;
}

#[tokio::test]
async fn giving_up_on_a_mute_agent_terminates_its_session() {
    let service = Service::start(Fault::Mute).await;
    let transport = service.transport(DEADLINE);
    assert!(timeout(Duration::from_millis(500), transport.open(&target())).await.is_err());
    service.until(|seen| seen.started.len() == 1 && seen.terminated.len() == 1).await;
}

#[tokio::test]
async fn the_end_of_the_machines_connection_is_an_end_of_file() {
    let service = Service::start(Fault::Leave).await;
    let transport = service.transport(DEADLINE);
    let mut stream = transport.open(&target()).await.unwrap();
    banner(&mut stream).await;
    stream.write_all(b"hello").await.unwrap();
    let mut said = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, b"bye");
}

#[tokio::test]
async fn a_session_that_cannot_be_resumed_in_time_is_lost() {
    let service = Service::start(Fault::Cut(5)).await;
    let transport = service.transport(Duration::from_secs(1));
    let mut stream = transport.open(&target()).await.unwrap();
    banner(&mut stream).await;
    service.refuse(&[(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"); 20]);
    stream.write_all(b"into the void").await.unwrap();
    let mut rest = Vec::new();
    let lost = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap().unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::ConnectionReset);
    assert!(lost.to_string().contains("not resumed within 1s"), "{lost}");
}

#[tokio::test]
async fn a_session_that_is_gone_is_lost_at_once() {
    let service = Service::start(Fault::Cut(5)).await;
    let transport = service.transport(DEADLINE * 10);
    let mut stream = transport.open(&target()).await.unwrap();
    banner(&mut stream).await;
    service.refuse(&[(StatusCode::OK, "")]);
    stream.write_all(b"into the void").await.unwrap();
    let lost = timeout(DEADLINE, stream.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert!(lost.to_string().contains("the session is gone"), "{lost}");
}

#[tokio::test]
async fn shutting_down_waits_for_sessions_to_be_terminated() {
    let service = Service::start(Fault::None).await;
    let transport = service.transport(DEADLINE);
    let mut streams = Vec::new();
    for _ in 0..2 {
        *service.world.agent.lock().unwrap() = Agent::default();
        streams.push(transport.open(&target()).await.unwrap());
        sleep(Duration::from_millis(50)).await;
    }
    drop(streams);
    transport.shutdown(DEADLINE).await;
    assert_eq!(service.world.seen.lock().unwrap().terminated.len(), 2);
}

#[tokio::test]
async fn ssh_goes_on_over_a_session_whose_connections_are_cut() {
    let Some(sshd) = Sshd::start("over-ssm").await else { return };
    let mut service = Service::start(Fault::Cut(600)).await;
    service.relay_to(sshd.listening().await).await;
    let transport = service.transport(DEADLINE);
    let stream = transport.open(&target()).await.unwrap();
    let ssh = SshConnection::connect(stream, &sshd.options(), DEADLINE).await.unwrap();
    let input = "0123456789".repeat(100_000);
    let output = ssh.exec("cat", input.as_bytes(), DEADLINE).await.unwrap();
    assert_eq!(output.code, Some(0));
    assert!(output.stdout == input.as_bytes());
    assert!(service.world.seen.lock().unwrap().resumed >= 2);
    assert!(ssh.is_open());
    ssh.close().await;
    service.until(|seen| seen.terminated == ["s-1"]).await;
}
