//! SSM: refuses everything.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::machine::Machines;

/// An error of JSON 1.1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct JsonError {
    /// 400 for the caller's faults, 500 for ours.
    pub status: u16,
    /// Such as `TargetNotConnected`.
    pub code: String,
    pub message: String,
}

/// Data channels to be cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// All machines if there is none.
    pub instance_id: Option<String>,
    pub duration_ms: u64,
}

/// What the service needs of the rest of the cloud.
pub trait SsmWorld: Send + Sync + fmt::Debug {
    fn region(&self) -> String;
    /// The instance with this id if it is running.
    fn instance(&self, id: &str) -> Option<InstanceFacts>;
    /// All running instances.
    fn instances(&self) -> Vec<InstanceFacts>;
    /// What instances are made of.
    fn machines(&self) -> Option<Arc<dyn Machines>>;
    /// The value of a parameter, by its full name.
    fn parameter(&self, name: &str) -> Option<String>;
    /// Checks the signature of a WebSocket upgrade.
    fn verify_upgrade(&self, request: &http::request::Parts) -> Result<(), JsonError>;
    /// Cuts as tests ask for them.
    fn cuts(&self) -> broadcast::Receiver<Cut>;
}

/// A running instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    pub id: String,
    pub private_ip: Ipv4Addr,
    pub host_name: String,
}

/// Nothing to set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

/// The service.
#[derive(Debug)]
pub struct Ssm {
    _world: Arc<dyn SsmWorld>,
}

impl Ssm {
    /// The service for clients that reach it at `base_url`.
    #[must_use]
    pub fn new(world: Arc<dyn SsmWorld>, _base_url: String) -> Arc<Self> {
        Arc::new(Self { _world: world })
    }

    /// `/v1/data-channel/{session}`.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
    }

    /// Answers `AmazonSSM.{operation}`.
    pub async fn call(self: &Arc<Self>, operation: &str, _body: Value) -> Result<Value, JsonError> {
        let message = format!("`{operation}` is not an operation of this SSM");
        Err(JsonError { status: 400, code: "UnknownOperationException".to_owned(), message })
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {}
    }

    /// Changes the settings that `patch` names.
    pub fn configure(&self, patch: &Value) -> Result<Settings, serde_json::Error> {
        serde_json::from_value(patch.clone())
    }
}
