//! The operations on events: put, get, filter.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::batch::{self, InputEvent, Judged, MOST_EVENTS};
use super::cursor::Cursor;
use super::members::{
    MEMBERS, absent, bad_token, group_name, group_of, invalid, not_played, stream_name, time, token, untrue,
};
use super::read::{self, Start};
use super::store::{Group, Millis, Window};
use super::streams::sequence_token;
use super::{Logs, State, answer, filter as pages};
use crate::aws::json::{JsonError, parse};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PutLogEvents {
    log_group_name: Option<String>,
    log_stream_name: Option<String>,
    log_events: Option<Vec<Event>>,
    sequence_token: Option<String>,
    entity: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    timestamp: Option<Millis>,
    message: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Put {
    /// Nobody needs it any more.
    next_sequence_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_log_events_info: Option<Rejected>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rejected {
    #[serde(skip_serializing_if = "Option::is_none")]
    too_new_log_event_start_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    too_old_log_event_end_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_log_event_end_index: Option<usize>,
}

pub(super) fn put(logs: &Logs, body: Value, now: Millis) -> Result<String, JsonError> {
    let request: PutLogEvents = parse(body)?;
    let group = group_name(request.log_group_name)?;
    let stream = stream_name("logStreamName", request.log_stream_name)?;
    token("sequenceToken", request.sequence_token)?;
    absent("entity", request.entity.as_ref())?;
    let events = input(MEMBERS.required("logEvents", request.log_events)?)?;
    batch::check(&events)?;
    let mut state = logs.lock();
    let room = state.settings.room();
    let horizon = state.store.group(&group)?.horizon(now);
    state.store.group(&group)?.stream(&stream)?;
    let judged = batch::judge(&events, horizon, now)?;
    let puts = state.store.put(&group, &stream, events, &judged, &room, now)?;
    drop(state);
    let Judged { accepted: _, too_new_start, too_old_end, expired_end } = judged;
    let any = [too_new_start, too_old_end, expired_end].iter().any(Option::is_some);
    let rejected = any.then_some(Rejected {
        too_new_log_event_start_index: too_new_start,
        too_old_log_event_end_index: too_old_end,
        expired_log_event_end_index: expired_end,
    });
    answer(&Put { next_sequence_token: sequence_token(puts), rejected_log_events_info: rejected })
}

/// Events with all that they must have.
fn input(events: Vec<Event>) -> Result<Vec<InputEvent>, JsonError> {
    let count = events.len();
    MEMBERS.length("logEvents", format!("[{count} events]"), count, 1..=MOST_EVENTS)?;
    let whole = |(index, Event { timestamp, message }): (usize, Event)| -> Result<InputEvent, JsonError> {
        // Named only where it is wrong: there are many.
        let member = |name: &str| format!("logEvents.{}.member.{name}", index + 1);
        let (timestamp, message) = match (timestamp, message) {
            (Some(timestamp @ 0..), Some(message)) if !message.is_empty() => (timestamp, message),
            (timestamp, message) => {
                let at = MEMBERS.required(&member("timestamp"), timestamp)?;
                let at = MEMBERS.number(&member("timestamp"), at, 0..=Millis::MAX)?;
                (at, MEMBERS.text(&member("message"), message, 1..=usize::MAX)?)
            }
        };
        Ok(InputEvent { timestamp, message })
    };
    events.into_iter().enumerate().map(whole).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GetLogEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: Option<String>,
    start_time: Option<Millis>,
    end_time: Option<Millis>,
    next_token: Option<String>,
    limit: Option<i64>,
    start_from_head: Option<bool>,
    unmask: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Got<'a> {
    events: Vec<Output<'a>>,
    next_forward_token: String,
    next_backward_token: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Output<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    log_stream_name: Option<&'a str>,
    timestamp: Millis,
    message: &'a str,
    ingestion_time: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
}

pub(super) fn get(logs: &Logs, body: Value, now: Millis) -> Result<String, JsonError> {
    let request: GetLogEvents = parse(body)?;
    let name = group_of(&logs.owner, request.log_group_name, request.log_group_identifier)?;
    let stream = stream_name("logStreamName", request.log_stream_name)?;
    let (start, end) = (time("startTime", request.start_time)?, time("endTime", request.end_time)?);
    let limit = MEMBERS.limit("limit", request.limit, 1..=10_000)?;
    untrue("unmask", request.unmask)?;
    let from = match token("nextToken", request.next_token)? {
        Some(token) => Start::token(&token).map_err(|_| bad_token())?,
        None if request.start_from_head == Some(true) => Start::Head,
        None => Start::Tail,
    };
    let page = {
        let state = logs.lock();
        let group = state.store.group(&name)?;
        let window = window(&state, group, start, end, now);
        read::page(group.stream(&stream)?, &window, from, &state.settings.bounds(limit))
    };
    let output = page.events.iter().map(|(key, event)| Output {
        log_stream_name: None,
        timestamp: key.timestamp,
        message: &event.message,
        ingestion_time: event.ingested,
        event_id: None,
    });
    answer(&Got {
        events: output.collect(),
        next_forward_token: page.forward_token(),
        next_backward_token: page.backward_token(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FilterLogEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<Millis>,
    end_time: Option<Millis>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
    start_from_head: Option<bool>,
    /// Of no effect since 2019: the answer is always interleaved.
    #[serde(rename = "interleaved")]
    _interleaved: Option<bool>,
    unmask: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Filtered<'a> {
    events: Vec<Output<'a>>,
    /// Empty since 2020.
    searched_log_streams: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) fn filter(logs: &Logs, body: Value, now: Millis) -> Result<String, JsonError> {
    let request: FilterLogEvents = parse(body)?;
    let name = group_of(&logs.owner, request.log_group_name, request.log_group_identifier)?;
    let wanted = Wanted::read(request.log_stream_names, request.log_stream_name_prefix)?;
    let (start, end) = (time("startTime", request.start_time)?, time("endTime", request.end_time)?);
    if request.filter_pattern.is_some_and(|pattern| !pattern.is_empty()) {
        return Err(invalid(
            "Filter patterns are not played by the local cloud: `filterPattern` must be empty.",
        ));
    }
    if request.start_from_head == Some(false) {
        return Err(not_played("startFromHead"));
    }
    untrue("unmask", request.unmask)?;
    let limit = MEMBERS.limit("limit", request.limit, 1..=10_000)?;
    let from = token("nextToken", request.next_token)?;
    let from = from.map(|token| Cursor::unseal(&token).map_err(|_| bad_token())).transpose()?;
    let (found, next) = {
        let state = logs.lock();
        let group = state.store.group(&name)?;
        wanted.check(group)?;
        let window = window(&state, group, start, end, now);
        let streams = group.streams.iter().filter(|(name, _)| wanted.has(name));
        pages::page(streams, &window, from, &state.settings.bounds(limit))
    };
    let output = found.iter().map(|found| Output {
        log_stream_name: Some(&found.stream),
        timestamp: found.key.timestamp,
        message: &found.event.message,
        ingestion_time: found.event.ingested,
        event_id: Some(found.id()),
    });
    answer(&Filtered {
        events: output.collect(),
        searched_log_streams: [],
        next_token: next.map(Cursor::sealed),
    })
}

/// Which streams are searched.
enum Wanted {
    Named(BTreeSet<String>),
    Beginning(String),
}

impl Wanted {
    fn read(names: Option<Vec<String>>, prefix: Option<String>) -> Result<Self, JsonError> {
        match (names, prefix) {
            (Some(_), Some(_)) => {
                Err(invalid("Only one of logStreamNames and logStreamNamePrefix may be given."))
            }
            (None, Some(prefix)) => stream_name("logStreamNamePrefix", Some(prefix)).map(Self::Beginning),
            (None, None) => Ok(Self::Beginning(String::new())),
            (Some(names), None) => {
                MEMBERS.length("logStreamNames", json!(names), names.len(), 1..=100)?;
                let name = |name| stream_name("logStreamNames", Some(name));
                names.into_iter().map(name).collect::<Result<_, _>>().map(Self::Named)
            }
        }
    }

    /// Who is named must be there.
    fn check(&self, group: &Group) -> Result<(), JsonError> {
        match self {
            Self::Named(names) => Ok(names.iter().try_for_each(|name| group.stream(name).map(|_| ()))?),
            Self::Beginning(_) => Ok(()),
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.contains(name),
            Self::Beginning(prefix) => name.starts_with(prefix),
        }
    }
}

/// What is seen of a group's streams now. The end is not in it: for FilterLogEvents, too, though its documentation
/// says otherwise (github.com/aws/aws-cli/issues/4262).
fn window(state: &State, group: &Group, start: Option<Millis>, end: Option<Millis>, now: Millis) -> Window {
    Window {
        times: start.unwrap_or(0).max(group.horizon(now))..end.unwrap_or(Millis::MAX),
        arrived_by: now - Millis::from(state.settings.ingestion_delay_ms),
    }
}
