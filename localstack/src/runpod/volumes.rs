//! `/v2/network-volumes`: storage that outlives pods, in one data center.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::account::Account;
use super::catalog::DataCenter;
use super::ids;
use super::problem::Problem;
use super::schema;

/// A network volume, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    pub id: String,
    pub name: String,
    /// GB.
    pub size: u32,
    pub data_center: &'static str,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip)]
    pub sequence: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    name: String,
    size: u32,
    data_center: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    name: Option<String>,
    size: Option<u32>,
}

/// A body as a definition of the schema has it.
pub fn read<T: serde::de::DeserializeOwned>(definition: &str, body: Value) -> Result<T, Problem> {
    let errors = schema::check(definition, &body);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    serde_json::from_value(body).map_err(|error| Problem::invalid(vec![format!("$: {error}")]))
}

/// Makes one; its id.
pub fn create(account: &mut Account, body: Value) -> Result<String, Problem> {
    let Create { name, size, data_center, kind } = read("CreateNetworkVolumeRequest", body)?;
    let center = DataCenter::find(&data_center)
        .ok_or_else(|| Problem::rule(format!("data center '{data_center}' does not exist")))?;
    let kind = match kind {
        Some(kind) => kind,
        None => center.volume_types.first().copied().unwrap_or_default().to_owned(),
    };
    if !center.volume_types.contains(&kind.as_str()) {
        return Err(Problem::rule(format!("data center '{data_center}' has no such network volumes")));
    }
    let (id, sequence) = (ids::fresh(10), account.number());
    let volume = Volume { id: id.clone(), name, size, data_center: center.id, kind, sequence };
    account.volumes.insert(id.clone(), volume);
    Ok(id)
}

/// Names it anew, or makes it larger.
pub fn update(account: &mut Account, id: &str, body: Value) -> Result<(), Problem> {
    let Update { name, size } = read("UpdateNetworkVolumeRequest", body)?;
    let volume = account.volumes.get_mut(id).ok_or_else(|| Problem::not_found("network volume"))?;
    if size.is_some_and(|size| size < volume.size) {
        return Err(Problem::rule("size cannot be reduced"));
    }
    volume.size = size.unwrap_or(volume.size);
    volume.name = name.unwrap_or_else(|| volume.name.clone());
    Ok(())
}

/// Removes one that no pod has.
pub fn delete(account: &mut Account, id: &str) -> Result<(), Problem> {
    if !account.volumes.contains_key(id) {
        return Err(Problem::not_found("network volume"));
    }
    let has = |pod: &super::pod::Pod| pod.order.mounts.volume().is_some_and(|mount| mount.volume_id == id);
    if account.pods.values().any(|pod| pod.ended.is_none() && has(pod)) {
        return Err(Problem::rule("network volume is in use by a pod"));
    }
    account.volumes.remove(id);
    Ok(())
}
