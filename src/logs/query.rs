//! The query of `/containerLogs`: which part of a log, and in which form.
//!
//! Pure. Read and validated as kubelet 1.36 does it (`getContainerLogs` in pkg/kubelet/server), with its texts and
//! codes. The API server validates the same before, so what is wrong here comes from somebody else.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use super::cri::Stream;
use super::stamp::Stamp;

/// PodLogOptions, as far as they matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Go on until the container ends.
    pub follow: bool,
    /// The run before the present one.
    pub previous: bool,
    /// A time before each line.
    pub timestamps: bool,
    pub since: Option<Since>,
    /// Only so many lines of the file, counted from its end; 0 is none.
    pub tail_lines: Option<u64>,
    /// Only so many bytes, counted from the beginning; at least 1.
    pub limit_bytes: Option<u64>,
    pub wanted: Wanted,
}

/// From when on lines are wanted, to the nanosecond and inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So many seconds before the request; at least 1.
    Seconds(u64),
    Time(Timestamp),
}

/// Which stream is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    #[default]
    All,
    Only(Stream),
}

/// A query that is refused. `Display` is the kubelet's text, [`BadQuery::status`] its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// A number or a time is none.
    #[error(r#"{{"message": "Unable to decode query."}}"#)]
    Undecodable,
    /// A value out of its range, or two that exclude each other.
    #[error(r#"{{"message": "Invalid request."}}"#)]
    Invalid,
}

impl BadQuery {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Undecodable => 400,
            Self::Invalid => 422,
        }
    }
}

impl Options {
    /// Parses what stands after `?`, still encoded. Of a key that comes twice the first one counts.
    ///
    /// # Errors
    /// [`BadQuery`], as the kubelet refuses it.
    pub fn parse(query: &str) -> Result<Self, BadQuery> {
        let pairs: Vec<_> = query.split('&').filter_map(pair).collect();
        let value = |key: &str| pairs.iter().find(|(it, _)| it == key).map(|(_, value)| &**value);
        let number =
            |text: Option<&str>| text.map(str::parse::<i64>).transpose().map_err(|_| BadQuery::Undecodable);
        // An older name: `all` is as if nothing was said.
        let tail_lines = match value("tail") {
            None | Some("") => number(value("tailLines"))?,
            Some("all") => None,
            tail => number(tail)?,
        };
        let since_seconds = number(value("sinceSeconds"))?;
        let since_time = value("sinceTime").map(time).transpose()?;
        let limit_bytes = number(value("limitBytes"))?;

        let since = match (since_seconds, since_time) {
            (Some(_), Some(_)) => return Err(BadQuery::Invalid),
            (Some(seconds), None) => Some(Since::Seconds(at_least(1, seconds)?)),
            (None, time) => time.map(Since::Time),
        };
        let tail_lines = tail_lines.map(|lines| at_least(0, lines)).transpose()?;
        let limit_bytes = limit_bytes.map(|bytes| at_least(1, bytes)).transpose()?;
        let wanted = match value("stream") {
            None | Some("All") => Wanted::All,
            // Lines are counted over both streams, so the last ones of one of them cannot be told.
            Some("Stdout") if tail_lines.is_none() => Wanted::Only(Stream::Stdout),
            Some("Stderr") if tail_lines.is_none() => Wanted::Only(Stream::Stderr),
            Some(_) => return Err(BadQuery::Invalid),
        };
        let flag =
            |key: &str| value(key).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"));
        let (follow, previous, timestamps) = (flag("follow"), flag("previous"), flag("timestamps"));
        Ok(Self { follow, previous, timestamps, since, tail_lines, limit_bytes, wanted })
    }

