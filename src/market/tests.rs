//! The cache against a cloud in memory.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::cloud::memory::MemoryCloud;
use crate::cloud::{Reservation, ReservationKind, ReservationMatch, ReservationState, Tenancy};

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
    assert_eq!(reads.subnets, 1);
    cache.ready().await.unwrap();
    settled(&cache, Duration::from_secs(600)).await;
    assert_eq!(cache.changed().borrow().subnets, 2, "once for those who asked");
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

fn mk_reservation(state: ReservationState, starts_at: i64) -> Reservation {
    Reservation {
        id: "cr-1".to_owned(),
        owner_id: "1".to_owned(),
        ours: true,
        kind: ReservationKind::CapacityBlock,
        instance_type: "g5.xlarge".to_owned(),
        platform: "Linux/UNIX".to_owned(),
        tenancy: Tenancy::Shared,
        zone: "zone-a".to_owned(),
        zone_id: "z-a".to_owned(),
        total: 1,
        available: 1,
        state,
        matches: ReservationMatch::Targeted,
        starts_at: Some(Timestamp::from_second(starts_at).unwrap()),
        ends_at: Some(Timestamp::from_second(10_000).unwrap()),
        placement_group_arn: None,
        block_id: None,
        tags: BTreeMap::new(),
    }
}

#[test]
fn the_start_of_a_block_is_looked_for_until_it_is_seen() {
    use ReservationState::{Active, Scheduled};
    for (what, state, now, expected) in [
        ("begins in a minute", Scheduled, 40, 60),
        ("begins now, and was read just before", Scheduled, 100, 5),
        ("is late", Scheduled, 399, 5),
        ("is very late", Scheduled, 400, 9600),
        ("has begun", Active, 100, 9900),
        ("ends at once", Active, 9999, 1),
    ] {
        let mut snapshot = Snapshot::default();
        snapshot.reserve(vec![mk_reservation(state, 100)], Vec::new(), Instant::now());
        let turn = snapshot.next_turn(Timestamp::from_second(now).unwrap());
        assert_eq!(turn, Some(Duration::from_secs(expected)), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn room_in_a_reservation_is_seen_at_once_by_who_wants_reservations() {
    let cache = MarketCache::new(MemoryCloud::new());
    let reads = || cache.changed().borrow().reservations;
    cache.freed();
    settled(&cache, Duration::from_secs(100)).await;
    assert_eq!(reads(), 0);
    cache.want_reservations().await.unwrap();
    settled(&cache, Duration::from_secs(1)).await;
    assert_eq!(reads(), 1);
    cache.freed();
    settled(&cache, Duration::from_secs(1)).await;
    assert_eq!(reads(), 2);
}
