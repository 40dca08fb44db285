//! Amazon CloudWatch Logs: groups, streams and their events, with the service's limits, order, tokens and delay.
//!
//! `store`, `batch`, `read` and `filter` are pure: data in, data out. Around them are the operations, one family a
//! file: they read a request, refuse what the service refuses, and lock the state for as long as they look at it.

mod batch;
mod cursor;
mod events;
mod filter;
mod groups;
mod members;
mod operation;
mod read;
mod settings;
mod store;
mod streams;

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use self::members::{Owner, invalid};
pub use self::operation::{Operation, Throttling};
pub use self::settings::Settings;
use self::store::{Store, StoreError};
use crate::aws::json::JsonError;
use crate::patch;
use crate::world::throttle::Buckets;

/// What `X-Amz-Target` begins with.
pub const TARGET: &str = "Logs_20140328.";

/// The service.
#[derive(Debug)]
pub struct Logs {
    owner: Owner,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    store: Store,
    settings: Settings,
    buckets: Buckets,
}

impl Logs {
    /// The service of an account in a region, without groups.
    #[must_use]
    pub fn new(region: &str, account: &str) -> Self {
        let owner = Owner { region: region.to_owned(), account: account.to_owned() };
        Self { owner, state: Mutex::default() }
    }

    /// Answers an operation, the part of `X-Amz-Target` after [`TARGET`], with JSON or nothing.
    ///
    /// # Errors
    /// As AWS has them; `UnknownOperationException` for what is not here.
    pub fn call(&self, operation: &str, body: Value, now: Timestamp) -> Result<String, JsonError> {
        let operation = Operation::named(operation).ok_or_else(|| {
            let message = format!("`{operation}` is not an operation of this CloudWatch Logs");
            JsonError::caller("UnknownOperationException", message)
        })?;
        self.admit(operation, now)?;
        let now = now.as_millisecond();
        match operation {
            Operation::CreateLogGroup => groups::create(self, body, now),
            Operation::DeleteLogGroup => groups::delete(self, body),
            Operation::DescribeLogGroups => groups::describe(self, body),
            Operation::PutRetentionPolicy => groups::put_retention(self, body),
            Operation::DeleteRetentionPolicy => groups::delete_retention(self, body),
            Operation::TagResource => groups::tag(self, body),
            Operation::UntagResource => groups::untag(self, body),
            Operation::ListTagsForResource => groups::list_tags(self, body),
            Operation::CreateLogStream => streams::create(self, body, now),
            Operation::DeleteLogStream => streams::delete(self, body),
            Operation::DescribeLogStreams => streams::describe(self, body, now),
            Operation::PutLogEvents => events::put(self, body, now),
            Operation::GetLogEvents => events::get(self, body, now),
            Operation::FilterLogEvents => events::filter(self, body, now),
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// Changes the settings that `patch` (an object with members of [`Settings`]) names, and returns all. Fills the
    /// token buckets.
    ///
    /// # Errors
    /// When it names what is not there, or with the wrong type; then nothing is changed.
    pub fn configure(&self, patch: &Value) -> Result<Settings, serde_json::Error> {
        let mut state = self.lock();
        state.settings = patch::patched(&state.settings, patch)?;
        state.buckets = Buckets::default();
        Ok(state.settings.clone())
    }

    fn admit(&self, operation: Operation, now: Timestamp) -> Result<(), JsonError> {
        let mut state = self.lock();
        let Some(rate) = state.settings.throttle.rate(operation) else { return Ok(()) };
        state
            .buckets
            .take(format!("{operation:?}"), rate, 1, now)
            .map_err(|_| JsonError::caller("ThrottlingException", "Rate exceeded"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer of an operation that has nothing to tell.
fn done() -> Result<String, JsonError> {
    Ok(String::new())
}

fn answer<T: Serialize>(value: &T) -> Result<String, JsonError> {
    serde_json::to_string(value).map_err(|error| JsonError::internal(error.to_string()))
}

impl From<StoreError> for JsonError {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::GroupExists | StoreError::StreamExists => "ResourceAlreadyExistsException",
            StoreError::NoGroup | StoreError::NoStream => "ResourceNotFoundException",
            StoreError::Groups(_)
            | StoreError::Streams(_)
            | StoreError::StreamBytes(_)
            | StoreError::Bytes(_) => "LimitExceededException",
        };
        Self::caller(code, error.to_string())
    }
}

impl From<batch::BatchError> for JsonError {
    fn from(error: batch::BatchError) -> Self {
        invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests;
