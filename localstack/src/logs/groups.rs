//! The operations on log groups: what they are, how long their events are kept, and their tags.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::members::{
    MEMBERS, MOST_TAGS, absent, bad_token, group_like, group_name, invalid, resource, tag_key, tags, token,
    untrue,
};
use super::store::{Group, Millis};
use super::{Logs, answer, done};
use crate::aws::json::{JsonError, parse};
use crate::aws::page::{Order, page};

/// Days for which events may be kept.
const RETENTIONS: [u16; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];
const CLASSES: [&str; 4] = ["STANDARD", "INFREQUENT_ACCESS", "DELIVERY", "ESSENTIALS"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CreateLogGroup {
    log_group_name: Option<String>,
    kms_key_id: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    log_group_class: Option<String>,
    deletion_protection_enabled: Option<bool>,
}

pub(super) fn create(logs: &Logs, body: Value, now: Millis) -> Result<String, JsonError> {
    let request: CreateLogGroup = parse(body)?;
    let name = group_name(request.log_group_name)?;
    if let Some(class) = class(request.log_group_class)?.filter(|class| class != CLASSES[0]) {
        return Err(invalid(format!("The log group class {class} is not played by the local cloud.")));
    }
    untrue("deletionProtectionEnabled", request.deletion_protection_enabled)?;
    let tags = request.tags.map_or(Ok(BTreeMap::new()), tags)?;
    if let Some(key) = &request.kms_key_id {
        kms_key(logs, key)?;
    }
    let mut state = logs.lock();
    let room = state.settings.room();
    state.store.add_group(name, Group::new(now, request.kms_key_id, tags), &room)?;
    done()
}

fn class(class: Option<String>) -> Result<Option<String>, JsonError> {
    match class {
        Some(class) if !CLASSES.contains(&class.as_str()) => {
            let rule = format!("satisfy enum value set: [{}]", CLASSES.join(", "));
            Err(MEMBERS.broken("logGroupClass", class, &rule))
        }
        class => Ok(class),
    }
}

/// Keys are not played, so that any of this account will do.
fn kms_key(logs: &Logs, key: &str) -> Result<(), JsonError> {
    MEMBERS.length("kmsKeyId", key, key.chars().count(), 0..=256)?;
    let own = format!("arn:aws:kms:{}:{}:key/", logs.owner.region, logs.owner.account);
    if key.strip_prefix(&own).is_some_and(|id| !id.is_empty()) {
        return Ok(());
    }
    Err(invalid(format!("The specified KMS Key Id '{key}' could not be found.")))
}

/// A request that names a group, and nothing more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GroupOnly {
    log_group_name: Option<String>,
}

