//! A world with machines that are sockets in this process, and the service on a loopback port.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Json;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use localstack::machine::{Freeze, MachineEvent, MachineSpec, Machines, Notices};
use localstack::ssm::{Cut, InstanceFacts, JsonError, Ssm, SsmWorld};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UnixStream};
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;

/// Sends back what it gets.
pub(crate) const ECHO: u16 = 7;
/// Closes at once.
pub(crate) const CLOSES: u16 = 8;
/// Nothing listens.
pub(crate) const REFUSES: u16 = 9;
/// Sends [`SOURCE_BYTES`] bytes of [`pattern`], then closes.
pub(crate) const SOURCE: u16 = 19;
pub(crate) const SOURCE_BYTES: usize = 200_000;
/// Takes the connection and never reads from it.
pub(crate) const STALLS: u16 = 20;
/// Answers once it has [`ASKED_BYTES`].
pub(crate) const ANSWERS: u16 = 21;
pub(crate) const ASKED_BYTES: usize = 1000 * 1024;
pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
pub(crate) const OTHER: &str = "i-0123456789abcdef1";

/// Bytes in which a lost, doubled or moved one shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n * 7 + n / 251 + n / 65_537) % 256).unwrap()).collect()
}

#[derive(Debug)]
pub(crate) struct World {
    running: Mutex<BTreeSet<String>>,
    online: Mutex<BTreeSet<String>>,
    cuts: broadcast::Sender<Cut>,
    tasks: Mutex<JoinSet<()>>,
    /// Told when [`ANSWERS`] has written its answer.
    pub(crate) answered: Arc<Notify>,
    /// What the signature check says.
    pub(crate) signature: Mutex<Result<(), JsonError>>,
    /// `Authorization` of the upgrades that it was asked about.
    pub(crate) checked: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let both = || Mutex::new([INSTANCE, OTHER].into_iter().map(str::to_owned).collect());
        Arc::new(Self {
            running: both(),
            online: both(),
            cuts: broadcast::channel(8).0,
            tasks: Mutex::default(),
            answered: Arc::default(),
            signature: Mutex::new(Ok(())),
            checked: Mutex::default(),
        })
    }

    pub(crate) fn cut(&self, cut: Cut) {
        self.cuts.send(cut).unwrap();
    }

    /// The agent's connection is lost, the instance runs.
    pub(crate) fn disconnect_agent(&self, id: &str) {
        self.online.lock().unwrap().remove(id);
    }

    /// Cuts the power.
    pub(crate) fn kill(&self, id: &str) {
        self.running.lock().unwrap().remove(id);
        self.tasks.lock().unwrap().abort_all();
    }
}

/// The machines' side of [`World`].
#[derive(Debug)]
pub(crate) struct Sockets(Arc<World>);

impl SsmWorld for Sockets {
    fn region(&self) -> String {
        "us-east-1".to_owned()
    }

    fn instance(&self, id: &str) -> Option<InstanceFacts> {
        self.instances().into_iter().find(|facts| facts.id == id)
    }

    fn instances(&self) -> Vec<InstanceFacts> {
        let running = self.0.running.lock().unwrap();
        running
            .iter()
            .map(|id| InstanceFacts {
                id: id.clone(),
                private_ip: Ipv4Addr::new(10, 0, 0, 4),
                host_name: "ip-10-0-0-4".to_owned(),
            })
            .collect()
    }

    fn machines(&self) -> Option<Arc<dyn Machines>> {
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }

    fn parameter(&self, name: &str) -> Option<String> {
        (name == "/aws/service/ami").then(|| "ami-1".to_owned())
    }

    fn verify_upgrade(&self, request: &http::request::Parts) -> Result<(), JsonError> {
        let authorization = request.headers["authorization"].to_str().unwrap().to_owned();
        self.0.checked.lock().unwrap().push(authorization);
        self.0.signature.lock().unwrap().clone()
    }

    fn cuts(&self) -> broadcast::Receiver<Cut> {
        self.0.cuts.subscribe()
    }
}

#[async_trait]
impl Machines for Sockets {
    async fn boot(&self, _: MachineSpec) -> anyhow::Result<()> {
        Ok(())
    }
    async fn shut_down(&self, _: &str) {}
    async fn destroy(&self, _: &str) {}
    async fn power_cycle(&self, _: &str) -> anyhow::Result<()> {
        Ok(())
    }
    async fn freeze(&self, _: &str, _: Freeze) -> anyhow::Result<()> {
        Ok(())
    }
    fn console(&self, _: &str) -> String {
        String::new()
    }
    fn agent_online(&self, id: &str) -> bool {
        self.0.online.lock().unwrap().contains(id)
    }
    async fn dial(&self, _: &str, port: u16) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        match port {
            ECHO | CLOSES | SOURCE | STALLS | ANSWERS => {
                let answered = Arc::clone(&self.0.answered);
                self.0.tasks.lock().unwrap().spawn(serve(port, theirs, answered));
                Ok(ours)
            }
            _ => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connect: connection refused")),
        }
    }
    fn notify(&self, _: &str, _: Notices) {}
    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        broadcast::channel(1).1
    }
}

async fn serve(port: u16, mut stream: UnixStream, answered: Arc<Notify>) {
    match port {
        ECHO => {
            let (mut reader, mut writer) = stream.split();
            tokio::io::copy(&mut reader, &mut writer).await.ok();
        }
        SOURCE => {
            stream.write_all(&pattern(SOURCE_BYTES)).await.ok();
        }
        STALLS => std::future::pending().await,
        ANSWERS => {
            if stream.read_exact(&mut vec![0; ASKED_BYTES]).await.is_ok() {
                stream.write_all(b"answer").await.ok();
                answered.notify_one();
                std::future::pending().await
            }
        }
        _ => {
            stream.read_u8().await.ok();
        }
    }
}

/// The service on loopback: operations at `POST /`, data channels beside it.
pub(crate) struct Service {
    pub(crate) world: Arc<World>,
    pub(crate) ssm: Arc<Ssm>,
    pub(crate) address: SocketAddr,
    _server: JoinSet<()>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::on(TcpSocket::new_v4().unwrap())
    }

    /// With connections that are full soon.
    pub(crate) fn narrow() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        Self::on(socket)
    }

    fn on(socket: TcpSocket) -> Self {
        let world = World::new();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let ssm = Ssm::new(Arc::new(Sockets(Arc::clone(&world))), format!("http://{address}"));
        let operations = Arc::clone(&ssm);
        let call = move |headers: http::HeaderMap, body: String| async move {
            let target = headers["x-amz-target"].to_str().unwrap().to_owned();
            let operation = target.strip_prefix("AmazonSSM.").unwrap();
            let answered = operations.call(operation, serde_json::from_str(&body).unwrap()).await;
            answered.map_or_else(IntoResponse::into_response, |answer| -> Response {
                Json(answer).into_response()
            })
        };
        let router = Arc::clone(&ssm).router().route("/", post(call));
        let mut server = JoinSet::new();
        server.spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { world, ssm, address, _server: server }
    }

    /// With these settings.
    pub(crate) async fn configured(patch: Value) -> Self {
        let service = Self::start().await;
        service.ssm.configure(&patch).unwrap();
        service
    }

    pub(crate) async fn call(&self, operation: &str, body: Value) -> Result<Value, JsonError> {
        self.ssm.call(operation, body).await
    }
}
