//! SSM: refuses everything.

use std::sync::Arc;

use axum::Router;
use serde_json::Value;

use crate::aws::JsonError;
use crate::world::World;

/// The service.
#[derive(Debug)]
pub struct Ssm {
    _world: Arc<World>,
    _base_url: String,
}

impl Ssm {
    /// `base_url` is where callers reach this cloud, such as `http://127.0.0.1:4566`.
    #[must_use]
    pub fn new(world: Arc<World>, base_url: String) -> Arc<Self> {
        Arc::new(Self { _world: world, _base_url: base_url })
    }

    /// `GET /v1/data-channel/{session}`.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
    }

    /// Answers `AmazonSSM.{operation}`.
    pub async fn call(self: &Arc<Self>, operation: &str, _body: Value) -> Result<Value, JsonError> {
        let message = format!("the operation {operation} does not exist");
        Err(JsonError { status: 400, code: "UnknownOperationException".to_owned(), message })
    }
}
