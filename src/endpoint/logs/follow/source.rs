//! The sources of an answer, each read a little at a time.

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use jiff::Timestamp;

use crate::endpoint::error::BodyError;
use crate::endpoint::guest::Guarded;
use crate::endpoint::logs::Asked;
use crate::logs::answer::{CHUNK, Next, Reading};
use crate::logs::query::{Options, Wanted};
use crate::logs::render::{Flow, Render};
use crate::logs::splice::Splice;
use crate::logs::stamped::Stamped;
use crate::logs::store::StoreError;

/// Where bytes come from.
pub(super) enum Source {
    Machine(Machine),
    Archive(Box<Archived>),
    /// From nowhere at present, and why.
    Lost(Loss),
    /// Nothing follows.
    Ended,
}

/// Why the machine's answer is none.
pub(super) enum Loss {
    /// It broke off.
    Broken(BodyError),
    /// The kubelet does not have the log, and says this.
    Dropped(Bytes),
}

/// What a source had.
pub(super) enum Heard {
    /// Something, perhaps nothing new.
    More,
    /// Nothing at present.
    Quiet,
    /// The container's end.
    End,
    Lost(Loss),
}

/// The kubelet's answer.
pub(super) struct Machine {
    body: Guarded,
    stamped: Stamped,
    /// Whether the kubelet has said anything.
    said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Something,
}

impl Machine {
    pub(super) fn new(body: Guarded, wanted: Wanted) -> Self {
        Self { body, stamped: Stamped::new(wanted), said: Said::Nothing }
    }

    pub(super) async fn next(&mut self, splice: &mut Splice, asked: &Asked) -> Heard {
        let bytes = match self.body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Heard::Lost(Loss::Broken(error.into())),
            None => {
                self.stamped.finish(splice);
                return Heard::End;
            }
        };
        if self.said == Said::Nothing && asked.is_dropped(&bytes) {
            return Heard::Lost(Loss::Dropped(bytes));
        }
        if !bytes.is_empty() {
            self.said = Said::Something;
        }
        self.stamped.feed(&bytes, splice);
        Heard::More
    }
}

/// The archive's records, written as the kubelet writes them when it is asked for times.
pub(super) struct Archived {
    reading: Reading,
    render: Render,
}

impl Archived {
    /// Without the lines before `since`.
    pub(super) fn new(reading: Reading, asked: &Asked, since: Option<Timestamp>) -> Self {
        let since = since.map(crate::logs::query::Since::Time);
        let wanted = asked.options.wanted;
        let options = Options { follow: true, timestamps: true, since, wanted, ..Options::default() };
        Self { reading, render: Render::new(&options, asked.at) }
    }

    pub(super) async fn next(&mut self, splice: &mut Splice) -> Result<Heard, StoreError> {
        let mut heard = Heard::Quiet;
        while splice.ready() < CHUNK {
            match self.reading.next().await {
                Ok(Next::Record(record)) => match self.render.write(&record, splice) {
                    Flow::More => heard = Heard::More,
                    Flow::Done => return Ok(Heard::End),
                },
                Ok(Next::End) => return Ok(Heard::End),
                Ok(Next::Idle | Next::Missing) => break,
                Err(error) if error.passes() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(heard)
    }
}

/// How the kubelet is asked for what is to be followed.
pub(super) fn query(options: &Options) -> String {
    Options { follow: true, timestamps: true, limit_bytes: None, ..options.clone() }.query()
}

/// When the kubelet began to answer, to the second.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = headers.get(header::DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelets_date_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(date(&headers), None);
        headers.insert(header::DATE, http::HeaderValue::from_static("Sat, 21 Nov 2026 20:42:48 GMT"));
        assert_eq!(date(&headers), Some("2026-11-21T20:42:48Z".parse().unwrap()));
    }

    #[test]
    fn the_kubelet_is_asked_for_times_and_for_all_bytes() {
        let options = Options::parse("follow=true&limitBytes=7&tailLines=3&previous=1&stream=All").unwrap();
        assert_eq!(query(&options), "follow=true&previous=true&timestamps=true&tailLines=3");
        let options = Options::parse("stream=Stderr&sinceTime=2026-11-21T03:29:11.5%2B02:00").unwrap();
        assert_eq!(
            query(&options),
            "follow=true&timestamps=true&sinceTime=2026-11-21T01:29:11.5Z&stream=Stderr"
        );
    }
}
