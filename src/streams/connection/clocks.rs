//! How long what is waited for, and by whom.

use std::time::Duration;

use tokio::time::Instant;

/// For how long nothing may pass; a kubelet's `streamingConnectionIdleTimeout`. Pings count.
const IDLE: Duration = Duration::from_hours(4);
/// How long a client may take to end, and to take any of what is left for it. Go clients throw away what they have not
/// read yet when they see our end of the connection, so it is theirs to end it.
pub(super) const LINGER: Duration = Duration::from_mins(5);
/// The same, when this process ends.
pub(super) const HURRY: Duration = Duration::from_secs(1);
/// While a client is not listened to, its end is not noticed: what is sent to one that has gone is answered so.
const ALIVE: Duration = Duration::from_secs(30);

/// How far a connection is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The client is listened to.
    pub(super) is_ready: bool,
    /// Nothing more will be written.
    pub(super) is_ending: bool,
    /// And everything has gone.
    pub(super) is_said: bool,
    /// And the client has said its last.
    pub(super) is_closed: bool,
    pub(super) patience: Duration,
}

/// When what happened last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// Bytes passed, either way.
    pub(super) passed: Instant,
    /// The client took some.
    pub(super) taken: Instant,
    /// We asked whether it is there.
    pub(super) asked: Instant,
    /// Nothing more is written.
    pub(super) ending: Option<Instant>,
    /// Everything was said.
    pub(super) said: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Alarm {
    Idle,
    Alive,
    Linger,
}

impl Clocks {
    pub(super) fn new(now: Instant) -> Self {
        Self { passed: now, taken: now, asked: now, ending: None, said: None }
    }

    pub(super) fn see(&mut self, now: Progress) {
        if now.is_ending {
            self.ending.get_or_insert_with(Instant::now);
        }
        if now.is_said {
            self.said.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn next(&self, now: Progress) -> (Alarm, Instant) {
        if let Some(ending) = self.ending {
            let since = self.said.unwrap_or_else(|| self.taken.max(ending));
            return (Alarm::Linger, since + now.patience);
        }
        let idle = self.passed + IDLE;
        let alive = self.asked + ALIVE;
        if now.is_ready || idle < alive { (Alarm::Idle, idle) } else { (Alarm::Alive, alive) }
    }
}
