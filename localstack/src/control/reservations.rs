//! Capacity Reservations, as tests make, change and end them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::market::given;
use super::{Answer, ControlError, body};
use crate::clock;
use crate::ec2::catalog::{self, InstanceType};
use crate::ec2::ids::Kind;
use crate::world::World;
use crate::world::estate::Subnet;
use crate::world::purchase::Tenancy;
use crate::world::reservations::{self, Block, Matching, Nature, Reservation};
use crate::world::source::PLATFORM;

/// A new reservation, or a change of one. What is not named stays, or is what EC2 would make it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Change {
    /// A new one needs it, and it stays.
    instance_type: Option<String>,
    /// Name or id; a new one needs it, and it stays.
    zone: Option<String>,
    /// Instances; a new one needs it.
    total: Option<u32>,
    used_by_others: Option<u32>,
    match_criteria: Option<Matching>,
    owner_id: Option<String>,
    tenancy: Option<Tenancy>,
    platform: Option<String>,
    start_date: Option<Timestamp>,
    starts_in_ms: Option<u64>,
    /// `null`: unlimited.
    #[serde(default, deserialize_with = "given")]
    end_date: Option<Option<Timestamp>>,
    ends_in_ms: Option<u64>,
    /// Whatever the time; `null` for what the time says.
    #[serde(default, deserialize_with = "given")]
    state: Option<Option<reservations::State>>,
    tags: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "given")]
    placement_group_arn: Option<Option<String>>,
    resource_group_arns: Option<Vec<String>>,
    ebs_optimized: Option<bool>,
    unused_reservation_billing_owner_id: Option<String>,
    committed_instance_count: Option<u32>,
    commitment_end_date: Option<Timestamp>,
    /// A new one's: `default` or `capacity-block`.
    reservation_type: Option<Type>,
    /// Of a new Capacity Block; by default the reservation's digits.
    capacity_block_id: Option<String>,
    ultraserver_type: Option<String>,
    /// Of a Capacity Block: how long before its end EC2 begins to end instances; default 30 min, with UltraServers
    /// an hour.
    drain_lead_ms: Option<u64>,
    /// A new one is lent by its owner, who may take it back.
    interruptible: Option<bool>,
    /// What a new interruptible one is carved from.
    source_reservation_id: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Type {
    #[default]
    Default,
    CapacityBlock,
}

const DRAIN: Duration = Duration::from_secs(30 * 60);
const ULTRASERVER_DRAIN: Duration = Duration::from_secs(60 * 60);

pub(super) async fn put(State(world): State<Arc<World>>, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let change: Change = body(&bytes)?;
    Kind::Reservation.check(&id).map_err(|refusal| ControlError::Malformed(refusal.message))?;
    world.change(|cloud, now| {
        let changed = match cloud.reservations.get(&id) {
            Some(existing) => {
                change.keeps_nature(existing)?;
                change.apply(existing.clone(), now)?
            }
            None => change.apply(change.create(&world, &id, now)?, now)?,
        };
        cloud.reservations.insert(id.clone(), changed);
        // Whoever loses a reservation by this has lost it in the answer.
        cloud.settle(now);
        Ok(axum::Json(view(cloud, &id, now)))
    })
}

/// Cancels one: instances in it run on, on demand.
pub(super) async fn delete(State(world): State<Arc<World>>, Path(id): Path<String>) -> Answer {
    world.change(|cloud, now| {
        let reservation = cloud.reservations.get_mut(&id);
        let reservation =
            reservation.ok_or_else(|| ControlError::NotFound(format!("no reservation `{id}`")))?;
        if reservation.block().is_some() {
            let message = format!("`{id}` is a Capacity Block and cannot be cancelled, change its `endDate`");
            return Err(ControlError::Conflict(message));
        }
        reservation.fixed = Some(reservations::State::Cancelled);
        cloud.settle(now);
        Ok(axum::Json(view(cloud, &id, now)))
    })
}

pub(super) async fn list(State(world): State<Arc<World>>) -> axum::Json<Value> {
    axum::Json(world.view(|cloud, now| {
        let ids: Vec<String> = cloud.reservations.keys().cloned().collect();
        ids.iter().map(|id| view(cloud, id, now)).collect()
    }))
}

fn view(cloud: &crate::world::state::Cloud, id: &str, now: Timestamp) -> Value {
    let Some(reservation) = cloud.reservations.get(id) else { return Value::Null };
    json!({
        "id": id,
        "state": reservation.state(now),
        "instanceType": reservation.kind.name,
        "zone": reservation.zone,
        "ownerId": reservation.owner,
        "total": reservation.total,
        "available": cloud.available(id, now),
        "used": cloud.used(id),
        "startDate": reservation.start,
        "endDate": reservation.end,
        "capacityBlockId": reservation.block().map(|block| &block.id),
    })
}

fn after(now: Timestamp, ms: u64) -> Timestamp {
    clock::after(now, Duration::from_millis(ms))
}