    /// A query that asks for this.
    #[must_use]
    pub fn query(&self) -> String {
        let flag = |name, is_set: bool| is_set.then(|| format!("{name}=true"));
        let number = |name, number: Option<u64>| number.map(|number| format!("{name}={number}"));
        let since = self.since.and_then(|since| match since {
            Since::Seconds(seconds) => Some(format!("sinceSeconds={seconds}")),
            Since::Time(time) if time == Timestamp::MIN => None,
            Since::Time(time) => Some(format!("sinceTime={time}")),
        });
        let stream = match self.wanted {
            Wanted::All => None,
            Wanted::Only(Stream::Stdout) => Some("stream=Stdout".to_owned()),
            Wanted::Only(Stream::Stderr) => Some("stream=Stderr".to_owned()),
        };
        let flags = [
            flag("follow", self.follow),
            flag("previous", self.previous),
            flag("timestamps", self.timestamps),
        ];
        let numbers = [number("tailLines", self.tail_lines), number("limitBytes", self.limit_bytes)];
        let all: Vec<_> = flags.into_iter().chain(numbers).chain([since, stream]).flatten().collect();
        all.join("&")
    }

    /// The moment before which lines are not wanted, for a request that came at `now`.
    #[must_use]
    pub fn since(&self, now: Timestamp) -> Option<Timestamp> {
        self.since.map(|since| match since {
            Since::Time(time) => time,
            Since::Seconds(seconds) => {
                let by = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
                now.checked_sub(by).unwrap_or(Timestamp::MIN)
            }
        })
    }
}

fn at_least(least: i64, number: i64) -> Result<u64, BadQuery> {
    u64::try_from(number).ok().filter(|_| number >= least).ok_or(BadQuery::Invalid)
}

/// RFC 3339. Nothing, and the `null` of old clients, is a time before all others, not none at all.
fn time(text: &str) -> Result<Timestamp, BadQuery> {
    match text {
        "" | "null" => Ok(Timestamp::MIN),
        text => Stamp::parse(text.as_bytes()).map(|stamp| stamp.at).ok_or(BadQuery::Undecodable),
    }
}

/// Key and value, decoded. As in Go, what cannot be decoded and what has a semicolon is passed over.
fn pair(text: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    if text.is_empty() || text.contains(';') {
        return None;
    }
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    Some((decode(key)?, decode(value)?))
}

