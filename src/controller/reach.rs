//! While no machine can be reached, whichever it is: none is launched, and none is given up for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Core;
use super::health::Wait;
use crate::clock;
use crate::link::{Prober, Reach};
use crate::pod::decide::Blind;
use crate::pod::reasons;

/// Launches are woken when machines can be reached again; this is how often they tell that they still wait.
const AGAIN: Duration = Duration::from_secs(60);
/// A machine that was launched to find out gets so long until it is dialed and has shown how things are.
const PROBE: Duration = Duration::from_secs(300);

/// What is known of it.
#[derive(Debug)]
pub(super) struct Sight {
    reach: watch::Receiver<Reach>,
    blind: Mutex<Blind>,
    /// The pod that is launched to find out, and since when.
    prober: Mutex<Option<(String, Instant)>>,
}

impl Sight {
    pub(super) fn new(reach: watch::Receiver<Reach>) -> Self {
        Self { reach, blind: Mutex::default(), prober: Mutex::default() }
    }

    /// When no machine could be reached.
    pub(super) fn blind(&self) -> Blind {
        lock(&self.blind).clone()
    }

    /// Why launches wait, if they do.
    pub(super) fn waits(&self) -> Option<String> {
        match &*self.reach.borrow() {
            Reach::Fails { message, .. } => Some(told(message)),
            Reach::Off | Reach::Unknown | Reach::Works => None,
        }
    }

    /// Lets a pod's launch through, or says why not.
    pub(super) fn admit(&self, pod_uid: &str) -> Result<(), Wait> {
        let reach = self.reach.borrow().clone();
        let admitted = admits(&reach, &mut lock(&self.prober), pod_uid, Instant::now());
        admitted.map_err(|message| Wait {
            reason: reasons::MACHINES_UNREACHABLE,
            message: told(message),
            delay: AGAIN,
        })
    }
}

fn told(message: &str) -> String {
    format!("launches of all pods wait, since no machine can be reached: {message}")
}

/// Whether a launch makes sense now. Where nobody else finds out how things are, one machine at a time does.
fn admits<'a>(
    reach: &'a Reach,
    prober: &mut Option<(String, Instant)>,
    pod_uid: &str,
    now: Instant,
) -> Result<(), &'a str> {
    let (message, probe) = match reach {
        Reach::Off | Reach::Unknown | Reach::Works => {
            *prober = None;
            return Ok(());
        }
        Reach::Fails { message, probe, .. } => (message, probe),
    };
    let is_free = match &*prober {
        Some((uid, since)) => uid == pod_uid || now >= *since + PROBE,
        None => true,
    };
    match probe {
        Prober::NextMachine if is_free => {
            // The pod that was let through asks again for each of its candidates.
            if prober.as_ref().is_none_or(|(uid, _)| uid != pod_uid) {
                *prober = Some((pod_uid.to_owned(), now));
            }
            Ok(())
        }
        Prober::NextMachine | Prober::Links => Err(message),
    }
}

impl Core {
    /// Minds since when no machine can be reached, and wakes whoever waits for that when it is over. Never ends.
    pub(super) async fn watch_reach(self: Arc<Self>) {
        let mut reach = self.sight.reach.clone();
        loop {
            let now = reach.borrow_and_update().clone();
            match now {
                Reach::Fails { message, .. } => lock(&self.sight.blind).begin(clock::steady(), message),
                Reach::Off | Reach::Unknown | Reach::Works => {
                    lock(&self.sight.blind).end(clock::steady());
                    self.wake(|hold| hold.reason == reasons::MACHINES_UNREACHABLE);
                }
            }
            if reach.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(probe: Prober) -> Reach {
        Reach::Fails { reason: "AccessDenied", message: "no".to_owned(), probe }
    }

    #[tokio::test(start_paused = true)]
    async fn launches_wait_but_for_one_where_nobody_else_finds_out() {
        let now = Instant::now();
        let mut prober = None;
        let mut may = |reach: &Reach, uid, seconds| {
            admits(reach, &mut prober, uid, now + Duration::from_secs(seconds)).is_ok()
        };
        for reach in [Reach::Off, Reach::Unknown, Reach::Works] {
            assert!(may(&reach, "a", 0) && may(&reach, "b", 0));
        }
        assert!(!may(&fails(Prober::Links), "a", 0));
        let next = fails(Prober::NextMachine);
        assert!(may(&next, "a", 0) && may(&next, "a", 10), "each of its candidates");
        assert!(!may(&next, "b", 299));
        assert!(!may(&fails(Prober::Links), "a", 299), "its machine is there, and dials");
        assert!(may(&next, "b", 300), "nothing came of it");
        assert!(!may(&next, "a", 301) && may(&next, "b", 302));
        // Once it is over, the next time is another one.
        assert!(may(&Reach::Works, "c", 303) && may(&next, "c", 304));
    }
}
