//! Changes of the source: what is done when one breaks off, has nothing, or has ended.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::source::{self, Archived, Loss, Machine, Source};
use super::{First, Follow, Machines, PAUSES};
use crate::endpoint::error::BodyError;
use crate::endpoint::guest;
use crate::endpoint::logs::archived;
use crate::link::LinkState;
use crate::logs::answer::Start;
use crate::logs::names::StreamName;
use crate::logs::query::{Options, Since};
use crate::logs::run::{self, Which};
use crate::logs::store::StoreError;

/// Between two attempts to reach the machine.
const AGAIN: Duration = Duration::from_secs(5);
/// For one attempt: meanwhile the archive is not read.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long lines are waited for that were sent and are not in the archive, when it has later ones.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the archive may be silent when the machine is gone, before the container's end is not waited for any more.
/// Without an archive, how long the machine may be away.
const SILENCE: Duration = Duration::from_secs(60);

impl Follow {
    /// Something came.
    pub(super) fn hear(&mut self) {
        (self.heard, self.pause) = (Instant::now(), PAUSES.0);
        self.doubt();
    }

    /// The container ended.
    pub(super) fn end(&mut self) {
        if !self.doubt() {
            self.splice.settle();
            self.source = Source::Ended;
        }
    }

    /// A file that begins behind the place was rotated: what is missing is in the archive. True if it is read now.
    fn doubt(&mut self) -> bool {
        if !matches!(self.source, Source::Machine(_)) || !self.splice.is_in_doubt() {
            return false;
        }
        if self.archive.is_none() {
            self.splice.settle();
            return false;
        }
        self.machine = Machines::Useless;
        self.lose(Loss::Broken("the machine's log was rotated".into()));
        true
    }

    /// The machine's answer is none any more.
    pub(super) fn lose(&mut self, loss: Loss) {
        match &loss {
            Loss::Broken(error) => {
                let (pod, container) = (self.asked.name(), &self.asked.container);
                tracing::info!(pod, container, error = %error, "a log that is followed broke off, and is gone on with");
            }
            Loss::Dropped(_) => self.machine = Machines::Useless,
        }
        self.splice.change();
        self.source = Source::Lost(loss);
        self.heard = Instant::now();
    }

    /// Looks for a source to go on with.
    pub(super) async fn find(&mut self) -> Result<(), BodyError> {
        if self.return_to_machine().await {
            return Ok(());
        }
        let opened = self.open().await;
        match (opened, std::mem::replace(&mut self.source, Source::Ended)) {
            (Ok(()), source) => self.source = source,
            (Err(_), Source::Lost(Loss::Dropped(said))) => {
                crate::logs::render::Sink::text(&mut self.splice, &said)
            }
            (Err(error), Source::Lost(Loss::Broken(lost))) if self.is_hopeless(&error) => return Err(lost),
            (Err(_), source) => {
                self.source = source;
                self.rest().await;
            }
        }
        Ok(())
    }

    fn is_hopeless(&self, error: &StoreError) -> bool {
        let is_archived = self.archive.is_some() && (error.passes() || *error == StoreError::NotFound);
        let has_machine = self.links.kubelet_tls(self.asked.uid()).is_some();
        !is_archived && (!has_machine || self.heard.elapsed() >= SILENCE)
    }

    /// Reads the archive from the place on.
    ///
    /// # Errors
    /// [`StoreError`]; without an archive, [`StoreError::NotFound`].
    pub(super) async fn open(&mut self) -> Result<(), StoreError> {
        let (archive, stream) = self.archive.clone().zip(self.stream()).ok_or(StoreError::NotFound)?;
        let place = self.splice.begin();
        let start = match (place, self.first) {
            (Some(place), _) => Start::Since(place),
            (None, First::Machine) => Start::Head,
            (None, First::Archive) => archive.start(&stream, &self.asked.options, self.asked.at).await?,
        };
        let reading = archive.read(&stream, start).await?;
        // What was sent has to be found, whatever the machine's clock said.
        let since = self.asked.options.since(self.asked.at);
        let since = since.map(|since| place.map_or(since, |place| place.min(since)));
        self.source = Source::Archive(Box::new(Archived::new(reading, &self.asked, since)));
        self.stream = Some(stream);
        Ok(())
    }