/// Undoes `+` and `%41`. What is not UTF-8 then is no value that we know, and may be mangled.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            byte => byte,
        });
    }
    Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Options {
        Options::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    fn time(text: &str) -> Option<Since> {
        Some(Since::Time(text.parse().unwrap()))
    }

    #[test]
    fn what_kubectl_asks_is_understood() {
        let none = Options::default();
        for (query, options) in [
            ("", none.clone()),
            ("follow=true", Options { follow: true, ..none.clone() }),
            ("previous=true&timestamps=true", Options { previous: true, timestamps: true, ..none.clone() }),
            ("tailLines=0", Options { tail_lines: Some(0), ..none.clone() }),
            ("tailLines=%2B5", Options { tail_lines: Some(5), ..none.clone() }),
            (
                "limitBytes=1&sinceSeconds=60",
                Options { limit_bytes: Some(1), since: Some(Since::Seconds(60)), ..none.clone() },
            ),
            (
                "sinceTime=2026-11-21T03%3A29%3A11Z",
                Options { since: time("2026-11-21T03:29:11Z"), ..none.clone() },
            ),
            (
                "sinceTime=2026-11-21T03:29:11.5%2B02:00",
                Options { since: time("2026-11-21T01:29:11.5Z"), ..none.clone() },
            ),
            ("sinceTime=", Options { since: Some(Since::Time(Timestamp::MIN)), ..none.clone() }),
            ("sinceTime=null", Options { since: Some(Since::Time(Timestamp::MIN)), ..none.clone() }),
            ("stream=All&tailLines=3", Options { tail_lines: Some(3), ..none.clone() }),
            ("stream=Stdout", Options { wanted: Wanted::Only(Stream::Stdout), ..none.clone() }),
            (
                "stream=Stderr&limitBytes=9",
                Options { wanted: Wanted::Only(Stream::Stderr), limit_bytes: Some(9), ..none.clone() },
            ),
            ("tail=7", Options { tail_lines: Some(7), ..none.clone() }),
            ("tail=7&tailLines=9", Options { tail_lines: Some(7), ..none.clone() }),
            ("tail=&tailLines=9", Options { tail_lines: Some(9), ..none.clone() }),
            ("tail=all&tailLines=9", none.clone()),
            ("tail=all&tailLines=x", none.clone()),
            ("container=c&insecureSkipTLSVerifyBackend=true&unknown=%zz&Follow=1", none.clone()),
            ("tailLines=1&tailLines=x", Options { tail_lines: Some(1), ..none.clone() }),
            ("tailLines=1;2&limitBytes=%2", none.clone()),
        ] {
            assert_eq!(parse(query), options, "{query}");
        }
    }

    #[test]
    fn everything_but_0_and_false_is_true() {
        for (query, follow) in [
            ("follow=0", false),
            ("follow=False", false),
            ("follow=FALSE", false),
            ("follow=", true),
            ("follow", true),
            ("follow=no", true),
            ("follow=00", true),
            ("follow=false&follow=true", false),
        ] {
            assert_eq!(parse(query).follow, follow, "{query}");
        }
    }

    #[test]
    fn bad_values_are_refused_in_the_kubelets_words() {
        for query in [
            "tailLines=x",
            "tailLines=",
            "tailLines=1.5",
            // A plus is a space.
            "tailLines=+5",
            "tailLines=9223372036854775808",
            "tail=x",
            "limitBytes=1k",
            "sinceSeconds=1h",
            "sinceTime=yesterday",
            "sinceTime=2026-11-21",
            "sinceTime=2026-11-21T03:29:11",
            // Undecodable comes first.
            "tailLines=-1&limitBytes=x",
        ] {
            let error = Options::parse(query).unwrap_err();
            assert_eq!(
                (error.status(), error.to_string().as_str()),
                (400, r#"{"message": "Unable to decode query."}"#),
                "{query}"
            );
        }
        for query in [
            "tailLines=-1",
            "tail=-1",
            "limitBytes=0",
            "limitBytes=-5",
            "sinceSeconds=0",
            "sinceSeconds=-5",
            "sinceSeconds=5&sinceTime=2026-11-21T03:29:11Z",
            "sinceSeconds=5&sinceTime=",
            "stream=stdout",
            "stream=",
            "stream=Both",
            "stream=Stdout&tailLines=1",
            "stream=Stderr&tailLines=0",
        ] {
            let error = Options::parse(query).unwrap_err();
            assert_eq!(
                (error.status(), error.to_string().as_str()),
                (422, r#"{"message": "Invalid request."}"#),
                "{query}"
            );
        }
    }

    #[test]
    fn seconds_count_from_the_request() {
        let now = "2026-11-21T03:29:11.5Z".parse().unwrap();
        assert_eq!(parse("sinceSeconds=90").since(now), Some("2026-11-21T03:27:41.5Z".parse().unwrap()));
        assert_eq!(parse("sinceSeconds=9223372036854775807").since(now), Some(Timestamp::MIN));
        assert_eq!(parse("").since(now), None);
    }

    proptest::proptest! {
        #[test]
        fn any_query_is_parsed_or_refused(any: String, known in "((tail|tailLines|limitBytes|sinceSeconds|sinceTime|stream|follow)=?[-+%0-9TZ:.a-zA-Z;]{0,12}&){0,4}") {
            for query in [any, known] {
                if let Ok(options) = Options::parse(&query) {
                    let again = Options::parse(&options.query());
                    let is_first = options.since == Some(Since::Time(Timestamp::MIN));
                    proptest::prop_assert!(is_first || again == Ok(options.clone()), "{}", options.query());
                    proptest::prop_assert!(options.limit_bytes != Some(0) && options.since != Some(Since::Seconds(0)));
                    proptest::prop_assert!(options.tail_lines.is_none() || options.wanted == Wanted::All);
                }
            }
        }
    }
}
