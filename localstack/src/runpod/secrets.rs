//! `/v2/account/secrets`: values that can be written and not read, and what refers to them in a pod's environment.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::account::Account;
use super::ids;
use super::problem::Problem;
use super::volumes::read;

/// What a reference in the environment begins with, between braces.
const PREFIX: &str = "RUNPOD_SECRET_";

/// A secret, as it is shown: without its value.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub created_at: Timestamp,
    pub value_last_updated_at: Timestamp,
    #[serde(skip)]
    pub sequence: u32,
    #[serde(skip)]
    pub value: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Create {
    name: String,
    value: String,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    value: Option<String>,
    description: Option<String>,
}

/// Stores one; its id.
pub fn create(account: &mut Account, body: Value, now: Timestamp) -> Result<String, Problem> {
    let Create { name, value, description } = read("CreateSecretRequest", body)?;
    if name.to_ascii_uppercase().starts_with("RUNPOD") {
        return Err(Problem::rule("secret names must not begin with RUNPOD"));
    }
    if account.secrets.values().any(|secret| secret.name.eq_ignore_ascii_case(&name)) {
        return Err(Problem::conflict("a secret with this name already exists"));
    }
    let (id, sequence) = (ids::fresh(12), account.number());
    let (created_at, value_last_updated_at) = (now, now);
    let secret =
        Secret { id: id.clone(), name, description, created_at, value_last_updated_at, sequence, value };
    account.secrets.insert(id.clone(), secret);
    Ok(id)
}

/// Gives one another value or description.
pub fn update(account: &mut Account, id: &str, body: Value, now: Timestamp) -> Result<(), Problem> {
    let clears = body.get("description").is_some_and(Value::is_null);
    let Update { value, description } = read("UpdateSecretRequest", body)?;
    let secret = account.secrets.get_mut(id).ok_or_else(|| Problem::not_found("secret"))?;
    if let Some(value) = value {
        secret.value = value;
        secret.value_last_updated_at = now;
    }
    if clears || description.is_some() {
        secret.description = description;
    }
    Ok(())
}

/// Forgets one. Pods that run keep what they have.
pub fn delete(account: &mut Account, id: &str) -> Result<(), Problem> {
    account.secrets.remove(id).map(drop).ok_or_else(|| Problem::not_found("secret"))
}

/// A text with `{{ RUNPOD_SECRET_name }}` replaced by the value of the secret of that name. One that refers to no
/// secret stays as it is.
#[must_use]
pub fn resolved(text: &str, secrets: &BTreeMap<String, Secret>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, behind)) = after.split_once("}}") else { break };
        let name = inside.trim().strip_prefix(PREFIX);
        let found = name.and_then(|name| secrets.values().find(|secret| secret.name == name));
        out.push_str(before);
        match found {
            Some(secret) => out.push_str(&secret.value),
            None => out.extend(["{{", inside, "}}"]),
        }
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_replaced_and_what_is_none_stays() {
        let now = Timestamp::UNIX_EPOCH;
        let mut account = Account::new(super::super::settings::Settings::default(), now);
        for name in ["hf", "a/b.c-d"] {
            let body = serde_json::json!({"name": name, "value": format!("<{name}>")});
            create(&mut account, body, now).unwrap();
        }
        for (text, expected) in [
            ("{{ RUNPOD_SECRET_hf }}", "<hf>"),
            ("a{{RUNPOD_SECRET_a/b.c-d}}b{{ RUNPOD_SECRET_hf }}", "a<a/b.c-d>b<hf>"),
            ("{{ RUNPOD_SECRET_other }} {{ x }}", "{{ RUNPOD_SECRET_other }} {{ x }}"),
            ("{{ RUNPOD_SECRET_hf", "{{ RUNPOD_SECRET_hf"),
            ("}} {{", "}} {{"),
        ] {
            assert_eq!(resolved(text, &account.secrets), expected, "{text}");
        }
        let shown = format!("{:?}", account.secrets);
        assert!(shown.contains("hf") && !shown.contains("<hf>"), "{shown}");
    }
}