    /// The stream of the run that is followed.
    fn stream(&mut self) -> Option<StreamName> {
        if self.stream.is_none() {
            self.recall();
            let run = self.asked.run.as_ref().ok()?;
            self.stream = archived::name(&self.asked, run.restart).ok();
        }
        self.stream.clone()
    }

    /// A run that had ended by the time of the request was not the one that the kubelet followed: it knew of a newer
    /// one before the Pod told.
    fn recall(&mut self) {
        let Some(pod) = self.pods.by_uid(self.asked.uid()) else { return };
        let (container, which) = (&self.asked.container, self.asked.which());
        let had_ended = |run: &run::Run| run::has_ended(&self.asked.pod, container, run.restart);
        if which == Which::Latest && self.asked.run.as_ref().map_or(true, had_ended) {
            self.asked.run = run::choose(&pod, container, which);
        }
    }

    /// Nothing comes at present.
    pub(super) async fn rest(&mut self) {
        if self.splice.is_in_doubt() && self.heard.elapsed() >= PATIENCE {
            return self.splice.settle();
        }
        if self.is_over() {
            self.splice.settle();
            self.source = Source::Ended;
            return;
        }
        sleep(self.pause).await;
        self.pause = PAUSES.1.min(self.pause * 3 / 2);
        if matches!(self.source, Source::Archive(_)) {
            self.return_to_machine().await;
        }
    }

    /// Whether nobody writes to the archive any more, though the container's end is not in it.
    fn is_over(&self) -> bool {
        let uid = self.asked.uid();
        let is_gone = self.links.kubelet_tls(uid).is_none() || self.pods.by_uid(uid).is_none();
        self.archive.is_some() && is_gone && self.heard.elapsed() >= SILENCE
    }

    /// Asks the machine for the rest, if it may be reached. True if it answers.
    async fn return_to_machine(&mut self) -> bool {
        let Machines::Asked(last) = self.machine else { return false };
        if last.is_some_and(|last| last.elapsed() < AGAIN) || !self.is_attached() {
            return false;
        }
        let Some(request) = self.request() else { return false };
        self.machine = Machines::Asked(Some(Instant::now()));
        let asked = guest::ask(self.links.as_ref(), self.asked.uid(), request);
        match tokio::time::timeout(ATTEMPT, asked).await {
            Ok(Ok(Some(answer))) if answer.head.status == http::StatusCode::OK => {
                self.splice.change();
                self.source = Source::Machine(Machine::new(answer.body, self.asked.options.wanted));
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn is_attached(&self) -> bool {
        let status = self.links.status(self.asked.uid());
        status.is_some_and(|status| matches!(status.state, LinkState::Attached { .. }))
    }

    /// The request for the rest of the same run. `None` if the Pod does not name it any more.
    fn request(&self) -> Option<http::Request<http_body_util::Empty<bytes::Bytes>>> {
        let run = self.asked.run.as_ref().ok()?;
        let (pod, container) = (self.pods.by_uid(self.asked.uid())?, &self.asked.container);
        let is_run =
            |which| run::choose(&pod, container, which).is_ok_and(|it| it.container_id == run.container_id);
        let previous = match (is_run(Which::Latest), is_run(Which::Previous)) {
            (true, _) => false,
            (false, true) => true,
            (false, false) => return None,
        };
        let options = &self.asked.options;
        let place = self.splice.begin();
        let since = place.or_else(|| options.since(self.asked.at)).map(Since::Time);
        let tail_lines = options.tail_lines.filter(|_| place.is_none() && self.first == First::Archive);
        let options = Options { previous, since, tail_lines, ..options.clone() };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let path = format!("/containerLogs/{namespace}/{}/{container}", self.asked.name());
        guest::request(&format!("{path}?{}", source::query(&options))).ok()
    }
}
