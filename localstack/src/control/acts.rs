//! What can be done to an instance from outside.

use std::sync::Arc;

use axum::extract::{Path, State};

use super::{Answer, ControlError, done};
use crate::machine::Freeze;
use crate::world::World;
use crate::world::instance::{self, Power, Reason};

/// Does one thing to one instance.
pub(super) async fn act(State(world): State<Arc<World>>, Path((id, act)): Path<(String, String)>) -> Answer {
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
        "interrupt" => end(&world, &id, "Server.SpotInstanceTermination", Power::Button),
        "power-cycle" => machines.power_cycle(&id).await.map_err(ControlError::Failed)?,
        "freeze" => machines.freeze(&id, Freeze::Frozen).await.map_err(ControlError::Failed)?,
        "thaw" => machines.freeze(&id, Freeze::Thawed).await.map_err(ControlError::Failed)?,
        other => {
            let expected = "expected kill, interrupt, power-cycle, freeze or thaw";
            return Err(ControlError::NotFound(format!("no act `{other}`, {expected}")));
        }
    }
    done()
}

fn end(world: &World, id: &str, code: &str, power: Power) {
    world.change(|cloud, now| {
        if let Some(instance) = cloud.instances.get_mut(id) {
            instance.end(Reason::new(code), String::new(), power, now);
        }
    });
}
