//! One run's log on its way from the machine into its stream.
//!
//! Whoever follows it may stop in the middle of anything that is waited for here: what was read and numbered stays in hand,
//! in its order.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Shared;
use super::open::Opened;
use super::outbox::Outbox;
use crate::clock;
use crate::logs::batch::{FLUSH_AGE, Packer};
use crate::logs::machine::Session;
use crate::logs::names::StreamName;
use crate::logs::position::{LogFile, Position, SETTLE, Serial, Step, Tracker};
use crate::logs::reader::Reader;
use crate::logs::record::{Cut, Eof, Record};
use crate::logs::recover::Resume;
use crate::logs::sequence::Numbering;
use crate::logs::stamp::Stamp;

/// Bytes asked for at a time. With what becomes of them this bounds the memory of a machine's logs.
const CHUNK: u64 = 512 << 10;
/// How long a file that is archived stays on the machine: after a restart of ORCA the archive may not show its last
/// events yet, and reading goes on further back.
const KEEP: Duration = Duration::from_secs(60);

/// One run's log.
#[derive(Debug)]
pub(super) struct Log {
    shared: Arc<Shared>,
    name: StreamName,
    outbox: Outbox,
    /// `None`: its end is archived.
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    tracker: Tracker,
    reader: Reader,
    numbering: Numbering,
    /// Numbered, and not packed yet.
    waiting: VecDeque<Record>,
    packer: Packer,
    /// Its end is among what is in hand.
    is_ending: bool,
    /// What the archive has already of what is read again.
    resume: Option<Resume>,
    /// The time of the last record.
    last: Stamp,
    /// Since when there has been nothing to read.
    idle: Option<Timestamp>,
    /// Files that were read to their end, and since when they are archived.
    done: VecDeque<(Serial, Option<Instant>)>,
}

impl Log {
    pub(super) fn new(shared: Arc<Shared>, name: StreamName, opened: Opened) -> Self {
        let state = match opened {
            Opened::Ended => None,
            Opened::Begins { resume, next, millisecond } => {
                let position = resume.as_ref().map_or(Position::START, |resume| resume.position);
                let last = resume.as_ref().map_or_else(|| Stamp::utc(clock::now()), |resume| resume.last);
                Some(State {
                    tracker: Tracker::at(position),
                    reader: Reader::at(position.offset),
                    numbering: match &resume {
                        Some(resume) => resume.numbering(),
                        None => Numbering::from(next, last),
                    },
                    waiting: VecDeque::new(),
                    packer: Packer::new(millisecond, shared.retention),
                    is_ending: false,
                    resume,
                    last,
                    idle: None,
                    done: VecDeque::new(),
                })
            }
        };
        let outbox = Outbox::new(Arc::clone(&shared), name.to_string());
        Self { shared, name, outbox, state }
    }

    /// Whether its end is in the archive.
    pub(super) fn has_ended(&self) -> bool {
        self.state.is_none() && self.outbox.is_idle()
    }

    /// Whether there is something that is not archived, but for what the machine still has.
    pub(super) fn is_pending(&self) -> bool {
        let in_hand = |state: &State| state.packer.due().is_some() || !state.waiting.is_empty();
        self.state.as_ref().is_some_and(in_hand) || !self.outbox.is_idle()
    }

    /// Whether nothing has come for long enough that nothing is on its way from a container that has ended.
    pub(super) fn is_quiet(&self, now: Timestamp) -> bool {
        let idle = self.state.as_ref().and_then(|state| state.idle);
        idle.is_some_and(|since| now >= clock::after(since, SETTLE))
    }

