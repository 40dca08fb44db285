//! Sessions that the service refuses to everybody: one link tries now and then, the others wait.
//!
//! A machine that cannot be reached for such a reason is no worse than the next one would be, so nobody gives it up for
//! that. Which of them tries is decided by a queue, so that one machine that is refused for a reason of its own keeps
//! nobody else from trying.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::wire::Purpose;
use super::{Prober, Reach};
use crate::breaker::{Bad, Breaker, Rules, Sign, Weight};
use crate::tunnel::{Refusal, TunnelError};

/// Three machines in a row; or one for a minute, which may be the only one. To open a session takes half a minute at
/// most, and the SSH login beside it a quarter.
const RULES: Rules = Rules { many: 3, few: Some(Duration::from_secs(60)), probe: Duration::from_secs(60) };
/// From one probe to the next: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// The same, where somebody has to grant something.
const DENIED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

/// The sessions of all links.
pub(super) struct Sessions {
    /// `None`: no service stands between ORCA and its machines.
    state: Option<Mutex<State>>,
    /// Whoever waits; the first of them tries.
    line: tokio::sync::Mutex<()>,
    reach: watch::Sender<Reach>,
    /// 1 while all wait.
    gauge: Gauge,
}

struct State {
    breaker: Breaker<Refusal>,
    /// Links without a connection: each of them tries when it is its turn.
    down: usize,
    /// Whether there ever was a good answer.
    is_known: bool,
}

/// A link without a connection, until it is dropped.
pub(super) struct Down<'a>(&'a Sessions);

/// The first place in the line.
type Place<'a> = tokio::sync::MutexGuard<'a, ()>;

/// The permission to dial. Dropped, it said nothing.
pub(super) struct Pass<'a> {
    sessions: &'a Sessions,
    machine: &'a str,
    is_noted: bool,
    /// The first place in the line, as long as what comes of it is not known.
    _place: Option<Place<'a>>,
}

impl Sessions {
    /// Sessions that a service gives.
    pub(super) fn new(gauge: Gauge) -> Self {
        let state = State { breaker: Breaker::new(RULES), down: 0, is_known: false };
        Self {
            state: Some(Mutex::new(state)),
            line: tokio::sync::Mutex::default(),
            reach: watch::Sender::new(Reach::Unknown),
            gauge,
        }
    }

    /// Nobody has to be asked: machines are dialed themselves.
    pub(super) fn direct() -> Self {
        Self {
            state: None,
            line: tokio::sync::Mutex::default(),
            reach: watch::Sender::new(Reach::Off),
            gauge: Gauge::default(),
        }
    }

    /// Whether machines can be reached at all, with changes.
    pub(super) fn reach(&self) -> watch::Receiver<Reach> {
        self.reach.subscribe()
    }

    /// Why all links wait, if they do.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.lock()?.breaker.trouble().cloned()
    }

    /// Notes that a link has no connection, until that is dropped.
    pub(super) fn down(&self) -> Down<'_> {
        self.change(|state| state.down += 1);
        Down(self)
    }

    /// Waits until this machine may be dialed for `purpose`.
    ///
    /// # Errors
    /// What waits for nobody is refused at once. A person's stream never is: it shows how things are.
    pub(super) async fn pass<'a>(
        &'a self,
        machine: &'a str,
        purpose: Purpose,
    ) -> Result<Pass<'a>, TunnelError> {
        match purpose {
            Purpose::Control => return Ok(self.turn(machine).await),
            Purpose::Side => self.admit(machine).map_err(|(refusal, _)| refusal)?,
            Purpose::User => {}
        }
        Ok(self.free(machine))
    }

    async fn turn<'a>(&'a self, machine: &'a str) -> Pass<'a> {
        if self.refusal().is_none() {
            return self.free(machine);
        }
        let mut reach = self.reach.subscribe();
        let place = tokio::select! {
            biased;
            () = is_back(&mut reach) => return self.free(machine),
            place = self.line.lock() => place,
        };
        loop {
            let Err((_, next)) = self.admit(machine) else {
                return self.free_at(machine, Some(place));
            };
            tokio::select! {
                () = is_back(&mut reach) => return self.free(machine),
                () = sleep_until(next) => {}
            }
        }
    }

    fn admit(&self, machine: &str) -> Result<(), (Refusal, Instant)> {
        let Some(mut state) = self.lock() else { return Ok(()) };
        state.breaker.admit(machine, Instant::now()).map_err(|open| (open.error, open.next_probe))
    }

    fn free<'a>(&'a self, machine: &'a str) -> Pass<'a> {
        self.free_at(machine, None)
    }

    fn free_at<'a>(&'a self, machine: &'a str, place: Option<Place<'a>>) -> Pass<'a> {
        Pass { sessions: self, machine, is_noted: false, _place: place }
    }

    fn note(&self, machine: &str, sign: Sign<Refusal>) {
        self.change(|state| {
            state.is_known |= sign == Sign::Good;
            let was_open = state.breaker.trouble().is_some();
            let has_closed = state.breaker.note(machine, sign, Instant::now());
            match state.breaker.trouble() {
                Some(refusal) if !was_open => {
                    tracing::warn!(%refusal, "sessions are refused to everybody; all links wait");
                }
                None if has_closed => tracing::info!("sessions are given again"),
                Some(_) | None => {}
            }
        });
    }

    fn lock(&self) -> Option<MutexGuard<'_, State>> {
        Some(self.state.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state, and tells what follows from it.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let Some(mut state) = self.lock() else { return };
        change(&mut state);
        // Within the lock, so that what is told last is what is true.
        let reach = state.reach();
        self.gauge.set(i64::from(matches!(reach, Reach::Fails { .. })));
        self.reach.send_if_modified(|told| {
            let is_news = *told != reach;
            *told = reach;
            is_news
        });
    }
}

