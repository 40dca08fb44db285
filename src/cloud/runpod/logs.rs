//! A pod's log as a stream of lines: opened, resumed where it broke, and never the same line twice.
//!
//! RunPod's stream never ends by itself: whoever does not follow it ends when nothing came for a while. RunPod keeps no
//! log of a pod that is deleted.

mod resume;
mod sse;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::client::{Call, Client, encoded, path_with};
use super::errors::{Kind, Refusal};
use super::wire::text;
use crate::cloud::CloudError;
use resume::Cursor;
use sse::{Event, Parser};

const ACTION: &str = "GetPodLogs";
/// Of the answer's beginning.
const DEADLINE: Duration = Duration::from_secs(15);
/// A stream that is followed and says nothing for so long is opened again: a connection may be gone unnoticed.
const SILENT: Duration = Duration::from_secs(120);
/// So many connections in a row may bring nothing but errors.
const TRIES: u32 = 5;
/// A connection that lasted for so long was none of them, whatever ended it.
const LASTING: Duration = Duration::from_secs(10);
/// Between them; doubled.
const PAUSE: Duration = Duration::from_secs(1);
/// Of an answer that is an error.
const LARGEST_ERROR: usize = 64 << 10;
/// RunPod's limit.
pub const MOST_TAIL: u32 = 5000;

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The container's, standard output and error together.
    Container,
    /// The host's about the container: pulls, starts, errors of the runtime.
    System,
}

/// Which part of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// `None` is both.
    pub source: Option<Source>,
    /// Lines from the end, at most [`MOST_TAIL`]; `None` is RunPod's default of 100. Nothing beside `since`.
    pub tail: Option<u32>,
    pub since: Option<Timestamp>,
    pub until: Until,
}

/// When it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When no line came for so long.
    Silent(Duration),
    /// With the pod.
    Gone,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub at: Option<Timestamp>,
    pub source: Option<Source>,
    pub text: String,
}

/// A log that is being read.
#[derive(Debug)]
pub struct PodLog {
    client: Client,
    id: String,
    query: LogQuery,
    cursor: Cursor,
    open: Option<Open>,
    lines: VecDeque<LogLine>,
    failures: u32,
    /// When the last line came, or a connection was made.
    heard: Instant,
}

#[derive(Debug)]
struct Open {
    body: Incoming,
    parser: Parser,
    since: Instant,
}

impl Client {
    /// The log of a pod. Nothing is sent before the first line is asked for.
    #[must_use]
    pub fn logs(&self, id: &str, query: LogQuery) -> PodLog {
        PodLog {
            client: self.clone(),
            id: id.to_owned(),
            query,
            cursor: Cursor::default(),
            open: None,
            lines: VecDeque::new(),
            failures: 0,
            heard: Instant::now(),
        }
    }
}

