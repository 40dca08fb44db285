//! The query string of a request, parsed strictly.
//!
//! What is doubled, unknown or badly encoded is refused: a proxy that reads a query otherwise than the
//! server behind it is how walls get holes. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::denied::{Denied, Rule};

/// A strictly parsed query: every key once.
#[derive(Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

/// What a list asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListAsk {
    /// `None` for the newest.
    pub version: Option<u64>,
    pub matching: Option<VersionMatch>,
}

/// What a watch asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchAsk {
    pub version: Option<u64>,
    pub matching: Option<VersionMatch>,
    /// `sendInitialEvents=true`: the state as ADDED events, then a marking bookmark.
    pub initial_events: bool,
    pub bookmarks: bool,
    pub timeout: Option<Duration>,
}

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    NotOlderThan,
    Exact,
}

/// How a collection is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    List(ListAsk),
    Watch(WatchAsk),
}

/// No watch is longer than this; client-go asks for 5 to 60 minutes.
const LONGEST_WATCH: Duration = Duration::from_secs(3600);

impl Query {
    /// Parses the part behind the question mark.
    pub(crate) fn parse(raw: Option<&str>) -> Result<Self, Denied> {
        let mut pairs = BTreeMap::new();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key)?, decode(value)?);
            if pairs.insert(key.clone(), value).is_some() {
                return Err(Denied::new(Rule::Query, format!("query parameter `{key}` is given twice")));
            }
        }
        Ok(Self(pairs))
    }

    /// Refuses every parameter but `timeout` (which clients add for themselves) and those of `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Denied> {
        match self.0.keys().find(|key| *key != "timeout" && !known.contains(&key.as_str())) {
            Some(key) => {
                Err(Denied::new(Rule::Query, format!("query parameter `{key}` is not allowed here")))
            }
            None => Ok(()),
        }
    }

    /// The field selector; empty is none.
    pub(crate) fn field_selector(&self) -> Option<&str> {
        self.get("fieldSelector")
    }

    /// The parameters of a list or of a watch.
    pub(crate) fn read(&self) -> Result<Read, Denied> {
        self.only(&[
            "watch",
            "resourceVersion",
            "resourceVersionMatch",
            "sendInitialEvents",
            "allowWatchBookmarks",
            "timeoutSeconds",
            "limit",
            "fieldSelector",
        ])?;
        let version = match self.get("resourceVersion") {
            None => None,
            Some(digits) => Some(digits.parse().map_err(|_not_a_number| {
                Denied::new(Rule::Query, format!("resourceVersion is `{digits}`, expected a number"))
            })?),
        };
        let matching = match self.get("resourceVersionMatch") {
            None => None,
            Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
            Some("Exact") => Some(VersionMatch::Exact),
            Some(other) => {
                let text = format!("resourceVersionMatch is `{other}`, expected `NotOlderThan` or `Exact`");
                return Err(Denied::new(Rule::Query, text));
            }
        };
        let timeout = match self.get("timeoutSeconds") {
            None => None,
            Some(digits) => {
                let seconds = digits.parse().map_err(|_not_a_number| {
                    Denied::new(Rule::Query, format!("timeoutSeconds is `{digits}`, expected a number"))
                })?;
                Some(Duration::from_secs(seconds).min(LONGEST_WATCH))
            }
        };
        if !self.flag("watch")? {
            return Ok(Read::List(ListAsk { version, matching }));
        }
        Ok(Read::Watch(WatchAsk {
            version,
            matching,
            initial_events: self.flag("sendInitialEvents")?,
            bookmarks: self.flag("allowWatchBookmarks")?,
            timeout,
        }))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn flag(&self, key: &str) -> Result<bool, Denied> {
        match self.0.get(key).map(String::as_str) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => {
                Err(Denied::new(Rule::Query, format!("`{key}` is `{other}`, expected `true` or `false`")))
            }
        }
    }
}