impl State {
    fn reach(&self) -> Reach {
        match self.breaker.trouble() {
            Some(refusal) => Reach::Fails {
                reason: reason(refusal),
                message: refusal.to_string(),
                probe: if self.down == 0 || self.breaker.is_ones() {
                    Prober::NextMachine
                } else {
                    Prober::Links
                },
            },
            None if self.is_known => Reach::Works,
            None => Reach::Unknown,
        }
    }
}

impl Drop for Down<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.down = state.down.saturating_sub(1));
    }
}

impl Pass<'_> {
    /// What came of it.
    pub(super) fn note<T>(mut self, dialed: &Result<T, TunnelError>) {
        self.is_noted = true;
        self.sessions.note(self.machine, sign(dialed.as_ref().err()));
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.is_noted {
            self.sessions.note(self.machine, Sign::Nothing);
        }
    }
}

async fn is_back(reach: &mut watch::Receiver<Reach>) {
    // The sender lives as long as whoever waits here.
    drop(reach.wait_for(|reach| !matches!(reach, Reach::Fails { .. })).await);
}

/// One word, for the node's condition.
fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Credentials(_) | Refusal::Denied(_) => "AccessDenied",
        Refusal::Throttled(_) => "Throttled",
        Refusal::Unavailable(_) => "Unavailable",
    }
}

/// What an attempt to dial says of other machines' sessions.
fn sign(error: Option<&TunnelError>) -> Sign<Refusal> {
    let refusal = match error {
        // To say that a machine has not come yet, the service must know and admit who asks.
        None | Some(TunnelError::NotYet(_) | TunnelError::HostKey { .. } | TunnelError::Denied(_)) => {
            return Sign::Good;
        }
        // The machine's side, or our own queue.
        Some(TunnelError::Lost(_) | TunnelError::Timeout(..) | TunnelError::Throttled(_)) => {
            return Sign::Nothing;
        }
        Some(TunnelError::Refused(refusal)) => refusal,
    };
    let (weight, pauses) = match refusal {
        Refusal::Credentials(_) => (Weight::Certain, DENIED),
        // A policy may be about some machines alone.
        Refusal::Denied(_) => (Weight::Likely, DENIED),
        Refusal::Throttled(_) | Refusal::Unavailable(_) => (Weight::Likely, PAUSES),
    };
    Sign::Bad(Bad { error: refusal.clone(), weight, pauses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attempt_says_of_other_machines() {
        let refused = |refusal: fn(String) -> Refusal| TunnelError::Refused(refusal(String::new()));
        let text = String::new;
        for (error, expected) in [
            (TunnelError::NotYet(text()), "good"),
            (TunnelError::HostKey { found: text(), pinned: text() }, "good"),
            (TunnelError::Denied("sshd does not accept our key".to_owned()), "good"),
            (TunnelError::Lost(text()), "nothing"),
            (TunnelError::Timeout(Duration::ZERO, "opening an SSM session"), "nothing"),
            (TunnelError::Throttled("the next StartSession is due in 31s".to_owned()), "nothing"),
            (refused(Refusal::Credentials), "AccessDenied for certain, probed after 30s"),
            (refused(Refusal::Denied), "AccessDenied, probed after 30s"),
            (refused(Refusal::Throttled), "Throttled, probed after 10s"),
            (refused(Refusal::Unavailable), "Unavailable, probed after 10s"),
        ] {
            let found = match sign(Some(&error)) {
                Sign::Good => "good".to_owned(),
                Sign::Nothing => "nothing".to_owned(),
                Sign::Bad(bad) => {
                    let certain = if bad.weight == Weight::Certain { " for certain" } else { "" };
                    format!("{}{certain}, probed after {:?}", reason(&bad.error), bad.pauses.0)
                }
            };
            assert_eq!(found, expected, "{error}");
        }
        assert_eq!(sign(None), Sign::Good);
    }
}