impl Change {
    fn create(&self, world: &World, id: &str, now: Timestamp) -> Result<Reservation, ControlError> {
        let missing = |name: &str| ControlError::Malformed(format!("a new reservation needs `{name}`"));
        let kind = self.instance_type.as_deref().ok_or_else(|| missing("instanceType"))?;
        let zone = self.zone.as_deref().ok_or_else(|| missing("zone"))?;
        let total = self.total.ok_or_else(|| missing("total"))?;
        let kind = catalog::find(kind).ok_or_else(|| ControlError::NotFound(format!("no type `{kind}`")))?;
        let named = |subnet: &&Subnet| [&subnet.zone, &subnet.zone_id].contains(&&zone.to_owned());
        let subnet = world.estate.subnets.iter().find(named);
        let subnet = subnet.ok_or_else(|| ControlError::NotFound(format!("no zone `{zone}`")))?;
        Ok(Reservation {
            id: id.to_owned(),
            kind,
            zone: subnet.zone.clone(),
            zone_id: subnet.zone_id.clone(),
            owner: world.account.clone(),
            platform: PLATFORM.to_owned(),
            tenancy: Tenancy::Default,
            total,
            used_elsewhere: 0,
            matching: match (self.reservation_type, self.interruptible) {
                (Some(Type::CapacityBlock), _) | (_, Some(true)) => Matching::Targeted,
                (Some(Type::Default) | None, Some(false) | None) => Matching::Open,
            },
            created: now,
            start: now,
            end: None,
            fixed: None,
            tags: BTreeMap::new(),
            placement_group: None,
            groups: Vec::new(),
            ebs_optimized: false,
            billing_owner: None,
            commitment: None,
            nature: self.nature(id, kind)?,
        })
    }

    fn nature(&self, id: &str, kind: &InstanceType) -> Result<Nature, ControlError> {
        let only_of_blocks = self.capacity_block_id.is_some()
            || self.ultraserver_type.is_some()
            || self.drain_lead_ms.is_some();
        match self.reservation_type.unwrap_or_default() {
            Type::Default if only_of_blocks => {
                let message =
                    "only a new reservation with `reservationType` `capacity-block` has members of a block";
                Err(ControlError::Malformed(message.to_owned()))
            }
            Type::Default if self.interruptible == Some(true) => {
                Ok(Nature::Interruptible { source: self.source_reservation_id.clone() })
            }
            Type::Default => Ok(Nature::OnDemand),
            Type::CapacityBlock if self.interruptible == Some(true) => {
                Err(ControlError::Malformed("a Capacity Block is not interruptible".to_owned()))
            }
            Type::CapacityBlock if !kind.usage.contains(&"capacity-block") => {
                Err(ControlError::Malformed(format!("`{}` is not sold in Capacity Blocks", kind.name)))
            }
            Type::CapacityBlock if self.end_date.flatten().is_none() && self.ends_in_ms.is_none() => {
                Err(ControlError::Malformed("a Capacity Block needs `endDate` or `endsInMs`".to_owned()))
            }
            Type::CapacityBlock => {
                let block_id = self.capacity_block_id.clone().unwrap_or_else(|| id.replacen("cr-", "cb-", 1));
                Kind::Block.check(&block_id).map_err(|refusal| ControlError::Malformed(refusal.message))?;
                let drain = if self.ultraserver_type.is_some() { ULTRASERVER_DRAIN } else { DRAIN };
                Ok(Nature::Block(Block { id: block_id, ultraserver: self.ultraserver_type.clone(), drain }))
            }
        }
    }

    fn keeps_nature(&self, old: &Reservation) -> Result<(), ControlError> {
        let own = if old.block().is_some() { Type::CapacityBlock } else { Type::Default };
        let changed = self.reservation_type.is_some_and(|new| new != own)
            || self.capacity_block_id.is_some()
            || self.ultraserver_type.is_some()
            || self.source_reservation_id.is_some()
            || self
                .interruptible
                .is_some_and(|new| new != matches!(old.nature, Nature::Interruptible { .. }));
        if changed {
            let message = "what kind of reservation it is stays, with the members that belong to that";
            return Err(ControlError::Conflict(message.to_owned()));
        }
        Ok(())
    }

    fn apply(&self, old: Reservation, now: Timestamp) -> Result<Reservation, ControlError> {
        let stays = |name: &str, new: &Option<String>, old: &[&str]| match new {
            Some(new) if !old.contains(&new.as_str()) => {
                Err(ControlError::Conflict(format!("`{name}` is `{}` and stays, got `{new}`", old[0])))
            }
            Some(_) | None => Ok(()),
        };
        stays("instanceType", &self.instance_type, &[old.kind.name])?;
        stays("zone", &self.zone, &[&old.zone, &old.zone_id])?;
        let mut nature = old.nature;
        match (&mut nature, self.drain_lead_ms) {
            (Nature::Block(block), Some(ms)) => block.drain = Duration::from_millis(ms),
            (Nature::OnDemand | Nature::Interruptible { .. }, Some(_)) => {
                return Err(ControlError::Conflict(format!("`{}` is no Capacity Block", old.id)));
            }
            (_, None) => {}
        }
        let end = self.ends_in_ms.map(|ms| Some(after(now, ms)));
        let commitment = self.committed_instance_count.zip(self.commitment_end_date);
        Ok(Reservation {
            total: self.total.unwrap_or(old.total),
            used_elsewhere: self.used_by_others.unwrap_or(old.used_elsewhere),
            matching: self.match_criteria.unwrap_or(old.matching),
            owner: self.owner_id.clone().unwrap_or(old.owner),
            tenancy: self.tenancy.unwrap_or(old.tenancy),
            platform: self.platform.clone().unwrap_or(old.platform),
            start: self.starts_in_ms.map(|ms| after(now, ms)).or(self.start_date).unwrap_or(old.start),
            end: end.or(self.end_date).unwrap_or(old.end),
            fixed: self.state.unwrap_or(old.fixed),
            tags: self.tags.clone().unwrap_or(old.tags),
            placement_group: self.placement_group_arn.clone().unwrap_or(old.placement_group),
            groups: self.resource_group_arns.clone().unwrap_or(old.groups),
            ebs_optimized: self.ebs_optimized.unwrap_or(old.ebs_optimized),
            billing_owner: self.unused_reservation_billing_owner_id.clone().or(old.billing_owner),
            commitment: commitment.or(old.commitment),
            nature,
            ..old
        })
    }
}
