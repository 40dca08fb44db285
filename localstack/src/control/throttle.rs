//! The token buckets of EC2's calls.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, ControlError, body};
use crate::world::World;
use crate::world::throttle::{Rate, Rates, Throttle};

/// Whether calls are throttled. In mode `aws`, the buckets that are not named are EC2's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    mode: Mode,
    run_request: Option<Rate>,
    run_resource: Option<Rate>,
    terminate_resource: Option<Rate>,
    mutating: Option<Rate>,
    describe: Option<Rate>,
    describe_unfiltered: Option<Rate>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Off,
    Aws,
}

pub(super) async fn show(State(world): State<Arc<World>>) -> axum::Json<Value> {
    axum::Json(view(world.view(|cloud, _| cloud.throttle.rates())))
}

/// Sets all buckets, and fills them.
pub(super) async fn set(State(world): State<Arc<World>>, bytes: Bytes) -> Answer {
    let Body { mode, run_request, run_resource, terminate_resource, mutating, describe, describe_unfiltered } =
        body(&bytes)?;
    let named = [run_request, run_resource, terminate_resource, mutating, describe, describe_unfiltered];
    if named.iter().flatten().any(|rate| !rate.per_second.is_finite() || rate.per_second < 0.0) {
        return Err(ControlError::Malformed("`per_second` must not be negative".to_owned()));
    }
    let rates = match mode {
        Mode::Off if named.iter().any(Option::is_some) => {
            return Err(ControlError::Malformed("buckets belong to mode `aws`".to_owned()));
        }
        Mode::Off => None,
        Mode::Aws => {
            let own = Rates::default();
            Some(Rates {
                run_request: run_request.unwrap_or(own.run_request),
                run_resource: run_resource.unwrap_or(own.run_resource),
                terminate_resource: terminate_resource.unwrap_or(own.terminate_resource),
                mutating: mutating.unwrap_or(own.mutating),
                describe: describe.unwrap_or(own.describe),
                describe_unfiltered: describe_unfiltered.unwrap_or(own.describe_unfiltered),
            })
        }
    };
    world.change(|cloud, _| cloud.throttle = Throttle::new(rates));
    Ok(axum::Json(view(rates)))
}

fn view(rates: Option<Rates>) -> Value {
    let mut view = rates.map_or_else(|| json!({}), |rates| json!(rates));
    view["mode"] = json!(if rates.is_some() { "aws" } else { "off" });
    view
}
