//! The operations on log streams.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::members::{MEMBERS, bad_token, group_name, group_of, invalid, stream_name, token};
use super::store::{Millis, Stream, Window};
use super::{Logs, answer, done};
use crate::aws::json::{JsonError, parse};
use crate::aws::page::{Order, page};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct StreamOnly {
    log_group_name: Option<String>,
    log_stream_name: Option<String>,
}

impl StreamOnly {
    fn names(self) -> Result<(String, String), JsonError> {
        Ok((group_name(self.log_group_name)?, stream_name("logStreamName", self.log_stream_name)?))
    }
}

pub(super) fn create(logs: &Logs, body: Value, now: Millis) -> Result<String, JsonError> {
    let (group, stream) = parse::<StreamOnly>(body)?.names()?;
    let mut state = logs.lock();
    let room = state.settings.room();
    state.store.add_stream(&group, stream, &room, now)?;
    done()
}

pub(super) fn delete(logs: &Logs, body: Value) -> Result<String, JsonError> {
    let (group, stream) = parse::<StreamOnly>(body)?.names()?;
    logs.lock().store.remove_stream(&group, &stream)?;
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DescribeLogStreams {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    descending: Option<bool>,
    next_token: Option<String>,
    limit: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OrderBy {
    Name,
    LastEvent,
}

impl OrderBy {
    fn read(value: Option<&str>) -> Result<Self, JsonError> {
        match value {
            None | Some("LogStreamName") => Ok(Self::Name),
            Some("LastEventTime") => Ok(Self::LastEvent),
            Some(other) => {
                let rule = "satisfy enum value set: [LogStreamName, LastEventTime]";
                Err(MEMBERS.broken("orderBy", other, rule))
            }
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Streams {
    log_streams: Vec<Described>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    log_stream_name: String,
    creation_time: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_event_timestamp: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_event_timestamp: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_ingestion_time: Option<Millis>,
    upload_sequence_token: String,
    arn: String,
    /// Zero since 2019, whatever there is.
    stored_bytes: u64,
}

pub(super) fn describe(logs: &Logs, body: Value, now: Millis) -> Result<String, JsonError> {
    let request: DescribeLogStreams = parse(body)?;
    let name = group_of(&logs.owner, request.log_group_name, request.log_group_identifier)?;
    let prefix = request.log_stream_name_prefix;
    let prefix = prefix.map(|prefix| stream_name("logStreamNamePrefix", Some(prefix))).transpose()?;
    let order_by = OrderBy::read(request.order_by.as_deref())?;
    if order_by == OrderBy::LastEvent && prefix.is_some() {
        return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    let limit = MEMBERS.limit("limit", request.limit, 1..=50)?;
    let token = token("nextToken", request.next_token)?;
    let (prefix, descending) = (prefix.unwrap_or_default(), request.descending.unwrap_or(false));

    let state = logs.lock();
    let group = state.store.group(&name)?;
    let window = Window {
        times: group.horizon(now)..Millis::MAX,
        arrived_by: now - Millis::from(state.settings.ingestion_delay_ms),
    };
    // A stream without events is before all others.
    let key = |(name, stream): &(&String, &Stream)| match order_by {
        OrderBy::Name => (*name).clone(),
        OrderBy::LastEvent => {
            let last = stream.all(&window).next_back().map_or(0, |(key, _)| key.timestamp.max(0));
            format!("{last:020}:{name}")
        }
    };
    let mut streams: Vec<_> = group
        .streams
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix))
        .map(|one| (key(&one), one))
        .collect();
    streams.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut order = Order::Ascending;
    if descending {
        streams.reverse();
        order = Order::Descending;
    }
    let (page, next_token) =
        page(streams, |(key, _)| key.clone(), order, limit, token.as_deref()).map_err(|_| bad_token())?;
    let arn = logs.owner.arn(&name);
    let log_streams =
        page.into_iter().map(|(_, (name, stream))| described(&arn, name, stream, &window)).collect();
    answer(&Streams { log_streams, next_token })
}

fn described(group_arn: &str, name: &str, stream: &Stream, window: &Window) -> Described {
    let mut events = stream.all(window);
    let first = events.next().map(|(key, _)| key.timestamp);
    let last = events.next_back().map(|(key, _)| key.timestamp);
    Described {
        log_stream_name: name.to_owned(),
        creation_time: stream.created,
        first_event_timestamp: first,
        last_event_timestamp: last.or(first),
        last_ingestion_time: stream.last_arrival(window.arrived_by),
        upload_sequence_token: sequence_token(stream.puts),
        arn: format!("{group_arn}:log-stream:{name}"),
        stored_bytes: 0,
    }
}

/// Of a stream into which was put so often.
pub(super) fn sequence_token(puts: u64) -> String {
    format!("{:056}", u128::from(puts) + 49_000_000_000_000_000_000)
}
