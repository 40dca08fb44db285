//! Asking: a task for each machine that is attached, which reads its kubelet's pages every few seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::answer::Page;
use super::fetch::{FetchError, Kubelet};
use super::{Metrics, Own, Stats};
use crate::link::{LinkState, Links};

/// Between two readings: a kubelet has new numbers about every 10 s, and metrics-server asks every 15 s.
const PERIOD: Duration = Duration::from_secs(10);
/// Between two attempts at most, where they fail. Shorter than what is stale, so that one success is enough.
const PATIENCE: Duration = Duration::from_secs(40);
/// For all pages of a machine, connecting included.
const DEADLINE: Duration = Duration::from_secs(20);
/// All links are looked at so often, whatever was told of them.
const RESYNC: Duration = Duration::from_secs(10);

/// Keeps [`Stats`] up to date.
#[derive(Clone, Debug)]
pub struct Collector {
    pub stats: Arc<Stats>,
    pub links: Arc<dyn Links>,
    pub metrics: Metrics,
}

/// The tasks, by pod UID, each with the machine that it asks.
type Tasks = HashMap<String, (Own, AbortOnDropHandle<()>)>;

impl Collector {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut changes = self.links.subscribe();
        let mut tasks = Tasks::new();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => {
                    next = Instant::now() + RESYNC;
                    self.look_at_all(&mut tasks);
                }
                changed = changes.recv() => match changed {
                    Ok(uid) => self.look(&mut tasks, &uid),
                    Err(RecvError::Lagged(_)) => self.look_at_all(&mut tasks),
                    // Nobody tells any more; looking goes on.
                    Err(RecvError::Closed) => sleep_until(next).await,
                }
            }
        }
    }

    fn look_at_all(&self, tasks: &mut Tasks) {
        let known = self.links.uids().into_iter().chain(self.stats.uids());
        let all: std::collections::BTreeSet<String> = known.collect();
        all.iter().for_each(|uid| self.look(tasks, uid));
    }

    /// Whether this machine is to be asked, and is.
    fn look(&self, tasks: &mut Tasks, uid: &str) {
        let Some(link) = self.links.status(uid) else {
            tasks.remove(uid);
            self.stats.remove(uid);
            return;
        };
        let is_asked = |(own, task): &(Own, AbortOnDropHandle<()>)| {
            own.instance_id == link.instance_id && !task.is_finished()
        };
        match link.state {
            LinkState::Attached { .. } if tasks.get(uid).is_some_and(is_asked) => {}
            LinkState::Attached { .. } => {
                let Some(own) = self.own(uid, link.instance_id) else { return };
                self.stats.begin(own.clone());
                let asking = self.clone().ask(own.clone());
                tasks.insert(uid.to_owned(), (own, AbortOnDropHandle::new(tokio::spawn(asking))));
            }
            // What it said last is told until it is stale: a tunnel that is dialed again is no news.
            LinkState::Dialing { .. } | LinkState::Bootstrapping { .. } | LinkState::Broken { .. } => {
                drop(tasks.remove(uid));
            }
        }
    }

    fn own(&self, uid: &str, instance_id: String) -> Option<Own> {
        let (namespace, name) = self.links.pod(uid)?;
        Some(Own { uid: uid.to_owned(), namespace, name, instance_id })
    }

    /// Asks one machine until it is dropped.
    async fn ask(self, own: Own) {
        let mut kubelet = None;
        let mut pause = PERIOD;
        // Machines that came together, or were attached again together, are not asked together.
        sleep(Duration::from_secs(1).mul_f64(rand::random())).await;
        loop {
            let asked = timeout(DEADLINE, self.ask_once(&own, &mut kubelet)).await;
            let asked = asked.unwrap_or(Err(FetchError::Late(DEADLINE)));
            self.metrics.observe(asked.as_ref().err().map_or("ok", FetchError::kind));
            if let Err(error) = &asked {
                let (uid, id, error) = (&own.uid, &own.instance_id, error.chain());
                tracing::debug!(pod.uid = uid, instance.id = id, error, "reading a machine's numbers failed");
            }
            pause = match asked {
                // The connection is good, and the pages that are there are read as ever.
                Ok(()) | Err(FetchError::Status(..)) => PERIOD,
                Err(_) => {
                    // What is half read must not stay on the side connection.
                    kubelet = None;
                    (pause * 2).min(PATIENCE)
                }
            };
            sleep(pause.mul_f64(rand::random_range(0.9..=1.1))).await;
        }
    }

    async fn ask_once(&self, own: &Own, kubelet: &mut Option<Kubelet>) -> Result<(), FetchError> {
        let open = match kubelet.take().filter(Kubelet::is_open) {
            Some(open) => open,
            None => Kubelet::connect(&*self.links, &own.uid, DEADLINE).await?,
        };
        let open = kubelet.insert(open);
        let mut refused = Ok(());
        for page in Page::ALL {
            match open.get(page).await {
                Ok(text) => self.stats.put(own, page, &text).map_err(FetchError::answer)?,
                // The other pages may be there.
                Err(error @ FetchError::Status(..)) => refused = Err(error),
                Err(error) => return Err(error),
            }
        }
        refused
    }
}
