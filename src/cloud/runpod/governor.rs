//! How fast RunPod lets this account call, kept to on our side: everybody waits here for a turn.
//!
//! Deletions go before creations, and those before reads; within a kind the order is that of coming. What the windows
//! allow is told by the headers of every answer ([`headers`]); the arithmetic is in [`windows`]. Giving up while waiting
//! takes nothing.

mod headers;
mod windows;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(super) use headers::retry_after;
use windows::Windows;
pub(super) use windows::{Class, Standing};

/// A queue in front of the windows.
#[derive(Debug)]
pub(super) struct Governor {
    state: Mutex<State>,
    /// By kind: held by the first in its queue. Fair, so this is the order.
    turns: [tokio::sync::Mutex<()>; 3],
    /// Something may have become possible.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    windows: Windows,
    /// By kind: how many wait, the first included.
    waiting: [usize; 3],
    under_way: u32,
}

/// The next turn would come too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLate {
    pub(super) wait: Duration,
}

/// A request that was sent and is not answered.
#[derive(Debug)]
pub(super) struct UnderWay<'a>(&'a Governor);

/// One of those who wait.
struct Waiting<'a> {
    governor: &'a Governor,
    class: Class,
}

impl Governor {
    /// What holds until RunPod says something else: its documented 60 requests a minute.
    pub(super) fn new() -> Self {
        let windows = Windows::new(Instant::now());
        Self {
            state: Mutex::new(State { windows, waiting: [0; 3], under_way: 0 }),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            changed: Notify::new(),
        }
    }

    /// Waits for the turn of one request, at most for `patience`.
    pub(super) async fn turn(&self, class: Class, patience: Duration) -> Result<(), TooLate> {
        let latest = Instant::now() + patience;
        self.state().waiting[class.index()] += 1;
        let _waiting = Waiting { governor: self, class };
        let queued = tokio::time::timeout_at(latest, self.turns[class.index()].lock()).await;
        let _turn = queued.map_err(|_| TooLate { wait: patience })?;
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Registered before anything is looked at, so that no change is missed.
            changed.as_mut().enable();
            let now = Instant::now();
            let wait = {
                let mut state = self.state();
                let goes_first = state.waiting[..class.index()].iter().all(|count| *count == 0);
                let wait = state.windows.wait(class, now);
                if wait.is_zero() && goes_first {
                    state.windows.take();
                    return Ok(());
                }
                // Whoever goes first tells when it has gone.
                if goes_first { wait } else { wait.max(latest.saturating_duration_since(now)) }
            };
            let at = now + wait.max(Duration::from_millis(1));
            if at > latest && wait > latest.saturating_duration_since(now) {
                return Err(TooLate { wait });
            }
            tokio::select! {
                () = tokio::time::sleep_until(at.min(latest)) => {
                    if Instant::now() >= latest {
                        return Err(TooLate { wait: patience });
                    }
                }
                () = changed => {}
            }
        }
    }

    /// A request leaves now; until this is dropped, RunPod may not have counted it.
    pub(super) fn send(&self) -> UnderWay<'_> {
        self.state().under_way += 1;
        UnderWay(self)
    }

    /// Takes over what the headers of an answer say.
    pub(super) fn told(&self, headers: &HeaderMap) {
        let told = headers::read(headers);
        let mut state = self.state();
        // This one is counted in it; what else is under way may not be.
        let others = state.under_way.saturating_sub(1);
        state.windows.told(&told, others, Instant::now());
        drop(state);
        self.changed.notify_waiters();
    }

    /// A request was refused for its rate: nobody calls before.
    pub(super) fn refused(&self, after: Duration) {
        self.state().windows.refused(after, Instant::now());
    }

    /// What is left of each window that is known.
    pub(super) fn standing(&self) -> Vec<Standing> {
        self.state().windows.standing(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way = state.under_way.saturating_sub(1);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.governor.state().waiting[self.class.index()] -= 1;
        self.governor.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::windows::Span;
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn headers(limit: &str) -> HeaderMap {
        [(http::HeaderName::from_static("ratelimit"), limit.parse().unwrap())].into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn deletions_go_before_creations_and_those_before_reads() {
        let governor = Arc::new(Governor::new());
        governor.told(&headers("\"minute\";r=0;t=30"));
        let (send, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut all = JoinSet::new();
        for class in [Class::Read, Class::Create, Class::Read, Class::Delete, Class::Create, Class::Delete] {
            let (governor, send) = (governor.clone(), send.clone());
            all.spawn(async move {
                governor.turn(class, LONG).await.unwrap();
                send.send(class).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop(send);
        all.join_all().await;
        let mut found = Vec::new();
        while let Some(class) = order.recv().await {
            found.push(class);
        }
        use Class::{Create, Delete, Read};
        assert_eq!(found, [Delete, Delete, Create, Create, Read, Read]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_waits_for_the_windows_and_nothing_of_the_reserve_is_taken_from_deletions() {
        let governor = Governor::new();
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < Duration::from_secs(59) {
            match governor.turn(Class::Create, Duration::ZERO).await {
                Ok(()) => sent += 1,
                Err(_) => break,
            }
        }
        assert_eq!(sent, 54, "six of sixty are left for deletions");
        for _ in 0..6 {
            governor.turn(Class::Delete, Duration::ZERO).await.unwrap();
        }
        let late = governor.turn(Class::Delete, Duration::from_secs(1)).await.unwrap_err();
        assert!(late.wait > Duration::from_secs(55), "{late:?}");
        governor.turn(Class::Create, LONG).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_holds_everybody_up_for_as_long_as_it_said() {
        let governor = Governor::new();
        governor.refused(Duration::from_secs(12));
        let start = Instant::now();
        let (one, other) = tokio::join!(governor.turn(Class::Delete, LONG), governor.turn(Class::Read, LONG));
        one.and(other).unwrap();
        assert_eq!(start.elapsed().as_secs(), 12);
        governor.refused(LONG);
        let late = governor.turn(Class::Read, Duration::from_secs(30)).await.unwrap_err();
        assert_eq!((late.wait.as_secs(), start.elapsed().as_secs()), (3600, 12), "told at once");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_nothing_and_holds_nobody_up() {
        let governor = Governor::new();
        governor.told(&headers("\"minute\";r=0;t=10"));
        let given_up = tokio::time::timeout(Duration::from_secs(1), governor.turn(Class::Delete, LONG)).await;
        assert!(given_up.is_err());
        governor.turn(Class::Read, LONG).await.unwrap();
        assert_eq!(governor.state().waiting, [0; 3]);
        assert_eq!(governor.standing()[0].left, 59, "of a new minute, one is taken");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_not_counted_twice_as_free() {
        let governor = Governor::new();
        let (_one, _two) = (governor.send(), governor.send());
        governor.told(&headers("\"minute\";r=20;t=10"));
        assert_eq!(governor.standing()[0].left, 19);
        governor.told(&headers("\"minute\";r=0;t=10, \"hour\";r=2800;t=1812"));
        let spans: Vec<_> = governor.standing().iter().map(|one| (one.span, one.left)).collect();
        assert_eq!(spans, [(Span::Minute, 0), (Span::Hour, 2799)]);
    }
}
