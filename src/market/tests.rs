//! The cache against a cloud in memory.

use super::*;
use crate::cloud::memory::MemoryCloud;

async fn settled(cache: &MarketCache, time: Duration) {
    // Never ends by itself.
    drop(timeout(time, cache.run()).await);
}

#[tokio::test(start_paused = true)]
async fn addresses_that_we_took_are_gone_until_the_next_reading() {
    let cache = MarketCache::new(MemoryCloud::new());
    cache.ready().await.unwrap();
    let free = || cache.snapshot().subnets[0].free_addresses;
    assert_eq!(free(), 1019);
    let (one, other) = (cache.take("subnet-a", None).unwrap(), cache.take("subnet-a", None).unwrap());
    assert_eq!(free(), 1015);
    drop(one);
    other.landed();
    assert_eq!(free(), 1017);
    settled(&cache, Duration::from_secs(61)).await;
    assert_eq!(free(), 1019);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_not_read() {
    let cache = MarketCache::new(MemoryCloud::new());
    settled(&cache, Duration::from_secs(600)).await;
    let reads = *cache.changed().borrow();
    assert_eq!((reads.catalog, reads.prices, reads.spot, reads.reservations), (1, 1, 0, 0));
    assert!(reads.subnets >= 10);
    let mut ask = Ask::default();
    ask.wishes.capacity_types = vec![CapacityType::Spot];
    cache.want(&ask).await.unwrap();
    assert_eq!(cache.changed().borrow().spot, 1);
    settled(&cache, Duration::from_secs(601)).await;
    assert_eq!(cache.changed().borrow().spot, 3);
}

#[tokio::test(start_paused = true)]
async fn only_plausible_figures_are_learned() {
    let cache = MarketCache::new(MemoryCloud::new());
    cache.ready().await.unwrap();
    let learned = || cache.snapshot().catalog.types["g5.xlarge"].learned;
    for (cpu_milli, memory_bytes) in [(2000, 15 << 30), (3920, 100 << 30), (3920, 1 << 30)] {
        cache.learn("g5.xlarge", Usable { cpu_milli, memory_bytes });
        assert_eq!(learned(), None);
    }
    let usable = Usable { cpu_milli: 3920, memory_bytes: 15 << 30 };
    cache.learn("g5.xlarge", usable);
    assert_eq!(learned(), Some(usable));
}

#[test]
fn launches_count_until_a_reading_that_began_after_them() {
    let mut snapshot = Snapshot::default();
    let start = Instant::now();
    let [early, late, open, refused] = [(); 4].map(|()| snapshot.take("s", Some("cr-1")));
    snapshot.landed(early, start + Duration::from_secs(1));
    snapshot.landed(late, start + Duration::from_secs(3));
    assert_eq!(snapshot.in_flight("cr-1"), 4);
    snapshot.give_back(refused, "s");
    snapshot.reserve(Vec::new(), Vec::new(), start + Duration::from_secs(2));
    assert_eq!(snapshot.in_flight("cr-1"), 2);
    snapshot.reserve(Vec::new(), Vec::new(), start + Duration::from_secs(4));
    assert_eq!(snapshot.in_flight("cr-1"), 1, "what is not answered is not counted by any reading");
    snapshot.give_back(open, "s");
    assert_eq!(snapshot.in_flight("cr-1"), 0);
}
