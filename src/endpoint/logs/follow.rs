//! An answer that follows: from the machine, and when it breaks off, from the archive or from the machine once more.
//!
//! The kubelet is asked for times in any case, since only with these can the place be found again in another source
//! ([`Splice`]); who did not ask for them does not see them. How many bytes are wanted is counted here.
//! Nothing is read before the client takes it. When the process ends, a last line says so: an answer that merely broke off
//! would look whole, since the API server passes on what came of it as if that were all.

mod change;
mod source;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Asked, Live, archived};
use crate::clock;
use crate::endpoint::Endpoint;
use crate::endpoint::error::{ApiError, Body, BodyError};
use crate::endpoint::frames::FAREWELL;
use crate::endpoint::guest::{self, Answer};
use crate::informer::PodInformer;
use crate::link::Links;
use crate::logs::answer::Archive;
use crate::logs::names::StreamName;
use crate::logs::render::Flow;
use crate::logs::splice::{Splice, Times};
use source::{Heard, Loss, Machine, Source};

/// Between two looks at a source that is silent: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// One answer.
pub(super) struct Follow {
    links: Arc<dyn Links>,
    pods: Arc<PodInformer>,
    archive: Option<Arc<Archive>>,
    asked: Asked,
    /// The run's stream, once it was looked for.
    stream: Option<StreamName>,
    splice: Splice,
    first: First,
    source: Source,
    machine: Machines,
    /// When something last came.
    heard: Instant,
    pause: Duration,
    /// When nothing more is to be waited for.
    closing: CancellationToken,
    /// Whether what was sent ends in the middle of a line.
    is_inside: bool,
}

/// Which source the answer began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Machine,
    Archive,
}

/// What there is to hope for from the machine once its answer broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machines {
    /// It may go on. When it was asked last.
    Asked(Option<Instant>),
    /// Its present file begins later than what was sent.
    Useless,
}

impl Follow {
    /// Begins with the machine.
    pub(super) async fn live(
        endpoint: &Endpoint,
        request: &Request<Incoming>,
        asked: &Asked,
    ) -> Result<Live, ApiError> {
        let query = source::query(&asked.options);
        let request = guest::forwarded_to(request, &format!("{}?{query}", request.uri().path()))?;
        match guest::ask(endpoint.links.as_ref(), asked.uid(), request).await {
            Ok(Some(answer)) if answer.head.status == StatusCode::OK => {
                Ok(Live::Answered(Self::begin(endpoint, asked, answer)))
            }
            Ok(Some(answer)) => super::peek(answer, asked).await,
            Ok(None) => Ok(Live::NoMachine),
            Err(error) => Ok(Live::Unreachable(error)),
        }
    }

    fn begin(endpoint: &Endpoint, asked: &Asked, answer: Answer) -> Response<Body> {
        let Answer { head, body } = answer;
        // Should nothing be sent before it breaks off: by the machine's clock, which the lines have too.
        let since = source::date(&head.headers).unwrap_or(asked.at);
        let after = (asked.options.tail_lines == Some(0)).then_some(since);
        let machine = Source::Machine(Machine::new(body, asked.options.wanted));
        let splice = Splice::new(times(asked), asked.options.limit_bytes, after);
        let mut response =
            super::stream(Self::new(endpoint, asked, First::Machine, machine, splice), Self::next);
        response.headers_mut().clear();
        guest::copy_end_to_end(&head.headers, response.headers_mut());
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response
    }

    /// Begins with the archive.
    pub(super) async fn archived(
        endpoint: &Endpoint,
        asked: &Asked,
        stream: StreamName,
    ) -> Result<Response<Body>, ApiError> {
        let lost = Source::Lost(Loss::Broken("the pod's machine cannot be reached".into()));
        let splice = Splice::new(times(asked), asked.options.limit_bytes, None);
        let mut follow = Self::new(endpoint, asked, First::Archive, lost, splice);
        follow.stream = Some(stream);
        follow.open().await.map_err(|error| archived::unread(asked, &error))?;
        Ok(super::stream(follow, Self::next))
    }

    fn new(endpoint: &Endpoint, asked: &Asked, first: First, source: Source, splice: Splice) -> Self {
        Self {
            links: Arc::clone(&endpoint.links),
            pods: Arc::clone(&endpoint.pods),
            archive: endpoint.archive.clone(),
            asked: asked.clone(),
            stream: None,
            splice,
            first,
            source,
            machine: Machines::Asked(None),
            heard: Instant::now(),
            pause: PAUSES.0,
            closing: endpoint.streams.closing(),
            is_inside: false,
        }
    }

    /// The next bytes; none at the end.
    async fn next(mut self) -> Result<(Bytes, Self), BodyError> {
        loop {
            let is_over = matches!(self.source, Source::Ended) || self.splice.flow() == Flow::Done;
            let mut bytes = self.splice.take();
            if is_over || !bytes.is_empty() {
                self.is_inside = bytes.last().map_or(self.is_inside, |last| *last != b'\n');
                return Ok((bytes.into(), self));
            }
            let closing = self.closing.clone();
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                stepped = self.step() => {
                    stepped?;
                    continue;
                }
            }
            self.source = Source::Ended;
            bytes.extend(self.farewell().into_bytes());
            return Ok((bytes.into(), self));
        }
    }

    /// A line of its own, as those before it are.
    fn farewell(&self) -> String {
        let line = if self.is_inside { "\n" } else { "" };
        let at = if self.asked.options.timestamps { format!("{} ", clock::now()) } else { String::new() };
        format!("{line}{at}{FAREWELL}\n")
    }

    async fn step(&mut self) -> Result<(), BodyError> {
        let heard = match &mut self.source {
            Source::Ended => return Ok(()),
            Source::Lost(_) => return self.find().await,
            Source::Machine(machine) => machine.next(&mut self.splice, &self.asked).await,
            Source::Archive(archived) => archived.next(&mut self.splice).await?,
        };
        match heard {
            Heard::More => self.hear(),
            Heard::Quiet => self.rest().await,
            Heard::End => self.end(),
            Heard::Lost(loss) => self.lose(loss),
        }
        Ok(())
    }
}

fn times(asked: &Asked) -> Times {
    if asked.options.timestamps { Times::Shown } else { Times::Hidden }
}
