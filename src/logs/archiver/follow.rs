//! The logs of one machine, from its first container to its end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

use super::ends::{self, Life};
use super::log::Log;
use super::open::open;
use super::outbox::Pause;
use super::{Progress, Shared, Target};
use crate::clock;
use crate::guest::serve_logs;
use crate::logs::machine::{Kept, Session};
use crate::logs::names::StreamName;
use crate::logs::record::Cut;

/// For a session to begin.
const BEGIN: Duration = Duration::from_secs(30);
/// Between sessions that broke.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest silence of a machine whose containers write nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// While something is to be sent, or the end of a log is near.
const SOON: Duration = Duration::from_secs(1);
/// After a start, the archive may not show yet what the process before has sent.
const INGESTION: Duration = Duration::from_secs(5);
/// For what is left when the machine is gone; it is lost if CloudWatch takes nothing for so long.
const CLOSE: Duration = Duration::from_secs(600);

/// What is known of the pod and its machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// As it was last seen.
    pub(super) pod: Option<Arc<Pod>>,
    /// Whether the object is gone.
    pub(super) gone: bool,
    pub(super) reach: Reach,
}

/// Whether the machine can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reach {
    /// Its link was never up, or is not now.
    #[default]
    Away,
    Attached,
    /// It was given up while logs were missing: its deadline passed.
    GivenUp,
    /// It has no link any more.
    Removed,
}

impl Seen {
    /// Takes in what is known now. Answers whether anything changed.
    pub(super) fn update(&mut self, pod: Option<Arc<Pod>>, is_synced: bool, reach: Reach) -> bool {
        let before = self.clone();
        self.gone = pod.is_none() && is_synced;
        self.pod = pod.or_else(|| self.pod.take());
        // Nothing brings a machine back that was given up.
        if !self.is_over() {
            self.reach = reach;
        }
        let version = |seen: &Self| seen.pod.as_ref().and_then(|pod| pod.metadata.resource_version.clone());
        (self.gone, self.reach, version(self)) != (before.gone, before.reach, version(&before))
    }

    fn is_over(&self) -> bool {
        matches!(self.reach, Reach::GivenUp | Reach::Removed)
    }
}

/// Follows the logs of one machine.
pub(super) struct Follow {
    pub(super) shared: Arc<Shared>,
    pub(super) target: Target,
    pub(super) seen: watch::Receiver<Seen>,
    pub(super) progress: watch::Sender<Progress>,
    logs: BTreeMap<(String, u32), Log>,
}

impl Follow {
    pub(super) fn new(
        shared: Arc<Shared>,
        target: Target,
        seen: watch::Receiver<Seen>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self { shared, target, seen, progress, logs: BTreeMap::new() }
    }

    /// Until the machine is given up.
    pub(super) async fn run(mut self) {
        let mut seen = self.seen.clone();
        let closing = self.shared.closing.clone();
        tokio::select! {
            () = closing.cancelled() => {}
            () = self.read() => {}
            // An error means that nobody looks after this machine any more.
            _ = seen.wait_for(Seen::is_over) => {}
        }
        if closing.is_cancelled() && !seen.borrow().is_over() {
            // The next start reads on where the archive ends.
            for log in self.logs.values_mut() {
                log.put().await;
            }
            return;
        }
        if timeout(CLOSE, self.close()).await.is_err() {
            tracing::error!(
                pod.uid = self.target.uid,
                "logs are lost: CloudWatch Logs took none for too long"
            );
        }
    }

    async fn read(&mut self) {
        loop {
            let attached = |seen: &Seen| seen.reach == Reach::Attached;
            if self.seen.wait_for(attached).await.is_err() {
                return;
            }
            let Target { namespace, pod, uid } = &self.target;
            let command = serve_logs(namespace, pod, uid);
            let ended = match self.shared.links.command(uid, &command, BEGIN).await {
                Ok(stream) => {
                    self.shared.metrics.sessions.inc();
                    let ended = self.converse(&mut Session::new(stream)).await;
                    self.shared.metrics.sessions.dec();
                    ended.err().map_or_else(String::new, |error| error.to_string())
                }
                Err(error) => error.to_string(),
            };
            self.shared.metrics.breaks.inc();
            tracing::debug!(pod.uid = self.target.uid, error = ended, "reading logs is interrupted");
            sleep(AGAIN).await;
        }
    }

