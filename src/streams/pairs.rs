//! Which streams of a port-forward belong together: two for each connection, one for its bytes and one for what goes
//! wrong. Pure.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use super::spdy::headers::{self, Headers};

/// How long the second stream of a pair may take; a kubelet's `streamCreationTimeout`.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) port: NonZeroU16,
    pub(super) data: u32,
    pub(super) error: u32,
}

/// What becomes of a new stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The other one is to come.
    Wait,
    Ready(Pair),
    /// Its headers say nothing that could be done.
    Refuse,
}

/// A stream whose other one did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) half: Half,
    pub(super) id: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Data,
    Error,
}

/// The streams that wait for each other. Times are those since the connection began.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    waiting: BTreeMap<Request, Waiting>,
}

/// Clients of old give their requests no number, and begin both streams one after the other, errors first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Request {
    Named(String),
    Numbered(u32),
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    half: Half,
    id: u32,
    port: NonZeroU16,
    until: Duration,
}

impl Pairs {
    /// Takes a new stream.
    pub(super) fn take(&mut self, id: u32, headers: &Headers, now: Duration) -> Step {
        let half = match headers::value(headers, "streamtype") {
            Some("data") => Half::Data,
            Some("error") => Half::Error,
            Some(_) | None => return Step::Refuse,
        };
        let Some(port) = headers::value(headers, "port").and_then(|port| port.parse().ok()) else {
            return Step::Refuse;
        };
        let request = match (headers::value(headers, "requestid"), half) {
            (Some(request), _) if !request.is_empty() => Request::Named(request.to_owned()),
            (_, Half::Error) => Request::Numbered(id),
            (_, Half::Data) => Request::Numbered(id.saturating_sub(2)),
        };
        match self.waiting.get(&request).copied() {
            None => {
                self.waiting.insert(request, Waiting { half, id, port, until: now + PATIENCE });
                Step::Wait
            }
            Some(first) if first.half == half => Step::Refuse,
            Some(first) => {
                self.waiting.remove(&request);
                Step::Ready(match half {
                    Half::Data => Pair { port, data: id, error: first.id },
                    Half::Error => Pair { port: first.port, data: first.id, error: id },
                })
            }
        }
    }

    /// When the next one is late.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }

    /// Those that are late now, and are waited for no more.
    pub(super) fn late(&mut self, now: Duration) -> Vec<Late> {
        let mut late = Vec::new();
        self.waiting.retain(|_, waiting| {
            let is_late = waiting.until <= now;
            if is_late {
                late.push(Late { half: waiting.half, id: waiting.id });
            }
            !is_late
        });
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(kind: &str, port: &str, request: &str) -> Headers {
        [("requestid", request), ("port", port), ("streamtype", kind)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn pair(port: u16, data: u32, error: u32) -> Step {
        Step::Ready(Pair { port: port.try_into().unwrap(), data, error })
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn streams_of_one_request_find_each_other_in_any_order() {
        let mut pairs = Pairs::default();
        for (id, kind, port, request, step) in [
            (1, "error", "80", "0", Step::Wait),
            (3, "error", "81", "1", Step::Wait),
            (5, "data", "81", "1", pair(81, 5, 3)),
            (7, "data", "80", "0", pair(80, 7, 1)),
            (9, "data", "82", "2", Step::Wait),
            (11, "error", "82", "2", pair(82, 9, 11)),
            (13, "error", "80", "0", Step::Wait),
            // Without a number, the one right behind.
            (15, "error", "83", "", Step::Wait),
            (17, "data", "83", "", pair(83, 17, 15)),
        ] {
            assert_eq!(pairs.take(id, &headers(kind, port, request), NOW), step, "stream {id}");
        }
        assert_eq!(pairs.deadline(), Some(NOW + PATIENCE));
    }

    #[test]
    fn what_says_nothing_that_could_be_done_is_refused() {
        let mut pairs = Pairs::default();
        for (kind, port) in [
            ("", "80"),
            ("stdin", "80"),
            ("data", ""),
            ("data", "0"),
            ("data", "65536"),
            ("error", "http"),
            ("error", "-1"),
        ] {
            assert_eq!(pairs.take(1, &headers(kind, port, "0"), NOW), Step::Refuse, "{kind} {port}");
        }
        assert_eq!(pairs.deadline(), None);
        assert_eq!(pairs.take(3, &headers("data", "80", "0"), NOW), Step::Wait);
        assert_eq!(pairs.take(5, &headers("data", "80", "0"), NOW), Step::Refuse);
        assert_eq!(pairs.take(7, &headers("error", "80", "0"), NOW), pair(80, 3, 7));
    }

    #[test]
    fn nobody_is_waited_for_for_ever() {
        let mut pairs = Pairs::default();
        pairs.take(1, &headers("error", "80", "0"), NOW);
        pairs.take(3, &headers("data", "80", "1"), NOW + Duration::from_secs(1));
        assert_eq!(pairs.late(NOW), []);
        let until = pairs.deadline().unwrap();
        assert_eq!(pairs.late(until), [Late { half: Half::Error, id: 1 }]);
        assert_eq!(pairs.late(until + Duration::from_secs(1)), [Late { half: Half::Data, id: 3 }]);
        assert_eq!((pairs.late(Duration::MAX), pairs.deadline()), (vec![], None));
    }
}
