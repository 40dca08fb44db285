//! What is known of a container on RunPod, from what was seen of it and what its wrapper said.
//!
//! A create response proves nothing, and `RUNNING` alone does not either: RunPod bills pods that say so and whose
//! container never starts (see the module's decision record). Only an uptime above zero, or a word of the wrapper, is
//! evidence of a container; only the wrapper's last word is evidence of how it ended.

use std::time::Duration;

use jiff::Timestamp;

use super::sketch::Restart;
use super::wrapper::Report;
use crate::clock::after;
use crate::cloud::runpod::{Sighting, Status};
use crate::pod::reasons;

/// Reads that must lack a pod before it is believed to be gone: one list may lack what is there.
const ABSENT_READS: u32 = 2;
/// RunPod finds a machine within seconds, or never.
const ALLOCATE: Duration = Duration::from_secs(300);
/// From `RUNNING` without a container, and without progress, to giving it up; longer with a network volume, which is
/// mounted meanwhile (what a production client of RunPod's waits).
const START: Duration = Duration::from_secs(180);
const START_WITH_VOLUME: Duration = Duration::from_secs(300);
/// An image pull that goes on may take as long as it takes, and this at most.
const PULL: Duration = Duration::from_secs(3600);

/// Everything that was seen of one pod.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    pub now: Timestamp,
    /// When its creation was asked for.
    pub asked: Timestamp,
    /// As last read; `None` while no read has shown it.
    pub sighting: Option<&'a Sighting>,
    /// Reads in a row that lacked it.
    pub absent_reads: u32,
    /// The highest uptime that was read before.
    pub uptime_before: Option<Duration>,
    /// The last sign of progress of its start: another status, or another line of its system log.
    pub progress: Option<Timestamp>,
    /// The wrapper's last word, and when it said it.
    pub report: Option<(Report, Timestamp)>,
    pub is_wrapped: bool,
    pub has_volume: bool,
    pub restart: Restart,
}

/// What that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Situation {
    /// No read can tell: nothing is concluded.
    Unknown,
    /// It has no machine yet.
    Allocating { until: Timestamp },
    /// It has a machine, and its container does not run yet.
    Starting { until: Timestamp },
    /// Its container runs.
    Running {
        since: Timestamp,
        /// How often its command was started again, and the last exit code.
        restarts: u32,
        last_code: Option<i32>,
    },
    /// Its command ended, and the container waits to be deleted.
    Ended { code: i32, at: Timestamp },
    /// It never ran, and is to be deleted and tried elsewhere.
    NeverStarted { message: String },
    /// It may have run, and does not any more.
    Lost { reason: &'static str, message: String },
}

/// What is to be believed.
#[must_use]
pub fn judge(seen: &Seen<'_>) -> Situation {
    // What the wrapper said of an end stays true, whatever becomes of the pod.
    if let Some((Report::Ended { code }, at)) = seen.report {
        return Situation::Ended { code, at };
    }
    if seen.absent_reads >= ABSENT_READS {
        return vanished(seen);
    }
    let Some(sighting) = seen.sighting else { return Situation::Unknown };
    match &sighting.status {
        Status::Provisioning => {
            let until = after(seen.progress.unwrap_or(seen.asked), ALLOCATE);
            if seen.now < until {
                Situation::Allocating { until }
            } else {
                never(format!("RunPod accepted it, and found no machine within {}", minutes(ALLOCATE)))
            }
        }
        Status::Starting => starting(seen, PULL),
        Status::Running => running(seen, sighting),
        Status::Exited => stopped(seen, "RunPod stopped it", reasons::PROVIDER_STOPPED),
        Status::Error => stopped(seen, "RunPod says that it failed", reasons::HOST_FAILED),
        Status::Terminated => stopped(seen, "it was deleted at RunPod", reasons::INSTANCE_TERMINATED),
        // A word that nobody knows is evidence of nothing.
        Status::Other(_) => Situation::Unknown,
    }
}

fn running(seen: &Seen<'_>, sighting: &Sighting) -> Situation {
    let uptime = sighting.uptime.filter(|uptime| !uptime.is_zero());
    let (restarts, last_code) = match seen.report {
        Some((Report::Restarting { run, code }, _)) => (run, Some(code)),
        Some((Report::Again | Report::Ended { .. }, _)) | None => (0, None),
    };
    let was_restarted = match (seen.report, seen.uptime_before, uptime) {
        (Some((Report::Again, _)), _, _) => true,
        (_, Some(before), Some(now)) => now < before,
        (_, Some(_), None) => true,
        (_, None, _) => false,
    };
    // With a wrapper, a container that may run again says itself what it does.
    if was_restarted && (seen.restart == Restart::Never || !seen.is_wrapped) {
        return Situation::Lost {
            reason: reasons::CONTAINER_RESTARTED,
            message: "RunPod started its container again, and nobody saw how it ended".to_owned(),
        };
    }
    match uptime {
        Some(uptime) => {
            let since = sighting.started_at.unwrap_or_else(|| before(seen.now, uptime));
            Situation::Running { since, restarts, last_code }
        }
        None if seen.uptime_before.is_some() => {
            Situation::Running { since: sighting.started_at.unwrap_or(seen.now), restarts, last_code }
        }
        None => starting(seen, if seen.has_volume { START_WITH_VOLUME } else { START }),
    }
}

/// Its start has this long since the last sign of progress, and never more than a pull may take.
fn starting(seen: &Seen<'_>, limit: Duration) -> Situation {
    let until = after(seen.progress.unwrap_or(seen.asked), limit).min(after(seen.asked, PULL));
    if seen.now < until {
        return Situation::Starting { until };
    }
    never(format!("its container did not start, and showed no progress for {}", minutes(limit)))
}

fn vanished(seen: &Seen<'_>) -> Situation {
    stopped(seen, "RunPod does not know it any more", reasons::INSTANCE_LOST)
}

/// It is over. What never ran may be tried elsewhere.
fn stopped(seen: &Seen<'_>, what: &str, reason: &'static str) -> Situation {
    let ran = seen.uptime_before.is_some()
        || seen.report.is_some()
        || seen.sighting.is_some_and(|sighting| {
            sighting.started_at.is_some() || sighting.uptime.is_some_and(|uptime| !uptime.is_zero())
        });
    if ran {
        Situation::Lost { reason, message: format!("{what}, and nobody saw how its container ended") }
    } else {
        never(format!("{what} before its container ran"))
    }
}

fn never(message: String) -> Situation {
    Situation::NeverStarted { message }
}

fn before(at: Timestamp, by: Duration) -> Timestamp {
    i64::try_from(by.as_secs())
        .ok()
        .and_then(|seconds| at.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok())
        .unwrap_or(at)
}

fn minutes(duration: Duration) -> String {
    format!("{} minutes", duration.as_secs() / 60)
}

#[cfg(test)]
mod tests;
