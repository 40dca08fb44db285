//! How fast EC2 lets an account call, kept to on our side: token buckets of the size of its own.
//!
//! Whoever calls waits in order until a bucket has a token; giving up while waiting takes nothing. A
//! `RequestLimitExceeded` tells that others use the account, too: the bucket is emptied and refilled more slowly for
//! a while. Deadlines are the caller's: a thousand launches at two a second take eight minutes, and that is right.

mod bucket;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::cloud::CloudError;
use crate::config::LaunchRate;
use bucket::Bucket;

/// More than this many calls of a kind never wait at once: a node has at most a few thousand pods.
const MOST_WAITING: usize = 10_000;

/// One gate for each kind of call that EC2 limits separately.
#[derive(Debug)]
pub(super) struct Rates {
    /// RunInstances.
    pub(super) launch: Gate,
    /// TerminateInstances: requests go with the other changes, instances have a bucket of their own.
    pub(super) terminate: Gate,
    /// Other calls that change something.
    pub(super) change: Gate,
    /// Describe calls and the like.
    pub(super) read: Gate,
}

impl Rates {
    /// What EC2 has for every account, and for launches what this one has.
    pub(super) fn new(launch: LaunchRate) -> Self {
        let per_second = f64::from(launch.per_second);
        // With one token in hand it never matters that the network brings two calls closer together than they left
        // here. A refusal for rate slows the launches that follow, and costs far more than that.
        let burst = launch.burst.saturating_sub(1).max(1);
        Self {
            launch: Gate::new("launch", Bucket::new(burst, per_second), Some(Bucket::new(1000, per_second))),
            terminate: Gate::new("terminate", Bucket::new(10, 3.0), Some(Bucket::new(1000, 20.0))),
            change: Gate::new("change", Bucket::new(10, 3.0), None),
            read: Gate::new("read", Bucket::new(50, 10.0), None),
        }
    }
}

/// A queue in front of a bucket of requests and, where EC2 counts them, one of resources.
#[derive(Debug)]
pub(super) struct Gate {
    /// For metrics.
    pub(super) kind: &'static str,
    room: Semaphore,
    /// Held by the first in the queue. Fair, so this is the order.
    turn: tokio::sync::Mutex<()>,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    requests: Bucket,
    resources: Option<Bucket>,
}

impl Gate {
    fn new(kind: &'static str, requests: Bucket, resources: Option<Bucket>) -> Self {
        Self {
            kind,
            room: Semaphore::new(MOST_WAITING),
            turn: tokio::sync::Mutex::default(),
            buckets: Mutex::new(Buckets { requests, resources }),
        }
    }

    /// Waits for the turn, and for one request that is about so many resources.
    ///
    /// # Errors
    /// [`CloudError::Throttled`] when too many wait already.
    pub(super) async fn take(&self, resources: u32) -> Result<(), CloudError> {
        let _room = self.room.try_acquire().map_err(|_| CloudError::Throttled {
            code: "OwnRateLimit".to_owned(),
            message: format!("{MOST_WAITING} calls of this kind wait already"),
        })?;
        let _turn = self.turn.lock().await;
        loop {
            let wait = {
                let now = Instant::now();
                let mut buckets = self.buckets();
                let Buckets { requests, resources: counted } = &mut *buckets;
                let wait = counted
                    .as_mut()
                    .map_or_else(Default::default, |bucket| bucket.wait(resources, now))
                    .max(requests.wait(1, now));
                if wait.is_zero() {
                    requests.take(1);
                    if let Some(bucket) = counted {
                        bucket.take(resources);
                    }
                    return Ok(());
                }
                wait
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// EC2 refused a call for its rate.
    pub(super) fn throttled(&self) {
        self.buckets().requests.throttled(Instant::now());
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thousand_launches_at_once_leave_in_order_at_the_buckets_own_speed() {
        let (rates, start) = (Arc::new(Rates::new(LaunchRate::default())), Instant::now());
        let (send, mut left) = tokio::sync::mpsc::unbounded_channel();
        let mut all = JoinSet::new();
        for number in 0..1000 {
            let (rates, send) = (rates.clone(), send.clone());
            all.spawn(async move {
                rates.launch.take(1).await.unwrap();
                send.send((number, start.elapsed())).unwrap();
            });
            tokio::task::yield_now().await;
        }
        all.join_all().await;
        drop(send);
        let mut order = Vec::new();
        while let Some((number, at)) = left.recv().await {
            // One less than the five of the account, then two a second.
            let ideal = f64::from(u32::saturating_sub(number, 3)) / 2.0;
            let late = at.as_secs_f64() - ideal;
            assert!((-0.001..0.01).contains(&late), "launch {number} left at {at:?}");
            order.push(number);
        }
        assert_eq!(order, (0..1000).collect::<Vec<u32>>());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_while_waiting_takes_nothing_and_does_not_hold_up_others() {
        let gate = Gate::new("read", Bucket::new(1, 1.0), None);
        gate.take(1).await.unwrap();
        let start = Instant::now();
        let (first, second) = tokio::join!(
            tokio::time::timeout(Duration::from_millis(500), gate.take(1)),
            tokio::time::timeout(Duration::from_secs(10), gate.take(1)),
        );
        assert!(first.is_err());
        second.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn many_resources_in_one_request_wait_for_their_own_bucket() {
        let gate = Gate::new("read", Bucket::new(10, 3.0), Some(Bucket::new(1000, 20.0)));
        let start = Instant::now();
        gate.take(500).await.unwrap();
        gate.take(500).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        gate.take(100).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        // More than fits waits for a full bucket, not for ever.
        gate.take(2000).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(55));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_for_rate_empties_the_bucket_and_slows_it_for_a_while() {
        let gate = Gate::new("read", Bucket::new(50, 10.0), None);
        gate.throttled();
        let start = Instant::now();
        for _ in 0..50 {
            gate.take(1).await.unwrap();
        }
        let slowed = start.elapsed();
        assert!((6.0..10.0).contains(&slowed.as_secs_f64()), "half speed and growing: {slowed:?}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..150 {
            gate.take(1).await.unwrap();
        }
        assert!(start.elapsed().as_secs_f64() < 10.1, "full speed again: {:?}", start.elapsed());
    }
}
