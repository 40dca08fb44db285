//! What is remembered of an instance for good: enough to say, long after its end, for whom it ran, when, and why it
//! ended.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::instance::{Instance, Reason, State};

/// An instance's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Past {
    pub id: String,
    pub instance_type: String,
    /// `spot` and the like; `None` on demand.
    pub lifecycle: Option<&'static str>,
    pub zone: String,
    pub client_token: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub launched_at: Timestamp,
    pub history: Vec<Step>,
    /// Why it ended.
    pub reason: Option<Reason>,
}

/// A state that it came into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    #[serde(serialize_with = "name")]
    pub state: State,
    pub at: Timestamp,
}

fn name<S: Serializer>(state: &State, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.name())
}

impl Past {
    /// The life of an instance so far.
    #[must_use]
    pub fn of(instance: &Instance) -> Self {
        Self {
            id: instance.id.clone(),
            instance_type: instance.kind.name.to_owned(),
            lifecycle: instance.purchase.lifecycle.name(),
            zone: instance.subnet.zone.clone(),
            client_token: instance.client_token.clone(),
            tags: instance.tags.clone(),
            launched_at: instance.launched,
            history: instance.history.iter().map(|&(state, at)| Step { state, at }).collect(),
            reason: instance.reason.clone(),
        }
    }
}