    /// Reads what comes until the session breaks.
    async fn converse(&mut self, session: &mut Session) -> io::Result<()> {
        loop {
            let seen = self.seen.borrow_and_update().clone();
            let life = ends::life(seen.pod.as_deref(), seen.gone);
            let listed = session.list().await?;
            let mut is_busy = false;
            for kept in &listed {
                is_busy |= self.advance(session, kept, &seen, life).await?;
            }
            let has_ended = |kept: &Kept| {
                self.logs.get(&(kept.container.clone(), kept.restart)).is_some_and(Log::has_ended)
            };
            if life == Life::Over && !is_busy && listed.iter().all(has_ended) {
                self.tell(Progress::Drained);
            }
            if is_busy {
                continue;
            }
            let is_pending = self.logs.values().any(Log::is_pending);
            let is_ending = life == Life::Over && *self.progress.borrow() == Progress::Behind;
            let patience = if is_pending || is_ending { SOON } else { PATIENCE };
            let mut changes = self.seen.clone();
            session.wait(patience, async { drop(changes.changed().await) }).await?;
        }
    }

    /// Brings one log further. Answers whether there is more to do at once.
    async fn advance(
        &mut self,
        session: &mut Session,
        kept: &Kept,
        seen: &Seen,
        life: Life,
    ) -> io::Result<bool> {
        let Some(log) = self.log(&kept.container, kept.restart).await else { return Ok(false) };
        let is_busy = log.advance(session, &kept.files).await?;
        let now = clock::steady();
        if !is_busy && log.is_quiet(now) {
            let ending = seen.pod.as_deref().and_then(|pod| ends::ending(pod, &kept.container, kept.restart));
            match (ending, life) {
                (Some(eof), _) => log.end(eof).await,
                (None, Life::Over) => log.end(crate::logs::record::Eof::default()).await,
                (None, Life::On) => {}
            }
        }
        log.flush().await;
        log.tidy(session).await?;
        Ok(is_busy)
    }

    /// The log of a run; `None` if no stream can have its name.
    async fn log(&mut self, container: &str, restart: u32) -> Option<&mut Log> {
        let key = (container.to_owned(), restart);
        if !self.logs.contains_key(&key) {
            let Target { namespace, pod, uid } = &self.target;
            let name = StreamName::new(namespace, pod, uid, container, restart).ok()?;
            sleep_until(self.shared.started + INGESTION).await;
            let mut pause = Pause::new();
            let opened = loop {
                match open(&*self.shared.store, &name.to_string()).await {
                    Ok(opened) => break opened,
                    Err(error) => pause.after(&self.shared, &error).await,
                }
            };
            self.shared.worked();
            self.logs.insert(key.clone(), Log::new(Arc::clone(&self.shared), name, opened));
        }
        self.logs.get_mut(&key)
    }

    /// Nothing can be read any more: says so in every log whose end is not there.
    async fn close(&mut self) {
        if *self.progress.borrow() == Progress::Drained {
            return;
        }
        let seen = self.seen.borrow().clone();
        let cut = match seen.reach {
            Reach::GivenUp => Cut {
                reason: Cut::DRAIN_DEADLINE.to_owned(),
                message: "the machine was ended before all of it was archived".to_owned(),
                bytes: None,
            },
            Reach::Away | Reach::Attached | Reach::Removed => Cut {
                reason: Cut::MACHINE_LOST.to_owned(),
                message: "the machine was lost before all of it was archived".to_owned(),
                bytes: None,
            },
        };
        let ran = seen.pod.as_deref().map(ends::ran).unwrap_or_default();
        let known: Vec<_> = self.logs.keys().cloned().chain(ran).collect();
        for (container, restart) in known {
            let Some(log) = self.log(&container, restart).await else { continue };
            if !log.has_ended() {
                let ending = seen.pod.as_deref().and_then(|pod| ends::ending(pod, &container, restart));
                log.cut(cut.clone()).await;
                log.end(ending.unwrap_or_default()).await;
            }
        }
    }

    fn tell(&self, progress: Progress) {
        let is_news = self.progress.send_if_modified(|told| std::mem::replace(told, progress) != progress);
        if is_news {
            // Nobody may be listening.
            drop(self.shared.changes.send(self.target.uid.clone()));
        }
    }
}
