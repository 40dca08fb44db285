//! What can be bought, as tests set it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Answer, ControlError, body, done};
use crate::ec2::catalog;
use crate::world::World;
use crate::world::pools::{Market, PoolChange};

/// A change of a capacity pool. What is not named stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolBody {
    /// How many can still be launched; `null` for no end.
    #[serde(default, deserialize_with = "given")]
    capacity: Option<Option<u32>>,
    /// `on-demand` (default) or `spot`.
    #[serde(default)]
    market: Market,
    /// So many launches are accepted, and end while pending.
    fail_launches: Option<u32>,
    /// With this `StateReason`; default `Server.InsufficientInstanceCapacity`.
    fail_code: Option<String>,
}

/// Tells `null` from a member that is not there.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Refuses a type or zone that does not exist.
fn known(world: &World, zone: &str, kind: &str) -> Result<(), ControlError> {
    if catalog::find(kind).is_none() || world.estate.zones().all(|known| known != zone) {
        return Err(ControlError::NotFound(format!("no type `{kind}` in a zone `{zone}`")));
    }
    Ok(())
}

pub(super) async fn pool(
    State(world): State<Arc<World>>,
    Path((zone, kind)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let PoolBody { capacity, market, fail_launches, fail_code } = body(&bytes)?;
    known(&world, &zone, &kind)?;
    let change = PoolChange { capacity, fail_launches, fail_code };
    world.change(|cloud, _| cloud.pools.change(&kind, &zone, market, change));
    done()
}

pub(super) async fn pools(State(world): State<Arc<World>>) -> axum::Json<Value> {
    let all: Vec<Value> = world.view(|cloud, _| {
        let pool = |(kind, zone, market, pool)| {
            json!({ "type": kind, "zone": zone, "market": market, "pool": pool })
        };
        cloud.pools.all().map(pool).collect()
    });
    axum::Json(json!(all))
}
