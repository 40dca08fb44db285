//! Scheduled events of instances, as tests announce, put off and cancel them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, ControlError, body, done};
use crate::clock;
use crate::world::World;
use crate::world::events::{Event, EventCode, Progress};
use crate::world::ids;
use crate::world::instance;
use crate::world::state::Cloud;

/// A new one; times count from now.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    code: EventCode,
    not_before_ms: u64,
    not_after_ms: Option<u64>,
    /// By default what EC2 says of such events.
    description: Option<String>,
}

/// Another time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    not_before_ms: u64,
    not_after_ms: Option<u64>,
}

type Shared = State<Arc<World>>;

fn later(now: Timestamp, ms: u64) -> Timestamp {
    clock::after(now, Duration::from_millis(ms))
}

/// Announces one; answers its id.
pub(super) async fn schedule(State(world): Shared, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let New { code, not_before_ms, not_after_ms, description } = body(&bytes)?;
    world.change(|cloud, now| {
        let instance = cloud
            .instances
            .get_mut(&id)
            .ok_or_else(|| ControlError::NotFound(format!("no instance `{id}`")))?;
        if instance.state != instance::State::Running {
            let state = instance.state.name();
            return Err(ControlError::Conflict(format!("`{id}` is {state}, expected running")));
        }
        let event = Event {
            id: ids::fresh("instance-event"),
            code,
            words: description.unwrap_or_else(|| code.words().to_owned()),
            not_before: later(now, not_before_ms),
            not_after: not_after_ms.map(|ms| later(now, ms)),
            progress: Progress::Scheduled,
        };
        let answer = json!({ "id": event.id });
        instance.events.push(event);
        cloud.settle(now);
        Ok(axum::Json(answer))
    })
}

/// Puts one off, or brings it forward.
pub(super) async fn change(
    State(world): Shared,
    Path((id, event)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let Change { not_before_ms, not_after_ms } = body(&bytes)?;
    world.change(|cloud, now| {
        let found = open(cloud, &id, &event)?;
        found.not_before = later(now, not_before_ms);
        found.not_after = not_after_ms.map(|ms| later(now, ms));
        cloud.settle(now);
        done()
    })
}

/// It will not be.
pub(super) async fn cancel(State(world): Shared, Path((id, event)): Path<(String, String)>) -> Answer {
    world.change(|cloud, _| {
        open(cloud, &id, &event)?.progress = Progress::Canceled;
        done()
    })
}

/// An event that is still to come.
fn open<'a>(cloud: &'a mut Cloud, id: &str, event: &str) -> Result<&'a mut Event, ControlError> {
    let found = cloud.instances.get_mut(id).and_then(|instance| instance.event(event));
    let found = found.ok_or_else(|| ControlError::NotFound(format!("no event `{event}` of `{id}`")))?;
    match found.progress {
        Progress::Scheduled => Ok(found),
        Progress::Completed | Progress::Canceled => {
            Err(ControlError::Conflict(format!("`{event}` is over: {}", found.description())))
        }
    }
}
