//! One at a time, fair between namespaces: where launches wait for the cloud's rate.
//!
//! Who no longer waits loses its place in the line, and nobody else's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::lanes::Lanes;
use crate::cloud::both::Provider;

/// A gate for each cloud: who waits for the rate of one holds up nobody at the other.
#[derive(Debug, Default)]
pub(super) struct Gates {
    ec2: Gate,
    runpod: Gate,
}

impl Gates {
    pub(super) fn of(&self, provider: Provider) -> &Gate {
        match provider {
            Provider::Ec2 => &self.ec2,
            Provider::RunPod => &self.runpod,
        }
    }
}

/// Admits one after the other.
#[derive(Debug, Default)]
pub(super) struct Gate {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    is_taken: bool,
    line: Lanes<oneshot::Sender<()>>,
}

/// Whoever is in the gate; the next one comes when it is dropped.
#[derive(Debug)]
pub(super) struct Within<'a> {
    gate: &'a Gate,
}

impl Gate {
    /// Waits for its turn among all groups.
    pub(super) async fn enter(&self, group: &Arc<str>) -> Within<'_> {
        let called = {
            let mut inner = self.lock();
            if inner.is_taken {
                let (call, called) = oneshot::channel();
                inner.line.push(group, call);
                Some(called)
            } else {
                inner.is_taken = true;
                None
            }
        };
        let within = Called { gate: self, called };
        within.wait().await
    }

    /// Calls the next one that still waits.
    fn leave(&self) {
        let mut inner = self.lock();
        while let Some(next) = inner.line.pop() {
            if next.send(()).is_ok() {
                return;
            }
        }
        inner.is_taken = false;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

/// One in the line. Dropped between its call and its hearing of it, it passes the call on.
struct Called<'a> {
    gate: &'a Gate,
    called: Option<oneshot::Receiver<()>>,
}

impl<'a> Called<'a> {
    async fn wait(mut self) -> Within<'a> {
        if let Some(called) = &mut self.called {
            // The sender lives in the line until it calls.
            drop(called.await);
        }
        self.called = None;
        Within { gate: self.gate }
    }
}

impl Drop for Called<'_> {
    fn drop(&mut self) {
        if let Some(called) = &mut self.called {
            called.close();
            if called.try_recv().is_ok() {
                self.gate.leave();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_is_within_at_a_time_and_namespaces_take_turns() {
        let gate = Arc::new(Gate::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut all = tokio::task::JoinSet::new();
        for (group, name) in [("many", "a"), ("many", "b"), ("many", "c"), ("few", "d")] {
            let (gate, order) = (gate.clone(), order.clone());
            all.spawn(async move {
                let _within = gate.enter(&Arc::from(group)).await;
                order.lock().unwrap().push(name);
                tokio::time::sleep(Duration::from_secs(1)).await;
            });
        }
        while all.join_next().await.is_some() {}
        assert_eq!(*order.lock().unwrap(), ["a", "b", "d", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_holds_nobody_up() {
        let gate = Gate::default();
        let group: Arc<str> = "g".into();
        let first = gate.enter(&group).await;
        let mut second = Box::pin(gate.enter(&group));
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut second).await.is_err());
        drop(first);
        // It was called, and never heard of it.
        drop(second);
        drop(tokio::time::timeout(Duration::from_secs(1), gate.enter(&group)).await.expect("it is free"));
        assert!(!gate.lock().is_taken);
    }
}
