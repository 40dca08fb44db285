//! What can be done to an instance from outside.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use serde::Deserialize;

use super::{Answer, ControlError, body, done};
use crate::clock;
use crate::machine::Freeze;
use crate::world::World;
use crate::world::devices::Leaves;
use crate::world::instance::{self, Power, Reason};

/// How it is interrupted.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interruption {
    /// Until it ends; by default as the settings say.
    notice_ms: Option<u64>,
}

/// What stays when the instance ends, though `DeleteOnTermination` says that it goes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Leaving {
    #[serde(default = "yes")]
    volumes: bool,
    #[serde(default = "yes")]
    interfaces: bool,
}

fn yes() -> bool {
    true
}

/// Does one thing to one instance.
pub(super) async fn act(
    State(world): State<Arc<World>>,
    Path((id, act)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let Some(instance) = world.instance(&id) else {
        return Err(ControlError::NotFound(format!("no instance `{id}`")));
    };
    if instance.state != instance::State::Running && ["power-cycle", "freeze", "thaw"].contains(&&*act) {
        let state = instance.state.name();
        return Err(ControlError::Conflict(format!("`{id}` is {state}, expected running")));
    }
    let machines = world.machines();
    match act.as_str() {
        "kill" => end(&world, &id, "Server.InternalError", Power::Cut),
        "interrupt" => interrupt(&world, &id, &bytes)?,
        "leave" => leave(&world, &id, &bytes)?,
        "rebalance" => world.change(|cloud, now| {
            if let Some(instance) = cloud.instances.get_mut(&id) {
                instance.notices.rebalance = Some(now);
            }
        }),
        "power-cycle" => machines.power_cycle(&id).await.map_err(ControlError::Failed)?,
        "freeze" => machines.freeze(&id, Freeze::Frozen).await.map_err(ControlError::Failed)?,
        "thaw" => machines.freeze(&id, Freeze::Thawed).await.map_err(ControlError::Failed)?,
        other => {
            let expected = "expected kill, interrupt, leave, rebalance, power-cycle, freeze or thaw";
            return Err(ControlError::NotFound(format!("no act `{other}`, {expected}")));
        }
    }
    done()
}

/// Tells it that it will be taken back, and then does so. What EC2 would not take back is not told and ends at once.
fn interrupt(world: &World, id: &str, bytes: &Bytes) -> Result<(), ControlError> {
    let Interruption { notice_ms } = if bytes.is_empty() { Interruption::default() } else { body(bytes)? };
    world.change(|cloud, now| {
        let notice = notice_ms.map_or(cloud.timing.spot_notice, Duration::from_millis);
        if let Some(instance) = cloud.instances.get_mut(id) {
            let notice = if instance.interruptible() { notice } else { Duration::ZERO };
            instance.interrupt(clock::after(now, notice));
        }
        cloud.settle(now);
    });
    Ok(())
}

/// Has its volumes, its network interfaces or both outlive it.
fn leave(world: &World, id: &str, bytes: &Bytes) -> Result<(), ControlError> {
    let Leaving { volumes, interfaces } =
        if bytes.is_empty() { Leaving { volumes: true, interfaces: true } } else { body(bytes)? };
    world.change(|cloud, _| match cloud.instances.get_mut(id) {
        Some(instance) if instance.state != instance::State::Terminated => {
            instance.leaves = Leaves { volumes, interfaces };
            Ok(())
        }
        Some(_) | None => {
            Err(ControlError::Conflict(format!("`{id}` is terminated, expected one that has something")))
        }
    })
}

fn end(world: &World, id: &str, code: &str, power: Power) {
    world.change(|cloud, now| {
        if let Some(instance) = cloud.instances.get_mut(id) {
            instance.end(Reason::new(code), String::new(), power, now);
        }
    });
}