impl WatchAsk {
    /// How long the stream may last.
    pub(crate) fn lasts(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(300)).min(LONGEST_WATCH)
    }
}

impl Read {
    /// The query of the same read, with our own field selector, for the API server.
    /// `name` is a checked object name, so nothing in it needs escaping.
    pub(crate) fn query_by_name(&self, name: &str) -> String {
        let mut query = format!("fieldSelector=metadata.name%3D{name}");
        let mut add = |key: &str, value: &str| {
            query.push('&');
            query.push_str(key);
            query.push('=');
            query.push_str(value);
        };
        let (version, matching) = match self {
            Self::List(ask) => (ask.version, ask.matching),
            Self::Watch(ask) => (ask.version, ask.matching),
        };
        if let Some(version) = version {
            add("resourceVersion", &version.to_string());
        }
        match matching {
            Some(VersionMatch::NotOlderThan) => add("resourceVersionMatch", "NotOlderThan"),
            Some(VersionMatch::Exact) => add("resourceVersionMatch", "Exact"),
            None => {}
        }
        if let Self::Watch(ask) = self {
            add("watch", "true");
            add("timeoutSeconds", &ask.lasts().as_secs().to_string());
            if ask.bookmarks {
                add("allowWatchBookmarks", "true");
            }
            if ask.initial_events {
                add("sendInitialEvents", "true");
            }
        }
        query
    }
}

fn decode(text: &str) -> Result<String, Denied> {
    let bad = || Denied::new(Rule::Query, "the query is not correctly encoded");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (rest.next().and_then(hex), rest.next().and_then(hex));
                high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(bad)?
            }
            b';' => return Err(bad()),
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_not_utf8| bad())
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str) -> Result<Read, Denied> {
        Query::parse(Some(raw))?.read()
    }

    #[test]
    fn reads_what_client_go_sends() {
        assert_eq!(
            read("fieldSelector=spec.nodeName%3Dburst&limit=500&resourceVersion=0").unwrap(),
            Read::List(ListAsk { version: Some(0), matching: None })
        );
        let raw = "allowWatchBookmarks=true&fieldSelector=a%3Db&resourceVersion=&resourceVersionMatch=NotOlderThan\
                   &sendInitialEvents=true&timeoutSeconds=422&watch=true";
        assert_eq!(
            read(raw).unwrap(),
            Read::Watch(WatchAsk {
                version: None,
                matching: Some(VersionMatch::NotOlderThan),
                initial_events: true,
                bookmarks: true,
                timeout: Some(Duration::from_secs(422)),
            })
        );
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for raw in [
            "fieldSelector=metadata.name%3Da&fieldSelector=metadata.name%3Db",
            "fieldSelector=a&%66ieldSelector=b",
            "watch=true&watch=false",
            "watch=yes",
            "resourceVersion=1x",
            "resourceVersion=-1",
            "resourceVersionMatch=Any",
            "labelSelector=a",
            "continue=abc",
            "timeoutSeconds=-1",
            "a=%",
            "a=%zz",
            "a=%ff",
            "watch=1;limit=1",
            "pretty=true",
        ] {
            assert!(read(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn no_watch_is_longer_than_an_hour() {
        let Read::Watch(ask) = read("watch=1&timeoutSeconds=999999").unwrap() else { panic!("not a watch") };
        assert_eq!(ask.lasts(), LONGEST_WATCH);
    }

    #[test]
    fn the_upstream_query_is_written_anew() {
        let ask = read("watch=1&sendInitialEvents=1&allowWatchBookmarks=1&resourceVersionMatch=NotOlderThan&timeoutSeconds=9&fieldSelector=x")
            .unwrap();
        assert_eq!(
            ask.query_by_name("token"),
            "fieldSelector=metadata.name%3Dtoken&resourceVersionMatch=NotOlderThan&watch=true&timeoutSeconds=9\
             &allowWatchBookmarks=true&sendInitialEvents=true"
        );
    }
}
