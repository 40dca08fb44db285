//! The operations that only look: parameters, instance information, sessions.

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::MEMBERS;
use super::book::{Record, State};
use super::{InstanceFacts, JsonError, Ssm, clock, locked};
use crate::aws::json::parse;
use crate::aws::page::{BadToken, Order, page};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameter {
    name: Option<String>,
}

pub(super) fn get_parameter(ssm: &Ssm, body: Value) -> Result<Value, JsonError> {
    let request: GetParameter = parse(body)?;
    let name = MEMBERS.text("name", request.name, 1..=2048)?;
    let value = ssm.world.parameter(&name).ok_or_else(|| JsonError::caller("ParameterNotFound", ""))?;
    let region = ssm.world.region();
    let path = name.trim_start_matches('/');
    Ok(json!({ "Parameter": {
        "ARN": format!("arn:aws:ssm:{region}::parameter/{path}"),
        "DataType": "text",
        "LastModifiedDate": 1_700_000_000.0,
        "Name": name,
        "Type": "String",
        "Value": value,
        "Version": 1,
    }}))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeInstances {
    #[serde(default)]
    filters: Vec<Filter>,
    #[serde(default)]
    instance_information_filter_list: Vec<OldFilter>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    key: String,
    values: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldFilter {
    key: String,
    value_set: Vec<String>,
}

pub(super) fn instance_information(ssm: &Ssm, body: Value) -> Result<Value, JsonError> {
    let request: DescribeInstances = parse(body)?;
    let most = MEMBERS.limit("maxResults", request.max_results, 5..=50)?;
    if !request.filters.is_empty() && !request.instance_information_filter_list.is_empty() {
        let message = "Filters and InstanceInformationFilterList can't be used together.";
        return Err(JsonError::caller("ValidationException", message));
    }
    let old = request
        .instance_information_filter_list
        .into_iter()
        .map(|old| Filter { key: old.key, values: old.value_set });
    let filters = request.filters.into_iter().chain(old).collect::<Vec<_>>();
    for filter in &filters {
        check_filter(filter)?;
    }
    let mut listed = listed(ssm);
    listed.retain(|(facts, ping)| {
        filters.iter().all(|filter| {
            let has = |value: &str| filter.values.iter().any(|wanted| wanted == value);
            match filter.key.as_str() {
                "InstanceIds" => has(&facts.id),
                "PingStatus" => has(ping),
                "PlatformTypes" => has("Linux"),
                _ => has("EC2Instance"),
            }
        })
    });
    let (page, next) =
        page(listed, |(facts, _)| facts.id.clone(), Order::Ascending, most, request.next_token.as_deref())
            .map_err(bad_token)?;
    let agent_version = ssm.settings().agent_version;
    let list = page.iter().map(|(facts, ping)| information(facts, ping, &agent_version)).collect::<Vec<_>>();
    Ok(with_token(json!({ "InstanceInformationList": list }), next))
}

/// Running instances whose agent is, or once was, connected, by id.
fn listed(ssm: &Ssm) -> Vec<(InstanceFacts, &'static str)> {
    let mut instances = ssm.world.instances();
    instances.sort_by(|one, other| one.id.cmp(&other.id));
    let mut registered = locked(&ssm.registered);
    registered.retain(|id| instances.iter().any(|facts| facts.id == *id));
    instances
        .into_iter()
        .filter_map(|facts| {
            if ssm.connected(&facts.id).is_some() {
                registered.insert(facts.id.clone());
                Some((facts, "Online"))
            } else {
                registered.contains(&facts.id).then_some((facts, "ConnectionLost"))
            }
        })
        .collect()
}

fn check_filter(filter: &Filter) -> Result<(), JsonError> {
    match filter.key.as_str() {
        "InstanceIds" => {
            let bad = filter.values.iter().find(|id| {
                let hex = id.strip_prefix("i-").or_else(|| id.strip_prefix("mi-"));
                hex.is_none_or(|hex| {
                    !matches!(hex.len(), 8 | 17) || !hex.bytes().all(|b| b.is_ascii_hexdigit())
                })
            });
            match bad {
                Some(id) => Err(JsonError::caller("InvalidInstanceId", format!("Invalid instance id {id}."))),
                None => Ok(()),
            }
        }
        "PingStatus" | "PlatformTypes" | "ResourceType" => Ok(()),
        key => Err(JsonError::caller("InvalidFilterKey", format!("The filter key {key} is not valid."))),
    }
}

fn information(facts: &InstanceFacts, ping: &str, agent_version: &str) -> Value {
    json!({
        "InstanceId": facts.id,
        "PingStatus": ping,
        "LastPingDateTime": seconds(clock::now()),
        "AgentVersion": agent_version,
        "IsLatestVersion": true,
        "PlatformType": "Linux",
        "ResourceType": "EC2Instance",
        "IPAddress": facts.private_ip.to_string(),
        "ComputerName": facts.host_name,
        "SourceId": facts.id,
        "SourceType": "AWS::EC2::Instance",
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeSessions {
    state: Option<String>,
    #[serde(default)]
    filters: Vec<SessionFilter>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SessionFilter {
    key: String,
    value: String,
}

pub(super) fn sessions(ssm: &Ssm, body: Value) -> Result<Value, JsonError> {
    let request: DescribeSessions = parse(body)?;
    let most = MEMBERS.limit("maxResults", request.max_results, 1..=200)?;
    let state = MEMBERS.text("state", request.state, 1..=7)?;
    let active = match state.as_str() {
        "Active" => true,
        "History" => false,
        _ => {
            let rule = "satisfy enum value set: [Active, History]";
            return Err(MEMBERS.broken("state", &state, rule));
        }
    };
    if let Some(filter) = request
        .filters
        .iter()
        .find(|filter| !matches!(filter.key.as_str(), "Target" | "SessionId" | "Status"))
    {
        let message = format!("The filter key {} is not valid.", filter.key);
        return Err(JsonError::caller("InvalidFilterKey", message));
    }
    let mut all = ssm.book.all();
    all.retain(|record| {
        matches!(record.state, State::Ended { .. }) != active
            && request.filters.iter().all(|filter| match filter.key.as_str() {
                "Target" => record.target == filter.value,
                "SessionId" => record.id == filter.value,
                _ => status(record) == filter.value,
            })
    });
    all.sort_by(|one, other| one.id.cmp(&other.id));
    let (page, next) =
        page(all, |record| record.id.clone(), Order::Ascending, most, request.next_token.as_deref())
            .map_err(bad_token)?;
    let list = page.iter().map(session).collect::<Vec<_>>();
    Ok(with_token(json!({ "Sessions": list }), next))
}

fn status(record: &Record) -> &'static str {
    match record.state {
        State::Active => "Connected",
        State::Terminating => "Terminating",
        State::Ended { .. } => "Terminated",
    }
}

fn session(record: &Record) -> Value {
    let mut out = json!({
        "SessionId": record.id,
        "Target": record.target,
        "Status": status(record),
        "StartDate": seconds(record.started),
        "DocumentName": record.document,
    });
    if let Some(reason) = &record.reason {
        out["Reason"] = json!(reason);
    }
    if let State::Ended { at, why } = &record.state {
        out["EndDate"] = json!(seconds(*at));
        out["Details"] = json!(why);
    }
    out
}

/// Seconds since 1970, as JSON 1.1 writes times.
fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

fn bad_token(_: BadToken) -> JsonError {
    JsonError::caller("InvalidNextToken", "The specified token isn't valid.")
}

fn with_token(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["NextToken"] = Value::String(next);
    }
    answer
}
