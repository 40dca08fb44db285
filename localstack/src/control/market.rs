//! What can be bought, as tests set it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Answer, ControlError, body, done};
use crate::ec2::catalog::{self, InstanceType, micros};
use crate::world::World;
use crate::world::pools::{Market, PoolChange};
use crate::world::quotas::Family;

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

/// The type, if it and the zone exist.
fn known(world: &World, zone: &str, kind: &str) -> Result<&'static InstanceType, ControlError> {
    let found = catalog::find(kind).filter(|_| world.estate.zones().any(|known| known == zone));
    found.ok_or_else(|| ControlError::NotFound(format!("no type `{kind}` in a zone `{zone}`")))
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

/// A price in dollars an hour as text, as AWS writes it; `null` for none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceBody {
    #[serde(default, deserialize_with = "given")]
    price: Option<Option<String>>,
}

impl PriceBody {
    fn micros(self) -> Result<Option<u64>, ControlError> {
        let price = self.price.ok_or_else(|| ControlError::Malformed("`price` is missing".to_owned()))?;
        let parse = |text: String| {
            let expected = "expected dollars with at most six decimals, or null";
            micros(&text).ok_or_else(|| ControlError::Malformed(format!("price is `{text}`, {expected}")))
        };
        price.map(parse).transpose()
    }
}

pub(super) async fn spot_price(
    State(world): State<Arc<World>>,
    Path((zone, kind)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let micros = body::<PriceBody>(&bytes)?.micros()?;
    let kind = known(&world, &zone, &kind)?;
    world.change(|cloud, now| cloud.set_spot_price(kind, &zone, micros, now));
    done()
}

pub(super) async fn price(State(world): State<Arc<World>>, Path(kind): Path<String>, bytes: Bytes) -> Answer {
    let micros = body::<PriceBody>(&bytes)?.micros()?;
    let kind = catalog::find(&kind).ok_or_else(|| ControlError::NotFound(format!("no type `{kind}`")))?;
    world.change(|cloud, _| cloud.prices.set_on_demand(kind, micros));
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaBody {
    /// `null` for no end.
    #[serde(default, deserialize_with = "given")]
    vcpus: Option<Option<u32>>,
    #[serde(default)]
    market: Market,
}

pub(super) async fn quota(
    State(world): State<Arc<World>>,
    Path(family): Path<String>,
    bytes: Bytes,
) -> Answer {
    let QuotaBody { vcpus, market } = body(&bytes)?;
    let vcpus = vcpus.ok_or_else(|| ControlError::Malformed("`vcpus` is missing".to_owned()))?;
    let found = Family::ALL.into_iter().find(|known| json!(known) == json!(family));
    let found = found.ok_or_else(|| {
        let all: Vec<Value> = Family::ALL.iter().map(|known| json!(known)).collect();
        ControlError::NotFound(format!("no family `{family}`, expected one of {}", json!(all)))
    })?;
    world.change(|cloud, _| cloud.quotas.set(found, market, vcpus));
    done()
}

/// Every quota with its use; `vcpus` is null where there is no end.
pub(super) async fn quotas(State(world): State<Arc<World>>) -> axum::Json<Value> {
    axum::Json(world.view(|cloud, now| {
        let all =
            Family::ALL.into_iter().flat_map(|family| [(family, Market::OnDemand), (family, Market::Spot)]);
        let quota = |(family, market)| {
            json!({
                "family": family,
                "market": market,
                "vcpus": cloud.quotas.limit(family, market),
                "used": cloud.quota_used(family, market, now),
            })
        };
        all.map(quota).collect()
    }))
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
