//! A pod's life. Pure: the time is an argument, and what its container needs is asked for ([`Pod::job`]).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::catalog::Micros;
use super::container::{Disk, Exit, Mapping, Remap};
use super::log::{Log, Source};
use super::meter::{Meter, Rate};
use super::order::Order;
use super::scenario::Scenario;
use super::settings::{Settings, millis};
use super::status::{Status, Step};
use crate::clock;

/// What there is of its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Nothing.
    Absent,
    /// Its image is being fetched.
    Pulling,
    /// It is being started.
    Creating,
    Up {
        since: Timestamp,
    },
    /// It was killed, and is not down yet.
    Dying,
    /// Its main process ended by itself.
    Down {
        at: Timestamp,
    },
    /// It is being stopped.
    Halting,
    /// It was stopped; its disk is there.
    Halted,
    /// It is being removed.
    Removing,
}

/// What a container needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Pull,
    Create,
    Kill { code: i32 },
    Halt,
    Remove,
}

/// An end of its container's main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ending {
    pub at: Timestamp,
    pub exit: Exit,
}

/// Where it was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    pub data_center: &'static str,
    pub cuda: Option<&'static str>,
    pub vcpus: u32,
    /// GB.
    pub memory: u32,
    /// An hour.
    pub cost: Micros,
    /// In the network that spans data centers.
    pub global_ip: Option<Ipv4Addr>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub id: String,
    /// In the order of creation.
    pub sequence: u64,
    pub order: Order,
    pub placement: Placement,
    pub created: Timestamp,
    /// Of its container, the last time.
    pub started: Option<Timestamp>,
    pub status: Status,
    /// In this status.
    pub since: Timestamp,
    pub history: Vec<Step>,
    /// Why it is no more, or stopped.
    pub reason: Option<String>,
    /// What goes wrong with it.
    pub fate: Option<Scenario>,
    /// It cannot be stopped or restarted.
    pub locked: bool,
    /// The id of the cluster that it belongs to.
    pub cluster: Option<String>,
    pub container: Container,
    /// Something of it may be on the host.
    pub made: bool,
    /// Counts its container's starts.
    pub run: u32,
    /// This run ended before its start was told.
    pub ended_early: bool,
    /// Its image can be started.
    pub has_image: bool,
    /// Not before this is its image asked for again.
    pub pull_at: Timestamp,
    /// A restart was asked for.
    pub restart: bool,
    /// For its container's next start.
    pub disk: Disk,
    pub remap: Remap,
    pub mappings: Vec<Mapping>,
    pub endings: Vec<Ending>,
    pub meter: Meter,
    /// Seconds that it is billed in one.
    pub scale: f64,
    pub log: Arc<Log>,
    /// The key that its container has.
    pub key: String,
    /// Stock was taken for it, and not given back.
    pub holds: bool,
    pub listed_from: Timestamp,
    /// So many reads still show it after its end.
    pub lingers: u32,
    pub ended: Option<Timestamp>,
}

impl Pod {
    /// One that was just accepted.
    #[must_use]
    pub fn new(id: String, sequence: u64, order: Order, placement: Placement, now: Timestamp) -> Self {
        let mut pod = Self {
            key: format!("rpa_pod_{id}"),
            id,
            sequence,
            order,
            placement,
            created: now,
            started: None,
            status: Status::Provisioning,
            since: now,
            history: Vec::new(),
            reason: None,
            fate: None,
            locked: false,
            cluster: None,
            container: Container::Absent,
            made: false,
            run: 0,
            ended_early: false,
            has_image: false,
            pull_at: now,
            restart: false,
            disk: Disk::Fresh,
            remap: Remap::Anew,
            mappings: Vec::new(),
            endings: Vec::new(),
            meter: Meter::default(),
            scale: 1.0,
            log: Arc::default(),
            holds: true,
            listed_from: now,
            lingers: 0,
            ended: None,
        };
        pod.set(Status::Provisioning, now);
        pod
    }

    /// Comes into a status, which also decides what is billed.
    pub fn set(&mut self, status: Status, now: Timestamp) {
        self.status = status;
        self.since = now;
        self.history.push(Step { status, at: now });
        self.bill(now);
    }

    /// Bills what its status and its order cost now.
    pub fn bill(&mut self, now: Timestamp) {
        let (disk, volume) = (self.order.disk, self.order.mounts.size());
        match self.status {
            Status::Terminated => self.meter.stop(now),
            Status::Exited => self.meter.set(Rate::stopped(volume), self.scale, now),
            Status::Provisioning | Status::Starting | Status::Running | Status::Error => {
                self.meter.set(Rate::running(self.placement.cost, disk, volume), self.scale, now);
            }
        }
    }

    /// Stops it, so that it can be started again.
    pub fn exit(&mut self, reason: &str, now: Timestamp) {
        self.say("stop container", now);
        self.reason = Some(reason.to_owned());
        self.set(Status::Exited, now);
    }

    /// Starts it again where it was.
    pub fn start(&mut self, now: Timestamp) {
        self.reason = None;
        self.has_image = false;
        self.pull_at = now;
        (self.disk, self.remap) = (Disk::Fresh, Remap::Anew);
        self.set(Status::Starting, now);
    }

    /// Ends it for good: from now on it is not billed, and nobody sees it but for some reads.
    pub fn end(&mut self, reason: &str, lingers: u32, now: Timestamp) {
        self.reason.get_or_insert_with(|| reason.to_owned());
        self.lingers = lingers;
        self.ended = Some(now);
        self.meter.stop(now);
        if self.status != Status::Terminated {
            self.history.push(Step { status: Status::Terminated, at: now });
        }
    }