    /// Reads on. Answers whether there may be more to read at once.
    ///
    /// # Errors
    /// The session broke. Reading goes on in another one.
    pub(super) async fn advance(&mut self, session: &mut Session, files: &[LogFile]) -> io::Result<bool> {
        let Some(state) = &mut self.state else { return Ok(false) };
        let now = clock::steady();
        let before = state.tracker.file();
        let step = state.tracker.look(files, now);
        let mut records = Vec::new();
        let State { reader, numbering, .. } = state;
        match step {
            Step::Wait if state.tracker.is_at_end(files) => {
                state.idle.get_or_insert(now);
                return Ok(false);
            }
            Step::Wait => return Ok(false),
            Step::Read { file, offset, bytes } => {
                let bytes = usize::try_from(bytes.min(CHUNK)).expect("a chunk is small");
                let run = (self.name.container(), self.name.restart);
                // What is gone is missing from the next list.
                let Some(chunk) = session.read(run, file, offset, bytes).await? else { return Ok(true) };
                state.tracker.read(chunk.len() as u64);
                reader.feed(&chunk, |piece| records.push(numbering.piece(&piece, file)));
                self.shared.metrics.read.inc_by(chunk.len() as u64);
            }
            Step::Next { .. } | Step::Lost { .. } => {
                reader.finish(|piece| records.push(numbering.piece(&piece, before)));
                state.reader = Reader::at(0);
                state.done.push_back((before, None));
                if let Step::Lost { .. } = step {
                    // The archive may have more of them than this process has read.
                    numbering.at_least(state.resume.as_ref().map_or(0, Resume::next));
                    let cut = Cut {
                        reason: Cut::ROTATED_AWAY.to_owned(),
                        message: "the machine kept no more files of a log that could not be archived"
                            .to_owned(),
                        bytes: None,
                    };
                    records.push(numbering.cut(cut, state.last));
                    self.shared.metrics.cuts.inc();
                }
            }
        }
        state.idle = None;
        self.push(records).await;
        Ok(true)
    }

    /// Sends what has waited for long enough.
    pub(super) async fn flush(&mut self) {
        let Some(state) = &mut self.state else { return };
        let now = clock::now();
        // Nothing waits longer because the clock was set back.
        let waits = now..=clock::after(now, FLUSH_AGE);
        if state.packer.due().is_some_and(|due| due == now || !waits.contains(&due))
            && let Some(batch) = state.packer.take()
        {
            self.outbox.send(batch).await;
        }
    }

    /// Sends what is in hand, and waits until it is archived.
    pub(super) async fn put(&mut self) {
        self.pack().await;
        if let Some(batch) = self.state.as_mut().and_then(|state| state.packer.take()) {
            self.outbox.send(batch).await;
        }
        self.outbox.settle().await;
    }

    /// Lets go of files on the machine that are archived.
    ///
    /// # Errors
    /// As [`Log::advance`].
    pub(super) async fn tidy(&mut self, session: &mut Session) -> io::Result<()> {
        let is_pending = self.is_pending();
        let Some(state) = &mut self.state else { return Ok(()) };
        if !is_pending {
            for (_, since) in &mut state.done {
                since.get_or_insert_with(Instant::now);
            }
        }
        while let Some((file, Some(since))) = state.done.front() {
            if since.elapsed() < KEEP {
                break;
            }
            session.drop((self.name.container(), self.name.restart), *file).await?;
            state.done.pop_front();
        }
        Ok(())
    }

    /// Writes that lines are missing.
    pub(super) async fn cut(&mut self, cut: Cut) {
        let Some(state) = self.state.as_mut().filter(|state| !state.is_ending) else { return };
        state.numbering.at_least(state.resume.as_ref().map_or(0, Resume::next));
        let record = state.numbering.cut(cut, state.last);
        self.shared.metrics.cuts.inc();
        self.push(vec![record]).await;
    }

    /// Writes the end, and waits until all is archived.
    pub(super) async fn end(&mut self, eof: Eof) {
        let Some(state) = &mut self.state else { return };
        if !state.is_ending {
            state.is_ending = true;
            let State { reader, numbering, tracker, .. } = state;
            let mut records = Vec::new();
            reader.finish(|piece| records.push(numbering.piece(&piece, tracker.file())));
            numbering.at_least(state.resume.as_ref().map_or(0, Resume::next));
            let last = records.last().map_or(state.last, |record| record.stamp);
            let at = eof.finished_at.map_or(last, |at| Stamp::utc(at.max(last.at)));
            records.push(numbering.eof(eof, at));
            self.push(records).await;
        }
        self.put().await;
        self.state = None;
    }

    async fn push(&mut self, records: Vec<Record>) {
        let Some(state) = &mut self.state else { return };
        if let Some(record) = records.last() {
            state.last = record.stamp;
        }
        state.waiting.extend(records);
        self.pack().await;
    }

    /// Packs what waits for it, and sends what is full.
    async fn pack(&mut self) {
        let Some(state) = &mut self.state else { return };
        while let Some(record) = state.waiting.pop_front() {
            if state.resume.as_ref().is_some_and(|resume| !resume.is_new(record.seq)) {
                continue;
            }
            match state.packer.push(&record, clock::now()) {
                Ok(None) => {}
                Ok(Some(batch)) => self.outbox.send(batch).await,
                Err(error) => tracing::error!(stream = %self.name, %error, "a line of a log is not archived"),
            }
        }
    }
}