impl PodLog {
    /// The next line; `None` at the end. Giving up while waiting loses nothing.
    ///
    /// # Errors
    /// The log cannot be read, or not any more. What has come stays delivered, and asking again tries again.
    pub async fn next(&mut self) -> Result<Option<LogLine>, CloudError> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                self.heard = Instant::now();
                return Ok(Some(line));
            }
            let trouble = match self.more().await {
                Ok(More::Bytes) => continue,
                Ok(More::Silence) => return Ok(None),
                Ok(More::Broken(why)) => Refusal::new(Kind::Server, why),
                // Its log went with it.
                Err(refusal) if refusal.kind == Kind::NotFound => return Ok(None),
                Err(refusal) => refusal,
            };
            self.open = None;
            if !is_worth_another(&trouble) || self.failures >= TRIES {
                self.failures = 0;
                return Err(trouble.into_error());
            }
            self.failures += 1;
            // The first time at once: streams are cut by proxies now and then.
            if self.failures > 1 {
                tokio::time::sleep(PAUSE * 2u32.pow(self.failures - 2)).await;
            }
        }
    }

    /// Reads what comes, on a connection that there may not be yet.
    async fn more(&mut self) -> Result<More, Refusal> {
        if self.open.is_none() {
            let body = self.connect().await?;
            self.cursor.resume();
            self.heard = Instant::now();
            self.open = Some(Open { body, parser: Parser::default(), since: self.heard });
        }
        let patience = match self.query.until {
            Until::Silent(limit) => limit.saturating_sub(self.heard.elapsed()),
            Until::Gone => SILENT,
        };
        let Some(open) = &mut self.open else { return Ok(More::Broken("no connection".to_owned())) };
        let frame = timeout(patience, open.body.frame()).await;
        if open.since.elapsed() >= LASTING {
            self.failures = 0;
        }
        let Ok(frame) = frame else {
            return Ok(match self.query.until {
                Until::Silent(_) => More::Silence,
                Until::Gone => More::Broken(format!("nothing came for {SILENT:?}")),
            });
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Ok(More::Broken(format!("the stream broke: {error}"))),
            None => {
                return Ok(match self.query.until {
                    Until::Silent(_) => More::Silence,
                    Until::Gone => More::Broken("the stream was closed".to_owned()),
                });
            }
        };
        let events = frame.into_data().map(|data| open.parser.push(&data)).unwrap_or_default();
        for event in events {
            if self.cursor.take(&event) {
                self.failures = 0;
                self.lines.extend(line(&event));
            }
        }
        Ok(More::Bytes)
    }

    async fn connect(&self) -> Result<Incoming, Refusal> {
        let mut call = Call::look(ACTION, self.path());
        call.deadline = DEADLINE;
        call.headers = vec![(header::ACCEPT, HeaderValue::from_static("text/event-stream"))];
        let last = self.cursor.id().and_then(|id| HeaderValue::from_str(id).ok());
        call.headers.extend(last.map(|id| (header::HeaderName::from_static("last-event-id"), id)));
        let client = &self.client;
        let key = client.key().await?;
        client.turn(call.class, DEADLINE).await?;
        let began = Instant::now();
        let opened = async {
            let answer = {
                let _under_way = client.governor().send();
                let answer = client.http().open(&key, &client.message(&call)?).await?;
                client.governor().told(answer.headers());
                answer
            };
            if answer.status() == StatusCode::OK {
                return Ok(answer.into_body());
            }
            let (parts, body) = answer.into_parts();
            let body = timeout(DEADLINE, Limited::new(body, LARGEST_ERROR).collect()).await;
            let body = body.ok().and_then(Result::ok).map_or_else(Bytes::new, |body| body.to_bytes());
            Err(client.refused(&Method::GET, parts.status.as_u16(), &parts.headers, &body))
        };
        let opened =
            opened.await.map_err(|refusal| Refusal { detail: key.scrub(&refusal.detail), ..refusal });
        client.count(ACTION, &opened, began);
        opened
    }

    fn path(&self) -> String {
        let LogQuery { source, tail, since, until: _ } = self.query;
        let mut query = Vec::new();
        if let Some(source) = source {
            query.push(("source", source.name().to_owned()));
        }
        match since {
            Some(since) => query.push(("since", since.to_string())),
            None => query.extend(tail.map(|tail| ("tail", tail.min(MOST_TAIL).to_string()))),
        }
        path_with(&format!("/pods/{}/logs", encoded(&self.id)), &query)
    }
}

enum More {
    Bytes,
    /// The end of what is there.
    Silence,
    Broken(String),
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::System => "system",
        }
    }
}

/// A refusal for rate is waited for by the governor.
fn is_worth_another(refusal: &Refusal) -> bool {
    match refusal.kind {
        Kind::Server | Kind::Timeout | Kind::Unreadable | Kind::Unreachable | Kind::Unknown => true,
        Kind::Throttled(after) => after <= DEADLINE,
        Kind::NoCapacity
        | Kind::Pool
        | Kind::Rule
        | Kind::Balance
        | Kind::SpendLimit
        | Kind::Key
        | Kind::KeyScope
        | Kind::NotFound
        | Kind::Conflict
        | Kind::TooLarge
        | Kind::Schema
        | Kind::NoKey
        | Kind::Fenced => false,
    }
}

/// What is not the documented JSON is a line as it stands: somebody wrote it.
fn line(event: &Event) -> Option<LogLine> {
    let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
        return Some(LogLine { at: None, source: None, text: event.data.clone() });
    };
    Some(LogLine {
        at: text(&data, "ts").and_then(|at| at.parse().ok()),
        source: match text(&data, "source") {
            Some("container") => Some(Source::Container),
            Some("system") => Some(Source::System),
            Some(_) | None => None,
        },
        text: text(&data, "line")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_from_its_json_or_taken_as_it_stands() {
        let read = |data: &str| line(&Event { id: "1".to_owned(), data: data.to_owned() });
        let full =
            read(r#"{"ts":"2026-06-01T12:02:03Z","source":"container","line":"Model loaded.","more":1}"#);
        let expected = LogLine {
            at: "2026-06-01T12:02:03Z".parse().ok(),
            source: Some(Source::Container),
            text: "Model loaded.".to_owned(),
        };
        assert_eq!(full, Some(expected));
        let odd = LogLine { at: None, source: None, text: "oops {".to_owned() };
        assert_eq!(read("oops {"), Some(odd));
        assert_eq!(read(r#"{"ping":1}"#), None);
        let bare = LogLine { at: None, source: None, text: String::new() };
        assert_eq!(read(r#"{"ts":"now","source":"moon","line":""}"#), Some(bare));
    }
}
