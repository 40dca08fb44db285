//! Settings that tests change member by member.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// These settings with the members of `patch`, an object, in place of theirs.
///
/// # Errors
/// When it names what is not there, or with the wrong type.
pub fn patched<T: Serialize + DeserializeOwned>(settings: &T, patch: &Value) -> Result<T, serde_json::Error> {
    let changes: Map<String, Value> = serde_json::from_value(patch.clone())?;
    let mut merged: Map<String, Value> = serde_json::from_value(serde_json::to_value(settings)?)?;
    merged.extend(changes);
    serde_json::from_value(Value::Object(merged))
}