    /// RunPod ends it.
    pub fn terminate(&mut self, reason: &str, now: Timestamp) {
        self.say("remove container", now);
        self.reason = Some(reason.to_owned());
        self.set(Status::Terminated, now);
    }

    /// A line of its host's.
    pub fn say(&self, text: &str, now: Timestamp) {
        self.log.add(Source::System, text.to_owned(), now);
    }

    /// Whether anyone sees it.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.ended.is_none() || self.lingers > 0
    }

    /// Nothing is left of it but what is remembered.
    #[must_use]
    pub fn is_past(&self) -> bool {
        !self.is_visible() && self.container == Container::Absent && !self.made && !self.holds
    }

    /// How long its container has been up.
    #[must_use]
    pub fn uptime(&self, now: Timestamp) -> Option<Duration> {
        let Container::Up { since } = self.container else { return None };
        Some(Duration::try_from(now.duration_since(since)).unwrap_or_default())
    }

    /// Brings it up to date.
    pub fn advance(&mut self, now: Timestamp, settings: &Settings) {
        while self.ended.is_none()
            && let Some((status, at)) = self.next_status(settings).filter(|(_, at)| *at <= now)
        {
            match status {
                Some(Status::Exited) => {
                    self.say("host is under maintenance", at);
                    self.exit("host maintenance", at);
                }
                Some(status) => self.set(status, at),
                None if self.status == Status::Terminated => self.end("terminated", 0, at),
                None => self.end("vanished", 0, at),
            }
        }
    }

    /// The status that it comes into by itself, and when. `None` for its end.
    fn next_status(&self, settings: &Settings) -> Option<(Option<Status>, Timestamp)> {
        let after = |ms: u32| clock::after(self.since, millis(ms));
        let up = |ms: u32| match self.container {
            Container::Up { since } => Some(clock::after(since, millis(ms))),
            _ => None,
        };
        let own = match self.status {
            Status::Provisioning => match self.fate {
                Some(Scenario::StuckProvisioning {} | Scenario::ExitAtTick {}) => None,
                _ => Some((Some(Status::Starting), after(settings.provisioning_ms))),
            },
            Status::Starting if self.has_image => Some((Some(Status::Running), after(settings.pulling_ms))),
            Status::Terminated => Some((None, after(settings.terminated_ms))),
            Status::Starting | Status::Running | Status::Exited | Status::Error => None,
        };
        let fate = match (&self.fate, self.status) {
            (Some(Scenario::Vanish { after_ms }), _) => {
                Some((None, clock::after(self.created, millis(*after_ms))))
            }
            (Some(Scenario::Error { after_ms }), Status::Running) => {
                up(*after_ms).map(|at| (Some(Status::Error), at))
            }
            (Some(Scenario::Maintenance { after_ms }), Status::Running) => {
                up(*after_ms).map(|at| (Some(Status::Exited), at))
            }
            _ => None,
        };
        own.into_iter().chain(fate).min_by_key(|(_, at)| *at)
    }

    /// What its container needs next, and from when on. Nothing while something is under way.
    fn next_job(&self, settings: &Settings) -> Option<(Job, Timestamp)> {
        use Container as C;
        let is_over = self.ended.is_some() || self.status == Status::Terminated;
        let never = matches!(self.fate, Some(Scenario::NeverStarts {}));
        let at_once = Timestamp::MIN;
        match (self.container, self.status) {
            (C::Pulling | C::Creating | C::Dying | C::Halting | C::Removing, _) => None,
            (C::Absent, _) if is_over && !self.made => None,
            _ if is_over => Some((Job::Remove, at_once)),
            (C::Absent | C::Halted, Status::Starting) if !self.has_image => Some((Job::Pull, self.pull_at)),
            (C::Absent | C::Halted, Status::Running) if !never => {
                Some((Job::Create, clock::after(self.since, millis(settings.booting_ms))))
            }
            (C::Up { .. } | C::Down { .. }, Status::Exited | Status::Error | Status::Starting) => {
                Some((Job::Halt, at_once))
            }
            (C::Up { .. } | C::Down { .. }, Status::Running) if self.restart => Some((Job::Halt, at_once)),
            (C::Down { at }, Status::Running) => {
                Some((Job::Create, clock::after(at, millis(settings.restart_ms))))
            }
            (C::Up { since }, Status::Running) => match self.fate {
                Some(Scenario::Crash { after_ms, code }) => {
                    Some((Job::Kill { code }, clock::after(since, millis(after_ms))))
                }
                _ => None,
            },
            (C::Absent | C::Halted | C::Up { .. } | C::Down { .. }, _) => None,
        }
    }

    /// What its container needs now.
    #[must_use]
    pub fn job(&self, now: Timestamp, settings: &Settings) -> Option<Job> {
        self.next_job(settings).filter(|(_, at)| *at <= now).map(|(job, _)| job)
    }

    /// When something is due next.
    #[must_use]
    pub fn next_due(&self, settings: &Settings) -> Option<Timestamp> {
        let status = if self.ended.is_none() { self.next_status(settings).map(|(_, at)| at) } else { None };
        status.into_iter().chain(self.next_job(settings).map(|(_, at)| at)).min()
    }
}

#[cfg(test)]
mod tests;
