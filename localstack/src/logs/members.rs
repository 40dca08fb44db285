//! The members that more than one operation has, and what the service's model allows them to be.

use std::collections::BTreeMap;

use super::store::{Millis, StoreError};
use crate::aws::json::{JsonError, Members};

pub(super) const MEMBERS: Members = Members("InvalidParameterException");

/// The most tags of a group.
pub(super) const MOST_TAGS: usize = 50;
const LONGEST_NAME: usize = 512;
const LONGEST_ARN: usize = 1011;

/// Whose groups these are.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub region: String,
    pub account: String,
}

impl Owner {
    /// Of a group, without `:*`.
    pub(super) fn arn(&self, group: &str) -> String {
        format!("arn:aws:logs:{}:{}:log-group:{group}", self.region, self.account)
    }

    /// The group that an ARN without `:*` names.
    fn named<'a>(&self, arn: &'a str) -> Option<&'a str> {
        arn.strip_prefix(&self.arn(""))
    }
}

pub(super) fn invalid(message: impl Into<String>) -> JsonError {
    JsonError::caller(MEMBERS.0, message)
}

/// What the service has and the local cloud does not.
pub(super) fn not_played(member: &str) -> JsonError {
    invalid(format!("`{member}` is not played by the local cloud in this way"))
}

/// Refuses a member that is not played if it is there.
pub(super) fn absent<T>(member: &str, value: Option<&T>) -> Result<(), JsonError> {
    if value.is_some() { Err(not_played(member)) } else { Ok(()) }
}

/// Refuses a member that is played only as false.
pub(super) fn untrue(member: &str, value: Option<bool>) -> Result<(), JsonError> {
    if value == Some(true) { Err(not_played(member)) } else { Ok(()) }
}

pub(super) fn group_name(value: Option<String>) -> Result<String, JsonError> {
    group_like("logGroupName", value)
}

/// A name of a group, or the beginning of one.
pub(super) fn group_like(member: &str, value: Option<String>) -> Result<String, JsonError> {
    let name = MEMBERS.text(member, value, 1..=LONGEST_NAME)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_/.#-".contains(c);
    matching(member, name, allowed, r"[\.\-_/#A-Za-z0-9]+")
}

pub(super) fn stream_name(member: &str, value: Option<String>) -> Result<String, JsonError> {
    let name = MEMBERS.text(member, value, 1..=LONGEST_NAME)?;
    matching(member, name, |c| !":*".contains(c), "[^:*]*")
}

/// The group that a reader means: one of both members, and not more.
pub(super) fn group_of(
    owner: &Owner,
    name: Option<String>,
    identifier: Option<String>,
) -> Result<String, JsonError> {
    match (name, identifier) {
        (Some(_), Some(_)) => Err(invalid("Only one of logGroupName and logGroupIdentifier may be given.")),
        (None, None) => Err(invalid("One of logGroupName and logGroupIdentifier must be given.")),
        (name, None) => group_name(name),
        (None, Some(identifier)) => {
            let member = "logGroupIdentifier";
            let identifier = MEMBERS.text(member, Some(identifier), 1..=2048)?;
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_#+=/:,.@-".contains(c);
            let identifier = matching(member, identifier, allowed, r"[\w#+=/:,.@-]*")?;
            if !identifier.starts_with("arn:") {
                return group_like(member, Some(identifier));
            }
            // Another account's is not there for this one.
            owner.named(&identifier).map(str::to_owned).ok_or_else(|| StoreError::NoGroup.into())
        }
    }
}

/// The group that the ARN of a tagged resource names.
pub(super) fn resource(owner: &Owner, arn: Option<String>) -> Result<String, JsonError> {
    let arn = MEMBERS.text("resourceArn", arn, 1..=LONGEST_ARN)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=/:,.@-".contains(c);
    let arn = matching("resourceArn", arn, allowed, r"[\w+=/:,.@-]*")?;
    if !arn.starts_with("arn:aws:logs:") {
        return Err(invalid(format!("Invalid resourceArn: {arn}")));
    }
    owner.named(&arn).map(str::to_owned).ok_or_else(|| StoreError::NoGroup.into())
}

/// A time that may be given.
pub(super) fn time(member: &str, value: Option<Millis>) -> Result<Option<Millis>, JsonError> {
    value.map(|value| MEMBERS.number(member, value, 0..=Millis::MAX)).transpose()
}

/// A token that may be given.
pub(super) fn token(member: &str, value: Option<String>) -> Result<Option<String>, JsonError> {
    value.map(|value| MEMBERS.text(member, Some(value), 1..=usize::MAX)).transpose()
}

pub(super) fn bad_token() -> JsonError {
    invalid("The specified nextToken is invalid.")
}

pub(super) fn tags(value: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, JsonError> {
    let shown = || serde_json::json!(value);
    MEMBERS.length("tags", shown(), value.len(), 1..=MOST_TAGS)?;
    for (key, value) in &value {
        tag_key(key)?;
        MEMBERS.length("tags.value", value, value.chars().count(), 0..=256)?;
        matching("tags.value", value.clone(), in_tag, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$")?;
    }
    Ok(value)
}

pub(super) fn tag_key(key: &str) -> Result<(), JsonError> {
    let member = "tags.key";
    MEMBERS.length(member, key, key.chars().count(), 1..=128)?;
    matching(member, key.to_owned(), in_tag, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$")?;
    if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
        return Err(invalid(format!("The tag key {key} begins with aws:, which is reserved.")));
    }
    Ok(())
}

/// Letters, numbers and separators, about as Unicode has them, and some more.
fn in_tag(c: char) -> bool {
    c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
}

fn matching(
    member: &str,
    value: String,
    allowed: impl Fn(char) -> bool,
    pattern: &str,
) -> Result<String, JsonError> {
    if value.chars().all(allowed) {
        return Ok(value);
    }
    Err(MEMBERS.broken(member, value, &format!("satisfy regular expression pattern: {pattern}")))
}
