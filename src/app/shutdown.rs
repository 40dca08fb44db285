//! The orderly end: nothing new is begun, what was begun is finished, whoever listens is told, and the Lease is given up.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::acting::Acting;
use super::parts::Parts;
use super::tasks::Tasks;
use crate::controller::Left;
use crate::leader::Election;

/// Of the deadline, what is kept for the goodbyes: to machines, and to the Lease.
const GOODBYES: u32 = 4;
/// Users hear of it at once, or are cut off.
const STREAMS: Duration = Duration::from_secs(2);

/// What was left to the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Looks at pods, and calls of RunInstances among them, that had not ended.
    pub under_way: Left,
    /// Users' streams that were cut off before they were told.
    pub streams: usize,
    /// Logs and last words of machines that were in hand and not archived yet.
    pub logs: usize,
    /// Whether the Lease was given up, if there was one; else others wait until it runs out.
    pub lease: Lease,
}

/// What became of the Lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// Given up, or there was none.
    #[default]
    Free,
    Held,
}

impl Report {
    /// Whether nothing was left.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("nothing is left to the next start");
        }
        let Self { under_way: Left { passes, launches }, streams, logs, lease } = self;
        let lease = match lease {
            Lease::Free => "",
            Lease::Held => ", and the Lease, which runs out",
        };
        write!(
            f,
            "left to the next start: {passes} passes over pods, {launches} launches without an answer among them, \
             {streams} streams that were cut, {logs} logs in hand{lease}"
        )
    }
}

/// Ends everything within the deadline of the configuration.
pub(super) async fn shut_down(
    parts: &Parts,
    acting: &Acting,
    mut tasks: Tasks,
    election: Election,
) -> Report {
    let began = Instant::now();
    let deadline = parts.config.shutdown.deadline;
    let work = deadline - deadline / GOODBYES;
    let archive = async {
        match &acting.archiver {
            Some(archiver) => archiver.close(work).await,
            None => 0,
        }
    };
    let (streams, under_way, logs) =
        tokio::join!(acting.streams.close(STREAMS.min(work)), acting.controller.drain(work), archive);
    // From here on nothing may be in a successor's way.
    let left = || deadline.saturating_sub(began.elapsed());
    parts.links.close(left() / 3).await;
    tasks.shutdown().await;
    if let Some(sessions) = &parts.sessions {
        sessions.shutdown(left() / 2).await;
    }
    let lease = match election.resign(left().max(Duration::from_millis(500))).await {
        Ok(()) => Lease::Free,
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "the Lease was not given up");
            Lease::Held
        }
    };
    let report = Report { under_way, streams, logs, lease };
    tracing::info!(
        took_ms = began.elapsed().as_millis(),
        passes = under_way.passes,
        launches = under_way.launches,
        streams,
        logs,
        "stopped; machines and their pods go on; {report}"
    );
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_all_that_is_left_and_nothing_else() {
        assert_eq!(Report::default().to_string(), "nothing is left to the next start");
        let report =
            Report { under_way: Left { passes: 3, launches: 1 }, streams: 0, logs: 2, lease: Lease::Held };
        assert_eq!(
            report.to_string(),
            "left to the next start: 3 passes over pods, 1 launches without an answer among them, 0 streams that were \
             cut, 2 logs in hand, and the Lease, which runs out"
        );
    }
}
