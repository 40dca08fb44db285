//! `/v2/registries`: credentials of private registries, which can be written and not read.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::account::Account;
use super::ids;
use super::problem::Problem;
use super::volumes::read;

/// A credential, as it is shown: without what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Registry {
    pub id: String,
    pub name: String,
    #[serde(skip)]
    pub sequence: u32,
}

#[derive(Deserialize)]
struct Create {
    name: String,
}

/// Stores one; its id. Its user and password are read by nobody here: images come from open registries.
pub fn create(account: &mut Account, body: Value) -> Result<String, Problem> {
    let Create { name } = read("CreateRegistryRequest", body)?;
    let (id, sequence) = (ids::fresh(8), account.number());
    account.registries.insert(id.clone(), Registry { id: id.clone(), name, sequence });
    Ok(id)
}

/// Removes one that no pod has.
pub fn delete(account: &mut Account, id: &str) -> Result<(), Problem> {
    if !account.registries.contains_key(id) {
        return Err(Problem::not_found("registry"));
    }
    let uses = |pod: &super::pod::Pod| pod.ended.is_none() && pod.order.registry.as_deref() == Some(id);
    if account.pods.values().any(uses) {
        return Err(Problem::rule("registry credential is in use by a pod and cannot be deleted"));
    }
    account.registries.remove(id);
    Ok(())
}
