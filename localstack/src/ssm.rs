//! AWS Systems Manager, as far as port sessions need it: parameters, instance information, and Session Manager
//! with its data channel, where this service is relay and agent in one.
//!
//! It knows of instances what [`SsmWorld`] says, and reaches into them through [`Machines::dial`] alone.
//! The wire is AWS's: JSON 1.1 operations by [`Ssm::call`], WebSockets by [`Ssm::router`].

pub mod agent;
mod api;
mod book;
pub mod channel;
mod clock;
pub mod codec;
mod describe;
mod document;
mod faults;
pub mod handshake;
mod link;
pub mod payload;
mod session;
mod settings;
pub mod smux;
mod socket;
mod throttle;
mod upgrade;

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::routing::get;
use serde_json::Value;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::faults::{Cut, FrameFaults};
pub use self::settings::{Pace, Settings, UpgradeAuth};
pub use crate::aws::json::JsonError;
use crate::machine::Machines;

/// What the service needs of the rest of the cloud. Nothing here may block.
pub trait SsmWorld: Send + Sync + fmt::Debug {
    /// Such as `us-east-1`.
    fn region(&self) -> String;

    /// The instance with this id if it is running; its agent need not be up.
    fn instance(&self, id: &str) -> Option<InstanceFacts>;

    /// All running instances, in any order.
    fn instances(&self) -> Vec<InstanceFacts>;

    /// What instances are made of; `None` if they are states only, and then no agent is ever online.
    fn machines(&self) -> Option<Arc<dyn Machines>>;

    /// The value of a parameter, by its full name.
    fn parameter(&self, name: &str) -> Option<String>;

    /// Checks the SigV4 signature of a WebSocket upgrade: service `ssmmessages`, empty body, in the header or the
    /// query. Only asked when there is one.
    fn verify_upgrade(&self, request: &http::request::Parts) -> Result<(), JsonError>;

    /// Cuts as tests ask for them.
    fn cuts(&self) -> broadcast::Receiver<Cut>;
}

/// A running instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    pub id: String,
    pub private_ip: Ipv4Addr,
    /// As the machine calls itself.
    pub host_name: String,
}

/// The service.
pub struct Ssm {
    world: Arc<dyn SsmWorld>,
    /// `ws://host:port`, what stream URLs begin with.
    stream_base: String,
    settings: watch::Sender<Settings>,
    book: Arc<book::Book>,
    bucket: Mutex<throttle::Bucket>,
    cuts: Mutex<faults::Cuts>,
    /// Instances whose agents were seen once; they stay listed with their connection lost.
    registered: Mutex<std::collections::BTreeSet<String>>,
    tasks: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Ssm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ssm").field("stream_base", &self.stream_base).finish_non_exhaustive()
    }
}

impl Ssm {
    /// The service for clients that reach it at `base_url` (`http://host:port` or `https://…`). Its sessions
    /// end when it is dropped. To be called within a tokio runtime.
    #[must_use]
    pub fn new(world: Arc<dyn SsmWorld>, base_url: String) -> Arc<Self> {
        let settings = Settings::default();
        let bucket = throttle::Bucket::full(settings.start_session_burst, Instant::now());
        let mut cuts = world.cuts();
        let mut stream_base = base_url;
        if stream_base.starts_with("http") {
            stream_base.replace_range(..4, "ws");
        }
        stream_base.truncate(stream_base.trim_end_matches('/').len());
        let ssm = Arc::new(Self {
            world,
            stream_base,
            settings: watch::Sender::new(settings),
            book: Arc::default(),
            bucket: Mutex::new(bucket),
            cuts: Mutex::default(),
            registered: Mutex::default(),
            tasks: Mutex::default(),
        });
        let owner = Arc::downgrade(&ssm);
        ssm.spawn(async move {
            loop {
                match cuts.recv().await {
                    Ok(cut) => match owner.upgrade() {
                        Some(ssm) => ssm.cut(&cut),
                        None => return,
                    },
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "cuts were asked for faster than they are made");
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        ssm
    }

    /// The data channels, at `/v1/data-channel/{session}`. To be served with upgrades.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().route("/v1/data-channel/{session}", get(upgrade::data_channel)).with_state(self)
    }

    /// Answers an operation, the part of `X-Amz-Target` after `AmazonSSM.`, for a caller that is allowed to.
    ///
    /// # Errors
    /// As AWS has them; `UnknownOperationException` for what is not here.
    pub async fn call(self: &Arc<Self>, operation: &str, body: Value) -> Result<Value, JsonError> {
        match operation {
            "GetParameter" => describe::get_parameter(self, body),
            "DescribeInstanceInformation" => describe::instance_information(self, body),
            "StartSession" => api::start_session(self, body),
            "ResumeSession" => api::resume_session(self, body),
            "TerminateSession" => api::terminate_session(self, body).await,
            "DescribeSessions" => describe::sessions(self, body),
            other => Err(JsonError::caller(
                "UnknownOperationException",
                format!("`{other}` is not an operation of this SSM"),
            )),
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings.borrow().clone()
    }

    /// Changes the settings that `patch` (an object with members of [`Settings`]) names, and returns all.
    ///
    /// # Errors
    /// When it names what is not there, or with the wrong type; then nothing is changed.
    pub fn configure(&self, patch: &Value) -> Result<Settings, serde_json::Error> {
        let changed = self.settings.borrow().patched(patch)?;
        self.settings.send_replace(changed.clone());
        Ok(changed)
    }

    /// Drops the WebSockets of one machine's sessions, or of all, without a close frame, and refuses new ones.
    pub fn cut(&self, cut: &Cut) {
        let now = Instant::now();
        locked(&self.cuts).add(cut, now);
        for record in self.book.all() {
            let covered = cut.instance_id.as_deref().is_none_or(|id| id == record.target);
            if covered && record.commands.try_send(session::Command::Cut).is_err() {
                tracing::debug!(session.id = record.id, "no session to cut");
            }
        }
    }

    fn is_cut(&self, instance_id: &str) -> bool {
        locked(&self.cuts).covers(instance_id, Instant::now())
    }

    /// The machines, if the instance is running and its agent connected.
    fn connected(&self, instance_id: &str) -> Option<Arc<dyn Machines>> {
        self.world.instance(instance_id)?;
        self.world
            .machines()
            .filter(|machines| machines.agent_online(instance_id) && !self.is_cut(instance_id))
    }

    /// Runs a task for as long as the service lives.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = locked(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