pub(super) fn delete(logs: &Logs, body: Value) -> Result<String, JsonError> {
    let request: GroupOnly = parse(body)?;
    let name = group_name(request.log_group_name)?;
    logs.lock().store.remove_group(&name)?;
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PutRetentionPolicy {
    log_group_name: Option<String>,
    retention_in_days: Option<i64>,
}

pub(super) fn put_retention(logs: &Logs, body: Value) -> Result<String, JsonError> {
    let request: PutRetentionPolicy = parse(body)?;
    let name = group_name(request.log_group_name)?;
    let days = MEMBERS.required("retentionInDays", request.retention_in_days)?;
    let known = RETENTIONS.into_iter().find(|known| i64::from(*known) == days);
    let known = known.ok_or_else(|| {
        MEMBERS.broken("retentionInDays", days, &format!("satisfy enum value set: {RETENTIONS:?}"))
    })?;
    logs.lock().store.group_mut(&name)?.retention_days = Some(known);
    done()
}

pub(super) fn delete_retention(logs: &Logs, body: Value) -> Result<String, JsonError> {
    let request: GroupOnly = parse(body)?;
    let name = group_name(request.log_group_name)?;
    logs.lock().store.group_mut(&name)?.retention_days = None;
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TagResource {
    resource_arn: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

pub(super) fn tag(logs: &Logs, body: Value) -> Result<String, JsonError> {
    let request: TagResource = parse(body)?;
    let name = resource(&logs.owner, request.resource_arn)?;
    let new = tags(MEMBERS.required("tags", request.tags)?)?;
    let mut state = logs.lock();
    let group = state.store.group_mut(&name)?;
    let mut all = group.tags.clone();
    all.extend(new);
    if all.len() > MOST_TAGS {
        let message = "A resource can have no more than 50 tags.";
        return Err(JsonError::caller("TooManyTagsException", message));
    }
    group.tags = all;
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct UntagResource {
    resource_arn: Option<String>,
    tag_keys: Option<Vec<String>>,
}

pub(super) fn untag(logs: &Logs, body: Value) -> Result<String, JsonError> {
    let request: UntagResource = parse(body)?;
    let name = resource(&logs.owner, request.resource_arn)?;
    let keys = MEMBERS.required("tagKeys", request.tag_keys)?;
    MEMBERS.length("tagKeys", json!(keys), keys.len(), 0..=MOST_TAGS)?;
    keys.iter().try_for_each(|key| tag_key(key))?;
    logs.lock().store.group_mut(&name)?.tags.retain(|key, _| !keys.contains(key));
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ListTags {
    resource_arn: Option<String>,
}

pub(super) fn list_tags(logs: &Logs, body: Value) -> Result<String, JsonError> {
    let request: ListTags = parse(body)?;
    let name = resource(&logs.owner, request.resource_arn)?;
    answer(&json!({ "tags": logs.lock().store.group(&name)?.tags }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DescribeLogGroups {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
    log_group_class: Option<String>,
    account_identifiers: Option<Value>,
    include_linked_accounts: Option<bool>,
    log_group_identifiers: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    log_group_name: &'a str,
    creation_time: Millis,
    arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_group_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_filter_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_group_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_in_days: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_key_id: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Groups<'a> {
    log_groups: Vec<Described<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) fn describe(logs: &Logs, body: Value) -> Result<String, JsonError> {
    let request: DescribeLogGroups = parse(body)?;
    absent("accountIdentifiers", request.account_identifiers.as_ref())?;
    absent("logGroupIdentifiers", request.log_group_identifiers.as_ref())?;
    untrue("includeLinkedAccounts", request.include_linked_accounts)?;
    let class = class(request.log_group_class)?;
    if request.log_group_name_prefix.is_some() && request.log_group_name_pattern.is_some() {
        return Err(invalid(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
        ));
    }
    let named =
        |member, value: Option<String>| value.map(|value| group_like(member, Some(value))).transpose();
    let prefix = named("logGroupNamePrefix", request.log_group_name_prefix)?.unwrap_or_default();
    // An empty pattern is allowed, and matches everything.
    let pattern = request.log_group_name_pattern;
    let detail = if pattern.is_some() { Detail::Name } else { Detail::All };
    let pattern = named("logGroupNamePattern", pattern.filter(|pattern| !pattern.is_empty()))?;
    let limit = MEMBERS.limit("limit", request.limit, 1..=50)?;
    let token = token("nextToken", request.next_token)?;

    let state = logs.lock();
    let groups = state.store.groups.iter().filter(|(name, _)| {
        name.starts_with(&prefix)
            && pattern.as_ref().is_none_or(|pattern| name.contains(pattern))
            && class.as_ref().is_none_or(|class| class == CLASSES[0])
    });
    let (page, next_token) =
        page(groups, |(name, _)| (*name).clone(), Order::Ascending, limit, token.as_deref())
            .map_err(|_| bad_token())?;
    let log_groups = page.into_iter().map(|(name, group)| described(logs, name, group, detail)).collect();
    answer(&Groups { log_groups, next_token })
}

/// How much is told of a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// To who asked with a pattern.
    Name,
    All,
}

fn described<'a>(logs: &Logs, name: &'a str, group: &'a Group, detail: Detail) -> Described<'a> {
    let arn = logs.owner.arn(name);
    let bare = Described {
        log_group_name: name,
        creation_time: group.created,
        arn: format!("{arn}:*"),
        log_group_arn: None,
        stored_bytes: None,
        metric_filter_count: None,
        log_group_class: None,
        retention_in_days: None,
        kms_key_id: None,
    };
    match detail {
        Detail::Name => bare,
        Detail::All => Described {
            log_group_arn: Some(arn),
            stored_bytes: Some(group.bytes()),
            metric_filter_count: Some(0),
            log_group_class: Some(CLASSES[0]),
            retention_in_days: group.retention_days,
            kms_key_id: group.kms_key.as_deref(),
            ..bare
        },
    }
}
